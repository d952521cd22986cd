package istio

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// gatewaySuffix ends the pseudo hosts of gateways. It is no domain of any service.
const gatewaySuffix = ".gateway"

// GatewayHost is the pseudo host under which a Gateway's compiled rules stand: the table of each of its ports is Routes[mesh.HostPort(GatewayHost, port)], and the
// ports are those of Services[GatewayHost]. An edge whose outbound port leads to that host and port serves the Gateway.
func GatewayHost(name, namespace string) string { return name + "." + namespace + gatewaySuffix }

// GatewayName is the inverse of [GatewayHost]; ok is false for any other host.
func GatewayName(host string) (name, namespace string, ok bool) {
	rest, ok := strings.CutSuffix(host, gatewaySuffix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ".")
}

// gateway is one Gateway with what is bound to it.
type gateway struct {
	*object
	servers []server
	bound   map[int]map[string][]binding // by port and host of a VirtualService: in the order of the documents
}

// server is one place where a Gateway listens, and the hosts it serves there.
type server struct {
	port     mesh.Port
	hosts    []served
	redirect bool // to https, whatever is asked for
}

// served is a host of a server; one with a namespace is only for VirtualServices of that namespace.
type served struct{ namespace, host string }

// key names a gateway in a reference: NAMESPACE/NAME.
func (g *gateway) key() string { return g.namespace + "/" + g.name }

// gateway reads a Gateway. Its selector is not compared with anything: there is one ingress gateway in the mesh, and it serves every Gateway.
func (c *compiler) gateway(o *object, spec *networking.Gateway) {
	g := &gateway{object: o, bound: map[int]map[string][]binding{}}
	if first := c.gateways[g.key()]; first != nil {
		o.Problem(CodeConflict, join(o.path, "servers"), "", "there is another %s (%s)", o.origin(), first.File)
		return
	}
	c.gateways[g.key()] = g
	if spec.GetSelector()["istio"] == "egressgateway" {
		o.Problem(CodeNotHonoured, join(o.path, "selector.istio"), "", "an egress gateway is not honoured yet")
	}
	if len(spec.GetServers()) == 0 && !o.Has(o.path) {
		o.Problem(CodeInvalid, o.path, "", "at least one server is needed")
	}
	for i, s := range spec.GetServers() {
		c.server(g, index(join(o.path, "servers"), i), s)
	}
}

func (c *compiler) server(g *gateway, path string, s *networking.Server) {
	number := int(s.GetPort().GetNumber())
	if len(s.GetHosts()) == 0 && !g.Has(join(path, "hosts")) {
		g.Problem(CodeInvalid, path, "such as hosts: ['*']", "at least one host is needed")
	}
	out := server{redirect: s.GetTls().GetHttpsRedirect()}
	for i, text := range s.GetHosts() {
		at := index(join(path, "hosts"), i)
		namespace, host, qualified := strings.Cut(text, "/")
		switch {
		case !qualified:
			namespace, host = "", text
		case namespace == "*":
			namespace = ""
		case namespace == ".":
			namespace = g.namespace
		}
		if !validHost(host) {
			g.Problem(CodeInvalid, at, "*, *.example.com or books.example.com", "%q is not a host", host)
			continue
		}
		out.hosts = append(out.hosts, served{namespace, strings.ToLower(host)})
	}
	out.port = c.serverPort(g, path, s, out.hosts)
	g.together(path, out)
	g.servers = append(g.servers, out)
	if g.bound[number] == nil {
		g.bound[number] = map[string][]binding{}
	}
}

// serverPort is the port of a server, with how it speaks TLS.
func (c *compiler) serverPort(g *gateway, path string, s *networking.Server, hosts []served) mesh.Port {
	word := strings.ToUpper(s.GetPort().GetProtocol())
	out := mesh.Port{Name: s.GetPort().GetName(), Number: int(s.GetPort().GetNumber())}
	at := join(path, "port")
	switch protocol, known := protocols[word]; {
	case g.Has(at):
		return out
	case out.Number < 1 || out.Number > 65535:
		g.Problem(CodeInvalid, join(at, "number"), "", "%d is not a port", out.Number)
	case word == "":
		g.Problem(CodeInvalid, at, "such as protocol: HTTP", "the field %q is missing", "protocol")
	case !known:
		g.Problem(CodeNotHonoured, join(at, "protocol"), protocolHint, "the protocol %s is not honoured yet", s.GetPort().GetProtocol())
	case protocol == mesh.TLS:
		c.overTLS(g, path, s, hosts, &out)
	default:
		out.Protocol = protocol
		g.withoutTLS(path, s)
	}
	return out
}

// together reports what one port cannot do for several servers.
func (g *gateway) together(path string, other server) {
	p := other.port
	for _, s := range g.servers {
		if s.port.Number != p.Number || g.Has(path) {
			continue
		}
		switch {
		case s.port.Protocol != p.Protocol || (s.port.TLS == nil) != (p.TLS == nil):
			g.Problem(CodeConflict, join(path, "port.protocol"), "", "another server speaks another protocol at port %d", p.Number)
		case s.redirect != other.redirect:
			g.Problem(CodeNotHonoured, join(path, "tls.httpsRedirect"), "all servers of the port, or none", "a redirect for some hosts of port %d is not honoured yet", p.Number)
		case p.TLS != nil && (s.port.TLS.Mode != p.TLS.Mode || s.port.TLS.Roots != p.TLS.Roots || s.port.TLS.MinVersion != p.TLS.MinVersion):
			g.Problem(CodeNotHonoured, join(path, "tls"), "a port of its own", "another mode, version or root of the callers than another server of port %d has is not honoured yet", p.Number)
		}
	}
}

var hostPattern = regexp.MustCompile(`^(\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)$`)

// validHost reports whether a host is a DNS name, or one whose first label is *.
func validHost(host string) bool { return len(host) <= 253 && hostPattern.MatchString(host) }

// service is the pseudo service of a gateway.
func (g *gateway) service() *mesh.Service {
	svc := &mesh.Service{Host: GatewayHost(g.name, g.namespace)}
	for _, s := range g.servers {
		i := slices.IndexFunc(svc.Ports, func(p mesh.Port) bool { return p.Number == s.port.Number })
		switch {
		case i < 0:
			svc.Ports = append(svc.Ports, s.port)
		case s.port.TLS != nil && svc.Ports[i].TLS != nil:
			both := *svc.Ports[i].TLS
			both.Certificates = slices.Concat(both.Certificates, s.port.TLS.Certificates)
			svc.Ports[i].TLS = &both
		}
	}
	return svc
}

// admitted are the hosts that a port serves for a host of a VirtualService in a namespace: where the two overlap. Without any, nothing of it is served there.
func (g *gateway) admitted(port int, host, namespace string) []string {
	var out []string
	for _, s := range g.servers {
		if s.port.Number != port {
			continue
		}
		for _, own := range s.hosts {
			if own.namespace != "" && own.namespace != namespace {
				continue
			}
			if both := overlap(own.host, host); both != "" && !slices.Contains(out, both) {
				out = append(out, both)
			}
		}
	}
	return out
}

// overlap is the narrower of two hosts if the other one includes it, else empty. A wildcard stands for one or more labels.
func overlap(a, b string) string {
	switch {
	case includes(a, b):
		return b
	case includes(b, a):
		return a
	default:
		return ""
	}
}

func includes(wide, narrow string) bool {
	if wide == narrow || wide == "*" {
		return true
	}
	suffix, wildcard := strings.CutPrefix(wide, "*")
	return wildcard && len(narrow) > len(suffix) && strings.HasSuffix(narrow, suffix)
}

// finishGateways makes the tables and services of all gateways, once everything is bound.
func (c *compiler) finishGateways() {
	for _, key := range slices.Sorted(maps.Keys(c.gateways)) {
		g := c.gateways[key]
		svc := g.service()
		c.rules.Services[svc.Host] = svc
		for port, hosts := range g.bound {
			table := &mesh.RouteTable{Host: svc.Host, Port: port, Routes: g.toHTTPS(port)}
			if table.Routes == nil {
				table.Routes = g.merge(hosts)
			}
			c.rules.Routes[mesh.HostPort(svc.Host, port)] = table
		}
	}
}

// toHTTPS are the rules of a port whose servers send callers to https, nil of any other: for the hosts of the servers, whatever VirtualServices say of them. No other host is found there, as in Istio, where the
// redirect is a matter of the virtual hosts.
func (g *gateway) toHTTPS(port int) []mesh.Route {
	var hosts []string
	for _, s := range g.servers {
		if s.port.Number != port || !s.redirect {
			continue
		}
		for _, own := range s.hosts {
			hosts = append(hosts, own.host)
		}
	}
	if hosts == nil {
		return nil
	}
	return []mesh.Route{{
		Name: "https-redirect", Origin: g.origin(), Matches: forHosts(nil, hosts), Redirect: &mesh.Redirect{Scheme: "https", Code: http.StatusMovedPermanently},
	}}
}
