package istio

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// serviceEntry adds the hosts of a ServiceEntry to what is known. A host of a service that is known already and outside the mesh stays what it is and gets what the entry says of it.
func (c *compiler) serviceEntry(o *object, spec *networking.ServiceEntry) {
	c.exportTo(o, join(o.path, "exportTo"), spec.GetExportTo())
	e := &entry{
		object: o, outside: spec.GetLocation() == networking.ServiceEntry_MESH_EXTERNAL, resolution: o.resolution(spec.GetResolution()),
		portsPath: join(o.path, "ports"), altNames: spec.GetSubjectAltNames(), services: c.services,
	}
	e.addresses(spec.GetAddresses())
	e.ports(spec)
	e.endpoints(spec)
	if len(spec.GetHosts()) == 0 && !o.Has(join(o.path, "hosts")) {
		o.Problem(CodeInvalid, o.path, "such as hosts: [api.example.com]", "at least one host is needed")
	}
	for i, name := range spec.GetHosts() {
		path := index(join(o.path, "hosts"), i)
		host, ok := e.host(path, name)
		if ok && e.resolution == mesh.Static && len(e.listed) == 0 && c.rules.Services[host] == nil && !e.Has(join(e.path, "endpoints")) {
			e.Problem(CodeInvalid, path, "such as endpoints: [{address: 192.0.2.7}]", "the resolution STATIC needs endpoints")
			continue
		}
		if ok {
			c.addHost(e, path, host, name)
		}
	}
}

// entry is what opens hosts outside the mesh, on its way into the rules.
type entry struct {
	*object
	outside    bool
	resolution mesh.Resolution
	virtual    []string // addresses
	open       []openPort
	portsPath  string
	listed     []listed
	altNames   []string
	services   map[string]*mesh.Service // that are known without any entry
}

// listed is an endpoint of an entry.
type listed struct {
	mesh.Endpoint                // without a port
	ports         map[string]int // by name
}

// openPort is a port of an entry, and where that leads to at endpoints which say nothing else.
type openPort struct {
	mesh.Port
	target int
}

func (o *object) resolution(r networking.ServiceEntry_Resolution) mesh.Resolution {
	switch r {
	case networking.ServiceEntry_NONE:
		return mesh.Original
	case networking.ServiceEntry_STATIC:
		return mesh.Static
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		return mesh.DNS
	default:
		o.Problem(CodeNotHonoured, join(o.path, "resolution"), "NONE, STATIC, DNS or DNS_ROUND_ROBIN", "the resolution %s is not honoured yet", r)
		return mesh.Static
	}
}

// exportTo takes what makes no difference: every rule holds for every caller, and they are all in the namespace of documents that name none.
func (c *compiler) exportTo(o *object, path string, to []string) {
	for i, namespace := range to {
		if namespace == "*" || namespace == "." && o.namespace == c.home {
			continue
		}
		o.Problem(CodeNotHonoured, index(path, i), insteadOf["exportTo"], "an export to %q alone is not honoured yet", namespace)
	}
}

// host checks the host of an entry and qualifies it.
func (e *entry) host(path, name string) (host string, ok bool) {
	wildcard := strings.HasPrefix(name, "*")
	switch {
	case e.Has(path):
		return "", false
	case name == "*" || !validHost(name):
		e.Problem(CodeInvalid, path, "api.example.com or *.example.com", "%q is not a host of an entry", name)
		return "", false
	case wildcard && e.resolution != mesh.Original:
		e.Problem(CodeInvalid, path, "resolution: NONE", "a wildcard host has no addresses of its own: connections go where they were going, which is the resolution NONE")
		return "", false
	case wildcard:
		return strings.ToLower(name), true
	default:
		return mesh.Resolve(name, e.namespace), true
	}
}

// addHost makes or completes the service of a host, which the document calls by the name.
func (c *compiler) addHost(e *entry, path, host, name string) {
	if !c.claim(e.object, path, host) {
		return
	}
	known := c.rules.Services[host]
	if known != nil && !known.External {
		e.Problem(CodeConflict, path, "an entry is for what is outside", "%s is a service of the mesh already", mesh.LogicalName(host))
		return
	}
	svc := &mesh.Service{Host: host, Addresses: e.virtual, External: e.outside, Resolution: e.resolution}
	if known != nil {
		merged := *known
		merged.Ports, merged.Addresses = nil, slices.Concat(known.Addresses, e.virtual)
		svc = &merged
	}
	for i, p := range e.open {
		svc.Ports = append(svc.Ports, p.Port)
		at := mesh.HostPort(host, p.Number)
		switch {
		case known == nil || len(e.listed) > 0:
			svc.Resolution = e.resolution
			c.rules.Endpoints[at] = &mesh.Endpoints{Host: host, Port: p.Number, Endpoints: e.behind(host, name, p)}
		case !hasPort(known, p.target):
			e.Problem(CodeReference, index(e.portsPath, i), "", "%s has no port %d", mesh.LogicalName(host), p.target)
		case p.target != p.Number:
			svc.Resolution = mesh.DNS
			c.rules.Endpoints[at] = &mesh.Endpoints{Host: host, Port: p.Number, Endpoints: []mesh.Endpoint{named(host, host, p.target)}}
		}
	}
	c.rules.Services[host] = svc
	c.entries[host] = e
	if c.rules.Opened == nil {
		c.rules.Opened = map[string]bool{}
	}
	c.rules.Opened[host] = true
}

func hasPort(svc *mesh.Service, number int) bool {
	return slices.ContainsFunc(svc.Ports, func(p mesh.Port) bool { return p.Number == number })
}

// addresses reads the virtual addresses.
func (e *entry) addresses(all []string) {
	for i, text := range all {
		path := index(join(e.path, "addresses"), i)
		address, err := netip.ParseAddr(text)
		switch _, prefix := netip.ParsePrefix(text); {
		case e.Has(path):
		case err == nil && address.Zone() == "":
			e.virtual = append(e.virtual, address.String())
		case prefix == nil:
			e.Problem(CodeNotHonoured, path, "name each address", "a range of addresses is not honoured yet")
		default:
			e.Problem(CodeType, path, "such as 192.0.2.7", "%q is not an address", text)
		}
	}
}

// protocols are those of Istio's ports, by their upper-case words. What is not understood is carried as bytes.
var protocols = map[string]mesh.Protocol{
	"HTTP": mesh.HTTP, "HTTP2": mesh.HTTP2, "GRPC": mesh.GRPC, "GRPC-WEB": mesh.HTTP, "HTTPS": mesh.TLS, "TLS": mesh.TLS,
	"TCP": mesh.TCP, "MONGO": mesh.TCP, "MYSQL": mesh.TCP, "REDIS": mesh.TCP,
}

const protocolHint = "HTTP, HTTP2, GRPC, HTTPS, TLS or TCP"

func (e *entry) ports(spec *networking.ServiceEntry) {
	names, numbers := map[string]bool{}, map[uint32]bool{}
	if len(spec.GetPorts()) == 0 && !e.Has(e.portsPath) {
		e.Problem(CodeInvalid, e.path, "such as ports: [{number: 80, name: http, protocol: HTTP}]", "at least one port is needed")
	}
	for i, p := range spec.GetPorts() {
		path := index(e.portsPath, i)
		protocol, known := protocols[strings.ToUpper(p.GetProtocol())]
		switch {
		case e.Has(path):
			continue
		case p.GetNumber() < 1 || p.GetNumber() > 65535:
			e.Problem(CodeInvalid, join(path, "number"), "", "%d is not a port", p.GetNumber())
		case p.GetTargetPort() > 65535:
			e.Problem(CodeInvalid, join(path, "targetPort"), "", "%d is not a port", p.GetTargetPort())
		case p.GetName() == "":
			e.Problem(CodeInvalid, path, "such as name: http", "the field %q is missing", "name")
		case p.GetProtocol() == "":
			e.Problem(CodeInvalid, path, "such as protocol: HTTP", "the field %q is missing", "protocol")
		case !known:
			e.Problem(CodeNotHonoured, join(path, "protocol"), protocolHint, "the protocol %s is not honoured yet", p.GetProtocol())
		case names[p.GetName()]:
			e.Problem(CodeConflict, join(path, "name"), "", "there is another port named %q", p.GetName())
		case numbers[p.GetNumber()]:
			e.Problem(CodeConflict, join(path, "number"), "", "there is another port %d", p.GetNumber())
		case protocol == mesh.TCP && e.resolution == mesh.Original && len(spec.GetAddresses()) == 0:
			e.Problem(CodeNotHonoured, join(path, "protocol"), "addresses, or a resolution that says where to", "without addresses the resolution NONE would open port %d to every destination", p.GetNumber())
		}
		names[p.GetName()], numbers[p.GetNumber()] = true, true
		target := int(p.GetTargetPort())
		if target == 0 {
			target = int(p.GetNumber())
		}
		e.open = append(e.open, openPort{mesh.Port{Name: p.GetName(), Number: int(p.GetNumber()), Protocol: protocol}, target})
	}
}

// endpoints reads the endpoints.
func (e *entry) endpoints(spec *networking.ServiceEntry) {
	all := join(e.path, "endpoints")
	switch many := len(spec.GetEndpoints()); {
	case many > 0 && e.resolution == mesh.Original:
		e.Problem(CodeInvalid, all, "STATIC or DNS", "the resolution NONE has no endpoints: connections go where they were going")
	case many > 1 && spec.GetResolution() == networking.ServiceEntry_DNS_ROUND_ROBIN:
		e.Problem(CodeInvalid, all, "resolution: DNS", "the resolution DNS_ROUND_ROBIN takes one endpoint")
	}
	for i, w := range spec.GetEndpoints() {
		path := index(all, i)
		one := listed{ports: map[string]int{}, Endpoint: mesh.Endpoint{
			Address: e.address(path, w.GetAddress()), Network: w.GetNetwork(), Locality: w.GetLocality(), Weight: w.GetWeight(), Labels: maps.Clone(mesh.Labels(w.GetLabels())),
		}}
		for _, name := range slices.Sorted(maps.Keys(w.GetPorts())) {
			at, number := join(join(path, "ports"), name), w.GetPorts()[name]
			switch {
			case !slices.ContainsFunc(e.open, func(p openPort) bool { return p.Name == name }):
				e.Problem(CodeReference, at, "", "the entry has no port named %q", name)
			case number < 1 || number > 65535:
				e.Problem(CodeInvalid, at, "", "%d is not a port", number)
			}
			one.ports[name] = int(number)
		}
		e.listed = append(e.listed, one)
	}
}

// loopback is a name that means the same to everybody (RFC 6761, 6.3), and never a service.
const loopback = "localhost"

// address checks the address of an endpoint. The name of a service of the mesh is qualified; what any other means is up to the resolver of the machine, as docker-compose's "redis" is.
func (e *entry) address(path, text string) string {
	_, err := netip.ParseAddr(text)
	at := join(path, "address")
	switch {
	case e.Has(path):
	case text == "":
		e.Problem(CodeInvalid, path, "", "the field %q is missing", "address")
	case err == nil:
		return text
	case strings.HasPrefix(text, "unix:"):
		e.Problem(CodeNotHonoured, at, "an IP address", "a socket of this machine is not honoured")
	case strings.Contains(text, "*") || !validHost(text):
		e.Problem(CodeInvalid, at, "", "%q is neither an IP address nor a name", text)
	case e.resolution == mesh.Static:
		e.Problem(CodeInvalid, at, "resolution: DNS", "%q is not an IP address, as the resolution STATIC needs", text)
	}
	if svc := find(e.services, text, e.namespace); svc != nil && !strings.EqualFold(text, loopback) {
		return svc.Host
	}
	return strings.ToLower(text)
}

// behind are the endpoints of a port of a host: those listed, or else the host itself where its name, as it is written, is to be looked up.
func (e *entry) behind(host, name string, p openPort) []mesh.Endpoint {
	var out []mesh.Endpoint
	for _, l := range e.listed {
		port := l.ports[p.Name]
		if port == 0 {
			port = p.target
		}
		one := named(host, l.Address, port)
		one.Network, one.Locality, one.Weight, one.Labels = l.Network, l.Locality, l.Weight, l.Labels
		out = append(out, one)
	}
	if out == nil && e.resolution == mesh.DNS {
		out = append(out, named(host, strings.ToLower(name), p.target))
	}
	return out
}

// named is an endpoint of a host.
func named(host, address string, port int) mesh.Endpoint {
	return mesh.Endpoint{Address: address, Port: port, Workload: mesh.LogicalName(host), Instance: mesh.HostPort(address, port)}
}

// finishEntries gives the names that an entry says a certificate must have to those of its hosts that TLS is spoken to, unless the DestinationRule says others.
func (c *compiler) finishEntries() {
	for _, host := range slices.Sorted(maps.Keys(c.entries)) {
		svc, e := *c.rules.Services[host], c.entries[host]
		svc.Traffic = e.withNames(host, svc.Traffic, svc.Resolution)
		svc.Subsets = slices.Clone(svc.Subsets)
		for i, s := range svc.Subsets {
			if s.Traffic != nil {
				own := e.withNames(host, *s.Traffic, svc.Resolution)
				svc.Subsets[i].Traffic = &own
			}
		}
		c.rules.Services[host] = &svc
	}
}

func (e *entry) withNames(host string, p mesh.TrafficPolicy, resolution mesh.Resolution) mesh.TrafficPolicy {
	if p.TLS == nil {
		return p
	}
	if resolution == mesh.Original {
		e.once(func() {
			e.Problem(CodeNotHonoured, join(e.path, "resolution"), "DNS", "TLS to %s is not honoured yet with the resolution NONE", mesh.LogicalName(host))
		})
	}
	if len(p.TLS.Names) == 0 && len(e.altNames) > 0 {
		tls := *p.TLS
		tls.Names = e.altNames
		p.TLS = &tls
	}
	return p
}
