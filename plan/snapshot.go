package plan

import (
	"slices"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// DefaultRouteName is the name of the only route of a host without rules.
const DefaultRouteName = "default"

// snapshot fills in services, endpoints without addresses, and inbound configuration without listeners' addresses.
func (b *builder) snapshot() {
	snap := b.plan.Snapshot
	sampling := b.scenario.Tracing.Sampling.Share()
	for _, w := range b.plan.Workloads {
		if snap.Services[w.Host] == nil {
			snap.Services[w.Host] = &mesh.Service{Host: w.Host, Ports: []mesh.Port{{Name: string(w.Protocol), Number: w.Port, Protocol: w.Protocol}}, External: w.External}
			snap.Endpoints[mesh.HostPort(w.Host, w.Port)] = &mesh.Endpoints{Host: w.Host, Port: w.Port}
		}
		e := snap.Endpoints[mesh.HostPort(w.Host, w.Port)]
		for _, instance := range w.Instances {
			e.Endpoints = append(e.Endpoints, mesh.Endpoint{Identity: w.Identity, Workload: w.Name, Instance: instance, Labels: w.Labels})
			if w.External {
				continue
			}
			snap.Inbound[instance] = &mesh.Inbound{
				Workload: mesh.Workload{Name: w.Name, Namespace: b.plan.Namespace, Service: w.Service, Version: w.Version, Instance: instance,
					Identity: w.Identity, Labels: w.Labels},
				Seed:     b.plan.Seed,
				Listen:   []mesh.InboundPort{{Port: w.Port, Protocol: w.Protocol}},
				Outbound: outbound(w.Upstreams),
				Unknown:  b.unknown(),
				Sampling: &sampling,
			}
		}
	}
	snap.Inbound[EdgeInstance] = &mesh.Inbound{
		// The edge is the mesh's own and of no application's namespace: evidence and faults call it by its bare name.
		Workload: mesh.Workload{Name: spec.EdgeName, Namespace: mesh.DefaultNamespace, Instance: EdgeInstance,
			Identity: mesh.SPIFFE(TrustDomain, b.plan.Namespace, spec.EdgeName), Labels: mesh.Labels{mesh.LabelApp: spec.EdgeName}},
		Seed:     b.plan.Seed,
		Trusted:  true,
		Sampling: &sampling,
		Outbound: outbound(b.upstreams(append(slices.Clone(b.calls[spec.EdgeName]), b.declared(spec.EdgeName)...))),
	}
}

func outbound(ups []Upstream) []mesh.OutboundPort {
	var out []mesh.OutboundPort
	for _, u := range ups {
		out = append(out, mesh.OutboundPort{Host: u.Host, Port: u.Port, Protocol: u.Protocol})
	}
	return out
}

func (b *builder) defaultRoute(host string, port int) mesh.Route {
	r := mesh.Route{Name: DefaultRouteName, Split: []mesh.Destination{{Host: host, Port: port, Weight: 100}}}
	for _, p := range b.plan.Snapshot.Services[host].Ports {
		if p.Number == port && p.Protocol.IsHTTP() {
			r.Retry = mesh.DefaultRetry()
		}
	}
	return r
}

func implicitSubset(version string) mesh.Subset {
	return mesh.Subset{Name: version, Labels: mesh.Labels{mesh.LabelVersion: version}}
}
