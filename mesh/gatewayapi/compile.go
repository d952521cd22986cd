package gatewayapi

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
)

// group is that of the API's objects, and of its routes in a grant.
const group = "gateway.networking.k8s.io"

// versions are the versions of the kinds that are read. Those of one kind have the same fields.
var versions = map[string][]string{
	"Gateway":        {"v1", "v1beta1"},
	"HTTPRoute":      {"v1", "v1beta1"},
	"GRPCRoute":      {"v1"},
	"ReferenceGrant": {"v1", "v1beta1"},
}

// others are kinds of the API that are not honoured.
var others = []string{"GatewayClass", "BackendTLSPolicy", "ListenerSet", "TCPRoute", "TLSRoute", "UDPRoute"}

const knownKinds = "Gateway, HTTPRoute, GRPCRoute or ReferenceGrant"

// Compile turns documents into rules, for services that are known by their hosts. A document without a namespace is in the given one. The documents may be in any order; a Namespace among them says which labels it
// has, for listeners that choose namespaces by labels. The gatewayClassName of a Gateway is not compared with anything: whoever has Gateways of other classes leaves them out. The services given are
// not changed.
//
// Problems are in the order of the documents. The rules can be used all the same: see the package's documentation.
func Compile(docs []Document, services map[string]*mesh.Service, namespace string) (Rules, []Problem) {
	c := &compiler{
		rules: Rules{Services: maps.Clone(services), Routes: map[string]*mesh.RouteTable{}},
		types: document.Types{}, owners: map[string]*object{}, gateways: map[string]*gateway{}, labels: map[string]mesh.Labels{},
	}
	if c.rules.Services == nil {
		c.rules.Services = map[string]*mesh.Service{}
	}
	var objects []*object
	for _, doc := range docs {
		if o := c.read(doc, namespace); o != nil {
			objects = append(objects, o)
		}
	}
	c.build(objects)
	for _, o := range objects {
		if s := o.status(); s != nil {
			c.rules.Status = append(c.rules.Status, *s)
		}
	}
	var problems []Problem
	for _, d := range c.decoders {
		problems = append(problems, d.Problems...)
	}
	return c.rules, problems
}

type compiler struct {
	rules    Rules
	types    document.Types
	decoders []*document.Decoder
	owners   map[string]*object     // by kind, namespace and name
	gateways map[string]*gateway    // by namespace/name
	routes   []*route               // by precedence: the oldest first
	grants   []grant                // of all namespaces
	labels   map[string]mesh.Labels // of namespaces
}

// build compiles what was read: first what others refer to.
func (c *compiler) build(objects []*object) {
	for _, o := range objects {
		switch spec := o.spec.(type) {
		case *gatewaySpec:
			c.gateway(o, spec)
		case *referenceGrantSpec:
			c.grants = append(c.grants, grantsOf(o, spec)...)
		}
	}
	for _, o := range objects {
		switch spec := o.spec.(type) {
		case *httpRouteSpec:
			c.routes = append(c.routes, newHTTPRoute(o, spec))
		case *grpcRouteSpec:
			c.routes = append(c.routes, newGRPCRoute(o, spec))
		}
	}
	slices.SortStableFunc(c.routes, older)
	places := c.attach()
	for _, p := range places {
		p.settle()
	}
	for _, key := range slices.Sorted(maps.Keys(c.gateways)) {
		c.gatewayTables(c.gateways[key])
	}
	c.serviceTables(places)
	for _, r := range c.routes {
		r.finish()
	}
}

// object is one document, decoded.
type object struct {
	*document.Decoder
	kind, name, namespace string
	created               string // RFC 3339 in UTC, which sorts by time; empty in a file
	generation            int64
	path                  string // of the spec
	spec                  any    // pointer to one of the specs
	gateway               *gateway
	route                 *route
}

// key names an object among those of its kind.
func (o *object) key() string { return o.namespace + "/" + o.name }

// origin names the object in routes, reports and messages.
func (o *object) origin() string { return o.kind + " " + o.key() }

func (o *object) status() *Status {
	switch {
	case o.gateway != nil:
		return o.gateway.status()
	case o.route != nil:
		return o.route.status()
	default:
		return nil
	}
}

// read decodes the envelope and the spec of a document; nil when it is not one that is known here.
func (c *compiler) read(doc Document, namespace string) *object {
	d := document.NewDecoder(doc, codeFamily, c.types)
	c.decoders = append(c.decoders, d)
	root := resolve(doc.Node)
	if root.Kind != yaml.MappingNode {
		d.At(root, CodeKind, doc.Path, "", "must be a document of the Gateway API, not %s", kindName(root))
		return nil
	}
	o := &object{Decoder: d, namespace: namespace, path: join(doc.Path, "spec")}
	fields := map[string]*yaml.Node{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], resolve(root.Content[i+1])
		where := join(doc.Path, key.Value)
		if fields[key.Value] != nil {
			d.At(key, CodeConflict, where, "remove one of them", "%q is there twice", key.Value)
			continue
		}
		d.Nodes[where], fields[key.Value] = value, value
	}
	if !o.envelope(doc.Path, fields) {
		return nil
	}
	d.OnlyFields(root, CodeUnknown, doc.Path, "apiVersion", "kind", "metadata", "spec", "status") // the status is the controller's
	o.metadata(fields["metadata"], join(doc.Path, "metadata"))
	if o.kind == "Namespace" {
		c.labels[o.name] = o.namespaceLabels(fields["metadata"], doc.Path)
		return nil
	}
	if fields["spec"] == nil {
		d.At(root, CodeInvalid, doc.Path, "", "the field %q is missing", "spec")
		return nil
	}
	if first := c.owners[o.origin()]; first != nil {
		o.Problem(CodeConflict, join(join(doc.Path, "metadata"), "name"), "", "there is another %s (%s)", o.origin(), first.File)
		return nil
	}
	c.owners[o.origin()] = o
	d.Object(fields["spec"], reflect.ValueOf(o.spec).Elem(), o.path)
	return o
}

// envelope reads apiVersion and kind, and reports whether it is a document that is read.
func (o *object) envelope(path string, fields map[string]*yaml.Node) bool {
	text := func(name string) string {
		if n := fields[name]; n != nil && n.Kind == yaml.ScalarNode {
			return n.Value
		}
		return ""
	}
	o.kind = text("kind")
	if o.kind == "Namespace" && text("apiVersion") == "v1" {
		return true
	}
	inGroup, version, _ := strings.Cut(text("apiVersion"), "/")
	if inGroup != group {
		o.Problem(CodeKind, join(path, "apiVersion"), group+"/v1", "not an API that is known here: %q", text("apiVersion"))
		return false
	}
	switch {
	case slices.Contains(others, o.kind):
		o.Problem(CodeNotHonoured, join(path, "kind"), knownKinds, "%s is not honoured yet", o.kind)
		return false
	case versions[o.kind] == nil:
		o.Problem(CodeKind, join(path, "kind"), knownKinds, "unknown kind %q", o.kind)
		o.CouldBe(o.kind, slices.Sorted(maps.Keys(versions)))
		return false
	case !slices.Contains(versions[o.kind], version):
		o.Problem(CodeKind, join(path, "apiVersion"), group+"/v1", "%s has no version %q", o.kind, version)
		return false
	}
	o.spec = map[string]any{"Gateway": &gatewaySpec{}, "HTTPRoute": &httpRouteSpec{}, "GRPCRoute": &grpcRouteSpec{}, "ReferenceGrant": &referenceGrantSpec{}}[o.kind]
	return true
}
