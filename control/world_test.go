package control

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
)

// The world of these tests: six services with a port each, two subsets, a route table for some, and five sidecars, one of which takes any authority.
const (
	hosts     = 6
	instances = 5
)

func host(i int) string { return mesh.FQDN(fmt.Sprintf("s%d", i), "default") }

func port(i int) int { return 8000 + i }

func instance(i int) string { return fmt.Sprintf("w%d", i) }

func service(i int, subsets ...string) *mesh.Service {
	s := &mesh.Service{Host: host(i), Ports: []mesh.Port{{Number: port(i), Protocol: mesh.HTTP}}}
	for _, name := range subsets {
		s.Subsets = append(s.Subsets, mesh.Subset{Name: name, Labels: mesh.Labels{mesh.LabelVersion: name}})
	}
	return s
}

func endpoints(i int, addresses ...string) *mesh.Endpoints {
	e := &mesh.Endpoints{Host: host(i), Port: port(i)}
	for _, a := range addresses {
		e.Endpoints = append(e.Endpoints, mesh.Endpoint{Address: a, Port: 80, Labels: mesh.Labels{mesh.LabelVersion: "v1"}})
	}
	return e
}

func routes(i int, split ...mesh.Destination) *mesh.RouteTable {
	return &mesh.RouteTable{Host: host(i), Port: port(i), Routes: []mesh.Route{{Name: "all", Split: split}}}
}

func to(i int, subset string, weight uint32) mesh.Destination {
	return mesh.Destination{Host: host(i), Port: port(i), Subset: subset, Weight: weight}
}

func inbound(i int, upstreams ...int) *mesh.Inbound {
	in := &mesh.Inbound{Workload: mesh.Workload{Name: instance(i), Instance: instance(i)}}
	for _, u := range upstreams {
		in.Outbound = append(in.Outbound, mesh.OutboundPort{Bind: "127.0.0.1:0", Host: host(u), Port: port(u), Protocol: mesh.HTTP})
	}
	return in
}

// snapshot puts resources under their names.
func snapshot(resources ...any) *mesh.Snapshot {
	s := mesh.NewSnapshot()
	for _, r := range resources {
		put(s, r)
	}
	return s
}

func put(s *mesh.Snapshot, resource any) {
	name := wire.Name(resource)
	switch r := resource.(type) {
	case *mesh.Service:
		s.Services[name] = r
	case *mesh.Endpoints:
		s.Endpoints[name] = r
	case *mesh.RouteTable:
		s.Routes[name] = r
	case *mesh.Inbound:
		s.Inbound[name] = r
	}
}

// bad marks a resource that fussy sidecars refuse.
const bad = "bad"

// mutate returns a sound snapshot that differs from the given one in a few random places.
func mutate(r *rand.Rand, s *mesh.Snapshot, poison bool) *mesh.Snapshot {
	for {
		next := s.Clone()
		for range 1 + r.IntN(4) {
			edit(r, next, poison)
		}
		if next.Validate() == nil {
			return next
		}
	}
}

func edit(r *rand.Rand, s *mesh.Snapshot, poison bool) {
	i, j := r.IntN(hosts), r.IntN(hosts)
	subset := []string{"", "v1", "v2"}[r.IntN(3)]
	switch r.IntN(10) {
	case 0:
		put(s, service(i, []string{"v1", "v2", "v3"}[:r.IntN(4)]...))
	case 1:
		put(s, endpoints(i, fmt.Sprint("10.0.0.", r.IntN(4))))
	case 2, 3:
		table := routes(i, to(i, subset, 1+r.Uint32N(3)), to(j, "", r.Uint32N(3)))
		if poison && r.IntN(4) == 0 {
			table.Routes[0].Origin = bad
		}
		put(s, table)
	case 4:
		delete(s.Routes, mesh.HostPort(host(i), port(i)))
	case 5:
		put(s, inbound(r.IntN(instances), i, j))
	case 6:
		in := inbound(r.IntN(instances), i)
		in.Proxy = []string{"", "127.0.0.1:1"}[r.IntN(2)]
		in.Capture = []*mesh.Capture{nil, {Inbound: ":15006"}, {Inbound: ":15006", Outbound: ":15001"}}[r.IntN(3)]
		put(s, in)
	case 7: // a whole service goes, with what names it
		delete(s.Services, host(i))
		delete(s.Endpoints, mesh.HostPort(host(i), port(i)))
		delete(s.Routes, mesh.HostPort(host(i), port(i)))
		for name, t := range s.Routes {
			if slices.ContainsFunc(t.Routes[0].Split, func(d mesh.Destination) bool { return d.Host == host(i) }) {
				delete(s.Routes, name)
			}
		}
		for name, in := range s.Inbound {
			keep := *in
			keep.Outbound = slices.DeleteFunc(slices.Clone(in.Outbound), func(o mesh.OutboundPort) bool { return o.Host == host(i) })
			s.Inbound[name] = &keep
		}
	case 8: // and comes
		put(s, service(i, "v1", "v2"))
		put(s, endpoints(i, "10.0.0.9"))
	case 9:
		delete(s.Inbound, instance(r.IntN(instances)))
	}
}

// cure removes what fussy sidecars refuse.
func cure(s *mesh.Snapshot) *mesh.Snapshot {
	next := s.Clone()
	for name, t := range next.Routes {
		if t.Routes[0].Origin == bad {
			delete(next.Routes, name)
		}
	}
	return next
}

// partial is the change from one snapshot to another that names only the difference, and some of what is equal.
func partial(r *rand.Rand, from, to *mesh.Snapshot) wire.Change {
	c := wire.Change{Set: mesh.NewSnapshot(), Remove: map[mesh.Kind][]string{}}
	was := maps.Collect(all(from))
	for k, value := range all(to) {
		if was[k] != value || r.IntN(4) == 0 {
			put(c.Set, value)
		}
		delete(was, k)
	}
	for k := range was {
		c.Remove[k.kind] = append(c.Remove[k.kind], k.name)
	}
	return c
}
