package istio

import (
	"maps"
	"net/netip"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
)

// legacyVersion is the API of Istio's rules before 0.8, whose EgressRule ServiceEntry replaces.
const (
	legacyGroup   = "config.istio.io"
	legacyVersion = legacyGroup + "/v1alpha2"
)

// kindEgressRule is a legacy kind.
const kindEgressRule = "EgressRule"

// egressRule is the spec of an EgressRule.
type egressRule struct {
	Destination struct {
		Service string `api:"service,required"`
	} `api:"destination,required"`
	Ports []struct {
		Port     int    `api:"port,required" min:"1" max:"65535"`
		Protocol string `api:"protocol,required" words:"http,http2,grpc,https,tcp"`
	} `api:"ports,required" min:"1" max:"256"`
	Proxy bool `api:"useEgressProxy"`
}

// legacy compiles a document of the old API.
func (c *compiler) legacy(o *object, doc Document, root *yaml.Node, fields map[string]*yaml.Node) {
	if doc.Word("kind") != kindEgressRule {
		o.Problem(CodeKind, join(doc.Path, "kind"), "write a VirtualService or a DestinationRule", "of the API %s only %s is read", legacyVersion, kindEgressRule)
		return
	}
	o.kind = kindEgressRule
	o.OnlyFields(root, CodeUnknown, doc.Path, envelopeFields...)
	o.metadata(fields["metadata"], join(doc.Path, "metadata"))
	if fields["spec"] == nil {
		o.Problem(CodeInvalid, doc.Path, "", "the field %q is missing", "spec")
		return
	}
	var rule egressRule
	o.fill(doc, fields["spec"], &rule)
	c.egressRule(o, &rule)
}

// fill reads the spec of a document that is none of the published messages.
func (o *object) fill(doc Document, n *yaml.Node, into any) {
	d := document.NewDecoder(doc, "MT13", document.Types{})
	d.Object(n, reflect.ValueOf(into).Elem(), o.path)
	o.Problems = append(o.Problems, d.Problems...)
	maps.Copy(o.Nodes, d.Nodes)
}

// egressRule adds the host of an EgressRule to what is known, as the ServiceEntry would that takes its place: a name is looked up, a wildcard leads where connections were going. A port of https is TLS that
// the application speaks, by its server name.
func (c *compiler) egressRule(o *object, rule *egressRule) {
	path := join(o.path, "destination.service")
	if rule.Proxy {
		o.Problem(CodeNotHonoured, join(o.path, "useEgressProxy"), "", "an egress gateway is not honoured yet")
	}
	e := &entry{object: o, outside: true, resolution: mesh.DNS, portsPath: join(o.path, "ports")}
	service := rule.Destination.Service
	switch address, err := netip.ParseAddr(service); {
	case err == nil:
		e.resolution, e.virtual = mesh.Static, []string{address.String()}
		e.listed = []listed{{Endpoint: mesh.Endpoint{Address: address.String()}}}
	case strings.HasPrefix(service, "*"):
		e.resolution = mesh.Original
	case strings.Contains(service, "/"):
		o.Problem(CodeNotHonoured, path, "name each address", "a range of addresses is not honoured yet")
	}
	taken := map[int]bool{}
	for i, p := range rule.Ports {
		at := index(e.portsPath, i)
		protocol, known := protocols[strings.ToUpper(p.Protocol)]
		switch {
		case !known || p.Port == 0: // a problem already
		case taken[p.Port]:
			o.Problem(CodeConflict, join(at, "port"), "", "there is another port %d", p.Port)
		case protocol == mesh.TCP && e.resolution == mesh.Original:
			o.Problem(CodeNotHonoured, join(at, "protocol"), "a host without *", "a wildcard would open port %d to every destination", p.Port)
		}
		taken[p.Port] = true
		e.open = append(e.open, openPort{mesh.Port{Name: p.Protocol, Number: p.Port, Protocol: protocol}, p.Port})
	}
	if service == "" && o.Has(o.path) {
		return
	}
	if host, ok := e.host(path, service); ok {
		c.addHost(e, path, host, service)
	}
}
