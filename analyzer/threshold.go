package analyzer

import (
	"fmt"
	"math"
	"time"

	"meshtest.dev/meshtest/internal/hist"
)

// bound tests at every look whether a rate of events is above or below a fixed one. The e-value is the mean likelihood ratio over a grid of rates on the one side of the
// limit against the limit itself; each ratio is monotone in the events, so its expectation is at most 1 for every rate on the other side (Robbins, 1970; Ville, 1939).
type bound struct {
	limit            float64
	requests, events uint64
	maxAbove         float64 // log e-value at its largest
}

// boundOdds are the alternatives, as ratios of odds.
var boundOdds = []float64{1.1, 1.25, 1.5, 2, 3, 5, 10, 30, 100}

func (b *bound) add(requests, events uint64) {
	b.requests += requests
	b.events += events
	b.maxAbove = max(b.maxAbove, b.logE(1))
}

// logE is the evidence for a rate above (direction 1) or below (-1) the limit.
func (b *bound) logE(direction float64) float64 {
	largest, sum := math.Inf(-1), 0.0
	var terms []float64
	for _, ratio := range boundOdds {
		odds := b.limit / (1 - b.limit) * math.Pow(ratio, direction)
		p := odds / (1 + odds)
		term := float64(b.events)*math.Log(p/b.limit) + float64(b.requests-b.events)*math.Log((1-p)/(1-b.limit))
		terms = append(terms, term)
		largest = max(largest, term)
	}
	for _, term := range terms {
		sum += math.Exp(term - largest)
	}
	return largest + math.Log(sum/float64(len(terms)))
}

// Limit compares the canary with a fixed limit: at most a share of its requests may fail, or take longer than something.
type Limit struct {
	name     string
	critical bool
	alpha    float64
	beta     float64
	longest  time.Duration // 0: failures are counted, otherwise successes that took longer
	quantile float64
	bound    bound
	latency  hist.Histogram
}

// NewErrorLimit returns a check that at most the given share of the canary's requests fails, in (0, 1).
func NewErrorLimit(name string, critical bool, alpha, beta, share float64) (*Limit, error) {
	return newLimit(Limit{name: name, critical: critical, alpha: alpha, beta: beta, bound: bound{limit: share}})
}

// NewDurationLimit returns a check that the given quantile of the canary's latency is at most longest.
func NewDurationLimit(name string, critical bool, alpha, beta, quantile float64, longest time.Duration) (*Limit, error) {
	if longest <= 0 {
		return nil, fmt.Errorf("check %s: a latency limit of %s", name, longest)
	}
	return newLimit(Limit{name: name, critical: critical, alpha: alpha, beta: beta, longest: longest, quantile: quantile, bound: bound{limit: 1 - quantile}})
}

func newLimit(l Limit) (*Limit, error) {
	if !(l.bound.limit > 0 && l.bound.limit < 1) {
		return nil, fmt.Errorf("check %s: a limit of %g on a share is not between 0 and 1", l.name, l.bound.limit)
	}
	return &l, nil
}

// Observe takes a block; only the canary's part counts.
func (c *Limit) Observe(block []Observation) {
	for _, o := range block {
		switch {
		case o.Arm != Canary:
		case c.longest == 0:
			c.bound.add(o.Requests, o.Failed)
		case o.Latency != nil:
			c.bound.add(o.Latency.Count(), o.Latency.CountAbove(hist.Index(c.longest)+1))
			c.latency.Merge(o.Latency)
		}
	}
}

// Check is the state of the check.
func (c *Limit) Check() Check {
	check := Check{
		Name: c.name, Critical: c.critical, Unit: "%", Value: 100 * share(c.bound.events, c.bound.requests), Baseline: math.NaN(), Threshold: 100 * c.bound.limit,
		Samples: c.bound.requests, Evidence: finite(c.bound.maxAbove / math.Ln10),
	}
	what := fmt.Sprintf("%d of %d canary requests failed, the limit is %g %%", c.bound.events, c.bound.requests, 100*c.bound.limit)
	if c.longest > 0 {
		check.Unit, check.Value, check.Threshold = "ms", ms(c.latency.Quantile(c.quantile)), ms(c.longest)
		what = fmt.Sprintf("%d of %d canary requests took longer than %s, the limit is %.3g %%", c.bound.events, c.bound.requests, c.longest, 100*c.bound.limit)
	}
	switch {
	case c.bound.requests == 0:
		check.Verdict, check.Reason = NoData, "the canary has had no request"
	case c.bound.maxAbove >= -math.Log(c.alpha):
		check.Verdict, check.Reason = Bad, what+": more than chance explains"
	case c.bound.logE(-1) >= -math.Log(c.beta): // now, and not at its best: what begins late counts
		check.Verdict, check.Reason = Good, what
	default:
		check.Verdict, check.Reason = Undecided, what+": not enough requests to be sure"
	}
	check.Baseline = finite(check.Baseline)
	return check
}

func share(events, requests uint64) float64 {
	if requests == 0 {
		return 0
	}
	return float64(events) / float64(requests)
}
