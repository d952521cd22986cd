package plan

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// power says, for each check that decides and is judged from the edge's evidence, whether the canary is expected to get enough requests for promotion.
//
// Needed is the smallest number of requests with which even a flawless canary can be shown to be good enough with confidence 1 - beta: when n of n requests are
// good, the share of good ones is above q with that confidence if q^n <= beta (the binomial bound of Clopper and Pearson for no failures, Wilks' formula for a
// quantile).
func (b *builder) power() {
	r := b.plan.Rollout
	if r == nil {
		return
	}
	for _, c := range r.Analysis.Checks {
		if !c.IsBuiltIn() || !c.IsCritical() {
			continue
		}
		w := Power{Check: c.Name, Needed: needed(goodShare(c), r.Analysis.Beta), Have: r.Requests}
		w.Enough = w.Have >= w.Needed
		r.Power = append(r.Power, w)
	}
}

// goodShare is the share of good requests that has to be shown, less what the baseline fails, which is at least nothing.
func goodShare(c spec.Check) float64 {
	threshold := c.Compare == spec.CompareThreshold
	switch {
	case c.Name == spec.CheckDuration && threshold:
		return c.Quantile
	case c.Name == spec.CheckDuration:
		return c.PromoteOn
	case !threshold:
		return 1 - c.MaxDegradation.Share()
	case c.ThresholdRange.Min != nil:
		return c.ThresholdRange.Min.Percent.Share()
	default:
		return 0
	}
}

func needed(share, beta float64) int {
	switch {
	case share <= 0:
		return 1
	case share >= 1:
		return math.MaxInt32 // perfection cannot be shown
	}
	return int(math.Ceil(math.Log(beta) / math.Log(share)))
}

// lint warns of a plan that can run but cannot say what its author hopes.
func (b *builder) lint() {
	s, p := b.scenario, b.plan
	if r := p.Rollout; r != nil {
		b.lintRollout(r)
	} else if len(s.Expect.Checks) == 0 {
		b.warn("MT1509", "", "add a rollout, or checks under expect", "nothing is judged: without a roll-out and without expected checks the run is inconclusive whatever happens")
	}
	b.lintSubsets()
	for i, f := range p.Faults {
		path := "faults[" + strconv.Itoa(b.written[i]) + "]"
		b.lintFault(path, s.Faults[b.written[i]], f)
		for _, other := range p.Faults[:i] {
			if overlap(f, other, b.length) {
				b.warn("MT1506", path, "give them windows, versions or matches that do not overlap",
					"the faults %s and %s are held at the same time on the same edge", other.ID, f.ID)
			}
		}
	}
	for i, d := range p.Disruptions {
		b.lintDisruption("faults["+strconv.Itoa(b.written[len(p.Faults)+i])+"]", d)
	}
	for i, e := range s.Expect.Checks {
		b.lintExpectation("expect.checks["+strconv.Itoa(i)+"]", e)
	}
}

// lintSubsets warns of routes to subsets without instances, which answer with errors.
func (b *builder) lintSubsets() {
	snap := b.plan.Snapshot
	for _, name := range slices.Sorted(maps.Keys(snap.Routes)) {
		for _, r := range snap.Routes[name].Routes {
			for _, d := range r.Split {
				if d.Refuse == 0 && len(b.subsetShares(d)) == 0 {
					b.warn("MT1511", "rules", "correct the subset's labels: instances have app and version",
						"the route %s leads to the subset %s of %s, which selects no instance", r.Name, d.Subset, mesh.LogicalName(d.Host))
				}
			}
		}
	}
}

func (b *builder) lintRollout(r *Rollout) {
	service := b.scenario.Rollout.Service
	flows := false
	for _, l := range b.scenario.Load {
		flows = flows || b.perRequest(l, b.judged, service) > 0
	}
	if !flows {
		b.warn("MT1501", "rollout", "send load to a service that calls it",
			"no load reaches %s from %s by the calls that the scenario declares, so there will be nothing to judge", service, b.judged)
	}
	if total := r.Duration; total > b.plan.Timeout {
		b.warn("MT1504", "timeout", fmt.Sprintf("such as timeout: %s", (total+total/2).Round(time.Second)),
			"the roll-out takes about %s and the run ends after %s", round10ms(total), b.plan.Timeout)
	}
	if r.Expected != spec.OutcomePromoted || !flows {
		return
	}
	for _, w := range r.Power {
		if !w.Enough {
			b.warn("MT1503", "rollout.steps", "more load, larger weights, longer pauses, or a larger maxDegradation",
				"%s cannot be promoted: %s needs at least %d requests to %s even without a single bad one, and about %d are expected", r.Service, w.Check, w.Needed, r.Canary, w.Have)
		}
	}
}

func (b *builder) lintFault(path string, f spec.Fault, planned Fault) {
	flows := false
	for _, l := range b.scenario.Load {
		flows = flows || b.perRequest(l, f.From, f.To) > 0
	}
	switch {
	case !flows:
		b.warn("MT1502", path, "send load that comes that way, or correct from and to",
			"no load flows from %s to %s by the calls that the scenario declares, so the fault will match nothing and the run will be invalid", f.From, f.To)
	case b.lintWindow(path, planned.Window):
	case planned.Blast.Matched < float64(f.MinMatched):
		b.warn("MT1505", path, "a longer window, more load, or a smaller minMatched",
			"the fault is expected to match about %d requests, and fewer than %d make the run invalid", round(planned.Blast.Matched), f.MinMatched)
	}
	if f.Delay == nil {
		return
	}
	for i, l := range b.scenario.Load {
		if b.perRequest(l, f.From, f.To) > 0 && l.Timeout <= f.Delay.FixedDelay {
			b.warn("MT1508", path+".delay.fixedDelay", "a longer timeout of the stream, unless that is what is tested",
				"the delay of %s is not shorter than the timeout of load[%d] (%s), so delayed requests fail", f.Delay.FixedDelay, i, l.Timeout)
		}
	}
}

// lintWindow warns of a window that never opens while load flows, and reports whether it did.
func (b *builder) lintWindow(path string, w Window) bool {
	if w.Start < b.length && (w.End == 0 || w.End > w.Start) {
		return false
	}
	b.warn("MT1510", path+".window", "an earlier window, or a load that lasts longer",
		"the window is over before it begins or begins when the load has ended (after about %s)", round10ms(b.length))
	return true
}

func (b *builder) lintDisruption(path string, d Disruption) {
	switch {
	case b.lintWindow(path, d.Window):
	case d.Kind == spec.FaultPodKill && d.Count > d.Reach.Of:
		b.warn("MT1512", path+".podKill.count", "fewer, or more replicas", "%s has only %d instances", d.Service, d.Reach.Of)
	case d.Kind == spec.FaultScale && d.Reach.Instances == 0 && *d.Replicas*b.versionsOf(d) == d.Reach.Of:
		b.warn("MT1512", path+".scale.replicas", "another number", "%s has %s already, so the fault changes nothing", d.Service, plural(*d.Replicas, "replica"))
	}
}

// versionsOf is how many versions a disruption is about.
func (b *builder) versionsOf(d Disruption) int {
	if d.Version != "" {
		return 1
	}
	return len(b.scenario.Services[d.Service].Versions)
}

// overlap reports whether two faults can hit the same request.
func overlap(a, b Fault, length time.Duration) bool {
	if a.From != b.From || a.To != b.To || (a.Version != b.Version && a.Version != "" && b.Version != "") || a.Match != nil || b.Match != nil {
		return false
	}
	end := func(f Fault) time.Duration {
		if f.Window.End == 0 {
			return length
		}
		return f.Window.End
	}
	return a.Window.Start < end(b) && b.Window.Start < end(a)
}

// tailSamples is the number of requests beyond a quantile that make it more than luck.
const tailSamples = 10

func (b *builder) lintExpectation(path string, e spec.Expectation) {
	if e.Latency == nil {
		return
	}
	for _, s := range b.plan.Streams {
		if beyond := float64(s.Requests) * (1 - e.Latency.Quantile); s.Name == e.Latency.Load && beyond < tailSamples {
			b.warn("MT1507", path+".latency.quantile", "a longer or faster stream, or a lower quantile",
				"the quantile %v of about %d requests rests on %.1f of them", e.Latency.Quantile, s.Requests, beyond)
		}
	}
}

func round10ms(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
