package spec

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/internal/yamltext"
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
	if len(data) > MaxFileSize {
		return fail("MT1002", 0, 0, errTooLarge.Error(), "a scenario and each file that it names are small: split it")
	}
	docs, wrong := yamltext.Documents(data)
	switch {
	case wrong != nil:
		if wrong.Code == yamltext.CodeEncoding {
			src.lines[file] = nil // not text that can be shown
		}
		return fail(wrong.Code, wrong.Line, wrong.Col, wrong.Message, wrong.Hint)
	case len(docs) == 0:
		return fail("MT1004", 1, 1, "the file is empty", "")
	}
	return docs, nil
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
