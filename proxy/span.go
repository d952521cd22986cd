package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"time"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/socket"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/zipkin"
)

// traced is what is told of a request in its trace and in the access log. Every attempt is a span of its own, so that retries show; the span of the workload's side has the id of the caller's, as in B3.
type traced struct {
	trace   zipkin.TraceID
	parent  zipkin.ID
	sampled bool
	shared  bool
	anew    bool          // the trace began here
	attempt time.Duration // when the present attempt began

	up        *socket.Conn // of the present attempt; nil: it has none
	unreached error        // why
}

// readTrace finds out of which trace the request is, by the headers that it came with; own is the id of the span that is sent on, empty when the caller's is.
func (s *stream) readTrace(own []byte) {
	if s.srv.opts.Spans == nil && s.srv.opts.AccessLog == nil {
		return
	}
	h, t := &s.req, &s.traced
	parent := h.Get(http1.Traceparent)
	switch {
	case validTraceparent(parent):
		t.trace, _ = zipkin.ParseTraceID(parent[3:35])
		t.parent, _ = zipkin.ParseID(parent[36:52])
		t.sampled = hexDigit(parent[54])&1 == 1
	case h.Has(http1.XB3TraceID):
		t.trace, _ = zipkin.ParseTraceID(h.Get(http1.XB3TraceID))
		t.parent, _ = zipkin.ParseID(h.Get(http1.XB3SpanID))
		t.sampled = isSampled(h.Get(http1.XB3Sampled)) || string(h.Get(http1.XB3Flags)) == "1"
	case h.Has(http1.B3):
		s.readSingle(h.Get(http1.B3))
	default:
		t.anew = true
		t.trace, _ = zipkin.ParseTraceID(s.scratch.traceID[:])
		t.sampled = s.scratch.sampled == '1'
	}
	t.shared = len(own) == 0
}

// readSingle reads B3's one header.
func (s *stream) readSingle(single []byte) {
	id, rest, _ := bytes.Cut(single, []byte("-"))
	span, rest, _ := bytes.Cut(rest, []byte("-"))
	sampled, _, _ := bytes.Cut(rest, []byte("-"))
	s.traced.trace, _ = zipkin.ParseTraceID(id)
	s.traced.parent, _ = zipkin.ParseID(span)
	s.traced.sampled = isSampled(sampled)
}

// isSampled reports what B3's sampling decision says; "d" is debug, and some send words.
func isSampled(text []byte) bool {
	return len(text) == 1 && (text[0] == '1' || text[0] == 'd') || string(text) == "true"
}

func hexDigit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// retrace gives the next attempt a span of its own.
func (s *stream) retrace() {
	if s.srv.opts.Spans == nil || s.role.way == inboundWay {
		return
	}
	span := s.scratch.span[:]
	randomHex(span)
	h, e := &s.req, &s.edits
	if parent := h.Get(http1.Traceparent); validTraceparent(parent) {
		next := append(s.scratch.trace[:0], parent[:36]...)
		e.SetBytes("traceparent", append(append(next, span...), parent[52:55]...))
	} else if s.traced.anew {
		next := append(append(s.scratch.trace[:0], "00-"...), s.scratch.traceID[:]...)
		next = append(append(append(next, '-'), span...), '-', '0', s.scratch.sampled)
		e.SetBytes("traceparent", next)
	}
	if h.Has(http1.XB3TraceID) || s.traced.anew {
		e.SetBytes("x-b3-spanid", span)
	}
	if single := h.Get(http1.B3); single != nil {
		e.Delete("b3")
		s.traceSingle(single, span)
	}
}

// spanned tells the span of the present attempt, or of the request when there was none.
func (s *stream) spanned(status int, flags Flags, reason string) {
	x, t := s.srv.opts.Spans, &s.traced
	if x == nil || !t.sampled {
		return
	}
	began := s.began
	if s.attempt > 0 && s.role.way != inboundWay {
		began = t.attempt
	}
	start, took := s.srv.since(began)
	span := zipkin.Span{
		Trace: t.trace, Parent: t.parent, Kind: zipkin.Client, Start: start, Duration: took, Name: s.hostPort(),
		Method: text(s.req.MethodName()), Path: text(s.req.Path()), Status: status, RequestID: s.key, Reason: reason, Cluster: s.cluster(),
	}
	span.ID, _ = zipkin.ParseID(s.scratch.span[:])
	if s.role.way == inboundWay {
		span.Kind, span.Attempt = zipkin.Server, 0
		if t.shared {
			span.ID, span.Shared = t.parent, true
			span.Parent, _ = zipkin.ParseID(s.req.Get(http1.XB3ParentSpanID))
		}
	} else {
		span.Attempt = int(s.attempt)
		if s.chosen != nil {
			span.Remote = zipkin.Endpoint{Service: s.chosen.Workload}
		}
	}
	if flags != 0 {
		span.Flags = flags.String()
	}
	if s.grpc && s.result.grpc != noGRPC {
		span.GRPCStatus = strconv.Itoa(s.result.grpc)
	}
	if status == 0 || status >= 500 || s.result.broken {
		span.Error = "true"
	}
	x.Record(&span)
}

// hostPort names what the request is for, as Envoy's operation does.
func (s *stream) hostPort() string {
	switch {
	case s.dest != nil && s.dest.arm != nil:
		return s.dest.arm.Endpoints
	case s.table != nil:
		return s.table.Host
	default:
		return s.role.host
	}
}

// cluster names the group of endpoints; empty without one.
func (s *stream) cluster() string {
	if s.dest == nil {
		return ""
	}
	return s.dest.named
}

// logged writes the request's line of the access log, if it wants one.
func (s *stream) logged(latency time.Duration) {
	log, r := s.srv.opts.AccessLog, &s.result
	if !log.Wants(s.key, r.broken || r.judged() >= 500) {
		return
	}
	h := &s.req
	start, _ := s.srv.since(s.began)
	a := telemetry.Access{
		Start: start, Method: text(h.MethodName()), Path: text(h.Target()), Protocol: s.protocolName(), Status: r.status,
		Flags: flagsText(r.flags), Reason: r.reason, Received: s.body.PayloadBytes(), Sent: r.sent, Duration: latency, UpstreamTime: -1,
		ForwardedFor: text(h.Get(http1.XForwardedFor)), UserAgent: text(h.Get(http1.UserAgent)), Key: s.key, Authority: text(h.Host()), ServerName: s.c.askedName(),
		Attempts: r.attempts, Generation: s.cfg.generation,
	}
	if r.grpc != noGRPC {
		a.GRPCStatus = strconv.Itoa(r.grpc)
	}
	if s.answeredAt > 0 {
		a.UpstreamTime = s.answeredAt - s.sending
	}
	if t := s.traced.trace; t != (zipkin.TraceID{}) {
		a.TraceID = t.String()
	}
	s.tellWhere(&a)
	log.Log(&a)
}

// loggedTCP writes the line of a connection of which no requests are understood.
func (s *stream) loggedTCP() {
	log, r := s.srv.opts.AccessLog, &s.result
	if !log.Wants(s.key, r.broken) {
		return
	}
	start, took := s.srv.since(s.began)
	a := telemetry.Access{
		Start: start, Protocol: telemetry.ProtocolNameTCP, Flags: flagsText(r.flags), Termination: r.reason, Received: s.movedUp.Load(), Sent: s.movedDown.Load(),
		Duration: took, UpstreamTime: -1, Key: s.key, ServerName: s.serverName, Attempts: r.attempts, Generation: s.cfg.generation,
	}
	if a.ServerName == "" {
		a.ServerName = s.c.askedName()
	}
	s.tellWhere(&a)
	log.Log(&a)
}

// tellWhere tells where a request or a connection came from and went.
func (s *stream) tellWhere(a *telemetry.Access) {
	a.Cluster, a.Unreached = s.cluster(), s.traced.unreached
	if s.chosen != nil {
		a.Version = s.chosen.Version
	}
	if s.chosen != nil && a.Attempts > 0 {
		a.Upstream = s.chosen.Pool.Address
	}
	if up := s.traced.up; up != nil {
		a.UpstreamFrom = addrPort(up.LocalAddr())
	}
	if s.hit.Rule != nil {
		a.Route = s.hit.Rule.Name
	}
	s.c.addresses(a)
}

func flagsText(f Flags) string {
	if f == 0 {
		return ""
	}
	return f.String()
}

// protocolName is the protocol that the caller speaks.
func (s *stream) protocolName() string {
	switch {
	case s.c.parent != nil:
		return "HTTP/2"
	case s.req.Version == http1.HTTP10:
		return "HTTP/1.0"
	default:
		return "HTTP/1.1"
	}
}

// askedName is the server name that the caller asked for when TLS was agreed on.
func (c *conn) askedName() string {
	if c.parent != nil {
		c = c.parent
	}
	if !c.secure {
		return ""
	}
	return c.sock.TLS().ServerName
}

// addresses tells the two ends of the connection.
func (c *conn) addresses(a *telemetry.Access) {
	a.Downstream, a.Local = addrPort(c.sock.RemoteAddr()), addrPort(c.sock.LocalAddr())
	if c.dst.IsValid() {
		a.Local = c.dst
	}
}

// addrPort is an address of TCP; of anything else it is not valid.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}
