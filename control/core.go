package control

import (
	"errors"
	"maps"
	"slices"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// stream names one connection of a sidecar; numbers are never used twice.
type stream uint64

// core decides what is sent to whom. It is not safe for concurrent use, starts nothing and knows no clock. Each method returns what is to be done because of it, in order.
type core struct {
	store    *store
	drain    time.Duration
	sidecars map[stream]*sidecar
	streams  map[string]stream // by instance
	last     stream

	has       map[stream]uint64 // up to which counter each sidecar has everything
	lagging   map[uint64]int    // how many sidecars have everything up to a counter, those that have all there is excepted
	converged convergence       // as last told
}

// convergence is what makes one [wire.Converged] differ from the last.
type convergence struct {
	counter  uint64
	sidecars int
	last     stream
}

// output is what is to be done.
type output struct {
	updates  []delivery
	closed   []closing
	progress []wire.Progress
	due      time.Duration // when tick has to be called next, at the latest; never: not because of this
}

type delivery struct {
	to     stream
	update *pb.Update
}

type closing struct {
	whom stream
	why  error
}

func newCore(epoch uint64, drain time.Duration) *core {
	return &core{
		store: newStore(epoch), drain: drain, sidecars: map[stream]*sidecar{}, streams: map[string]stream{},
		has: map[stream]uint64{}, lagging: map[uint64]int{},
	}
}

// apply changes the configuration. An error changes nothing.
func (c *core) apply(now time.Duration, change wire.Change) (wire.Applied, output, error) {
	out := output{due: never}
	before := c.store.counter
	changed, err := c.store.apply(change)
	if err != nil {
		return wire.Applied{}, out, err
	}
	head := c.store.counter
	applied := wire.Applied{Generation: c.store.generation(head)}
	if head == before {
		return applied, out, nil
	}
	for id, s := range c.sidecars {
		if s.subscribed == nil || !s.concerns(changed) {
			continue
		}
		s.aim(c.store, head)
		c.measure(id)
		s.told = max(s.told, min(c.has[id], head))
		if c.has[id] < head {
			applied.Affected = append(applied.Affected, s.instance)
		}
		c.pump(now, id, &out)
	}
	slices.Sort(applied.Affected)
	c.tellConverged(&out)
	return applied, out, nil
}

// concerns reports whether a change may change what the sidecar should have.
func (s *sidecar) concerns(changed map[key]bool) bool {
	if s.everything || s.scope == nil {
		return true
	}
	small, large := changed, s.scope
	if len(small) > len(large) {
		small, large = large, small
	}
	for k := range small {
		if large[k] {
			return true
		}
	}
	return false
}

var errSuperseded = errors.New("a newer stream of the same instance took over")

// connect takes a sidecar's Hello, and names its stream. An older stream of the instance, which nobody has found dead yet, ends.
func (c *core) connect(hello *pb.Hello) (stream, output) {
	out := output{due: never}
	if old, ok := c.streams[hello.GetInstance()]; ok {
		c.drop(old)
		out.closed = append(out.closed, closing{old, errSuperseded})
	}
	c.last++
	s := newSidecar(hello, c.store.epoch)
	c.sidecars[c.last], c.streams[s.instance] = s, c.last
	c.measure(c.last)
	out.progress = append(out.progress, c.progress(s, wire.Connected, 0, nil))
	return c.last, out
}

func (c *core) subscribe(now time.Duration, id stream, sub *pb.Subscribe) (output, error) {
	return c.with(now, id, func(s *sidecar, _ *output) error { return s.subscribe(sub, c.store) })
}

func (c *core) answer(now time.Duration, id stream, ack *pb.Ack) (output, error) {
	return c.with(now, id, func(s *sidecar, out *output) error {
		if err := s.answer(ack); err != nil {
			return err
		}
		if r, refused := s.refusals[mesh.Kind(ack.GetKind())]; refused && ack.GetError() != "" {
			out.progress = append(out.progress, c.progress(s, wire.Nacked, r.counter, r.why))
		}
		return nil
	})
}

// with lets a sidecar's message act, and tells what follows from it. A stream that was superseded is gone, which is no error.
func (c *core) with(now time.Duration, id stream, act func(*sidecar, *output) error) (output, error) {
	out := output{due: never}
	s := c.sidecars[id]
	if s == nil {
		return out, nil
	}
	if err := act(s, &out); err != nil {
		return out, err
	}
	c.measure(id)
	if has := min(c.has[id], c.store.counter); has > s.told {
		s.told = has
		out.progress = append(out.progress, c.progress(s, wire.Acked, has, nil))
	}
	c.pump(now, id, &out)
	c.tellConverged(&out)
	return out, nil
}

func (c *core) disconnect(id stream, why error) output {
	out := output{due: never}
	s := c.sidecars[id]
	if s == nil {
		return out // superseded
	}
	c.drop(id)
	out.progress = append(out.progress, c.progress(s, wire.Disconnected, s.told, why))
	c.tellConverged(&out)
	return out
}

// tick sends what has drained.
func (c *core) tick(now time.Duration) output {
	out := output{due: never}
	for id, s := range c.sidecars {
		if len(s.pending) > 0 {
			c.pump(now, id, &out)
		}
	}
	return out
}

// pump sends what can be sent.
func (c *core) pump(now time.Duration, id stream, out *output) {
	updates, due := c.sidecars[id].next(now, c.drain, c.store)
	for _, u := range updates {
		out.updates = append(out.updates, delivery{id, u})
	}
	out.due = min(out.due, due)
}

// measure notes up to where a sidecar has everything. One that has all there is stays so, however far the configuration moves on without concerning it.
func (c *core) measure(id stream) {
	c.forget(id)
	has := c.sidecars[id].has(never)
	c.has[id] = has
	if has != never {
		c.lagging[has]++
	}
}

func (c *core) forget(id stream) {
	has, ok := c.has[id]
	if !ok || has == never {
		return
	}
	if c.lagging[has]--; c.lagging[has] == 0 {
		delete(c.lagging, has)
	}
}

func (c *core) drop(id stream) {
	c.forget(id)
	delete(c.has, id)
	delete(c.streams, c.sidecars[id].instance)
	delete(c.sidecars, id)
}

func (c *core) progress(s *sidecar, state wire.State, counter uint64, why error) wire.Progress {
	p := wire.Progress{Generation: c.store.generation(counter), Instance: s.instance, State: state}
	if why != nil {
		p.Error = why.Error()
	}
	return p
}

// tellConverged tells how far all sidecars are, when that is news: further than before, or all the way with other sidecars than before.
func (c *core) tellConverged(out *output) {
	is := c.wholeMesh()
	news := is.counter > c.converged.counter || is.counter == c.store.counter && is != c.converged
	c.converged = is
	if news && is.counter > 0 {
		out.progress = append(out.progress, c.convergence())
	}
}

// wholeMesh is how far all sidecars are.
func (c *core) wholeMesh() convergence {
	is := convergence{counter: c.store.counter, sidecars: len(c.streams), last: c.last}
	for has := range c.lagging {
		is.counter = min(is.counter, has)
	}
	return is
}

func (c *core) convergence() wire.Progress {
	is := c.wholeMesh()
	p := wire.Progress{Generation: c.store.generation(is.counter), State: wire.Converged, Sidecars: is.sidecars}
	for instance := range c.store.snapshot.Inbound {
		if _, connected := c.streams[instance]; !connected {
			p.Absent = append(p.Absent, instance)
		}
	}
	slices.Sort(p.Absent)
	return p
}

// state is what a new watcher has to know.
func (c *core) state() []wire.Progress {
	var state []wire.Progress
	for _, instance := range slices.Sorted(maps.Keys(c.streams)) {
		id := c.streams[instance]
		s := c.sidecars[id]
		state = append(state, c.progress(s, wire.Connected, 0, nil))
		if has := min(c.has[id], c.store.counter); has > 0 {
			state = append(state, c.progress(s, wire.Acked, has, nil))
		}
		for _, kind := range mesh.Kinds() {
			if r, refused := s.refusals[kind]; refused {
				state = append(state, c.progress(s, wire.Nacked, r.counter, r.why))
			}
		}
	}
	return append(state, c.convergence())
}
