package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Decode reads a file of Kubernetes objects: YAML or JSON documents, lists taken apart. Errors name the file and the line, all at once.
func Decode(file string, text []byte) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	var errs []error
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var node yaml.Node
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err)) // the parser says the line; nothing after it can be read
			break
		}
		objects, err := object(&node)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, node.Line, err))
		}
		all = append(all, objects...)
	}
	return all, errors.Join(errs...)
}

// object makes one document an object, or several when it is a list. An empty document is none.
func object(node *yaml.Node) ([]*unstructured.Unstructured, error) {
	var content any
	if err := node.Decode(&content); err != nil {
		return nil, err
	}
	if content == nil {
		return nil, nil
	}
	data, err := json.Marshal(content) // numbers become what the API machinery expects
	if err != nil {
		return nil, fmt.Errorf("no object: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("no Kubernetes object: %w", err)
	}
	if u.IsList() {
		list, err := u.ToList()
		if err != nil {
			return nil, err
		}
		var items []*unstructured.Unstructured
		for i := range list.Items {
			items = append(items, &list.Items[i])
		}
		return items, nil
	}
	if u.GetName() == "" {
		return nil, fmt.Errorf("%s has no metadata.name", u.GetKind())
	}
	return []*unstructured.Unstructured{u}, nil
}
