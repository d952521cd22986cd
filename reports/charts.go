package reports

import (
	"fmt"
	"math"
	"slices"
	"time"

	"meshtest.dev/meshtest/journal"
)

// A line has about so many windows, and its windows hold at least so many requests where traffic allows.
const (
	finest      = 480 // cells that windows are made of
	windows     = 60
	coarsest    = 8 // the longest window is this part of the axis
	leastErrors = 100
	leastMiddle = 20
	leastTail   = 50
)

// newAxis is from the first request to the last one, with what happened in between.
func newAxis(s *Story) *axis {
	a := &axis{}
	a.From, a.To = s.busy()
	for _, f := range s.Faults {
		for _, w := range f.Windows {
			a.Faults = append(a.Faults, band{Window: w, Class: "fault", Label: f.ID, Name: "fault " + f.ID + ": " + f.Text})
		}
	}
	weight := 0.0
	for _, step := range s.Steps {
		if !step.Reached {
			continue
		}
		m := mark{At: step.Start, Class: "step", Name: fmt.Sprintf("step %d: %s", step.Index, step.Text)}
		if step.Weight != weight {
			weight = step.Weight
			m.Label = short(weight) + " %"
		}
		a.Moments = append(a.Moments, m)
	}
	if d := s.Decision; d != nil {
		a.Moments = append(a.Moments, mark{At: d.At, Class: "decision", Label: actionWord(d.Data.Action), Name: "decision: " + actionWord(d.Data.Action)})
	}
	return a
}

// actionWord is an action as it was done.
func actionWord(action string) string {
	switch action {
	case journal.Promote:
		return "promoted"
	case journal.RollBack:
		return "rolled back"
	case journal.Pause:
		return "paused"
	default:
		return action
	}
}

// busy is from the first request to the last one; of a run without any, all of it. It is never empty.
func (s *Story) busy() (from, to time.Duration) {
	from = math.MaxInt64
	see := func(start, end time.Duration) {
		if start, end = s.within(start), s.within(end); end > start {
			from, to = min(from, start), max(to, end)
		}
	}
	for _, w := range s.LoadWindows {
		see(w.Start, w.Start+w.Length)
	}
	for _, e := range s.Evidence {
		see(e.Start, e.End)
	}
	if to <= from {
		return 0, max(s.Took, time.Second)
	}
	return from, to
}

// cuts are the moments at which traffic changes. Of several that are close together only the first one counts.
func (a *axis) cuts() []time.Duration {
	var all, cuts []time.Duration
	for _, m := range a.Moments {
		all = append(all, m.At)
	}
	for _, f := range a.Faults {
		all = append(all, f.Start, f.End)
	}
	slices.Sort(all)
	for _, at := range all {
		if n := len(cuts); n == 0 || at-cuts[n-1] > (a.To-a.From)/windows {
			cuts = append(cuts, at)
		}
	}
	return cuts
}

// cellWidth is a multiple of a tenth of a second, in which sidecars report.
func (a *axis) cellWidth() time.Duration {
	const unit = 100 * time.Millisecond
	return ((a.To-a.From)/finest/unit + 1) * unit
}

func (a *axis) binning(least uint64) binning {
	span := a.To - a.From
	return binning{least: least, narrow: span / windows, wide: span / coarsest, cuts: a.cuts()}
}

// newCharts are the charts of a story: first what was judged, then what users felt.
func newCharts(s *Story) []*chart {
	a := newAxis(s)
	var charts []*chart
	if s.Started.Rollout != nil {
		charts = s.edgeCharts(a)
	}
	if len(s.LoadWindows) > 0 {
		charts = append(charts, s.loadCharts(a)...)
	}
	for _, c := range charts {
		c.axis = a
	}
	return charts
}

// edgeCharts compare the versions, as the caller's sidecar saw them.
func (s *Story) edgeCharts(a *axis) []*chart {
	r := s.Started.Rollout
	edge := r.From + " to " + r.Service
	arms := []struct {
		name, class, version string
		grid                 *grid
	}{
		{r.Stable + " (baseline)", "baseline", r.Stable, s.versionGrid(a, r.Stable)},
		{r.Canary + " (canary)", "canary", r.Canary, s.versionGrid(a, r.Canary)},
	}
	both := func(b binning, value func(tally) level) []series {
		var out []series
		for _, arm := range arms {
			out = append(out, series{arm.name, arm.class, levels(arm.grid.bins(b), value)})
		}
		return out
	}
	var rates []series
	for _, arm := range arms {
		rates = append(rates, series{arm.name, arm.class, s.rates(a, arm.version)})
	}
	return []*chart{
		{ID: "errors", Title: "Error rate, " + edge, Unit: "%", Bounded: true, Series: both(a.binning(leastErrors), errorLevel),
			Help: "Share of requests that failed. The shaded area is where the true rate is likely to be (95 %); where traffic is thin it is wide, and windows are longer. " +
				"While the areas overlap, the two versions may well be the same; a fault that hits both raises both."},
		{ID: "p50", Title: "Latency p50, " + edge, Unit: "ms", Series: both(a.binning(leastMiddle), quantileLevel(.5)),
			Help: "Half of the successful requests were faster. A slower canary lies above the baseline all the time, not only now and then."},
		{ID: "p90", Title: "Latency p90, " + edge, Unit: "ms", Series: both(a.binning(leastTail), quantileLevel(.9)),
			Help: "Nine of ten successful requests were faster."},
		{ID: "rate", Title: "Requests per second, " + edge, Unit: "/s", Series: rates,
			Help: "How much traffic each version got: the steps of the roll-out are seen here."},
	}
}

// loadCharts show what users felt, stream by stream.
func (s *Story) loadCharts(a *axis) []*chart {
	var errors, latency []series
	for i, l := range s.Loads {
		class := fmt.Sprintf("s%d", i%6)
		g := s.streamGrid(a, l.Name)
		errors = append(errors, series{l.Name, class, levels(g.bins(a.binning(leastErrors)), errorLevel)})
		latency = append(latency, series{l.Name, class, levels(g.bins(a.binning(leastTail)), quantileLevel(.9))})
	}
	return []*chart{
		{ID: "felt-errors", Title: "What users felt: error rate", Unit: "%", Bounded: true, Series: errors,
			Help: "Share of the load's requests that failed, by the time at which they were due."},
		{ID: "felt-p90", Title: "What users felt: latency p90", Unit: "ms", Series: latency,
			Help: "Counted from the time at which a request was due, so that a stall shows even though it kept requests from being sent."},
	}
}

// versionGrid adds up what the judged edge saw of a version.
func (s *Story) versionGrid(a *axis, version string) *grid {
	g := newGrid(a.From, a.To, a.cellWidth())
	for _, e := range s.Evidence {
		middle := s.within(e.Start)/2 + s.within(e.End)/2
		if cell := g.at(middle); cell != nil {
			s.addVersion(cell, e, version)
		}
	}
	return g
}

// streamGrid adds up what a stream of load felt. Its cells are not shorter than the windows in which that was recorded.
func (s *Story) streamGrid(a *axis, stream string) *grid {
	width := a.cellWidth()
	for _, w := range s.LoadWindows {
		width = max(width, min(w.Length, a.To-a.From))
	}
	g := newGrid(a.From, a.To, width)
	for _, w := range s.LoadWindows {
		if cell := g.at(s.within(w.Start)); w.Name == stream && cell != nil {
			cell.add(w.Requests, w.Errors, w.Latency)
		}
	}
	return g
}

func levels(bins []tally, value func(tally) level) []level {
	var out []level
	for _, bin := range bins {
		l := value(bin)
		l.Window, l.N = bin.Window, bin.Requests
		out = append(out, l)
	}
	return out
}

func errorLevel(t tally) level {
	low, high := t.errorInterval()
	return level{Value: t.errorPercent(), Low: low, High: high}
}

func quantileLevel(q float64) func(tally) level {
	return func(t tally) level { return level{Value: t.quantileMs(q)} }
}

// rates are requests per second to a version. A block that lies in two windows counts in each for its part, so that a steady flow is a flat line.
func (s *Story) rates(a *axis, version string) []level {
	width := max((a.To-a.From)/windows, 1)
	g := newGrid(a.From, a.To, width)
	requests := make([]float64, len(g.cells))
	for _, e := range s.Evidence {
		var sum tally
		s.addVersion(&sum, e, version)
		block := Window{Start: max(s.within(e.Start), a.From), End: min(s.within(e.End), a.To)}
		long := float64(block.End - block.Start)
		for at := block.Start; at < block.End && sum.Requests > 0; {
			i := (at - g.from) / width
			part := min(block.End, g.cells[i].End)
			requests[i] += float64(sum.Requests) * float64(part-at) / long
			at = part
		}
	}
	var out []level
	for i, cell := range g.cells {
		rate := requests[i] / (cell.End - cell.Start).Seconds()
		out = append(out, level{Window: cell.Window, Value: rate, N: uint64(math.Round(requests[i]))})
	}
	return out
}
