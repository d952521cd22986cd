package reports

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWindowsAreLongerWhereTrafficIsThin(t *testing.T) {
	t.Parallel()
	const s = time.Second
	fill := func(perSecond ...uint64) *grid {
		g := newGrid(0, time.Duration(len(perSecond))*s, s)
		for i, n := range perSecond {
			g.cells[i].Requests = n
		}
		return g
	}
	for name, c := range map[string]struct {
		requests []uint64
		binning  binning
		want     []tally
	}{
		"dense": {[]uint64{9, 9, 9}, binning{least: 5, narrow: s, wide: 9 * s}, []tally{{Window: Window{End: s}, Requests: 9}, {Window: Window{Start: s, End: 2 * s}, Requests: 9}, {Window: Window{Start: 2 * s, End: 3 * s}, Requests: 9}}},
		"thin":  {[]uint64{2, 2, 2, 2}, binning{least: 4, narrow: s, wide: 9 * s}, []tally{{Window: Window{End: 2 * s}, Requests: 4}, {Window: Window{Start: 2 * s, End: 4 * s}, Requests: 4}}},
		"a small rest joins what is before it": {[]uint64{5, 5, 1}, binning{least: 5, narrow: s, wide: 9 * s},
			[]tally{{Window: Window{End: s}, Requests: 5}, {Window: Window{Start: s, End: 3 * s}, Requests: 6}}},
		"nothing reaches across a cut": {[]uint64{2, 2, 2, 2}, binning{least: 100, narrow: s, wide: 9 * s, cuts: []time.Duration{s}},
			[]tally{{Window: Window{End: s}, Requests: 2}, {Window: Window{Start: s, End: 4 * s}, Requests: 6}}},
		"a long window ends":      {[]uint64{1, 1, 1, 1}, binning{least: 100, narrow: s, wide: 2 * s}, []tally{{Window: Window{End: 2 * s}, Requests: 2}, {Window: Window{Start: 2 * s, End: 4 * s}, Requests: 2}}},
		"a long silence is a gap": {[]uint64{5, 0, 0, 0, 5}, binning{least: 5, narrow: s, wide: 2 * s}, []tally{{Window: Window{End: s}, Requests: 5}, {Window: Window{Start: 4 * s, End: 5 * s}, Requests: 5}}},
		"no requests, no windows": {[]uint64{0, 0}, binning{least: 1, narrow: s, wide: s}, nil},
	} {
		require.Equal(t, c.want, fill(c.requests...).bins(c.binning), name)
	}
}

func TestErrorIntervalIsWilsons(t *testing.T) {
	t.Parallel()
	// Known values of the interval without a correction for continuity, in percent.
	for _, c := range []struct {
		failed, requests uint64
		low, high        float64
	}{{0, 10, 0, 27.75328}, {1, 10, 1.787621, 40.41500}, {5, 100, 2.154336, 11.17505}, {10, 10, 72.24672, 100}} {
		low, high := tally{Requests: c.requests, Failed: c.failed}.errorInterval()
		require.InDelta(t, c.low, low, 1e-4)
		require.InDelta(t, c.high, high, 1e-4)
	}
}

func TestNumbersAreForPeople(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 0.05: "0.05", 1.23456: "1.235", 99.95: "99.95", 100: "100", 1234.5678: "1235", 12345: "12345", 1e7: "10000000", 1e20: "1e+20", -2.5: "-2.5", 0.00001: "1e-05"} {
		require.Equal(t, want, short(v))
	}
	require.Equal(t, "16.1 ms", figure(16.123, "ms"))
	require.Equal(t, "12346 ms", figure(12345.6, "ms"))
	for v, want := range map[float64]float64{0: 1, -1: 1, math.NaN(): 1, math.Inf(1): 1, 0.7: 0.8, 1: 1, 1.01: 2, 45: 50, 81: 100, 250: 300} {
		require.Equal(t, want, roundUp(v))
	}
}

func TestTimeAxisHasFewRoundLabels(t *testing.T) {
	t.Parallel()
	for _, span := range []time.Duration{time.Millisecond, 2 * time.Second, 30 * time.Second, 90 * time.Second, time.Hour, 30 * time.Hour, longestRun} {
		a := &axis{From: 1300 * time.Millisecond, To: 1300*time.Millisecond + span}
		require.LessOrEqual(t, len(a.TimeTicks()), 11, span)
	}
	a := &axis{To: 4 * time.Minute}
	var labels []string
	for _, tick := range a.TimeTicks() {
		labels = append(labels, tick.Label)
	}
	require.Equal(t, []string{"0:00", "0:30", "1:00", "1:30", "2:00", "2:30", "3:00", "3:30", "4:00"}, labels)
}

func TestRatesOfASteadyFlowAreFlat(t *testing.T) {
	t.Parallel()
	s := open(t, "no-rollout")
	require.Empty(t, newCharts(s)[0].Faults)
	promoted := open(t, "promoted")
	a := newAxis(promoted)
	total := 0.0
	for _, version := range []string{"prod", "canary"} {
		for _, l := range promoted.rates(a, version) {
			total += l.Value * (l.End - l.Start).Seconds()
		}
	}
	want := promoted.arm("prod", promoted.Took).Requests + promoted.arm("canary", promoted.Took).Requests
	require.InDelta(t, float64(want), total, 1e-6*float64(want))
	for _, l := range promoted.rates(a, "prod")[:5] {
		require.InDelta(t, 300, l.Value, 5)
	}
}
