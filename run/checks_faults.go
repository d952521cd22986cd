package run

import (
	"fmt"
	"slices"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/rollout"
)

// faultChecks are those of everything that was to break. What was never reached is noted; only a roll-back excuses it.
func (c *conductor) faultChecks() []selfCheck {
	var checks []selfCheck
	add := func(id string, ever bool, missed journal.Fault, check func() (string, bool)) {
		if !ever {
			c.rec.record(missed)
			if c.rolledBack() {
				return
			}
			check = func() (string, bool) { return "its window was never reached, so it acted on nothing", false }
		}
		checks = append(checks, selfCheck{"fault " + id, check})
	}
	for _, f := range c.faults {
		add(f.ID, f.ever, f.event(journal.FaultNotReached), func() (string, bool) { return c.checkFault(f) })
	}
	for _, d := range c.disruptions {
		add(d.ID, d.ever, d.event(journal.FaultNotReached), func() (string, bool) { return c.checkDisruption(d) })
	}
	return checks
}

// checkFault: the fault hit what it was to hit, as often as it was to, and is over.
func (c *conductor) checkFault(f *faultRun) (string, bool) {
	total := f.total()
	switch {
	case f.refused != nil:
		return f.refused.Error(), false
	case !c.executedBySomeone(f):
		return "no sidecar executes it", false
	case f.lapsed != "":
		return fmt.Sprintf("its lease lapsed at %s: nobody renewed it", f.lapsed), false
	case len(f.accounts) == 0:
		return "no sidecar ever held it", false
	case total.Matched < f.MinMatched && !c.rolledBack():
		return fmt.Sprintf("it matched %d requests, at least %d are needed: it had nothing to act on", total.Matched, f.MinMatched), false
	case f.unsettled() > 0:
		return "it is not known to be over", false
	case total.Active > 0:
		return fmt.Sprintf("%d of its effects outlived it", total.Active), false
	}
	if reason := c.faultDeeds(f, total); reason != "" {
		return reason, false
	}
	return fmt.Sprintf("matched %d, injected %d, over", total.Matched, total.Injected()), true
}

// executedBySomeone reports whether a sidecar executes the fault, or did before it went.
func (c *conductor) executedBySomeone(f *faultRun) bool {
	return slices.ContainsFunc(c.members, func(m *member) bool { return m.holder != nil && executorName(m.Workload) == f.From })
}

func (c *conductor) rolledBack() bool {
	return c.machine != nil && c.machine.Outcome() == rollout.RolledBack
}

// faultDeeds says how what a fault did contradicts what it was to do; "" when it does not.
func (c *conductor) faultDeeds(f *faultRun, total mesh.Accounting) string {
	byChance := f.First == 0 && f.Every == 0
	switch done := total.Delayed + total.Overflow; {
	case !byChance && total.Matched > 0 && total.Injected()+total.Overflow == 0:
		return fmt.Sprintf("it did nothing to any of the %d requests that it matched", total.Matched)
	case byChance && f.Delay != nil && !sequential.ProportionWithin(done, total.Matched, f.Delay.Share, faultSurprise):
		return fmt.Sprintf("it delayed %d of %d requests, and %.4g %% were to be", done, total.Matched, 100*f.Delay.Share)
	case byChance && f.Abort != nil && f.Delay == nil && !sequential.ProportionWithin(total.Aborted, total.Matched, f.Abort.Share, faultSurprise):
		return fmt.Sprintf("it aborted %d of %d requests, and %.4g %% were to be", total.Aborted, total.Matched, 100*f.Abort.Share)
	}
	if f.At != mesh.AtRequest || f.Abort == nil || !mesh.Failed(f.Abort.Status) || slices.ContainsFunc(c.members, func(m *member) bool { return m.away() && executorName(m.Workload) == f.From }) {
		return "" // callers saw no failure, or took what they saw last with them
	}
	// Callers cannot tell one fault of an edge from another, so all of them together have to be what callers saw.
	var aborted uint64
	for _, other := range c.faults {
		if other.From != f.From || other.To != f.To || other.Abort == nil {
			continue
		}
		if other.At != mesh.AtRequest || !mesh.Failed(other.Abort.Status) {
			return "" // what it did may have been repeated, or is no failure
		}
		aborted += other.total().Aborted
	}
	if seen := c.tally.sum(f.From, f.To, "", "").byFault; disagree(seen, aborted, 0) || (seen == 0 && aborted > 0) {
		return fmt.Sprintf("faults say that they aborted %d requests from %s to %s, and callers saw %d", aborted, f.From, f.To, seen)
	}
	return ""
}
