package analyzer

import (
	"fmt"
	"math"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/internal/hist"
)

// Duration compares how long the canary's and the baseline's successful requests take. It is bad as soon as the canary is shown to be slower at any of its quantiles (see
// [sequential.Latency]), and good while one quantile is shown to be at most the margin slower (see [sequential.LatencyNonInferiority]).
type Duration struct {
	name     string
	critical bool
	alpha    float64
	beta     float64
	margin   float64
	quantile float64 // that promotion looks at
	harm     *sequential.Latency
	accept   *sequential.LatencyNonInferiority
	banks    map[string]*latencyBank
	canary   hist.Histogram
	baseline hist.Histogram // of the blocks in which the canary was, too
	share    float64
	err      error
}

// NewDuration returns the check. margin is relative, 0.3 for 30 %; promoteOn is the quantile that must be shown to be within it.
func NewDuration(name string, critical bool, alpha, beta float64, quantiles []float64, margin, promoteOn float64) (*Duration, error) {
	accept, err := sequential.NewLatencyNonInferiority(promoteOn, margin)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", name, err)
	}
	return &Duration{
		name: name, critical: critical, alpha: alpha, beta: beta, margin: margin, quantile: promoteOn,
		harm: sequential.NewLatency(weighted(quantiles)), accept: accept, banks: map[string]*latencyBank{},
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
		if o.Latency == nil {
			continue
		}
		c.canary.Merge(o.Latency)
		c.add(sequential.LatencyBlock{Canary: o.Latency, Baseline: c.bank(o.Stream).draw(o.Latency.Count())})
	}
	for _, o := range s.alone {
		if o.Latency == nil {
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
	return fmt.Sprintf("%.3g %% of the canary's requests took longer than the baseline's p%g (%.3g ms), and %.3g %% of the baseline's did: more than chance explains (p < %.2g at every look)",
		100*rate(worst.Canary), 100*worst.Q, ms(worst.Threshold), 100*rate(worst.Baseline), c.harm.PValue())
}

func (c *Duration) forecast(against string) (needed uint64, reason string) {
	f := c.accept.Forecast(c.beta, c.share)
	if !f.Reachable {
		return 0, fmt.Sprintf("%s: not enough to show that it is at most %g %% more", against, 100*c.margin)
	}
	return f.CanaryRequests, fmt.Sprintf("%s: about %d more canary requests are needed to show that it is at most %g %% more", against, f.CanaryRequests, 100*c.margin)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
