package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/metrics/promql"
	"meshtest.dev/meshtest/rollout"
	"meshtest.dev/meshtest/spec"
)

// Limits of the self-checks. A run that is outside them has not seen what it judges.
const (
	minAchieved   = 0.98 // of the requests that the schedule has
	maxMinted     = 0.01 // of the requests on an edge that is judged or faulted
	maxDisagree   = 0.02 // between two counts of the same requests
	disagreeSlack = 10   // requests under way when one was counted and the other was not
	faultSurprise = 0.9999
	maxSlip       = 25 * time.Millisecond // p99 of how late requests were sent
)

// Query answers a PromQL query now.
func (c *conductor) Query(ctx context.Context, query string) (float64, bool, error) {
	value, err := c.engine.Instant(ctx, query, time.Now())
	if err != nil {
		return 0, false, err
	}
	n, found := value.One()
	switch found {
	case promql.Number:
		return n, true, nil
	case promql.Many:
		return 0, false, fmt.Errorf("the query has more than one value: aggregate it, with sum() or max()")
	default:
		return 0, false, nil
	}
}

// selfCheck is one check of the run itself.
type selfCheck struct {
	name string
	do   func() (reason string, ok bool)
}

// selfChecks asks whether the evidence can be believed, and records every answer.
func (c *conductor) selfChecks() []finding {
	checks := []selfCheck{{"evidence", c.checkEvidence}, {"load", c.checkLoad}, {"load-joins-edge", c.checkJoin}, {"request-keys", c.checkKeys}, {"processes", c.checkProcesses}}
	if c.Plan.Rollout != nil {
		checks = append(checks, selfCheck{"split", c.checkSplit})
	}
	checks = append(checks, selfCheck{"versions", c.checkVersions}, selfCheck{"metrics", c.checkMetrics})
	for _, f := range c.faults {
		if f.ever {
			checks = append(checks, selfCheck{"fault " + f.ID, func() (string, bool) { return c.checkFault(f) }})
		} else {
			c.rec.record(journal.Fault{ID: f.ID, What: faultKind(f.Fault.Fault), Text: faultText(f.Fault.Fault), State: journal.FaultNotReached})
			if !c.rolledBack() {
				checks = append(checks, selfCheck{"fault " + f.ID, func() (string, bool) { return "its window was never reached, so it acted on nothing", false }})
			}
		}
	}
	findings := c.checkSchedule()
	for _, check := range checks {
		reason, ok := check.do()
		event := journal.SelfCheck{Name: check.name, OK: ok, Reason: reason}
		if !ok {
			event.Voids = "run"
			findings = append(findings, finding{Invalid, check.name + ": " + reason})
		}
		c.rec.record(event)
	}
	return findings
}

// checkEvidence: every sidecar told everything, to the end.
func (c *conductor) checkEvidence() (string, bool) {
	ended := c.loadEndedAt()
	for _, name := range slices.Sorted(maps.Keys(c.sources)) {
		switch src := c.sources[name]; {
		case src.failure != nil:
			return fmt.Sprintf("%s: %v", name, src.failure), false
		case !src.heard:
			return name + " has told nothing", false
		case src.lost > 0:
			return fmt.Sprintf("%d blocks of %s are missing", src.lost, name), false
		case src.until < ended:
			return fmt.Sprintf("%s fell silent %.1f s before the load ended", name, (ended - src.until).Seconds()), false
		}
	}
	return fmt.Sprintf("%d sidecars told everything", len(c.sources)), true
}

// loadEndedAt is the end of the last schedule: up to a request's distance after the last request.
func (c *conductor) loadEndedAt() time.Duration {
	var end time.Duration
	for _, s := range c.loads {
		if s.result != nil {
			end = max(end, c.loadBegan+s.result.End)
		}
	}
	return end
}

// checkLoad: the load that was planned is the load that was sent.
func (c *conductor) checkLoad() (string, bool) {
	var scheduled, sent uint64
	for _, s := range c.loads {
		switch r := s.result; {
		case s.err != nil:
			return fmt.Sprintf("%s: %v", s.Name, s.err), false
		case r == nil:
			return s.Name + " never ended", false
		case r.Scheduled == 0:
			return s.Name + " had nothing to send", false
		case r.Achieved() < minAchieved:
			return fmt.Sprintf("%s sent %d of %d requests (%.1f %%, at least %g %% are needed)", s.Name, r.Sent, r.Scheduled, 100*r.Achieved(), 100*minAchieved), false
		case r.Completed == 0:
			return s.Name + " had no answer", false
		default:
			scheduled += r.Scheduled
			sent += r.Sent
		}
	}
	if scheduled == 0 {
		return "there was no load", false
	}
	return fmt.Sprintf("%d of %d requests were sent", sent, scheduled), true
}

// checkSchedule: requests were sent when they were meant to be. A machine that is too busy for that adds to every latency. That hides a slow canary, since what is added to both versions makes their ratio
// smaller, and it breaks fixed limits; it cannot make a canary look slower than a baseline beside it. So it voids a promotion that rests on a comparison of latency, whatever a fixed limit on
// latency said, and no roll-back by comparison.
func (c *conductor) checkSchedule() []finding {
	var slip time.Duration
	for _, s := range c.loads {
		if s.result != nil {
			slip = max(slip, s.result.Slip.Quantile(.99))
		}
	}
	limit := c.tolerableSlip()
	event := journal.SelfCheck{Name: "schedule", OK: slip <= limit, Reason: fmt.Sprintf("one request in a hundred was sent more than %.1f ms late", milliseconds(slip))}
	var findings []finding
	if !event.OK {
		event.Voids = "latency"
		event.Reason += fmt.Sprintf(", at most %.1f ms are tolerable: the machine was too busy to conclude anything from latency", milliseconds(limit))
		if c.restsOnLatency() {
			findings = append(findings, finding{Invalid, "schedule: " + event.Reason})
		}
	}
	c.rec.record(event)
	return findings
}

// tolerableSlip is [maxSlip] or, where latencies are longer, what could not hide a canary that is slower by half: as much as the baseline's quantile.
func (c *conductor) tolerableSlip() time.Duration {
	limit := maxSlip
	for _, check := range c.decided.Judgement.Checks {
		if check.Unit == "ms" && check.Baseline > 0 {
			limit = max(limit, time.Duration(check.Baseline*float64(time.Millisecond)))
		}
	}
	return limit
}

// restsOnLatency reports whether the verdict is concluded from latency in a way that a busy machine falsifies.
func (c *conductor) restsOnLatency() bool {
	if e := c.Plan.Scenario.Expect; e != nil && slices.ContainsFunc(e.Checks, func(e spec.Expectation) bool { return e.Latency != nil }) {
		return true
	}
	if c.Plan.Rollout == nil {
		return false
	}
	for _, check := range c.Plan.Rollout.Analysis.Checks {
		if check.Name != spec.CheckDuration || !check.IsCritical() {
			continue
		}
		if check.Compare == spec.CompareThreshold || c.decided.Outcome == rollout.Promoted {
			return true
		}
	}
	return false
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// checkJoin: what users felt and what the edge saw add up to the same. A request that the load gave up, or whose connection broke, either side may count differently.
func (c *conductor) checkJoin() (string, bool) {
	for _, s := range c.loads {
		if s.result == nil {
			continue
		}
		var blind, felt, failed uint64
		for _, n := range s.result.Errors {
			blind += n
		}
		for status, n := range s.result.Statuses {
			felt += n
			if mesh.Failed(status) {
				failed += n
			}
		}
		seen := c.tally.sum("edge", mesh.LogicalName(s.Host), s.Name, "")
		if disagree(seen.requests, felt, blind) {
			return fmt.Sprintf("%s: the load had %d answers and %d requests without one, the edge saw %d requests", s.Name, felt, blind, seen.requests), false
		}
		if disagree(seen.failed, failed, blind) {
			return fmt.Sprintf("%s: the load saw %d failures and %d requests without an answer, the edge saw %d failures", s.Name, failed, blind, seen.failed), false
		}
	}
	return "the load and the edge count the same requests and failures", true
}

// disagree reports whether two counts of the same requests differ by more than what was under way when one was taken, and what one side cannot know.
func disagree(a, b, blind uint64) bool {
	difference := max(a, b) - min(a, b)
	return difference > disagreeSlack+blind && float64(difference) > maxDisagree*float64(max(a, b))
}

// checkProcesses: every application lived to the end, but for the candidate, whose end is its own judgement. A comparison with a version that was not there says nothing.
func (c *conductor) checkProcesses() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.Plan.Workloads {
		if r := c.Plan.Rollout; r != nil && w.Service == r.Service && w.Version == r.Canary {
			continue
		}
		for _, instance := range w.Instances {
			if exit, ended := c.exits[instance]; ended {
				return instance + " ended: " + exit, false
			}
		}
	}
	return "every application lived to the end", true
}

// checkKeys: the request key survives the applications on the edges that matter.
func (c *conductor) checkKeys() (string, bool) {
	matter := map[mesh.Edge]bool{}
	if r := c.Plan.Rollout; r != nil {
		matter[r.Edge] = true
	}
	for _, f := range c.faults {
		matter[mesh.Edge{From: f.From, To: f.To}] = true
	}
	for _, src := range c.sources {
		for edge, n := range src.seen {
			if matter[edge] && float64(n.Minted) > maxMinted*float64(n.Seen) {
				return fmt.Sprintf("%d of %d requests on %s came without %s: an application in front of it drops the header", n.Minted, n.Seen, edge, mesh.HeaderRequestID), false
			}
		}
	}
	return "request keys arrive", true
}

// checkSplit: the versions got what the run asked for.
func (c *conductor) checkSplit() (string, bool) {
	switch {
	case c.splits.wrong != "":
		return c.splits.wrong, false
	case c.mixture.LogE() >= -math.Log(sequential.SplitAlpha):
		// One look, at the end: before, the requests that are still under way are missing, and of a slow version more than of a fast one.
		return fmt.Sprintf("the versions did not get the requests that the weights say (p < %.2g)", math.Exp(-c.mixture.LogE())), false
	default:
		return "the versions got what the weights say", true
	}
}

// checkVersions: callers and callees agree on who answered. The callee's sidecar knows its own version; the caller's has it from configuration.
func (c *conductor) checkVersions() (string, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), healTimeout)
	defer cancel()
	compared := 0
	for _, w := range c.Plan.Workloads {
		if w.External || w.Protocol != mesh.HTTP {
			continue
		}
		query := fmt.Sprintf(`sum(istio_requests_total{reporter="destination",destination_app=%q,destination_version=%q})`, w.Service, w.Version)
		answered, ok, err := c.Query(ctx, query)
		if err != nil {
			return err.Error(), false
		}
		sent := c.tally.sum("", mesh.LogicalName(w.Host), "", w.Version)
		reached := sent.attempts
		blind := sent.byMesh // the mesh answered: the callee may or may not have been reached
		for _, f := range c.faults {
			if f.At == mesh.AtAttempt && f.To == mesh.LogicalName(w.Host) {
				blind += f.total().Aborted // counted as attempts, and never sent
			}
		}
		if !ok && reached > disagreeSlack+blind {
			return fmt.Sprintf("callers sent %d requests to %s, and its sidecars report none", reached, w.Name), false
		}
		if disagree(uint64(answered), reached, blind) {
			return fmt.Sprintf("callers sent %d requests to %s, its own sidecars counted %.0f", reached, w.Name, answered), false
		}
		compared++
	}
	return fmt.Sprintf("callers and callees agree about %d versions", compared), true
}

// checkMetrics: every sidecar's metrics were there to be queried.
func (c *conductor) checkMetrics() (string, bool) {
	health := c.scraper.Health()
	for _, h := range health {
		switch {
		case h.Scrapes == h.Failed:
			return fmt.Sprintf("the metrics of %s were never scraped: %v", h.Labels["instance"], h.LastErr), false
		case time.Since(h.LastOK) > 3*scrapeInterval+time.Second:
			return fmt.Sprintf("the metrics of %s were scraped for the last time %.1f s ago: %v", h.Labels["instance"], time.Since(h.LastOK).Seconds(), h.LastErr), false
		case h.Rejected > 0:
			return fmt.Sprintf("%d samples of %s were refused", h.Rejected, h.Labels["instance"]), false
		}
	}
	if len(health) < len(c.sidecars) {
		return fmt.Sprintf("%d of %d sidecars were scraped", len(health), len(c.sidecars)), false
	}
	return fmt.Sprintf("%d sidecars were scraped", len(health)), true
}

// checkFault: the fault hit what it was to hit, as often as it was to, and is over.
func (c *conductor) checkFault(f *faultRun) (string, bool) {
	total := f.total()
	switch {
	case f.refused != nil:
		return f.refused.Error(), false
	case len(c.holdersOf(f)) == 0:
		return "no sidecar executes it", false
	case f.lapsed != "":
		return fmt.Sprintf("its lease lapsed at %s: nobody renewed it", f.lapsed), false
	case len(f.accounts) == 0:
		return "no sidecar ever held it", false
	case total.Matched < f.MinMatched && !c.rolledBack():
		return fmt.Sprintf("it matched %d requests, at least %d are needed: it had nothing to act on", total.Matched, f.MinMatched), false
	case len(f.settled) < len(c.holdersOf(f)):
		return "it is not known to be over", false
	case total.Active > 0:
		return fmt.Sprintf("%d of its effects outlived it", total.Active), false
	}
	if reason := c.faultDeeds(f, total); reason != "" {
		return reason, false
	}
	return fmt.Sprintf("matched %d, injected %d, over", total.Matched, total.Injected()), true
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
	if f.At != mesh.AtRequest || f.Abort == nil || !mesh.Failed(f.Abort.Status) {
		return ""
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

// account works out what the mesh itself used while load ran.
func (c *conductor) account() {
	if c.usage == nil || c.mesh == nil {
		return
	}
	now := c.mesh.Usage()
	cost := journal.Cost{Sidecars: len(c.sidecars)}
	for _, s := range c.sidecars {
		after, alive := now[s.Process]
		if !alive {
			continue
		}
		cost.CPU += after.CPU - c.usage[s.Process].CPU
		cost.RSS += after.RSS
	}
	for _, cell := range c.tally.cells {
		cost.Requests += cell.requests + cell.attempts // at the caller's sidecar and at the callee's
	}
	if cost.Requests > 0 {
		cost.PerThousand = time.Duration(float64(cost.CPU) / float64(cost.Requests) * 1000)
	}
	c.cost = &cost
	c.rec.record(cost)
}

// recordSelfCheck records a self-check that ended the run.
func (c *conductor) recordSelfCheck(err error) {
	var failed selfCheckError
	if errors.As(err, &failed) {
		c.rec.record(journal.SelfCheck{Name: failed.name, OK: false, Reason: failed.reason, Voids: "run"})
	}
}
