package traces

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits of a Collector.
const (
	DefaultMaxSpans = 100_000 // some 100 MiB at most
	maxPost         = 5 << 20 // of one request, after decompression: Zipkin's collectors take as much
	defaultLimit    = 10      // traces in an answer, as in Zipkin
	defaultLookback = 24 * time.Hour
)

// CollectorOptions are choices of a Collector; the zero value has the defaults.
type CollectorOptions struct {
	MaxSpans int              // 0: DefaultMaxSpans. Beyond, the trace that was heard of first is forgotten
	Now      func() time.Time // nil: time.Now
}

// Collector takes spans and keeps them in memory. It answers like Zipkin's server, version 2 of its API:
//
//	POST /api/v2/spans         takes a list of spans (JSON, perhaps compressed with gzip); it is stricter than Zipkin: see [Decode]
//	GET  /api/v2/services      names of services that told spans
//	GET  /api/v2/spans         names of spans of ?serviceName
//	GET  /api/v2/traces        traces by ?serviceName, spanName, minDuration, maxDuration, annotationQuery (tag=value or tag), endTs, lookback, limit
//	GET  /api/v2/trace/{id}    one trace
//	GET  /api/v2/traceMany     traces by ?traceIds=a,b
//	GET  /api/v2/dependencies  calls between services, by ?endTs and lookback
//	GET  /health               that it is there
type Collector struct {
	options CollectorOptions
	mux     *http.ServeMux

	mu     sync.Mutex
	byID   map[string][]Span
	order  []string // of byID, as they were first heard of
	spans  int
	change chan struct{} // closed when there is more
}

// NewCollector returns a collector without spans.
func NewCollector(o CollectorOptions) *Collector {
	o.MaxSpans = cmp.Or(o.MaxSpans, DefaultMaxSpans)
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Collector{options: o, mux: http.NewServeMux(), byID: map[string][]Span{}, change: make(chan struct{})}
	c.mux.HandleFunc("POST /api/v2/spans", c.post)
	c.mux.HandleFunc("GET /api/v2/services", c.services)
	c.mux.HandleFunc("GET /api/v2/spans", c.names)
	c.mux.HandleFunc("GET /api/v2/traces", c.traces)
	c.mux.HandleFunc("GET /api/v2/trace/{id}", c.trace)
	c.mux.HandleFunc("GET /api/v2/traceMany", c.many)
	c.mux.HandleFunc("GET /api/v2/dependencies", c.dependencies)
	c.mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]string{"status": "UP"}) })
	return c
}

// ServeHTTP answers one request of the API.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

// Add takes spans that Decode has read.
func (c *Collector) Add(spans []Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range spans {
		id := wholeID(s.TraceID)
		if _, ok := c.byID[id]; !ok {
			c.order = append(c.order, id)
		}
		c.byID[id] = append(c.byID[id], s)
	}
	c.spans += len(spans)
	for c.spans > c.options.MaxSpans && len(c.order) > 0 {
		c.spans -= len(c.byID[c.order[0]])
		delete(c.byID, c.order[0])
		c.order = c.order[1:]
	}
	close(c.change)
	c.change = make(chan struct{})
}

// Spans are all spans, by trace in the order in which the traces were heard of, and a channel that is closed when there are more.
func (c *Collector) Spans() (spans []Span, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.order {
		spans = append(spans, c.byID[id]...)
	}
	return spans, c.change
}

// Traces are all traces, as trees.
func (c *Collector) Traces() []*Trace {
	spans, _ := c.Spans()
	return Assemble(spans)
}

func (c *Collector) post(w http.ResponseWriter, r *http.Request) {
	var from io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzip, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, "reading spans: "+err.Error(), http.StatusBadRequest)
			return
		}
		from = unzip
	}
	text, err := io.ReadAll(io.LimitReader(from, maxPost+1))
	switch {
	case err != nil:
		http.Error(w, "reading spans: "+err.Error(), http.StatusBadRequest)
		return
	case len(text) > maxPost:
		http.Error(w, fmt.Sprintf("more than %d bytes of spans", maxPost), http.StatusRequestEntityTooLarge)
		return
	}
	spans, err := Decode(text)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.Add(spans)
	w.WriteHeader(http.StatusAccepted)
}

func (c *Collector) services(w http.ResponseWriter, _ *http.Request) {
	c.answerNames(w, func(s *Span) string { return s.Service() })
}

func (c *Collector) names(w http.ResponseWriter, r *http.Request) {
	service := r.URL.Query().Get("serviceName")
	c.answerNames(w, func(s *Span) string {
		if s.Service() != service {
			return ""
		}
		return s.Name
	})
}

// answerNames answers with the different names of spans, in order.
func (c *Collector) answerNames(w http.ResponseWriter, name func(*Span) string) {
	spans, _ := c.Spans()
	names := map[string]bool{}
	for i := range spans {
		names[name(&spans[i])] = true
	}
	delete(names, "")
	answer(w, append([]string{}, slices.Sorted(maps.Keys(names))...))
}

func (c *Collector) trace(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !traceID.MatchString(id) {
		http.Error(w, fmt.Sprintf("%q is no trace's id", id), http.StatusBadRequest)
		return
	}
	if spans := c.of(id); spans != nil {
		answer(w, spans)
		return
	}
	http.Error(w, "there is no such trace", http.StatusNotFound)
}

func (c *Collector) of(id string) []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.byID[wholeID(id)])
}

func (c *Collector) many(w http.ResponseWriter, r *http.Request) {
	found := [][]Span{}
	for id := range strings.SplitSeq(r.URL.Query().Get("traceIds"), ",") {
		if !traceID.MatchString(id) {
			http.Error(w, fmt.Sprintf("%q is no trace's id", id), http.StatusBadRequest)
			return
		}
		if spans := c.of(id); spans != nil {
			found = append(found, spans)
		}
	}
	answer(w, found)
}

// traces answers with those that match, the latest first.
func (c *Collector) traces(w http.ResponseWriter, r *http.Request) {
	q, err := c.parse(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	found := [][]Span{}
	for _, t := range slices.Backward(c.Traces()) {
		if len(found) == q.limit || !q.matches(t) {
			continue
		}
		if spans := c.of(t.ID); spans != nil { // else it was forgotten meanwhile
			found = append(found, spans)
		}
	}
	answer(w, found)
}

func (c *Collector) dependencies(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	if !values.Has("endTs") {
		http.Error(w, "endTs is missing", http.StatusBadRequest)
		return
	}
	q, err := c.parse(values)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, Links(slices.DeleteFunc(c.Traces(), func(t *Trace) bool { return !q.covers(t) })))
}

// query is what traces are looked for by.
type query struct {
	service, span string
	tags          map[string]string // empty value: any
	low, high     int64             // duration of a span, in microseconds; 0: any
	from, to      int64             // milliseconds
	limit         int
}

func (c *Collector) parse(v url.Values) (query, error) {
	q := query{service: v.Get("serviceName"), span: v.Get("spanName"), tags: map[string]string{}}
	var err error
	number := func(name string, otherwise int64) int64 {
		text := v.Get(name)
		if text == "" {
			return otherwise
		}
		n, wrong := strconv.ParseInt(text, 10, 64)
		if wrong != nil || n < 0 {
			err = fmt.Errorf("%s: %q is no number that it can be", name, text)
		}
		return n
	}
	q.low, q.high = number("minDuration", 0), number("maxDuration", 0)
	q.to = number("endTs", c.options.Now().UnixMilli())
	q.from = q.to - number("lookback", defaultLookback.Milliseconds())
	q.limit = int(number("limit", defaultLimit))
	if want := v.Get("annotationQuery"); want != "" {
		for part := range strings.SplitSeq(want, " and ") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			q.tags[name] = value
		}
	}
	return q, err
}

// covers reports whether the trace began in the time that is asked for.
func (q *query) covers(t *Trace) bool {
	at := t.Roots[0].Timestamp / 1000
	return at >= q.from && at <= q.to
}

// matches reports whether the trace has a span of everything that is asked for.
func (q *query) matches(t *Trace) bool {
	if !q.covers(t) {
		return false
	}
	for n := range t.All() {
		if q.matchesSpan(&n.Span) {
			return true
		}
	}
	return false
}

func (q *query) matchesSpan(s *Span) bool {
	for name, want := range q.tags {
		if got, ok := s.Tags[name]; !ok || want != "" && got != want {
			return false
		}
	}
	return (q.service == "" || s.Service() == q.service) &&
		(q.span == "" || q.span == "all" || s.Name == q.span) &&
		s.Duration >= q.low && (q.high == 0 || s.Duration <= q.high)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader has gone: his loss
}
