package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// rollout finds the judged edge and takes over the route table of the service.
func (b *builder) rollout() {
	r := b.scenario.Rollout
	if r == nil {
		return
	}
	from, ok := b.judgedCaller(r)
	if !ok {
		return
	}
	b.judged = from
	if l := b.enteringBy(from, r.Service); l != "" {
		b.fail("MT1406", "rollout", "send the load to the service itself (target), or judge another caller (from)",
			"load %s comes to %s through a gateway, whose own rules choose the version: the roll-out cannot split it", l, r.Service)
		return
	}
	host, port := b.host(r.Service), b.scenario.Services[r.Service].Port
	svc := b.plan.Snapshot.Services[host]
	split := Split{Host: host, Port: port, Stable: subsetOf(svc, r.Service, r.Stable), Canary: subsetOf(svc, r.Service, r.Canary)}
	b.plan.Rollout = &Rollout{
		Service: r.Service, Host: host, Port: port, Split: split, Stable: r.Stable, Canary: r.Canary,
		Edge: b.edge(from, r.Service), Judge: r.Judge, Warmup: r.Warmup, Expected: b.scenario.Expect.Rollout, Analysis: r.Analysis,
	}
	for i := range b.plan.Edges {
		b.plan.Edges[i].Judged = b.plan.Edges[i].Edge == b.plan.Rollout.Edge
	}
	name := mesh.HostPort(host, port)
	table, err := split.attach(b.plan.Snapshot.Routes[name])
	if err != nil {
		b.fail("MT1402", "rules", "let the last route split between both subsets, or leave it out", "the roll-out of %s cannot split its requests: %v", r.Service, err)
		return
	}
	b.plan.Snapshot.Routes[name] = table
}

// enteringBy is a stream that enters at a service through a gateway, when the edge is judged; empty when there is none.
func (b *builder) enteringBy(judged, service string) string {
	for _, l := range b.scenario.Load {
		if judged == spec.EdgeName && l.Gateway != "" && b.perRequest(l, judged, service) > 0 {
			return l.Name
		}
	}
	return ""
}

// judgedCaller is the caller whose view is judged: the one that the scenario names, or the only one there is.
func (b *builder) judgedCaller(r *spec.Rollout) (string, bool) {
	if r.From != "" {
		return r.From, true
	}
	var callers []string
	for _, from := range slices.Sorted(maps.Keys(b.calls)) {
		if slices.Contains(b.calls[from], r.Service) && b.scenario.External[from] == nil {
			callers = append(callers, from)
		}
	}
	switch len(callers) {
	case 1:
		return callers[0], true
	case 0:
		b.fail("MT1403", "rollout", fmt.Sprintf("give a caller ${service.%s.url} in its env, send load to it, or say from: NAME", r.Service),
			"nothing calls %s, so there is no view to judge", r.Service)
	default:
		b.fail("MT1403", "rollout", "say from: "+callers[0], "%s has several callers (%s), and one view must be judged", r.Service, strings.Join(callers, ", "))
	}
	return "", false
}

// subsetOf is the name of the first subset that selects a version of a service; there is one, because the roll-out brings one along.
func subsetOf(svc *mesh.Service, service, version string) string {
	for _, s := range svc.Subsets {
		if selects(s, service, version) {
			return s.Name
		}
	}
	return version
}

// selects reports whether a subset is one of a version alone.
func selects(s mesh.Subset, service, version string) bool {
	labels := mesh.Labels{mesh.LabelApp: service, mesh.LabelVersion: version}
	return s.Labels[mesh.LabelVersion] == version && labels.Match(s.Labels)
}

// attach makes the table of a service one that the roll-out can edit, with everything on stable. A route that splits between both arms is used as it is; else
// the route that takes all other requests becomes one, when it leads to the service; else one is appended.
func (s Split) attach(table *mesh.RouteTable) (*mesh.RouteTable, error) {
	next := cloneTable(table)
	for _, r := range next.Routes {
		if s.weighted(r) {
			return s.WithWeights(next, 0), nil
		}
		if s.among(r) {
			return nil, fmt.Errorf("the route %s splits between more than the two versions", r.Name)
		}
	}
	arms := []mesh.Destination{{Host: s.Host, Subset: s.Stable, Port: s.Port, Weight: 100}, {Host: s.Host, Subset: s.Canary, Port: s.Port}}
	for i, r := range next.Routes {
		switch {
		case !catchAll(r):
			continue
		case len(r.Split) != 1 || r.Split[0].Host != s.Host || (r.Split[0].Subset != "" && r.Split[0].Subset != s.Stable):
			return nil, fmt.Errorf("the route %s takes all requests and does not lead to the stable version", r.Name)
		}
		for j := range arms {
			arms[j].Request, arms[j].Response = r.Split[0].Request, r.Split[0].Response
		}
		next.Routes[i].Split = arms
		if r.Origin == "" { // the default route, which nobody wrote
			next.Routes[i].Name, next.Routes[i].Origin = SplitRouteName, OriginRollout
		}
		return next, nil
	}
	next.Routes = append(next.Routes, mesh.Route{Name: SplitRouteName, Origin: OriginRollout, Split: arms, Retry: mesh.DefaultRetry()})
	return next, nil
}

// among reports whether both arms are among the destinations of a route.
func (s Split) among(r mesh.Route) bool {
	has := func(subset string) bool {
		return slices.ContainsFunc(r.Split, func(d mesh.Destination) bool { return d.Host == s.Host && d.Subset == subset })
	}
	return has(s.Stable) && has(s.Canary)
}

// catchAll reports whether a route takes every request that comes to it.
func catchAll(r mesh.Route) bool {
	return len(r.Matches) == 0 || slices.ContainsFunc(r.Matches, mesh.Match.TakesAll)
}

// headerMatches is a step's condition as the mesh says it; nil when the step removes the route.
func headerMatches(h *spec.HeaderRoute) []mesh.Match {
	if h == nil || len(h.Match) == 0 {
		return nil
	}
	m := mesh.Match{Headers: map[string]mesh.HeaderTest{}}
	for _, c := range h.Match {
		m.Headers[strings.ToLower(c.HeaderName)] = mesh.HeaderTest{Value: stringMatch(&c.HeaderValue)}
	}
	return []mesh.Match{m}
}

func stringMatch(m *spec.StringMatch) *mesh.StringMatch {
	if m == nil {
		return nil
	}
	return &mesh.StringMatch{Exact: m.Exact, Prefix: m.Prefix, Regex: m.Regex}
}
