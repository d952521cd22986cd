package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Limits on the shape of a document, with aliases expanded. They keep a small file from meaning a huge one.
const (
	maxNodes = 100_000
	maxDepth = 64
)

// parseYAML returns the documents of a file, or a diagnostic of why it is not YAML that we take.
func parseYAML(src *source, file string, data []byte) ([]*yaml.Node, Diagnostics) {
	src.addFile(file, data)
	fail := func(code string, line, col int, message, hint string) ([]*yaml.Node, Diagnostics) {
		return nil, Diagnostics{src.at(SeverityError, code, file, line, col, "", message, hint)}
	}
	switch {
	case len(data) > MaxFileSize:
		return fail("MT1002", 0, 0, errTooLarge.Error(), "a scenario and each file that it names are small: split it")
	case !utf8.Valid(data):
		line, col := invalidUTF8(data)
		src.lines[file] = nil // not text that can be shown
		return fail("MT1003", line, col, "the file is not UTF-8", "save it as UTF-8")
	}
	var docs []*yaml.Node
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		doc := &yaml.Node{}
		if err := dec.Decode(doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fail(syntaxProblem(src.lines[file], err))
		}
		if len(doc.Content) == 1 && !(doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!null") {
			docs = append(docs, doc.Content[0])
		}
	}
	if len(docs) == 0 {
		return fail("MT1004", 1, 1, "the file is empty", "")
	}
	return docs, nil
}

var yamlErrorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxProblem makes the most of an error of the YAML parser, which knows only a line. A tab in the indentation is by far the most common cause that it does
// not name.
func syntaxProblem(lines []string, err error) (code string, line, col int, message, hint string) {
	message, line = err.Error(), 1
	if m := yamlErrorLine.FindStringSubmatch(message); m != nil {
		message = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	for i := max(line-2, 0); i < min(line+1, len(lines)); i++ {
		indent := lines[i][:len(lines[i])-len(strings.TrimLeft(lines[i], " \t"))]
		if tab := strings.IndexByte(indent, '\t'); tab >= 0 {
			return "MT1007", i + 1, tab + 1, "a tab in the indentation", "indent with spaces"
		}
	}
	return "MT1006", line, 1, "not valid YAML: " + message, ""
}

func invalidUTF8(data []byte) (line, col int) {
	line, col = 1, 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return line, col
		case r == '\n':
			line, col = line+1, 1
		default:
			col++
		}
		data = data[size:]
	}
	return line, col
}

// checkTree refuses what a document may not have anywhere: duplicate keys, keys that are not scalars, merge keys, tags of its own, and a shape beyond the limits.
func checkTree(src *source, file string, root *yaml.Node, path string) Diagnostics {
	c := treeCheck{src: src, file: file, budget: maxNodes, seen: map[*yaml.Node]bool{}}
	c.walk(root, path, 0)
	return c.diags
}

type treeCheck struct {
	src    *source
	file   string
	budget int
	seen   map[*yaml.Node]bool
	diags  Diagnostics
}

func (c *treeCheck) problem(n *yaml.Node, code, path, message, hint string) {
	c.diags = append(c.diags, c.src.at(SeverityError, code, c.file, n.Line, n.Column, path, message, hint))
}

// walk returns false when the document is beyond the limits.
func (c *treeCheck) walk(n *yaml.Node, path string, depth int) bool {
	at := n
	n = resolve(n)
	if c.budget--; c.budget < 0 || depth > maxDepth {
		message := fmt.Sprintf("nested more than %d deep", maxDepth)
		if c.budget < 0 {
			message = fmt.Sprintf("more than %d values, aliases expanded", maxNodes)
		}
		c.problem(at, "MT1008", "", message, "")
		return false
	}
	first := !c.seen[n]
	c.seen[n] = true
	if first && strings.HasPrefix(n.Tag, "!") && !plainTags[n.Tag] {
		c.problem(n, "MT1009", path, fmt.Sprintf("the YAML tag %s is not supported", n.Tag), "write the value without it")
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, e := range n.Content {
			if !c.walk(e, index(path, i), depth+1) {
				return false
			}
		}
	case yaml.MappingNode:
		if first {
			c.keys(n, path)
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !c.walk(n.Content[i+1], join(path, n.Content[i].Value), depth+1) {
				return false
			}
		}
	}
	return true
}

var plainTags = map[string]bool{"!!str": true, "!!int": true, "!!float": true, "!!bool": true, "!!null": true, "!!map": true, "!!seq": true,
	"!!timestamp": true, "!!merge": true}

func (c *treeCheck) keys(n *yaml.Node, path string) {
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			c.problem(key, "MT1102", path, "a key must be plain text, not "+kindName(key), "")
		case key.Tag == "!!merge":
			c.problem(key, "MT1009", path, "the merge key << is not supported", "write the fields out, or share a whole value with an alias")
		case first[key.Value] != nil:
			c.problem(key, "MT1104", join(path, key.Value), fmt.Sprintf("%q is there twice", key.Value), fmt.Sprintf("first at line %d: remove one", first[key.Value].Line))
		default:
			first[key.Value] = key
		}
	}
}

// resolve follows aliases to what they stand for.
func resolve(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < maxDepth; i++ {
		n = n.Alias
	}
	return n
}

// kindName names what a node is, with its article.
func kindName(n *yaml.Node) string {
	switch n = resolve(n); n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "nothing"
		}
		if n.Value == "" {
			return "empty text"
		}
		return strconv.Quote(shorten(n.Value))
	default:
		return "something else"
	}
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:39]) + "…"
	}
	return s
}
