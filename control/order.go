package control

import (
	"cmp"
	"math"
	"slices"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

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
