package load_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/load"
)

const ms = time.Millisecond

func TestTimeline(t *testing.T) {
	t.Parallel()
	line := load.NewTimeline(250 * ms)
	require.Empty(t, line.Windows())
	line.Add(load.Record{Intended: 700 * ms, Sent: 800 * ms, Done: 900 * ms, OK: true})
	line.Add(load.Record{Intended: 0, Sent: 0, Done: 10 * ms, OK: true})
	line.Add(load.Record{Intended: 249 * ms, Sent: 250 * ms, Done: 280 * ms, Status: 500})
	line.Add(load.Record{Intended: 250 * ms, Sent: 250 * ms, Done: 260 * ms, Class: load.Timeout})
	line.Add(load.Record{Intended: 260 * ms, Sent: 260 * ms, Done: 990 * ms, Class: load.Unanswered})

	w := line.Windows()
	require.Len(t, w, 4)
	type row struct {
		start                           time.Duration
		sent, intended, bad, unanswered uint64
		max                             time.Duration
	}
	var rows []row
	for _, w := range w {
		require.Equal(t, 250*ms, w.Width)
		rows = append(rows, row{w.Start, w.Sent, w.Intended, w.Bad, w.Unanswered, w.OK.Max})
	}
	require.Equal(t, []row{
		{0, 1, 2, 1, 0, 10 * ms},
		{250 * ms, 3, 2, 1, 1, 0},
		{500 * ms, 0, 1, 0, 0, 200 * ms},
		{750 * ms, 1, 0, 0, 0, 0},
	}, rows)
	require.InDelta(t, 12.0, w[1].Rate(), 1e-9)
	require.InDelta(t, 200*ms, w[2].OK.Quantile(0.5), float64(4*ms))
}

func TestSummary(t *testing.T) {
	t.Parallel()
	var s load.Summary
	require.Zero(t, s.ErrorRate())
	s.Add(load.Record{Intended: 1 * ms, Sent: 1 * ms, Done: 5 * ms, Status: 200, OK: true})
	s.Add(load.Record{Intended: 2 * ms, Sent: 102 * ms, Done: 105 * ms, Status: 503})
	s.Add(load.Record{Intended: 3 * ms, Sent: 3 * ms, Done: 503 * ms, Class: load.Timeout, Error: "first"})
	s.Add(load.Record{Intended: 4 * ms, Sent: 4 * ms, Done: 504 * ms, Class: load.Timeout, Error: "second"})
	s.Add(load.Record{Intended: 5 * ms, Sent: 5 * ms, Done: 600 * ms, Class: load.Unanswered, Reconnects: 1})
	require.EqualValues(t, 5, s.Sent)
	require.EqualValues(t, 4, s.Completed)
	require.EqualValues(t, 1, s.Unanswered)
	require.EqualValues(t, 1, s.Late)
	require.EqualValues(t, 1, s.Reconnects)
	require.EqualValues(t, 3, s.Bad())
	require.Equal(t, 0.75, s.ErrorRate())
	require.Equal(t, 4*ms, s.OK.Max)
	require.Equal(t, 103*ms, s.Failed.Max, "from the intended time")
	require.Equal(t, 500*ms, s.TimedOut.Max)
	require.Equal(t, 100*ms, s.Slip.Max)
	require.EqualValues(t, 4, s.Service.Count())
	require.Equal(t, map[int]uint64{200: 1, 503: 1}, s.Statuses)
	require.Equal(t, map[load.Class]uint64{load.Timeout: 2, load.Unanswered: 1}, s.Errors)
	require.Equal(t, "first", s.Examples[load.Timeout])
}

func TestDistribution(t *testing.T) {
	t.Parallel()
	var d, e load.Distribution
	d.Record(10 * ms)
	e.Record(30 * ms)
	d.Merge(&e)
	require.EqualValues(t, 2, d.Count())
	require.Equal(t, 30*ms, d.Max)
	require.Equal(t, 30*ms, d.Quantile(1), "the bucket's middle is above the maximum")
	require.InDelta(t, 10*ms, d.Quantile(0.5), float64(160*time.Microsecond))
}
