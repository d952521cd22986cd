package reports

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"meshtest.dev/meshtest/journal"
)

// Geometry of a waterfall, in pixels.
const (
	waterRow    = 20
	waterBar    = 12 // as in the template
	waterIndent = 10
	maxIndent   = 12 // steps
)

// waterfall shows one trace: a row for each call, and for what was served without one that is known.
type waterfall struct {
	journal.Trace
	Rows []waterRowBar
}

// Height is that of the drawing.
func (w waterfall) Height() int { return waterRow*len(w.Rows) + 4 }

// waterRowBar is one row: its bar is how long the caller waited, and the bar within it how long the callee took.
type waterRowBar struct {
	Y, X        int // of the text
	Name, About string
	Bar, Inner  stretch
	HasInner    bool
	Class       string
}

// TextY is the line that the text stands on.
func (r waterRowBar) TextY() int { return r.Y + waterRow - 6 }

// BarY is where the bar begins.
func (r waterRowBar) BarY() int { return r.Y + (waterRow-waterBar)/2 }

// stretch is a part of the trace's time, as SVG has it.
type stretch struct{ X, Width string }

// Kinds of spans in a journal.
const (
	kindClient = "CLIENT"
	kindServer = "SERVER"
)

// newWaterfalls draws the traces that were recorded.
func newWaterfalls(s *Story) []waterfall {
	var all []waterfall
	if s.Traces == nil {
		return nil
	}
	for _, t := range s.Traces.Examples {
		all = append(all, newWaterfall(t))
	}
	return all
}

func newWaterfall(t journal.Trace) waterfall {
	w := waterfall{Trace: t}
	depth := make([]int, len(t.Spans)) // in rows
	server := servers(t.Spans)
	for i, s := range t.Spans {
		parent := s.Parent >= 0 && s.Parent < i // a journal can say anything
		if parent {
			depth[i] = depth[s.Parent]
			if t.Spans[s.Parent].Kind == kindClient {
				depth[i]++
			}
		}
		if parent && s.Kind == kindServer && t.Spans[s.Parent].Kind == kindClient {
			continue // it is in its caller's row
		}
		r := waterRowBar{Y: waterRow * len(w.Rows), X: waterIndent * min(depth[i], maxIndent), Name: s.Workload, Bar: w.stretch(s), Class: spanClass(s)}
		if s.Kind == kindClient {
			callee := s.Remote
			if j, ok := server[i]; ok {
				r.HasInner, r.Inner = true, w.stretch(t.Spans[j])
				callee = cmp.Or(t.Spans[j].Workload, callee)
			}
			r.Name += " → " + cmp.Or(callee, "?")
		}
		r.About = spanText(r.Name, s)
		w.Rows = append(w.Rows, r)
	}
	return w
}

// servers finds the server's side of calls.
func servers(spans []journal.Span) map[int]int {
	of := map[int]int{}
	for i, s := range spans {
		if s.Kind != kindServer || s.Parent < 0 || s.Parent >= i {
			continue
		}
		if _, taken := of[s.Parent]; !taken {
			of[s.Parent] = i
		}
	}
	return of
}

func spanClass(s journal.Span) string {
	if s.Failed {
		return "failed"
	}
	return "ok"
}

// spanText says what a row is.
func spanText(name string, s journal.Span) string {
	text := fmt.Sprintf("%s: from %s, for %s", name, figure(milliseconds(s.Start), "ms"), figure(milliseconds(s.Took), "ms"))
	if s.Status != "" {
		text += ", status " + s.Status
	}
	if s.Retry != "" {
		text += ", attempt " + attempt(s.Retry)
	}
	if s.Reason != "" {
		text += ", answered by the mesh: " + s.Reason
	}
	return text
}

// attempt is the number of an attempt before which so many went.
func attempt(before string) string {
	n, err := strconv.Atoi(before)
	if err != nil {
		return before
	}
	return strconv.Itoa(n + 1)
}

// stretch is where a span lies in its trace; what would lie outside is cut.
func (w waterfall) stretch(s journal.Span) stretch {
	whole := max(w.Took, time.Microsecond)
	from := min(max(s.Start, 0), whole)
	to := min(max(s.Took, 0), whole-from) + from
	percent := func(d time.Duration) string {
		return strconv.FormatFloat(100*float64(d)/float64(whole), 'f', 2, 64) + "%"
	}
	return stretch{percent(from), percent(max(to-from, whole/500))} // never too narrow to be seen
}

// newTraces is what traces tell, in report.json; nil when none were recorded.
func newTraces(s *Story) *Traces {
	if s.Traces == nil {
		return nil
	}
	t := &Traces{Sampling: min(max(s.Traces.Sampling, 0), 1), Traces: s.Traces.Traces, Spans: s.Traces.Spans, Lost: s.Traces.Lost, FanOuts: []FanOut{}}
	for _, f := range s.Traces.FanOuts {
		n := max(f.Requests, 1)
		t.FanOuts = append(t.FanOuts, FanOut{
			Workload: f.Workload, Requests: f.Requests, Serial: f.Serial, Parallel: f.Parallel, Calls: float64(f.Calls) / float64(n),
			BusyMs: milliseconds(f.Busy / time.Duration(n)), LongestMs: milliseconds(f.Longest / time.Duration(n)),
		})
	}
	return t
}

// Wasteful reports whether most requests had their calls one after the other, and all at the same time would have been quicker by a quarter or more.
func (f FanOut) Wasteful() bool { return 2*f.Serial > f.Requests && f.BusyMs*0.75 > f.LongestMs }
