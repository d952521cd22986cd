package inject

import (
	"fmt"
	"strconv"
	"strings"
)

// Problem is a reason to refuse a pod or a file, at its place.
type Problem struct {
	File    string // as it was named; empty outside files
	Line    int    // from 1; 0: unknown
	Column  int    // from 1, in characters; 0: unknown
	Object  string // whose pod it is, such as "Deployment shop/web"; empty: only one is meant
	Path    Path   // from the pod, or from the file's object
	Message string
}

func (p Problem) Error() string {
	var at []string
	if place := p.place(); place != "" {
		at = append(at, place)
	}
	if p.Object != "" {
		at = append(at, p.Object)
	}
	if len(p.Path) > 0 {
		at = append(at, p.Path.String())
	}
	return strings.Join(append(at, p.Message), ": ")
}

// place is the file and where in it, without what is not known.
func (p Problem) place() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.File == "":
		return fmt.Sprintf("line %d", p.Line)
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
}

// Problems are everything that is wrong.
type Problems []Problem

// Error has one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// err is the problems as an error; nil when there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Path leads to a part of an object: names of fields (string) and indexes (int).
type Path []any

// String writes the path as Kubernetes does: spec.containers[0].image, metadata.annotations[example.com/x].
func (p Path) String() string {
	var b strings.Builder
	for i, step := range p {
		name, isName := step.(string)
		switch {
		case !isName:
			b.WriteString("[" + strconv.Itoa(step.(int)) + "]")
		case strings.ContainsAny(name, "./"):
			b.WriteString("[" + name + "]")
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(name)
		}
	}
	return b.String()
}

// pathOf reads the dotted path of encoding/json's errors, which knows no indexes.
func pathOf(dotted string) Path {
	var p Path
	for step := range strings.SplitSeq(dotted, ".") {
		if step != "" {
			p = append(p, step)
		}
	}
	return p
}

// join returns a new path: p, then the rest.
func (p Path) join(rest ...any) Path { return append(p[:len(p):len(p)], rest...) }
