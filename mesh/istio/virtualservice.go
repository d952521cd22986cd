package istio

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// gatewayMesh is the reserved gateway of all sidecars.
const gatewayMesh = "mesh"

// virtualService compiles the routes of one document for the sidecars, for gateways, or for both.
func (c *compiler) virtualService(o *object, spec *networking.VirtualService) {
	o.gateways = c.references(o, spec.GetGateways())
	c.exportTo(o, join(o.path, "exportTo"), spec.GetExportTo())
	if len(spec.GetHosts()) == 0 {
		o.Problem(CodeInvalid, join(o.path, "hosts"), "", "at least one host is needed")
	}
	if len(spec.GetHttp())+len(spec.GetTls())+len(spec.GetTcp()) == 0 {
		o.Problem(CodeInvalid, join(o.path, "http"), "", "at least one http, tls or tcp route is needed")
	}
	names := map[string]bool{}
	for i, r := range spec.GetHttp() {
		path := index(join(o.path, "http"), i)
		if name := routeName(o, r, i); names[name] {
			o.Problem(CodeConflict, join(path, "name"), "evidence and chance are keyed by the name", "there is another route named %q", name)
		} else {
			names[name] = true
		}
	}
	o.checkGateways(spec)
	used := map[section]bool{}
	if _, ok := o.gateways[gatewayMesh]; ok {
		c.forSidecars(o, spec, used)
	}
	for _, key := range slices.Sorted(maps.Keys(o.gateways)) {
		if g := o.gateways[key]; g != nil {
			c.bind(o, spec, g, used)
		}
	}
	for _, s := range sections {
		if s.in(spec) && !used[s] && !o.Has(o.path) {
			o.Problem(CodeInvalid, join(o.path, string(s)), "", "no port of the hosts takes %s routes", s)
		}
	}
}

// section is a list of routes of a document. Which one is for a port depends on its protocol.
type section string

var sections = []section{"http", "tls", "tcp"}

func sectionOf(p mesh.Protocol) section {
	switch {
	case p.IsHTTP():
		return "http"
	case p == mesh.TLS:
		return "tls"
	default:
		return "tcp"
	}
}

// in reports whether a document has such routes.
func (s section) in(spec *networking.VirtualService) bool {
	switch s {
	case "http":
		return len(spec.GetHttp()) > 0
	case "tls":
		return len(spec.GetTls()) > 0
	default:
		return len(spec.GetTcp()) > 0
	}
}

// matched is a match of any kind of route.
type matched interface {
	GetGateways() []string
	GetPort() uint32
	GetSourceLabels() map[string]string
	GetSourceNamespace() string
}

// written is a route of any kind, with its path.
type written struct {
	path    string
	matches []matched
}

// writtenRoutes are the routes of a document.
func (o *object) writtenRoutes(spec *networking.VirtualService) []written {
	var out []written
	for i, r := range spec.GetHttp() {
		out = append(out, written{index(join(o.path, "http"), i), asMatched(r.GetMatch())})
	}
	for i, r := range spec.GetTls() {
		out = append(out, written{index(join(o.path, "tls"), i), asMatched(r.GetMatch())})
	}
	for i, r := range spec.GetTcp() {
		out = append(out, written{index(join(o.path, "tcp"), i), asMatched(r.GetMatch())})
	}
	return out
}

func asMatched[M matched](matches []M) (out []matched) {
	for _, m := range matches {
		out = append(out, m)
	}
	return out
}

// checkGateways reports what could never act: a match for a gateway that its document is not for, and a gateway that no route is for.
func (o *object) checkGateways(spec *networking.VirtualService) {
	routes := o.writtenRoutes(spec)
	for _, r := range routes {
		for j, m := range r.matches {
			for k, name := range m.GetGateways() {
				if _, ok := o.gateways[o.gatewayKey(name)]; !ok {
					at := index(join(index(join(r.path, "match"), j), "gateways"), k)
					o.Problem(CodeInvalid, at, "add it to spec.gateways", "%s is not among the gateways of the document", name)
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.gateways)) {
		some := func(r written) bool {
			return len(r.matches) == 0 || slices.ContainsFunc(r.matches, func(m matched) bool { return o.isFor(m, key) })
		}
		if len(routes) > 0 && !slices.ContainsFunc(routes, some) {
			first := routes[0].path
			o.Problem(CodeInvalid, first[:strings.LastIndexByte(first, '[')], "", "none of the routes is for the gateway %s", key)
		}
	}
}

// isFor reports whether a match is for a gateway of its document: one that it names, or any when it names none.
func (o *object) isFor(m matched, gateway string) bool {
	names := m.GetGateways()
	return len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return o.gatewayKey(name) == gateway })
}

// forSidecars makes a route table for each port of each host that takes any of the document's routes.
func (c *compiler) forSidecars(o *object, spec *networking.VirtualService, used map[section]bool) {
	for i, name := range spec.GetHosts() {
		path := index(join(o.path, "hosts"), i)
		svc := c.host(o, path, name)
		if svc == nil || !c.claim(o, path, svc.Host) {
			continue
		}
		before := len(c.rules.Routes)
		for _, port := range svc.Ports {
			s := sectionOf(port.Protocol)
			if !s.in(spec) {
				continue
			}
			used[s] = true
			table := &mesh.RouteTable{Host: svc.Host, Port: port.Number}
			at := place{gateway: gatewayMesh, port: port.Number, protocol: port.Protocol, names: spec.GetHosts()}
			o.once(func() { table.Routes = c.routes(o, spec, at) })
			if s != "http" {
				table.Routes = withDefault(table)
			}
			c.rules.Routes[mesh.HostPort(svc.Host, port.Number)] = table
		}
		if len(c.rules.Routes) == before && len(svc.Ports) > 0 && !o.Has(o.path) {
			o.Problem(CodeInvalid, path, "http routes for HTTP, tls routes for TLS, tcp routes for all others", "%s speaks %s, and the document has no such routes", name, spoken(svc))
		}
	}
}

// spoken lists the protocols of a service.
func spoken(svc *mesh.Service) string {
	var all []string
	for _, p := range svc.Ports {
		all = append(all, fmt.Sprintf("%s on port %d", p.Protocol, p.Number))
	}
	return strings.Join(all, ", ")
}

// place is what routes are compiled for.
type place struct {
	gateway  string // its key; mesh for sidecars
	port     int    // of the table
	protocol mesh.Protocol
	https    bool     // requests come by TLS, which ends there
	hosts    []string // that a gateway serves there; nil for sidecars
	names    []string // that server names must be among, as the document has them
}

// serves reports whether a test of the authority can hold for the hosts that are served, as far as one that is exact tells.
func (p place) serves(test *mesh.StringMatch) bool {
	if test == nil || test.Exact == nil || p.hosts == nil {
		return true
	}
	name := strings.ToLower(*test.Exact)
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return slices.ContainsFunc(p.hosts, func(host string) bool { return includes(host, name) })
}

// scheme is that of requests.
func (p place) scheme() string {
	if p.https {
		return "https"
	}
	return "http"
}

// routes compiles the routes of a document that are for a place.
func (c *compiler) routes(o *object, spec *networking.VirtualService, at place) []mesh.Route {
	var out []mesh.Route
	add := func(r mesh.Route, ok bool) {
		if ok {
			out = append(out, r)
		}
	}
	switch sectionOf(at.protocol) {
	case "http":
		for i, r := range spec.GetHttp() {
			add(c.route(o, r, i, at))
		}
	case "tls":
		for i, r := range spec.GetTls() {
			add(c.tlsRoute(o, r, i, at))
		}
	default:
		for i, r := range spec.GetTcp() {
			add(c.tcpRoute(o, r, i, at))
		}
	}
	return out
}

// once does something that may repeat what was done for another host, port or gateway, and keeps only those problems that are new.
func (o *object) once(do func()) {
	before := len(o.Problems)
	do()
	o.Problems = slices.Concat(o.Problems[:before], newProblems(o.Problems[:before], o.Problems[before:]))
}

// newProblems are those of the later problems that are not among the earlier ones.
func newProblems(earlier, later []Problem) []Problem {
	return slices.DeleteFunc(slices.Clone(later), func(p Problem) bool {
		return slices.ContainsFunc(earlier, func(q Problem) bool { return p.Path == q.Path && p.Message == q.Message })
	})
}
