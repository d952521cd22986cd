package sequential

import "math"

// maxRatio bounds the ratios of rates that are told apart: a bound beyond is reported as maxRatio, or as one over it.
const maxRatio = 1e6

// Interval is a closed interval.
type Interval struct {
	Lower, Upper float64
}

// Contains reports whether x lies in the interval.
func (i Interval) Contains(x float64) bool { return i.Lower <= x && x <= i.Upper }

// Ratio returns the Mantel-Haenszel estimate of the ratio of rates, canary to baseline: sum(x*(1-w)) / sum(y*w) over strata with x canary and y
// baseline events and share w. It is false when no baseline event makes a ratio.
func (h *Harm) Ratio() (float64, bool) {
	if h.below == 0 {
		return 0, false
	}
	return min(h.above/h.below, maxRatio), true
}

// RatioInterval returns an interval for the ratio of rates that, if the ratio is constant, covers it at all looks together with probability
// at least 1-alpha. It uses the events of randomised strata only; without any it is [1e-6, 1e6], the bounds of what it tells apart.
//
// It inverts the e-process: a ratio r is excluded when a mixture of likelihoods over ratios from 1/1000 to 1000, half of it near 1, is 1/alpha times the likelihood at r
// (method of mixtures, Robbins 1970).
func (h *Harm) RatioInterval(alpha float64) Interval {
	const points, step = 201, math.Ln10 * 3 / 100
	terms := make([]float64, 0, points)
	var norm float64
	for i := range points {
		l := float64(i-points/2) * step
		weight := 1 / (1 + l*l) // heavy tails, as in a Cauchy prior on the log ratio
		norm += weight
		terms = append(terms, math.Log(weight)+h.logLikelihood(l))
	}
	level := logSumExp(terms) - math.Log(norm) + math.Log(alpha)
	top := h.likeliest()
	limit := math.Log(maxRatio)
	return Interval{
		Lower: math.Exp(h.crossing(top, -limit, level)),
		Upper: math.Exp(h.crossing(top, limit, level)),
	}
}

// logLikelihood is that of a log ratio l, given the events of the randomised strata, relative to l = 0. It is concave in l.
func (h *Harm) logLikelihood(l float64) float64 {
	var sum float64
	for _, s := range h.strata {
		sum += float64(s.canary)*l - float64(s.canary+s.baseline)*math.Log1p(s.share*math.Expm1(l))
	}
	return sum
}

// likeliest returns the log ratio with the largest likelihood, between the limits of what is told apart.
func (h *Harm) likeliest() float64 {
	low, high := -math.Log(maxRatio), math.Log(maxRatio)
	for range 100 {
		mid := (low + high) / 2
		var slope float64
		for _, s := range h.strata {
			odds := s.share * math.Exp(mid)
			slope += float64(s.canary) - float64(s.canary+s.baseline)*odds/(odds+1-s.share)
		}
		if slope > 0 {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// crossing returns where, between inside and limit, the likelihood falls to level; limit when it does not.
func (h *Harm) crossing(inside, limit, level float64) float64 {
	if h.logLikelihood(limit) >= level {
		return limit
	}
	outside := limit
	for range 100 {
		mid := (inside + outside) / 2
		if h.logLikelihood(mid) >= level {
			inside = mid
		} else {
			outside = mid
		}
	}
	return outside
}
