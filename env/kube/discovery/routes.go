package discovery

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
	"meshtest.dev/meshtest/mesh/istio"
)

// DefaultRouteName is the name of the only route of a port without rules.
const DefaultRouteName = "default"

// isGateway reports whether a host stands for a Gateway.
func isGateway(host string) bool {
	_, _, istios := istio.GatewayName(host)
	_, _, theAPIs := gatewayapi.GatewayName(host)
	return istios || theAPIs
}

// findRoutes compiles the objects of Istio and the Gateway API, lets what the owner says replace what they do, and gives every other port one route to itself.
func (b *builder) findRoutes() {
	rules := b.compile()
	b.addGatewayAPI(rules)
	for host, s := range rules.Services {
		b.out.Services[host] = overlaid(s, b.overlay.Services[host])
	}
	b.addOutside(rules.Endpoints)
	b.closeOutside(rules.Opened)
	maps.Copy(b.out.Routes, rules.Routes)
	maps.Copy(b.out.Routes, b.overlay.Routes)
	b.addDefaults()
}

func (b *builder) addDefaults() {
	for name, e := range b.out.Endpoints {
		if b.out.Routes[name] == nil {
			b.out.Routes[name] = b.defaultTable(e.Host, e.Port)
		}
	}
}

func (b *builder) defaultTable(host string, port int) *mesh.RouteTable {
	r := mesh.Route{Name: DefaultRouteName, Split: []mesh.Destination{{Host: host, Port: port, Weight: 100}}}
	if b.protocol(host, port).IsHTTP() {
		r.Retry = mesh.DefaultRetry()
	}
	return &mesh.RouteTable{Host: host, Port: port, Routes: []mesh.Route{r}}
}

// compile compiles those of Istio's objects that are right. The others are left out one after the other, because one that is wrong may be what makes others seem so: first those that are wrong
// by themselves, then those that say something about what an older one speaks of, at last those that name what is not there.
func (b *builder) compile() istio.Rules {
	docs := b.documents()
	for {
		rules, problems := istio.Compile(docs, b.out.Services, "")
		if len(problems) == 0 {
			return rules
		}
		worst := worstOf(problems)
		bad := map[string]bool{}
		for _, p := range problems {
			if severity(p) == worst {
				bad[p.File] = true
				b.problem(p.File, strings.TrimPrefix(p.Path+": "+p.Message, ": "))
			}
		}
		docs = slices.DeleteFunc(docs, func(d istio.Document) bool { return bad[d.File] })
	}
}

// severity is larger for what cannot be the consequence of another problem.
func severity(p istio.Problem) int {
	switch p.Code {
	case istio.CodeReference:
		return 0
	case istio.CodeConflict:
		return 1
	default:
		return 2
	}
}

func worstOf(problems []istio.Problem) int {
	return severity(slices.MaxFunc(problems, func(a, b istio.Problem) int { return cmp.Compare(severity(a), severity(b)) }))
}

// documents are Istio's objects by age, as Istio orders what is bound to a gateway, in logical namespaces.
func (b *builder) documents() []istio.Document {
	ours := b.inNamespaces(b.state.Istio)
	slices.SortStableFunc(ours, func(a, b *unstructured.Unstructured) int {
		return a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time)
	})
	var docs []istio.Document
	for _, o := range ours {
		file := describe(o.GetKind(), o)
		node, err := b.document(o)
		if err != nil {
			b.problem(file, err.Error())
			continue
		}
		docs = append(docs, istio.Document{File: file, Node: node})
	}
	return docs
}

// inNamespaces are the objects in the namespaces of applications, in a stable order.
func (b *builder) inNamespaces(objects []*unstructured.Unstructured) (ours []*unstructured.Unstructured) {
	for _, o := range sorted(objects) {
		if _, is := b.state.Namespaces[o.GetNamespace()]; is {
			ours = append(ours, o)
		}
	}
	return ours
}

// document is an object as its author would have written it: without what the API server has added.
func (b *builder) document(o *unstructured.Unstructured) (*yaml.Node, error) {
	written := map[string]any{
		"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(),
		"metadata": map[string]any{"name": o.GetName(), "namespace": b.state.Namespaces[o.GetNamespace()]},
	}
	if spec, there := o.Object["spec"]; there {
		written["spec"] = spec
	}
	return nodeOf(written)
}

// nodeOf is an object as a document.
func nodeOf(written map[string]any) (*yaml.Node, error) {
	text, err := json.Marshal(written)
	if err != nil {
		return nil, fmt.Errorf("reading it: %w", err)
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil { // JSON is YAML
		return nil, fmt.Errorf("reading it: %w", err)
	}
	return node.Content[0], nil
}

// checkRoutes leaves out the tables that lead nowhere.
func (b *builder) checkRoutes() {
	if b.out.Validate() == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(b.out.Routes)) {
		table := b.out.Routes[name]
		alone := mesh.Snapshot{Services: b.out.Services, Endpoints: b.out.Endpoints, Routes: map[string]*mesh.RouteTable{name: table}}
		errs := alone.Validate()
		for _, err := range errs {
			reason := strings.TrimPrefix(err.Error(), "routes "+name+": ")
			if b.overlay.Routes[name] == table {
				b.mistake("routes "+name, reason)
			} else {
				b.problem("routes "+name, reason)
			}
		}
		if len(errs) > 0 {
			delete(b.out.Routes, name)
		}
	}
	b.addDefaults()
}
