package sequential

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// BinomialInterval returns the Clopper-Pearson interval for a proportion after k of n: it covers the true one with at least the given
// confidence in (0, 1), for every proportion and n. It is for one look at a fixed n, not for repeated ones. With n = 0, or k > n, or a confidence that is
// none, it is [0, 1].
func BinomialInterval(k, n uint64, confidence float64) Interval {
	if n == 0 || k > n || !(confidence > 0 && confidence < 1) {
		return Interval{0, 1}
	}
	tail := (1 - confidence) / 2
	whole := Interval{0, 1}
	if k > 0 {
		whole.Lower = betaQuantile(tail, float64(k), float64(n-k)+1)
	}
	if k < n {
		whole.Upper = betaQuantile(1-tail, float64(k)+1, float64(n-k))
	}
	return whole
}

// betaQuantile returns x with P(Beta(a, b) <= x) = p, by bisection of the regularised incomplete beta function.
func betaQuantile(p, a, b float64) float64 {
	low, high := 0.0, 1.0
	for range 200 {
		mid := (low + high) / 2
		if mid == low || mid == high {
			break
		}
		if mathext.RegIncBeta(a, b, mid) < p {
			low = mid
		} else {
			high = mid
		}
	}
	return (low + high) / 2
}

// ProportionWithin reports whether k of n is compatible with proportion p, as an exact two-sided binomial test at one look: p lies in BinomialInterval(k, n,
// confidence). It is false for a p outside [0, 1], and true for n = 0, where nothing was seen: the caller demands a minimum.
func ProportionWithin(k, n uint64, p, confidence float64) bool {
	if math.IsNaN(p) {
		return false
	}
	return BinomialInterval(k, n, confidence).Contains(p)
}
