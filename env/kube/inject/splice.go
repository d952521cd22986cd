package inject

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// insertion is text that goes to a place of a document.
type insertion struct {
	offset int // in bytes
	text   string
}

// splicer inserts into a document's text. It knows where nodes begin, and goes by the text's lines for the rest; so what it makes has to be checked.
type splicer struct {
	text  string
	lines []int        // where each begins, in bytes
	nodes []*yaml.Node // all of the document, in the order of the text
}

// splice returns the document's text with the changes inserted; false when it does not know how.
func splice(d *document, changes []change) (string, bool) {
	if d.root == nil {
		return "", false
	}
	s := splicer{text: d.text, lines: []int{0}, nodes: flatten(d.root, nil)}
	for i, c := range d.text {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	var all []insertion
	for _, c := range changes {
		for _, e := range c.edits {
			i, ok := s.insertion(d.root, c.pod, e)
			if !ok {
				return "", false
			}
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b insertion) int { return cmp.Compare(a.offset, b.offset) })
	return s.write(all), true
}

func flatten(node *yaml.Node, all []*yaml.Node) []*yaml.Node {
	all = append(all, node)
	for _, child := range node.Content {
		all = flatten(child, all)
	}
	return all
}

// write writes the text with the insertions, which are in the order of their places, and with the text's own line ends.
func (s splicer) write(all []insertion) string {
	var b strings.Builder
	done := 0
	for _, i := range all {
		b.WriteString(s.text[done:i.offset])
		if strings.Contains(s.text, "\r\n") {
			i.text = strings.ReplaceAll(i.text, "\n", "\r\n")
		}
		b.WriteString(i.text)
		done = i.offset
	}
	b.WriteString(s.text[done:])
	return b.String()
}

// insertion finds out where an edit of the pod goes.
func (s splicer) insertion(root *yaml.Node, pod Path, e edit) (insertion, bool) {
	node := root
	for _, step := range pod {
		if node = child(node, step); node == nil {
			return insertion{}, false
		}
	}
	for i, name := range e.path {
		key, value := member(node, name)
		switch {
		case key == nil:
			return s.first(node, map[string]any{name: nest(e.path[i+1:], e.whole())})
		case value.Tag == "!!null" && value.Value == "":
			return s.below(key, nest(e.path[i+1:], e.whole()))
		}
		node = value
	}
	switch {
	case e.entries != nil && node.Kind == yaml.MappingNode:
		return s.first(node, e.entries)
	case e.items != nil && node.Kind == yaml.SequenceNode && e.back && len(node.Content) > 0:
		return s.last(node, e.items)
	case e.items != nil && node.Kind == yaml.SequenceNode:
		return s.first(node, e.items)
	}
	return insertion{}, false
}

// child is a part of a node itself, not of what it stands for.
func child(node *yaml.Node, step any) *yaml.Node {
	switch step := step.(type) {
	case string:
		_, value := member(node, step)
		return value
	default:
		if node.Kind != yaml.SequenceNode || step.(int) >= len(node.Content) {
			return nil
		}
		return node.Content[step.(int)]
	}
}

// first inserts a value's parts before those that a mapping or sequence has.
func (s splicer) first(node *yaml.Node, value any) (insertion, bool) {
	if node.Kind != yaml.MappingNode && node.Kind != yaml.SequenceNode {
		return insertion{}, false
	}
	if node.Style&yaml.FlowStyle != 0 || len(node.Content) == 0 {
		return s.flow(node, value)
	}
	at, ok := s.begin(node)
	if !ok {
		return insertion{}, false
	}
	line, _ := slices.BinarySearch(s.lines, at+1)
	line-- // where at is
	indent := strings.Repeat(" ", utf8.RuneCountInString(s.text[s.lines[line]:at]))
	block, ok := encode(value, indent)
	if !ok {
		return insertion{}, false
	}
	if strings.TrimSpace(s.text[s.lines[line]:at]) != "" { // "- name: ..."
		return insertion{at, strings.TrimPrefix(block, indent) + indent}, true
	}
	for line > 0 && isComment(s.line(line-1)) { // comments belong to what is below them
		line--
	}
	return insertion{s.lines[line], block}, true
}

// begin is where the first part of a node in block style begins, in bytes; a sequence's at its dash.
func (s splicer) begin(node *yaml.Node) (int, bool) {
	at, ok := s.offset(node.Content[0])
	if !ok || node.Kind == yaml.MappingNode {
		return at, ok
	}
	at = len(strings.TrimRight(s.text[:at], " \t\r\n")) - 1
	return at, at >= 0 && s.text[at] == '-'
}

// last inserts items behind those that a sequence in block style has.
func (s splicer) last(node *yaml.Node, items []any) (insertion, bool) {
	if node.Style&yaml.FlowStyle != 0 {
		return insertion{}, false
	}
	at, ok := s.begin(node)
	if !ok {
		return insertion{}, false
	}
	start := strings.LastIndexByte(s.text[:at], '\n') + 1
	indent := strings.Repeat(" ", utf8.RuneCountInString(s.text[start:at]))
	block, ok := encode(items, indent)
	if !ok {
		return insertion{}, false
	}
	line := len(s.lines) // behind the last one
	inside := flatten(node, nil)
	if next := slices.Index(s.nodes, inside[len(inside)-1]) + 1; next < len(s.nodes) {
		line = s.nodes[next].Line - 1
	}
	below := func(line string) bool { // what is indented deeper may be a literal's text
		return strings.TrimSpace(line) == "" || strings.HasPrefix(line, "...") || isComment(line) && !strings.HasPrefix(line, indent+" ")
	}
	for line > 0 && below(s.line(line-1)) {
		line--
	}
	return s.at(line, block), true
}

// below inserts a value under a key that has none.
func (s splicer) below(key *yaml.Node, value any) (insertion, bool) {
	block, ok := encode(value, strings.Repeat(" ", key.Column+1))
	return s.at(key.Line, block), ok
}

// at inserts a block before a line, counted from 0.
func (s splicer) at(line int, block string) insertion {
	if line < len(s.lines) {
		return insertion{s.lines[line], block}
	}
	if !strings.HasSuffix(s.text, "\n") {
		block = "\n" + strings.TrimSuffix(block, "\n")
	}
	return insertion{len(s.text), block}
}

// flow inserts a value's parts behind the bracket of a mapping or sequence in flow style, which JSON is.
func (s splicer) flow(node *yaml.Node, value any) (insertion, bool) {
	at, ok := s.offset(node)
	if !ok || at >= len(s.text) || s.text[at] != '{' && s.text[at] != '[' {
		return insertion{}, false
	}
	newline, indent := "", ""
	if len(node.Content) > 0 && node.Content[0].Line > node.Line {
		newline, indent = "\n"+strings.Repeat(" ", node.Content[0].Column-1), "  "
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if indent != "" {
		enc.SetIndent(newline[1:], indent)
	}
	if err := enc.Encode(value); err != nil {
		return insertion{}, false
	}
	inner := strings.TrimSpace(b.String())
	inner = strings.TrimSpace(inner[1 : len(inner)-1]) // without its own brackets
	if indent != "" {
		inner = strings.ReplaceAll(inner, "\n"+indent, "\n") // they were a level of their own
	}
	switch {
	case len(node.Content) == 0:
		return insertion{at + 1, inner}, true
	case indent != "":
		return insertion{at + 1, newline + inner + ","}, true
	default:
		return insertion{at + 1, inner + ", "}, true
	}
}

// offset is where a node begins, in bytes.
func (s splicer) offset(node *yaml.Node) (int, bool) {
	if node.Line < 1 || node.Line > len(s.lines) {
		return 0, false
	}
	at := s.lines[node.Line-1]
	for range node.Column - 1 {
		_, size := utf8.DecodeRuneInString(s.text[at:])
		at += size
	}
	return at, true
}

// line is a line's text, counted from 0, with its end.
func (s splicer) line(i int) string {
	if i+1 < len(s.lines) {
		return s.text[s.lines[i]:s.lines[i+1]]
	}
	return s.text[s.lines[i]:]
}

func isComment(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

// encode writes a value as a block of YAML, each line indented and ended. The order of fields is that of Kubernetes' types.
func encode(value any, indent string) (string, bool) {
	text, err := json.Marshal(value)
	if err != nil {
		return "", false
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return "", false
	}
	for _, n := range flatten(&node, nil) {
		n.Style = 0 // JSON is YAML in flow style
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(&node); err != nil {
		return "", false
	}
	var out strings.Builder
	for line := range strings.Lines(b.String()) {
		out.WriteString(indent + line)
	}
	return out.String(), true
}
