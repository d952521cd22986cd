package discovery

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
	"meshtest.dev/meshtest/mesh/istio"
)

// GatewayClass is the class of the Gateways that are ours. Those of other classes are somebody else's, with the routes that are for them alone.
const GatewayClass = "meshtest"

// labelName is the label with a namespace's own name, which is a real one, and of no use among logical names.
const labelName = "kubernetes.io/metadata.name"

// addGatewayAPI compiles the Gateway API's objects into the rules. Their problems keep nothing else from working. A host that Istio's objects have rules for keeps those.
func (b *builder) addGatewayAPI(rules istio.Rules) {
	if len(b.state.GatewayAPI) == 0 {
		return
	}
	routes, problems := gatewayapi.Compile(b.gatewayAPIDocuments(), rules.Services, "")
	for _, p := range problems {
		b.problem(p.File, strings.TrimPrefix(p.Path+": "+p.Message, ": "))
	}
	for host, svc := range routes.Services {
		if isGateway(host) {
			rules.Services[host] = svc
		}
	}
	for _, name := range slices.Sorted(maps.Keys(routes.Routes)) {
		table := routes.Routes[name]
		if had := rules.Routes[name]; had != nil && len(had.Routes) > 0 && len(table.Routes) > 0 {
			b.problem(table.Routes[0].Origin, had.Routes[0].Origin+" is about "+name+", too: put all rules of a host into one of the APIs")
			continue
		}
		rules.Routes[name] = table
	}
}

// gatewayAPIDocuments are those of the Gateway API's objects that are for us, and the labels of their namespaces.
func (b *builder) gatewayAPIDocuments() []gatewayapi.Document {
	var docs []gatewayapi.Document
	add := func(file string, written map[string]any) {
		node, err := nodeOf(written)
		if err != nil {
			b.problem(file, err.Error())
			return
		}
		docs = append(docs, gatewayapi.Document{File: file, Node: node})
	}
	for _, name := range slices.Sorted(maps.Keys(b.state.Labels)) {
		labels := mesh.Labels{}
		maps.Copy(labels, b.state.Labels[name])
		delete(labels, labelName)
		add("Namespace "+name, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": b.state.Namespaces[name], "labels": labels}})
	}
	objects := b.inNamespaces(b.state.GatewayAPI)
	foreign := map[key]bool{}
	for _, o := range objects {
		if class, _, _ := unstructured.NestedString(o.Object, "spec", "gatewayClassName"); o.GetKind() == "Gateway" && class != GatewayClass {
			foreign[keyOf(o)] = true
		}
	}
	for _, o := range objects {
		spec, ours := b.ours(o, foreign)
		if !ours {
			continue
		}
		written := map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": map[string]any{
			"name": o.GetName(), "namespace": b.state.Namespaces[o.GetNamespace()], "generation": o.GetGeneration(), "creationTimestamp": o.GetCreationTimestamp(),
		}}
		if spec != nil {
			written["spec"] = b.logical(spec)
		}
		add(describe(o.GetKind(), o), written)
	}
	return docs
}

// ours is the spec of an object, less what is for others, and whether it is for us at all.
func (b *builder) ours(o *unstructured.Unstructured, foreign map[key]bool) (spec any, is bool) {
	spec = o.Object["spec"]
	fields, readable := spec.(map[string]any)
	switch {
	case o.GetKind() == "Gateway":
		return spec, !foreign[keyOf(o)]
	case readable && strings.HasSuffix(o.GetKind(), "Route"):
		return b.ourParents(o, fields, foreign)
	default:
		return spec, true
	}
}

// ourParents is the spec of a route without the parents that are not ours: Gateways of another class, or in a namespace that we do not look at. Without any other it is not ours either.
func (b *builder) ourParents(o *unstructured.Unstructured, spec map[string]any, foreign map[key]bool) (any, bool) {
	parents, is := spec["parentRefs"].([]any)
	if !is {
		return spec, true // what is wrong with it is for the compiler to say
	}
	ours := slices.DeleteFunc(slices.Clone(parents), func(parent any) bool {
		ref, _ := parent.(map[string]any)
		text := func(name, otherwise string) string {
			if s, is := ref[name].(string); is {
				return s
			}
			return otherwise
		}
		to := key{text("namespace", o.GetNamespace()), text("name", "")}
		_, looked := b.state.Namespaces[to.namespace]
		return text("kind", "Gateway") == "Gateway" && text("group", gatewayAPI) == gatewayAPI && (foreign[to] || !looked)
	})
	if len(ours) == 0 && len(parents) > 0 {
		return nil, false
	}
	next := maps.Clone(spec)
	next["parentRefs"] = ours
	return next, true
}

// logical is a value with the namespaces of references replaced by their logical names.
func (b *builder) logical(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for field, inside := range v {
			if name, is := inside.(string); is && field == "namespace" {
				if logical, ours := b.state.Namespaces[name]; ours {
					inside = logical
				}
			}
			out[field] = b.logical(inside)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inside := range v {
			out[i] = b.logical(inside)
		}
		return out
	default:
		return value
	}
}
