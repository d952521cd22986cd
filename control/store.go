package control

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// key names a resource.
type key struct {
	kind mesh.Kind
	name string
}

// resource is one version of a resource as all streams share it.
type resource struct {
	*pb.Resource
	names   []key         // resources of earlier kinds that it refers to
	service *mesh.Service // the content of a service, unless a sidecar brought it
	bridge  bool          // between two versions of a service
}

// same reports whether two resources, either of which may be absent, have the same content.
func same(a, b *resource) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.GetVersion() == b.GetVersion()
}

// store is the configuration as it should be: a sound snapshot, its encoding, and its age.
type store struct {
	epoch     uint64
	counter   uint64 // 0: nothing was ever applied
	snapshot  *mesh.Snapshot
	resources map[key]*resource
}

func newStore(epoch uint64) *store {
	return &store{epoch: epoch, snapshot: mesh.NewSnapshot(), resources: map[key]*resource{}}
}

func (s *store) generation(counter uint64) mesh.Generation {
	return mesh.Generation{Epoch: s.epoch, Counter: counter}
}

var errPartial = errors.New("this control plane has no configuration yet: the first change has to be whole")

// apply carries a change out, all or nothing, and returns what it really changed. Mistakes are a wire.RefusedError.
func (s *store) apply(change wire.Change) (map[key]bool, error) {
	if s.counter == 0 && !change.Whole {
		return nil, errPartial
	}
	set := change.Set
	if set == nil {
		set = mesh.NewSnapshot()
	}
	for kind := range change.Remove {
		if !slices.Contains(mesh.Kinds(), kind) {
			return nil, &wire.RefusedError{Mistakes: []string{fmt.Sprintf("unknown kind of resource %q", kind)}}
		}
	}
	if mistakes := wire.Misnamed(set); len(mistakes) > 0 {
		return nil, &wire.RefusedError{Mistakes: mistakes}
	}
	next := s.next(change, set)
	if mistakes := texts(next.Validate()); len(mistakes) > 0 {
		return nil, &wire.RefusedError{Mistakes: mistakes}
	}
	resources, changed, err := s.encode(next, set)
	if err != nil {
		return nil, err
	}
	if len(changed) > 0 || s.counter == 0 {
		s.counter++
		s.snapshot, s.resources = next, resources
	}
	return changed, nil
}

func (s *store) next(change wire.Change, set *mesh.Snapshot) *mesh.Snapshot {
	if change.Whole {
		return mesh.NewSnapshot().Apply(mesh.Update{Set: set})
	}
	next := s.snapshot.Apply(mesh.Update{Set: set})
	for kind, names := range change.Remove {
		next = next.Apply(mesh.Update{Kind: kind, Removed: names})
	}
	return next
}

// encode encodes what is set, keeps the encoding of what is as it was, and says what differs from before.
func (s *store) encode(next, set *mesh.Snapshot) (map[key]*resource, map[key]bool, error) {
	resources, changed := make(map[key]*resource, len(s.resources)), map[key]bool{}
	given := map[key]bool{}
	for k := range all(set) {
		given[k] = true
	}
	for k, value := range all(next) {
		have := s.resources[k]
		if have == nil || given[k] {
			encoded, err := wire.NewResource(k.name, value)
			if err != nil {
				return nil, nil, err
			}
			if have == nil || have.GetVersion() != encoded.GetVersion() {
				service, _ := value.(*mesh.Service)
				have, changed[k] = &resource{Resource: encoded, names: references(value), service: service}, true
			}
		}
		resources[k] = have
	}
	for k := range s.resources {
		if resources[k] == nil {
			changed[k] = true
		}
	}
	return resources, changed, nil
}

// all iterates over a snapshot's resources, in no particular order.
func all(s *mesh.Snapshot) iter.Seq2[key, any] {
	return func(yield func(key, any) bool) {
		for name, value := range s.Services {
			if !yield(key{mesh.KindService, name}, value) {
				return
			}
		}
		for name, value := range s.Endpoints {
			if !yield(key{mesh.KindEndpoints, name}, value) {
				return
			}
		}
		for name, value := range s.Routes {
			if !yield(key{mesh.KindRouteTable, name}, value) {
				return
			}
		}
		for name, value := range s.Inbound {
			if !yield(key{mesh.KindInbound, name}, value) {
				return
			}
		}
	}
}

func texts(errs []error) []string {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return texts
}

// references are the resources that one names: what a sidecar must have to carry it out.
func references(value any) []key {
	var names []key
	reach := func(host string, port int) {
		names = append(names, key{mesh.KindService, host}, key{mesh.KindEndpoints, mesh.HostPort(host, port)})
	}
	switch r := value.(type) {
	case *mesh.Endpoints:
		names = append(names, key{mesh.KindService, r.Host})
	case *mesh.RouteTable:
		reach(r.Host, r.Port)
		for _, route := range r.Routes {
			for _, d := range route.Split {
				if d.Refuse == 0 {
					reach(d.Host, d.Port)
				}
			}
			for _, m := range route.Mirrors {
				reach(m.Host, m.Port)
			}
		}
	case *mesh.Inbound:
		for _, out := range r.Outbound {
			reach(out.Host, out.Port)
			names = append(names, key{mesh.KindRouteTable, mesh.HostPort(out.Host, out.Port)})
		}
	}
	return names
}

// scope is what a sidecar may know, whether it is there or not: its own listeners and all that can be reached through them, which for a listener that takes any authority or whatever the kernel
// has captured is everything. Everybody else's listeners are nobody's business.
func (s *store) scope(instance string) (scope map[key]bool, everything bool) {
	own := key{mesh.KindInbound, instance}
	scope = map[key]bool{}
	s.reach(own, scope)
	if inbound := s.snapshot.Inbound[instance]; inbound == nil || inbound.Proxy == "" && (inbound.Capture == nil || inbound.Capture.Outbound == "") {
		return scope, false
	}
	for k := range s.resources {
		if k.kind != mesh.KindInbound {
			scope[k] = true
		}
	}
	return scope, true
}

func (s *store) reach(k key, reached map[key]bool) {
	if reached[k] {
		return
	}
	reached[k] = true
	if r := s.resources[k]; r != nil {
		for _, name := range r.names {
			s.reach(name, reached)
		}
	}
}
