package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"meshtest.dev/meshtest/mesh"
)

// maxPending bounds the bytes that wait to be written.
const maxPending = 1 << 20

// logFlush is how often lines are written.
const logFlush = 100 * time.Millisecond

// AccessLogOptions are choices of an AccessLog.
type AccessLogOptions struct {
	Share   float64  // of the requests, chosen by mesh.Chance for sampling, so that all sidecars log the same ones; 1: all
	Seed    uint64   // of the run
	Dropped *Counter // counts lines that were not written because the writer was too slow or failed; nil: nobody counts
}

// AccessLog writes one JSON object a line for requests. A nil one logs nothing. Writing happens in Run: a slow writer costs lines, never time of requests.
type AccessLog struct {
	options AccessLogOptions

	mu      sync.Mutex
	pending []byte
	lines   uint64 // in pending
}

// NewAccessLog returns a log that is written once Run runs.
func NewAccessLog(o AccessLogOptions) *AccessLog {
	o.Dropped = cmp.Or(o.Dropped, &Counter{})
	return &AccessLog{options: o}
}

// Access is one request for the log. Strings are only read during the call.
type Access struct {
	Start      time.Time // wall time of the first byte
	Method     string
	Path       string // with the query, as sent
	Authority  string
	Protocol   string // HTTP/1.1
	Status     int    // 0: none
	Flags      string // response flags
	Received   int64  // bytes of the request's body
	Sent       int64  // bytes of the response's body
	Duration   time.Duration
	Upstream   string // address that answered
	Route      string
	Version    string
	Key        string // x-request-id
	Reason     string // of x-meshtest-reason
	Attempts   int
	Generation mesh.Generation
}

// Wants reports whether the request with that key is logged.
func (l *AccessLog) Wants(key string) bool {
	return l != nil && l.options.Share > 0 &&
		(l.options.Share >= 1 || mesh.Chance(l.options.Seed, mesh.PurposeSample, "access-log", "", key, 0).Below(l.options.Share))
}

// Log takes one request that Wants said is logged.
func (l *AccessLog) Log(a *Access) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) >= maxPending {
		l.options.Dropped.Inc()
		return
	}
	l.pending = a.append(l.pending)
	l.lines++
}

// Run writes lines to w until ctx ends, and then what is left. A write that fails drops its lines; Run goes on, and returns the first error in the end.
func (l *AccessLog) Run(ctx context.Context, w io.Writer) error {
	tick := time.NewTicker(logFlush)
	defer tick.Stop()
	var first error
	var spare []byte
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		l.mu.Lock()
		chunk, lines := l.pending, l.lines
		l.pending, l.lines = spare[:0], 0
		l.mu.Unlock()
		if len(chunk) > 0 {
			if _, err := w.Write(chunk); err != nil {
				l.options.Dropped.Add(lines)
				first = cmp.Or(first, err)
			}
		}
		spare = chunk
	}
	if first != nil {
		return fmt.Errorf("writing the access log: %w", first)
	}
	return nil
}

// append writes the line. Times are RFC 3339 in UTC, durations milliseconds.
func (a *Access) append(b []byte) []byte {
	b = append(b, `{"start_time":"`...)
	b = a.Start.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	b = appendText(b, "method", a.Method)
	b = appendText(b, "path", a.Path)
	b = appendText(b, "authority", a.Authority)
	b = appendText(b, "protocol", a.Protocol)
	b = appendNumber(b, "response_code", int64(a.Status))
	b = appendText(b, "response_flags", cmp.Or(a.Flags, "-"))
	b = appendNumber(b, "bytes_received", a.Received)
	b = appendNumber(b, "bytes_sent", a.Sent)
	b = append(b, `,"duration":`...)
	b = strconv.AppendFloat(b, float64(a.Duration.Microseconds())/1000, 'f', -1, 64)
	b = appendText(b, "upstream_host", a.Upstream)
	b = appendText(b, "route_name", a.Route)
	b = appendText(b, "version", a.Version)
	b = appendText(b, "request_id", a.Key)
	b = appendText(b, "reason", a.Reason)
	b = appendNumber(b, "attempts", int64(a.Attempts))
	b = append(b, `,"generation":"`...)
	b = strconv.AppendUint(b, a.Generation.Epoch, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, a.Generation.Counter, 10)
	return append(b, "\"}\n"...)
}

func appendNumber(b []byte, name string, n int64) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, n, 10)
}

// appendText writes a string, null when it is empty. Bytes that are not UTF-8 become U+FFFD, as in encoding/json.
func appendText(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	if value == "" {
		return append(b, "null"...)
	}
	b = append(b, '"')
	for i := 0; i < len(value); {
		c := value[i]
		if c < utf8.RuneSelf {
			b = appendASCII(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(value[i:])
		b = utf8.AppendRune(b, r)
		i += n
	}
	return append(b, '"')
}

func appendASCII(b []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch {
	case c == '"' || c == '\\':
		return append(b, '\\', c)
	case c < 0x20 || c == 0x7f || c == '<' || c == '>' || c == '&':
		return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	default:
		return append(b, c)
	}
}
