// Package filter breaks things inside the sidecar: it is the proxy's filter that carries out the faults that the run leases to this sidecar, and lets go of them by itself when
// nobody renews.
package filter

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/injector"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
)

// ReasonAbort is the mesh.HeaderReason of an answer that a fault gave.
const ReasonAbort = "fault_abort"

// Filter is a proxy.Filter and, for the run, the holder of leases. Faults are asked in the order of their ids, like links of a chain: delays add up, and faults behind one that
// answers do not see the request.
type Filter struct {
	instance string
	clock    func() time.Duration
	inForce  atomic.Pointer[[]*term] // by id; replaced, never edited
	moved    chan struct{}           // holds a token when the next deadline may have moved

	mu      sync.Mutex
	leases  *injector.Leases
	records map[string]*record // by id
	anyEnd  atomic.Pointer[chan struct{}]
}

var _ proxy.Filter = (*Filter)(nil)

// New returns the filter of one workload instance. The clock is the boot-time clock of the machine: [BootClock], except in tests.
func New(instance string, clock func() time.Duration) *Filter {
	f := &Filter{
		instance: instance, clock: clock, moved: make(chan struct{}, 1),
		leases: injector.NewLeases(), records: map[string]*record{},
	}
	f.inForce.Store(new([]*term))
	end := make(chan struct{})
	f.anyEnd.Store(&end)
	return f
}

// Name is "fault".
func (f *Filter) Name() string { return "fault" }

// Decide asks the faults in force.
func (f *Filter) Decide(at proxy.Point, x *proxy.Exchange) proxy.Verdict {
	var v proxy.Verdict
	anyEnd := *f.anyEnd.Load() // before the faults, so that the end of any of them is seen
	for _, t := range *f.inForce.Load() {
		if !t.matches(at, x) {
			continue
		}
		if effect := t.ask(x); !effect.IsZero() {
			add(&v, t, effect, anyEnd)
		}
		if v.Status != 0 {
			break
		}
	}
	return v
}

// add lets one fault's effect join those of the faults before it.
func add(v *proxy.Verdict, t *term, effect injector.Effect, anyEnd <-chan struct{}) {
	switch before := v.Effect.(type) {
	case nil:
		v.Effect, v.Cut = t, t.ended
	case *term:
		v.Effect, v.Cut = &several{terms: []*term{before, t}}, anyEnd
	case *several:
		before.terms = append(before.terms, t)
	}
	if effect.Delay > 0 {
		v.Delay += effect.Delay
		v.Flags |= proxy.FlagDelayInjected
	}
	if effect.Abort != 0 {
		v.Status, v.Reason = effect.Abort, ReasonAbort
		v.Flags |= proxy.FlagFaultInjected
	}
}

// Lease takes, renews or releases (with a TTL of 0; then of the fault only the id counts). A lease that is not newer than the last one changes nothing. The error says why the
// fault cannot be executed.
func (f *Filter) Lease(lease mesh.Lease, fault mesh.Fault) error {
	var next *term
	if lease.TTL > 0 {
		var err error
		if next, err = newTerm(fault); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock()
	f.expire(now)
	taken, err := f.leases.Take(now, lease)
	if err != nil || !taken {
		return err
	}
	r := f.records[lease.Fault]
	if r == nil {
		r = newRecord(&f.mu)
		f.records[lease.Fault] = r
	}
	f.put(r, next)
	return nil
}

// put puts a fault in force, or ends it when next is nil. A renewal of the same fault leaves it as it is.
func (f *Filter) put(r *record, next *term) {
	last := r.term
	if next != nil && last != nil && reflect.DeepEqual(next.Fault(), last.Fault()) {
		f.move()
		return
	}
	if next != nil {
		next.record = r
	}
	r.term = next
	r.over.Store(next == nil)
	f.publish()
	if last != nil {
		close(last.ended)
		end := make(chan struct{})
		close(*f.anyEnd.Swap(&end))
	}
	if next == nil || last == nil {
		r.announce()
	}
	f.move()
}

// publish makes the faults in force those that are held.
func (f *Filter) publish() {
	var held []*term
	for _, id := range slices.Sorted(maps.Keys(f.records)) {
		if t := f.records[id].term; t != nil {
			held = append(held, t)
		}
	}
	f.inForce.Store(&held)
}

func (f *Filter) move() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

func (f *Filter) expire(now time.Duration) {
	for _, id := range f.leases.Expire(now) {
		f.put(f.records[id], nil)
	}
}

// Account returns what a fault has done so far, and a channel that is closed when its state changes next or, after its end, its last effect is over. ok is false when the fault was
// never leased to this sidecar.
func (f *Filter) Account(fault string) (a mesh.Accounting, changed <-chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.records[fault]
	if r == nil {
		return mesh.Accounting{}, nil, false
	}
	state, _ := f.leases.State(fault)
	return r.tally.Accounting(fault, f.instance, state), r.changed, true
}

// look is how often the clock is looked at while a fault is held, at least: a timer stands still while the machine sleeps, the boot-time clock does not.
const look = time.Second

// Run ends leases whose time is over, until ctx ends.
func (f *Filter) Run(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(f.tick())
		select {
		case <-ctx.Done():
		case <-f.moved:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// tick ends what is due, and returns how long to wait.
func (f *Filter) tick() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock()
	f.expire(now)
	deadline, held := f.leases.Next()
	if !held {
		return time.Hour // or until something is held
	}
	return min(deadline-now, look)
}
