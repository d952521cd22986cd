package load

import "time"

// A Timeline sorts records into windows of equal width, for charts. It is not safe for concurrent use.
type Timeline struct {
	width   time.Duration
	windows []Window
}

// A Window is one stretch of a Timeline.
type Window struct {
	Start, Width time.Duration
	Sent         uint64 // requests sent in it

	// What became of the requests that were intended in it, whenever they were sent and answered: so a stall shows when
	// users began to wait, and not when it was over.
	Intended   uint64
	Bad        uint64 // not OK
	Unanswered uint64 // given up at the end of the load; neither OK nor bad
	OK         Distribution
}

// Rate is the requests sent per second.
func (w *Window) Rate() float64 { return float64(w.Sent) / w.Width.Seconds() }

// NewTimeline makes a Timeline with windows of that width, which is more than 0.
func NewTimeline(width time.Duration) *Timeline { return &Timeline{width: width} }

// Add sorts a record in.
func (t *Timeline) Add(r Record) {
	t.window(r.Sent).Sent++
	w := t.window(r.Intended)
	w.Intended++
	switch {
	case r.OK:
		w.OK.Record(r.Latency())
	case r.Class == Unanswered:
		w.Unanswered++
	default:
		w.Bad++
	}
}

// Windows returns the windows so far, in order and without a gap. They are the Timeline's own.
func (t *Timeline) Windows() []Window { return t.windows }

func (t *Timeline) window(at time.Duration) *Window {
	i := int(max(at, 0) / t.width)
	for len(t.windows) <= i {
		t.windows = append(t.windows, Window{Start: time.Duration(len(t.windows)) * t.width, Width: t.width})
	}
	return &t.windows[i]
}
