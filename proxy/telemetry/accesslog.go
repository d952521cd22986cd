package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// Limits of the access log.
const (
	maxPending = 1 << 20                // bytes that wait to be written
	maxLine    = 64 << 10               // bytes of one line, so that memory which was used once can be kept
	logFlush   = 100 * time.Millisecond // between writes
	lastWrite  = time.Second            // of a writer that takes deadlines, when the log ends
)

// LogMode says which requests are logged.
type LogMode string

// Modes.
const (
	LogOff      LogMode = "off"      // none; also what "" means
	LogSampled  LogMode = "sampled"  // a share, and every one that failed
	LogComplete LogMode = "complete" // all
)

// ParseLogMode reads the name of a mode.
func ParseLogMode(name string) (LogMode, error) {
	switch m := LogMode(name); m {
	case LogOff, LogSampled, LogComplete:
		return m, nil
	default:
		return "", fmt.Errorf("access log: %q is none of %s, %s and %s", name, LogOff, LogSampled, LogComplete)
	}
}

// DefaultLogShare is the share of the requests that are logged in the sampled mode.
const DefaultLogShare = 0.01

// AccessLogOptions are choices of an AccessLog.
type AccessLogOptions struct {
	Mode  LogMode
	Share float64 // of the requests in the sampled mode, chosen by mesh.Chance, so that all sidecars log the same ones; 0: DefaultLogShare; below 0: only those that failed
	Seed  uint64  // of the run
	// Counters tell access_log_lines_total and, by reason, access_log_dropped_total: queue (the writer is too slow) and write (it failed). nil: nobody is told.
	Counters *Counters
}

// AccessLog writes one JSON object a line for requests and TCP connections. A nil one logs nothing. Writing happens in Run: a slow writer costs lines, never time of requests.
type AccessLog struct {
	options             AccessLogOptions
	written, full, lost *Counter

	mu      sync.Mutex
	pending []byte
	lines   uint64 // in pending
	ended   bool   // nothing more is taken
}

// NewAccessLog returns a log that is written once Run runs.
func NewAccessLog(o AccessLogOptions) *AccessLog {
	o.Share = cmp.Or(o.Share, DefaultLogShare)
	o.Counters = cmp.Or(o.Counters, &Counters{})
	dropped := func(reason string) *Counter {
		return o.Counters.Counter("access_log_dropped_total", "reason", reason)
	}
	return &AccessLog{
		options: o, written: o.Counters.Counter("access_log_lines_total"), full: dropped("queue"), lost: dropped("write"),
	}
}

// Wants reports whether the request with that key is logged. A connection of TCP has no key: anything that tells it from others will do, such as the address that it came from.
func (l *AccessLog) Wants(key string, failed bool) bool {
	if l == nil {
		return false
	}
	switch l.options.Mode {
	case LogComplete:
		return true
	case LogSampled:
		return failed || mesh.Chance(l.options.Seed, mesh.PurposeSample, "access-log", "", key, 0).Below(l.options.Share)
	default:
		return false
	}
}

// Log takes one request that Wants said is logged. It copies what it keeps, never waits, and in the long run allocates nothing.
func (l *AccessLog) Log(a *Access) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.pending) >= maxPending {
		l.full.Inc()
		return
	}
	from := len(l.pending)
	l.pending = a.append(l.pending)
	if len(l.pending)-from > maxLine {
		l.pending = l.pending[:from]
		l.full.Inc()
		return
	}
	l.lines++
}

// Run writes lines to w until ctx ends, and then what is left. A write that fails drops its lines; Run goes on, and returns the first error in the end. A writer that takes deadlines is given
// 1 s for what is left; any other must not block for ever.
func (l *AccessLog) Run(ctx context.Context, w io.Writer) error {
	if d, ok := w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { _ = d.SetWriteDeadline(time.Now().Add(lastWrite)) }) // files have none: then it is as for any other
		defer stop()
	}
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
		chunk, lines := l.take(spare, done)
		if len(chunk) > 0 {
			if _, err := w.Write(chunk); err != nil {
				l.lost.Add(lines)
				first = cmp.Or(first, err)
			} else {
				l.written.Add(lines)
			}
		}
		spare = chunk
	}
	if first != nil {
		return fmt.Errorf("writing the access log: %w", first)
	}
	return nil
}

// take gives what waits, for other memory.
func (l *AccessLog) take(spare []byte, last bool) (chunk []byte, lines uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	chunk, lines = l.pending, l.lines
	l.pending, l.lines = spare[:0], 0
	l.ended = last
	return chunk, lines
}
