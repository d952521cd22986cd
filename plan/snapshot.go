package plan

import (
	"slices"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
	"meshtest.dev/meshtest/mesh/istio"
	"meshtest.dev/meshtest/mesh/policy"
	"meshtest.dev/meshtest/spec"
)

// DefaultRouteName is the name of the only route of a host without rules.
const DefaultRouteName = "default"

// snapshot fills in services, endpoints without addresses, and inbound configuration without listeners' addresses.
func (b *builder) snapshot() {
	snap := b.plan.Snapshot
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
			}
		}
	}
	snap.Inbound[EdgeInstance] = &mesh.Inbound{
		// The edge is the mesh's own and of no application's namespace: evidence and faults call it by its bare name.
		Workload: mesh.Workload{Name: spec.EdgeName, Namespace: mesh.DefaultNamespace, Instance: EdgeInstance,
			Identity: mesh.SPIFFE(TrustDomain, b.plan.Namespace, spec.EdgeName), Labels: mesh.Labels{mesh.LabelApp: spec.EdgeName}},
		Seed:     b.plan.Seed,
		Trusted:  true,
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

// rules compiles the mesh rules into the snapshot, and gives every port without rules a table with one route.
func (b *builder) rules() {
	snap := b.plan.Snapshot
	if r := b.scenario.Rollout; r != nil {
		svc := *snap.Services[b.host(r.Service)]
		svc.Subsets = []mesh.Subset{implicitSubset(r.Stable), implicitSubset(r.Canary)}
		snap.Services[svc.Host] = &svc
	}
	ours, theirs := documents(b.scenario)
	rules, problems := istio.Compile(theirs, snap.Services, b.scenario.Namespace, istio.Files(b.namedFile))
	policies, more := policy.Compile(ours, rules.Services, b.scenario.Namespace)
	if problems = append(problems, more...); len(problems) > 0 {
		b.diags = append(b.diags, diagnostics(b.scenario, problems)...)
		return
	}
	snap.Services, snap.Routes = rules.Services, rules.Routes
	b.openOutside(rules)
	policies.Apply(snap)
	for name, e := range snap.Endpoints {
		if snap.Routes[name] == nil {
			snap.Routes[name] = &mesh.RouteTable{Host: e.Host, Port: e.Port, Routes: []mesh.Route{b.defaultRoute(e.Host, e.Port)}}
		}
	}
	for _, err := range snap.Validate() {
		b.fail("MT1405", "rules", "", "%v", err)
	}
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

// documents are the scenario's rules: documents of ours, and Istio's.
func documents(s *spec.Scenario) (ours, theirs []document.Document) {
	for _, r := range s.Rules {
		for _, d := range r.Documents {
			doc := document.Document{File: d.File, Path: d.Path, Node: d.Node}
			if policy.Is(doc) {
				ours = append(ours, doc)
			} else {
				theirs = append(theirs, doc)
			}
		}
	}
	return ours, theirs
}

// diagnostics says problems of rules as diagnostics of the scenario.
func diagnostics(s *spec.Scenario, problems []document.Problem) spec.Diagnostics {
	var out spec.Diagnostics
	for _, p := range problems {
		hint := p.Hint
		if p.Known != nil {
			hint = spec.Suggest(p.Word, p.Known)
		}
		out = append(out, s.ProblemAt(spec.SeverityError, p.Code, p.File, p.Line, p.Col, p.Path, p.Message, hint))
	}
	return out
}
