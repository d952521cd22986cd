package upstream

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// Result is how an attempt at an endpoint ended: the status of its answer (that which the gRPC status stands for, if it has one), or why there was none.
type Result int16

// Results without an answer, of local origin in Envoy's words.
const (
	ConnectFailed Result = -1 - iota // no connection could be made, in time or at all
	Broken                           // the connection failed before the head of an answer, or what came was no answer
	TimedOut                         // the answer took longer than an attempt may
)

// status is what a result without an answer counts as when it does not count by itself.
func (r Result) status() Result {
	switch r {
	case ConnectFailed, Broken:
		return 503
	case TimedOut:
		return 504
	default:
		return r
	}
}

// Ejection is why an endpoint was taken out of use.
type Ejection uint8

// Ejections.
const (
	Ejected5xx Ejection = iota
	EjectedGateway
	EjectedLocal
	numEjections = iota
)

// String is Envoy's word.
func (e Ejection) String() string {
	return [numEjections]string{"consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure"}[e]
}

// detector is outlier detection with its defaults in place.
type detector struct {
	mesh.OutlierDetection
	thresholds [numEjections]uint32 // 0: off
}

// newDetector completes a policy with Istio's defaults, and where it has none, Envoy's.
func newDetector(o *mesh.OutlierDetection) *detector {
	if o == nil {
		return nil
	}
	d := &detector{OutlierDetection: *o}
	d.Interval = cmp.Or(o.Interval, 10*time.Second)
	d.BaseEjection = cmp.Or(o.BaseEjection, 30*time.Second)
	d.MaxEjection = cmp.Or(o.MaxEjection, max(300*time.Second, d.BaseEjection))
	d.MaxEjectionPercent = cmp.Or(o.MaxEjectionPercent, 10)
	d.thresholds = [numEjections]uint32{
		Ejected5xx:     uint32(max(cmp.Or(o.Consecutive5xx, 5), 0)),
		EjectedGateway: uint32(max(o.ConsecutiveGateway, 0)),
		EjectedLocal:   uint32(max(cmp.Or(o.ConsecutiveLocalFailures, 5), 0)),
	}
	return d
}

// tick is the first end of an interval at a time or behind it. Only then do endpoints come back, and are earlier ejections forgiven, as in Envoy; nothing runs for that: it is worked out when somebody looks.
func (d *detector) tick(t time.Duration) time.Duration { return (t + d.Interval - 1) / d.Interval }

// streak counts failures in a row.
type streak struct{ n atomic.Uint32 }

// end ends it. In the good case nothing is written.
func (s *streak) end() {
	if s.n.Load() != 0 {
		s.n.Store(0)
	}
}

// Report tells how an attempt at the endpoint ended, once for each that was not given up by the caller.
func (e *Endpoint) Report(r Result) {
	d := e.group.outlier
	if d == nil {
		return
	}
	fails := &e.state.fails
	if d.SplitLocalOrigin {
		if r < 0 {
			e.fail(EjectedLocal)
			return
		}
		fails[EjectedLocal].end()
	}
	switch status := r.status(); {
	case status < 500:
		fails[Ejected5xx].end()
		fails[EjectedGateway].end()
	case status >= 502 && status <= 504:
		e.fail(EjectedGateway)
		e.fail(Ejected5xx)
	default:
		fails[EjectedGateway].end()
		e.fail(Ejected5xx)
	}
}

// fail counts a failure, and sees to it that the endpoint is ejected when it was one too many.
func (e *Endpoint) fail(kind Ejection) {
	threshold := e.group.outlier.thresholds[kind]
	if n := e.state.fails[kind].n.Add(1); threshold != 0 && n >= threshold {
		e.group.roster.eject(e, kind, threshold)
	}
}

// ejection is the state of an endpoint that was taken out of use, or had been.
type ejection struct {
	active bool
	until  time.Duration // the end of it, when active
	last   time.Duration // the end of the last one, early or not
	times  int64         // how many times BaseEjection it lasts; forgiven one by one, at each end of an interval that was free of it
	total  int           // ever
}

// eject takes an endpoint out of use, unless somebody else has seen to it, or too many are out already.
func (r *roster) eject(e *Endpoint, kind Ejection, threshold uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, m := e.group, e.state
	now := g.opts.Now()
	r.readmit(now)
	if m.fails[kind].n.Load() < threshold || m.ejection.active || m.gone {
		return
	}
	m.fails[kind].end()
	if !g.mayEject(len(r.ejected)) {
		r.count.overflows.Add(1)
		r.total.overflows.Add(1)
		return
	}
	m.ejection.begin(g.outlier, now)
	r.ejected = append(r.ejected, m)
	r.count.ejections[kind].Add(1)
	r.total.ejections[kind].Add(1)
	r.version.Add(1)
}

// mayEject reports whether another endpoint may be taken out of use beside those that are: one always, and more up to the percentage.
func (g *Group) mayEject(already int) bool {
	return already == 0 || 100*(already+1) <= g.outlier.MaxEjectionPercent*len(g.Endpoints)
}

// begin works out how long the ejection lasts (Envoy's formula): longer each time, unless there was peace in between.
func (x *ejection) begin(d *detector, now time.Duration) {
	if x.total > 0 {
		x.times = max(0, x.times-max(0, int64(now/d.Interval-d.tick(x.last))))
	}
	if time.Duration(x.times)*d.BaseEjection < d.MaxEjection+d.BaseEjection {
		x.times++
	}
	x.active = true
	x.until = d.tick(now+min(time.Duration(x.times)*d.BaseEjection, d.MaxEjection)) * d.Interval
	x.last = x.until
	x.total++
}

// readmit ends the ejections that are over. The caller holds the lock.
func (r *roster) readmit(now time.Duration) {
	r.readmitIf(func(m *member) bool { return now >= m.ejection.until })
}

func (r *roster) readmitIf(over func(*member) bool) {
	before := len(r.ejected)
	r.ejected = slices.DeleteFunc(r.ejected, func(m *member) bool {
		if !over(m) {
			return false
		}
		m.readmit()
		return true
	})
	if len(r.ejected) < before {
		r.version.Add(1)
	}
}

// readmit takes an endpoint into use again, with a clean slate but for the number of its ejections.
func (m *member) readmit() {
	m.ejection.active = false
	for i := range m.fails {
		m.fails[i].end()
	}
}
