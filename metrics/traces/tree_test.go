package traces_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/metrics/traces"
)

const trace1 = "463ac35c9f6413ad48485a3953bb6124"

// at makes a span: kind is c or s, times are in milliseconds.
func at(kind, id, parent, local, remote string, start, end int64) traces.Span {
	s := traces.Span{
		TraceID: trace1, ID: strings.Repeat("0", 16-len(id)) + id, Name: remote, Kind: traces.Client, Timestamp: 1e9 + start*1000, Duration: (end - start) * 1000,
		LocalEndpoint: &traces.Endpoint{ServiceName: local}, Tags: map[string]string{},
	}
	if parent != "" {
		s.ParentID = strings.Repeat("0", 16-len(parent)) + parent
	}
	if remote != "" {
		s.RemoteEndpoint = &traces.Endpoint{ServiceName: remote}
	}
	if kind == "s" {
		s.Kind, s.Name = traces.Server, local
	}
	return s
}

func shared(s traces.Span) traces.Span { s.Shared = true; return s }

func tagged(s traces.Span, name, value string) traces.Span { s.Tags[name] = value; return s }

// sketch writes a tree, a line for each span.
func sketch(t *traces.Trace) string {
	var b strings.Builder
	for n := range t.All() {
		depth := 0
		for a := n.Parent; a != nil; a = a.Parent {
			depth++
		}
		fmt.Fprintf(&b, "%s%s %s\n", strings.Repeat("  ", depth), strings.ToLower(string(n.Kind)), n.Service())
	}
	return b.String()
}

func TestAssemble(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spans []traces.Span
		want  string
	}{
		"servers share the clients' ids": {
			[]traces.Span{
				at("c", "1", "", "edge", "web", 0, 100), shared(at("s", "1", "", "web", "edge", 1, 99)),
				at("c", "2", "1", "web", "api", 10, 50), shared(at("s", "2", "1", "api", "web", 11, 49)),
				at("c", "3", "2", "api", "db", 20, 30),
			},
			"client edge\n  server web\n    client web\n      server api\n        client api\n",
		},
		"servers have ids of their own": {
			[]traces.Span{at("c", "1", "", "edge", "web", 0, 100), at("s", "2", "1", "web", "edge", 1, 99), at("c", "3", "2", "web", "api", 2, 3)},
			"client edge\n  server web\n    client web\n",
		},
		"only clients tell": {
			[]traces.Span{at("c", "2", "1", "web", "api", 10, 50), at("c", "1", "", "edge", "web", 0, 100)},
			"client edge\n  client web\n",
		},
		"a parent that is not there": {
			[]traces.Span{at("c", "1", "", "edge", "web", 0, 100), at("c", "9", "8", "web", "api", 10, 50)},
			"client edge\nclient web\n",
		},
		"sent twice": {
			[]traces.Span{at("c", "1", "", "edge", "web", 0, 100), at("c", "1", "", "edge", "web", 0, 100)},
			"client edge\n",
		},
		"each other's parents": {
			[]traces.Span{at("c", "1", "2", "a", "b", 0, 1), at("c", "2", "1", "b", "a", 1, 2), at("c", "3", "2", "c", "a", 2, 3)},
			"client a\n  client b\n    client c\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 10 { // in whatever order they arrive
				rand.Shuffle(len(c.spans), func(i, j int) { c.spans[i], c.spans[j] = c.spans[j], c.spans[i] })
				all := traces.Assemble(c.spans)
				require.Len(t, all, 1)
				require.Equal(t, trace1, all[0].ID)
				require.Equal(t, c.want, sketch(all[0]))
			}
		})
	}
}

func TestTracesAreInTheOrderOfTheirBeginnings(t *testing.T) {
	t.Parallel()
	early, late := at("c", "1", "", "edge", "web", 0, 1), at("c", "1", "", "edge", "web", 5, 6)
	early.TraceID, late.TraceID = "00000000000000ff", "000000000000000000000000000000aa"
	all := traces.Assemble([]traces.Span{late, early})
	require.Len(t, all, 2)
	require.Equal(t, "000000000000000000000000000000ff", all[0].ID)
	require.Empty(t, traces.Assemble(nil))
}

func TestFanOut(t *testing.T) {
	t.Parallel()
	call := func(id string, start, end int64) traces.Span { return at("c", id, "1", "web", "api"+id, start, end) }
	for name, c := range map[string]struct {
		calls []traces.Span
		want  traces.FanOut
	}{
		"none":     {nil, traces.FanOut{Shape: traces.NoFanOut}},
		"one":      {[]traces.Span{call("2", 0, 10)}, traces.FanOut{Shape: traces.NoFanOut, Calls: 1, Most: 1, Busy: 10, Sum: 10, Longest: 10}},
		"serial":   {[]traces.Span{call("2", 0, 10), call("3", 10, 30), call("4", 40, 50)}, traces.FanOut{Shape: traces.Serial, Calls: 3, Most: 1, Busy: 40, Sum: 40, Longest: 20}},
		"parallel": {[]traces.Span{call("2", 0, 10), call("3", 1, 30), call("4", 2, 12)}, traces.FanOut{Shape: traces.Parallel, Calls: 3, Most: 3, Busy: 30, Sum: 49, Longest: 29}},
		"at the same moment": {
			[]traces.Span{call("2", 0, 10), call("3", 0, 10)}, traces.FanOut{Shape: traces.Parallel, Calls: 2, Most: 2, Busy: 10, Sum: 20, Longest: 10},
		},
		"mixed":               {[]traces.Span{call("2", 0, 10), call("3", 1, 11), call("4", 20, 30)}, traces.FanOut{Shape: traces.Mixed, Calls: 3, Most: 2, Busy: 21, Sum: 30, Longest: 10}},
		"told a moment later": {[]traces.Span{call("2", 0, 101), call("3", 100, 200)}, traces.FanOut{Shape: traces.Serial, Calls: 2, Most: 1, Busy: 200, Sum: 201, Longest: 101}},
		"one within another":  {[]traces.Span{call("2", 0, 100), call("3", 50, 52)}, traces.FanOut{Shape: traces.Parallel, Calls: 2, Most: 2, Busy: 100, Sum: 102, Longest: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.Busy *= time.Millisecond
			c.want.Sum *= time.Millisecond
			c.want.Longest *= time.Millisecond
			root := traces.Assemble(append(c.calls, at("s", "1", "", "web", "", 0, 1000)))[0].Roots[0]
			require.Equal(t, c.want, root.FanOut())
		})
	}
}

func TestAttemptsOfOneCall(t *testing.T) {
	t.Parallel()
	retry := func(s traces.Span, n string) traces.Span { return tagged(s, traces.TagRetryCount, n) }
	trace := traces.Assemble([]traces.Span{
		at("s", "1", "", "web", "edge", 0, 1000),
		tagged(at("c", "2", "1", "web", "api", 0, 10), traces.TagError, "true"),
		retry(tagged(at("c", "3", "1", "web", "api", 20, 30), traces.TagError, "true"), "1"),
		retry(at("c", "4", "1", "web", "api", 40, 50), "2"),
		at("c", "5", "1", "web", "api", 60, 70),                          // another call of the same service
		tagged(at("c", "6", "1", "web", "db", 60, 70), "error", "reset"), // in parallel
		retry(at("c", "7", "1", "web", "db", 80, 90), "1"),
		retry(at("c", "8", "1", "web", "lost", 80, 90), "3"), // its first attempts are missing
	})[0]
	var got []string
	for _, c := range trace.Roots[0].Calls() {
		got = append(got, fmt.Sprintf("%s %d %s-%s failed=%t", c.Service, len(c.Attempts), c.Start()-time.Second*1000, c.End()-time.Second*1000, c.Failed()))
	}
	require.Equal(t, []string{"api 3 0s-50ms failed=false", "api 1 60ms-70ms failed=false", "db 2 60ms-90ms failed=false", "lost 1 80ms-90ms failed=false"}, got)
	attempts, calls := trace.Attempts()
	require.Equal(t, 7, attempts)
	require.Equal(t, 4, calls)
	require.Equal(t, traces.Mixed, trace.Roots[0].FanOut().Shape)
}

func TestAttemptsOfTheFirstHop(t *testing.T) {
	t.Parallel()
	second := tagged(at("c", "2", "", "edge", "web", 20, 30), traces.TagRetryCount, "1")
	attempts, calls := traces.Assemble([]traces.Span{at("c", "1", "", "edge", "web", 0, 10), second})[0].Attempts()
	require.Equal(t, 2, attempts)
	require.Equal(t, 1, calls)
}

func TestLinks(t *testing.T) {
	t.Parallel()
	failed := func(s traces.Span) traces.Span { return tagged(s, traces.TagError, "true") }
	links := traces.Links(traces.Assemble([]traces.Span{
		at("c", "1", "", "edge", "web", 0, 100), shared(at("s", "1", "", "web", "", 1, 99)),
		failed(at("c", "2", "1", "web", "api", 10, 50)), shared(at("s", "2", "1", "api", "web", 11, 49)), // the answer was lost
		at("c", "3", "1", "web", "api", 60, 70), failed(shared(at("s", "3", "1", "api", "web", 61, 69))),
		at("c", "4", "3", "api", "db", 62, 63),       // outside the mesh: nobody tells of the other end
		failed(at("c", "5", "3", "api", "", 62, 63)), // nobody knows where it was to go
		at("s", "6", "", "cron", "", 62, 63),         // nor where this came from
		at("s", "7", "", "cron", "user", 62, 63),
	}))
	require.Equal(t, []traces.Link{
		{Parent: "api", Child: "db", CallCount: 1}, {Parent: "edge", Child: "web", CallCount: 1}, {Parent: "user", Child: "cron", CallCount: 1},
		{Parent: "web", Child: "api", CallCount: 2, ErrorCount: 2},
	}, links)
}
