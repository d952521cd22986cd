package gatewayapi

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
)

// metadataFields are those that an author writes; serversFields those that the API server adds, so that a document may come from there.
var (
	metadataFields = []string{"name", "namespace", "labels", "annotations"}
	serversFields  = []string{"creationTimestamp", "generation", "uid", "resourceVersion", "managedFields", "ownerReferences", "finalizers", "deletionTimestamp", "deletionGracePeriodSeconds",
		"generateName", "selfLink"}
)

// metadata reads name, namespace, age and generation; the rest says nothing to the mesh and may be there.
func (o *object) metadata(n *yaml.Node, path string) {
	if n == nil || n.Kind != yaml.MappingNode {
		o.Problem(CodeInvalid, path, "such as metadata: {name: reviews}", "metadata with a name is needed")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		where := join(path, key.Value)
		o.Nodes[where] = value
		switch key.Value {
		case "name":
			o.name = value.Value
		case "namespace":
			o.namespace = cmp.Or(value.Value, o.namespace)
		case "creationTimestamp":
			o.age(value, where)
		case "generation":
			o.generation, _ = strconv.ParseInt(value.Value, 10, 64)
		default:
			if !slices.Contains(metadataFields, key.Value) && !slices.Contains(serversFields, key.Value) {
				o.Unknown(CodeUnknown, key, where, metadataFields)
			}
		}
	}
	if o.name == "" {
		o.Problem(CodeInvalid, path, "", "the field %q is missing", "name")
	}
}

// age reads when the object was made; null is how an object is written that was not.
func (o *object) age(n *yaml.Node, path string) {
	if n.Tag == "!!null" {
		return
	}
	at, err := time.Parse(time.RFC3339, n.Value)
	if err != nil {
		o.At(n, CodeType, path, "", "must be a time such as 2026-01-02T15:04:05Z, not %s", kindName(n))
		return
	}
	o.created = at.UTC().Format(time.RFC3339)
}

// older orders routes as the specification does where nothing else decides: by age, then by namespace and name. Routes from files have no age, and come before those that have.
func older(a, b *route) int {
	return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.key(), b.key()), cmp.Compare(a.kind, b.kind))
}

// namespaceLabels reads the labels of a Namespace.
func (o *object) namespaceLabels(metadata *yaml.Node, path string) mesh.Labels {
	if metadata == nil || metadata.Kind != yaml.MappingNode {
		return nil
	}
	var labels mesh.Labels
	for i := 0; i+1 < len(metadata.Content); i += 2 {
		if metadata.Content[i].Value == "labels" {
			o.Texts(resolve(metadata.Content[i+1]), reflect.ValueOf(&labels).Elem(), join(join(path, "metadata"), "labels"))
		}
	}
	return labels
}

// labelName is the label that every namespace has, with its own name.
const labelName = "kubernetes.io/metadata.name"

// labelsOf are the labels of a namespace, as far as they are known.
func (c *compiler) labelsOf(namespace string) mesh.Labels {
	labels := mesh.Labels{labelName: namespace}
	for k, v := range c.labels[namespace] {
		labels[k] = v
	}
	return labels
}

// matches reports whether a selector selects labels; a nil one selects nothing.
func (s *labelSelector) matches(labels mesh.Labels) bool {
	if s == nil || !labels.Match(s.Labels) {
		return false
	}
	for _, r := range s.Expressions {
		value, there := labels[r.Key]
		holds := false
		switch r.Operator {
		case "In":
			holds = there && slices.Contains(r.Values, value)
		case "NotIn":
			holds = !there || !slices.Contains(r.Values, value)
		case "Exists":
			holds = there
		case "DoesNotExist":
			holds = !there
		}
		if !holds {
			return false
		}
	}
	return true
}
