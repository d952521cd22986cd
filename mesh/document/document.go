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
	"time"

	"go.yaml.in/yaml/v3"
)

// Document is one YAML document (or a mapping inside one) and the name of the file it stands in.
type Document struct {
	File string
	Path string // dotted path of the node in its file, to begin paths with; may be empty
	Node *yaml.Node
}

// Problem is one thing that is wrong with a document, at its place. It is an error.
type Problem struct {
	Code      string // stable: a family such as MT16, and a number that means the same in all of them
	File      string
	Line, Col int    // from 1
	Path      string // dotted, such as spec.rules[0].backendRefs
	Message   string
	Hint      string   // what would be right, when Known does not say it
	Word      string   // of an unknown field or value
	Known     []string // what it could have been
}

func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Line, p.Col, p.Path, p.Message)
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
