package discovery

import (
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// unknown is what becomes of traffic to what the mesh does not know; the owner gives every instance the same, and none to the edge.
func (b *builder) unknown() mesh.Unknown {
	for _, instance := range slices.Sorted(maps.Keys(b.overlay.Inbound)) {
		if u := b.overlay.Inbound[instance].Unknown; u != "" {
			return u
		}
	}
	return ""
}

// limits are those that the owner has for a workload's service.
func (b *builder) limits(w mesh.Workload) []mesh.RateLimit {
	for _, instance := range slices.Sorted(maps.Keys(b.overlay.Inbound)) {
		said := b.overlay.Inbound[instance]
		if said.Workload.Service == w.Service && said.Workload.Namespace == w.Namespace && len(said.Limits) > 0 {
			return said.Limits
		}
	}
	return nil
}

// addOutside adds endpoints that rules list, in place of none. One whose address is a service that is there is whoever answers for that.
func (b *builder) addOutside(listed map[string]*mesh.Endpoints) {
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		said := listed[name]
		if b.out.Services[said.Host] == nil {
			continue // reported already
		}
		e := &mesh.Endpoints{Host: said.Host, Port: said.Port}
		for _, one := range said.Endpoints {
			switch behind := b.found[mesh.HostPort(one.Address, one.Port)]; {
			case one.Address == "": // an instance of the owner's: it is discovered
			case behind != nil:
				e.Endpoints = append(e.Endpoints, behind.Endpoints...)
			default:
				e.Endpoints = append(e.Endpoints, one)
			}
		}
		if had := b.out.Endpoints[name]; had == nil || len(e.Endpoints) > 0 {
			b.out.Endpoints[name] = e
		}
	}
}

// closeOutside takes away what is outside the mesh and what no rule opens, where only what is known may be reached: a service that is there, of which nobody has a sidecar, and which the owner does not
// name; and ports of a service outside that its entry does not open.
func (b *builder) closeOutside(opened map[string]bool) {
	if b.unknown() != mesh.RegistryOnly {
		return
	}
	for _, host := range slices.Sorted(maps.Keys(b.out.Services)) {
		said := b.overlay.Services[host]
		switch {
		case isGateway(host), b.carried[host]:
		case said == nil && !opened[host]:
			delete(b.out.Services, host)
		case said != nil && said.External:
			open := *b.out.Services[host]
			open.Ports = said.Ports
			b.out.Services[host] = &open
		}
	}
	maps.DeleteFunc(b.out.Endpoints, func(_ string, e *mesh.Endpoints) bool {
		svc := b.out.Services[e.Host]
		return svc == nil || svc.External && !slices.ContainsFunc(svc.Ports, func(p mesh.Port) bool { return p.Number == e.Port })
	})
}
