// Package zipkin tells a collector of traces what the proxy carried: spans, in Zipkin's format, version 2, which Jaeger, Grafana Tempo and OpenTelemetry's collector take as well.
//
// Traffic comes first. Recording a span copies it into memory that is there; one goroutine sends what waits, in batches; when the collector is slow or gone, spans are dropped and counted,
// and nobody waits.
package zipkin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"meshtest.dev/meshtest/proxy/telemetry"
)

// Path is where a collector takes spans.
const Path = "/api/v2/spans"

// Defaults of Options.
const (
	DefaultBatch    = 100              // Envoy and Zipkin's own reporters send as many
	DefaultInterval = time.Second      // Zipkin's own reporters'
	DefaultTimeout  = 5 * time.Second  // Envoy's is the same
	DefaultQueue    = 4096             // about 3 MiB
	lastFlush       = 2 * time.Second  // for everything that waits at the end
	maxAnswer       = 64 << 10         // of an answer, so that its connection can be used again
	idleConnection  = 90 * time.Second // as in net/http
)

// Options are choices of an Exporter; only URL is needed.
type Options struct {
	// URL is the collector's: http://HOST:PORT, with Path unless it says another one.
	URL string
	// Dial, when set, is the way there instead of the URL's host.
	Dial func(context.Context) (net.Conn, error)
	// Local is the workload whose proxy this is.
	Local    Endpoint
	Batch    int           // most spans in one request; 0: DefaultBatch
	Interval time.Duration // for which a span waits at most for others; 0: DefaultInterval
	Timeout  time.Duration // of a request to the collector; 0: DefaultTimeout
	Queue    int           // most spans that wait or are being sent; 0: DefaultQueue
	// Counters tell spans_sent_total and, by reason, spans_dropped_total: queue (too many wait), unreachable (no answer), refused (an answer that says no) and invalid (without an
	// identity, a kind or a time). nil: nobody is told.
	Counters *telemetry.Counters
}

// Exporter sends spans. A nil one forgets them.
type Exporter struct {
	options Options
	client  *http.Client
	wake    chan struct{} // there is a batch, or more

	sent, full, unreachable, refused, invalid *telemetry.Counter

	mu      sync.Mutex
	waiting batch
	sending int  // spans that were taken out to be sent, and were not yet
	ended   bool // nothing more is taken

	taking sync.Mutex
	spare  batch // of Take; guarded by taking
}

// New returns an exporter that sends once Run runs; recording may begin before.
func New(o Options) (*Exporter, error) {
	var err error
	if o.URL, err = collectorURL(o.URL); err != nil {
		return nil, fmt.Errorf("address of the trace collector: %w", err)
	}
	return newExporter(o), nil
}

// NewBuffer returns an exporter that sends nothing: spans wait until somebody takes them.
func NewBuffer(queue int, counters *telemetry.Counters) *Exporter {
	return newExporter(Options{Queue: queue, Counters: counters})
}

// collectorURL completes the address of a collector.
func collectorURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", fmt.Errorf("%q is not http://HOST:PORT", text)
	case u.Path == "" || u.Path == "/":
		u.Path = Path
	}
	return u.String(), nil
}

func newExporter(o Options) *Exporter {
	o.Batch = cmp.Or(o.Batch, DefaultBatch)
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.Queue = cmp.Or(o.Queue, DefaultQueue)
	o.Counters = cmp.Or(o.Counters, &telemetry.Counters{})
	dropped := func(reason string) *telemetry.Counter {
		return o.Counters.Counter("spans_dropped_total", "reason", reason)
	}
	return &Exporter{
		options: o, client: newClient(o.Dial), wake: make(chan struct{}, 1),
		sent: o.Counters.Counter("spans_sent_total"), full: dropped("queue"), unreachable: dropped("unreachable"), refused: dropped("refused"), invalid: dropped("invalid"),
	}
}

// newClient makes a client for the collector alone. It never asks a proxy and never follows the collector elsewhere.
func newClient(dial func(context.Context) (net.Conn, error)) *http.Client {
	transport := &http.Transport{MaxIdleConns: 1, IdleConnTimeout: idleConnection, DisableCompression: true}
	if dial != nil {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Record takes a span. It copies what it keeps, so the caller may use the span and the memory of its texts again. It never waits and, once some spans have been sent, allocates nothing.
func (x *Exporter) Record(s *Span) {
	if x == nil {
		return
	}
	if !s.valid() {
		x.invalid.Inc()
		return
	}
	x.mu.Lock()
	n := len(x.waiting.spans) + 1
	room := x.sending+n <= x.options.Queue && !x.ended
	if room {
		x.waiting.add(s)
	}
	x.mu.Unlock()
	switch {
	case !room:
		x.full.Inc()
	case n == x.options.Batch:
		select {
		case x.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// Take returns the spans that wait, as the JSON of Zipkin's API, and forgets them; local is the workload whose proxy this is. lost counts those that were dropped so far because too many waited.
func (x *Exporter) Take(local Endpoint) (spans []byte, lost uint64) {
	x.taking.Lock()
	defer x.taking.Unlock()
	x.mu.Lock()
	x.waiting, x.spare = x.spare, x.waiting
	x.mu.Unlock()
	spans = appendSpans(nil, x.spare.spans, local)
	x.sent.Add(uint64(len(x.spare.spans)))
	x.spare.reset()
	return spans, x.full.Value()
}

// Run sends spans until ctx ends, and then, within 2 s, what is left. What is recorded later is dropped.
func (x *Exporter) Run(ctx context.Context) {
	defer x.client.CloseIdleConnections()
	sending, end := outlive(ctx, lastFlush)
	defer end()
	tick := time.NewTicker(x.options.Interval)
	defer tick.Stop()
	var spare batch
	var body []byte
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-x.wake:
		case <-ctx.Done():
		}
		spare, body = x.flush(sending, spare, body)
	}
	x.end()
	x.flush(sending, spare, body)
}

// end says that nothing more is taken.
func (x *Exporter) end() {
	x.mu.Lock()
	x.ended = true
	x.mu.Unlock()
}

// outlive returns a context that ends some time after its parent, or by end, which waits for what was started.
func outlive(parent context.Context, by time.Duration) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-parent.Done():
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(by):
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel()
		watching.Wait()
	}
}

// flush sends everything that waits, and gives the memory back.
func (x *Exporter) flush(ctx context.Context, spare batch, body []byte) (batch, []byte) {
	x.mu.Lock()
	x.waiting, spare = spare, x.waiting
	x.sending = len(spare.spans)
	x.mu.Unlock()
	for rest := spare.spans; len(rest) > 0; {
		n := min(len(rest), x.options.Batch)
		body = appendSpans(body[:0], rest[:n], x.options.Local)
		x.outcome(x.post(ctx, body)).Add(uint64(n))
		rest = rest[n:]
		x.mu.Lock()
		x.sending = len(rest)
		x.mu.Unlock()
	}
	spare.reset()
	return spare, body
}

func appendSpans(b []byte, spans []Span, local Endpoint) []byte {
	b = append(b, '[')
	for i := range spans {
		if i > 0 {
			b = append(b, ',')
		}
		b = spans[i].append(b, local)
	}
	return append(b, ']')
}

var errRefused = errors.New("the collector refused the spans")

func (x *Exporter) outcome(err error) *telemetry.Counter {
	switch {
	case err == nil:
		return x.sent
	case errors.Is(err, errRefused):
		return x.refused
	default:
		return x.unreachable
	}
}

// post sends one request.
func (x *Exporter) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, x.options.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.options.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "meshtest-sidecar")
	resp, err := x.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // so that the connection is kept
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("%w: %s", errRefused, resp.Status)
	}
	return nil
}
