package sequential_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/internal/hist"
)

func accepting(t *testing.T, margin float64, blocks ...sequential.Block) *sequential.NonInferiority {
	t.Helper()
	n, err := sequential.NewNonInferiority(margin)
	require.NoError(t, err)
	for _, b := range blocks {
		require.NoError(t, n.Add(b))
	}
	return n
}

func TestNoEvidenceIsNotAcceptance(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]sequential.Block{
		"nothing":             {},
		"a silent canary":     {Share: 0.05, Baseline: arm(100_000, 0)},
		"no baseline":         {Canary: arm(100_000, 0)},
		"weight 100":          {Share: 1, Canary: arm(100_000, 0)},
		"three good requests": {Share: 0.05, Canary: arm(3, 0), Baseline: arm(60, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := accepting(t, 0.01, b)
			require.False(t, n.Accepts(0.05))
			require.InDelta(t, 0, n.LogE(), 0.05)
			require.Greater(t, n.UpperBound(0.05), 0.5)
		})
	}
}

func TestAcceptance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		margin           float64
		canary, baseline sequential.Arm
		want             bool
	}{
		{"none failed", 0.01, arm(1500, 0), arm(28_500, 0), true},
		{"as the baseline", 0.01, arm(1500, 2), arm(28_500, 28), true},
		{"tenfold", 0.01, arm(1500, 15), arm(28_500, 28), false},
		{"one point more within two", 0.02, arm(3000, 33), arm(57_000, 57), true},
		{"too few", 0.001, arm(1500, 0), arm(28_500, 28), false},
		{"30 % as the baseline", 0.05, arm(5000, 1500), arm(45_000, 13_500), true},
		{"better", 0.01, arm(1000, 100), arm(9000, 2000), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := float64(c.canary.Requests) / float64(c.canary.Requests+c.baseline.Requests)
			for _, share := range []float64{w, 0} {
				n := accepting(t, c.margin, sequential.Block{Share: share, Canary: c.canary, Baseline: c.baseline})
				require.Equal(t, c.want, n.Accepts(0.05), "share %v: log e %v", share, n.LogE())
				bound := n.UpperBound(0.05)
				require.Equal(t, c.want, bound <= c.margin+1e-9, "bound %v", bound)
				require.LessOrEqual(t, n.Degradation(), bound)
			}
		})
	}
}

// TestAcceptanceIsAnEValue sums over all outcomes of a block: when the degradation is the margin or more, the expectation is at most 1.
func TestAcceptanceIsAnEValue(t *testing.T) {
	t.Parallel()
	const n, margin = 5, 0.2
	for _, share := range []float64{0.05, 0.5, 0.9} {
		for _, rates := range [][2]float64{{0, 0.2}, {0.1, 0.3}, {0.7, 0.9}, {0.1, 0.9}, {0, 1}} {
			p := []float64{(1 - share) * (1 - rates[0]), (1 - share) * rates[0], share * (1 - rates[1]), share * rates[1]}
			var mean float64
			for outcome := range 1 << (2 * n) {
				b, chance := sequential.Block{Share: share}, 1.0
				for i := range n {
					kind := outcome >> (2 * i) & 3
					chance *= p[kind]
					a := []*sequential.Arm{&b.Baseline, &b.Canary}[kind>>1]
					a.Requests++
					a.Events += uint64(kind & 1)
				}
				if chance > 0 {
					mean += chance * math.Exp(accepting(t, margin, b).LogE())
				}
			}
			require.LessOrEqual(t, mean, 1+1e-9, "share %v, rates %v", share, rates)
		}
	}
}

func TestMoreCanaryErrorsNeverHelpAcceptance(t *testing.T) {
	t.Parallel()
	r := chance(20)
	for range 1000 {
		b := randomBlock(r, []float64{0.05, 0.3, 0.9}[r.IntN(3)], 300, 0.1, 0.1)
		if r.IntN(2) == 0 {
			b.Share = 0
		}
		if b.Canary.Events == b.Canary.Requests {
			continue
		}
		before := accepting(t, 0.05, b)
		b.Canary.Events++
		after := accepting(t, 0.05, b)
		require.LessOrEqual(t, after.LogE(), before.LogE())
		require.GreaterOrEqual(t, after.UpperBound(0.05), before.UpperBound(0.05)-1e-12)
		require.GreaterOrEqual(t, accepting(t, 0.06, b).LogE(), after.LogE(), "a larger margin is easier")
	}
}

// TestLateHarmTakesAcceptanceBack: what was accepted can be lost again, because the decision looks at the evidence now.
func TestLateHarmTakesAcceptanceBack(t *testing.T) {
	t.Parallel()
	n := accepting(t, 0.01, sequential.Block{Share: 0.05, Canary: arm(1500, 1), Baseline: arm(28_500, 28)})
	require.True(t, n.Accepts(0.05))
	require.NoError(t, n.Add(sequential.Block{Share: 0.5, Canary: arm(2000, 200), Baseline: arm(2000, 2)}))
	require.False(t, n.Accepts(0.05))
}

func TestForecastIsAboutRight(t *testing.T) {
	t.Parallel()
	const p, margin, share, alpha = 0.002, 0.01, 0.25, 0.05
	fresh := accepting(t, margin)
	forecast := fresh.Forecast(alpha, share, p, p)
	require.True(t, forecast.Reachable)
	r := chance(21)
	const runs = 100
	var canary uint64
	for range runs {
		n := accepting(t, margin)
		for !n.Accepts(alpha) {
			b := randomBlock(r, share, 20, p, p)
			canary += b.Canary.Requests
			require.NoError(t, n.Add(b))
		}
		require.Equal(t, sequential.Forecast{Reachable: true}, n.Forecast(alpha, share, p, p))
	}
	require.InEpsilon(t, float64(canary)/runs, float64(forecast.CanaryRequests), 0.3)

	half := accepting(t, margin, sequential.Block{Share: share, Canary: arm(300, 0), Baseline: arm(900, 2)})
	c, b := half.Rates()
	require.Less(t, half.Forecast(alpha, share, c, b).CanaryRequests, forecast.CanaryRequests)
}

func TestForecastKnowsItsLimits(t *testing.T) {
	t.Parallel()
	n := accepting(t, 0.01)
	for _, f := range []sequential.Forecast{
		n.Forecast(0.05, 0.05, 0.02, 0.001), // worse than the margin
		n.Forecast(0.05, 0, 0.001, 0.001),
		n.Forecast(0.05, 1, 0.001, 0.001),
		n.Forecast(0.05, 0.05, math.NaN(), 0.001),
		n.Forecast(0.05, 0.05, 0.001, 2),
	} {
		require.Equal(t, sequential.Forecast{}, f)
	}
	canary, baseline := accepting(t, 0.01, sequential.Block{Share: 0.1, Canary: arm(5, 5), Baseline: arm(95, 0)}).Rates()
	require.InDelta(t, 5.5/101, canary, 1e-12, "five requests are not a rate")
	require.InDelta(t, 0.5/96, baseline, 1e-12)
}

func TestMarginsAreChecked(t *testing.T) {
	t.Parallel()
	for _, m := range []float64{0, -1, 1, 2, math.NaN()} {
		_, err := sequential.NewNonInferiority(m)
		require.Error(t, err)
	}
	for _, c := range [][2]float64{{0, 0.2}, {1, 0.2}, {math.NaN(), 0.2}, {0.5, 0}, {0.5, 0.06}, {0.5, math.NaN()}, {0.5, 101}} {
		_, err := sequential.NewLatencyNonInferiority(c[0], c[1])
		require.Error(t, err, "%v", c)
	}
	require.ErrorIs(t, accepting(t, 0.1).Add(sequential.Block{Share: 3}), sequential.ErrBlock)
}

func TestFastCanaryIsAccepted(t *testing.T) {
	t.Parallel()
	for _, q := range []float64{0.5, 0.9} {
		r := chance(22)
		for range 40 {
			n, err := sequential.NewLatencyNonInferiority(q, 0.25)
			require.NoError(t, err)
			for range 65 { // 1,500 canary and 5,000 baseline requests
				require.NoError(t, n.Add(logNormals(r, 1500.0/6500, 100, 0.5, 1, 1)))
			}
			require.True(t, n.Accepts(0.01), "p%.0f: %v", 100*q, n.LogE())
		}
	}
}

func TestSlowCanaryIsNotAccepted(t *testing.T) {
	t.Parallel()
	for _, given := range []bool{false, true} {
		r := chance(23)
		wrong := 0
		for range 100 {
			n, err := sequential.NewLatencyNonInferiority(0.5, 0.25)
			require.NoError(t, err)
			accepted := false
			for range 65 {
				b := logNormals(r, 1500.0/6500, 100, 0.5, 1.25, 1)
				if given {
					b.Share = 0
				}
				require.NoError(t, n.Add(b))
				accepted = accepted || n.Accepts(0.05)
			}
			if accepted {
				wrong++
			}
		}
		require.LessOrEqual(t, wrong, 5)
	}
}

func TestLatencyForecast(t *testing.T) {
	t.Parallel()
	r := chance(24)
	n, err := sequential.NewLatencyNonInferiority(0.9, 0.25)
	require.NoError(t, err)
	require.Equal(t, sequential.Forecast{}, n.Forecast(0.05, 0.25), "no threshold yet")
	for range 4 {
		require.NoError(t, n.Add(logNormals(r, 0.25, 150, 0.5, 1, 1)))
	}
	canaryCut, baselineCut := n.Thresholds()
	require.InEpsilon(t, 1.25, float64(canaryCut)/float64(baselineCut), hist.RelativeWidth)
	f := n.Forecast(0.05, 0.25)
	require.True(t, f.Reachable)
	require.Positive(t, f.CanaryRequests)
	require.Less(t, f.CanaryRequests, uint64(1000))
	for range 100 {
		require.NoError(t, n.Add(logNormals(r, 0.25, 100, 0.5, 1, 1)))
	}
	require.Equal(t, sequential.Forecast{Reachable: true}, n.Forecast(0.05, 0.25))
	canary, baseline := n.Requests()
	require.Greater(t, baseline, canary)

	slow, err := sequential.NewLatencyNonInferiority(0.5, 0.25)
	require.NoError(t, err)
	for range 30 {
		require.NoError(t, slow.Add(logNormals(r, 0.25, 100, 0.5, 2, 1)))
	}
	require.Equal(t, sequential.Forecast{}, slow.Forecast(0.05, 0.25))
	require.Equal(t, time.Duration(0), func() time.Duration {
		c, _ := must(sequential.NewLatencyNonInferiority(0.5, 0.25)).Thresholds()
		return c
	}())
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}
