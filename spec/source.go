package spec

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// source remembers where every value of a scenario stands.
type source struct {
	file  string
	lines map[string][]string // of each file that was read, by name
	sets  []string            // overrides; the nodes of the nth have the line -(n+1)
	keys  map[string]*yaml.Node
	nodes map[string]*yaml.Node
}

func newSource(file string, sets []string) *source {
	return &source{file: file, sets: sets, lines: map[string][]string{}, keys: map[string]*yaml.Node{}, nodes: map[string]*yaml.Node{}}
}

func (s *source) addFile(name string, data []byte) {
	s.lines[name] = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
}

// setLine is the line number that marks the nodes of the nth override.
func setLine(n int) int { return -(n + 1) }

// at returns a diagnostic at a line and column of a file, resolving the marks of overrides.
func (s *source) at(severity Severity, code, file string, line, col int, path, message, hint string) Diagnostic {
	d := Diagnostic{Code: code, Severity: severity, File: file, Path: path, Message: message, Hint: hint}
	switch {
	case line < 0 && -line <= len(s.sets):
		d.File = "--set " + s.sets[-line-1]
	case line > 0:
		d.Line, d.Col = line, col
		if lines := s.lines[file]; line <= len(lines) {
			d.Source = lines[line-1]
		}
	}
	return d
}

// find returns the place of a path's value, of its key when key is set, or of the nearest thing above it that is there.
func (s *source) find(path string, key bool) (line, col int) {
	for {
		for _, n := range [...]*yaml.Node{s.pick(key)[path], s.pick(!key)[path]} {
			if n != nil && n.Line != 0 {
				return n.Line, n.Column
			}
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return 1, 1
		}
		path = path[:i]
	}
}

func (s *source) pick(keys bool) map[string]*yaml.Node {
	if keys {
		return s.keys
	}
	return s.nodes
}

// Problem returns a diagnostic at the value of a dotted path, such as rollout.steps[2], or at the nearest thing above it that the scenario has.
func (s *Scenario) Problem(severity Severity, code, path, message, hint string) Diagnostic {
	line, col := s.source.find(path, false)
	return s.source.at(severity, code, s.source.file, line, col, path, message, hint)
}

// ProblemAt returns a diagnostic at the place of a node of one of the scenario's Documents.
func (s *Scenario) ProblemAt(severity Severity, code, file string, line, col int, path, message, hint string) Diagnostic {
	return s.source.at(severity, code, file, line, col, path, message, hint)
}

// File is the name of the file that the scenario was loaded from.
func (s *Scenario) File() string { return s.source.file }

// Sets are the overrides that were applied, PATH=VALUE.
func (s *Scenario) Sets() []string { return s.source.sets }

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// applySets changes scalars of the tree by their dotted paths and returns a problem for each override that cannot be applied.
func applySets(root *yaml.Node, src *source) Diagnostics {
	var diags Diagnostics
	for i, set := range src.sets {
		if err := applySet(root, set, setLine(i)); err != nil {
			diags = append(diags, src.at(SeverityError, "MT1010", src.file, setLine(i), 0, "", err.Error(), "write PATH=VALUE, such as rollout.steps[2].setWeight=10"))
		}
	}
	return diags
}

// maxSetDepth bounds the steps of an override's path.
const maxSetDepth = 32

func applySet(root *yaml.Node, set string, line int) error {
	path, value, ok := strings.Cut(set, "=")
	if !ok || path == "" {
		return fmt.Errorf("an override is PATH=VALUE")
	}
	steps, err := splitPath(path)
	if err != nil {
		return err
	}
	leaf := &yaml.Node{Kind: yaml.ScalarNode, Value: value, Line: line}
	if leaf.Tag = leaf.ShortTag(); value == "" {
		leaf.Tag = "!!str"
	}
	at := root
	var undo func()
	for i, step := range steps {
		before, parent := *at, at
		slot, err := descend(at, step, line)
		if err != nil {
			if undo != nil {
				undo()
			}
			return fmt.Errorf("%s: %w", path, err)
		}
		if undo == nil && len(parent.Content) != len(before.Content) { // what was made below it goes with it
			undo = func() { *parent = before }
		}
		if i < len(steps)-1 {
			at = *slot
			continue
		}
		if k := (*slot).Kind; (k == yaml.MappingNode || k == yaml.SequenceNode) && len((*slot).Content) > 0 {
			return fmt.Errorf("%s: only a scalar can be set, this is %s", path, kindName(*slot))
		}
		*slot = leaf
	}
	return nil
}

// descend returns the slot that a step of a path leads to, making it when a mapping does not have it yet.
func descend(n *yaml.Node, step string, line int) (**yaml.Node, error) {
	if i, ok := strings.CutPrefix(step, "["); ok {
		if n.Kind != yaml.SequenceNode {
			return nil, fmt.Errorf("[%s] of something that is not a list", i)
		}
		at, err := strconv.Atoi(i)
		if err != nil || at < 0 || at >= len(n.Content) {
			return nil, fmt.Errorf("the list has no element [%s], only %d", i, len(n.Content))
		}
		return &n.Content[at], nil
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: line}
	}
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s of something that is not a mapping", step)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			return &n.Content[i+1], nil
		}
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: step, Line: line}
	n.Content = append(n.Content, key, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: line})
	return &n.Content[len(n.Content)-1], nil
}

// expand copies a tree with every alias replaced by what it stands for, so that an override changes one place. The tree must be within the limits of checkTree.
func expand(n *yaml.Node) *yaml.Node {
	c := *resolve(n)
	c.Anchor = ""
	c.Content = make([]*yaml.Node, len(c.Content))
	for i, child := range resolve(n).Content {
		c.Content[i] = expand(child)
	}
	return &c
}

// splitPath splits a.b[2].c into a, b, [2 and c; \. is a dot within a name.
func splitPath(path string) ([]string, error) {
	const dot = "\x00"
	var steps []string
	for _, part := range strings.Split(strings.ReplaceAll(path, `\.`, dot), ".") {
		name, rest, indexed := strings.Cut(part, "[")
		if name == "" && (!indexed || len(steps) == 0) {
			return nil, fmt.Errorf("the path %s has an empty name", path)
		}
		if name != "" {
			steps = append(steps, strings.ReplaceAll(name, dot, "."))
		}
		for indexed {
			var number string
			if number, rest, indexed = strings.Cut(rest, "]"); !indexed {
				return nil, fmt.Errorf("the path %s has [ without ]", path)
			}
			steps = append(steps, "["+number)
			if rest, indexed = strings.CutPrefix(rest, "["); !indexed && rest != "" {
				return nil, fmt.Errorf("the path %s goes on after ] without a dot", path)
			}
		}
	}
	if len(steps) > maxSetDepth {
		return nil, fmt.Errorf("the path is deeper than %d", maxSetDepth)
	}
	return steps, nil
}
