// Package policy compiles documents of our own, for what neither Istio nor the Gateway API has a word, into the shared words of the mesh: active health checks and rate limits. Their fields are Envoy's words, and
// they are attached to Services by targetRefs, as policies of the Gateway API are (GEP-713). It is as strict as its siblings: everything that is wrong is a [Problem] at its line and column.
package policy

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
)

// APIVersion of the documents.
const APIVersion = "meshtest.dev/v1"

// Kinds of documents.
const (
	KindHealthCheck = "HealthCheckPolicy"
	KindRateLimit   = "RateLimitPolicy"
)

// Document is one YAML document (or a mapping inside one) and the name of the file it stands in.
type Document = document.Document

// Problem is one thing that is wrong with a document, at its place. It is an error. Codes are MT17 with the numbers of mesh/istio's.
type Problem = document.Problem

// Codes of problems.
const (
	codeFamily = "MT17"

	CodeKind        = "MT1701" // not a document that is known here
	CodeUnknown     = "MT1702" // no such field
	CodeNotHonoured = "MT1703" // known, and not honoured yet
	CodeType        = "MT1704" // wrong type or malformed value
	CodeReference   = "MT1705" // names a service that does not exist
	CodeConflict    = "MT1706" // two documents, or two parts of one, about the same thing
	CodeInvalid     = "MT1707" // it could not act
)

// Policies is what documents compile to, by the host of the service that they are about.
type Policies struct {
	HealthChecks map[string]*mesh.HealthCheck
	Limits       map[string][]mesh.RateLimit // for each workload of the service, in the order of the documents
}

// Is reports whether a document is one of ours, right or wrong.
func Is(doc Document) bool { return doc.Group() == "meshtest.dev" }

// Compile compiles documents about services that are known by their hosts. A document without a namespace is in the given one, where the services are that it names.
//
// Problems are in the order of the documents. With any problem the policies are incomplete and must not be used.
func Compile(docs []Document, services map[string]*mesh.Service, namespace string) (Policies, []Problem) {
	c := &compiler{
		out:      Policies{HealthChecks: map[string]*mesh.HealthCheck{}, Limits: map[string][]mesh.RateLimit{}},
		services: services, types: document.Types{}, owners: map[string]string{},
	}
	var problems []Problem
	for _, doc := range docs {
		problems = append(problems, c.document(doc, namespace)...)
	}
	return c.out, problems
}

// Apply puts the policies into a snapshot: health checks into the policies of their services and of the subsets that have one of their own, limits into what the workloads of the services listen on. Resources
// that change are replaced, never edited.
func (p Policies) Apply(s *mesh.Snapshot) {
	for host, check := range p.HealthChecks {
		svc := s.Services[host]
		if svc == nil {
			continue
		}
		checked := *svc
		checked.Traffic.HealthCheck = check
		checked.Subsets = slices.Clone(svc.Subsets)
		for i, subset := range checked.Subsets {
			if subset.Traffic != nil {
				own := *subset.Traffic
				own.HealthCheck = check
				checked.Subsets[i].Traffic = &own
			}
		}
		s.Services[host] = &checked
	}
	for name, in := range s.Inbound {
		if limits := p.Limits[mesh.FQDN(in.Workload.Service, in.Workload.Namespace)]; len(limits) > 0 && in.Workload.Service != "" {
			limited := *in
			limited.Limits = limits
			s.Inbound[name] = &limited
		}
	}
}

type compiler struct {
	out      Policies
	services map[string]*mesh.Service
	types    document.Types
	owners   map[string]string // by what only one document may say: who says it
}

// object is one document, decoded.
type object struct {
	*document.Decoder
	kind, name, namespace string
	path                  string // of the spec
}

func (o *object) origin() string { return o.kind + " " + o.namespace + "/" + o.name }

// targetRef names a Service in the namespace of its document.
type targetRef struct {
	Group   string              `api:"group"`
	Kind    string              `api:"kind,required" words:"Service"`
	Name    string              `api:"name,required"`
	Section document.Unhonoured `api:"sectionName" hint:"a policy is about all ports of a Service"`
}

// document compiles one document.
func (c *compiler) document(doc Document, namespace string) []Problem {
	o := &object{Decoder: document.NewDecoder(doc, codeFamily, c.types), namespace: namespace, path: document.Join(doc.Path, "spec")}
	root := document.Resolve(doc.Node)
	fields, ok := o.envelope(doc.Path, root)
	if !ok {
		return o.Problems
	}
	o.metadata(fields["metadata"], document.Join(doc.Path, "metadata"))
	switch spec := fields["spec"]; {
	case spec == nil:
		o.At(root, CodeInvalid, doc.Path, "", "the field %q is missing", "spec")
	case o.kind == KindHealthCheck:
		c.healthCheckPolicy(o, spec)
	default:
		c.rateLimitPolicy(o, spec)
	}
	return o.Problems
}

// envelope reads apiVersion and kind, and reports whether it is a document that is known here.
func (o *object) envelope(path string, root *yaml.Node) (fields map[string]*yaml.Node, ok bool) {
	if root.Kind != yaml.MappingNode {
		o.At(root, CodeKind, path, "", "must be a document, not %s", document.KindName(root))
		return nil, false
	}
	fields = map[string]*yaml.Node{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], document.Resolve(root.Content[i+1])
		where := document.Join(path, key.Value)
		if fields[key.Value] != nil {
			o.At(key, CodeConflict, where, "remove one of them", "%q is there twice", key.Value)
			continue
		}
		o.Nodes[where], fields[key.Value] = value, value
	}
	text := func(name string) string {
		if n := fields[name]; n != nil && n.Kind == yaml.ScalarNode {
			return n.Value
		}
		return ""
	}
	o.kind = text("kind")
	kinds := []string{KindHealthCheck, KindRateLimit}
	switch {
	case text("apiVersion") != APIVersion:
		o.Problem(CodeKind, document.Join(path, "apiVersion"), APIVersion, "not an API that is known here: %q", text("apiVersion"))
		return nil, false
	case !slices.Contains(kinds, o.kind):
		o.Problem(CodeKind, document.Join(path, "kind"), strings.Join(kinds, " or "), "unknown kind %q", o.kind)
		o.CouldBe(o.kind, kinds)
		return nil, false
	}
	o.OnlyFields(root, CodeUnknown, path, "apiVersion", "kind", "metadata", "spec")
	return fields, true
}

// metadata reads the name and the namespace; labels and annotations say nothing to the mesh and may be there.
func (o *object) metadata(n *yaml.Node, path string) {
	if n == nil || n.Kind != yaml.MappingNode {
		o.Problem(CodeInvalid, path, "such as metadata: {name: backend}", "metadata with a name is needed")
		return
	}
	var m struct {
		Name        string            `api:"name,required"`
		Namespace   string            `api:"namespace"`
		Labels      map[string]string `api:"labels"`
		Annotations map[string]string `api:"annotations"`
	}
	o.Object(n, reflect.ValueOf(&m).Elem(), path)
	o.name = m.Name
	if m.Namespace != "" {
		o.namespace = m.Namespace
	}
}

// target is a service that a policy is attached to.
type target struct {
	*mesh.Service
	path string // of the reference
}

func (c *compiler) targets(o *object, refs []targetRef) []target {
	var all []target
	for i, ref := range refs {
		path := document.Index(document.Join(o.path, "targetRefs"), i)
		if o.Has(path) {
			continue
		}
		if ref.Group != "" && ref.Group != "core" {
			o.Problem(CodeInvalid, document.Join(path, "group"), "leave it out", "Services are of the core group, not of %q", ref.Group)
			continue
		}
		host := mesh.FQDN(strings.ToLower(ref.Name), o.namespace)
		svc := c.services[host]
		if svc == nil {
			o.Problem(CodeReference, document.Join(path, "name"), "", "no such service: %s", host)
			o.CouldBe(ref.Name, c.known(o.namespace))
			continue
		}
		if slices.ContainsFunc(all, func(t target) bool { return t.Service == svc }) {
			o.Problem(CodeConflict, document.Join(path, "name"), "remove one of them", "%s is named twice", ref.Name)
			continue
		}
		all = append(all, target{svc, path})
	}
	return all
}

// known are the names of a namespace's services.
func (c *compiler) known(namespace string) []string {
	var names []string
	for _, host := range slices.Sorted(maps.Keys(c.services)) {
		if name, of, ok := mesh.ShortName(host); ok && of == namespace {
			names = append(names, name)
		}
	}
	return names
}

// claim reports a second document that says what only one may say.
func (c *compiler) claim(o *object, path, what, about string) bool {
	first, taken := c.owners[about]
	if taken {
		o.Problem(CodeConflict, path, "", "%s says %s already", first, what)
		return false
	}
	c.owners[about] = o.origin()
	return true
}
