package run

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// connect works out, once the metrics have been read for the last time, which connections there were of which sidecars understand no requests and tell no evidence.
func (c *conductor) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	all := map[mesh.Edge]*journal.Connections{}
	for metric, of := range map[string]func(*journal.Connections) *uint64{
		"istio_tcp_connections_opened_total": func(j *journal.Connections) *uint64 { return &j.Opened },
		"istio_tcp_received_bytes_total":     func(j *journal.Connections) *uint64 { return &j.Received },
		"istio_tcp_sent_bytes_total":         func(j *journal.Connections) *uint64 { return &j.Sent },
	} {
		answer, err := c.own.Instant(ctx, fmt.Sprintf(`sum by (source_app, source_workload_namespace, destination_service) (%s{reporter="source"})`, metric), time.Now())
		if err != nil {
			return fmt.Errorf("asking for connections: %w", err)
		}
		for _, s := range answer.Series {
			from := mesh.LogicalName(mesh.FQDN(s.Labels["source_app"], s.Labels["source_workload_namespace"]))
			e := mesh.Edge{From: from, To: mesh.LogicalName(s.Labels["destination_service"])}
			if all[e] == nil {
				all[e] = &journal.Connections{From: e.From, To: e.To}
			}
			*of(all[e]) += uint64(s.Points[len(s.Points)-1].V)
		}
	}
	byName := func(a, b mesh.Edge) int { return strings.Compare(a.String(), b.String()) }
	for _, e := range slices.SortedFunc(maps.Keys(all), byName) {
		c.connections = append(c.connections, *all[e])
		c.rec.record(*all[e])
	}
	return nil
}

// calls are the edges on which there was traffic.
func (c *conductor) calls() map[mesh.Edge]bool {
	seen := map[mesh.Edge]bool{}
	for k, cell := range c.tally.cells {
		if cell.requests > 0 {
			seen[k.edge] = true
		}
	}
	for _, j := range c.connections {
		if j.Opened > 0 {
			seen[mesh.Edge{From: j.From, To: j.To}] = true
		}
	}
	return seen
}

// dependenciesOf are the edges that a service depends on: its own, those of whom it calls, and so on.
func dependenciesOf(name string, edges map[mesh.Edge]bool) map[mesh.Edge]bool {
	part, reached := map[mesh.Edge]bool{}, map[string]bool{name: true}
	for waiting := []string{name}; len(waiting) > 0; waiting = waiting[1:] {
		for e := range edges {
			if e.From != waiting[0] {
				continue
			}
			part[e] = true
			if !reached[e.To] {
				reached[e.To] = true
				waiting = append(waiting, e.To)
			}
		}
	}
	return part
}

// expectGraph compares who called whom with what is expected.
func (c *conductor) expectGraph(e spec.Graph) journal.Check {
	seen := c.calls()
	switch {
	case c.untold != nil:
		return journal.Check{Verdict: string(Inconclusive), Reason: c.untold.Error()}
	case len(seen) == 0:
		return journal.Check{Verdict: string(Inconclusive), Reason: "there was no traffic"}
	case e.Of != "":
		seen = dependenciesOf(c.logical(e.Of), seen)
	}
	want := map[mesh.Edge]bool{}
	for caller, callees := range e.Calls {
		for _, callee := range callees {
			want[mesh.Edge{From: c.logical(caller), To: c.calledName(callee)}] = true
		}
	}
	check := journal.Check{Unit: "calls", Value: float64(len(seen)), Threshold: float64(len(want)), Samples: uint64(len(seen)), Verdict: string(Passed)}
	check.Reason = edgesText(seen)
	var wrong []string
	if missing := without(want, seen); len(missing) > 0 {
		wrong = append(wrong, "not seen: "+edgesText(missing))
	}
	if more := without(seen, want); len(more) > 0 {
		wrong = append(wrong, "not expected: "+edgesText(more))
	}
	if len(wrong) > 0 {
		check.Verdict, check.Reason = string(Failed), strings.Join(wrong, "; ")
	}
	return check
}

// calledName is how evidence calls a service, an external one, or a host outside the mesh.
func (c *conductor) calledName(name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return c.logical(name)
}

// without are the edges of one set that are not in another.
func without(all, others map[mesh.Edge]bool) map[mesh.Edge]bool {
	rest := maps.Clone(all)
	maps.DeleteFunc(rest, func(e mesh.Edge, _ bool) bool { return others[e] })
	return rest
}

func edgesText(edges map[mesh.Edge]bool) string {
	if len(edges) == 0 {
		return "nobody calls anybody"
	}
	var texts []string
	for e := range edges {
		texts = append(texts, e.String())
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}
