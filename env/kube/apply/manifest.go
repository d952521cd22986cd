package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kyaml "sigs.k8s.io/yaml"
)

// Decode reads a file of Kubernetes objects: YAML or JSON documents, lists taken apart, in the order of the file. Values mean what they mean to kubectl. Errors name the file and the
// line, all at once; a field that stands twice in one object, and an object that stands twice in the file, are errors.
func Decode(file string, text []byte) ([]*unstructured.Unstructured, error) {
	d := decoder{file: file, seen: map[string]int{}}
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); bytes.HasPrefix(trimmed, []byte("{")) {
		d.json(text)
	} else {
		d.yaml(text)
	}
	return d.objects, errors.Join(d.errs...)
}

type decoder struct {
	file    string
	objects []*unstructured.Unstructured
	seen    map[string]int // line, by identity
	errs    []error
}

func (d *decoder) fail(line int, err error) {
	d.errs = append(d.errs, fmt.Errorf("%s:%d: %w", d.file, line, err))
}

// json reads documents one after the other, which is no YAML.
func (d *decoder) json(text []byte) {
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		before := dec.InputOffset()
		var document json.RawMessage
		err := dec.Decode(&document)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			at := dec.InputOffset()
			if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
				at = syntax.Offset
			}
			d.fail(lineAt(text, min(at, int64(len(text)))), fmt.Errorf("no JSON: %w", err))
			return
		}
		start := before + int64(bytes.IndexByte(text[before:], '{'))
		d.document(document, lineAt(text, max(start, before)))
	}
}

func lineAt(text []byte, offset int64) int { return 1 + bytes.Count(text[:offset], []byte("\n")) }

// separator is a line between documents.
var separator = regexp.MustCompile(`(?m)^---([ \t].*|\r)?$`)

// yaml reads documents between separators.
func (d *decoder) yaml(text []byte) {
	start := 0
	for _, at := range append(separator.FindAllIndex(text, -1), []int{len(text), len(text)}) {
		d.document(text[start:at[0]], lineAt(text, int64(start)))
		start = at[1]
	}
}

// document reads one document, which begins in a line of the file.
func (d *decoder) document(text []byte, line int) {
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		d.errs = append(d.errs, moved(d.file, line, err))
		return
	}
	if len(node.Content) == 0 || node.Content[0].Tag == "!!null" {
		return // nothing but comments
	}
	data, err := kyaml.YAMLToJSONStrict(text)
	if err != nil {
		d.errs = append(d.errs, moved(d.file, line, err))
		return
	}
	d.object(data, node.Content[0], line-1)
}

// lineIn finds the line that a parser speaks of.
var lineIn = regexp.MustCompile(`line (\d+): `)

// parsers say who they are.
var parsers = strings.NewReplacer("yaml: ", "", "unmarshal errors:", "", "error converting YAML to JSON: ", "")

// moved is an error of a parser that saw one document only.
func moved(file string, line int, err error) error {
	text := parsers.Replace(err.Error())
	if at := lineIn.FindStringSubmatch(text); at != nil {
		within, _ := strconv.Atoi(at[1])
		line += within - 1
		text = strings.Replace(text, at[0], "", 1)
	}
	return fmt.Errorf("%s:%d: %s", file, line, strings.Join(strings.Fields(text), " "))
}

// object takes one in, or those of a list. Nodes count lines from the line that is given.
func (d *decoder) object(data []byte, node *yaml.Node, from int) {
	line := from + node.Line
	if node.Kind != yaml.MappingNode {
		d.fail(line, errors.New("no Kubernetes object: it has no fields"))
		return
	}
	var u unstructured.Unstructured
	if err := json.Unmarshal(data, &u.Object); err != nil {
		d.fail(line, err)
		return
	}
	if items, node, is := list(u, node); is {
		for i, item := range items {
			at := node
			if i < len(node.Content) {
				at = node.Content[i]
			}
			data, err := json.Marshal(item)
			if err != nil {
				d.fail(from+at.Line, err)
				continue
			}
			d.object(data, at, from)
		}
		return
	}
	if missing := missing(u); missing != "" {
		d.fail(line, fmt.Errorf("no Kubernetes object: it has no %s", missing))
		return
	}
	if err := u.UnmarshalJSON(data); err != nil { // numbers become what the API machinery expects
		d.fail(line, fmt.Errorf("no Kubernetes object: %w", err))
		return
	}
	identity := u.GroupVersionKind().GroupKind().String() + " " + describe(&u)
	if first, twice := d.seen[identity]; twice {
		d.fail(line, fmt.Errorf("%s stands in line %d already", describe(&u), first))
		return
	}
	d.seen[identity] = line
	d.objects = append(d.objects, &u)
}

// list returns the items of a list, and where they stand.
func list(u unstructured.Unstructured, node *yaml.Node) ([]any, *yaml.Node, bool) {
	items, is := u.Object["items"].([]any)
	if !is || !strings.HasSuffix(u.GetKind(), "List") {
		return nil, nil, false
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == "items" {
			return items, node.Content[i+1], true
		}
	}
	return items, node, true
}

func missing(u unstructured.Unstructured) string {
	switch {
	case u.GetAPIVersion() == "":
		return "apiVersion"
	case u.GetKind() == "":
		return "kind"
	case u.GetName() == "":
		return "metadata.name"
	}
	return ""
}
