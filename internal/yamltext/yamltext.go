// Package yamltext reads the documents of a YAML text, for everybody who reads what users wrote: a scenario, and rules from files. What is no YAML is one error with a code and a place, the same whoever reads.
package yamltext

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

// Codes of errors.
const (
	CodeEncoding = "MT1003" // not UTF-8
	CodeSyntax   = "MT1006" // not YAML
	CodeTab      = "MT1007" // a tab where YAML wants spaces
)

// Error is why a text is not YAML.
type Error struct {
	Code      string
	Line, Col int // from 1; of the syntax only the line is known, and the column is 1
	Message   string
	Hint      string // what would be right, where that is known
}

// Error tells the place, the code and the message, in one line.
func (e *Error) Error() string {
	return fmt.Sprintf("%d:%d: %s %s", e.Line, e.Col, e.Code, e.Message)
}

// Documents are the roots of all documents of a text that are not empty, or the [*Error] of why there are none.
func Documents(text []byte) ([]*yaml.Node, *Error) {
	if !utf8.Valid(text) {
		line, col := invalidUTF8(text)
		return nil, &Error{Code: CodeEncoding, Line: line, Col: col, Message: "the file is not UTF-8", Hint: "save it as UTF-8"}
	}
	var roots []*yaml.Node
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		doc := &yaml.Node{}
		if err := dec.Decode(doc); errors.Is(err, io.EOF) {
			return roots, nil
		} else if err != nil {
			return nil, syntax(text, err)
		}
		if len(doc.Content) == 1 && !(doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!null") {
			roots = append(roots, doc.Content[0])
		}
	}
}

var errorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntax makes the most of an error of the YAML parser, which knows only a line. A tab in the indentation is by far the most common cause that it does not name.
func syntax(text []byte, err error) *Error {
	message, line := err.Error(), 1
	if m := errorLine.FindStringSubmatch(message); m != nil {
		message = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	lines := strings.Split(string(text), "\n")
	for i := max(line-2, 0); i < min(line+1, len(lines)); i++ {
		indent := lines[i][:len(lines[i])-len(strings.TrimLeft(lines[i], " \t"))]
		if tab := strings.IndexByte(indent, '\t'); tab >= 0 {
			return &Error{Code: CodeTab, Line: i + 1, Col: tab + 1, Message: "a tab in the indentation", Hint: "indent with spaces"}
		}
	}
	return &Error{Code: CodeSyntax, Line: line, Col: 1, Message: "not valid YAML: " + message}
}

func invalidUTF8(text []byte) (line, col int) {
	line, col = 1, 1
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			return line, col
		case r == '\n':
			line, col = line+1, 1
		default:
			col++
		}
		text = text[size:]
	}
	return line, col
}
