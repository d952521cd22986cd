package proxy

import (
	"errors"
	"strconv"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/upstream"
)

var errInterim = errors.New("more interim answers than anybody needs")

// passOn passes an answer on, of which the head is there.
func (s *stream) passOn(conn *upstream.Conn) {
	h := &s.resp
	s.result.status = h.Status
	if s.grpc {
		s.result.grpc = grpcStatusIn(h)
	}
	s.judgeSpeaker()
	s.tellServiceTime()
	if h.Status == 101 {
		s.upgrade(conn)
		return
	}
	if s.upload.running && !s.upload.taken.Load() || s.srv.draining.Load() {
		s.keep = false // the answer came before the rest of the request, and there is no telling when that will; or we are leaving
	}
	unchunk := s.req.Version == http1.HTTP10 && h.Body.Kind == http1.BodyChunked
	if unchunk {
		s.replies.SetBody(http1.Body{Kind: http1.BodyUntilClose})
	}
	if h.Body.Kind == http1.BodyUntilClose || unchunk {
		s.keep = false
	}
	s.sign()
	s.replies.Close = !s.keep
	s.answer.Reset(h.Body, http1.Response, s.srv.opts.Limits)
	if s.grpc && isGRPC(h) {
		s.answer.Watch(&s.messages.response)
	}
	s.out = http1.AppendResponse(s.out[:0], h, &s.replies)
	err := s.relay(conn, unchunk)
	s.result.sent = s.answer.PayloadBytes()
	if s.grpc && s.result.grpc == noGRPC && s.answer.Done() {
		s.judgeCall()
	}
	s.closeExchange(conn, err)
}

// tellServiceTime tells the caller how long the upstream took, all attempts together, up to the head of its answer: in whole milliseconds, as Envoy does
// (config/http/http_filters/router_filter, x-envoy-upstream-service-time). What an upstream's own sidecar said of that is of another hop.
func (s *stream) tellServiceTime() {
	took := max(s.answeredAt-s.sending, 0).Milliseconds()
	s.scratch.number = strconv.AppendInt(s.scratch.number[:0], took, 10)
	if s.resp.Has(http1.XEnvoyUpstreamServiceTime) {
		s.replies.DeleteKnown(http1.XEnvoyUpstreamServiceTime)
	}
	s.replies.AddKnownBytes(http1.XEnvoyUpstreamServiceTime, s.scratch.number)
}

// judgeCall finds out how a call of gRPC ended that was answered with messages, or not by gRPC at all.
func (s *stream) judgeCall() {
	s.result.grpc = grpcStatusIn(s.answer.Trailers())
	switch {
	case s.result.grpc != noGRPC:
	case isGRPC(&s.resp):
		s.result.grpc = grpcUnknown // a whole answer without a status breaks the protocol
	default:
		s.result.grpc = grpcOfHTTP(s.result.status)
	}
}

// judgeSpeaker finds out whether the answer is the mesh's own. What is not of the mesh, an application or a service outside, has no say in that; and strangers do not hear it.
func (s *stream) judgeSpeaker() {
	h, e := &s.resp, &s.replies
	outside := s.role.way == inboundWay || s.dest.group.service.External
	if reason := h.Get(http1.XMeshtestReason); reason != nil && !outside && mesh.Failed(h.Status) {
		s.result.byMesh, s.result.reason = true, string(reason)
	}
	if outside || s.stranger() {
		e.DeleteKnown(http1.XMeshtestReason)
		e.DeleteKnown(http1.XMeshtestOther)
	}
}

// side says where a relay failed.
type side uint8

const (
	nobody side = iota
	theUpstream
	theCaller
)

// relay writes what is in out, and the body behind it, window by window.
func (s *stream) relay(conn *upstream.Conn, unchunk bool) side {
	s.trying.Store(0)
	s.c.alarm.enter(streaming, s.until(s.present, 0), s.watchedUnless(s.upload.running && !s.upload.taken.Load()), conn, s.c.sock)
	if !s.takeWindow(unchunk) {
		return theUpstream
	}
	for {
		if _, err := s.c.sock.Write(s.out); err != nil {
			return theCaller
		}
		s.out = s.out[:0]
		if s.answer.Done() {
			return nobody
		}
		if s.up.len() == 0 {
			if err := s.up.fill(conn.Conn); err != nil {
				if ended(err) && s.answer.EOF() == nil {
					return nobody
				}
				return theUpstream
			}
			s.extend(0)
			s.tellMessages()
		}
		if !s.takeWindow(unchunk) {
			return theUpstream
		}
	}
}

// takeWindow moves what has arrived of the body behind out. What is wrong with it ends the relay, before any of it is passed on.
func (s *stream) takeWindow(unchunk bool) bool {
	for s.up.len() > 0 && !s.answer.Done() && len(s.out) < maxKept {
		window := s.up.bytes()
		skip, n, drop := 0, 0, 0
		var err error
		if unchunk {
			skip, n, err = s.answer.Payload(window)
		} else {
			n, drop, err = s.answer.Scan(window)
		}
		if err != nil {
			return false
		}
		s.out = append(s.out, window[skip:skip+n]...)
		s.up.skip(skip + n + drop)
	}
	return true
}

// closeExchange ends the exchange with the upstream, and judges whether the caller got a whole answer.
func (s *stream) closeExchange(conn *upstream.Conn, failed side) {
	why := s.c.settle()
	s.stopUpload()
	if failed == nobody && why == none {
		s.hangUp(conn)
		return
	}
	s.chosen.Pool.Discard(conn)
	switch {
	case failed == nobody:
	case why == shuttingDown:
		s.lostByUs()
	case why == streaming:
		s.cutOff()
	case why == callerGone, why == linkedFailure, failed == theCaller:
		s.lost(reasonCallerGone, FlagDownstreamTerminated)
	default:
		s.lost(reasonUpstreamCut, FlagUpstreamTermination)
	}
	if s.result.broken {
		s.breaks = s.answer.Remaining() < 0 && s.resp.Body.Kind == http1.BodyUntilClose || s.req.Version == http1.HTTP10
	}
}

// cutOff ends an answer that took too long.
func (s *stream) cutOff() {
	reason := ReasonStreamTimeout
	if whole, _ := s.limits(); whole != 0 && s.srv.now() >= whole {
		reason = ReasonTimeout
	}
	s.lost(reason, FlagUpstreamTimeout)
}
