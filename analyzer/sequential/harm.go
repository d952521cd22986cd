package sequential

import (
	"fmt"
	"math"
)

// Alternative is one size of harm that a test bets on.
type Alternative struct {
	OddsRatio float64 // of an event, canary to baseline, above 1; for rare events the ratio of rates
	Weight    float64 // of the bet, positive; weights count relative to their sum
}

// ErrorAlternatives are the bets on error rates, ratios 1.5 to 1000. Six- to ninefold carries most, because a tenfold rate has to be found
// quickly also by those who are unlucky and see less of it; the top is what decides a canary that fails everything.
func ErrorAlternatives() []Alternative {
	return []Alternative{
		{1.5, 0.5}, {2.2, 0.5}, {3.5, 2}, {6, 8}, {9, 6}, {15, 1}, {40, 1}, {150, 1}, {1000, 2},
	}
}

// LatencyAlternatives are the bets on exceedances of a quantile. A shift of a log-normal latency with sigma 0.5 by 20 % has an
// odds ratio of 1.8 at the median and 2.5 at the p99; a factor of 1.5 has 3.8 and 6.9.
func LatencyAlternatives() []Alternative {
	return []Alternative{
		{1.25, 0.7}, {1.5, 1.5}, {2, 4}, {2.75, 4}, {4, 1.5}, {7, 1}, {20, 0.7}, {100, 0.7},
	}
}

// Harm tests whether events are more likely on the canary. Null hypothesis: at every moment the canary's probability of an event is at most the
// baseline's.
//
// Randomised strata (Share > 0). Given that a request had the event, it was the canary's with probability w*r/(w*r+1-w), where r is the ratio of
// rates: the design weight w is known, and neither the load nor the rate matters. An event hence pays
// r^[canary]/(w*r+1-w), which is a likelihood ratio against r = 1 and has an expectation of at most 1 for every ratio up to 1. This is the conditional
// binomial test for two Poisson rates (Przyborowski & Wilenski, 1940), made sequential as in Lindon & Malek, "Anytime-valid inference for
// multinomial count data", NeurIPS 2022. It is exact for Bernoulli requests too, since requests without the event pay 1. When the baseline's
// rate is roughly known in advance (see Latency), requests without the event pay as well, with s = (1-p1)/(1-p0) in the place of r: s < 1, so
// their expectation is at most 1 under the null whatever the guess was worth.
//
// Strata with given counts (Share = 0). Given the number of events in the block, the canary's follow Fisher's noncentral hypergeometric
// distribution, central under equality, whatever the rate was in the block. The likelihood ratio of an odds ratio above 1 grows with the canary's events, so it has an
// expectation of at most 1 under every odds ratio up to 1.
//
// Both multiply over blocks, and the e-process is the weighted mean over the alternatives. Products over strata use only comparisons within a
// stratum: a rate that changes together with the weight (Simpson's paradox) is harmless.
//
// Failure modes: with a wrong Share the test answers about the share, which is why Split stands beside it; failures that are
// reported sooner than successes show a burst early, the same for both arms under the null.
type Harm struct {
	Evidence
	logOdds   []float64
	logWeight []float64
	logRatio  []float64 // of each alternative, the log likelihood ratio so far

	canary, baseline Arm
	strata           []stratum // randomised ones, by share
	above, below     float64   // Mantel-Haenszel sums
}

// stratum counts the events of all blocks with one share.
type stratum struct {
	share            float64
	canary, baseline uint64
}

// NewHarm returns a test that bets on the given alternatives. It panics when there are none or one is not above 1 with a
// positive weight: they are part of a program, not of its input.
func NewHarm(alternatives []Alternative) *Harm {
	if len(alternatives) == 0 {
		panic("sequential: a test without alternatives")
	}
	h := &Harm{logRatio: make([]float64, len(alternatives))}
	var sum float64
	for _, a := range alternatives {
		if !(a.OddsRatio > 1 && a.OddsRatio <= maxRatio && a.Weight > 0 && a.Weight <= math.MaxFloat32) {
			panic(fmt.Sprintf("sequential: impossible alternative %+v", a))
		}
		sum += a.Weight
	}
	for _, a := range alternatives {
		h.logOdds = append(h.logOdds, math.Log(a.OddsRatio))
		h.logWeight = append(h.logWeight, math.Log(a.Weight/sum))
	}
	return h
}

// Add takes the next block and looks at the evidence once. Within a stratum the order and the cut of requests into blocks do not change LogE when Share > 0; the maximum
// is over the looks, so finer blocks can only raise it. An error wraps ErrBlock.
func (h *Harm) Add(b Block) error { return h.add(b, 0) }

// add takes a guess of the baseline's probability of an event that was made before the block; 0 for none.
func (h *Harm) add(b Block, guess float64) error {
	if err := b.check(); err != nil {
		return err
	}
	if b.Share > 0 {
		h.addRandomised(b, guess)
	} else {
		addConditional(h.logRatio, h.logOdds, b)
	}
	h.tally(b)
	h.observe(h.mean(), h.canary.Requests >= MinCanaryRequests)
	return nil
}

func (h *Harm) addRandomised(b Block, guess float64) {
	events := float64(b.Canary.Events + b.Baseline.Events)
	rests := float64(b.Canary.rest() + b.Baseline.rest())
	for k, logOdds := range h.logOdds {
		// p1 = odds*p0/(1-p0+odds*p0), r = p1/p0, s = (1-p1)/(1-p0)
		logS := -math.Log1p(guess * math.Expm1(logOdds))
		logR := logOdds + logS
		h.logRatio[k] += float64(b.Canary.Events)*logR - events*math.Log1p(b.Share*math.Expm1(logR))
		if guess > 0 {
			h.logRatio[k] += float64(b.Canary.rest())*logS - rests*math.Log1p(b.Share*math.Expm1(logS))
		}
	}
}

func (h *Harm) mean() float64 {
	terms := make([]float64, len(h.logRatio))
	for k := range terms {
		terms[k] = h.logWeight[k] + h.logRatio[k]
	}
	return logSumExp(terms)
}

func (h *Harm) tally(b Block) {
	h.canary, h.baseline = h.canary.plus(b.Canary), h.baseline.plus(b.Baseline)
	share := b.Share
	if share == 0 {
		share = b.realised()
	}
	h.above += float64(b.Canary.Events) * (1 - share)
	h.below += float64(b.Baseline.Events) * share
	if b.Share == 0 {
		return
	}
	for i := range h.strata {
		if h.strata[i].share == b.Share {
			h.strata[i].canary += b.Canary.Events
			h.strata[i].baseline += b.Baseline.Events
			return
		}
	}
	h.strata = append(h.strata, stratum{b.Share, b.Canary.Events, b.Baseline.Events})
}

// Canary returns what the canary did in all blocks.
func (h *Harm) Canary() Arm { return h.canary }

// Baseline returns what the baseline did in all blocks.
func (h *Harm) Baseline() Arm { return h.baseline }
