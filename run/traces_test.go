package run

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/journal"
)

// span is the JSON of a span; times are in milliseconds since the trace began, which is a request that began now.
func span(trace int, id, parent, kind, local, remote, stream string, from, to int) string {
	if parent != "" {
		parent = fmt.Sprintf(`,"parentId":"%016s"`, parent)
	}
	return fmt.Sprintf(`{"traceId":"%032x","id":"%016s"%s,"kind":%q,"timestamp":%d,"duration":%d,"localEndpoint":{"serviceName":%q},"remoteEndpoint":{"serviceName":%q},"tags":{"guid:x-request-id":"%s-%d"}}`,
		trace, id, parent, kind, time.Now().Add(time.Duration(from)*time.Millisecond).UnixMicro(), (to-from)*1000, local, remote, stream, trace)
}

// traced makes the frontend's sidecar tell of ten requests a second, in each of which it calls the backend twice.
func (w *world) traced(parallel bool) {
	trace := 0
	w.each = func(time.Duration) {
		trace++
		second := 50
		if parallel {
			second = 10
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		s := w.find("frontend-v1-1")
		s.spans = append(s.spans,
			span(trace, "1", "", "SERVER", "frontend-v1", "edge", "users", 0, 100+trace),
			span(trace, "2", "1", "CLIENT", "frontend-v1", "backend-v1", "users", 10, 40),
			span(trace, "3", "1", "CLIENT", "frontend-v1", "backend-v1", "users", second, second+30))
	}
}

const traced = smoke + "tracing: {sampling: 100%}\n"

func TestExpectedFanOut(t *testing.T) {
	for _, test := range []struct {
		expected string
		parallel bool
		want     Verdict
	}{
		{"service: frontend, shape: serial", false, Passed},
		{"service: frontend, shape: serial", true, Failed},
		{"service: frontend, shape: parallel, calls: 2, load: users, version: v1", true, Passed},
		{"service: frontend, shape: parallel", false, Failed},
		{"service: frontend, shape: parallel, min: 0%", false, Passed},
		{"service: frontend, shape: parallel, calls: 3", true, Failed},
		{"service: backend, shape: serial", false, Inconclusive}, // nobody traced it
	} {
		t.Run(fmt.Sprintf("%s, %t", test.expected, test.parallel), func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.traced(test.parallel)
				o := w.perform(t.Context(), strings.Replace(traced, "successRate: {min: 99%}", "fanOut: {"+test.expected+"}", 1))
				require.Equal(t, test.want, o.Verdict, o.Reason)
			})
		})
	}
}

func TestTracesAreRecorded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.traced(true)
		o := w.perform(t.Context(), traced)
		require.Equal(t, Passed, o.Verdict, o.Reason)
		all := events[journal.Traces](t, o.states)
		require.Len(t, all, 1)
		told := all[0]
		require.EqualValues(t, 1, told.Sampling)
		require.InDelta(t, 200, told.Traces, 1, "what was told last is there, too")
		require.Equal(t, 3*told.Traces, told.Spans)
		n := told.Traces
		require.Equal(t, []journal.FanOut{{
			Workload: "frontend-v1", Requests: n, Parallel: n, Calls: 2 * n, Busy: time.Duration(n) * 30 * time.Millisecond, Longest: time.Duration(n) * 30 * time.Millisecond,
		}}, told.FanOuts)
		require.Len(t, told.Examples, 2)
		typical, slowest := told.Examples[0], told.Examples[1]
		require.Equal(t, journal.TypicalTrace, typical.Why)
		require.Equal(t, journal.SlowestTrace, slowest.Why)
		require.Equal(t, fmt.Sprintf("users-%d", n), slowest.Key)
		require.Equal(t, "users", slowest.Stream)
		require.Equal(t, time.Duration(100+n)*time.Millisecond, slowest.Took)
		require.Less(t, typical.Took, slowest.Took)
		require.Len(t, slowest.Spans, 3)
		require.Equal(t, journal.Span{Parent: -1, Kind: "SERVER", Workload: "frontend-v1", Remote: "edge", Took: slowest.Took}, slowest.Spans[0])
		require.Equal(t, journal.Span{Parent: 0, Kind: "CLIENT", Workload: "frontend-v1", Remote: "backend-v1", Start: 10 * time.Millisecond, Took: 30 * time.Millisecond}, slowest.Spans[1])
	})
}

func TestNoTracesAreRecorded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.traced(true)
		o := w.perform(t.Context(), smoke+"tracing: {sampling: 0%}\n")
		require.Equal(t, Passed, o.Verdict, o.Reason)
		require.Empty(t, events[journal.Traces](t, o.states))
	})
}

func TestExpectedGraph(t *testing.T) {
	for expected, want := range map[string]struct {
		verdict Verdict
		reason  string
	}{
		"calls: {edge: [frontend], frontend: [backend]}":               {Passed, "edge->frontend, frontend->backend"},
		"calls: {frontend: [backend], backend: [], edge: [frontend]}":  {Passed, ""},
		"calls: {edge: [frontend]}":                                    {Failed, "not expected: frontend->backend"},
		"calls: {edge: [frontend, backend], frontend: [backend]}":      {Failed, "not seen: edge->backend"},
		"of: frontend, calls: {frontend: [backend]}":                   {Passed, ""},
		"of: frontend, calls: {frontend: [api.example.com]}":           {Failed, "not seen: frontend->api.example.com; not expected: frontend->backend"},
		"of: backend, calls: {}":                                       {Passed, ""},
		"of: edge, calls: {edge: [frontend], frontend: [backend]}":     {Passed, ""},
		"of: backend, calls: {backend: [frontend], frontend: []}":      {Failed, "not seen: backend->frontend"},
		"of: frontend, calls: {frontend: [backend], edge: [frontend]}": {Failed, "not seen: edge->frontend"},
	} {
		t.Run(expected, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				o := w.perform(t.Context(), strings.Replace(smoke, "successRate: {min: 99%}", "graph: {"+expected+"}", 1))
				require.Equal(t, want.verdict, o.Verdict, o.Reason)
				require.Contains(t, o.Reason, want.reason)
			})
		})
	}
}
