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

// tcpCalls are connections of which sidecars understand no requests, and tell no evidence.
const tcpCalls = `sum by (source_app, source_workload_namespace, destination_service) (istio_tcp_connections_opened_total{reporter="source"}) > 0`

// calls are the edges on which there was traffic.
func (c *conductor) calls(ctx context.Context) (map[mesh.Edge]bool, error) {
	seen := map[mesh.Edge]bool{}
	for k, cell := range c.tally.cells {
		if cell.requests > 0 {
			seen[k.edge] = true
		}
	}
	answer, err := c.own.Instant(ctx, tcpCalls, time.Now())
	if err != nil {
		return nil, fmt.Errorf("asking for connections: %w", err)
	}
	for _, s := range answer.Series {
		from := mesh.LogicalName(mesh.FQDN(s.Labels["source_app"], s.Labels["source_workload_namespace"]))
		seen[mesh.Edge{From: from, To: mesh.LogicalName(s.Labels["destination_service"])}] = true
	}
	return seen, nil
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
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	seen, err := c.calls(ctx)
	switch {
	case err != nil:
		return journal.Check{Verdict: string(Inconclusive), Reason: err.Error()}
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
	var texts []string
	for e := range edges {
		texts = append(texts, e.String())
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}
