// Package istio compiles what users wrote for Istio, VirtualServices, DestinationRules, ServiceEntries and Gateways, into the shared words of [mesh]. It is strict where Istio is lenient: a
// field that does not exist, or exists and is not honoured yet, is a [Problem] at its line and column, never ignored.
package istio

import (
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
)

// Document is one YAML document (or a mapping inside one) and the name of the file it stands in.
type Document = document.Document

// Problem is one thing that is wrong with a document, at its place. It is an error. Codes are MT1301 and following.
type Problem = document.Problem

// Codes of problems.
const (
	CodeKind        = "MT1301" // not a document that is known here
	CodeUnknown     = "MT1302" // no such field
	CodeNotHonoured = "MT1303" // Istio knows the field or value, and it is not honoured yet
	CodeType        = "MT1304" // wrong type or malformed value
	CodeReference   = "MT1305" // names a service, port or subset that does not exist
	CodeConflict    = "MT1306" // two documents about the same thing
	CodeInvalid     = "MT1307" // Istio would refuse it, or it could not act
)

// Rules is what documents compile to, ready to be put into a snapshot.
type Rules struct {
	Services map[string]*mesh.Service // every known service, by host, with its policy and subsets; those of ServiceEntries; and one for each Gateway, by GatewayHost
	// Endpoints are those of ServiceEntries, by mesh.HostPort, one for each port of each host. A host of a known service that is outside the mesh has none here, unless the entry lists some: they are known
	// to whoever knows the service.
	Endpoints map[string]*mesh.Endpoints
	// Opened are the hosts outside the mesh that ServiceEntries and EgressRules open.
	Opened map[string]bool
	Routes map[string]*mesh.RouteTable // for hosts of VirtualServices and for Gateways, by mesh.HostPort: one for each port
}
