package sequential_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/internal/hist"
)

const latencyAlpha = sequential.DefaultAlpha * sequential.LatencyShare

func newLatency() *sequential.Latency { return sequential.NewLatency(sequential.DefaultQuantiles(), 0) }

func fixed(requests int, d time.Duration) *hist.Histogram {
	h := new(hist.Histogram)
	for range requests {
		h.Record(d)
	}
	return h
}

func TestThresholdsComeFromThePast(t *testing.T) {
	t.Parallel()
	l := newLatency()
	thresholds := func() (out []time.Duration) {
		for _, q := range l.Quantiles() {
			out = append(out, q.Threshold)
		}
		return out
	}
	add := func(baseline *hist.Histogram) {
		t.Helper()
		require.NoError(t, l.Add(sequential.LatencyBlock{Share: 0.5, Canary: fixed(5, time.Second), Baseline: baseline}))
	}
	ten, twenty := 10*time.Millisecond, 20*time.Millisecond
	above := func(d time.Duration) time.Duration { return hist.Upper(hist.Index(d)) }

	add(fixed(199, ten))
	require.Equal(t, []time.Duration{0, 0, 0}, thresholds(), "199 requests are too few")
	require.InDelta(t, 0, l.LogE(), 1e-12, "and what they met is not tested")
	add(fixed(1, ten))
	require.Equal(t, []time.Duration{above(ten), above(ten), 0}, thresholds())
	require.InDelta(t, 0, l.LogE(), 1e-12, "the block that completes an estimate is not tested with it")

	add(fixed(399, twenty))
	require.Equal(t, []time.Duration{above(ten), above(ten), 0}, thresholds(), "the next estimate is due after 400 more")
	add(fixed(401, twenty))
	require.Equal(t, []time.Duration{above(twenty), above(twenty), above(twenty)}, thresholds(), "from the requests since the last one")
	require.Equal(t, uint64(10), l.Quantiles()[0].Canary.Requests, "those of the two blocks since the first estimate")
	require.Equal(t, arm(800, 800), l.Quantiles()[0].Baseline, "measured with the threshold of their time")
}

func TestWarmUpOnlyTeaches(t *testing.T) {
	t.Parallel()
	l := newLatency()
	require.NoError(t, l.Add(sequential.LatencyBlock{Canary: new(hist.Histogram), Baseline: fixed(1000, time.Millisecond)}))
	for _, q := range l.Quantiles() {
		require.NotZero(t, q.Threshold)
		require.Zero(t, q.Baseline)
		require.Zero(t, q.Evidence)
	}
}

func TestSlowCanaryIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		share, factor float64
		mean          float64 // bar on canary requests
		given         bool
	}{
		{"all +20 % at 5 %", 0.05, 1.2, 300, false},
		{"x1.5 at 25 %", 0.25, 1.5, 200, false},
		{"x1.5 at 25 %, counts given", 0.25, 1.5, 250, true},
		{"a thousandfold at 10 %", 0.1, 1000, 60, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := chance(10)
			const runs = 30
			var canary uint64
			for range runs {
				l := newLatency()
				for !l.Rejects(latencyAlpha) {
					b := logNormals(r, c.share, 40, 0.5, c.factor, 1)
					if c.given {
						b.Share = 0
					}
					require.NoError(t, l.Add(b))
					canary += b.Canary.Count()
					require.Less(t, canary, uint64(100_000))
				}
			}
			require.LessOrEqual(t, float64(canary)/runs, c.mean)
		})
	}
}

func TestFasterCanaryIsNoHarm(t *testing.T) {
	t.Parallel()
	r := chance(11)
	l := newLatency()
	for range 300 {
		require.NoError(t, l.Add(logNormals(r, 0.25, 40, 0.5, 0.7, 1)))
	}
	require.False(t, l.Rejects(0.1))
	require.Less(t, l.LogE(), 0.0)
}

// TestWrongShareIsNotLatency: a canary that answers more requests than its share, or a tenth fewer, is not called slow for it. With given
// counts the share does not matter at all.
func TestWrongShareIsNotLatency(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ told, real float64 }{
		{0.1, 0.09}, {0.1, 0.1}, {0.1, 0.2}, {0.1, 0.5}, {0.5, 0.45}, {0.5, 0.6}, {0.5, 0.9}, {0, 0.01}, {0, 0.05}, {0, 0.9},
	} {
		r := chance(12)
		l := newLatency()
		for range 500 {
			b := logNormals(r, c.real, 40, 0.5, 1, 1)
			b.Share = c.told
			require.NoError(t, l.Add(b))
		}
		require.False(t, l.Rejects(0.01), "%+v", c)
	}
}

func TestUnitsDoNotMatter(t *testing.T) {
	t.Parallel()
	run := func(unit float64) (harm, accept float64) {
		r := chance(13)
		l := newLatency()
		n, err := sequential.NewLatencyNonInferiority(0.9, 0.25)
		require.NoError(t, err)
		for range 100 {
			b := logNormals(r, 0.25, 40, 0.5, 1.15, unit)
			require.NoError(t, l.Add(b))
			require.NoError(t, n.Add(b))
		}
		return l.LogE(), n.LogE()
	}
	harm, accept := run(1)
	require.Greater(t, harm, 1.0)
	for _, unit := range []float64{1. / 1024, 0.25, 2, 4096} { // 20 us to 80 s
		h, a := run(unit)
		require.Equal(t, harm, h, "times %v", unit)
		require.Equal(t, accept, a, "times %v", unit)
	}
	h, _ := run(1e-3) // moves the boundaries inside the distribution
	require.InDelta(t, harm, h, 6)
}

func TestSlowerNeverLowersTheEvidence(t *testing.T) {
	t.Parallel()
	r := chance(14)
	past := logNormals(r, 0, 2000, 0.5, 1, 1)
	past.Share = 0
	for range 200 {
		durations := make([]time.Duration, 30)
		for i := range durations {
			durations[i] = time.Duration(20e6 * math.Exp(r.NormFloat64()))
		}
		baseline := logNormals(r, 0, 200, 0.5, 1, 1).Baseline
		evidence := func() (harm, accept float64) {
			l := newLatency()
			n, err := sequential.NewLatencyNonInferiority(0.9, 0.25)
			require.NoError(t, err)
			canary := new(hist.Histogram)
			for _, d := range durations {
				canary.Record(d)
			}
			for _, b := range []sequential.LatencyBlock{past, {Share: 0.1, Canary: canary, Baseline: baseline}} {
				require.NoError(t, l.Add(b))
				require.NoError(t, n.Add(b))
			}
			return l.LogE(), n.LogE()
		}
		harm, accept := evidence()
		durations[r.IntN(len(durations))] *= 2
		slower, worse := evidence()
		require.GreaterOrEqual(t, slower, harm)
		require.LessOrEqual(t, worse, accept)
	}
}

func TestThreeLatenciesNeverDecide(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		l := newLatency()
		require.NoError(t, l.Add(sequential.LatencyBlock{Canary: new(hist.Histogram), Baseline: fixed(10_000, time.Millisecond)}))
		require.NoError(t, l.Add(sequential.LatencyBlock{Share: 0.001, Canary: fixed(n, time.Minute), Baseline: fixed(5000, time.Millisecond)}))
		require.False(t, l.Rejects(0.05))
		require.Equal(t, 1.0, l.PValue())
	}
}

// TestConstantLatency: everything in one bucket leaves no share above the threshold, and a canary beyond it is found all the same.
func TestConstantLatency(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		canary time.Duration
		slow   bool
	}{{5 * time.Millisecond, false}, {4 * time.Millisecond, false}, {6 * time.Millisecond, true}} {
		l := newLatency()
		n, err := sequential.NewLatencyNonInferiority(0.5, 0.15)
		require.NoError(t, err)
		for range 100 {
			b := sequential.LatencyBlock{Share: 0.1, Canary: fixed(5, c.canary), Baseline: fixed(45, 5*time.Millisecond)}
			require.NoError(t, l.Add(b))
			require.NoError(t, n.Add(b))
		}
		require.Equal(t, c.slow, l.Rejects(latencyAlpha), "%v", c.canary)
		require.Equal(t, !c.slow, n.Accepts(0.05), "%v", c.canary)
		finite(t, l.LogE(), n.LogE())
	}
}

// TestHalfOfTheRequestsSlow: a baseline that always takes 5 ms and a canary that takes 10 ms every other time. The median test cannot say, the p90 test must not accept.
func TestHalfOfTheRequestsSlow(t *testing.T) {
	t.Parallel()
	for _, q := range []float64{0.9, 0.99} {
		n, err := sequential.NewLatencyNonInferiority(q, 0.5)
		require.NoError(t, err)
		canary := fixed(5, 5*time.Millisecond)
		canary.Merge(fixed(5, 10*time.Millisecond))
		for range 300 {
			require.NoError(t, n.Add(sequential.LatencyBlock{Share: 0.2, Canary: canary, Baseline: fixed(40, 5*time.Millisecond)}))
			require.False(t, n.Accepts(0.05))
		}
	}
}

func TestLatencyBlocksAreChecked(t *testing.T) {
	t.Parallel()
	l := newLatency()
	n, err := sequential.NewLatencyNonInferiority(0.5, 0.25)
	require.NoError(t, err)
	for _, b := range []sequential.LatencyBlock{
		{},
		{Canary: new(hist.Histogram)},
		{Share: 2, Canary: new(hist.Histogram), Baseline: new(hist.Histogram)},
		{Share: 1, Canary: new(hist.Histogram), Baseline: fixed(1, 1)},
	} {
		require.ErrorIs(t, l.Add(b), sequential.ErrBlock)
		require.ErrorIs(t, n.Add(b), sequential.ErrBlock)
	}
	for _, q := range [][]sequential.Quantile{nil, {{Q: 0, Weight: 1}}, {{Q: 1, Weight: 1}}, {{Q: 0.5}}, {{Q: math.NaN(), Weight: 1}}} {
		require.Panics(t, func() { sequential.NewLatency(q, 0) })
	}
}
