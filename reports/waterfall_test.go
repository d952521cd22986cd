package reports

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/journal"
)

func TestWaterfall(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	w := newWaterfall(journal.Trace{Took: 100 * ms, Spans: []journal.Span{
		{Parent: -1, Kind: kindClient, Workload: "edge", Remote: "web-v1", Took: 100 * ms, Status: "200"},
		{Parent: 0, Kind: kindServer, Workload: "web-v1", Start: 10 * ms, Took: 80 * ms},
		{Parent: 1, Kind: kindClient, Workload: "web-v1", Remote: "api.example.com", Start: 20 * ms, Took: 20 * ms, Status: "503", Failed: true, Reason: "timeout"},
		{Parent: 1, Kind: kindClient, Workload: "web-v1", Start: 50 * ms, Took: 200 * ms, Retry: "1"}, // it ends after its trace
		{Parent: 9, Kind: kindServer, Workload: "lost", Start: -ms, Took: -ms},
	}})
	require.Equal(t, []waterRowBar{
		{Y: 0, X: 0, Name: "edge → web-v1", About: "edge → web-v1: from 0 ms, for 100 ms, status 200", Bar: stretch{"0.00%", "100.00%"}, Inner: stretch{"10.00%", "80.00%"}, HasInner: true, Class: "ok"},
		{Y: 20, X: 10, Name: "web-v1 → api.example.com", About: "web-v1 → api.example.com: from 20 ms, for 20 ms, status 503, answered by the mesh: timeout", Bar: stretch{"20.00%", "20.00%"}, Class: "failed"},
		{Y: 40, X: 10, Name: "web-v1 → ?", About: "web-v1 → ?: from 50 ms, for 200 ms, attempt 2", Bar: stretch{"50.00%", "50.00%"}, Class: "ok"},
		{Y: 60, X: 0, Name: "lost", About: "lost: from -1 ms, for -1 ms", Bar: stretch{"0.00%", "0.20%"}, Class: "ok"},
	}, w.Rows)
	require.Equal(t, 84, w.Height())
}

func TestFanOuts(t *testing.T) {
	t.Parallel()
	require.Nil(t, newTraces(&Story{}))
	got := newTraces(&Story{Traces: &journal.Traces{Sampling: 0.5, Traces: 30, Spans: 90, Lost: 1, FanOuts: []journal.FanOut{
		{Workload: "serial", Requests: 10, Serial: 9, Calls: 30, Busy: 3 * time.Second, Longest: time.Second},
		{Workload: "quick", Requests: 10, Serial: 9, Calls: 30, Busy: 1100 * time.Millisecond, Longest: time.Second},
		{Workload: "parallel", Requests: 20, Serial: 1, Parallel: 19, Calls: 40, Busy: 3 * time.Second, Longest: time.Second},
	}}})
	require.Equal(t, &Traces{Sampling: 0.5, Traces: 30, Spans: 90, Lost: 1, FanOuts: []FanOut{
		{Workload: "serial", Requests: 10, Serial: 9, Calls: 3, BusyMs: 300, LongestMs: 100},
		{Workload: "quick", Requests: 10, Serial: 9, Calls: 3, BusyMs: 110, LongestMs: 100},
		{Workload: "parallel", Requests: 20, Serial: 1, Parallel: 19, Calls: 2, BusyMs: 150, LongestMs: 50},
	}}, got)
	require.True(t, got.FanOuts[0].Wasteful())
	require.False(t, got.FanOuts[1].Wasteful(), "there is nothing to be gained")
	require.False(t, got.FanOuts[2].Wasteful())
}
