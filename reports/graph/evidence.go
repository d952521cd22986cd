package graph

import (
	"fmt"
	"strings"
	"time"

	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/journal"
)

// FromEvidence draws what the callers' sidecars told a run, which began at that time. It has requests of HTTP and gRPC, whether they failed and how long they took, and the bytes of TCP connections;
// callers have no version there, and neither has either end of a TCP connection.
func FromEvidence(by By, began time.Time, blocks []journal.Evidence, connections []journal.Connections) (*Graph, error) {
	g := New(by, began, 0)
	var first, last time.Duration
	for i, b := range blocks {
		if len(b.Cells) == 0 {
			continue
		}
		if last == 0 || b.Start < first {
			first = b.Start
		}
		last = max(last, b.End)
		for _, c := range b.Cells {
			f := Flow{From: named(c.From, ""), To: named(c.To, c.Version), Host: c.To, Protocol: http, Count: float64(c.Requests), Failed: float64(min(c.Failed, c.Requests))}
			if len(c.Latency) > 0 {
				f.Latency = &hist.Histogram{}
				if err := f.Latency.AddSparse(c.Latency); err != nil {
					return nil, fmt.Errorf("block %d of the evidence: %w", i, err)
				}
			}
			g.Add(f)
		}
	}
	for _, c := range connections {
		g.Add(Flow{From: named(c.From, ""), To: named(c.To, ""), Host: c.To, Protocol: tcp, Count: float64(c.Sent)})
	}
	g.At, g.Window = began.Add(last), last-first
	return g, nil
}

// named is a workload by the name of an edge's end: a service, or with .NAMESPACE outside the default one; a host outside the mesh has more dots.
func named(name, version string) Workload {
	app, namespace, other := strings.Cut(name, ".")
	switch {
	case !other:
		return Workload{Namespace: defaultNamespace, App: name, Version: version}
	case strings.Contains(namespace, "."):
		return Workload{}
	default:
		return Workload{Namespace: namespace, App: app, Version: version}
	}
}
