package proxy

import (
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/upstream"
)

// Clusters is the answer to /clusters.
type Clusters struct {
	Endpoints    map[string]*mesh.Endpoints   `json:"endpoints"`
	Pools        []upstream.Stats             `json:"pools"`
	Destinations []upstream.DestinationStats  `json:"destinations"` // that were ever connected to, and are in force or have something yet
	Health       []upstream.DestinationHealth `json:"health"`       // of those with outlier detection or health checks
}

func (s *Server) clusters() Clusters {
	return Clusters{
		Endpoints: s.config.Load().snapshot.Endpoints, Pools: append(s.pools.Stats(), s.apps.Stats()...), Destinations: s.pools.Destinations(), Health: s.pools.Health(),
	}
}

// appendStats appends the sidecar's own metrics.
func (s *Server) appendStats(b []byte) []byte {
	return s.upstreams().AppendText(s.opts.Counters.AppendText(b))
}

// upstreams tells what is known of destinations and their endpoints, by Envoy's names. What is limited is counted by destination; what happened to endpoints is counted of all together, since what
// is known of those of one destination is forgotten when the configuration has it no more.
func (s *Server) upstreams() *telemetry.Counters {
	told := &telemetry.Counters{}
	t := s.pools.HealthTotals()
	for kind, n := range t.Ejections {
		told.Counter("outlier_detection_ejections_enforced_total", "type", upstream.Ejection(kind).String()).Add(n)
	}
	told.Counter("outlier_detection_ejections_overflow_total").Add(t.Overflows)
	told.Counter("health_check_attempt_total").Add(t.Checks)
	told.Counter("health_check_success_total").Add(t.Passed)
	told.Counter("health_check_failure_total").Add(t.Failed)
	gauge := func(name, destination string, value int) {
		told.Gauge(func() float64 { return float64(value) }, name, "destination", destination)
	}
	for _, h := range s.pools.Health() {
		gauge("outlier_detection_ejections_active", h.Destination, h.Ejected)
		gauge("membership_total", h.Destination, len(h.Endpoints))
		gauge("membership_healthy", h.Destination, h.Healthy)
	}
	for _, d := range s.pools.Destinations() {
		told.Counter("upstream_cx_overflow_total", "destination", d.Name).Add(d.CxOverflow)
		told.Counter("upstream_rq_pending_overflow_total", "destination", d.Name).Add(d.PendingOverflow)
		told.Counter("upstream_rq_retry_overflow_total", "destination", d.Name).Add(d.RetryOverflow)
		gauge("upstream_cx_active", d.Name, d.Connections)
		gauge("upstream_rq_pending_active", d.Name, d.Pending)
	}
	return told
}
