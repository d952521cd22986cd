package sequential

import "math"

// addConditional adds to each log likelihood ratio what a block with given counts says: x events on the canary among n1 requests, s in all among
// n1+n0. P(x) is proportional to C(n1,x) C(n0,s-x) odds^x, so the ratio to odds 1 is odds^x / E[odds^U] with U hypergeometric.
func addConditional(logRatio, logOdds []float64, b Block) {
	x := float64(b.Canary.Events)
	first, logMass := hypergeometric(b)
	if len(logMass) == 1 {
		return // the counts leave one outcome only
	}
	terms := make([]float64, len(logMass))
	for k, l := range logOdds {
		for i, m := range logMass {
			terms[i] = m + (float64(first)+float64(i))*l
		}
		logRatio[k] += x*l - logSumExp(terms)
	}
}

// hypergeometric returns the logarithms of the probabilities of first, first+1, ... canary events given all counts of the block but that one.
func hypergeometric(b Block) (first uint64, logMass []float64) {
	n1, n0 := b.Canary.Requests, b.Baseline.Requests
	s := b.Canary.Events + b.Baseline.Events
	if s > n0 {
		first = s - n0
	}
	last := min(s, n1)
	logMass = make([]float64, last-first+1)
	for u := first; u < last; u++ {
		up := float64(n1-u) * float64(s-u)
		down := float64(u+1) * float64(n0+u+1-s)
		logMass[u-first+1] = logMass[u-first] + math.Log(up/down)
	}
	total := logSumExp(logMass)
	for i := range logMass {
		logMass[i] -= total
	}
	return first, logMass
}
