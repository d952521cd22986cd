package plan

import (
	"fmt"
	"math"
	"sort"
	"strings"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// phase is a stretch of time in which the route table of the roll-out's service does not change.
type phase struct {
	start, end time.Duration
	table      *mesh.RouteTable
}

// schedule walks through the roll-out's steps on the expected clock, which begins with the load: when each step begins, and how long it takes.
func (b *builder) schedule() {
	if b.plan.Rollout != nil {
		b.walk(b.plan.Rollout)
	}
	b.length = b.loadLength()
	for _, l := range b.scenario.Load {
		s := Stream{Name: l.Name, Target: l.Target, Shape: shape(l), Duration: l.Duration, Load: l}
		if l.Gateway == "" {
			s.Host, s.Port = b.host(l.Target), b.scenario.Services[l.Target].Port
			s.Authority = mesh.HostPort(mesh.LogicalName(s.Host), s.Port)
		} else {
			table := b.entryTable(l)
			s.Target, s.Host, s.Port, s.Authority = l.Host+" through the gateway "+l.Gateway, table.Host, table.Port, l.Host
		}
		if l.Duration == 0 {
			s.Duration, s.UntilEnd = b.length, true
		}
		s.Requests = round(sent(l, 0, s.Duration))
		b.plan.Streams = append(b.plan.Streams, s)
	}
}

// loadLength is the expected time until the last stream ends.
func (b *builder) loadLength() time.Duration {
	var length time.Duration
	if b.plan.Rollout != nil {
		length = b.plan.Rollout.Duration
	}
	for _, l := range b.scenario.Load {
		length = max(length, l.Duration)
	}
	return length
}

func (b *builder) walk(r *Rollout) {
	table := b.plan.Snapshot.Routes[mesh.HostPort(r.Host, r.Port)]
	b.phases = []phase{{end: r.Warmup, table: table}}
	at, weight, canary := r.Warmup, 0, 0.0
	for i, step := range b.scenario.Rollout.Steps {
		s := Step{Number: i + 1, Start: at, Step: step}
		var hold time.Duration
		switch {
		case step.SetWeight != nil:
			weight = *step.SetWeight
			table = r.Split.WithWeights(table, weight)
			s.Text = fmt.Sprintf("send %d%% to %s", weight, r.Canary)
		case step.SetHeaderRoute != nil:
			s.Matches = headerMatches(step.SetHeaderRoute)
			table = r.Split.WithHeaderRoute(table, step.SetHeaderRoute.Name, s.Matches)
			s.Text = headerText(step.SetHeaderRoute, r.Canary)
		case step.Pause != nil && step.Pause.Duration == 0:
			s.Text = "stay paused"
		case step.Pause != nil:
			hold, s.Text = step.Pause.Duration, fmt.Sprintf("wait %s", step.Pause.Duration)
		case step.Analysis != nil:
			hold = b.holdFor(table, at, float64(step.Analysis.MinRequests)-canary, step.Analysis.Timeout)
			s.Text = fmt.Sprintf("wait until %s has had %d requests, at most %s", r.Canary, step.Analysis.MinRequests, step.Analysis.Timeout)
		}
		s.End, s.Weight = at+hold, weight
		canary += b.canaryRequests(table, at, s.End)
		b.phases = append(b.phases, phase{at, s.End, table})
		at = s.End
		r.Steps = append(r.Steps, s)
		if step.Pause != nil && step.Pause.Duration == 0 {
			break // the roll-out stays here
		}
	}
	r.Requests, r.Duration = round(canary), at
}

// canaryRequests is the number of requests that the split sends to the canary on the judged edge between two moments. Those of header routes do not count: they
// are another population.
func (b *builder) canaryRequests(table *mesh.RouteTable, start, end time.Duration) float64 {
	r := b.plan.Rollout
	var n float64
	for _, l := range b.scenario.Load {
		if to := b.follow(table, b.judged, l, r.Host); r.Split.weighted(to.route) {
			n += sent(l, start, end) * b.perRequest(l, b.judged, r.Service) * to.versions[r.Canary]
		}
	}
	return n
}

// holdStep is the resolution of the expected time of an analysis step.
const holdStep = 100 * time.Millisecond

// holdFor is the expected time until the canary has had so many more requests, at most the limit.
func (b *builder) holdFor(table *mesh.RouteTable, at time.Duration, more float64, limit time.Duration) time.Duration {
	if more <= 0 {
		return 0
	}
	const tolerance = 1e-6 // of the sums' rounding
	steps := sort.Search(int(limit/holdStep), func(n int) bool {
		return b.canaryRequests(table, at, at+time.Duration(n)*holdStep) >= more-tolerance
	})
	if steps == int(limit/holdStep) {
		return limit
	}
	return time.Duration(steps) * holdStep
}

func headerText(h *spec.HeaderRoute, canary string) string {
	if len(h.Match) == 0 {
		return fmt.Sprintf("remove the route %s", h.Name)
	}
	var tests []string
	for _, m := range h.Match {
		tests = append(tests, m.HeaderName+" "+matchText(m.HeaderValue))
	}
	return fmt.Sprintf("send requests whose %s to %s (route %s)", strings.Join(tests, " and "), canary, h.Name)
}

func matchText(m spec.StringMatch) string {
	switch {
	case m.Exact != nil:
		return fmt.Sprintf("is %q", *m.Exact)
	case m.Prefix != nil:
		return fmt.Sprintf("begins with %q", *m.Prefix)
	case m.Regex != nil:
		return fmt.Sprintf("matches %q", *m.Regex)
	default:
		return "is there"
	}
}

func round(n float64) int { return int(math.Round(n)) }
