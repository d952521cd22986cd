package control

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// sidecar is what the control plane knows about one connected sidecar: the state machine of its stream.
//
// Make before break: a resource is sent when the sidecar has acknowledged everything that it names, and removed when the sidecar has acknowledged everything that named it before. Both follow from
// one number per resource, the oldest generation in which it changed without an acknowledgement since: additions wait for additions of earlier kinds, removals wait
// for later kinds, and additions never wait for removals, so nothing waits in a circle.
type sidecar struct {
	instance   string
	subscribed map[mesh.Kind]map[string]bool // nil until the first Subscribe
	scope      map[key]bool
	everything bool // the scope is all there is: a listener takes any authority
	entries    map[key]*entry
	pending    map[key]*entry // those with something unacknowledged
	flights    map[mesh.Kind]*flight
	refusals   map[mesh.Kind]refusal // the last one, until something refused changes
	nonce      uint64
	changed    uint64 // counter of the last difference
	promised   uint64 // largest counter that an accepted update said it makes whole
	told       uint64 // up to which counter its progress was told
}

// entry is one resource at one sidecar.
type entry struct {
	want    *resource // nil: it should not be there
	have    *resource // acknowledged; nil: it is not there
	flight  *resource // sent, when flying; nil: its removal was
	flying  bool
	refused bool // want was refused, and waits for a change
	bridged bool // have is the bridge to want: all of it, and what it drops

	at      uint64        // counter at which want became what it is
	since   uint64        // oldest counter with a change that is not acknowledged; 0: none
	resince uint64        // the same, of the changes since take-off
	drainAt time.Duration // when a removal that nothing names any more may be sent; 0: something still names it
}

// flight is an update that is not answered.
type flight struct {
	nonce   uint64
	counter uint64 // that was current at take-off
	whole   uint64 // that the sidecar has whole when it applies the update
	keys    []key
}

// refusal is what a sidecar said against an update.
type refusal struct {
	counter uint64
	why     error
}

func newSidecar(hello *pb.Hello, epoch uint64) *sidecar {
	s := &sidecar{
		instance: hello.GetInstance(),
		entries:  map[key]*entry{}, pending: map[key]*entry{}, flights: map[mesh.Kind]*flight{}, refusals: map[mesh.Kind]refusal{},
	}
	if g := hello.GetGeneration(); g.GetEpoch() == epoch {
		s.promised = g.GetCounter()
	}
	return s
}

// subscribe changes what the sidecar wants to know, and notes what it holds already.
func (s *sidecar) subscribe(sub *pb.Subscribe, store *store) error {
	fresh := s.subscribed == nil
	if fresh {
		s.subscribed = map[mesh.Kind]map[string]bool{}
	}
	for _, interest := range sub.GetInterests() {
		kind := mesh.Kind(interest.GetKind())
		if !slices.Contains(mesh.Kinds(), kind) {
			return fmt.Errorf("a subscription to the unknown kind %q", kind)
		}
		if len(interest.GetHeld()) > 0 && !fresh {
			return fmt.Errorf("a subscription to %s names what is held, but is not the first on its stream", kind)
		}
		names := s.subscribed[kind]
		if names == nil {
			names = map[string]bool{}
			s.subscribed[kind] = names
		}
		for _, name := range interest.GetAdd() {
			names[name] = true
		}
		for _, name := range interest.GetRemove() {
			delete(names, name)
		}
		for _, held := range interest.GetHeld() {
			r := &resource{Resource: &pb.Resource{Name: held.GetName(), Version: held.GetVersion()}}
			s.entries[key{kind, held.GetName()}] = &entry{want: r, have: r} // as if it were right, until there is a configuration that says otherwise
		}
	}
	if store.counter > 0 {
		since := store.counter
		if fresh {
			since = 1 // of what it has not, it never had anything
		}
		s.aim(store, since)
		if len(s.pending) > 0 {
			s.changed = store.counter
		}
	}
	return nil
}

// aim brings what the sidecar should have up to date, and counts differences as of the given counter.
func (s *sidecar) aim(store *store, counter uint64) {
	s.scope, s.everything = store.scope(s.instance)
	s.changed = max(s.changed, 1) // at the latest now there is a generation to tell
	for k := range s.scope {
		if r := store.resources[k]; r != nil && s.subscribedTo(k) {
			s.want(k, r, counter)
		}
	}
	for k, e := range s.entries {
		if e.want != nil && (!s.scope[k] || store.resources[k] == nil || !s.subscribedTo(k)) {
			s.want(k, nil, counter)
		}
	}
}

func (s *sidecar) subscribedTo(k key) bool {
	names := s.subscribed[k.kind]
	return names[wire.Everything] || names[k.name]
}

func (s *sidecar) want(k key, r *resource, counter uint64) {
	e := s.entries[k]
	if e == nil {
		e = &entry{}
		s.entries[k] = e
	}
	if same(e.have, r) {
		e.have = r // the stored one, also when the sidecar brought its own
	}
	if same(e.want, r) {
		e.want = r
		return
	}
	if e.refused {
		s.forgive(k.kind)
	}
	if e.bridged && !e.flying {
		e.since = 0 // of the last version, it had everything
	}
	e.bridged = false
	e.want, e.at, e.drainAt, s.changed = r, counter, 0, counter
	switch {
	case e.flying:
		e.resince = cmp.Or(e.resince, counter)
	case same(e.want, e.have):
		e.since = 0
	default:
		e.since = cmp.Or(e.since, counter)
	}
	s.file(k, e)
}

// forgive lets everything of a kind be sent again that was refused: updates are refused as a whole, so a change of one resource may be what the others waited for.
func (s *sidecar) forgive(kind mesh.Kind) {
	delete(s.refusals, kind)
	for k, e := range s.pending {
		if k.kind == kind {
			e.refused = false
		}
	}
}

// file keeps the entry where it belongs.
func (s *sidecar) file(k key, e *entry) {
	if e.since != 0 {
		s.pending[k] = e
		return
	}
	delete(s.pending, k)
	if e.want == nil {
		delete(s.entries, k)
	}
}

// answer takes the answer to an update. The error says how the sidecar does not keep to the protocol.
func (s *sidecar) answer(ack *pb.Ack) error {
	kind := mesh.Kind(ack.GetKind())
	f := s.flights[kind]
	if f == nil || f.nonce != ack.GetNonce() {
		return fmt.Errorf("an answer to update %d of %s, which is not open", ack.GetNonce(), kind)
	}
	delete(s.flights, kind)
	accepted := ack.GetError() == ""
	if accepted || len(f.keys) == 0 {
		s.promised = max(s.promised, f.whole)
	}
	fixed := slices.ContainsFunc(f.keys, func(k key) bool { return s.entries[k].resince != 0 })
	for _, k := range f.keys {
		s.entries[k].land(accepted, fixed)
		s.file(k, s.entries[k])
	}
	if !accepted {
		s.refusals[kind] = refusal{f.counter, fmt.Errorf("%s: %s", kind, ack.GetError())}
	}
	if fixed {
		s.forgive(kind)
	}
	return nil
}

// land ends a flight. A refused one is tried again only when something in it has changed since.
func (e *entry) land(accepted, fixed bool) {
	if accepted {
		e.have, e.since = e.flight, e.resince
		if e.bridged = e.since == 0 && e.flight != nil && e.flight.bridge; e.bridged {
			e.since = e.at
		}
	}
	e.refused = !accepted && !fixed
	e.flight, e.flying, e.resince = nil, false, 0
	if same(e.want, e.have) {
		e.since, e.refused = 0, false
	}
}
