package telemetry

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// Limits of what is remembered.
const (
	// DefaultIdle is how long a kind of traffic is still told after its last request: Prometheus has scraped it many times by then, and the number of series follows the edges that are alive.
	DefaultIdle = 15 * time.Minute
	// maxKinds bounds the kinds of traffic. Beyond, all further ones are told as one, with every label unknown.
	maxKinds = 4096
	// maxOutcomes bounds the combinations of code, status and flags of one kind. Beyond, they are told with code 0, as requests without an answer are, and the flags alone.
	maxOutcomes = 256
)

// MetricsOptions are choices of a Metrics; the zero value has the defaults.
type MetricsOptions struct {
	FlagText func(uint32) string // writes response flags; nil: there are none
	Idle     time.Duration       // 0: DefaultIdle
	Now      func() time.Time    // nil: time.Now
}

// Metrics are Istio's standard metrics.
type Metrics struct {
	options MetricsOptions

	mu        sync.Mutex
	kinds     map[Traffic]*kind
	forgotten map[Traffic]weak.Pointer[kind] // somebody may still hold a handle
	rest      *kind                          // of what is beyond maxKinds
}

// kind is the memory of one kind of traffic.
type kind struct {
	owner    *Metrics
	traffic  Traffic
	labels   string
	outcomes atomic.Pointer[[]*outcome] // copied when it grows
	closed   atomic.Pointer[[]*closed]
	opened   atomic.Uint64
	sent     atomic.Uint64
	received atomic.Uint64

	requestMessages, responseMessages atomic.Uint64

	retired atomic.Bool // it is about to be forgotten, or was
	seen    uint64      // events at the last look; guarded by owner.mu
	since   time.Time   // when seen changed last
}

// outcomeKey is what differs from request to request.
type outcomeKey struct {
	flags uint32
	code  uint16
	grpc  int16
}

// outcome counts the requests that ended alike.
type outcome struct {
	key                         outcomeKey
	labels                      string
	duration, request, response histogram
}

// closed counts the connections that ended alike.
type closed struct {
	flags  uint32
	labels string
	count  atomic.Uint64
}

// NewMetrics returns metrics without any series.
func NewMetrics(o MetricsOptions) *Metrics {
	if o.FlagText == nil {
		o.FlagText = func(uint32) string { return "-" }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Idle = cmp.Or(o.Idle, DefaultIdle)
	return &Metrics{options: o, kinds: map[Traffic]*kind{}, forgotten: map[Traffic]weak.Pointer[kind]{}}
}

// Requests is a handle on the metrics of one kind of HTTP traffic.
type Requests struct{ kind *kind }

// Requests resolves a handle. It costs a lock and a hash: keep it. A handle stays good for ever.
func (m *Metrics) Requests(t Traffic) Requests {
	t.Protocol = cmp.Or(t.Protocol, ProtocolHTTP)
	return Requests{m.kind(t)}
}

// Outcome is how one request ended.
type Outcome struct {
	Code          int    // HTTP status; 0: no answer
	GRPCStatus    int    // with ProtocolGRPC; -1: none
	Flags         uint32 // as MetricsOptions.FlagText writes them
	Duration      time.Duration
	RequestBytes  int64 // of the body
	ResponseBytes int64 // of the body
}

// Record counts one request. It locks and allocates nothing but for the first request of its code, status and flags.
func (r Requests) Record(o Outcome) {
	c := r.kind.outcome(outcomeKey{flags: o.Flags, code: uint16(o.Code), grpc: int16(o.GRPCStatus)})
	c.duration.record(durationScale, int64(o.Duration))
	c.request.record(byteScale, o.RequestBytes)
	c.response.record(byteScale, o.ResponseBytes)
	r.kind.touch()
}

// Connections is a handle on the metrics of one kind of TCP traffic.
type Connections struct{ kind *kind }

// Connections resolves a handle. It costs a lock and a hash: keep it. A handle stays good for ever.
func (m *Metrics) Connections(t Traffic) Connections {
	t.Protocol = cmp.Or(t.Protocol, ProtocolTCP)
	return Connections{m.kind(t)}
}

// Opened counts a connection.
func (c Connections) Opened() {
	c.kind.opened.Add(1)
	c.kind.touch()
}

// Moved counts bytes: sent are those of the response, received those of the request, as in Istio.
func (c Connections) Moved(sent, received int64) {
	c.kind.sent.Add(uint64(max(sent, 0)))
	c.kind.received.Add(uint64(max(received, 0)))
	c.kind.touch()
}

// Closed counts the end of a connection, with its response flags.
func (c Connections) Closed(flags uint32) {
	c.kind.ending(flags).count.Add(1)
	c.kind.touch()
}

// kind finds or makes the memory of one kind of traffic.
func (m *Metrics) kind(t Traffic) *kind {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.kinds[t]; k != nil {
		return k
	}
	if k := m.forgotten[t].Value(); k != nil {
		m.remember(k)
		return k
	}
	if len(m.kinds) >= maxKinds {
		m.forget()
	}
	if len(m.kinds) >= maxKinds {
		if m.rest == nil {
			m.rest = m.newKind(Traffic{Reporter: t.Reporter})
		}
		return m.rest
	}
	k := m.newKind(t)
	m.kinds[t] = k
	return k
}

func (m *Metrics) newKind(t Traffic) *kind {
	k := &kind{owner: m, traffic: t, labels: t.render(), since: m.options.Now()}
	k.outcomes.Store(&[]*outcome{})
	k.closed.Store(&[]*closed{})
	return k
}

// outcome finds or makes the counters of one outcome.
func (k *kind) outcome(key outcomeKey) *outcome {
	for _, o := range *k.outcomes.Load() {
		if o.key == key {
			return o
		}
	}
	return k.addOutcome(key)
}

func (k *kind) addOutcome(key outcomeKey) *outcome {
	k.owner.mu.Lock()
	defer k.owner.mu.Unlock()
	had := *k.outcomes.Load()
	if len(had) >= maxOutcomes {
		key = outcomeKey{flags: key.flags, grpc: -1}
	}
	if i := slices.IndexFunc(had, func(o *outcome) bool { return o.key == key }); i >= 0 {
		return had[i]
	}
	o := &outcome{key: key, labels: k.labels + "," + key.variable(k.owner.options.FlagText, k.traffic.Protocol == ProtocolGRPC)}
	o.duration.init(durationScale)
	o.request.init(byteScale)
	o.response.init(byteScale)
	now := append(slices.Clone(had), o)
	k.outcomes.Store(&now)
	return o
}

// ending finds or makes the counter of connections that ended with the flags.
func (k *kind) ending(flags uint32) *closed {
	alike := func(c *closed) bool { return c.flags == flags }
	if had := *k.closed.Load(); slices.ContainsFunc(had, alike) {
		return had[slices.IndexFunc(had, alike)]
	}
	k.owner.mu.Lock()
	defer k.owner.mu.Unlock()
	had := *k.closed.Load()
	if i := slices.IndexFunc(had, alike); i >= 0 {
		return had[i]
	}
	c := &closed{flags: flags, labels: k.flagged(flags)}
	now := append(slices.Clone(had), c)
	k.closed.Store(&now)
	return c
}

// flagged writes the labels of TCP series.
func (k *kind) flagged(flags uint32) string {
	return string(appendLabel([]byte(k.labels+","), "response_flags", k.owner.options.FlagText(flags)))
}

// touch brings a kind back that was forgotten.
func (k *kind) touch() {
	if !k.retired.Load() {
		return
	}
	m := k.owner
	m.mu.Lock()
	defer m.mu.Unlock()
	if k != m.rest {
		m.remember(k)
	}
}

// remember tells a kind again. There is never another one of the same traffic: who asks for it is given the one that was forgotten.
func (m *Metrics) remember(k *kind) {
	k.retired.Store(false)
	k.since = m.options.Now()
	delete(m.forgotten, k.traffic)
	m.kinds[k.traffic] = k
}

// events counts everything that was recorded.
func (k *kind) events() uint64 {
	n := k.opened.Load() + k.sent.Load() + k.received.Load() + k.requestMessages.Load() + k.responseMessages.Load()
	for _, o := range *k.outcomes.Load() {
		n += o.duration.count()
	}
	for _, c := range *k.closed.Load() {
		n += c.count.Load()
	}
	return n
}

// forget drops kinds that have been idle, in two looks: the first announces it, so that whoever records meanwhile brings the kind back.
func (m *Metrics) forget() {
	now := m.options.Now()
	for t, k := range m.kinds {
		events := k.events()
		switch {
		case events != k.seen:
			k.seen, k.since = events, now
			k.retired.Store(false)
		case now.Sub(k.since) < m.options.Idle:
		case k.retired.Load():
			delete(m.kinds, t)
			m.forgotten[t] = weak.Make(k)
		default:
			k.retired.Store(true)
		}
	}
	for t, k := range m.forgotten {
		if k.Value() == nil {
			delete(m.forgotten, t)
		}
	}
}
