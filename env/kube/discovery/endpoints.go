package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"meshtest.dev/meshtest/mesh"
)

// findEndpoints finds who answers at each port of each service. A service of which nobody has a sidecar is outside the mesh.
func (b *builder) findEndpoints() {
	for _, namespace := range b.state.realNamespaces() {
		for _, s := range b.services[namespace] {
			answering, carried := 0, 0
			for _, p := range s.ports {
				e := &mesh.Endpoints{Host: s.host, Port: int(p.Port)}
				for _, at := range b.backends(s, p) {
					e.Endpoints = append(e.Endpoints, b.endpoint(s, at))
					answering++
					if at.pod != nil && hasSidecar(at.pod) {
						carried++
					}
				}
				b.out.Endpoints[mesh.HostPort(s.host, int(p.Port))] = e
			}
			b.carried[s.host] = carried > 0
			if answering > 0 && carried == 0 {
				outside := *b.out.Services[s.host]
				outside.External = true
				b.out.Services[s.host] = &outside
			}
		}
	}
}

// backend is an address that answers for a service, and what is there.
type backend struct {
	address netip.Addr
	port    int
	zone    string
	pod     *corev1.Pod // nil: it is no pod's
}

// backends are those that are ready and stay, in the order of their addresses.
func (b *builder) backends(s *service, port corev1.ServicePort) (all []backend) {
	for _, slice := range b.slices[keyOf(s)] {
		number, ok := portOf(slice, port.Name)
		if !ok || slice.AddressType != family(s) {
			continue
		}
		for _, e := range slice.Endpoints {
			if !answers(e) || len(e.Addresses) == 0 {
				continue
			}
			address, err := netip.ParseAddr(e.Addresses[0]) // there is never more than one
			if err != nil {
				b.problem(describe("EndpointSlice", slice), fmt.Sprintf("%q is no address", e.Addresses[0]))
				continue
			}
			at := backend{address: address, port: number}
			if e.Zone != nil {
				at.zone = *e.Zone
			}
			if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
				at.pod = b.pods[key{s.Namespace, ref.Name}]
				stays := at.pod != nil && at.pod.DeletionTimestamp == nil && (ref.UID == "" || ref.UID == at.pod.UID)
				if !stays {
					continue // we hear of pods and of slices one after the other, so it is gone, or comes at once
				}
			}
			all = append(all, at)
		}
	}
	slices.SortFunc(all, func(a, b backend) int { return cmp.Or(a.address.Compare(b.address), cmp.Compare(a.port, b.port)) })
	return slices.CompactFunc(all, func(a, b backend) bool { return a.address == b.address && a.port == b.port }) // an address may be in two slices while it moves
}

// answers reports whether new requests should go to an endpoint. What is not known is to be taken as yes.
func answers(e discoveryv1.Endpoint) bool {
	ready, terminating := e.Conditions.Ready, e.Conditions.Terminating
	return (ready == nil || *ready) && (terminating == nil || !*terminating)
}

// family is the kind of addresses that a service prefers; of a pod with two, we use one.
func family(s *service) discoveryv1.AddressType {
	if len(s.Spec.IPFamilies) > 0 && s.Spec.IPFamilies[0] == corev1.IPv6Protocol {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

// portOf is the number of a named port in a slice.
func portOf(slice *discoveryv1.EndpointSlice, name string) (int, bool) {
	for _, p := range slice.Ports {
		tcp := p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP
		same := p.Name == nil && name == "" || p.Name != nil && *p.Name == name
		if tcp && same && p.Port != nil {
			return int(*p.Port), true
		}
	}
	return 0, false
}

func (b *builder) endpoint(s *service, at backend) mesh.Endpoint {
	e := mesh.Endpoint{Address: at.address.String(), Port: at.port, Locality: at.zone, Workload: s.Name, Instance: at.address.String()}
	if p := at.pod; p != nil {
		e.Workload, e.Instance, e.Labels, e.Identity = workloadName(p), Instance(p.Name, p.Namespace), p.Labels, b.identity(p)
	}
	return e
}
