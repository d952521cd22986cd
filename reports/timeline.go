package reports

import (
	"fmt"
	"time"

	"meshtest.dev/meshtest/journal"
)

// Geometry of the timeline's lanes, in pixels: a name, and bars under it.
const (
	laneHeight = 42
	barTop     = 18
)

// timeline shows the whole run as lanes above each other.
type timeline struct {
	*axis
	Lanes []lane
}

// lane is one row.
type lane struct {
	Name string
	Bars []band
	Y    int
}

// Height of the timeline, in pixels.
func (t *timeline) Height() int { return t.AxisY() + 20 }

// BarY is where a lane's bars begin.
func (l lane) BarY() int { return l.Y + barTop }

// AxisY is where the time axis is.
func (t *timeline) AxisY() int { return laneHeight*len(t.Lanes) + 2 }

func newTimeline(s *Story) *timeline {
	t := &timeline{axis: &axis{To: max(s.Took, time.Millisecond)}}
	if d := s.Decision; d != nil {
		t.Moments = []mark{{At: d.At, Class: "decision", Name: "decision: " + actionWord(d.Data.Action)}}
	}
	t.add("Run", phaseBars(s))
	t.add("Steps of the roll-out", stepBars(s))
	t.add("Share of traffic that the canary was to get", weightBars(s))
	t.add("What the analysis said of the canary", judgementBars(s))
	for _, f := range s.Faults {
		var bars []band
		for _, w := range f.Windows {
			bars = append(bars, newBar(w, "fault", f.Text))
		}
		t.add("Fault "+f.ID, bars)
	}
	return t
}

func (t *timeline) add(name string, bars []band) {
	if len(bars) > 0 {
		t.Lanes = append(t.Lanes, lane{Name: name, Bars: bars, Y: laneHeight * len(t.Lanes)})
	}
}

func phaseBars(s *Story) []band {
	var bars []band
	for _, p := range s.Phases {
		b := newBar(p.Window, "phase", p.Name)
		switch {
		case p.Error != "":
			b.Class, b.Name = "phase failed", p.Name+": "+p.Error
		case p.Open:
			b.Class, b.Name = "phase failed", p.Name+": the run ended within it"
		}
		bars = append(bars, b)
	}
	return bars
}

func stepBars(s *Story) []band {
	var bars []band
	for _, step := range s.Steps {
		if !step.Reached {
			continue
		}
		b := newBar(step.Window, "step", fmt.Sprintf("%d: %s", step.Index, step.Text))
		if step.Cut != "" || step.Open {
			b.Class = "step cut"
		}
		bars = append(bars, b)
	}
	return bars
}

// weightBars put steps of the same weight together, and add what the decision made of it.
func weightBars(s *Story) []band {
	var bars []band
	add := func(w Window, weight float64) {
		name := short(weight) + " %"
		if n := len(bars); n > 0 && bars[n-1].Label == name {
			bars[n-1].End = w.End
			return
		}
		bars = append(bars, newBar(w, "weight", name))
	}
	for _, step := range s.Steps {
		if step.Reached {
			add(step.Window, step.Weight)
		}
	}
	if d := s.Decision; d != nil && len(bars) > 0 {
		_, end := s.busy()
		after := Window{Start: d.At, End: max(end, d.At)}
		switch d.Data.Action {
		case journal.Promote:
			add(after, 100)
		case journal.RollBack:
			add(after, 0)
		}
	}
	return bars
}

// judgementBars hold from one judgement to the next; what was said at the decision stays.
func judgementBars(s *Story) []band {
	_, end := s.busy()
	var bars []band
	for _, j := range s.Judgements {
		if s.Decision != nil && j.At > s.Decision.At {
			break
		}
		if n := len(bars); n > 0 {
			bars[n-1].End = j.At
			if bars[n-1].Label == verdictWord(j.Data.Verdict) {
				continue
			}
		}
		bars = append(bars, newBar(Window{Start: j.At}, "judged "+j.Data.Verdict, verdictWord(j.Data.Verdict)))
	}
	if n := len(bars); n > 0 {
		bars[n-1].End = max(end, bars[n-1].Start)
	}
	return bars
}

// newBar has its name as its label.
func newBar(w Window, class, name string) band {
	return band{Window: w, Class: class, Label: name, Name: name}
}
