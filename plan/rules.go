package plan

import (
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
	"meshtest.dev/meshtest/mesh/gatewayapi"
	"meshtest.dev/meshtest/mesh/istio"
	"meshtest.dev/meshtest/mesh/policy"
	"meshtest.dev/meshtest/mesh/rules"
	"meshtest.dev/meshtest/spec"
)

// rules compiles the mesh rules into the snapshot, and gives every port without rules a table with one route.
func (b *builder) rules() {
	snap := b.plan.Snapshot
	if r := b.scenario.Rollout; r != nil {
		svc := *snap.Services[b.host(r.Service)]
		svc.Subsets = []mesh.Subset{implicitSubset(r.Stable), implicitSubset(r.Canary)}
		snap.Services[svc.Host] = &svc
	}
	docs := documents(b.scenario)
	rules, problems := istio.Compile(docs.Istio, snap.Services, b.scenario.Namespace, istio.Files(b.namedFile))
	versions := b.versionHosts(rules.Services)
	routes, more := gatewayapi.Compile(docs.GatewayAPI, withVersions(rules.Services, versions), b.scenario.Namespace)
	policies, most := policy.Compile(docs.Ours, rules.Services, b.scenario.Namespace)
	if problems = slices.Concat(docs.Problems, problems, more, most); len(problems) > 0 {
		b.diags = append(b.diags, diagnostics(b.scenario, problems)...)
		return
	}
	b.join(rules, routes, versions)
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

// join adds the routes of the Gateway API to Istio's. Each host has rules of one of them.
func (b *builder) join(rules istio.Rules, routes gatewayapi.Rules, versions map[string]version) {
	for _, host := range slices.Sorted(maps.Keys(routes.Services)) {
		name, namespace, is := gatewayapi.GatewayName(host)
		if !is {
			continue
		}
		rules.Services[host] = routes.Services[host]
		if rules.Services[istio.GatewayHost(name, namespace)] != nil {
			b.fail(gatewayapi.CodeConflict, "rules", "rename one of them", "both Istio and the Gateway API have a Gateway %s/%s", namespace, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(routes.Routes)) {
		table := routes.Routes[name]
		switch v, is := versions[table.Host]; {
		case is:
			b.fail(gatewayapi.CodeReference, "rules", "name "+v.service+" in parentRefs, and the version in backendRefs",
				"%s of %s has the parent %s, which is one version of %s: callers name the service", table.Routes[0].Name, table.Routes[0].Origin, mesh.LogicalName(table.Host), v.service)
		case rules.Routes[name] != nil:
			b.fail(gatewayapi.CodeConflict, "rules", "put all rules of a host into one of the APIs",
				"%s and %s are both about %s", rules.Routes[name].Routes[0].Origin, table.Routes[0].Origin, name)
		default:
			rules.Routes[name] = toSubsets(table, rules.Services, versions)
		}
	}
}

// version is one version of a service.
type version struct{ service, host, name string }

// versionHosts are the hosts by which routes of the Gateway API name one version: it has no subsets, and splits requests between Services. Version V of NAME is the Service NAME-V, as its workload is, unless there
// is another service of that name.
func (b *builder) versionHosts(services map[string]*mesh.Service) map[string]version {
	hosts := map[string]version{}
	for service, svc := range b.scenario.Services {
		for name := range svc.Versions {
			host := mesh.FQDN(mesh.WorkloadName(service, name), b.scenario.Namespace)
			if services[host] == nil {
				hosts[host] = version{service, b.host(service), name}
			}
		}
	}
	return hosts
}

// withVersions are the services and one for each version.
func withVersions(services map[string]*mesh.Service, versions map[string]version) map[string]*mesh.Service {
	all := maps.Clone(services)
	for host, v := range versions {
		all[host] = &mesh.Service{Host: host, Ports: services[v.host].Ports}
	}
	return all
}

// toSubsets leads what a table says of versions to subsets of their services, so that a split is the same thing whoever's words said it. A service gets the subset that it needs.
func toSubsets(table *mesh.RouteTable, services map[string]*mesh.Service, versions map[string]version) *mesh.RouteTable {
	lead := func(host, subset *string) {
		v, is := versions[*host]
		if !is {
			return
		}
		svc := services[v.host]
		if !slices.ContainsFunc(svc.Subsets, func(s mesh.Subset) bool { return selects(s, v.service, v.name) }) {
			with := *svc
			with.Subsets = append(slices.Clone(svc.Subsets), implicitSubset(v.name))
			svc, services[v.host] = &with, &with
		}
		*host, *subset = v.host, subsetOf(svc, v.service, v.name)
	}
	next := cloneTable(table)
	for i, r := range next.Routes {
		r.Split, r.Mirrors = slices.Clone(r.Split), slices.Clone(r.Mirrors)
		for j := range r.Split {
			lead(&r.Split[j].Host, &r.Split[j].Subset)
		}
		for j := range r.Mirrors {
			lead(&r.Mirrors[j].Host, &r.Mirrors[j].Subset)
		}
		next.Routes[i] = r
	}
	return next
}

// documents are those of the scenario's rules, by who reads them.
func documents(s *spec.Scenario) rules.Families {
	var all []document.Document
	for _, r := range s.Rules {
		for _, d := range r.Documents {
			all = append(all, document.Document{File: d.File, Path: d.Path, Node: d.Node})
		}
	}
	return rules.Sort(all)
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
