package control

import (
	"cmp"
	"fmt"
	"math"
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

// has is the newest counter up to which the sidecar has acknowledged everything that matters, and knows it.
func (s *sidecar) has(head uint64) uint64 {
	if s.subscribed == nil {
		return 0
	}
	has := s.whole(head, acknowledged)
	if s.promised < s.changed {
		has = min(has, s.changed-1)
	}
	return has
}

func acknowledged(_ key, e *entry) uint64 { return e.since }

// willHave is what it has once it has accepted an update of the given kind that is in flight. Of other updates in flight nothing is presumed: they may be refused.
func (s *sidecar) willHave(head uint64, kind mesh.Kind) uint64 {
	return s.whole(head, func(k key, e *entry) uint64 {
		if e.flying && k.kind == kind {
			return e.resince
		}
		return e.since
	})
}

// missing gives the oldest counter with a change of a resource that a sidecar misses; 0: none.
type missing func(key, *entry) uint64

func (s *sidecar) whole(head uint64, since missing) uint64 {
	b := s.blockers(since)
	for k, e := range s.pending {
		if oldest := since(k, e); oldest != 0 && s.matters(k, e, b) {
			head = min(head, oldest-1)
		}
	}
	return head
}

// matters reports whether a request can tell the difference. It cannot tell what only waits to be forgotten, because no route and no listener names it any more.
func (s *sidecar) matters(k key, e *entry, b blockers) bool {
	drops := e.bridged || e.want == nil && (k.kind == mesh.KindService || k.kind == mesh.KindEndpoints)
	return s.everything || !drops || !unnamed(k, e, b)
}

// never is later than any counter, and than any time.
const never = math.MaxInt64

// blockers are the oldest unacknowledged counters by what they block.
type blockers struct {
	additions uint64 // of services, endpoints and routes: block listeners
	inbound   uint64 // blocks the removal of routes
	routes    uint64 // with inbound, block the removal of endpoints and services
	endpoints uint64 // blocks, too, the removal of services
}

func (s *sidecar) blockers(missing missing) blockers {
	b := blockers{additions: never, inbound: never, routes: never, endpoints: never}
	for k, e := range s.pending {
		since := missing(k, e)
		if since == 0 {
			continue
		}
		switch k.kind {
		case mesh.KindInbound:
			b.inbound = min(b.inbound, since)
			continue
		case mesh.KindRouteTable:
			b.routes = min(b.routes, since)
		case mesh.KindEndpoints:
			b.endpoints = min(b.endpoints, since)
		}
		if e.want != nil && !e.bridged {
			b.additions = min(b.additions, since)
		}
	}
	return b
}

// mayAdd reports whether all that the resource names has been acknowledged as of the resource's own generation.
func (s *sidecar) mayAdd(k key, e *entry, b blockers) bool {
	if k.kind == mesh.KindInbound {
		return b.additions > e.at
	}
	for _, name := range e.want.names {
		if needed := s.pending[name]; needed != nil && needed.want != nil && !needed.bridged && needed.since <= e.at {
			return false
		}
	}
	return true
}

// unnamed reports whether everything that may have named the resource has been acknowledged as of its removal.
func unnamed(k key, e *entry, b blockers) bool {
	switch k.kind {
	case mesh.KindInbound:
		return true
	case mesh.KindRouteTable:
		return b.inbound > e.at
	default:
		return min(b.inbound, b.routes) > e.at
	}
}

// next returns the updates that can be sent now, and when something is due that now waits for its drain: never, when nothing does.
func (s *sidecar) next(now, drain time.Duration, store *store) (updates []*pb.Update, due time.Duration) {
	due = never
	if s.subscribed == nil || store.counter == 0 {
		return nil, due
	}
	b := s.blockers(acknowledged)
	ready := map[mesh.Kind][]key{}
	for k, e := range s.pending {
		if s.flights[k.kind] != nil || e.refused {
			continue
		}
		drops := e.want == nil || e.bridged
		switch {
		case !drops && s.mayAdd(k, e, b) || drops && s.mayRemove(k, e, b, now, drain):
			ready[k.kind] = append(ready[k.kind], k)
		case drops && e.drainAt > now:
			due = min(due, e.drainAt)
		}
	}
	for _, kind := range mesh.Kinds() {
		if keys := ready[kind]; len(keys) > 0 {
			updates = append(updates, s.send(kind, keys, b, store))
		}
	}
	if s.owesPromise(store.counter) {
		updates = append(updates, s.send(mesh.KindService, nil, b, store))
	}
	return updates, due
}

// owesPromise reports whether the sidecar has all there is, and neither knows it nor is about to be told: its updates crossed, or it has it from another epoch.
func (s *sidecar) owesPromise(head uint64) bool {
	if s.promised >= s.changed || s.flights[mesh.KindService] != nil || s.whole(head, acknowledged) < head {
		return false
	}
	for _, f := range s.flights {
		if f.whole >= s.changed {
			return false
		}
	}
	return true
}

// mayRemove reports whether a removal may be sent: for services and endpoints (and for what a service drops), when nothing has named them for the length of the drain.
func (s *sidecar) mayRemove(k key, e *entry, b blockers, now, drain time.Duration) bool {
	if !unnamed(k, e, b) {
		e.drainAt = 0
		return false
	}
	if k.kind == mesh.KindRouteTable || k.kind == mesh.KindInbound {
		return true
	}
	if e.drainAt == 0 {
		e.drainAt = max(1, now+drain)
	}
	return now >= e.drainAt && (k.kind == mesh.KindEndpoints || b.endpoints > e.at)
}

func (s *sidecar) send(kind mesh.Kind, keys []key, b blockers, store *store) *pb.Update {
	slices.SortFunc(keys, func(a, b key) int { return cmp.Compare(a.name, b.name) })
	s.nonce++
	u := &pb.Update{Kind: string(kind), Nonce: s.nonce}
	for _, k := range keys {
		e := s.entries[k]
		e.flight, e.flying = e.want, true
		if kind == mesh.KindService && e.want != nil && !e.bridged && !unnamed(k, e, b) {
			e.flight = cmp.Or(bridge(e.have, e.want), e.want)
		}
		if e.flight == nil {
			u.Removed = append(u.Removed, k.name)
		} else {
			u.Resources = append(u.Resources, e.flight.Resource)
		}
	}
	f := &flight{nonce: s.nonce, counter: store.counter, whole: s.willHave(store.counter, kind), keys: keys}
	s.flights[kind] = f
	u.Generation = wire.Generation(store.generation(f.whole))
	return u
}
