package istio

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// tlsRoute compiles one tls route for a place. It is not ok when none of its matches can hold there.
func (c *compiler) tlsRoute(o *object, r *networking.TLSRoute, i int, at place) (route mesh.Route, ok bool) {
	path := index(join(o.path, "tls"), i)
	if len(r.GetMatch()) == 0 && !o.Has(path) {
		o.Problem(CodeInvalid, path, "such as match: [{sniHosts: [db.example.com]}]", "the field %q is missing", "match")
	}
	var matches []mesh.Match
	for j, m := range r.GetMatch() {
		where := index(join(path, "match"), j)
		compiled, here := o.l4Match(where, m, at)
		compiled.SNI = o.serverNames(where, m.GetSniHosts(), at)
		if here {
			matches = append(matches, compiled)
		}
	}
	return c.l4Route(o, path, o.name+"-tls-"+strconv.Itoa(i), r.GetRoute(), matches, at), len(matches) > 0
}

// tcpRoute compiles one tcp route for a place. It is not ok when none of its matches can hold there.
func (c *compiler) tcpRoute(o *object, r *networking.TCPRoute, i int, at place) (route mesh.Route, ok bool) {
	path := index(join(o.path, "tcp"), i)
	var matches []mesh.Match
	for j, m := range r.GetMatch() {
		if compiled, here := o.l4Match(index(join(path, "match"), j), m, at); here {
			matches = append(matches, compiled)
		}
	}
	return c.l4Route(o, path, o.name+"-tcp-"+strconv.Itoa(i), r.GetRoute(), matches, at), len(matches) > 0 || len(r.GetMatch()) == 0
}

func (c *compiler) l4Route(o *object, path, name string, arms []*networking.RouteDestination, matches []mesh.Match, at place) mesh.Route {
	out := mesh.Route{Name: name, Origin: o.origin(), Matches: matches}
	if len(arms) == 0 {
		if !o.Has(path) {
			o.Problem(CodeInvalid, path, "", "the field %q is missing", "route")
		}
		return out
	}
	nothing := func(string, *networking.RouteDestination, *mesh.Destination) {}
	out.Split = splitOf(c, o, join(path, "route"), arms, at.port, nothing)
	return out
}

// l4Match compiles what matches of connections have in common, and reports whether it can hold at the place, whose port is that of the table.
func (o *object) l4Match(path string, m matched, at place) (out mesh.Match, here bool) {
	o.port(join(path, "port"), m.GetPort())
	out = mesh.Match{SourceLabels: maps.Clone(mesh.Labels(m.GetSourceLabels())), SourceNamespace: m.GetSourceNamespace()}
	return out, o.isFor(m, at.gateway) && (m.GetPort() == 0 || int(m.GetPort()) == at.port)
}

// serverNames are the names that a match tests; nil: any. They must be among the hosts of the document, as Istio demands.
func (o *object) serverNames(path string, names []string, at place) []string {
	if len(names) == 0 && !o.Has(path) {
		o.Problem(CodeInvalid, path, "such as sniHosts: [db.example.com]", "the field %q is missing", "sniHosts")
	}
	var out []string
	for i, name := range names {
		where, lower := index(join(path, "sniHosts"), i), strings.ToLower(name)
		covers := func(host string) bool {
			host = strings.ToLower(host)
			return includes(host, lower) || !strings.HasPrefix(host, "*") && lower == mesh.Resolve(host, o.namespace)
		}
		switch {
		case !validHost(name):
			o.Problem(CodeInvalid, where, "db.example.com or *.example.com", "%q is not a host", name)
		case !slices.ContainsFunc(at.names, covers):
			o.Problem(CodeInvalid, where, "add it to spec.hosts", "%s is not among the hosts of the document", name)
		}
		out = append(out, lower)
	}
	if slices.Contains(out, "*") {
		return nil
	}
	return out
}

// withDefault are a table's routes of connections, with one to the host itself for those that no route takes, as in Istio; but where server names are told apart, what asks for another one leads nowhere.
func withDefault(t *mesh.RouteTable) []mesh.Route {
	for _, r := range t.Routes {
		named := func(m mesh.Match) bool { return m.SNI != nil }
		if takesAll(r) == 1 || slices.ContainsFunc(r.Matches, named) {
			return t.Routes
		}
	}
	own := mesh.Route{Name: "default", Split: []mesh.Destination{{Host: t.Host, Port: t.Port, Weight: 100}}}
	return append(t.Routes, own)
}
