package istio

import (
	"go.yaml.in/yaml/v3"
	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// Matches compiles what requests to a workload are to satisfy and what stands in a document of another kind: matches as a VirtualService has them, less what is known of a caller. The path is that of the list.
func Matches(file, path string, nodes []*yaml.Node) ([]mesh.Match, []Problem) {
	d := newDecoder(Document{File: file})
	delete(d.Nodes, "")
	o := &object{decoder: d}
	var all []*networking.HTTPMatchRequest
	for i, n := range nodes {
		at := index(path, i)
		d.Nodes[at] = resolve(n)
		m := &networking.HTTPMatchRequest{}
		d.message(n, m.ProtoReflect(), at)
		for _, about := range []struct {
			field string
			set   bool
		}{{"gateways", len(m.GetGateways()) > 0}, {"sourceLabels", len(m.GetSourceLabels()) > 0}, {"sourceNamespace", m.GetSourceNamespace() != ""}} {
			if about.set {
				o.Problem(CodeNotHonoured, join(at, about.field), "", "%s is not known of requests to a workload", about.field)
			}
		}
		all = append(all, m)
	}
	return o.matches(path, all, place{gateway: gatewayMesh}), d.Problems
}
