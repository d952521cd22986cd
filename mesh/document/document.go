// Package document reads, for those who compile what users wrote into the shared words of the mesh, one YAML document at a time into Go structs: strictly, with every problem at its line and column. A
// struct's tags say which fields there are and what they may hold:
//
//	api:"NAME[,required|inline]"  the field's name in the document
//	default:"WORD"                what it is when it is left out
//	words:"A,B"                   the only words that it, or each element of it, may be
//	min:"N" max:"N"               bounds of a number, or of the length of a list
//	hint:"TEXT"                   of an Unhonoured field: what does its work
//
// A field of the type *yaml.Node takes whatever stands there.
package document

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Document is one YAML document (or a mapping inside one) and the name of the file it stands in.
type Document struct {
	File string
	Path string // dotted path of the node in its file, to begin paths with; may be empty
	Node *yaml.Node
}

// Word is the scalar that a field right in the document holds, as apiVersion and kind do; empty when there is no such thing.
func (d Document) Word(field string) string {
	root := Resolve(d.Node)
	if root.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != field {
			continue
		}
		if value := Resolve(root.Content[i+1]); value.Kind == yaml.ScalarNode {
			return value.Value
		}
	}
	return ""
}

// Group is the group of the document's API: empty for Kubernetes' own, v1, and where there is none.
func (d Document) Group() string {
	group, _, ok := strings.Cut(d.Word("apiVersion"), "/")
	if !ok {
		return ""
	}
	return group
}

// Problem is one thing that is wrong with a document, at its place. It is an error.
type Problem struct {
	Code      string // stable: a family such as MT16, and a number that means the same in all of them
	File      string
	Line, Col int    // from 1; 0: of the file as a whole
	Path      string // dotted, such as spec.rules[0].backendRefs; may be empty
	Message   string
	Hint      string   // what would be right, when Known does not say it
	Word      string   // of an unknown field or value
	Known     []string // what it could have been
}

// Error says it in one line: "FILE:LINE:COL: CODE PATH: MESSAGE; HINT", without what is not known.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
	}
	fmt.Fprintf(&b, ": %s ", p.Code)
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

// Problems are all that is wrong with documents. They are an error of one line each.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Numbers of codes that the decoder itself uses. 01 is a document that is not known, 05 a reference to what does not exist.
const (
	unknownField = "02"
	notHonoured  = "03"
	wrongType    = "04"
	conflict     = "06"
	invalid      = "07"
)

// Unhonoured is the type of a field that an API knows, and nothing here carries out. Its tag hint may say what does its work.
type Unhonoured struct{}

// Duration is one in the form of GEP-2257: 250ms, 1m30s.
type Duration time.Duration
