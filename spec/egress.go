package spec

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Modes of an outbound traffic policy, Istio's.
const (
	RegistryOnly = "REGISTRY_ONLY"
	AllowAny     = "ALLOW_ANY"
)

// OutboundTrafficPolicy says what workloads may reach besides the services of the mesh.
type OutboundTrafficPolicy struct {
	// REGISTRY_ONLY (the default): nothing outside the mesh, unless a ServiceEntry or an EgressRule among the rules names it. Sidecars answer requests to anything else with 502 and
	// close other connections. ALLOW_ANY: anything.
	Mode string `yaml:"mode" spec:"enum=REGISTRY_ONLY|ALLOW_ANY"`
}

// fileFields are the fields of rules that name files: certificates and keys.
var fileFields = []string{"serverCertificate", "clientCertificate", "privateKey", "caCertificates"}

// readNamed reads the files that the rules name, as far as they are in the scenario's folder: whoever compiles the rules says which of them are missing.
func (s *Scenario) readNamed(folder fs.FS) {
	if folder == nil {
		return
	}
	for _, rule := range s.Rules {
		for _, doc := range rule.Documents {
			for _, name := range namedFiles(doc.Node) {
				clean := path.Clean(strings.ReplaceAll(name, `\`, "/"))
				if !fs.ValidPath(clean) {
					continue
				}
				if data, err := readLimited(folder, clean); err == nil {
					if s.Files == nil {
						s.Files = map[string][]byte{}
					}
					s.Files[name] = data
				}
			}
		}
	}
}

// namedFiles are the names of files in a document, sorted. The loader has bounded its size with aliases expanded.
func namedFiles(n *yaml.Node) []string {
	var names []string
	var visit func(*yaml.Node)
	visit = func(n *yaml.Node) {
		n = resolve(n)
		for i, child := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 1 && slices.Contains(fileFields, n.Content[i-1].Value) && resolve(child).Kind == yaml.ScalarNode {
				names = append(names, resolve(child).Value)
			}
			visit(child)
		}
	}
	visit(n)
	slices.Sort(names)
	return slices.Compact(names)
}
