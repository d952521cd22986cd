package plan

import (
	"fmt"
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/istio"
	"meshtest.dev/meshtest/spec"
)

// namedFile finds a file that rules name among those that were read with the scenario.
func (b *builder) namedFile(name string) ([]byte, error) {
	data, ok := b.scenario.Files[name]
	if !ok {
		return nil, fmt.Errorf("%s: there is no such file in the scenario's folder", name)
	}
	return data, nil
}

// openOutside adds the endpoints of hosts outside the mesh, and takes away what no rule opens unless anything may be reached.
func (b *builder) openOutside(rules istio.Rules) {
	snap := b.plan.Snapshot
	for name, e := range rules.Endpoints {
		snap.Endpoints[name] = b.withInstances(e)
	}
	if b.scenario.OutboundTrafficPolicy.Mode == spec.AllowAny {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(snap.Endpoints)) {
		e := snap.Endpoints[name]
		svc := snap.Services[e.Host]
		open := rules.Opened[e.Host] && slices.ContainsFunc(svc.Ports, func(p mesh.Port) bool { return p.Number == e.Port })
		if svc.External && !open {
			delete(snap.Endpoints, name)
		}
	}
	maps.DeleteFunc(snap.Services, func(host string, svc *mesh.Service) bool { return svc.External && !rules.Opened[host] })
}

// withInstances says of endpoints whose address is that of a service outside the mesh of ours, which of its instances they are.
func (b *builder) withInstances(e *mesh.Endpoints) *mesh.Endpoints {
	out := *e
	out.Endpoints = slices.Clone(e.Endpoints)
	for i, one := range out.Endpoints {
		for _, w := range b.plan.Workloads {
			if w.External && w.Host == one.Address && w.Port == one.Port {
				out.Endpoints[i].Workload, out.Endpoints[i].Instance = w.Name, w.Instances[0]
			}
		}
	}
	return &out
}

// unknown is what becomes of traffic to what the mesh does not know.
func (b *builder) unknown() mesh.Unknown { return mesh.Unknown(b.scenario.OutboundTrafficPolicy.Mode) }
