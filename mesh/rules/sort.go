package rules

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh/document"
	"meshtest.dev/meshtest/mesh/gatewayapi"
	"meshtest.dev/meshtest/mesh/istio"
	"meshtest.dev/meshtest/mesh/policy"
)

// Families are documents by who reads them.
type Families struct {
	Istio, GatewayAPI, Ours []Document
	Problems                []Problem // of those that nobody reads
}

// Sort gives each document to whoever reads it. Of what nobody reads nothing is said but that, and once what would be read.
func Sort(docs []Document) Families {
	var out Families
	for _, d := range docs {
		switch {
		case policy.Is(d):
			out.Ours = append(out.Ours, d)
		case gatewayapi.Is(d):
			out.GatewayAPI = append(out.GatewayAPI, d)
		case istio.Is(d):
			out.Istio = append(out.Istio, d)
		default:
			out.Problems = append(out.Problems, foreign(d))
		}
	}
	if len(out.Problems) > 0 {
		out.Problems[0].Hint = "known are " + knownKinds()
	}
	return out
}

// read are the kinds that are read, by their API.
var read = []struct {
	apiVersion string
	kinds      []string
}{
	{"networking.istio.io/v1", []string{"VirtualService", "DestinationRule", "ServiceEntry", "Gateway"}},
	{"gateway.networking.k8s.io/v1", []string{"Gateway", "HTTPRoute", "GRPCRoute", "ReferenceGrant"}},
	{policy.APIVersion, []string{policy.KindHealthCheck, policy.KindRateLimit}},
	{"v1", []string{"Secret", "Namespace"}},
	{"config.istio.io/v1alpha2", []string{"EgressRule"}},
}

func knownKinds() string {
	all := make([]string, len(read))
	for i, api := range read {
		all[i] = strings.Join(api.kinds, ", ") + " (" + api.apiVersion + ")"
	}
	return strings.Join(all, "; ")
}

// foreign says of a document that nobody reads why that is.
func foreign(d Document) Problem {
	r := document.NewReporter(d)
	root, version, kind := document.Resolve(d.Node), d.Word("apiVersion"), d.Word("kind")
	switch {
	case root.Kind != yaml.MappingNode:
		r.At(root, istio.CodeKind, d.Path, "", "a document must be a mapping with apiVersion and kind, not %s", document.KindName(root))
	case version == "":
		r.At(root, istio.CodeKind, d.Path, "", "the field %q is missing", "apiVersion")
	case kind == "":
		r.At(root, istio.CodeKind, d.Path, "", "the field %q is missing", "kind")
	default:
		r.At(root, istio.CodeKind, d.Path, "", "%s (%s) is no kind of document that is known here", kind, version)
	}
	return r.Problems[0]
}
