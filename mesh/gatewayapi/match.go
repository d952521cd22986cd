package gatewayapi

import (
	"regexp"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// match is one match of a rule with its precedence.
type match struct {
	rank rank
	test mesh.Match // without hosts and callers, which are the place's
}

// rank is the precedence of a match: what is larger in the first number that differs comes first. For an HTTPRoute the numbers are how the path is matched and by how many characters, whether there is a method,
// and how many headers and query parameters; for a GRPCRoute how the service is matched and by how many characters, the same of the method, and how many headers.
type rank [5]int

// How a text is matched, in the order of precedence.
const (
	matchesAll = iota
	matchesRegex
	matchesPrefix
	matchesExactly
)

// The patterns of the API's values.
var (
	pathPattern    = regexp.MustCompile(`^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+$`)
	tokenPattern   = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+\\-.^_`|~]+$")
	servicePattern = regexp.MustCompile(`^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$`)
	methodPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)
	valuePattern   = regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f]+$`) // no control characters but tabs
)

func (b *ruleBuilder) httpMatches(path string, matches []httpMatch) {
	if len(matches) == 0 {
		matches = []httpMatch{{}} // the API's default: every request
	}
	for i, one := range matches {
		at := index(path, i)
		var m match
		if one.Path == nil {
			one.Path = &pathMatch{Type: "PathPrefix", Value: "/"}
		}
		m.rank[0], m.rank[1], m.test.Path = b.path(join(at, "path"), *one.Path)
		if one.Method != "" {
			m.rank[2], m.test.Method = 1, &mesh.StringMatch{Exact: &one.Method}
		}
		m.rank[3] = b.headers(join(at, "headers"), one.Headers, &m.test)
		m.test.Query = b.tests(join(at, "queryParams"), one.Query, func(s string) string { return s })
		m.rank[4] = len(m.test.Query)
		b.rule.matches = append(b.rule.matches, m)
	}
	b.prefixReplaced(path)
}

// prefixReplaced checks a rule that replaces the prefix which matched: it has one match, of a prefix, and names it even when it is that of all paths.
func (b *ruleBuilder) prefixReplaced(path string) {
	r := b.rule
	switch {
	case !(r.rewrite != nil && r.rewrite.Path != "") && !(r.redirect != nil && r.redirect.PathPrefix != ""):
	case len(r.matches) != 1 || r.matches[0].rank[0] != matchesPrefix && r.matches[0].rank[0] != matchesAll:
		if !b.Has(path) {
			b.Problem(CodeInvalid, path, "ReplaceFullPath", "a rule that replaces the prefix which matched needs exactly one match, of a PathPrefix")
		}
	case r.matches[0].rank[0] == matchesAll:
		root := "/"
		r.matches[0].test.Path = &mesh.StringMatch{PathPrefix: &root}
	}
}

// path compiles the test of a path. One that takes every path is none.
func (b *ruleBuilder) path(path string, p pathMatch) (how, length int, test *mesh.StringMatch) {
	at := join(path, "value")
	switch {
	case b.Has(path):
		return matchesAll, 0, nil
	case p.Type == "RegularExpression":
		b.regex(at, p.Value)
		return matchesRegex, len(p.Value), &mesh.StringMatch{Regex: &p.Value}
	}
	if why := wrongPath(p.Value); why != "" {
		b.Problem(CodeInvalid, at, "", "the path %q %s", p.Value, why)
		return matchesAll, 0, nil
	}
	if p.Type == "Exact" {
		return matchesExactly, len(p.Value), &mesh.StringMatch{Exact: &p.Value}
	}
	prefix := strings.TrimSuffix(p.Value, "/") // "a trailing / is ignored"
	if prefix == "" {
		return matchesAll, 0, nil
	}
	return matchesPrefix, len(prefix), &mesh.StringMatch{PathPrefix: &prefix}
}

// wrongPath says what is wrong with a path that is matched exactly or as a prefix, as the API's own validation does; empty: nothing.
func wrongPath(path string) string {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "does not begin with a slash"
	case len(path) > 1024:
		return "is longer than 1024 characters"
	}
	for _, part := range []string{"//", "/./", "/../", "%2f", "%2F"} {
		if strings.Contains(path, part) {
			return "contains " + part
		}
	}
	switch {
	case strings.HasSuffix(path, "/.") || strings.HasSuffix(path, "/.."):
		return "ends with /. or /.."
	case !pathPattern.MatchString(path):
		return "has characters that no path has"
	default:
		return ""
	}
}

// headers compiles the tests of headers, and returns how many there are. The one of Host is about the authority, which HTTP/2 has no header for.
func (b *ruleBuilder) headers(path string, headers []valueMatch, m *mesh.Match) int {
	m.Headers = b.tests(path, headers, strings.ToLower)
	n := len(m.Headers)
	if host, ok := m.Headers["host"]; ok {
		m.Authority = host.Value
		delete(m.Headers, "host")
		if len(m.Headers) == 0 {
			m.Headers = nil
		}
	}
	return n
}

// tests compiles tests by name. Of several of one name, the first counts.
func (b *ruleBuilder) tests(path string, tests []valueMatch, name func(string) string) map[string]mesh.HeaderTest {
	var out map[string]mesh.HeaderTest
	for i, t := range tests {
		at := index(path, i)
		if b.Has(at) {
			continue
		}
		if !tokenPattern.MatchString(t.Name) || len(t.Name) > 256 {
			b.Problem(CodeInvalid, join(at, "name"), "", "%q is not a name", t.Name)
		}
		test := &mesh.StringMatch{Exact: &t.Value}
		if t.Type == "RegularExpression" {
			b.regex(join(at, "value"), t.Value)
			test = &mesh.StringMatch{Regex: &t.Value}
		}
		if t.Value == "" || len(t.Value) > 4096 {
			b.Problem(CodeInvalid, join(at, "value"), "", "the value must have 1 to 4096 characters")
		}
		if out == nil {
			out = map[string]mesh.HeaderTest{}
		}
		if _, taken := out[name(t.Name)]; !taken {
			out[name(t.Name)] = mesh.HeaderTest{Value: test}
		}
	}
	return out
}

func (b *ruleBuilder) regex(path, text string) {
	if _, err := regexp.Compile(text); err != nil {
		b.Problem(CodeType, path, "RE2 syntax", "not a regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

func (b *ruleBuilder) grpcMatches(path string, matches []grpcMatch) {
	if len(matches) == 0 {
		matches = []grpcMatch{{}}
	}
	for i, one := range matches {
		at := index(path, i)
		var m match
		if one.Method != nil {
			b.method(join(at, "method"), *one.Method, &m)
		}
		m.rank[4] = b.headers(join(at, "headers"), one.Headers, &m.test)
		b.rule.matches = append(b.rule.matches, m)
	}
}

// method compiles the test of a gRPC service and method, which are the two elements of a path.
func (b *ruleBuilder) method(path string, m methodMatch, out *match) {
	switch {
	case b.Has(path):
		return
	case m.Service == "" && m.Method == "":
		b.Problem(CodeInvalid, path, "", "a service or a method is needed")
		return
	case m.Type == "RegularExpression":
		b.regex(join(path, "service"), m.Service)
		b.regex(join(path, "method"), m.Method)
		b.methodRegex(out, either(m.Service), either(m.Method))
	case m.Service != "" && !servicePattern.MatchString(m.Service):
		b.Problem(CodeInvalid, join(path, "service"), "such as helloworld.Greeter", "%q is not a service", m.Service)
	case m.Method != "" && !methodPattern.MatchString(m.Method):
		b.Problem(CodeInvalid, join(path, "method"), "such as SayHello", "%q is not a method", m.Method)
	case m.Service == "":
		b.methodRegex(out, anyElement, regexp.QuoteMeta(m.Method))
	case m.Method == "":
		prefix := "/" + m.Service + "/"
		out.test.Path = &mesh.StringMatch{Prefix: &prefix}
	default:
		whole := "/" + m.Service + "/" + m.Method
		out.test.Path = &mesh.StringMatch{Exact: &whole}
	}
	how := matchesExactly
	if m.Type == "RegularExpression" {
		how = matchesRegex
	}
	if m.Service != "" {
		out.rank[0], out.rank[1] = how, len(m.Service)
	}
	if m.Method != "" {
		out.rank[2], out.rank[3] = how, len(m.Method)
	}
}

// anyElement matches one element of a path.
const anyElement = "[^/]+"

func either(regex string) string {
	if regex == "" {
		return anyElement
	}
	return regex
}

func (b *ruleBuilder) methodRegex(out *match, service, method string) {
	text := "/(?:" + service + ")/(?:" + method + ")"
	out.test.Path = &mesh.StringMatch{Regex: &text}
}
