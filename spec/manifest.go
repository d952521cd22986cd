package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
)

// manifest is a file of Kubernetes objects. Only what a scenario depends on is looked at: what else is right is the API server's to say.
type manifest struct {
	*checker
	file    string
	objects []object
}

// object is one Kubernetes object of a file.
type object struct {
	node             *yaml.Node
	version, kind    string
	name             string
	namespace        *yaml.Node // nil: none is said
	workload, isAJob bool
}

// workloadKind is the kind that can be a version of a service.
const workloadKind = "Deployment"

// manifestAt reads the text of the file that the value of a path names. It is nil when the file is not one of objects, which has been reported then.
func (c *checker) manifestAt(path, name string, text []byte) *manifest {
	m := &manifest{checker: c, file: besideScenario(c.source.file, name)}
	before := len(c.d.diags)
	for _, doc := range (fileReader{d: c.d}).documents(m.file, text) {
		m.add(doc.Node)
	}
	if len(c.d.diags) > before {
		c.d.bad[path] = true
		return nil
	}
	return m
}

// add takes an object in, or the objects of a list.
func (m *manifest) add(n *yaml.Node) {
	if n = resolve(n); n.Kind != yaml.MappingNode {
		m.problemIn(n, "a Kubernetes object is a mapping, not "+kindName(n), "")
		return
	}
	o := object{node: n, version: textAt(n, "apiVersion"), kind: textAt(n, "kind"), name: textAt(n, "metadata", "name"), namespace: nodeAt(n, "metadata", "namespace")}
	items := nodeAt(n, "items")
	switch {
	case o.version == "" || o.kind == "":
		m.problemIn(n, "not a Kubernetes object: it has no apiVersion or no kind", "")
		return
	case strings.HasSuffix(o.kind, "List") && items != nil && items.Kind == yaml.SequenceNode:
		for _, item := range items.Content {
			m.add(item)
		}
		return
	case o.name == "":
		m.problemIn(n, "the "+o.kind+" has no name", "objects are told apart by metadata.name")
		return
	}
	group, _, _ := strings.Cut(o.version, "/")
	o.workload = group == "apps" && o.kind == workloadKind
	o.isAJob = group == "batch" && o.kind == "Job"
	m.objects = append(m.objects, o)
}

// problemIn reports something at a node of the file.
func (m *manifest) problemIn(n *yaml.Node, message, hint string) {
	m.d.diags = append(m.d.diags, m.source.at(SeverityError, "MT1212", m.file, n.Line, n.Column, "", message, hint))
}

// labels are those of the workload's pods.
func (o object) labels() mesh.Labels {
	labels := mesh.Labels{}
	all := nodeAt(o.node, "spec", "template", "metadata", "labels")
	if all == nil || all.Kind != yaml.MappingNode {
		return labels
	}
	for i := 0; i+1 < len(all.Content); i += 2 {
		labels[all.Content[i].Value] = resolve(all.Content[i+1]).Value
	}
	return labels
}

// containers are the names of the workload's own containers.
func (o object) containers() []string {
	list := nodeAt(o.node, "spec", "template", "spec", "containers")
	var names []string
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	for _, c := range list.Content {
		names = append(names, textAt(resolve(c), "name"))
	}
	return names
}

// replicas is what the workload says of its number of pods.
func (o object) replicas() (int, bool) {
	n, err := strconv.Atoi(textAt(o.node, "spec", "replicas"))
	return n, err == nil && n > 0
}

func (o object) String() string {
	labels := o.labels()
	return fmt.Sprintf("%s %s (app=%s, version=%s)", o.kind, o.name, labels[mesh.LabelApp], labels[mesh.LabelVersion])
}

// workload finds the workload that is a version of a service, or a service without versions when version is empty.
func (m *manifest) workload(path, service, version string, only bool) (object, bool) {
	var all []string
	var whole, half []object
	for _, o := range m.objects {
		if !o.workload {
			continue
		}
		all = append(all, o.String())
		switch labels := o.labels(); {
		case labels[mesh.LabelApp] != service:
		case version != "" && labels[mesh.LabelVersion] == version:
			whole = append(whole, o)
		case labels[mesh.LabelVersion] == "" || version == "":
			half = append(half, o)
		}
	}
	want := "app=" + service
	if version != "" {
		want += " and version=" + version
	}
	hint := "it has no " + workloadKind
	if len(all) > 0 {
		hint = "it has: " + strings.Join(all, ", ")
	}
	found := whole
	if len(found) == 0 {
		found = half
	}
	switch {
	case len(found) == 0:
		m.problem("MT1213", path, "no workload of the manifest has pods with the labels "+want, hint)
	case len(found) > 1:
		m.problem("MT1213", path, "several workloads of the manifest have pods with the labels "+want, hint)
	case len(whole) == 0 && !only:
		m.problem("MT1213", path, "the pods of "+found[0].kind+" "+found[0].name+" have no label version, and "+service+" has several versions to tell apart", "give them the label version: "+version)
	case found[0].namespace != nil && found[0].namespace.Value != m.Namespace:
		m.problemIn(found[0].namespace, fmt.Sprintf("the workload is in the namespace %s, and the scenario's services are in %s", shorten(found[0].namespace.Value), m.Namespace), "leave it out, or set the scenario's namespace")
	default:
		return found[0], true
	}
	return object{}, false
}

// manifestOf checks the manifest of a service or of one of its versions, and returns the workload that it is.
func (c *checker) manifestOf(path, service, version string, only bool, run Run) (object, bool) {
	where := join(join(path, "run"), "manifest")
	if len(run.Objects) == 0 || c.isBad(where) {
		return object{}, false
	}
	m := c.manifestAt(where, run.Manifest, run.Objects)
	if m == nil {
		return object{}, false
	}
	o, ok := m.workload(where, service, version, only)
	if ok && run.Image != "" {
		c.container(join(path, "run"), run, o)
	}
	return o, ok
}

// container checks which container of a workload gets another image.
func (c *checker) container(path string, run Run, o object) {
	names := o.containers()
	switch {
	case run.Container != "" && !slices.Contains(names, run.Container):
		c.problem("MT1201", join(path, "container"), fmt.Sprintf("%s %s has no container %q", o.kind, o.name, shorten(run.Container)), suggest(nearest(run.Container, names), names))
	case run.Container == "" && len(names) > 1:
		c.problem("MT1103", join(path, "image"), fmt.Sprintf("%s %s has several containers, and the image of one is replaced: container is needed", o.kind, o.name), suggest("", names))
	case len(names) == 0:
		c.problem("MT1213", join(path, "manifest"), fmt.Sprintf("%s %s has no containers", o.kind, o.name), "")
	}
}

// nodeAt is the value at a path of keys below a mapping, nil when it has none.
func nodeAt(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		if n = resolve(n); n.Kind != yaml.MappingNode {
			return nil
		}
		if n = child(n, key); n == nil {
			return nil
		}
	}
	return n
}

// textAt is the text of the scalar at a path of keys, empty when there is none.
func textAt(n *yaml.Node, keys ...string) string {
	if n = nodeAt(n, keys...); n != nil && n.Kind == yaml.ScalarNode {
		return n.Value
	}
	return ""
}
