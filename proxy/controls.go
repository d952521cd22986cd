package proxy

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
)

// What a caller may ask of the mesh by headers, in Envoy's words (config/http/http_filters/router_filter): his deadline, and how his request is retried. Strangers at an edge may not.

// control decides the time limits and the retry policy of the request: the rule's, unless the caller has others.
func (s *stream) control() {
	rule := s.hit.Rule
	s.timeout, s.retry, s.retryOn = rule.Timeout, rule.Retry, rule.RetryOn
	if s.retry != nil {
		s.perTry = s.retry.PerTryTimeout
	}
	h := &s.req
	if h.HasAny(controlHeaders) && !s.stranger() {
		s.obeyCaller(h)
	}
}

// controlHeaders are those by which a caller asks something of the next sidecar.
var controlHeaders = http1.SetOf(
	http1.GRPCTimeout, http1.XEnvoyExpectedRqTimeoutMs, http1.XEnvoyUpstreamRqTimeoutMs, http1.XEnvoyUpstreamRqPerTryTimeoutMs,
	http1.XEnvoyMaxRetries, http1.XEnvoyRetryOn, http1.XEnvoyRetryGRPCOn, http1.XEnvoyRetriableStatusCodes,
)

// obeyCaller takes the caller's wishes into account. Those that are for this hop alone go no further.
func (s *stream) obeyCaller(h *http1.Head) {
	if d, ok := milliseconds(h.Get(http1.XEnvoyUpstreamRqTimeoutMs)); ok {
		s.timeout = d
	}
	if d, ok := milliseconds(h.Get(http1.XEnvoyUpstreamRqPerTryTimeoutMs)); ok {
		s.perTry = d
	}
	s.within(milliseconds(h.Get(http1.XEnvoyExpectedRqTimeoutMs)))
	if s.grpc {
		s.within(grpcTimeout(h.Get(http1.GRPCTimeout)))
	}
	if h.Has(http1.XEnvoyMaxRetries) || h.Has(http1.XEnvoyRetryOn) || h.Has(http1.XEnvoyRetryGRPCOn) {
		s.askRetry(h)
	}
	for _, id := range [...]http1.Known{
		http1.XEnvoyUpstreamRqTimeoutMs, http1.XEnvoyUpstreamRqPerTryTimeoutMs, http1.XEnvoyMaxRetries, http1.XEnvoyRetryOn, http1.XEnvoyRetryGRPCOn,
		http1.XEnvoyRetriableStatusCodes, http1.XEnvoyExpectedRqTimeoutMs,
	} {
		if h.Has(id) {
			s.edits.DeleteKnown(id)
		}
	}
}

// within bounds the timeout by the caller's own deadline. What he still has of it is up to his clock: it began before the request came.
func (s *stream) within(d time.Duration, ok bool) {
	if ok && d > 0 && (s.timeout == 0 || d <= s.timeout) {
		s.timeout, s.deadline = d, true
	}
}

// askRetry changes the retry policy as the caller wants. Words that are no conditions are ignored, as in Envoy.
func (s *stream) askRetry(h *http1.Head) {
	asked := mesh.Retry{Attempts: 1, BackoffBase: mesh.DefaultBackoffBase}
	if s.retry != nil {
		asked = *s.retry
		asked.On = slices.Clone(asked.On)
	}
	if n, err := strconv.Atoi(string(h.Get(http1.XEnvoyMaxRetries))); err == nil && n >= 0 {
		asked.Attempts = min(n, maxAskedRetries)
	}
	for _, id := range [...]http1.Known{http1.XEnvoyRetryOn, http1.XEnvoyRetryGRPCOn} {
		for word := range bytes.SplitSeq(h.Get(id), []byte(",")) {
			if word = bytes.TrimSpace(word); len(word) > 0 {
				asked.On = append(asked.On, mesh.RetryOn(word))
			}
		}
	}
	for word := range bytes.SplitSeq(h.Get(http1.XEnvoyRetriableStatusCodes), []byte(",")) {
		if code, err := strconv.Atoi(string(bytes.TrimSpace(word))); err == nil {
			asked.Statuses = append(asked.Statuses, code)
		}
	}
	s.retry, s.retryOn = &asked, route.CompileRetryOn(&asked)
}

// maxAskedRetries bounds what a caller may ask for.
const maxAskedRetries = 10

// tellTimeout tells the upstream how long the answer to the present attempt is waited for: as long as one attempt may take, and at most what is left for all of them, as Envoy does
// (source/common/router/router.cc, setTimeoutHeaders).
func (s *stream) tellTimeout() {
	ends, one := s.limits()
	if one != 0 && (ends == 0 || one < ends) {
		ends = one
	}
	if ends == 0 {
		return
	}
	s.scratch.number = strconv.AppendInt(s.scratch.number[:0], max((ends-s.present).Milliseconds(), 1), 10)
	s.edits.SetBytes("x-envoy-expected-rq-timeout-ms", s.scratch.number)
	if s.grpc && s.deadline && len(s.scratch.number) <= maxGRPCDigits {
		s.scratch.number = append(s.scratch.number, 'm')
		s.edits.SetBytes("grpc-timeout", s.scratch.number)
	}
}

// maxGRPCDigits is how many digits a grpc-timeout may have.
const maxGRPCDigits = 8

// tellAttempt tells the upstream which attempt it sees, as Envoy does.
func (s *stream) tellAttempt() {
	s.scratch.number = strconv.AppendUint(s.scratch.number[:0], uint64(s.attempt), 10)
	if s.attempt > 1 {
		s.edits.SetBytes("x-envoy-attempt-count", s.scratch.number)
		return
	}
	if s.req.Has(http1.XEnvoyAttemptCount) {
		s.edits.DeleteKnown(http1.XEnvoyAttemptCount)
	}
	s.edits.AddBytes("x-envoy-attempt-count", s.scratch.number)
}

// milliseconds reads a header of whole milliseconds; not ok when it is none.
func milliseconds(text []byte) (time.Duration, bool) {
	if len(text) == 0 || len(text) > 12 {
		return 0, false
	}
	n := int64(0)
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return time.Duration(n) * time.Millisecond, true
}

// grpcTimeout reads grpc-timeout: up to 8 digits and a unit (gRPC over HTTP/2, "Timeout"). One of more than a century is none.
func grpcTimeout(text []byte) (time.Duration, bool) {
	if len(text) < 2 || len(text) > maxGRPCDigits+1 {
		return 0, false
	}
	n := int64(0)
	for _, c := range text[:len(text)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	unit := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': 1}[text[len(text)-1]]
	if unit == 0 || n > math.MaxInt64/2/int64(unit) { // half, so that a time can be added to it
		return 0, false
	}
	return time.Duration(n) * unit, true
}
