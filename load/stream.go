package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Defaults of a Stream.
const (
	DefaultTimeout     = 5 * time.Second
	DefaultMaxInFlight = 1_000
	DefaultMaxBody     = 8 << 20
	DefaultQueue       = 1 << 13
)

// A Stream is one kind of request, sent on one schedule.
type Stream struct {
	// Name begins every request's x-request-id and must be usable in a header: letters, digits, '-', '_' and '.'.
	Name string
	// GRPC makes every request a call of gRPC over HTTP/2: URL ends in /package.Service/Method, Method is POST, Body is the one message of the call, and statuses are the HTTP ones that stand for those of
	// gRPC (google/rpc/code.proto). No deadline is told to the server unless Headers have a grpc-timeout.
	GRPC bool
	// Method is GET when empty. CONNECT and TRACE are refused.
	Method string
	// URL is absolute, http or https.
	URL string
	// Headers are sent with every request, a Host among them as the request's host. X-Request-Id is the stream's own.
	Headers http.Header
	// Body is sent with every request.
	Body []byte

	// Pacer is the schedule.
	Pacer Pacer
	// Duration ends the schedule: hits before it are sent. 0 means until the context ends, or the Pacer does.
	Duration time.Duration
	// Timeout is the longest a request may take, from being sent to its last byte. DefaultTimeout when 0.
	Timeout time.Duration
	// Grace is how long after the end of the schedule requests may still be sent late and answered. Timeout when 0.
	Grace time.Duration

	// MaxInFlight is how many requests may be under way at once; more are late. DefaultMaxInFlight when 0.
	MaxInFlight int
	// MaxBody is how many bytes of an answer are read; a longer one is Oversize. DefaultMaxBody when 0.
	MaxBody int64
	// Queue is how many records may wait for the sink; more are lost to it (but counted). DefaultQueue when 0.
	Queue int

	// Expect are the statuses that count as success. Those from 200 to 399 when empty; redirects are not followed.
	Expect []StatusRange
	// Capture names response headers and trailers whose values go into the Record.
	Capture []string

	// Address is a TCP address, host:port, to connect to whatever the URL's host. Empty: the URL's host.
	Address string
	// Dial replaces the way to a connection, as DialUnix does. A stream with one cannot be sent to another process, and Address must be empty.
	Dial DialFunc
}

// A StatusRange holds the statuses from Min to Max, both included.
type StatusRange struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// DialFunc opens a connection for a URL's host and port.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// DialUnix connects to the Unix socket at path whatever the URL's host.
func DialUnix(path string) DialFunc { return dialFixed("unix", path) }

// DialTo connects to a TCP address, host:port, whatever the URL's host.
func DialTo(address string) DialFunc { return dialFixed("tcp", address) }

func dialFixed(network, address string) DialFunc {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// RequestID is the x-request-id of a stream's n-th request.
func RequestID(stream string, seq uint64) string {
	return stream + "-" + strconv.FormatUint(seq, 10)
}

// Validate is nil when the stream can be run. It reports everything that is wrong at once.
func (s Stream) Validate() error {
	var wrong []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	add(!validName(s.Name), "name %q: want letters, digits, '-', '_' and '.'", s.Name)
	add(s.Method != "" && !httpguts.ValidHeaderFieldName(s.Method), "method %q is not a token", s.Method)
	add(s.GRPC && s.Method != "" && s.Method != http.MethodPost, "method %s of a call of gRPC: want POST", s.Method)
	add(s.Method == http.MethodConnect || s.Method == http.MethodTrace, "method %s is not supported", s.Method)
	u, err := url.Parse(s.URL)
	add(err != nil, "url: %w", err)
	add(err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == ""),
		"url %q: want an absolute http or https address", s.URL)
	for name, values := range s.Headers {
		add(!httpguts.ValidHeaderFieldName(name), "header %q: not a header name", name)
		for _, v := range values {
			add(!httpguts.ValidHeaderFieldValue(v), "header %s: its value cannot be sent", name)
		}
	}
	for _, r := range s.Expect {
		add(r.Min > r.Max, "expected statuses %d to %d: no such range", r.Min, r.Max)
	}
	add(s.Pacer == nil, "no schedule")
	if s.Address != "" {
		_, _, err := net.SplitHostPort(s.Address)
		add(err != nil, "address: %w", err)
		add(s.Dial != nil, "both an address and a way to dial")
	}
	add(s.Duration < 0 || s.Timeout < 0 || s.Grace < 0, "negative duration, timeout or grace")
	add(s.MaxInFlight < 0 || s.MaxBody < 0 || s.Queue < 0, "negative bound")
	if len(wrong) > 0 {
		return fmt.Errorf("stream %q: %w", s.Name, errors.Join(wrong...))
	}
	return nil
}

func validName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	}) < 0
}

// withDefaults fills in what is zero.
func (s Stream) withDefaults() Stream {
	if s.GRPC {
		s.Method = http.MethodPost
	}
	s.Method = fallback(s.Method, http.MethodGet)
	s.Timeout = fallback(s.Timeout, DefaultTimeout)
	s.Grace = fallback(s.Grace, s.Timeout)
	s.MaxInFlight = fallback(s.MaxInFlight, DefaultMaxInFlight)
	s.MaxBody = fallback(s.MaxBody, DefaultMaxBody)
	s.Queue = fallback(s.Queue, DefaultQueue)
	if len(s.Expect) == 0 {
		s.Expect = []StatusRange{{200, 399}}
	}
	s.Headers = canonical(s.Headers)
	switch {
	case s.Address != "":
		s.Dial = DialTo(s.Address)
	case s.Dial == nil:
		s.Dial = new(net.Dialer).DialContext
	}
	return s
}

// canonical copies h with its names in canonical form, so that they can be looked up, and names the sender. Idempotency
// keys are spelled otherwise: http.Transport would take them as leave to send a request twice.
func canonical(h http.Header) http.Header {
	out := http.Header{"User-Agent": {"meshtest"}}
	for name := range h {
		out.Del(name)
	}
	for name, values := range h {
		for _, v := range values {
			out.Add(name, v)
		}
	}
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := out[key]; ok {
			delete(out, key)
			out[strings.ToLower(key)] = values
		}
	}
	return out
}

func fallback[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func (s Stream) expects(status int) bool {
	for _, r := range s.Expect {
		if r.Min <= status && status <= r.Max {
			return true
		}
	}
	return false
}
