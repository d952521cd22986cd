// Package gatewayapi compiles what users wrote for the Gateway API v1.6.3, Gateways, HTTPRoutes and GRPCRoutes with Gateways or Services as their parents, into the shared words of [mesh], and edits their
// routes for a roll-out. It is strict where a controller is lenient: a field that does not exist, or exists and is not honoured yet, is a [Problem] at its line and column, never ignored.
//
// # What a table says
//
// The order of a table is exactly that of the specification, decided for each match by itself: the listener's hostname, the route's hostname, and then for HTTPRoute an exact path, the longest prefix, a
// method, more headers, more query parameters; for GRPCRoute the longest service, the longest method, more headers; and for both the oldest route, the first by namespace and name, the first rule and
// the first match. Where the specification leaves it open, a path that is matched by a regular expression (RE2) comes after all prefixes but "/", the longest expression first; and the hostname of a route is
// the one that its author wrote, not what is left of it by the listener's.
//
// A listener answers 404 for its own hosts: what none of its routes takes does not go to a less specific listener of the port. For a Service, the routes of a namespace that is not the
// Service's own (consumer routes) are for callers in that namespace alone, and take the place of the Service's own (producer) routes there (GEP-1294).
//
// # What is wrong with a document
//
// Problems do not keep the rest from working, as the specification demands of a running mesh: a backend that does not exist or may not be used answers 500 in its share of the requests (UNAVAILABLE for
// gRPC), a rule with a filter that is not honoured answers 500 as a whole, a rule that is malformed is dropped, and [Rules] is usable all the same. [Status] says so in the conditions that a controller
// writes into its objects. Who wants more, such as the author of a scenario, refuses documents with any problem.
package gatewayapi

import (
	"strings"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
)

// Document is one YAML document (or a mapping inside one) and the name of the file it stands in.
type Document = document.Document

// Problem is one thing that is wrong with a document, at its place. It is an error. Codes are MT1601 and following.
type Problem = document.Problem

// codeFamily begins every code.
const codeFamily = "MT16"

// Codes of problems. Those of mesh/istio that mean the same end in the same digit.
const (
	CodeKind        = "MT1601" // not a document that is known here
	CodeUnknown     = "MT1602" // no such field
	CodeNotHonoured = "MT1603" // the Gateway API knows the field or value, and it is not honoured yet
	CodeType        = "MT1604" // wrong type or malformed value
	CodeReference   = "MT1605" // names a parent, service, port or listener that does not exist, or must not be used
	CodeConflict    = "MT1606" // two documents, or two parts of one, about the same thing
	CodeInvalid     = "MT1607" // the API would refuse it, or it could not act
)

// Is reports whether a document is of the Gateway API, right or wrong, or a Namespace, of which it wants to know the labels.
func Is(doc Document) bool {
	return doc.Group() == group || doc.Word("apiVersion") == "v1" && doc.Word("kind") == "Namespace"
}

// Rules is what documents compile to, ready to be put into a snapshot.
type Rules struct {
	Services map[string]*mesh.Service    // every known service, by host, and one for each Gateway, by GatewayHost
	Routes   map[string]*mesh.RouteTable // for Services that are parents and for Gateways, by mesh.HostPort: one for each port
	Status   []Status                    // of each Gateway and each route, in the order of the documents
}

// gatewaySuffix ends the pseudo hosts of gateways. It is no domain of any service, and not that of Istio's Gateways, of which one may have the same name.
const gatewaySuffix = ".gateway-api"

// GatewayHost is the pseudo host under which a Gateway's compiled rules stand: the table of each port of its listeners is Routes[mesh.HostPort(GatewayHost, port)], and the
// ports are those of Services[GatewayHost]. An edge whose outbound port leads to that host and port serves the Gateway.
func GatewayHost(name, namespace string) string { return name + "." + namespace + gatewaySuffix }

// GatewayName is the inverse of [GatewayHost]; ok is false for any other host.
func GatewayName(host string) (name, namespace string, ok bool) {
	rest, ok := strings.CutSuffix(host, gatewaySuffix)
	if !ok {
		return "", "", false
	}
	i := strings.LastIndexByte(rest, '.') // the name of a Gateway may have dots, that of a namespace has none
	if i < 0 {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}
