package istio

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

const kinds = "VirtualService, DestinationRule, ServiceEntry or Gateway"

// group and versions of the objects that are read; the versions have the same fields.
const group = "networking.istio.io"

var versions = []string{"v1", "v1beta1", "v1alpha3"}

// Is reports whether a document is one of Istio's, right or wrong, or a Secret, which its Gateways name.
func Is(doc Document) bool {
	switch doc.Group() {
	case group, legacyGroup:
		return true
	case "":
		return doc.Word("kind") == kindSecret
	default:
		return false
	}
}

// Compile turns documents into rules, for services that are known by their hosts. Hosts in a document are resolved in its own namespace, or in the given one
// when it names none. What is bound to a gateway is in the order of the documents, which Istio takes from their age. A subset that a service comes with is kept unless a DestinationRule defines one for the same version. The services given are not changed.
//
// Problems are in the order of the documents. With any problem the rules are incomplete and must not be used.
func Compile(docs []Document, services map[string]*mesh.Service, namespace string, options ...Option) (Rules, []Problem) {
	c := &compiler{
		rules:  Rules{Services: maps.Clone(services), Endpoints: map[string]*mesh.Endpoints{}, Routes: map[string]*mesh.RouteTable{}},
		owners: map[string]owner{}, gateways: map[string]*gateway{}, services: services, home: namespace, files: noFiles, entries: map[string]*entry{}, secrets: map[string]*secret{},
	}
	if c.rules.Services == nil {
		c.rules.Services = map[string]*mesh.Service{}
	}
	for _, option := range options {
		option(c)
	}
	var policies, virtual []func()
	for _, doc := range docs {
		o := c.read(doc, namespace)
		if o == nil {
			continue
		}
		switch spec := o.spec.(type) {
		case *networking.ServiceEntry:
			c.serviceEntry(o, spec) // before anything that may name its hosts
		case *networking.DestinationRule:
			policies = append(policies, func() { c.destinationRule(o, spec) })
		case *networking.Gateway:
			policies = append(policies, func() { c.gateway(o, spec) }) // after all secrets are known
		case *networking.VirtualService:
			virtual = append(virtual, func() { c.virtualService(o, spec) }) // after all subsets and gateways are known
		}
	}
	for _, compile := range slices.Concat(policies, virtual) {
		compile()
	}
	c.finishEntries()
	c.finishGateways()
	for _, d := range c.decoders {
		c.problems = append(c.problems, d.Problems...)
	}
	return c.rules, c.problems
}

type compiler struct {
	rules    Rules
	owners   map[string]owner    // by kind and host: the document that is about it
	gateways map[string]*gateway // by namespace/name
	decoders []*decoder
	problems []Problem

	services map[string]*mesh.Service // that are known without any document
	home     string                   // namespace of documents that name none
	files    ReadFile                 // that documents name
	entries  map[string]*entry        // that open hosts, by host
	secrets  map[string]*secret       // by namespace/name
}

type owner struct {
	name, file string
	line       int
}

// object is one document, decoded.
type object struct {
	*decoder
	kind, name, namespace string
	path                  string // of the spec
	spec                  proto.Message
	gateways              map[string]*gateway // that a VirtualService is for, by key; nil for the sidecars and for what is not known
}

// origin names the object in routes, reports and messages.
func (o *object) origin() string { return o.kind + " " + o.namespace + "/" + o.name }

// read decodes the envelope and the spec of a document; nil when it is not one that is known here.
func (c *compiler) read(doc Document, namespace string) *object {
	d := newDecoder(doc)
	c.decoders = append(c.decoders, d)
	root := resolve(doc.Node)
	if root.Kind != yaml.MappingNode {
		d.At(root, CodeKind, doc.Path, "", "must be an Istio document, not %s", kindName(root))
		return nil
	}
	o := &object{decoder: d, namespace: namespace, path: join(doc.Path, "spec")}
	fields := map[string]*yaml.Node{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], resolve(root.Content[i+1])
		where := join(doc.Path, key.Value)
		d.Nodes[where] = value
		fields[key.Value] = value
	}
	switch {
	case doc.Word("kind") == kindSecret:
		c.secret(o, doc, root, fields)
		return nil
	case doc.Word("apiVersion") == legacyVersion:
		c.legacy(o, doc, root, fields)
		return nil
	case !o.known(doc):
		return nil
	}
	o.OnlyFields(root, CodeUnknown, doc.Path, envelopeFields...)
	o.metadata(fields["metadata"], join(doc.Path, "metadata"))
	if fields["spec"] == nil {
		d.At(root, CodeInvalid, doc.Path, "", "the field %q is missing", "spec")
		return nil
	}
	d.message(fields["spec"], o.spec.ProtoReflect(), o.path)
	return o
}

// envelopeFields are those of every document but a Secret.
var envelopeFields = []string{"apiVersion", "kind", "metadata", "spec"}

// known reads apiVersion and kind, and reports whether it is a document that is known here. Of any other the fields are nothing to complain about.
func (o *object) known(doc Document) bool {
	api := doc.Word("apiVersion")
	version, ok := strings.CutPrefix(api, group+"/")
	if !ok || !slices.Contains(versions, version) {
		o.Problem(CodeKind, join(doc.Path, "apiVersion"), "networking.istio.io/v1, v1beta1 or v1alpha3", "not an API that is known here: %q", api)
		return false
	}
	switch o.kind = doc.Word("kind"); o.kind {
	case "VirtualService":
		o.spec = &networking.VirtualService{}
	case "DestinationRule":
		o.spec = &networking.DestinationRule{}
	case "Gateway":
		o.spec = &networking.Gateway{}
	case "ServiceEntry":
		o.spec = &networking.ServiceEntry{}
	case "Sidecar", "EnvoyFilter", "WorkloadEntry", "WorkloadGroup", "ProxyConfig":
		o.Problem(CodeNotHonoured, join(doc.Path, "kind"), kinds, "%s is not honoured yet", o.kind)
		return false
	default:
		o.Problem(CodeKind, join(doc.Path, "kind"), kinds, "unknown kind %q", o.kind)
		return false
	}
	return true
}

// metadata reads the name and the namespace; labels and annotations say nothing to the mesh and may be there.
func (o *object) metadata(n *yaml.Node, path string) {
	if n == nil || n.Kind != yaml.MappingNode {
		o.Problem(CodeInvalid, path, "such as metadata: {name: reviews}", "metadata with a name is needed")
		return
	}
	known := []string{"name", "namespace", "labels", "annotations"}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		where := join(path, key.Value)
		switch key.Value {
		case "name":
			o.name = value.Value
		case "namespace":
			o.namespace = cmp.Or(value.Value, o.namespace)
		case "labels", "annotations":
		default:
			o.Unknown(CodeUnknown, key, where, known)
		}
	}
	if o.name == "" {
		o.Problem(CodeInvalid, path, "", "the field %q is missing", "name")
	}
}

// host resolves the host of a document to a known service.
func (c *compiler) host(o *object, path, host string) *mesh.Service {
	switch {
	case host == "":
		o.Problem(CodeInvalid, path, "", "a host is needed")
		return nil
	case strings.Contains(host, "*") && c.rules.Services[strings.ToLower(host)] == nil: // no ServiceEntry is for it
		o.Problem(CodeNotHonoured, path, "name each host", "a wildcard host is not honoured yet")
		return nil
	}
	svc := find(c.rules.Services, host, o.namespace)
	if svc == nil {
		var known []string
		for _, h := range slices.Sorted(maps.Keys(c.rules.Services)) {
			known = append(known, mesh.LogicalName(h))
		}
		o.Problem(CodeReference, path, "", "no such service: %s", mesh.Resolve(host, o.namespace))
		o.CouldBe(host, known)
	}
	return svc
}

// find is the service that a document of the namespace calls by the name; nil when there is none.
func find(services map[string]*mesh.Service, name, namespace string) *mesh.Service {
	for _, host := range mesh.Meanings(name, namespace) {
		if svc := services[host]; svc != nil {
			return svc
		}
	}
	return nil
}

// claim reports a second document of a kind about a host. Istio merges some of these; here each host has one document of a kind.
func (c *compiler) claim(o *object, path, host string) bool {
	key := o.kind + " " + host
	if first, taken := c.owners[key]; taken {
		o.Problem(CodeConflict, path, "put the rules of a host into one document", "%s is about %s already (%s:%d)", first.name, mesh.LogicalName(host),
			first.file, first.line)
		return false
	}
	line := 1
	if n := o.Nodes[path]; n != nil {
		line = n.Line
	}
	c.owners[key] = owner{o.origin(), o.File, line}
	return true
}
