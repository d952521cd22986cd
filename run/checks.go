package run

import (
	"errors"
	"fmt"
	"time"

	"meshtest.dev/meshtest/journal"
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
	maxSlip       = 25 * time.Millisecond // of those that are sent in time
	lateShare     = 0.25                  // of the requests beyond the quantile that is judged, that may be sent later
	leastOnTime   = 0.95                  // of all requests, whatever is judged
	mostOnTime    = 0.99                  // of all requests, whatever is judged
	settlingIn    = 3 * time.Second       // until a sidecar that came must have told something, and have been scraped
)

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
	checks = append(checks, c.faultChecks()...)
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

// checkEvidence: every sidecar told everything, to the end. One that has gone told what it could; that nobody declared it matters if it is one whose view is needed.
func (c *conductor) checkEvidence() (string, bool) {
	if c.blind != nil {
		return c.blind.Error(), false
	}
	ended := c.loadEndedAt()
	told, gone := 0, 0
	for _, m := range c.members {
		switch {
		case c.takenAway(m) != nil:
			gone++
			continue
		case m.gone && c.matters(m):
			return fmt.Sprintf("%s has gone, and no fault was declared that could have taken it away: %s", m.instance(), m.reason), false
		case m.gone:
			gone++
			continue
		case m.joined > max(ended-settlingIn, c.loadBegan):
			continue // it came while load ran, too late to have told anything
		}
		if reason := m.source.gap(ended); reason != "" {
			return reason, false
		}
		told++
	}
	if told == 0 {
		return "no sidecar has told anything", false
	}
	text := fmt.Sprintf("%d sidecars told everything", told)
	if gone > 0 {
		text += fmt.Sprintf(", %d were gone before the end", gone)
	}
	return text, true
}

// gap says what a sidecar that is there has not told; "" when it told everything.
func (s *source) gap(ended time.Duration) string {
	switch {
	case s.failure != nil:
		return fmt.Sprintf("%s: %v", s.instance, s.failure)
	case !s.heard:
		return s.instance + " has told nothing"
	case s.lost > 0:
		return fmt.Sprintf("%d blocks of %s are missing", s.lost, s.instance)
	case s.ended && s.until < ended:
		return fmt.Sprintf("%s ended its evidence %.1f s before the load ended", s.instance, (ended - s.until).Seconds())
	case s.until < ended:
		return fmt.Sprintf("%s fell silent %.1f s before the load ended", s.instance, (ended - s.until).Seconds())
	default:
		return ""
	}
}

// loadEndedAt is the end of the last schedule, on the run's clock: up to a request's distance after the last request.
func (c *conductor) loadEndedAt() time.Duration {
	var end time.Duration
	for _, s := range c.loads {
		if s.result != nil {
			end = max(end, s.result.Start.Sub(c.rec.begin)+s.result.End)
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
// latency said, and no roll-back by comparison. A machine that stops for a moment is not too busy: late may be a quarter of the requests beyond the quantile that is judged, which move it little.
func (c *conductor) checkSchedule() []finding {
	judged, rests := c.restsOnLatency()
	level := min(max(1-(1-judged)*lateShare, leastOnTime), mostOnTime)
	var slip time.Duration
	for _, s := range c.loads {
		if s.result != nil {
			slip = max(slip, s.result.Slip.Quantile(level))
		}
	}
	limit := c.tolerableSlip()
	event := journal.SelfCheck{Name: "schedule", OK: slip <= limit, Reason: fmt.Sprintf("%.3g %% of the requests were sent more than %.1f ms late", 100*(1-level), milliseconds(slip))}
	var findings []finding
	if !event.OK {
		event.Voids = "latency"
		event.Reason += fmt.Sprintf(", at most %.1f ms are tolerable: the machine was too busy to conclude anything from latency", milliseconds(limit))
		if rests {
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

// restsOnLatency reports whether the verdict is concluded from latency in a way that a busy machine falsifies, and the highest quantile that it is concluded from.
func (c *conductor) restsOnLatency() (quantile float64, rests bool) {
	if e := c.Plan.Scenario.Expect; e != nil {
		for _, check := range e.Checks {
			if check.Latency != nil {
				quantile, rests = max(quantile, check.Latency.Quantile), true
			}
		}
	}
	if c.Plan.Rollout == nil {
		return quantile, rests
	}
	for _, check := range c.Plan.Rollout.Analysis.Checks {
		switch {
		case check.Name != spec.CheckDuration || !check.IsCritical():
		case check.Compare == spec.CompareThreshold:
			quantile, rests = max(quantile, check.Quantile), true
		case c.decided.Outcome == rollout.Promoted:
			quantile, rests = max(quantile, check.PromoteOn), true
		}
	}
	return quantile, rests
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// checkProcesses: every application lived to the end, but for the candidate, whose end is its own judgement, and those that a declared disruption took away. A comparison with a version that was not
// there says nothing.
func (c *conductor) checkProcesses() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.Plan.Workloads {
		if c.isCandidate(w.Service, w.Version) {
			continue
		}
		for _, instance := range w.Instances {
			if exit, ended := c.exits[instance]; ended {
				return instance + " ended: " + exit, false
			}
		}
	}
	for _, m := range c.members {
		if m.gone && m.Workload.Service != "" && !c.isCandidate(m.Workload.Service, m.Workload.Version) && c.takenAway(m) == nil {
			return fmt.Sprintf("%s has gone, and no fault was declared that could have taken it away: %s", m.instance(), m.reason), false
		}
	}
	return "every application lived to the end, or was taken away as declared", true
}

func (c *conductor) isCandidate(service, version string) bool {
	r := c.Plan.Rollout
	return r != nil && service == r.Service && version == r.Canary
}

// recordSelfCheck records a self-check that ended the run.
func (c *conductor) recordSelfCheck(err error) {
	var failed selfCheckError
	if errors.As(err, &failed) {
		c.rec.record(journal.SelfCheck{Name: failed.name, OK: false, Reason: failed.reason, Voids: "run"})
	}
}
