package run

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

// minLatencySamples is how many requests there must be beyond a quantile before it can be compared with a limit.
const minLatencySamples = 5

// expectations checks what the author expects, and records every answer.
func (c *conductor) expectations() []finding {
	if c.Plan.Scenario.Expect == nil {
		return nil
	}
	var findings []finding
	for _, e := range c.Plan.Scenario.Expect.Checks {
		check := c.expect(e)
		c.rec.record(journal.Expectation{Check: check})
		findings = append(findings, finding{Verdict(check.Verdict), e.Name + ": " + check.Reason})
	}
	return findings
}

func (c *conductor) expect(e spec.Expectation) journal.Check {
	var check journal.Check
	switch {
	case e.SuccessRate != nil:
		check = c.expectSuccess(*e.SuccessRate)
	case e.TrafficShare != nil:
		check = c.expectShare(*e.TrafficShare)
	case e.Latency != nil:
		check = c.expectLatency(*e.Latency)
	case e.Attempts != nil:
		check = c.expectAttempts(*e.Attempts)
	case e.FanOut != nil:
		check = c.expectFanOut(*e.FanOut)
	case e.Graph != nil:
		check = c.expectGraph(*e.Graph)
	default:
		check = c.expectQuery(e)
	}
	check.Name, check.Critical = e.Name, true
	return check
}

// target is what a proportion is compared with.
type target struct {
	equals, min, max *spec.Percent
	confidence       spec.Percent
}

// compare compares k of n with the target. A proportion that must be all or nothing is exact; any other equality holds when the target lies in the exact binomial
// interval of the declared confidence.
func (t target) compare(what string, k, n uint64) journal.Check {
	check := journal.Check{Unit: "%", Samples: n, Verdict: string(Passed)}
	if n == 0 {
		check.Verdict, check.Reason = string(Inconclusive), "no "+what+" to look at"
		return check
	}
	p := float64(k) / float64(n)
	check.Value = 100 * p
	got := fmt.Sprintf("%d of %d %s, %.2f %%", k, n, what, 100*p)
	switch {
	case t.equals != nil:
		want := t.equals.Share()
		check.Threshold = 100 * want
		confidence := t.confidence.Share()
		interval := sequential.BinomialInterval(k, n, confidence)
		check.Reason = fmt.Sprintf("%s; %.4g %% are expected, the %.4g %% interval is %.2f to %.2f %%", got, 100*want, 100*confidence, 100*interval.Lower, 100*interval.Upper)
		ok := interval.Contains(want)
		if want == 0 || want == 1 {
			ok = p == want
			check.Reason = fmt.Sprintf("%s; exactly %g %% are expected", got, 100*want)
		}
		if !ok {
			check.Verdict = string(Failed)
		}
		return check
	case t.min != nil && p < t.min.Share():
		check.Verdict, check.Threshold = string(Failed), 100*t.min.Share()
		check.Reason = fmt.Sprintf("%s; at least %.4g %% are expected", got, check.Threshold)
	case t.max != nil && p > t.max.Share():
		check.Verdict, check.Threshold = string(Failed), 100*t.max.Share()
		check.Reason = fmt.Sprintf("%s; at most %.4g %% are expected", got, check.Threshold)
	default:
		check.Reason = got
		if t.min != nil {
			check.Threshold = 100 * t.min.Share()
		} else if t.max != nil {
			check.Threshold = 100 * t.max.Share()
		}
	}
	return check
}

func (c *conductor) expectSuccess(e spec.SuccessRate) journal.Check {
	var succeeded, completed uint64
	for _, s := range c.loads {
		if (e.Load != "" && s.Name != e.Load) || s.result == nil {
			continue
		}
		completed += s.result.Completed
		for status, n := range s.result.Statuses {
			if (len(e.Statuses) == 0 && !mesh.Failed(status)) || slices.Contains(e.Statuses, status) {
				succeeded += n
			}
		}
	}
	return target{e.Equals, e.Min, e.Max, e.Confidence}.compare("requests succeeded", min(succeeded, completed), completed)
}

func (c *conductor) expectShare(e spec.TrafficShare) journal.Check {
	all := c.tally.sum(c.logical(e.From), c.logical(e.To), e.Load, "")
	to := c.tally.sum(c.logical(e.From), c.logical(e.To), e.Load, e.Version)
	return target{e.Equals, e.Min, e.Max, e.Confidence}.compare(fmt.Sprintf("requests to %s went to %s", e.To, e.Version), to.requests, all.requests)
}

func (c *conductor) expectAttempts(e spec.Attempts) journal.Check {
	sum := c.tally.sum(c.logical(e.From), c.logical(e.To), e.Load, e.Version)
	check := journal.Check{Samples: sum.requests, Verdict: string(Passed)}
	if sum.requests == 0 {
		check.Verdict, check.Reason = string(Inconclusive), "no requests to look at"
		return check
	}
	check.Value = float64(sum.attempts) / float64(sum.requests)
	check.Reason = fmt.Sprintf("%d requests to %s were sent %d times, %.3f times each", sum.requests, e.To, sum.attempts, check.Value)
	if e.Max != nil {
		check.Threshold = *e.Max
	}
	switch {
	case e.Max != nil && check.Value > *e.Max:
		check.Verdict, check.Reason = string(Failed), check.Reason+fmt.Sprintf("; at most %g are expected", *e.Max)
	case e.Min != nil && check.Value < *e.Min:
		check.Verdict, check.Threshold, check.Reason = string(Failed), *e.Min, check.Reason+fmt.Sprintf("; at least %g are expected", *e.Min)
	}
	return check
}

// asksAbout reports whether an expectation is about what a caller sends.
func (c *conductor) asksAbout(e spec.Expectation, caller string) bool {
	switch {
	case e.TrafficShare != nil:
		return c.isCaller(caller, e.TrafficShare.From, e.TrafficShare.To)
	case e.Attempts != nil:
		return c.isCaller(caller, e.Attempts.From, e.Attempts.To)
	case e.FanOut != nil:
		return c.logical(e.FanOut.Service) == caller
	case e.Graph != nil:
		return true
	default:
		return false
	}
}

// isCaller reports whether a caller is the one that is meant or, when none is named, one of those that call a service.
func (c *conductor) isCaller(caller, from, to string) bool {
	if from != "" {
		return c.logical(from) == caller
	}
	return slices.ContainsFunc(c.Plan.Edges, func(e plan.Edge) bool { return e.From == caller && e.To == c.logical(to) })
}

// logical is the name by which evidence calls a service of the scenario.
func (c *conductor) logical(service string) string {
	if service == "" || service == spec.EdgeName {
		return service
	}
	return mesh.LogicalName(mesh.FQDN(service, c.Plan.Namespace))
}

func (c *conductor) expectLatency(e spec.Latency) journal.Check {
	var all hist.Histogram
	for _, s := range c.loads {
		if (e.Load == "" || s.Name == e.Load) && s.result != nil {
			all.Merge(&s.result.OK.Hist)
		}
	}
	n := all.Count()
	value := all.Quantile(e.Quantile)
	check := journal.Check{Unit: "ms", Samples: n, Value: float64(value.Microseconds()) / 1000, Threshold: float64(e.Max.Microseconds()) / 1000, Verdict: string(Passed)}
	check.Reason = fmt.Sprintf("p%g is %s over %d requests", 100*e.Quantile, value.Round(10*time.Microsecond), n)
	switch {
	case float64(n)*(1-e.Quantile) < minLatencySamples:
		check.Verdict, check.Reason = string(Inconclusive), check.Reason+fmt.Sprintf(": at least %.0f are needed", math.Ceil(minLatencySamples/(1-e.Quantile)))
	case e.Max > 0 && value > e.Max:
		check.Verdict, check.Reason = string(Failed), check.Reason+fmt.Sprintf(", at most %s is expected", e.Max)
	case e.Min > 0 && value < e.Min:
		check.Verdict, check.Reason = string(Failed), check.Reason+fmt.Sprintf(", at least %s is expected", e.Min)
	}
	return check
}

func (c *conductor) expectQuery(e spec.Expectation) journal.Check {
	check := journal.Check{Query: e.Query, Verdict: string(Inconclusive)}
	condition, err := spec.CompileCondition(e.Condition)
	if err != nil {
		check.Reason = err.Error()
		return check
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	value, ok, err := ask(ctx, c.Prometheus, e.Query)
	switch {
	case err != nil:
		check.Reason = err.Error()
		return check
	case !ok:
		check.Reason = "the query has no data"
		return check
	}
	check.Value, check.Samples = value, 1
	holds, err := condition.Holds(value)
	check.Reason = fmt.Sprintf("%s for %g", e.Condition, value)
	switch {
	case err != nil:
		check.Reason = err.Error()
	case holds:
		check.Verdict = string(Passed)
	default:
		check.Verdict, check.Reason = string(Failed), "not "+check.Reason
	}
	return check
}
