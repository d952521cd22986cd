package route

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// subject is what a condition looks at.
type subject uint8

const (
	ofMethod subject = iota
	ofPath
	ofAuthority
	ofHosts // the authority without its port, by names and wildcards
	ofHeader
	ofQuery
	withoutHeader
)

// String gives the field of mesh.Match that the condition comes from, as its JSON names it.
func (s subject) String() string {
	return [...]string{"method", "path", "authority", "hosts", "headers", "query", "withoutHeaders"}[s]
}

// condition is one test of a request.
type condition struct {
	of    subject
	name  string // of the header or query parameter
	test  test
	hosts hosts // of ofHosts, instead of the test
}

// operator is how a value is tested.
type operator uint8

const (
	isPresent operator = iota
	isExact
	hasPrefix
	hasPathPrefix // by elements; text has no slash at its end
	matchesRegex
)

// test is one test of a value.
type test struct {
	op     operator
	fold   bool // ASCII letters of both sides are compared in lower case; text is in lower case
	text   string
	regex  *regexp.Regexp // anchored at both ends
	begins string         // what every string that the regex matches begins with
}

var errOneTest = errors.New("exactly one of exact, prefix and regex is needed")

// compilePath compiles the test of a path, which can be by its elements, or in any case.
func compilePath(m *mesh.StringMatch, fold bool) (t test, err error) {
	if m.PathPrefix == nil {
		t, err = compileText(m)
	} else {
		t, err = compilePathPrefix(m)
	}
	if err == nil && fold && t.op != matchesRegex {
		t.fold, t.text = true, lowerASCII(t.text)
	}
	return t, err
}

func compilePathPrefix(m *mesh.StringMatch) (test, error) {
	text := *m.PathPrefix
	switch {
	case m.Exact != nil || m.Prefix != nil || m.Regex != nil:
		return test{}, errOneTest
	case !strings.HasPrefix(text, "/") || len(text) > 1 && strings.HasSuffix(text, "/"):
		return test{}, fmt.Errorf("pathPrefix %q must begin with a slash, and end with none", text)
	}
	return test{op: hasPathPrefix, text: strings.TrimSuffix(text, "/")}, nil
}

// compileText compiles one test of a string.
func compileText(m *mesh.StringMatch) (test, error) {
	if m.PathPrefix != nil {
		return test{}, errors.New("only a path can be tested by pathPrefix")
	}
	set := 0
	var t test
	if m.Exact != nil {
		set, t = set+1, test{op: isExact, text: *m.Exact}
	}
	if m.Prefix != nil {
		set, t = set+1, test{op: hasPrefix, text: *m.Prefix}
	}
	if m.Regex != nil {
		set, t = set+1, test{op: matchesRegex, text: *m.Regex}
	}
	if set != 1 {
		return test{}, errOneTest
	}
	if t.op == matchesRegex {
		return compileRegex(t.text)
	}
	return t, nil
}

// compileRegex compiles an RE2 expression that must match the whole string.
func compileRegex(text string) (test, error) {
	bare, err := regexp.Compile(text) // alone first: a stray parenthesis must not pair with ours
	if err != nil {
		var reason *syntax.Error
		if errors.As(err, &reason) {
			err = reason
		}
		return test{}, fmt.Errorf("regex %q: %s", text, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	whole, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		return test{}, fmt.Errorf("regex %q: %w", text, err)
	}
	begins, _ := bare.LiteralPrefix()
	return test{op: matchesRegex, text: text, regex: whole, begins: begins}, nil
}

// compileHeaderTest compiles a test of presence or of a value.
func compileHeaderTest(h mesh.HeaderTest) (test, error) {
	switch {
	case h.Value != nil:
		return compileText(h.Value)
	case h.Present:
		return test{op: isPresent}, nil
	default:
		return test{}, errors.New("it tests neither presence nor a value")
	}
}

// holds reports whether a value that is there passes.
func (t *test) holds(value []byte) bool {
	switch t.op {
	case isPresent:
		return true
	case isExact:
		if t.fold {
			return len(value) == len(t.text) && beginsFolded(value, t.text)
		}
		return string(value) == t.text
	case hasPrefix:
		return t.isBegin(value)
	case hasPathPrefix:
		return t.isBegin(value) && (len(value) == len(t.text) || value[len(t.text)] == '/')
	default:
		return t.regex.Match(value)
	}
}

// isBegin reports whether a value begins with the text.
func (t *test) isBegin(value []byte) bool {
	if t.fold {
		return beginsFolded(value, t.text)
	}
	return len(value) >= len(t.text) && string(value[:len(t.text)]) == t.text
}

// want describes what passes.
func (c *condition) want() string {
	switch c.of {
	case ofHosts:
		return c.hosts.want()
	case withoutHeader:
		return "not " + c.test.want()
	default:
		return c.test.want()
	}
}

func (t *test) want() string {
	switch t.op {
	case isPresent:
		return "present"
	case isExact:
		return fmt.Sprintf("exactly %q", t.text)
	case hasPrefix:
		return fmt.Sprintf("prefix %q", t.text)
	case hasPathPrefix:
		return fmt.Sprintf("path prefix %q", cmp.Or(t.text, "/"))
	default:
		return fmt.Sprintf("regex %q", t.text)
	}
}

// holds reports whether the request passes.
func (c *condition) holds(req Request) bool {
	switch c.of {
	case ofMethod:
		return c.test.holds(req.MethodName())
	case ofPath:
		return c.test.holds(req.Path())
	case ofAuthority:
		return c.test.holds(req.Host())
	case ofHosts:
		return c.hosts.hold(nameOf(req.Host()))
	case ofHeader:
		return c.headerHolds(req)
	case withoutHeader:
		return !c.headerHolds(req)
	default:
		value, ok := Parameter(req.Query(), c.name)
		return ok && c.test.holds(value)
	}
}

func (c *condition) headerHolds(req Request) bool {
	i := req.Find(c.name)
	switch {
	case i < 0:
		return false
	case c.test.op == isPresent:
		return true
	case req.Next(i) < 0:
		return c.test.holds(req.Value(i))
	default:
		return c.test.holds(joined(req, i))
	}
}

// value is what the condition looked at, for an explanation.
func (c *condition) value(req Request) (value string, present bool) {
	switch c.of {
	case ofMethod:
		return string(req.MethodName()), true
	case ofPath:
		return string(req.Path()), true
	case ofAuthority:
		return string(req.Host()), true
	case ofHosts:
		return lowerASCII(string(nameOf(req.Host()))), true
	case ofQuery:
		v, ok := Parameter(req.Query(), c.name)
		return string(v), ok
	default:
		i := req.Find(c.name)
		if i < 0 {
			return "", false
		}
		return string(joined(req, i)), true
	}
}

// joined is the one value of a header that occurs several times, beginning with line i. It allocates.
func joined(req Request, i int) []byte {
	value := bytes.Clone(req.Value(i))
	for i = req.Next(i); i >= 0; i = req.Next(i) {
		value = append(value, ',')
		value = append(value, req.Value(i)...)
	}
	return value
}

// Parameter gives the value of the first query parameter of that name, as sent. A parameter without "=" has an empty value.
func Parameter(query []byte, name string) (value []byte, ok bool) {
	for len(query) > 0 {
		one := query
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			one, query = query[:i], query[i+1:]
		} else {
			query = nil
		}
		if len(one) < len(name) || string(one[:len(name)]) != name {
			continue
		}
		switch rest := one[len(name):]; {
		case len(rest) == 0:
			return rest, len(one) > 0
		case rest[0] == '=':
			return rest[1:], true
		}
	}
	return nil, false
}

// beginsFolded reports whether value begins with the text, which is in lower case, ASCII letters in any case.
func beginsFolded(value []byte, text string) bool {
	if len(value) < len(text) {
		return false
	}
	for i := range len(text) {
		if lower(value[i]) != text[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// lowerASCII folds what lower folds, and unlike strings.ToLower nothing else.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lower(c)
	}
	return string(b)
}
