package sequential_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer/sequential"
)

const errorAlpha = sequential.DefaultAlpha * sequential.ErrorShare

func TestCanaryThatFailsEverythingIsDecidedSoon(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		share            float64
		baseline, failed int // baseline errors meanwhile, canary failures until the decision
	}{
		{0.01, 0, 4}, {0.05, 0, 4}, {0.10, 0, 4}, {0.25, 0, 5}, {0.50, 0, 9},
		{0.01, 1, 4}, {0.05, 1, 4}, {0.10, 1, 4}, {0.25, 1, 7},
	} {
		t.Run(fmt.Sprintf("weight %v, %d baseline errors", c.share, c.baseline), func(t *testing.T) {
			t.Parallel()
			h := harmAfter(t, sequential.Block{Share: c.share, Baseline: arm(1000, c.baseline)})
			for n := 1; n <= c.failed; n++ {
				require.False(t, h.Rejects(errorAlpha), "after %d", n-1)
				require.NoError(t, h.Add(sequential.Block{Share: c.share, Canary: arm(1, 1)}))
			}
			require.True(t, h.Rejects(errorAlpha))
		})
	}
}

// TestHarmByHand computes one e-value with the formula of the paper.
func TestHarmByHand(t *testing.T) {
	t.Parallel()
	alternatives := []sequential.Alternative{{OddsRatio: 3, Weight: 1}, {OddsRatio: 10, Weight: 3}}
	h := sequential.NewHarm(alternatives)
	require.NoError(t, h.Add(sequential.Block{Share: 0.1, Canary: arm(50, 4), Baseline: arm(500, 6)}))
	require.NoError(t, h.Add(sequential.Block{Share: 0.5, Canary: arm(90, 5), Baseline: arm(100, 2)}))
	likelihood := func(r float64) float64 {
		first, second := 0.1*r/(0.1*r+0.9), 0.5*r/(0.5*r+0.5)
		return math.Pow(first/0.1, 4) * math.Pow((1-first)/0.9, 6) * math.Pow(second/0.5, 5) * math.Pow((1-second)/0.5, 2)
	}
	require.InEpsilon(t, 0.25*likelihood(3)+0.75*likelihood(10), math.Exp(h.LogE()), 1e-9)
	require.Equal(t, arm(140, 9), h.Canary())
	require.Equal(t, arm(600, 8), h.Baseline())
}

// TestConditionalIsFisher compares a block with given counts with the noncentral hypergeometric distribution, summed by hand.
func TestConditionalIsFisher(t *testing.T) {
	t.Parallel()
	choose := func(n, k int) float64 {
		c := 1.0
		for i := range k {
			c = c * float64(n-i) / float64(i+1)
		}
		return c
	}
	const n1, n0, s, odds = 7, 9, 6, 4.0
	var all, weighted float64
	for u := 0; u <= s; u++ {
		all += choose(n1, u) * choose(n0, s-u)
		weighted += choose(n1, u) * choose(n0, s-u) * math.Pow(odds, float64(u))
	}
	var mean float64
	for x := 0; x <= s; x++ {
		h := sequential.NewHarm([]sequential.Alternative{{OddsRatio: odds, Weight: 1}})
		require.NoError(t, h.Add(sequential.Block{Canary: arm(n1, x), Baseline: arm(n0, s-x)}))
		require.InEpsilon(t, math.Pow(odds, float64(x))*all/weighted, math.Exp(h.LogE()), 1e-9)
		mean += choose(n1, x) * choose(n0, s-x) / all * math.Exp(h.LogE())
	}
	require.InDelta(t, 1, mean, 1e-9, "an e-value has expectation 1 under equality")
}

// TestHarmIsAnEValue sums over all outcomes of a block: under the null hypothesis the expectation is at most 1, whatever the ratio up to 1.
func TestHarmIsAnEValue(t *testing.T) {
	t.Parallel()
	const n = 6
	for _, share := range []float64{0.05, 0.5, 0.9} {
		for _, rates := range [][2]float64{{0.1, 0.1}, {0.5, 0.5}, {0.5, 0.2}, {0.01, 0}, {1, 1}} {
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
					mean += chance * math.Exp(harmAfter(t, b).LogE())
				}
			}
			require.LessOrEqual(t, mean, 1+1e-9, "share %v, rates %v", share, rates)
			if rates[0] == rates[1] {
				require.InDelta(t, 1, mean, 1e-9)
			}
		}
	}
}

func TestMoreCanaryErrorsNeverLowerTheEvidence(t *testing.T) {
	t.Parallel()
	r := chance(1)
	for range 2000 {
		b := randomBlock(r, []float64{0, 0.05, 0.3, 0.5, 0.9}[r.IntN(5)], 200, 0.1, 0.2)
		if b.Share == 0 {
			b.Canary, b.Baseline = arm(30, r.IntN(30)), arm(80, r.IntN(80))
		}
		if b.Canary.Events == b.Canary.Requests {
			continue
		}
		before := harmAfter(t, b).LogE()
		b.Canary.Events++
		require.GreaterOrEqual(t, harmAfter(t, b).LogE(), before)
		if b.Baseline.Events < b.Baseline.Requests {
			b.Baseline.Events++
			require.LessOrEqual(t, harmAfter(t, b).LogE(), harmAfter(t, sequential.Block{Share: b.Share, Canary: b.Canary,
				Baseline: arm(int(b.Baseline.Requests), int(b.Baseline.Events)-1)}).LogE())
		}
	}
}

func TestBlocksDoNotMatterWithinAStratum(t *testing.T) {
	t.Parallel()
	r := chance(2)
	for range 100 {
		var blocks []sequential.Block
		whole := sequential.Block{Share: 0.25}
		for range 30 {
			b := randomBlock(r, whole.Share, 1+r.IntN(20), 0.1, 0.2)
			blocks = append(blocks, b)
			whole.Canary.Requests += b.Canary.Requests
			whole.Canary.Events += b.Canary.Events
			whole.Baseline.Requests += b.Baseline.Requests
			whole.Baseline.Events += b.Baseline.Events
		}
		fine, coarse := harmAfter(t, blocks...), harmAfter(t, whole)
		r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		shuffled := harmAfter(t, blocks...)
		require.InDelta(t, coarse.LogE(), fine.LogE(), 1e-9)
		require.InDelta(t, coarse.LogE(), shuffled.LogE(), 1e-9)
		require.GreaterOrEqual(t, fine.MaxLogE(), coarse.MaxLogE()-1e-9)
		require.Equal(t, shuffled, harmAfter(t, blocks...), "the same order gives the same bits")
	}
}

func TestThreeRequestsNeverDecide(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		for _, share := range []float64{0, 0.0001, 0.01, 0.5, 0.99} {
			h := harmAfter(t,
				sequential.Block{Share: share, Baseline: arm(100_000, 0)},
				sequential.Block{Share: share, Canary: arm(n, n), Baseline: arm(100_000, 0)})
			require.False(t, h.Rejects(0.05), "%d of %d at share %v", n, n, share)
			require.Equal(t, 1.0, h.PValue())
		}
	}
}

func TestDecisionsStand(t *testing.T) {
	t.Parallel()
	h := harmAfter(t, sequential.Block{Share: 0.1, Canary: arm(6, 6)})
	require.True(t, h.Rejects(errorAlpha))
	p := h.PValue()
	require.NoError(t, h.Add(sequential.Block{Share: 0.1, Canary: arm(10_000, 0), Baseline: arm(90_000, 90_000)}))
	require.True(t, h.Rejects(errorAlpha))
	require.Equal(t, p, h.PValue())
	require.Less(t, h.LogE(), 0.0)
}

func TestWithoutACounterpartThereIsNoEvidence(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]sequential.Block{
		"nothing":                  {},
		"no events":                {Share: 0.05, Canary: arm(1000, 0), Baseline: arm(9000, 0)},
		"all at weight 100":        {Share: 1, Canary: arm(1000, 1000)},
		"given, no baseline":       {Canary: arm(1000, 1000)},
		"given, no canary":         {Baseline: arm(1000, 10)},
		"given, everything failed": {Canary: arm(1000, 1000), Baseline: arm(1000, 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.InDelta(t, 0, harmAfter(t, b).LogE(), 1e-9)
		})
	}
}

// TestSimpsonsParadox: the canary is as good as the baseline in both steps, but most of its requests fall into the bad hour. Pooled, it looks
// 2.8 times worse.
func TestSimpsonsParadox(t *testing.T) {
	t.Parallel()
	h := harmAfter(t,
		sequential.Block{Share: 0.05, Canary: arm(500, 5), Baseline: arm(9500, 95)},
		sequential.Block{Share: 0.5, Canary: arm(5000, 500), Baseline: arm(5000, 500)})
	require.False(t, h.Rejects(0.05))
	ratio, ok := h.Ratio()
	require.True(t, ok)
	require.InDelta(t, 1, ratio, 0.01)
	accept, err := sequential.NewNonInferiority(0.03)
	require.NoError(t, err)
	require.NoError(t, accept.Add(sequential.Block{Share: 0.05, Canary: arm(500, 5), Baseline: arm(9500, 95)}))
	require.NoError(t, accept.Add(sequential.Block{Share: 0.5, Canary: arm(5000, 500), Baseline: arm(5000, 500)}))
	require.InDelta(t, 0, accept.Degradation(), 0.001)
	require.True(t, accept.Accepts(0.05))
}

func TestRatioInterval(t *testing.T) {
	t.Parallel()
	none := harmAfter(t).RatioInterval(0.05)
	require.InEpsilon(t, 1e-6, none.Lower, 1e-9)
	require.InEpsilon(t, 1e6, none.Upper, 1e-9)

	r := chance(3)
	missed, decided := 0, 0
	for range 300 {
		h := harmAfter(t)
		covered := true
		for range 20 {
			require.NoError(t, h.Add(randomBlock(r, 0.3, 150, 0.05, 0.15)))
			covered = covered && h.RatioInterval(0.1).Contains(3)
		}
		if !covered {
			missed++
		}
		i := h.RatioInterval(0.1)
		ratio, ok := h.Ratio()
		require.True(t, ok)
		require.True(t, i.Contains(ratio))
		if i.Lower > 1 {
			decided++
		}
	}
	require.LessOrEqual(t, missed, 30, "of 300 at 10 %%, over 20 looks")
	require.Greater(t, decided, 270)

	mirrored := harmAfter(t, sequential.Block{Share: 0.5, Canary: arm(500, 5), Baseline: arm(500, 30)}).RatioInterval(0.05)
	straight := harmAfter(t, sequential.Block{Share: 0.5, Canary: arm(500, 30), Baseline: arm(500, 5)}).RatioInterval(0.05)
	require.InEpsilon(t, 1/mirrored.Upper, straight.Lower, 1e-6, "labels may be swapped")
	require.InEpsilon(t, 1/mirrored.Lower, straight.Upper, 1e-6)
}

func TestImpossibleBlocksAreRefused(t *testing.T) {
	t.Parallel()
	h := harmAfter(t, sequential.Block{Share: 0.5, Canary: arm(10, 3), Baseline: arm(10, 1)})
	before := *h
	for name, b := range map[string]sequential.Block{
		"share above 1":         {Share: 1.1},
		"negative share":        {Share: -0.1},
		"share is no number":    {Share: math.NaN()},
		"baseline at share 1":   {Share: 1, Baseline: arm(1, 0)},
		"events":                {Share: 0.5, Canary: arm(1, 2)},
		"too many":              {Share: 0.5, Canary: sequential.Arm{Requests: math.MaxUint64}},
		"too many given counts": {Canary: arm(1<<21, 0), Baseline: arm(1, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, h.Add(b), sequential.ErrBlock)
			require.Equal(t, before.LogE(), h.LogE())
			require.Equal(t, before.Canary(), h.Canary())
		})
	}
}

func TestImpossibleAlternativesPanic(t *testing.T) {
	t.Parallel()
	for _, a := range [][]sequential.Alternative{nil, {{OddsRatio: 1, Weight: 1}}, {{OddsRatio: 2, Weight: 0}}, {{OddsRatio: math.NaN(), Weight: 1}}, {{OddsRatio: 2, Weight: math.Inf(1)}}} {
		require.Panics(t, func() { sequential.NewHarm(a) })
	}
}

func TestHarmStaysFinite(t *testing.T) {
	t.Parallel()
	const many = 1 << 50
	for _, b := range []sequential.Block{
		{Share: 0.5, Canary: sequential.Arm{Requests: many, Events: many}},
		{Share: 1e-300, Canary: sequential.Arm{Requests: many, Events: many}, Baseline: sequential.Arm{Requests: many, Events: many}},
		{Share: 1 - 1e-16, Baseline: sequential.Arm{Requests: many, Events: many}},
		{Share: 0.5, Baseline: sequential.Arm{Requests: many, Events: many}},
		{Canary: arm(1<<18, 1<<17), Baseline: arm(1<<18, 1<<10)},
	} {
		h := harmAfter(t, b)
		ratio, _ := h.Ratio()
		i := h.RatioInterval(0.01)
		finite(t, h.LogE(), h.MaxLogE(), h.PValue(), ratio, i.Lower, i.Upper)
		require.LessOrEqual(t, i.Lower, i.Upper)
	}
}

// TestHarmFindsTenfold is the small form of the bar; bench/calibrate measures it with more runs.
func TestHarmFindsTenfold(t *testing.T) {
	t.Parallel()
	r := chance(4)
	const runs = 200
	var sum, late int
	for range runs {
		h := harmAfter(t)
		for !h.Rejects(errorAlpha) {
			require.NoError(t, h.Add(randomBlock(r, 0.05, 100, 0.001, 0.01)))
		}
		n := int(h.Canary().Requests)
		sum += n
		if n > 1700 {
			late++
		}
	}
	require.LessOrEqual(t, float64(sum)/runs, 600.0)
	require.LessOrEqual(t, late, 6)
}
