package analyzer

import (
	"fmt"
	"math"

	"meshtest.dev/meshtest/analyzer/sequential"
)

// ErrorRate compares the canary's rate of failures with the baseline's. It is bad as soon as the canary is shown to fail more often (see [sequential.Harm]), and good while it is shown to
// fail at most the margin more often (see [sequential.NonInferiority]).
type ErrorRate struct {
	name     string
	critical bool
	alpha    float64 // of being bad although the canary is not worse, over all looks
	beta     float64 // of being good although it is worse by the margin
	margin   float64
	harm     *sequential.Harm
	accept   *sequential.NonInferiority
	banks    map[string]*bank
	share    float64 // of the last split, for the forecast
	err      error
}

// NewErrorRate returns the check. margin is a difference of rates, in (0, 1): 0.01 is one percentage point.
func NewErrorRate(name string, critical bool, alpha, beta, margin float64) (*ErrorRate, error) {
	accept, err := sequential.NewNonInferiority(margin)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", name, err)
	}
	return &ErrorRate{
		name: name, critical: critical, alpha: alpha, beta: beta, margin: margin,
		harm: sequential.NewHarm(sequential.ErrorAlternatives()), accept: accept, banks: map[string]*bank{},
	}, nil
}

// Observe takes a block.
func (c *ErrorRate) Observe(block []Observation) {
	s := sortBlock(block)
	for _, split := range s.splits {
		c.share = split.share
		c.add(sequential.Block{
			Share:    split.share,
			Canary:   sequential.Arm{Requests: split.canary.requests, Events: split.canary.failed},
			Baseline: sequential.Arm{Requests: split.baseline.requests, Events: split.baseline.failed},
		})
	}
	for _, o := range s.headers {
		c.observeHeader(o)
	}
	for _, o := range s.alone {
		if !o.Disturbed {
			c.bank(o.Stream).put(o.Requests, o.Failed-min(o.ByFault, o.Failed))
		}
	}
}

// observeHeader compares each canary request by itself, successes first: a block ends early only behind a failure, so that is the order in which they came.
// What an injected fault failed is nobody's fault here: the past knows no such fault.
func (c *ErrorRate) observeHeader(o Observation) {
	if o.Disturbed {
		return
	}
	failed := o.Failed - min(o.ByFault, o.Failed)
	b := c.bank(o.Stream)
	for i := range o.Requests {
		canary := sequential.Arm{Requests: 1}
		if i >= o.Requests-failed {
			canary.Events = 1
		}
		drawn, drawnFailed := b.draw()
		c.add(sequential.Block{Canary: canary, Baseline: sequential.Arm{Requests: drawn, Events: drawnFailed}})
	}
}

func (c *ErrorRate) bank(stream string) *bank {
	if c.banks[stream] == nil {
		c.banks[stream] = &bank{}
	}
	return c.banks[stream]
}

func (c *ErrorRate) add(b sequential.Block) {
	if err := c.harm.Add(b); err != nil && c.err == nil {
		c.err = err
	}
	if err := c.accept.Add(b); err != nil && c.err == nil {
		c.err = err
	}
}

// Check is the state of the check.
func (c *ErrorRate) Check() Check {
	canary, baseline := c.harm.Canary(), c.harm.Baseline()
	check := Check{
		Name: c.name, Critical: c.critical, Unit: "%",
		Value: 100 * rate(canary), Baseline: 100 * rate(baseline), Threshold: 100 * c.margin,
		Samples: canary.Requests, Evidence: finite(c.harm.MaxLogE() / math.Ln10),
	}
	against := fmt.Sprintf("%d of %d requests failed on the canary, %d of %d on the baseline",
		canary.Events, canary.Requests, baseline.Events, baseline.Requests)
	switch {
	case c.err != nil:
		check.Verdict, check.Reason = NoData, c.err.Error()
	case c.harm.Rejects(c.alpha):
		check.Verdict = Bad
		check.Reason = fmt.Sprintf("%s: more than chance explains (p < %.2g at every look)", against, c.harm.PValue())
	case canary.Requests == 0:
		check.Verdict, check.Reason = NoData, "the canary has had no request"
	case c.accept.Accepts(c.beta):
		check.Verdict = Good
		check.Reason = fmt.Sprintf("%s: at most %.2g points more, with %g %% confidence", against, 100*c.accept.UpperBound(c.beta), 100*(1-c.beta))
	default:
		check.Verdict = Undecided
		check.Needed, check.Reason = c.forecast(against)
	}
	return check
}

func (c *ErrorRate) forecast(against string) (needed uint64, reason string) {
	canaryRate, baselineRate := c.accept.Rates()
	f := c.accept.Forecast(c.beta, c.share, canaryRate, baselineRate)
	if !f.Reachable {
		return 0, fmt.Sprintf("%s: not enough to show that it is at most %g points more", against, 100*c.margin)
	}
	return f.CanaryRequests, fmt.Sprintf("%s: about %d more canary requests are needed to show that it is at most %g points more", against, f.CanaryRequests, 100*c.margin)
}

func rate(a sequential.Arm) float64 {
	if a.Requests == 0 {
		return 0
	}
	return float64(a.Events) / float64(a.Requests)
}
