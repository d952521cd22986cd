package reports

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A chart is drawn as SVG without a script, so that it prints and works everywhere. Across it is as wide as the page: shapes are in a view of chartWidth
// units that is stretched, text stands at percentages and keeps its size. Down it is in pixels.
const (
	chartWidth  = 1000.0
	chartHeight = 150.0
)

// series is one line of a chart: a level for each window of time.
type series struct {
	Name   string
	Class  string // decides the colour: baseline, canary, or s0, s1 ... for streams
	Levels []level
}

// level is a value in a window, and between what bounds it is likely to be; Low and High are equal when that is not known.
type level struct {
	Window
	Value     float64
	Low, High float64
	N         uint64 // requests it rests on
}

// band is a stretch of time that is marked.
type band struct {
	Window
	Class string
	Label string // short
	Name  string // whole
}

// mark is a moment that is marked.
type mark struct {
	At    time.Duration
	Class string // step, decision
	Label string // short, or empty
	Name  string
}

// axis is the time axis and what is marked on it. All charts of a report share one.
type axis struct {
	From, To time.Duration
	Faults   []band
	Moments  []mark
}

// chart is one chart.
type chart struct {
	*axis
	ID, Title, Help, Unit string
	Series                []series
	Bounded               bool // the values are percentages
}

// PercentWide is how wide a window is, for boxes with text; at least a visible line.
func (a *axis) PercentWide(w Window) string {
	return coordinate(max(a.across(w.End)-a.across(w.Start), 2)/chartWidth*100) + "%"
}

// across is where a moment is, in units of chartWidth.
func (a *axis) across(at time.Duration) float64 {
	at = min(max(at, a.From), a.To)
	return chartWidth * float64(at-a.From) / float64(max(a.To-a.From, 1))
}

// Percent is where a moment is, for text.
func (a *axis) Percent(at time.Duration) string { return coordinate(a.across(at)/chartWidth*100) + "%" }

// X is where a moment is, for shapes.
func (a *axis) X(at time.Duration) string { return coordinate(a.across(at)) }

// Width is how wide a window is, for shapes; at least a visible line.
func (a *axis) Width(w Window) string { return coordinate(max(a.across(w.End)-a.across(w.Start), 1)) }

// coordinate writes a number with a tenth, without a needless zero.
func coordinate(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// tick is a labelled place on an axis.
type tick struct {
	At, Label string
	Edge      string // first or last: the label would not fit if the place were its middle
}

// newTick is a tick of the time axis.
func (a *axis) newTick(at time.Duration, label string) tick {
	t := tick{At: a.Percent(at), Label: label}
	switch x := a.across(at) / chartWidth; {
	case x < .02:
		t.Edge = "first"
	case x > .95:
		t.Edge = "last"
	}
	return t
}

// TimeTicks are at round times, ten at most.
func (a *axis) TimeTicks() []tick {
	step := timeStep(a.To - a.From)
	var ticks []tick
	for at := a.From.Truncate(step); at <= a.To; at += step {
		if at >= a.From {
			ticks = append(ticks, a.newTick(at, a.timeLabel(at)))
		}
	}
	return ticks
}

// timeStep leaves ten labels at most.
func timeStep(span time.Duration) time.Duration {
	for _, step := range []time.Duration{
		time.Second / 10, time.Second / 4, time.Second / 2, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	} {
		if span/step < 10 {
			return step
		}
	}
	return time.Hour * (span/(10*time.Hour) + 1)
}

// timeLabel is in seconds or, on a long axis, in the form of a clock.
func (a *axis) timeLabel(at time.Duration) string {
	if a.To < 2*time.Minute {
		return strconv.FormatFloat(at.Seconds(), 'f', -1, 64) + " s"
	}
	hours, minutes, seconds := int(at.Hours()), int(at.Minutes())%60, int(at.Seconds())%60
	if a.To < time.Hour {
		return fmt.Sprintf("%d:%02d", minutes, seconds)
	}
	return fmt.Sprintf("%d:%02d:%02d", hours, minutes, seconds)
}

// Labels are the marks that have a label and room for it. A decision has its room first.
func (a *axis) Labels() []tick {
	const room = 0.06 * chartWidth
	var taken []float64
	free := func(x float64) bool {
		for _, other := range taken {
			if math.Abs(x-other) < room {
				return false
			}
		}
		return true
	}
	var labels []tick
	for _, class := range []string{"decision", "step"} {
		for _, m := range a.Moments {
			if x := a.across(m.At); m.Class == class && m.Label != "" && free(x) {
				taken = append(taken, x)
				labels = append(labels, a.newTick(m.At, m.Label))
			}
		}
	}
	return labels
}

// top is the end of the value axis: a round number above every value and above half of the likely ranges.
func (c *chart) top() float64 {
	largest := 0.0
	var highs []float64
	for _, s := range c.Series {
		for _, l := range s.Levels {
			if !math.IsNaN(l.Value) {
				largest = max(largest, l.Value)
				highs = append(highs, l.High)
			}
		}
	}
	if n := len(highs); n > 0 {
		slices.Sort(highs)
		largest = max(largest, highs[n/2])
	}
	if c.Bounded {
		return min(roundUp(max(largest*1.05, 1)), 100)
	}
	return roundUp(largest * 1.05)
}

// roundUp is the next of 1, 2, 3, 4, 5, 6, 8, 10 times a power of ten, so that halves are short numbers.
func roundUp(v float64) float64 {
	if !(v > 0) || math.IsInf(v, 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 3, 4, 5, 6, 8} {
		if v <= step*power {
			return step * power
		}
	}
	return 10 * power
}

// ValueTicks are the ends and the middle of the value axis; the place is in pixels from its top.
func (c *chart) ValueTicks() []tick {
	top := c.top()
	var ticks []tick
	for _, share := range []float64{0, .5, 1} {
		ticks = append(ticks, tick{At: coordinate(chartHeight * (1 - share)), Label: short(top * share)})
	}
	return ticks
}

// down is where a value is.
func (c *chart) down(v, top float64) string {
	return coordinate(chartHeight * (1 - min(max(v/top, 0), 1)))
}

// Lines are the drawn series.
func (c *chart) Lines() []line {
	top := c.top()
	var lines []line
	for _, s := range c.Series {
		lines = append(lines, line{Class: s.Class, Path: c.path(s, top), Area: c.area(s, top)})
	}
	return lines
}

// line is a drawn series: a path, and the area of what is likely.
type line struct{ Class, Path, Area string }

// path is a line of levels, with a gap between windows that do not touch.
func (c *chart) path(s series, top float64) string {
	var b strings.Builder
	end := time.Duration(-1)
	for _, l := range s.Levels {
		if math.IsNaN(l.Value) {
			continue
		}
		y := c.down(l.Value, top)
		if l.Start == end {
			fmt.Fprintf(&b, "V%s", y)
		} else {
			fmt.Fprintf(&b, "M%s %s", c.X(l.Start), y)
		}
		fmt.Fprintf(&b, "H%s", coordinate(max(c.across(l.End), c.across(l.Start)+2)))
		end = l.End
	}
	return b.String()
}

func (c *chart) area(s series, top float64) string {
	var b strings.Builder
	for _, l := range s.Levels {
		if !math.IsNaN(l.Value) && l.High > l.Low {
			fmt.Fprintf(&b, "M%s %sV%sH%sV%sZ", c.X(l.Start), c.down(l.Low, top), c.down(l.High, top), c.X(l.End), c.down(l.Low, top))
		}
	}
	return b.String()
}

// curves are a chart's values for the script that shows them under the pointer.
type curves struct {
	ID    string  `json:"id"`
	Unit  string  `json:"unit"`
	From  int64   `json:"from"` // ms
	To    int64   `json:"to"`
	Lines []curve `json:"lines"`
}

type curve struct {
	Name   string    `json:"name"`
	Start  []int64   `json:"start"` // ms
	End    []int64   `json:"end"`
	Values []float64 `json:"values"`
	N      []uint64  `json:"n"`
}

func (c *chart) curves() curves {
	out := curves{ID: c.ID, Unit: c.Unit, From: c.From.Milliseconds(), To: c.To.Milliseconds()}
	for _, s := range c.Series {
		one := curve{Name: s.Name, Start: []int64{}, End: []int64{}, Values: []float64{}, N: []uint64{}}
		for _, l := range s.Levels {
			if math.IsNaN(l.Value) {
				continue
			}
			one.Start, one.End = append(one.Start, l.Start.Milliseconds()), append(one.End, l.End.Milliseconds())
			one.Values, one.N = append(one.Values, math.Round(l.Value*1000)/1000), append(one.N, l.N)
		}
		out.Lines = append(out.Lines, one)
	}
	return out
}

// short writes a number for people: four digits that matter, and no exponent where one can be avoided.
func short(v float64) string { return digits(v, 4) }

func digits(v float64, n int) string {
	switch size := math.Abs(v); {
	case size == 0:
		return "0"
	case size >= 1e15 || size < 1e-3 || math.IsNaN(v):
		return strconv.FormatFloat(v, 'g', n, 64)
	default:
		scale := math.Pow(10, math.Max(float64(n-1)-math.Floor(math.Log10(size)), 0))
		return strconv.FormatFloat(math.Round(v*scale)/scale, 'f', -1, 64)
	}
}

// figure is a number with its unit. Latencies are exact to about 2 %, so they have three digits.
func figure(v float64, unit string) string {
	if unit == "ms" {
		return digits(v, 3) + " ms"
	}
	return strings.TrimSpace(short(v) + " " + unit)
}
