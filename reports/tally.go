package reports

import (
	"math"
	"time"

	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/journal"
)

// tally counts requests of a stretch of time. A damaged histogram counts for nothing.
type tally struct {
	Window
	Requests, Failed uint64
	latency          *hist.Histogram // of successes; nil: none
}

func (t *tally) add(requests, failed uint64, latency []uint64) {
	t.Requests += requests
	t.Failed += min(failed, requests)
	if len(latency) == 0 {
		return
	}
	if t.latency == nil {
		t.latency = &hist.Histogram{}
	}
	_ = t.latency.AddSparse(latency)
}

// merge adds a later stretch.
func (t *tally) merge(o tally) {
	if t.Requests == 0 {
		t.Start = o.Start
	}
	t.End = o.End
	t.Requests += o.Requests
	t.Failed += o.Failed
	if o.latency == nil {
		return
	}
	if t.latency == nil {
		t.latency = &hist.Histogram{}
	}
	t.latency.Merge(o.latency)
}

// errorPercent is the share of requests that failed; NaN without requests.
func (t tally) errorPercent() float64 {
	return 100 * min(float64(t.Failed)/float64(t.Requests), 1)
}

// quantileMs is a quantile of the successes' latency in milliseconds; NaN without successes.
func (t tally) quantileMs(q float64) float64 {
	if t.latency == nil || t.latency.Count() == 0 {
		return math.NaN()
	}
	return milliseconds(t.latency.Quantile(q))
}

// errorInterval is the 95 % interval of the error percentage: Wilson's score interval (E. B. Wilson, 1927), which is sound for few requests
// and for shares near 0 too.
func (t tally) errorInterval() (low, high float64) {
	const z = 1.959964
	n := float64(t.Requests)
	p := t.errorPercent() / 100
	middle := p + z*z/(2*n)
	half := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	scale := 100 / (1 + z*z/n)
	return max((middle-half)*scale, 0), min((middle+half)*scale, 100)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// grid cuts a stretch of time into equal cells.
type grid struct {
	from, width time.Duration
	cells       []tally
}

// newGrid covers from to to, which is later, with cells of the width; the last one may be shorter.
func newGrid(from, to, width time.Duration) *grid {
	g := &grid{from: from, width: width, cells: make([]tally, (to-from+width-1)/width)}
	for i := range g.cells {
		start := from + time.Duration(i)*width
		g.cells[i].Window = Window{Start: start, End: min(start+width, to)}
	}
	return g
}

// at is the cell of a moment; nil outside.
func (g *grid) at(moment time.Duration) *tally {
	i := (moment - g.from) / g.width
	if moment < g.from || int(i) >= len(g.cells) {
		return nil
	}
	return &g.cells[i]
}

// idle is how long there may be no request before a line has a gap: sidecars report every tenth of a second.
const idle = 500 * time.Millisecond

// binning says how cells are put together into the windows of a line.
type binning struct {
	least  uint64          // requests that a window holds, if there are so many in time
	narrow time.Duration   // a window is at least so long
	wide   time.Duration   // and ends then, however few requests it has
	cuts   []time.Duration // no window reaches across these
}

// bins puts cells together, without those that are idle. A window of few requests says little (one failure of one request is 100 %), so where traffic is thin
// windows are longer; none reaches across a cut, because before and after it things differ.
func (g *grid) bins(b binning) []tally {
	var bins, part []tally
	var open tally
	flush := func() {
		if open.Requests > 0 {
			part = append(part, open)
		}
		open = tally{}
	}
	for _, cell := range g.cells {
		if b.cutBetween(cell.Start-g.width, cell.Start) {
			flush()
			bins, part = append(bins, b.tidy(part)...), nil
		}
		if open.Requests > 0 && cell.Start-open.End > b.wide {
			flush()
		}
		if cell.Requests == 0 {
			continue
		}
		open.merge(cell)
		if long := open.End - open.Start; long >= b.wide || long >= b.narrow && open.Requests >= b.least {
			flush()
		}
	}
	flush()
	bins = append(bins, b.tidy(part)...)
	for i := 1; i < len(bins); i++ {
		if bins[i].Start-bins[i-1].End <= max(b.narrow, idle) {
			bins[i-1].End = bins[i].Start
		}
	}
	return bins
}

// tidy gives the rest at the end of a part, when it is too small to say anything, to the window before it.
func (b binning) tidy(part []tally) []tally {
	n := len(part)
	if n < 2 {
		return part
	}
	last, before := part[n-1], &part[n-2]
	long := last.End - last.Start
	if long >= b.wide || long >= b.narrow/2 && last.Requests >= b.least || last.Start-before.End > b.narrow {
		return part
	}
	before.merge(last)
	return part[:n-1]
}

// cutBetween reports whether a cut lies after the one moment, up to the other.
func (b binning) cutBetween(after, upTo time.Duration) bool {
	for _, cut := range b.cuts {
		if cut > after && cut <= upTo {
			return true
		}
	}
	return false
}

// arm adds up what the judged edge saw of a version until a moment.
func (s *Story) arm(version string, until time.Duration) tally {
	var sum tally
	for _, e := range s.Evidence {
		if e.End <= until {
			s.addVersion(&sum, e, version)
		}
	}
	return sum
}

func (s *Story) addVersion(sum *tally, e journal.Evidence, version string) {
	for _, c := range e.Cells {
		if s.judged(c.From, c.To) && c.Version == version {
			sum.add(c.Requests, c.Failed, c.Latency)
		}
	}
}

// until is how far evidence counts for the verdict: to the decision or, without one, to the end.
func (s *Story) until() time.Duration {
	if s.Decision != nil {
		return s.Decision.At
	}
	return s.Took
}
