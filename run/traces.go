package run

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/metrics/traces"
	"meshtest.dev/meshtest/spec"
)

// Bounds of what a run remembers of its traces, and of what it records.
const (
	spanInterval    = time.Second     // between two questions for a sidecar's spans
	spanTimeout     = 5 * time.Second // of one
	maxSpans        = 50_000          // some 50 MiB
	maxExamples     = 8
	maxExampleSpans = 100 // of one trace
)

// minTraced is how many requests must have been traced for a share of them to say anything.
const minTraced = 20

// spanReader takes the spans of one sidecar.
type spanReader struct {
	from *wire.Spans
	to   *traces.Collector

	mu   sync.Mutex
	lost uint64 // spans that the sidecar dropped
	err  error  // of the last time
}

// take takes what waits.
func (r *spanReader) take(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, spanTimeout)
	defer cancel()
	text, lost, err := r.from.Take(ctx)
	if err != nil {
		r.err = err
		return
	}
	spans, err := traces.Decode(text)
	r.err, r.lost = err, lost
	if len(spans) > 0 {
		r.to.Add(spans)
	}
}

// missing is what never came: spans that the sidecar dropped, and why nothing came the last time.
func (r *spanReader) missing() (lost uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost, r.err
}

// collect takes a sidecar's spans once a second until ctx ends. Those of the last second of one that goes without a word go with it.
func (c *conductor) collect(ctx context.Context, m *member) {
	if c.sampling() == 0 {
		return
	}
	from, err := m.Direct.Spans()
	if err != nil {
		c.note("warning", fmt.Sprintf("%s: %v", m.instance(), err))
		return
	}
	m.spans = &spanReader{from: from, to: c.collector}
	c.watching.Go(func() {
		defer from.Close() // it has nothing left to tell
		ticker := time.NewTicker(spanInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				m.spans.take(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
}

// sampling is the share of traces that are recorded, 0 to 1.
func (c *conductor) sampling() float64 { return c.Plan.Scenario.Tracing.Sampling.Share() }

// takeLastSpans takes what is left at every sidecar that is there, makes traces of all, and records what they tell.
func (c *conductor) takeLastSpans(ctx context.Context) {
	if c.sampling() == 0 {
		return
	}
	var taking sync.WaitGroup
	for _, m := range c.there {
		if m.spans != nil {
			taking.Go(func() { m.spans.take(ctx) })
		}
	}
	taking.Wait()
	c.traces = c.collector.Traces()
	c.rec.record(c.tracesTold())
}

// tracesTold is what the traces tell, for the journal.
func (c *conductor) tracesTold() journal.Traces {
	told := journal.Traces{Sampling: c.sampling(), Traces: len(c.traces), FanOuts: c.fanOuts(), Examples: c.examples()}
	for _, t := range c.traces {
		for range t.All() {
			told.Spans++
		}
	}
	for _, m := range c.members {
		if m.spans == nil {
			continue
		}
		lost, err := m.spans.missing()
		told.Lost += lost
		if err != nil && !m.gone {
			c.note("warning", fmt.Sprintf("the last spans of %s are missing: %v", m.instance(), err))
		}
	}
	return told
}

// served yields the spans in which the workloads served requests of a stream; an empty one stands for all.
func (c *conductor) served(stream string, by map[string]bool) iter.Seq[*traces.Node] {
	return func(yield func(*traces.Node) bool) {
		for _, t := range c.traces {
			for n := range t.All() {
				ours := n.Kind == traces.Server && by[n.Service()] && (stream == "" || mesh.Stream(n.Tags[traces.TagRequestID]) == stream)
				if ours && !yield(n) {
					return
				}
			}
		}
	}
}

// fanOuts says of each workload that calls several others how its calls lie in time.
func (c *conductor) fanOuts() []journal.FanOut {
	var all []journal.FanOut
	for _, w := range c.Plan.Workloads {
		if sum := c.fanOut(w.Name); sum.Requests > 0 {
			all = append(all, sum)
		}
	}
	return all
}

func (c *conductor) fanOut(workload string) journal.FanOut {
	sum := journal.FanOut{Workload: workload}
	for n := range c.served("", map[string]bool{workload: true}) {
		f := n.FanOut()
		switch f.Shape {
		case traces.NoFanOut:
			continue
		case traces.Serial:
			sum.Serial++
		case traces.Parallel:
			sum.Parallel++
		}
		sum.Requests++
		sum.Calls += f.Calls
		sum.Busy += f.Busy
		sum.Longest += f.Longest
	}
	return sum
}

// expectFanOut compares how a service calls others with what is expected.
func (c *conductor) expectFanOut(e spec.FanOut) journal.Check {
	by := map[string]bool{}
	for _, w := range c.Plan.Workloads {
		by[w.Name] = w.Service == e.Service && !w.External && (e.Version == "" || w.Version == e.Version)
	}
	var as, all uint64
	for n := range c.served(e.Load, by) {
		f := n.FanOut()
		all++
		if string(f.Shape) == e.Shape && (e.Calls == 0 || f.Calls == e.Calls) {
			as++
		}
	}
	how := "called its upstreams one after the other"
	if e.Shape == spec.FanOutParallel {
		how = "called its upstreams at the same time"
	}
	check := target{min: e.Min}.compare(fmt.Sprintf("traced requests in which %s %s", e.Service, how), as, all)
	if all > 0 && all < minTraced {
		check.Verdict, check.Reason = string(Inconclusive), fmt.Sprintf("only %d requests that %s served were traced, at least %d are needed", all, e.Service, minTraced)
	}
	return check
}

// examples are traces to look at: of each stream of load the one that took the median, and the slowest one.
func (c *conductor) examples() []journal.Trace {
	byStream := map[string][]*traces.Trace{}
	for _, t := range c.traces {
		if stream := mesh.Stream(keyOf(t)); stream != "" {
			byStream[stream] = append(byStream[stream], t)
		}
	}
	var all []journal.Trace
	for _, stream := range slices.Sorted(maps.Keys(byStream)) {
		of := byStream[stream]
		slices.SortStableFunc(of, func(a, b *traces.Trace) int { return cmp.Compare(a.Roots[0].Took(), b.Roots[0].Took()) })
		all = append(all, c.example(stream, journal.TypicalTrace, of[len(of)/2]))
		if last := len(of) - 1; last > len(of)/2 {
			all = append(all, c.example(stream, journal.SlowestTrace, of[last]))
		}
	}
	return all[:min(len(all), maxExamples)]
}

// keyOf is the key of the request that a trace is of.
func keyOf(t *traces.Trace) string { return t.Roots[0].Tags[traces.TagRequestID] }

func (c *conductor) example(stream, why string, t *traces.Trace) journal.Trace {
	began := t.Roots[0].Start()
	out := journal.Trace{ID: t.ID, Stream: stream, Key: keyOf(t), Why: why, Start: time.UnixMicro(t.Roots[0].Timestamp).Sub(c.rec.begin), Took: t.Roots[0].Took()}
	at := map[*traces.Node]int{}
	for n := range t.All() {
		if len(out.Spans) == maxExampleSpans {
			out.Cut = true
			break
		}
		at[n] = len(out.Spans)
		parent := -1
		if n.Parent != nil {
			parent = at[n.Parent]
		}
		out.Spans = append(out.Spans, journal.Span{
			Parent: parent, Kind: string(n.Kind), Workload: n.Service(), Remote: n.Remote(), Start: n.Start() - began, Took: n.Took(), Status: n.Tags[traces.TagStatus], Retry: n.Tags[traces.TagRetryCount],
			Reason: n.Tags["meshtest.reason"], Failed: n.Failed(),
		})
	}
	return out
}
