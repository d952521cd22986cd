package istio

import (
	"cmp"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// binding is what one VirtualService says about one of its hosts at one port of a gateway.
type binding struct {
	admitted []string // what of the host the gateway serves
	routes   []mesh.Route
}

// references resolves the gateways that a VirtualService is for, the mesh's sidecars being one of them. Without any it is for them alone. The keys of the result are what matches
// are compared with; one of an unknown gateway leads to nil.
func (c *compiler) references(o *object, names []string) map[string]*gateway {
	if len(names) == 0 {
		return map[string]*gateway{gatewayMesh: nil}
	}
	out := map[string]*gateway{}
	for i, name := range names {
		key := o.gatewayKey(name)
		out[key] = c.gateways[key]
		if key == gatewayMesh || out[key] != nil {
			continue
		}
		known := []string{gatewayMesh}
		for _, k := range slices.Sorted(maps.Keys(c.gateways)) {
			known = append(known, strings.TrimPrefix(k, o.namespace+"/"))
		}
		o.problem(CodeReference, index(join(o.path, "gateways"), i), "", "no such gateway: %s", key)
		o.couldBe(name, known)
	}
	return out
}

// gatewayKey completes a reference to a gateway: mesh, or NAMESPACE/NAME.
func (o *object) gatewayKey(name string) string {
	if name == gatewayMesh || strings.Contains(name, "/") {
		return name
	}
	return o.namespace + "/" + name
}

// bind binds a VirtualService to each port of a gateway that serves any of its hosts.
func (c *compiler) bind(o *object, spec *networking.VirtualService, g *gateway) {
	for i, name := range spec.GetHosts() {
		path := index(join(o.path, "hosts"), i)
		if !validHost(name) {
			o.once(func() {
				o.problem(CodeInvalid, path, "*, *.example.com or books.example.com", "%q is not a host", name)
			})
			continue
		}
		host := strings.ToLower(name)
		if !strings.HasPrefix(host, "*") {
			host = mesh.Resolve(host, o.namespace) // a short name is a service's, as everywhere
		}
		anywhere := false
		for _, port := range slices.Sorted(maps.Keys(g.bound)) {
			admitted := g.admitted(port, host, o.namespace)
			if len(admitted) == 0 {
				continue
			}
			anywhere = true
			var routes []mesh.Route
			o.once(func() { routes = c.routes(o, spec, place{g.key(), port, admitted}) })
			g.bound[port][host] = append(g.bound[port][host], binding{admitted, routes})
		}
		if !anywhere && !g.hasProblem(g.path) {
			o.problem(CodeReference, path, "hosts of both must overlap, and its namespaces allow this one", "the gateway %s does not serve %s", g.key(), name)
		}
	}
}

// merge puts the rules for all hosts of a port in order: of the most specific host first, for a host in the order of the documents, and rules that take everything after those that do
// not, as in Istio. A host has its own rules only: what none of them takes is not found, whatever a wildcard's rules would say.
func (g *gateway) merge(hosts map[string][]binding) []mesh.Route {
	var out []mesh.Route
	taken := map[string]bool{}
	ordered := slices.SortedFunc(maps.Keys(hosts), moreSpecific)
	for i, host := range ordered {
		var routes []mesh.Route
		for _, b := range hosts[host] {
			routes = append(routes, effective(b.routes)...)
		}
		slices.SortStableFunc(routes, func(a, b mesh.Route) int { return cmp.Compare(takesAll(a), takesAll(b)) })
		covers := func(wide string) bool { return includes(wide, host) }
		if (len(routes) == 0 || takesAll(routes[len(routes)-1]) == 0) && slices.ContainsFunc(ordered[i+1:], covers) {
			routes = append(routes, mesh.Route{Name: "not-found", Origin: g.origin(), Direct: &mesh.DirectResponse{Status: http.StatusNotFound}})
		}
		var admitted []string
		for _, b := range hosts[host] {
			admitted = append(admitted, b.admitted...)
		}
		for _, r := range effective(routes) {
			r.Name = free(r.Name, host, taken)
			r.Matches = forHosts(r.Matches, admitted)
			out = append(out, r)
		}
	}
	return out
}

// effective are the routes up to the first that takes everything: those after it are never reached.
func effective(routes []mesh.Route) []mesh.Route {
	for i, r := range routes {
		if takesAll(r) == 1 {
			return routes[:i+1]
		}
	}
	return routes
}

// takesAll is 1 for a route that takes every request of its host, else 0.
func takesAll(r mesh.Route) int {
	if len(r.Matches) == 0 {
		return 1
	}
	for _, m := range r.Matches {
		root := m.Path != nil && m.Path.Prefix != nil && *m.Path.Prefix == "/"
		if m.Path == nil || root {
			m.Path = nil
			if m.Method == nil && m.Authority == nil && len(m.Headers)+len(m.WithoutHeaders)+len(m.Query)+len(m.SourceLabels) == 0 && m.Port == 0 {
				return 1
			}
		}
	}
	return 0
}

// moreSpecific orders hosts: names, then wildcards from the longest to the shortest.
func moreSpecific(a, b string) int {
	wild := func(s string) int {
		if strings.HasPrefix(s, "*") {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(wild(a), wild(b)), wild(a)*cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
}

// free is a route's name, with its host and a number when the name is taken: evidence and chance are keyed by it.
func free(name, host string, taken map[string]bool) string {
	try := name
	for i := 1; taken[try]; i++ {
		try = name + "@" + host
		if i > 1 {
			try += "-" + strconv.Itoa(i)
		}
	}
	taken[try] = true
	return try
}

// forHosts adds to each match that the authority is one of the hosts. A match with a test of its own for the authority has been chosen to fit by fits.
func forHosts(matches []mesh.Match, hosts []string) []mesh.Match {
	test := authority(hosts)
	if test == nil {
		return matches
	}
	if len(matches) == 0 {
		return []mesh.Match{{Authority: test}}
	}
	out := slices.Clone(matches)
	for i := range out {
		if out[i].Authority == nil {
			out[i].Authority = test
		}
	}
	return out
}

// authority is the test of a request's authority for any of the hosts, in any case and with any port; nil when there is nothing to test.
func authority(hosts []string) *mesh.StringMatch {
	if len(hosts) == 0 {
		return nil
	}
	var tests []string
	for _, h := range hosts {
		switch suffix, wildcard := strings.CutPrefix(h, "*"); {
		case suffix == "":
			return nil
		case wildcard:
			tests = append(tests, "[^:]+"+regexp.QuoteMeta(suffix))
		default:
			tests = append(tests, regexp.QuoteMeta(h))
		}
	}
	slices.Sort(tests)
	text := "(?i)(?:" + strings.Join(slices.Compact(tests), "|") + `)(?::\d+)?`
	return &mesh.StringMatch{Regex: &text}
}

// fits reports whether a match's own test of the authority can hold for the hosts that a gateway serves. Only an exact one can be told; the others are reported.
func (o *object) fits(path string, test *mesh.StringMatch, hosts []string) bool {
	all := authority(hosts)
	switch {
	case test == nil || all == nil:
		return true
	case test.Exact == nil:
		o.problem(CodeNotHonoured, path, "exact, or narrower hosts", "a gateway compares the authority with hosts already: a prefix or regex beside them is not honoured")
		return false
	default:
		return regexp.MustCompile(`\A(?:` + *all.Regex + `)\z`).MatchString(*test.Exact)
	}
}
