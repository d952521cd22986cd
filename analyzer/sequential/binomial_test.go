package sequential_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer/sequential"
)

func TestBinomialInterval(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k, n         uint64
		confidence   float64
		lower, upper float64
	}{
		// the two ends with a closed form
		{0, 10, 0.95, 0, 1 - math.Pow(0.025, 1.0/10)},
		{10, 10, 0.95, math.Pow(0.025, 1.0/10), 1},
		{0, 299, 0.98, 0, 1 - math.Pow(0.01, 1.0/299)},
		// Clopper & Pearson's own table and R's binom.test(7, 20)
		{7, 20, 0.95, 0.1539092, 0.5921885},
		{0, 0, 0.95, 0, 1},
		{5, 4, 0.95, 0, 1},
		{2, 4, math.NaN(), 0, 1},
	} {
		i := sequential.BinomialInterval(c.k, c.n, c.confidence)
		require.InDelta(t, c.lower, i.Lower, 2e-4, "%+v", c)
		require.InDelta(t, c.upper, i.Upper, 2e-4, "%+v", c)
	}
}

// TestBinomialIntervalInvertsTheTails: at a bound of the interval, what was seen or more extreme has half of what the confidence leaves.
func TestBinomialIntervalInvertsTheTails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ k, n uint64 }{{1, 12}, {343, 1000}, {999, 1000}, {12, 100_000}} {
		i := sequential.BinomialInterval(c.k, c.n, 0.999)
		require.InEpsilon(t, 0.0005, tail(c.n, c.k, c.n, i.Lower), 1e-6)
		require.InEpsilon(t, 0.0005, tail(c.n, 0, c.k, i.Upper), 1e-6)
	}
}

// tail sums the binomial probabilities from..to of n.
func tail(n, from, to uint64, p float64) float64 {
	var sum float64
	logFactorial := func(k uint64) float64 { l, _ := math.Lgamma(float64(k) + 1); return l }
	for k := from; k <= to; k++ {
		sum += math.Exp(logFactorial(n) - logFactorial(k) - logFactorial(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	return sum
}

// TestBinomialIntervalCovers sums the exact coverage.
func TestBinomialIntervalCovers(t *testing.T) {
	t.Parallel()
	const n, confidence = 40, 0.95
	for _, p := range []float64{0.001, 0.01, 0.1, 0.343, 0.5, 0.9} {
		var covered float64
		mass := math.Pow(1-p, n)
		for k := range uint64(n + 1) {
			if sequential.ProportionWithin(k, n, p, confidence) {
				covered += mass
			}
			mass *= float64(n-k) / float64(k+1) * p / (1 - p)
		}
		require.GreaterOrEqual(t, covered, confidence, "p = %v", p)
	}
}

func TestProportionWithin(t *testing.T) {
	t.Parallel()
	require.True(t, sequential.ProportionWithin(343, 1000, 0.7*0.7*0.7, 0.999))
	require.False(t, sequential.ProportionWithin(490, 1000, 0.7*0.7*0.7, 0.999))
	require.True(t, sequential.ProportionWithin(0, 0, 0.3, 0.999))
	require.False(t, sequential.ProportionWithin(0, 0, math.NaN(), 0.999))
	require.False(t, sequential.ProportionWithin(0, 0, 1.5, 0.999))
	require.True(t, sequential.ProportionWithin(5_000_100, 10_000_000, 0.5, 0.999))
	require.False(t, sequential.ProportionWithin(5_010_000, 10_000_000, 0.5, 0.999))
}
