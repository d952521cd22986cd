package proxy

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
)

// trace continues the request's trace with a span of this hop, or begins one: in the headers that the caller uses (W3C trace context, B3 in one header or in several), and in
// W3C's and B3's several when there are none.
func (s *stream) trace() {
	h, e := &s.req, &s.edits
	span := s.scratch.span[:]
	randomHex(span)
	parent := h.Get(http1.Traceparent)
	known := false
	if validTraceparent(parent) {
		known = true
		next := append(s.scratch.trace[:0], parent[:36]...)
		next = append(next, span...)
		next = append(next, parent[52:55]...)
		e.DeleteKnown(http1.Traceparent)
		e.AddKnownBytes(http1.Traceparent, next)
	}
	if h.Has(http1.XB3TraceID) {
		known = true
		e.DeleteKnown(http1.XB3ParentSpanID)
		if old := h.Get(http1.XB3SpanID); len(old) > 0 {
			e.AddKnownBytes(http1.XB3ParentSpanID, old)
		}
		e.DeleteKnown(http1.XB3SpanID)
		e.AddKnownBytes(http1.XB3SpanID, span)
	}
	if single := h.Get(http1.B3); single != nil {
		known = true
		s.traceSingle(single, span)
	}
	if !known {
		s.traceAnew(span)
	}
	s.readTrace(span)
}

// traceSingle continues a trace that is in the one header of B3: TRACE-SPAN[-SAMPLED[-PARENT]]. One that only tells the sampling decision is left as it is.
func (s *stream) traceSingle(single, span []byte) {
	id, rest, ok := bytes.Cut(single, []byte("-"))
	if !ok || len(single) > 100 {
		return
	}
	old, rest, _ := bytes.Cut(rest, []byte("-"))
	sampled, _, _ := bytes.Cut(rest, []byte("-"))
	next := append(s.scratch.trace[:0], id...)
	next = append(next, '-')
	next = append(next, span...)
	if len(sampled) > 0 {
		next = append(next, '-')
		next = append(next, sampled...)
		next = append(next, '-')
		next = append(next, old...)
	}
	s.edits.DeleteKnown(http1.B3)
	s.edits.AddKnownBytes(http1.B3, next)
}

// traceAnew begins a trace. Whether it is sampled is drawn from the request's key, so that all requests of one key agree.
func (s *stream) traceAnew(span []byte) {
	e := &s.edits
	sampled := byte('0')
	if share := s.traceShare(); share > 0 && mesh.Chance(s.seed(), mesh.PurposeSample, "trace", "", s.key, 0).Below(share) {
		sampled = '1'
	}
	t := append(s.scratch.trace[:0], "00-"...)
	t = t[:len(t)+32]
	id := t[3:35]
	randomHex(id)
	s.scratch.traceID, s.scratch.sampled = [32]byte(id), sampled
	t = append(t, '-')
	t = append(t, span...)
	t = append(t, "-0"...)
	t = append(t, sampled)
	e.AddKnownBytes(http1.Traceparent, t)
	e.AddKnownBytes(http1.XB3TraceID, id)
	e.AddKnownBytes(http1.XB3SpanID, span)
	e.AddKnownBytes(http1.XB3Sampled, t[len(t)-1:])
}

// traceShare is the share of traces that are sampled when they begin here.
func (s *stream) traceShare() float64 {
	if in := s.cfg.inbound; in != nil && in.Sampling != nil {
		return *in.Sampling
	}
	return s.srv.opts.TraceShare
}

func (s *stream) seed() uint64 {
	if s.cfg.inbound == nil {
		return 0
	}
	return s.cfg.inbound.Seed
}

// randomHex fills b, of a length that 16 divides, with random hexadecimal digits: an identifier, and no decision.
func randomHex(b []byte) {
	for i := 0; i < len(b); i += 16 {
		var raw [8]byte
		putUint64(raw[:], rand.Uint64())
		hex.Encode(b[i:i+16], raw[:])
	}
}

// validTraceparent reports whether the value is VERSION-TRACE-SPAN-FLAGS (W3C Trace Context, 3.2), of a version that may be continued as 00.
func validTraceparent(p []byte) bool {
	if len(p) < 55 || p[2] != '-' || p[35] != '-' || p[52] != '-' || len(p) > 55 && (string(p[:2]) == "00" || p[55] != '-') || string(p[:2]) == "ff" {
		return false
	}
	return allHex(p[:2]) && allHex(p[3:35]) && allHex(p[36:52]) && allHex(p[53:55]) && nonZero(p[3:35]) && nonZero(p[36:52])
}

func allHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func nonZero(b []byte) bool {
	for _, c := range b {
		if c != '0' {
			return true
		}
	}
	return false
}
