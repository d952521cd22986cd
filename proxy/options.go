package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/zipkin"
)

// Options are what a server is made with. Only Workload is needed; the zero value of any other field means its default.
type Options struct {
	Workload  mesh.Workload // whom the sidecar stands beside; its Instance names the Inbound resource to obey
	EdgeToken string        // proves to an edge that the run's own load is calling; empty: nobody can
	Filters   []Filter      // the chain, for requests on their way out

	Metrics  *telemetry.Metrics  // default: one of the server's own, see MetricsOptions
	Counters *telemetry.Counters // default: the server's own
	Evidence *telemetry.Evidence // default: none is kept
	// AccessLog and Spans are told of requests; default: nobody is. Their owner runs them.
	AccessLog *telemetry.AccessLog
	Spans     *zipkin.Exporter
	Log       *slog.Logger // default: none

	Limits   *http1.Limits // of message heads; default: http1.DefaultLimits
	Timeouts Timeouts
	// MaxConnections bounds the downstream connections, in all; default 10,000, as Envoy advises for a listener. One more is answered 503.
	MaxConnections int
	MaxStreams     uint32 // of one connection of HTTP/2; default 100
	// TraceShare is the share of traces without a sampling decision that are marked as sampled, unless the configuration says another one; default 0.01, as in Istio; below 0: none.
	TraceShare float64

	Dial    func(ctx context.Context, address string) (net.Conn, error) // default: TCP
	DialApp func(ctx context.Context, address string) (net.Conn, error) // the workload itself; default: Dial
	// OriginalDst tells where a connection was going that the kernel redirected here, or for one that it did not redirect, here; nil: there is no telling, and a configuration with captured traffic is refused.
	OriginalDst func(net.Conn) (netip.AddrPort, error)
}

// Timeouts bound how long a connection may make others wait. The zero value of a field means its default.
type Timeouts struct {
	Header       time.Duration // a whole request head, from its first byte; default 10 s
	Idle         time.Duration // a connection between requests; default 60 s
	Stream       time.Duration // a request, or its answer, without any progress; default 5 min, as in Envoy
	Tunnel       time.Duration // a tunnel or TCP connection without any progress; default 1 h, as in Envoy
	Drain        time.Duration // requests in flight when the server stops; default 5 s, as in Istio
	UpstreamIdle time.Duration // an unused connection to an endpoint; default 30 s
}

func (o Options) withDefaults() Options {
	if o.Metrics == nil {
		o.Metrics = telemetry.NewMetrics(MetricsOptions())
	}
	if o.Counters == nil {
		o.Counters = &telemetry.Counters{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Limits == nil {
		o.Limits = http1.DefaultLimits()
	}
	if o.DialApp == nil {
		o.DialApp = o.Dial
	}
	o.MaxConnections = cmp.Or(o.MaxConnections, 10_000)
	o.TraceShare = cmp.Or(o.TraceShare, 0.01)
	t := &o.Timeouts
	t.Header = cmp.Or(t.Header, 10*time.Second)
	t.Idle = cmp.Or(t.Idle, time.Minute)
	t.Stream = cmp.Or(t.Stream, 5*time.Minute)
	t.Tunnel = cmp.Or(t.Tunnel, time.Hour)
	t.Drain = cmp.Or(t.Drain, 5*time.Second)
	t.UpstreamIdle = cmp.Or(t.UpstreamIdle, 30*time.Second)
	return o
}

// MetricsOptions are what the metrics of a server have to be made with: they tell its Flags.
func MetricsOptions() telemetry.MetricsOptions {
	return telemetry.MetricsOptions{FlagText: func(f uint32) string { return Flags(f).String() }}
}
