package graph

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
)

// Sample is one element of a query's answer.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Ask answers a query of PromQL, as of the end of the window.
type Ask func(ctx context.Context, query string) ([]Sample, error)

// Observe draws what Istio's metrics tell of the window that ends at that time. What callers' sidecars tell comes first; of callers without a sidecar, the destination's tells.
func Observe(ctx context.Context, ask Ask, by By, at time.Time, window time.Duration) (*Graph, error) {
	g := New(by, at, window)
	for _, q := range observed {
		samples, err := ask(ctx, q.text(window))
		if err != nil {
			return nil, fmt.Errorf("asking for the graph's edges: %w", err)
		}
		for _, s := range samples {
			f := flow(s)
			f.Protocol = q.protocol(f.Protocol)
			g.Add(f)
		}
	}
	return g, g.time(ctx, ask)
}

// query asks for one of the metrics.
type query struct{ metric, selector, by string }

const (
	ends = "source_cluster, source_workload_namespace, source_canonical_service, source_canonical_revision, source_workload, " +
		"destination_cluster, destination_workload_namespace, destination_canonical_service, destination_canonical_revision, destination_workload, destination_service"
	outcome = ends + ", request_protocol, response_code, grpc_response_status, response_flags, connection_security_policy"
)

var observed = []query{
	{"istio_requests_total", `reporter="source"`, outcome},
	{"istio_requests_total", `reporter="destination",source_workload="unknown"`, outcome},
	{"istio_tcp_sent_bytes_total", `reporter="source"`, ends + ", response_flags"},
	{"istio_tcp_sent_bytes_total", `reporter="destination",source_workload="unknown"`, ends + ", response_flags"},
}

func (q query) text(window time.Duration) string {
	return fmt.Sprintf("sum by (%s) (increase(%s{%s}[%s]))", q.by, q.metric, q.selector, promDuration(window))
}

func (q query) protocol(told string) string {
	if strings.HasPrefix(q.metric, "istio_tcp_") {
		return tcp
	}
	return told
}

func promDuration(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// flow reads the labels of a sample.
func flow(s Sample) Flow {
	l := s.Labels
	end := func(side string) Workload {
		w := Workload{known(l[side+"_cluster"]), known(l[side+"_workload_namespace"]), known(l[side+"_canonical_service"]), known(l[side+"_canonical_revision"]), known(l[side+"_workload"])}
		if w.App == "" {
			w.Version = "" // nobody's revision is always the latest
		}
		return w
	}
	return Flow{
		From: end("source"), To: end("destination"), Host: known(l["destination_service"]), Protocol: l["request_protocol"], Count: s.Value,
		Code: l["response_code"], GRPC: l["grpc_response_status"], Flags: l["response_flags"], MTLS: l["connection_security_policy"] == "mutual_tls",
	}
}

func known(value string) string {
	if value == "unknown" {
		return ""
	}
	return value
}

// time finds out how long requests took on each edge.
func (g *Graph) time(ctx context.Context, ask Ask) error {
	names := map[By]string{ByApp: "_canonical_service", ByVersion: "_workload", ByWorkload: "_workload"}
	side := func(end string) string {
		labels := []string{end + "_cluster", end + "_workload_namespace", end + "_canonical_service"}
		if g.By != ByApp {
			labels = append(labels, end+"_canonical_revision", end+names[g.By])
		}
		return strings.Join(labels, ", ")
	}
	samples, err := ask(ctx, fmt.Sprintf(`histogram_quantile(0.95, sum by (le, request_protocol, destination_service, %s, %s) (increase(istio_request_duration_milliseconds_bucket{reporter="source"}[%s])))`,
		side("source"), side("destination"), promDuration(g.Window)))
	if err != nil {
		return fmt.Errorf("asking for the edges' latency: %w", err)
	}
	for _, s := range samples {
		f := flow(s)
		e := g.edges[edgeKey{g.key(f.From, ""), g.key(f.To, f.Host), f.Protocol}]
		if e != nil && !math.IsNaN(s.Value) && !math.IsInf(s.Value, 0) {
			e.P95 = max(e.P95, time.Duration(s.Value*float64(time.Millisecond))) // of several hosts the slowest
		}
	}
	return nil
}
