package istio

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// binding is what one VirtualService says about one of its hosts at one port of a gateway.
type binding struct {
	admitted []string // what of the host the gateway serves
	section  section
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
		o.Problem(CodeReference, index(join(o.path, "gateways"), i), "", "no such gateway: %s", key)
		o.CouldBe(name, known)
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

// bind binds a VirtualService to each port of a gateway that serves any of its hosts and takes any of its routes.
func (c *compiler) bind(o *object, spec *networking.VirtualService, g *gateway, used map[section]bool) {
	for i, name := range spec.GetHosts() {
		path := index(join(o.path, "hosts"), i)
		if !validHost(name) {
			o.once(func() {
				o.Problem(CodeInvalid, path, "*, *.example.com or books.example.com", "%q is not a host", name)
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
			at := g.place(port, admitted, spec.GetHosts())
			s := sectionOf(at.protocol)
			if !s.in(spec) {
				continue
			}
			used[s] = true
			var routes []mesh.Route
			o.once(func() { routes = c.routes(o, spec, at) })
			g.bound[port][host] = append(g.bound[port][host], binding{admitted, s, routes})
		}
		if !anywhere && !g.Has(g.path) {
			o.Problem(CodeReference, path, "hosts of both must overlap, and its namespaces allow this one", "the gateway %s does not serve %s", g.key(), name)
		}
	}
}

// place is a port of the gateway, and what it serves there of a document's hosts.
func (g *gateway) place(port int, hosts, names []string) place {
	at := place{gateway: g.key(), port: port, hosts: hosts, names: names}
	for _, s := range g.servers {
		if s.port.Number == port {
			at.protocol, at.https = s.port.Protocol, s.port.TLS != nil && s.port.Protocol.IsHTTP()
		}
	}
	return at
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
		kind := hosts[host][0].section // which is that of the port
		covers := func(wide string) bool { return includes(wide, host) }
		if kind == "http" && (len(routes) == 0 || takesAll(routes[len(routes)-1]) == 0) && slices.ContainsFunc(ordered[i+1:], covers) {
			routes = append(routes, mesh.Route{Name: "not-found", Origin: g.origin(), Direct: &mesh.DirectResponse{Status: http.StatusNotFound}})
		}
		var admitted []string
		for _, b := range hosts[host] {
			admitted = append(admitted, b.admitted...)
		}
		for _, r := range effective(routes) {
			r.Name = free(r.Name, host, taken)
			switch kind {
			case "http":
				r.Matches = forHosts(r.Matches, admitted)
			case "tls":
				if r.Matches = forNames(r.Matches, admitted); len(r.Matches) == 0 {
					continue // it is for names that the gateway does not serve
				}
			}
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

// takesAll is 1 for a route that takes every request or connection of its host, else 0.
func takesAll(r mesh.Route) int {
	if len(r.Matches) == 0 || slices.ContainsFunc(r.Matches, mesh.Match.TakesAll) {
		return 1
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

// forHosts adds to each match that the authority names one of the hosts.
func forHosts(matches []mesh.Match, hosts []string) []mesh.Match {
	if slices.Contains(hosts, "*") {
		return matches
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	if len(matches) == 0 {
		return []mesh.Match{{Hosts: hosts}}
	}
	out := slices.Clone(matches)
	for i := range out {
		out[i].Hosts = hosts
	}
	return out
}

// forNames narrows the server names of each match to the hosts. What is left without any is left out.
func forNames(matches []mesh.Match, hosts []string) []mesh.Match {
	if slices.Contains(hosts, "*") {
		return matches
	}
	var out []mesh.Match
	for _, m := range matches {
		var names []string
		for _, host := range hosts {
			if m.SNI == nil {
				names = append(names, host)
			}
			for _, name := range m.SNI {
				if both := overlap(host, name); both != "" {
					names = append(names, both)
				}
			}
		}
		slices.Sort(names)
		if m.SNI = slices.Compact(names); len(m.SNI) > 0 {
			out = append(out, m)
		}
	}
	return out
}
