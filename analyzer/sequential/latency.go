package sequential

import (
	"fmt"
	"math"
	"time"

	"meshtest.dev/meshtest/internal/hist"
)

// Quantile is a baseline quantile at which a Latency test counts exceedances.
type Quantile struct {
	Q           float64 // in (0, 1)
	Weight      float64 // of its e-value in the mean, positive; weights count relative to their sum
	MinBaseline uint64  // baseline requests that the first threshold is estimated from, and which are therefore not tested
}

// Fewest baseline requests for a first threshold: 100 on the rarer side of a median and 20 beyond a p90, or 10 beyond a p99.
// An estimate that is off costs power, never validity.
const (
	MinBaselineMedian = 200
	MinBaselineTail   = 1000
)

// MinBaseline returns the fewest baseline requests for a first estimate of quantile q.
func MinBaseline(q float64) uint64 {
	if q > 0.9 {
		return MinBaselineTail
	}
	return MinBaselineMedian
}

// DefaultQuantiles are p50, p90 and p99. A change of the whole distribution shows at the median and p90 so soon that they need little weight; a change
// of the tail shows at p99 only, where events are rare.
func DefaultQuantiles() []Quantile {
	return []Quantile{
		{Q: 0.5, Weight: 0.1, MinBaseline: MinBaseline(0.5)},
		{Q: 0.9, Weight: 0.1, MinBaseline: MinBaseline(0.9)},
		{Q: 0.99, Weight: 0.8, MinBaseline: MinBaseline(0.99)},
	}
}

// LatencyBlock is how long the requests of both versions took in one stretch of time. Share is as in Block. A block without canary
// requests and with Share 0 only teaches the thresholds: traffic before the canary's first step serves for that.
type LatencyBlock struct {
	Share    float64
	Canary   *hist.Histogram
	Baseline *hist.Histogram
}

func (b LatencyBlock) check() error {
	if b.Canary == nil || b.Baseline == nil {
		return fmt.Errorf("%w: no histogram", ErrBlock)
	}
	return Block{
		Share:    b.Share,
		Canary:   Arm{Requests: b.Canary.Count()},
		Baseline: Arm{Requests: b.Baseline.Count()},
	}.check()
}

// exceed counts the requests of each arm at or above its own bucket boundary.
func (b LatencyBlock) exceed(canary, baseline int) Block {
	return Block{
		Share:    b.Share,
		Canary:   Arm{Requests: b.Canary.Count(), Events: b.Canary.CountAbove(canary)},
		Baseline: Arm{Requests: b.Baseline.Count(), Events: b.Baseline.CountAbove(baseline)},
	}
}

// Latency tests whether the canary is slower by more than a tolerance. Null hypothesis: at every moment, and at every threshold t used, the canary exceeds
// (1+tolerance)*t no more often than the baseline exceeds t. Without a tolerance any difference that is there is found in the end, and a canary that only just started always has
// one: its caches are colder. Each quantile has a Harm test on exceedances of a predictable threshold, which also bets on the requests below
// it (the guess being the exceedance when the threshold was estimated): at a median that doubles the information. The e-value is the weighted mean of
// the quantiles' e-values, which is an e-value under any dependence among them and at least as sharp as a weighted Bonferroni split.
//
// Latencies are often those of successes only, and a canary that fails answers less than its share. More than its share never looks slow, nor does a tenth
// less; a canary that fails more than that is decided by its errors long before. With Share 0 the counts are given and the share does not
// matter; each block then needs requests of both versions.
//
// Nothing but the order of latencies matters, to the width of a bucket: the unit does not.
type Latency struct {
	Evidence
	tolerance float64
	parts     []*latencyPart
}

type latencyPart struct {
	threshold *threshold
	harm      *Harm
	logWeight float64
}

// NewLatency returns a test at the given quantiles with a relative tolerance: 0.1 lets the canary be a tenth slower, 0 not at all. It panics when there are no quantiles or one is
// impossible, or the tolerance is not in [0, 100].
func NewLatency(quantiles []Quantile, tolerance float64) *Latency {
	if !(tolerance >= 0 && tolerance <= 100) {
		panic(fmt.Sprintf("sequential: impossible tolerance %v", tolerance))
	}
	if len(quantiles) == 0 {
		panic("sequential: a latency test without quantiles")
	}
	var sum float64
	for _, q := range quantiles {
		if !(q.Q > 0 && q.Q < 1 && q.Weight > 0 && q.Weight <= math.MaxFloat32) {
			panic(fmt.Sprintf("sequential: impossible quantile %+v", q))
		}
		sum += q.Weight
	}
	l := &Latency{tolerance: tolerance}
	for _, q := range quantiles {
		l.parts = append(l.parts, &latencyPart{
			threshold: newThreshold(q.Q, q.MinBaseline),
			harm:      NewHarm(LatencyAlternatives()),
			logWeight: math.Log(q.Weight / sum),
		})
	}
	return l
}

// Add takes the next block: measures it with the thresholds of the past, looks once, and then lets its baseline teach the thresholds.
// An error wraps ErrBlock.
func (l *Latency) Add(b LatencyBlock) error {
	if err := b.check(); err != nil {
		return err
	}
	terms := make([]float64, len(l.parts))
	var tested uint64
	for i, p := range l.parts {
		if err := p.add(b, l.tolerance); err != nil {
			return fmt.Errorf("at quantile %v: %w", p.threshold.q, err)
		}
		terms[i] = p.logWeight + p.harm.LogE()
		tested = max(tested, p.harm.canary.Requests)
	}
	l.observe(logSumExp(terms), tested >= MinCanaryRequests)
	return nil
}

func (p *latencyPart) add(b LatencyBlock, tolerance float64) error {
	if t := p.threshold; t.ready {
		if err := p.harm.add(b.exceed(t.tolerated(tolerance), t.bucket+1), t.above); err != nil {
			return err
		}
	}
	p.threshold.learn(b.Baseline)
	return nil
}

// QuantileEvidence is what one quantile contributes to a Latency test.
type QuantileEvidence struct {
	Q                float64
	Threshold        time.Duration // in use now: the upper end of the bucket that held the quantile; 0 before the first estimate
	Evidence         Evidence      // of this quantile alone, before weighting
	Canary, Baseline Arm           // requests tested, and how many exceeded the threshold of their time
}

// Quantiles returns the contributions, in the order of construction: the largest says where the canary is slower.
func (l *Latency) Quantiles() []QuantileEvidence {
	out := make([]QuantileEvidence, 0, len(l.parts))
	for _, p := range l.parts {
		out = append(out, QuantileEvidence{
			Q:         p.threshold.q,
			Threshold: p.threshold.upper(),
			Evidence:  p.harm.Evidence,
			Canary:    p.harm.canary,
			Baseline:  p.harm.baseline,
		})
	}
	return out
}
