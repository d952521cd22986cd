package telemetry

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Prefix begins the name of each of the sidecar's own metrics.
const Prefix = "meshtest_sidecar_"

// Counters are the proxy's own counts: connections, refusals by reason, retries, overflows. The zero value is ready. It must not be copied.
type Counters struct {
	mu     sync.Mutex
	series map[seriesName]*Counter
	gauges map[seriesName]func() float64
	totals map[seriesName]func() float64
}

// seriesName is one series: the metric's name without the Prefix, and its labels as they are told.
type seriesName struct{ metric, labels string }

// Counter is one count. It only grows.
type Counter struct{ n atomic.Uint64 }

// Inc counts one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add counts n.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Value is the count so far.
func (c *Counter) Value() uint64 { return c.n.Load() }

// Counter returns the counter of that name, without Prefix and ending in _total, and of those labels, given as name and value in turn. It costs a lock: keep it. The name and the
// labels' names must be valid in Prometheus; values may be anything, but few: a counter is never forgotten.
func (c *Counters) Counter(name string, labels ...string) *Counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := newSeriesName(name, labels)
	if had := c.series[id]; had != nil {
		return had
	}
	if c.series == nil {
		c.series = map[seriesName]*Counter{}
	}
	c.series[id] = &Counter{}
	return c.series[id]
}

// Gauge tells a value that goes up and down, asked for at each exposition. A second one of the same name and labels replaces the first.
func (c *Counters) Gauge(read func() float64, name string, labels ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gauges == nil {
		c.gauges = map[seriesName]func() float64{}
	}
	c.gauges[newSeriesName(name, labels)] = read
}

// Total tells a count that somebody else keeps, asked for at each exposition. It must only grow, and is named as a [Counters.Counter] is. A second one of the same name and labels replaces the first.
func (c *Counters) Total(read func() uint64, name string, labels ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.totals == nil {
		c.totals = map[seriesName]func() float64{}
	}
	c.totals[newSeriesName(name, labels)] = func() float64 { return float64(read()) }
}

func newSeriesName(name string, labels []string) seriesName {
	var b []byte
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLabel(b, labels[i], labels[i+1])
	}
	return seriesName{name, string(b)}
}

// AppendText appends all counters and gauges in Prometheus' text exposition format 0.0.4, in a stable order.
func (c *Counters) AppendText(b []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	b = appendMetrics(b, "counter", c.series, func(n *Counter) float64 { return float64(n.Value()) })
	b = appendMetrics(b, "counter", c.totals, func(read func() float64) float64 { return read() })
	return appendMetrics(b, "gauge", c.gauges, func(read func() float64) float64 { return read() })
}

func appendMetrics[V any](b []byte, kind string, series map[seriesName]V, value func(V) float64) []byte {
	names := slices.SortedFunc(maps.Keys(series), func(a, b seriesName) int {
		return cmp.Or(cmp.Compare(a.metric, b.metric), cmp.Compare(a.labels, b.labels))
	})
	for i, id := range names {
		if i == 0 || names[i-1].metric != id.metric {
			b = append(b, "# TYPE "+Prefix...)
			b = append(b, id.metric...)
			b = append(b, ' ')
			b = append(b, kind...)
			b = append(b, '\n')
		}
		b = appendSeries(b, Prefix+id.metric, id.labels, value(series[id]))
	}
	return b
}
