package istio

import (
	"cmp"
	"encoding/base64"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kindSecret is Kubernetes' own. Gateways name Secrets by credentialName.
const kindSecret = "Secret"

// Keys of a Secret that holds a certificate. The generic ones are those that Istio also takes.
const (
	keyChain, keyGenericChain = "tls.crt", "cert"
	keyKey, keyGenericKey     = "tls.key", "key"
	keyRoots, keyGenericRoots = "ca.crt", "cacert"
)

// secret is a Secret: texts by key.
type secret struct {
	*object
	texts map[string]string
}

func (s *secret) chain() string { return cmp.Or(s.texts[keyChain], s.texts[keyGenericChain]) }
func (s *secret) key() string   { return cmp.Or(s.texts[keyKey], s.texts[keyGenericKey]) }
func (s *secret) roots() string { return cmp.Or(s.texts[keyRoots], s.texts[keyGenericRoots]) }

// secret reads a Secret. Values of stringData win over those of data, as in Kubernetes. What it says is never repeated in a problem.
func (c *compiler) secret(o *object, doc Document, root *yaml.Node, fields map[string]*yaml.Node) {
	path := doc.Path
	o.kind = kindSecret
	if doc.Word("apiVersion") != "v1" {
		o.Problem(CodeKind, join(path, "apiVersion"), "v1", "a Secret is of the API v1")
		return
	}
	o.OnlyFields(root, CodeUnknown, path, "apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable")
	o.metadata(fields["metadata"], join(path, "metadata"))
	s := &secret{object: o, texts: map[string]string{}}
	for _, field := range []string{"data", "stringData"} {
		n := fields[field]
		if n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
			continue
		}
		at := join(path, field)
		if n.Kind != yaml.MappingNode {
			o.At(n, CodeType, at, "", "must be a mapping")
			continue
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			name, value := n.Content[i].Value, resolve(n.Content[i+1])
			text, ok := value.Value, value.Kind == yaml.ScalarNode && value.Tag == "!!str"
			if field == "data" && ok {
				raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
				text, ok = string(raw), err == nil
			}
			if !ok {
				o.At(value, CodeType, join(at, name), "", "must be %s", map[string]string{"data": "base64 text", "stringData": "text"}[field])
				continue
			}
			s.texts[name] = text
		}
	}
	if o.name == "" {
		return
	}
	name := o.namespace + "/" + o.name
	if first := c.secrets[name]; first != nil {
		o.Problem(CodeConflict, join(path, "metadata"), "", "there is another Secret %s (%s)", name, first.File)
		return
	}
	c.secrets[name] = s
}
