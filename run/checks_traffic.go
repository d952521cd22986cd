package run

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/metrics"
)

// scrapeInterval is how often each sidecar's metrics are read.
const scrapeInterval = time.Second

// queryTimeout bounds a query of a self-check or an expectation.
const queryTimeout = 10 * time.Second

// checkJoin: what users felt and what the edge saw add up to the same. A request that the load gave up, or whose connection broke, either side may count differently.
func (c *conductor) checkJoin() (string, bool) {
	if slices.ContainsFunc(c.members, func(m *member) bool { return m.away() && executorName(m.Workload) == env.Edge }) {
		return "not compared: what the edge counted last went with it", true // that it may have gone is asked of the evidence
	}
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
		to := mesh.LogicalName(s.Host)
		if s.Load.Gateway != "" {
			to = "" // its rules say where requests go
		}
		seen := c.tally.sum(env.Edge, to, s.Name, "")
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

// checkKeys: the request key survives the applications on the edges that matter.
func (c *conductor) checkKeys() (string, bool) {
	matter := map[mesh.Edge]bool{}
	if r := c.Plan.Rollout; r != nil {
		matter[r.Edge] = true
	}
	for _, f := range c.faults {
		matter[mesh.Edge{From: f.From, To: f.To}] = true
	}
	for _, m := range c.members {
		for _, edge := range slices.SortedFunc(maps.Keys(m.source.seen), func(a, b mesh.Edge) int { return cmp.Compare(a.String(), b.String()) }) {
			if n := m.source.seen[edge]; matter[edge] && float64(n.Minted) > maxMinted*float64(n.Seen) {
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
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	compared, left := 0, 0
	for _, w := range c.Plan.Workloads {
		if w.External || !w.Protocol.IsHTTP() {
			continue
		}
		if c.vanished(mesh.LogicalName(w.Host)) {
			left++
			continue
		}
		query := fmt.Sprintf(`sum(istio_requests_total{reporter="destination",destination_app=%q,destination_version=%q})`, w.Service, w.Version)
		answered, ok, err := ask(ctx, c.own, query)
		if err != nil {
			return err.Error(), false
		}
		sent := c.tally.sum("", mesh.LogicalName(w.Host), "", w.Version)
		copies, lost, err := c.copies(ctx, mesh.LogicalName(w.Host), w.Version)
		if err != nil {
			return err.Error(), false
		}
		reached := sent.attempts + copies
		blind := sent.byMesh + lost // the callee may or may not have been reached
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
	text := fmt.Sprintf("callers and callees agree about %d versions", compared)
	if left > 0 {
		text += fmt.Sprintf("; %d were not compared, since instances that counted have gone", left)
	}
	return text, true
}

// copies are the requests that sidecars have copied for mirrors of a version: those that were answered, and those of which nothing is known. They are no evidence.
func (c *conductor) copies(ctx context.Context, to, version string) (answered, lost uint64, err error) {
	for outcome, n := range map[string]*uint64{"answered": &answered, "failed": &lost} {
		sum, _, err := ask(ctx, c.own, fmt.Sprintf(`sum(meshtest_sidecar_mirrored_total{outcome=%q,to=%q,version=%q})`, outcome, to, version))
		if err != nil {
			return 0, 0, err
		}
		*n = uint64(sum)
	}
	return answered, lost, nil
}

// checkMetrics: the metrics of every sidecar that is there were there to be queried.
func (c *conductor) checkMetrics() (string, bool) {
	health := map[string]metrics.Health{}
	for _, h := range c.scraper.Health() {
		health[h.Labels["instance"]] = h
	}
	ended, scraped := c.loadEndedAt(), 0
	for _, m := range c.members {
		if m.away() || m.joined > ended-settlingIn {
			continue
		}
		switch h := health[m.instance()]; {
		case h.Scrapes == h.Failed:
			return fmt.Sprintf("the metrics of %s were never scraped: %v", m.instance(), h.LastErr), false
		case time.Since(h.LastOK) > 3*scrapeInterval+time.Second:
			return fmt.Sprintf("the metrics of %s were scraped for the last time %.1f s ago: %v", m.instance(), time.Since(h.LastOK).Seconds(), h.LastErr), false
		case h.Rejected > 0:
			return fmt.Sprintf("%d samples of %s were refused", h.Rejected, m.instance()), false
		}
		scraped++
	}
	return fmt.Sprintf("%d sidecars were scraped", scraped), true
}
