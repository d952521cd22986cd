package proxy

import (
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// counts are the server's own counters, resolved beforehand.
type counts struct {
	accepted [numWays]*telemetry.Counter
	refused  byReason // requests and connections that were refused, by reason
	copies   copies   // requests that were copied for mirrors
	closed   byReason // connections that were closed without an answer, by reason
	ended    byReason // connections and streams of HTTP/2 that ended because of an upstream, by reason
	bad      [http1.NumReasons]*telemetry.Counter
	retries  *telemetry.Counter
	budget   *telemetry.Counter // retries that the budget did not allow
	stale    *telemetry.Counter // requests repeated because a kept connection had died
	panics   *telemetry.Counter
	cut      *telemetry.Counter // requests and tunnels that the end of the drain cut
	probes   *telemetry.Counter // requests of the kubelet and of health checks to the workload
}

// byReason counts by reason; reasons are few and known.
type byReason struct {
	counters *telemetry.Counters
	name     string
	label    string
}

func (b byReason) with(reason string) *telemetry.Counter {
	return b.counters.Counter(b.name, b.label, reason)
}

// copies counts copies for mirrors: by what became of them, the service that they were for, and the version that they were sent to, which is empty when nobody was chosen. They are no
// evidence, but whoever compares what a service was sent with what it says it got must know of them.
type copies struct{ counters *telemetry.Counters }

func (c copies) with(outcome, to, version string) *telemetry.Counter {
	return c.counters.Counter("mirrored_total", "outcome", outcome, "to", to, "version", version)
}

func (c *counts) init(all *telemetry.Counters) {
	for i := range c.accepted {
		c.accepted[i] = all.Counter("connections_total", "listener", way(i).String())
	}
	c.refused = byReason{all, "refused_total", "reason"}
	c.closed = byReason{all, "closed_total", "reason"}
	c.ended = byReason{all, "upstream_closed_total", "reason"}
	c.copies = copies{all}
	for i, e := range http1.Reasons(http1.Request) {
		c.bad[i] = all.Counter("refused_total", "reason", e.Reason)
	}
	c.retries = all.Counter("retries_total")
	c.budget = all.Counter("retry_overflow_total")
	c.stale = all.Counter("stale_connections_total")
	c.panics = all.Counter("panics_total")
	c.cut = all.Counter("cut_total")
	c.probes = all.Counter("probes_total")
}
