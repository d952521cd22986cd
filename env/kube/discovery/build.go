package discovery

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"meshtest.dev/meshtest/mesh"
)

// Build makes the configuration of what is there and what the owner has said, who may have said nothing (nil). It is sound: whatever is not is left out, with a problem each. Problems are in a stable
// order, and so are all lists, so that what means the same is the same.
//
// A Service NAME of a namespace is the host NAME.LOGICAL.svc.cluster.local. What the owner says of a service that is there comes to what was discovered, and wins: subsets, traffic policy, the protocols of
// ports. Services that the owner alone knows are taken as they are, without endpoints, because they may come. Of route tables, the owner's replace those that Istio's objects make, and a port
// without any has one route to itself. Of the owner's Inbound only the edge's is used, as the template of every gateway; instances take no more than the seed, the limits of their service and what becomes of
// unknown traffic from theirs. Where that is refused, services outside the mesh are left out that neither the owner nor a rule names.
func Build(s State, overlay *mesh.Snapshot) (*mesh.Snapshot, []Problem) {
	if overlay == nil {
		overlay = mesh.NewSnapshot()
	}
	b := &builder{
		state: s, overlay: overlay, out: mesh.NewSnapshot(),
		services: map[string][]*service{}, pods: map[key]*corev1.Pod{}, slices: map[key][]*discoveryv1.EndpointSlice{}, carried: map[string]bool{},
	}
	b.index()
	b.findServices()
	b.findEndpoints()
	b.found = maps.Clone(b.out.Endpoints)
	b.addOverlaid()
	b.findRoutes()
	b.checkRoutes()
	b.findInbound()
	return b.out, b.problems
}

type builder struct {
	state    State
	overlay  *mesh.Snapshot
	out      *mesh.Snapshot
	problems []Problem

	services map[string][]*service                // by real namespace, in the order of their names
	pods     map[key]*corev1.Pod                  // of applications
	slices   map[key][]*discoveryv1.EndpointSlice // by service
	found    map[string]*mesh.Endpoints           // those that were discovered
	carried  map[string]bool                      // hosts for which anybody with a sidecar answers
}

func (b *builder) problem(object, reason string) {
	b.problems = append(b.problems, Problem{Object: object, Reason: reason})
}

func (b *builder) mistake(object, reason string) {
	b.problems = append(b.problems, Problem{Object: object, Reason: reason, Overlay: true})
}

// index makes pods and slices easy to find.
func (b *builder) index() {
	for _, p := range b.state.Pods {
		if _, ours := b.state.Namespaces[p.Namespace]; ours {
			b.pods[keyOf(p)] = p
		}
	}
	for _, s := range sorted(b.state.Slices) {
		of := key{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
		b.slices[of] = append(b.slices[of], s)
	}
}

// addOverlaid adds what only the owner knows.
func (b *builder) addOverlaid() {
	for host, said := range b.overlay.Services {
		b.out.Services[host] = overlaid(b.out.Services[host], said)
	}
	for _, host := range slices.Sorted(maps.Keys(b.overlay.Services)) {
		for _, p := range b.out.Services[host].Ports {
			b.exist(host, p.Number)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.overlay.Endpoints)) {
		e := b.overlay.Endpoints[name]
		if b.out.Services[e.Host] == nil {
			b.mistake("endpoints "+name, "no such service: "+e.Host)
			continue
		}
		b.exist(e.Host, e.Port)
	}
	b.addOutside(b.overlay.Endpoints)
}

// exist sees to it that routes can name a port of a service, although nobody may answer there yet.
func (b *builder) exist(host string, port int) {
	name := mesh.HostPort(host, port)
	if b.out.Endpoints[name] == nil && !isGateway(host) {
		b.out.Endpoints[name] = &mesh.Endpoints{Host: host, Port: port}
	}
}

// overlaid is a service with what the owner says of it; either may be nil.
func overlaid(found, said *mesh.Service) *mesh.Service {
	if found == nil || said == nil {
		if found == nil {
			return said
		}
		return found
	}
	both := *found
	both.Ports = slices.Clone(found.Ports)
	for _, p := range said.Ports {
		i := slices.IndexFunc(both.Ports, func(q mesh.Port) bool { return q.Number == p.Number })
		if i < 0 {
			both.Ports = append(both.Ports, p)
			continue
		}
		both.Ports[i].Protocol = p.Protocol
	}
	both.Subsets = slices.Clone(said.Subsets)
	for _, s := range found.Subsets {
		if !slices.ContainsFunc(said.Subsets, func(t mesh.Subset) bool { return t.Name == s.Name }) {
			both.Subsets = append(both.Subsets, s)
		}
	}
	if said.Traffic != (mesh.TrafficPolicy{}) {
		both.Traffic = said.Traffic
	}
	both.External = found.External || said.External
	if said.External { // an entry of the owner's
		both.Addresses = slices.Concat(found.Addresses, said.Addresses)
		both.Resolution = said.Resolution
	}
	return &both
}
