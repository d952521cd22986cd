package document

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Reporter remembers where everything in one document stands, and what is wrong with it.
type Reporter struct {
	File     string
	Nodes    map[string]*yaml.Node // by path
	Problems []Problem             // in the order in which they were found
}

// NewReporter knows where a document begins.
func NewReporter(doc Document) *Reporter {
	return &Reporter{File: doc.File, Nodes: map[string]*yaml.Node{doc.Path: doc.Node}}
}

// At reports a problem at a node.
func (r *Reporter) At(n *yaml.Node, code, path, hint, format string, args ...any) {
	r.Problems = append(r.Problems, Problem{Code: code, File: r.File, Line: n.Line, Col: n.Column, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// Problem reports a problem at the value of a path, or at the nearest thing above it that is there.
func (r *Reporter) Problem(code, path, hint, format string, args ...any) {
	for at := path; ; at = at[:max(strings.LastIndexAny(at, ".["), 0)] {
		if n := r.Nodes[at]; n != nil {
			r.At(n, code, path, hint, format, args...)
			return
		}
		if at == "" {
			break
		}
	}
	r.Problems = append(r.Problems, Problem{Code: code, File: r.File, Line: 1, Col: 1, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// CouldBe says of the last problem which word is wrong, and what it could have been.
func (r *Reporter) CouldBe(word string, known []string) {
	last := &r.Problems[len(r.Problems)-1]
	last.Word, last.Known = word, known
}

// Unknown reports a field that does not exist.
func (r *Reporter) Unknown(code string, key *yaml.Node, path string, known []string) {
	r.At(key, code, path, "", "unknown field %q", key.Value)
	r.CouldBe(key.Value, known)
}

// OnlyFields reports fields of a mapping that are not among the known ones.
func (r *Reporter) OnlyFields(n *yaml.Node, code, path string, known ...string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; !slices.Contains(known, key.Value) {
			r.Unknown(code, key, Join(path, key.Value), known)
		}
	}
}

// Has reports whether there is a problem at or below a path that any of the given codes has; without codes, any problem.
func (r *Reporter) Has(path string, codes ...string) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool {
		return Under(p.Path, path) && (len(codes) == 0 || slices.Contains(codes, p.Code))
	})
}

// Under reports whether a path is another one or below it. Below the empty path is everything.
func Under(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && (above == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}
