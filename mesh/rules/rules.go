// Package rules compiles what users wrote for the mesh, whatever API it is of, into one snapshot: Istio's objects, the Gateway API's and our own, each by the package that knows it. Where no cluster and no scenario
// says which services there are, their ServiceEntries do: that is how a sidecar serves from files alone, and how `why` answers about them.
package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
	"meshtest.dev/meshtest/mesh/gatewayapi"
	"meshtest.dev/meshtest/mesh/istio"
	"meshtest.dev/meshtest/mesh/policy"
)

// Document is one YAML document and the name of the file it stands in.
type Document = document.Document

// Problem is one thing that is wrong with a document, at its place. It is an error.
type Problem = document.Problem

// Problems are all that is wrong. They are an error.
type Problems = document.Problems

// codeConflict is that of a host that documents of two APIs want to route.
const codeConflict = "MT1306"

// Compiled is what documents compile to.
type Compiled struct {
	Snapshot *mesh.Snapshot      // without anything inbound
	Gateways []string            // hosts of the tables of gateways, sorted
	Policies policy.Policies     // by service; whoever knows the workloads gives them the limits
	Opened   map[string]bool     // hosts outside the mesh that the documents open
	Status   []gatewayapi.Status // of Gateways and routes of the Gateway API
}

// Compile compiles documents that know of no services but those of their ServiceEntries. A document without a namespace is in the given one; files that documents name are read by read, which may be nil.
// With any problem there is nothing compiled.
func Compile(docs []Document, namespace string, read istio.ReadFile) (*Compiled, []Problem) {
	all := Sort(docs)
	var options []istio.Option
	if read != nil {
		options = append(options, istio.Files(read))
	}
	rules, more := istio.Compile(all.Istio, nil, namespace, options...)
	problems := slices.Concat(all.Problems, more)
	routes, more := gatewayapi.Compile(all.GatewayAPI, rules.Services, namespace)
	problems = append(problems, more...)
	policies, more := policy.Compile(all.Ours, routes.Services, namespace)
	problems = append(problems, more...)
	problems = append(problems, conflicts(docs, rules.Routes, routes.Routes)...)
	if len(problems) > 0 {
		return nil, problems
	}
	out := &Compiled{Snapshot: mesh.NewSnapshot(), Policies: policies, Opened: rules.Opened, Status: routes.Status}
	maps.Copy(out.Snapshot.Services, routes.Services)
	maps.Copy(out.Snapshot.Endpoints, rules.Endpoints)
	maps.Copy(out.Snapshot.Routes, rules.Routes)
	maps.Copy(out.Snapshot.Routes, routes.Routes)
	policies.Apply(out.Snapshot)
	for _, host := range slices.Sorted(maps.Keys(out.Snapshot.Services)) {
		if _, _, is := GatewayName(host); is {
			out.Gateways = append(out.Gateways, host)
		}
	}
	for _, err := range out.Snapshot.Validate() {
		problems = append(problems, Problem{Code: "MT1405", File: fileOf(docs), Line: 1, Col: 1, Message: err.Error()})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}

// conflicts reports tables that come from both APIs: neither has a word about which rule would go first.
func conflicts(docs []Document, a, b map[string]*mesh.RouteTable) []Problem {
	var out []Problem
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if a[name] == nil {
			continue
		}
		out = append(out, Problem{
			Code: codeConflict, File: fileOf(docs), Line: 1, Col: 1, Hint: "route it by one of the two",
			Message: fmt.Sprintf("%s and %s both route %s", originOf(a[name]), originOf(b[name]), name),
		})
	}
	return out
}

func originOf(t *mesh.RouteTable) string {
	if len(t.Routes) == 0 {
		return t.Host
	}
	return cmp.Or(t.Routes[0].Origin, t.Host)
}

func fileOf(docs []Document) string {
	if len(docs) == 0 {
		return ""
	}
	return docs[0].File
}
