package filter

import (
	"fmt"
	"sync"
	"sync/atomic"

	"meshtest.dev/meshtest/injector"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
	"meshtest.dev/meshtest/proxy/route"
)

// record is what is kept of a fault for good.
type record struct {
	tally injector.Tally
	over  atomic.Bool // not held

	mu      *sync.Mutex   // the filter's, for the following
	term    *term         // while held
	changed chan struct{} // closed when the state changes, or the last effect after the end is over
}

func newRecord(mu *sync.Mutex) *record {
	r := &record{mu: mu, changed: make(chan struct{})}
	r.over.Store(true)
	return r
}

// announce tells whoever waits; the caller holds mu.
func (r *record) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// end ends one effect.
func (r *record) end() {
	if last := r.tally.End(); last && r.over.Load() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.announce()
	}
}

// term is a fault for as long as it is held without a change. It is the Effect of verdicts to which it alone contributes.
type term struct {
	*injector.Decider
	record  *record
	point   proxy.Point
	matcher *route.Matcher
	labels  mesh.Labels   // wanted of the caller
	ended   chan struct{} // closed when the fault is not held any more
}

func newTerm(fault mesh.Fault) (*term, error) {
	if err := injector.Validate(fault); err != nil {
		return nil, err
	}
	t := &term{Decider: injector.NewDecider(fault), point: proxy.AtRequest, ended: make(chan struct{})}
	if fault.At == mesh.AtAttempt {
		t.point = proxy.AtAttempt
	}
	if fault.Match != nil {
		t.labels = fault.Match.SourceLabels
	}
	var err error
	if t.matcher, err = route.CompileMatch(fault.Match, t.labels); err != nil { // labels are compared with the caller's when there is one
		return nil, fmt.Errorf("fault %q cannot be executed: its match: %w", fault.ID, err)
	}
	return t, nil
}

// matches reports whether the fault is about this request at this point.
func (t *term) matches(at proxy.Point, x *proxy.Exchange) bool {
	f := t.Fault()
	return at == t.point && f.To == x.Edge.To && f.From == x.Edge.From && (f.Version == "" || f.Version == x.Version) &&
		(len(t.labels) == 0 || x.Caller != nil && x.Caller.Labels.Match(t.labels)) &&
		(t.matcher == nil || t.matcher.Match(x.Request, x.Port))
}

// ask counts a request that matches, and decides what happens to it. An effect has begun when it is returned.
func (t *term) ask(x *proxy.Exchange) injector.Effect {
	tally := &t.record.tally
	effect := t.Decider.Decide(x.Seed, x.Key, x.Attempt, tally.Matched())
	if effect.IsZero() || !tally.Begin(t.Fault().Max) {
		return injector.Effect{}
	}
	if effect.Delay > 0 {
		tally.Delayed()
	}
	return effect
}

// Done ends the effect of the fault on one request.
func (t *term) Done(c proxy.Carried) {
	if c.Answered {
		t.record.tally.Aborted()
	}
	t.record.end()
}

// several is the Effect of faults that met on one request. The last one answers, if any does: behind an answer nobody is asked.
type several struct{ terms []*term }

// Done ends all their effects.
func (s *several) Done(c proxy.Carried) {
	last := len(s.terms) - 1
	for _, t := range s.terms[:last] {
		t.Done(proxy.Carried{Delayed: c.Delayed})
	}
	s.terms[last].Done(c)
}
