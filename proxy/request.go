package proxy

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/upstream"
)

// identify finds out who calls and under which key, and writes down what changes in the head because of that.
func (s *stream) identify() {
	h, e := &s.req, &s.edits
	outward := s.role.way != inboundWay
	edge := s.role.edge && outward
	if token := h.Get(http1.XMeshtestToken); token != nil {
		s.trusted = edge && s.srv.knows(s.cfg, token)
		e.DeleteKnown(http1.XMeshtestToken)
	}
	if edge && !s.trusted {
		e.DeleteKnown(http1.XMeshtestReason)
		e.DeleteKnown(http1.XMeshtestOther)
		e.DeleteKnown(http1.XEnvoyOther) // faults and all that asks something of a sidecar
		s.forwarded()
	}
	if peer := h.Get(http1.XMeshtestPeer); peer != nil {
		e.DeleteKnown(http1.XMeshtestPeer) // an application is not told, and has nothing to say about it
		if !outward {
			s.peer = peer
		}
	}
	s.name(edge)
	if outward || !h.Has(http1.Traceparent) && !h.Has(http1.XB3TraceID) && !h.Has(http1.B3) {
		s.trace()
	} else {
		s.readTrace(nil)
	}
	if edge && !s.trusted || !h.Has(http1.XForwardedProto) {
		e.AddKnown(http1.XForwardedProto, s.c.scheme())
	}
	if len(h.Host()) == 0 && s.role.host != "" { // HTTP/1.0 may leave it out, the next hop speaks 1.1
		e.Set("host", s.role.host)
	}
}

// forwarded says from where a stranger's request came, in place of what he says himself: what an edge does not know to be true it does not pass on.
func (s *stream) forwarded() {
	e := &s.edits
	e.DeleteKnown(http1.XForwardedOther) // and all others of that prefix
	e.DeleteKnown(http1.Forwarded)
	e.DeleteKnown(http1.XRealIP)
	if from, ok := s.c.sock.RemoteAddr().(*net.TCPAddr); ok {
		s.scratch.number = from.AddrPort().Addr().Unmap().AppendTo(s.scratch.number[:0])
		e.AddKnownBytes(http1.XForwardedFor, s.scratch.number)
	}
}

// name gives the request its key: its own, unless it has none or a stranger brought it.
func (s *stream) name(edge bool) {
	first := s.req.Index(http1.XRequestID)
	if first >= 0 && len(s.req.Value(first)) > 0 && (!edge || s.trusted) {
		s.key = text(s.req.Value(first))
		if s.req.Next(first) < 0 {
			return
		}
	} else {
		s.minted = first < 0
		s.key = s.mint()
	}
	s.edits.DeleteKnown(http1.XRequestID)
	s.edits.AddKnown(http1.XRequestID, s.key)
}

// mint makes a key. It has no dash, so that it names no stream.
func (s *stream) mint() string {
	var raw [16]byte
	putUint64(raw[:8], rand.Uint64())
	putUint64(raw[8:], rand.Uint64())
	hex.Encode(s.scratch.key[:], raw[:])
	return text(s.scratch.key[:])
}

func putUint64(b []byte, n uint64) {
	for i := range 8 {
		b[i] = byte(n >> (56 - 8*i))
	}
}

// direct finds out where the request goes, and sends it there or answers it.
func (s *stream) direct() {
	if s.req.Method == http1.CONNECT && s.role.way != proxyWay {
		s.replies.Add("allow", allowed)
		s.local(405, ReasonConnect, 0)
		return
	}
	if s.limited() {
		return
	}
	switch s.role.way {
	case inboundWay:
		s.dest = s.role.app
		s.chosen = s.dest.group.Pick(upstream.Choice{})
		s.carryOn()
	case outboundWay:
		s.route(s.role.table)
	case capturedOutWay:
		s.routeCaptured()
	default:
		s.routeByHost()
	}
}

// allowed are the methods with a meaning of their own where CONNECT is not carried: an answer of 405 has to name them (RFC 9110, 15.5.6).
const allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"

// routeByHost is how an http_proxy routes: by what the request says it is for. What the mesh does not know is not reached, unless anything may be.
func (s *stream) routeByHost() {
	if s.req.HTTPS {
		s.local(400, ReasonScheme, 0)
		return
	}
	table := s.cfg.router.TableFor(s.req.Host())
	switch {
	case table != nil:
		s.route(table)
	case s.role.captured != nil: // anything may be reached
		s.goOn()
	default:
		s.local(502, ReasonUnknownHost, FlagNoCluster)
	}
}

// route finds the rule and its arm, and lets the filters look at the request.
func (s *stream) route(table *route.Table) {
	s.table = table
	s.hit = table.Lookup(&s.req)
	rule := s.hit.Rule
	switch {
	case table == nil && s.role.refused:
		s.local(502, ReasonUnknownHost, FlagNoCluster)
	case table == nil:
		s.local(503, ReasonNoDestination, FlagNoCluster)
	case rule == nil:
		s.local(404, ReasonNoRoute, FlagNoRoute)
	case rule.CORS != nil && s.preflight(rule.CORS):
	case rule.Route.Redirect != nil:
		s.redirect(s.hit)
	case rule.Route.Direct != nil:
		s.directResponse(rule.Route.Direct)
	default:
		s.split(rule)
	}
}

// split chooses the arm.
func (s *stream) split(rule *route.Rule) {
	seed := s.seed()
	arm := &rule.Arms[rule.Choose(seed, &s.req, s.key)]
	s.dest = s.srv.destination(s.cfg, arm)
	switch {
	case arm.Refuse != 0 && arm.Missing == "":
		s.local(arm.Refuse, ReasonRefusedByRoute, 0)
		return
	case s.dest.group == nil:
		s.local(503, ReasonNoDestination, FlagNoCluster)
		return
	case s.limitedTo(arm):
		return
	}
	if !s.aim(arm) {
		s.local(503, ReasonNoDestination, FlagNoCluster)
		return
	}
	version := arm.Version
	if version == "" && s.chosen != nil {
		version = s.chosen.Version
	}
	s.exchange = Exchange{
		Key: s.key, Seed: seed, Edge: arm.Edge, Route: rule.Name, Host: arm.Host, Port: arm.Port, Version: version,
		Caller: s.caller(), Request: &s.req,
	}
	if !s.filter(AtRequest) {
		return
	}
	if s.req.Method == http1.CONNECT {
		s.connectTunnel()
		return
	}
	if !s.dest.group.service.External {
		s.edits.AddKnown(http1.XMeshtestPeer, s.cfg.peer)
	}
	s.rewrite(rule, arm)
	s.control()
	s.carryOn()
}

// authority is the one with which the request goes on.
func (s *stream) authority() []byte {
	if rule := s.hit.Rule; rule != nil && rule.Route.Rewrite != nil && rule.Route.Rewrite.Authority != "" {
		return []byte(rule.Route.Rewrite.Authority)
	}
	return s.req.Host()
}

// rewrite writes down what the route changes in the request and the answer.
func (s *stream) rewrite(rule *route.Rule, arm *route.Arm) {
	if w := rule.Route.Rewrite; w != nil {
		if (w.Path != "" || w.FullPath != "" || w.Regex != nil) && s.req.Form != http1.AsteriskForm {
			s.scratch.path = s.hit.AppendPath(s.scratch.path[:0], s.req.Path())
			s.edits.SetPath(s.scratch.path)
		}
		if w.Authority != "" {
			s.edits.Set("host", w.Authority)
		}
	}
	applyEdits(&s.edits, arm.Request)
	applyEdits(&s.replies, arm.Response)
}

func applyEdits(to *http1.Edits, edits []route.Edit) {
	for _, e := range edits {
		applyEdit(to, e)
	}
}

// applyEdit reports whether the change is one that may be made.
func applyEdit(to *http1.Edits, e route.Edit) bool {
	switch e.Op {
	case route.RemoveHeader:
		return to.Delete(e.Name)
	case route.SetHeader:
		return to.Set(e.Name, e.Value)
	default:
		return to.Add(e.Name, e.Value)
	}
}

var errHeaderTimeout = errors.New("the request head took too long")

func asProtocol(err error, to **http1.ProtocolError) bool { return errors.As(err, to) }
