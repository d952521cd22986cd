package analyzer

import (
	"fmt"
	"math"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/internal/hist"
)

// Duration compares how long the canary's and the baseline's successful requests take. It is bad as soon as the canary is shown to be slower by more than a tolerance at any of its quantiles (see
// [sequential.Latency]), and good while one quantile is shown to be at most the margin slower (see [sequential.LatencyNonInferiority]).
type Duration struct {
	name      string
	critical  bool
	alpha     float64
	beta      float64
	tolerated float64
	margin    float64
	quantile  float64 // that promotion looks at
	harm      *sequential.Latency
	accept    *sequential.LatencyNonInferiority
	banks     map[string]*latencyBank
	canary    hist.Histogram
	baseline  hist.Histogram // that was compared with it
	share     float64
	err       error
}

// Latencies say how slow a canary may be. Tolerance and margin are relative, 0.3 for 30 %.
type Latencies struct {
	Quantiles []float64 // at which the canary is rolled back when it is slower by more than Tolerance
	Tolerance float64
	PromoteOn float64 // quantile that must be shown to be slower by less than Margin before promotion
	Margin    float64
}

// NewDuration returns the check.
func NewDuration(name string, critical bool, alpha, beta float64, l Latencies) (*Duration, error) {
	accept, err := sequential.NewLatencyNonInferiority(l.PromoteOn, l.Margin)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", name, err)
	}
	return &Duration{
		name: name, critical: critical, alpha: alpha, beta: beta, tolerated: l.Tolerance, margin: l.Margin, quantile: l.PromoteOn,
		harm: sequential.NewLatency(weighted(l.Quantiles), l.Tolerance), accept: accept, banks: map[string]*latencyBank{},
	}, nil
}

// weighted gives each quantile its part of the evidence: the default weights where they are known, and a fifth elsewhere.
func weighted(quantiles []float64) []sequential.Quantile {
	var all []sequential.Quantile
	for _, q := range quantiles {
		one := sequential.Quantile{Q: q, Weight: 0.2, MinBaseline: sequential.MinBaseline(q)}
		for _, known := range sequential.DefaultQuantiles() {
			if known.Q == q {
				one = known
			}
		}
		all = append(all, one)
	}
	return all
}

// Observe takes a block.
func (c *Duration) Observe(block []Observation) {
	s := sortBlock(block)
	for _, split := range s.splits {
		c.share = split.share
		c.add(sequential.LatencyBlock{Share: split.share, Canary: &split.canary.latency, Baseline: &split.baseline.latency})
		c.canary.Merge(&split.canary.latency)
		c.baseline.Merge(&split.baseline.latency)
	}
	for _, o := range s.headers {
		if o.Latency == nil || o.Disturbed {
			continue
		}
		drawn := c.bank(o.Stream).draw(o.Latency.Count())
		c.canary.Merge(o.Latency)
		c.baseline.Merge(drawn)
		c.add(sequential.LatencyBlock{Canary: o.Latency, Baseline: drawn})
	}
	for _, o := range s.alone {
		if o.Latency == nil || o.Disturbed {
			continue
		}
		c.bank(o.Stream).put(o.Latency)
		c.add(sequential.LatencyBlock{Canary: &hist.Histogram{}, Baseline: o.Latency})
	}
}

func (c *Duration) bank(stream string) *latencyBank {
	if c.banks[stream] == nil {
		c.banks[stream] = &latencyBank{}
	}
	return c.banks[stream]
}

func (c *Duration) add(b sequential.LatencyBlock) {
	if err := c.harm.Add(b); err != nil && c.err == nil {
		c.err = err
	}
	if err := c.accept.Add(b); err != nil && c.err == nil {
		c.err = err
	}
}

// Check is the state of the check.
func (c *Duration) Check() Check {
	canary, baseline := c.canary.Quantile(c.quantile), c.baseline.Quantile(c.quantile)
	check := Check{
		Name: c.name, Critical: c.critical, Unit: "ms",
		Value: ms(canary), Baseline: ms(baseline), Threshold: ms(time.Duration(float64(baseline) * (1 + c.margin))),
		Samples: c.canary.Count(), Evidence: finite(c.harm.MaxLogE() / math.Ln10),
	}
	against := fmt.Sprintf("p%g is %.3g ms on the canary and %.3g ms on the baseline, over %d and %d requests",
		100*c.quantile, ms(canary), ms(baseline), c.canary.Count(), c.baseline.Count())
	switch {
	case c.err != nil:
		check.Verdict, check.Reason = NoData, c.err.Error()
	case c.harm.Rejects(c.alpha):
		check.Verdict, check.Reason = Bad, c.slower()
	case c.canary.Count() == 0:
		check.Verdict, check.Reason = NoData, "the canary has answered no request"
	case c.accept.Accepts(c.beta):
		check.Verdict = Good
		check.Reason = fmt.Sprintf("%s: at most %g %% more, with %g %% confidence", against, 100*c.margin, 100*(1-c.beta))
	default:
		check.Verdict = Undecided
		check.Needed, check.Reason = c.forecast(against)
	}
	return check
}

// slower names the quantile that says most.
func (c *Duration) slower() string {
	var worst sequential.QuantileEvidence
	for _, q := range c.harm.Quantiles() {
		if q.Evidence.LogE() >= worst.Evidence.LogE() {
			worst = q
		}
	}
	limit := fmt.Sprintf("the baseline's p%g (%.3g ms)", 100*worst.Q, ms(worst.Threshold))
	if c.tolerated > 0 {
		limit += fmt.Sprintf(" and %g %%", 100*c.tolerated)
	}
	return fmt.Sprintf("%.3g %% of the canary's requests took longer than %s, and only %.3g %% of the baseline's took longer than that p%g: more than chance explains (p < %.2g at every look)",
		100*rate(worst.Canary), limit, 100*rate(worst.Baseline), 100*worst.Q, c.harm.PValue())
}

func (c *Duration) forecast(against string) (needed uint64, reason string) {
	f := c.accept.Forecast(c.beta, c.share)
	if !f.Reachable {
		return 0, fmt.Sprintf("%s: not enough to show that it is at most %g %% more", against, 100*c.margin)
	}
	return f.CanaryRequests, fmt.Sprintf("%s: about %d more canary requests are needed to show that it is at most %g %% more", against, f.CanaryRequests, 100*c.margin)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
