package proxy

import (
	"bytes"
	"strconv"
	"sync/atomic"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// gRPC says how a call ended in a status of its own, in the trailers of the answer, or in its head when there is no message (gRPC over HTTP/2, "Responses").

// Codes of gRPC's statuses.
const (
	grpcOK                 = 0
	grpcCancelled          = 1
	grpcUnknown            = 2
	grpcInvalidArgument    = 3
	grpcDeadlineExceeded   = 4
	grpcNotFound           = 5
	grpcAlreadyExists      = 6
	grpcPermissionDenied   = 7
	grpcResourceExhausted  = 8
	grpcFailedPrecondition = 9
	grpcAborted            = 10
	grpcOutOfRange         = 11
	grpcUnimplemented      = 12
	grpcInternal           = 13
	grpcUnavailable        = 14
	grpcDataLoss           = 15
	grpcUnauthenticated    = 16
)

// noGRPC is the status of what is no gRPC, or ended without any.
const noGRPC = -1

var grpcContent = []byte("application/grpc")

// isGRPC reports whether a head announces gRPC: application/grpc, or that with a subtype or a parameter. gRPC-Web is not meant.
func isGRPC(h *http1.Head) bool {
	kind := h.Get(http1.ContentType)
	if !bytes.HasPrefix(kind, grpcContent) {
		return false
	}
	rest := kind[len(grpcContent):]
	return len(rest) == 0 || rest[0] == '+' || rest[0] == ';' || rest[0] == ' '
}

// grpcStatusIn is the gRPC status of a head or of trailers; noGRPC when there is none.
func grpcStatusIn(h *http1.Head) int {
	if h == nil {
		return noGRPC
	}
	text := h.Get(http1.GRPCStatus)
	if len(text) == 0 || len(text) > 3 {
		return noGRPC
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return noGRPC
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// grpcOfHTTP is the status that a client takes an answer for which is no gRPC (gRPC's http-grpc-status-mapping.md), and what such an answer of ours is turned into.
func grpcOfHTTP(status int) int {
	switch status {
	case 200:
		return grpcOK
	case 400:
		return grpcInternal
	case 401:
		return grpcUnauthenticated
	case 403:
		return grpcPermissionDenied
	case 404:
		return grpcUnimplemented
	case 429, 502, 503, 504:
		return grpcUnavailable
	default:
		return grpcUnknown
	}
}

// httpOfGRPC is the HTTP status that stands for a gRPC status (google/rpc/code.proto), so that calls are judged as requests are.
func httpOfGRPC(status int) int {
	switch status {
	case grpcOK:
		return 200
	case grpcCancelled:
		return 499
	case grpcInvalidArgument, grpcFailedPrecondition, grpcOutOfRange:
		return 400
	case grpcUnauthenticated:
		return 401
	case grpcPermissionDenied:
		return 403
	case grpcNotFound:
		return 404
	case grpcAlreadyExists, grpcAborted:
		return 409
	case grpcResourceExhausted:
		return 429
	case grpcUnimplemented:
		return 501
	case grpcUnavailable:
		return 503
	case grpcDeadlineExceeded:
		return 504
	default:
		return 500
	}
}

// replyGRPC turns an answer of ours into one that a gRPC client understands: a head without a message, whose status says what happened.
func (s *stream) replyGRPC(r *http1.Reply, reason string) {
	status := grpcOfHTTP(r.Status)
	if reason == ReasonTimeout && s.deadline {
		status = grpcDeadlineExceeded // it was the caller's own
	}
	s.result.grpc = status
	r.Status, r.ContentType, r.Body = 200, "application/grpc", []byte{}
	s.scratch.number = strconv.AppendInt(s.scratch.number[:0], int64(status), 10)
	s.replies.AddBytes("grpc-status", s.scratch.number)
	if reason != "" {
		s.replies.Add("grpc-message", reason)
	}
}

// judged is the HTTP status by which the request is judged.
func (r *result) judged() int {
	if r.grpc == noGRPC || r.status != 200 {
		return r.status
	}
	return httpOfGRPC(r.grpc)
}

// messages counts those of a call, as the caller sees them: what is sent again to another endpoint counts once.
type messages struct{ request, response counted }

func (m *messages) reset() {
	m.request.reset()
	m.response.reset()
}

// counted are the messages of one direction. They are counted by whoever carries the body, and told by the request's own goroutine.
type counted struct {
	messages telemetry.GRPCMessages
	count    atomic.Uint64
	told     uint64
}

// Scan takes the next window of the body.
func (c *counted) Scan(payload []byte) {
	c.messages.Scan(payload)
	c.count.Store(c.messages.Count())
}

// untold are those that were not told yet, and are from now on.
func (c *counted) untold() uint64 {
	n := c.count.Load()
	fresh := n - c.told
	c.told = n
	return fresh
}

func (c *counted) reset() {
	c.messages, c.told = telemetry.GRPCMessages{}, 0
	c.count.Store(0)
}

// tellMessages tells the metrics of the messages that came since it last did: a stream may last for hours.
func (s *stream) tellMessages() {
	if !s.grpc || s.probe() {
		return
	}
	if request, response := s.messages.request.untold(), s.messages.response.untold(); request+response > 0 {
		s.requests().Messages(request, response)
	}
}
