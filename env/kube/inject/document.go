package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	kubeyaml "sigs.k8s.io/yaml"
)

// document is one of a file's. What it says is read as kubectl reads it; where it says it, by a parser that knows places.
type document struct {
	text  string
	above int // lines of the file before the text
	json  bool

	value map[string]any // nil: there is nothing, but for comments
	root  *yaml.Node     // nil: unknown
}

// change is what is done with the pod at a place of a document.
type change struct {
	pod   Path
	edits edits
}

// split takes a file apart. The documents' texts together are the file's.
func split(text string) []*document {
	if documents, ok := splitJSON(text); ok {
		return documents
	}
	var all []*document
	begin, above, line, content := 0, 0, 0, false
	offset := 0
	for l := range strings.Lines(text) {
		separator := isSeparator(l)
		if separator && content {
			all = append(all, &document{text: text[begin:offset], above: above})
			begin, above, content = offset, line, false
		}
		trimmed := strings.TrimSpace(l)
		if separator || trimmed != "" && trimmed[0] != '#' && l[0] != '%' {
			content = true
		}
		offset += len(l)
		line++
	}
	return append(all, &document{text: text[begin:], above: above})
}

// isSeparator reports whether a document begins at a line.
func isSeparator(line string) bool {
	rest, ok := strings.CutPrefix(line, "---")
	return ok && (rest == "" || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

// splitJSON takes a file of JSON objects apart, one after the other.
func splitJSON(text string) (all []*document, ok bool) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return nil, false
	}
	dec := json.NewDecoder(strings.NewReader(text))
	begin := 0
	for {
		var value json.RawMessage
		switch err := dec.Decode(&value); {
		case errors.Is(err, io.EOF):
			all[len(all)-1].text += text[begin:]
			return all, true
		case err != nil:
			return nil, false
		}
		end := int(dec.InputOffset())
		all = append(all, &document{text: text[begin:end], above: strings.Count(text[:begin], "\n"), json: true})
		begin = end
	}
}

// parse reads the text.
func (d *document) parse() Problems {
	var root yaml.Node
	err := yaml.Unmarshal([]byte(d.text), &root)
	if err != nil && !d.json {
		return Problems{d.syntax(err)}
	}
	if err == nil && len(root.Content) > 0 {
		d.root = root.Content[0]
	}
	value, err := d.decode(d.text)
	if err != nil {
		return Problems{d.syntax(err)}
	}
	if value == nil {
		return nil
	}
	var ok bool
	if d.value, ok = value.(map[string]any); !ok {
		return Problems{{Line: d.line(nil), Message: "this is no Kubernetes object"}}
	}
	if apiVersion, kind := typeOf(d.value); apiVersion == "" || kind == "" {
		d.value = nil
		return Problems{d.at(nil, "", Path{}, "this is no Kubernetes object: it has no apiVersion or kind")}
	}
	return nil
}

// decode reads a text of the document's format.
func (d *document) decode(text string) (value any, err error) {
	raw := []byte(text)
	if !d.json {
		if raw, err = kubeyaml.YAMLToJSON(raw); err != nil {
			return nil, err
		}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	err = dec.Decode(&value)
	return value, err
}

var lineOfError = regexp.MustCompile(`(?s)^.*?yaml: (?:unmarshal errors:\s*)?(?:line (\d+): )?(.*)$`)

// syntax is a parser's error at its place.
func (d *document) syntax(err error) Problem {
	parts := lineOfError.FindStringSubmatch(err.Error())
	if parts == nil {
		return Problem{Line: d.above + 1, Message: err.Error()}
	}
	line, _ := strconv.Atoi(parts[1])
	return Problem{Line: d.above + max(line, 1), Column: 1, Message: parts[2]}
}

// workloads are what makes pods in the document.
func (d *document) workloads() []workload {
	apiVersion, kind := typeOf(d.value)
	return workloads(d.value, nil, apiVersion, kind)
}

// locate says where in the file a workload is refused.
func (d *document) locate(w workload, err error) Problems {
	var refused Problems
	if !errors.As(err, &refused) {
		refused = Problems{{Message: err.Error()}}
	}
	var all Problems
	for _, p := range refused {
		all = append(all, d.at(w.pod, w.object, p.Path, p.Message))
	}
	return all
}

func (d *document) at(pod Path, object string, path Path, message string) Problem {
	p := Problem{Object: object, Path: pod.join(path...), Message: message}
	if node := find(d.root, p.Path); node != nil {
		p.Line, p.Column = d.above+node.Line, node.Column
	}
	return p
}

// line is the file's line where a part of the document begins; 0 when that is unknown.
func (d *document) line(path Path) int {
	if node := find(d.root, path); node != nil {
		return d.above + node.Line
	}
	return 0
}

// find returns the node that a path leads to, or the last one on the way; nil without a root.
func find(node *yaml.Node, path Path) *yaml.Node {
	for node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil || len(path) == 0 {
		return node
	}
	switch step := path[0].(type) {
	case string:
		if _, value := member(node, step); value != nil {
			return find(value, path[1:])
		}
	case int:
		if node.Kind == yaml.SequenceNode && step < len(node.Content) {
			return find(node.Content[step], path[1:])
		}
	}
	return node
}

// member returns the key and the value of a mapping's member; nil when there is none.
func member(node *yaml.Node, name string) (key, value *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}

// with returns the text with the changes. They are inserted; when the result does not say exactly what it should (because parts of the document stand for other parts, for instance), the whole document is
// written anew.
func (d *document) with(changes []change) (string, error) {
	if !slices.ContainsFunc(changes, func(c change) bool { return len(c.edits) > 0 }) {
		return d.text, nil
	}
	var want any = d.value
	for _, c := range changes {
		want = applyAt(want, c.pod, c.edits)
	}
	if err := convert(want, &want); err != nil {
		return "", err
	}
	if text, ok := splice(d, changes); ok {
		if got, err := d.decode(text); err == nil && reflect.DeepEqual(got, want) {
			return text, nil
		}
	}
	return d.rewrite(want)
}

// applyAt carries edits out on a part of a value, which stays as it is.
func applyAt(value any, at Path, es edits) any {
	if len(at) == 0 {
		object, _ := value.(map[string]any)
		return es.apply(object)
	}
	switch step := at[0].(type) {
	case string:
		object, _ := value.(map[string]any)
		changed := make(map[string]any, len(object))
		for name, v := range object {
			changed[name] = v
		}
		changed[step] = applyAt(object[step], at[1:], es)
		return changed
	default:
		list, _ := value.([]any)
		changed := append([]any(nil), list...)
		changed[step.(int)] = applyAt(changed[step.(int)], at[1:], es)
		return changed
	}
}

// rewrite writes a value in the document's format, and begins as the document did.
func (d *document) rewrite(value any) (string, error) {
	if d.json {
		text, err := json.MarshalIndent(value, "", "  ")
		return string(text) + "\n", err
	}
	text, err := kubeyaml.Marshal(value)
	if strings.HasPrefix(strings.TrimLeft(d.text, " \t\r\n"), "---") || d.above > 0 {
		return "---\n" + string(text), err
	}
	return string(text), err
}
