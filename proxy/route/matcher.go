package route

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// Matcher is a compiled mesh.Match. It is immutable. A nil one matches every request.
type Matcher struct {
	conditions []condition // the cheap ones first
	match      *mesh.Match
	stranger   bool  // the caller is not one that is wanted
	servers    hosts // of a match of connections, which holds for no request
}

// source is what the conditions on the caller look at.
type source struct {
	labels    mesh.Labels
	namespace string
}

func sourceOf(w mesh.Workload) source {
	return source{w.Labels, cmp.Or(w.Namespace, mesh.DefaultNamespace)}
}

// is reports whether the caller is one that a match wants.
func (s source) is(m *mesh.Match) bool {
	return s.labels.Match(m.SourceLabels) && (m.SourceNamespace == "" || m.SourceNamespace == s.namespace)
}

// CompileMatch compiles a match for requests of a caller with the given labels; a nil match matches every request. The error joins all mistakes. A condition on the caller's namespace, of which nothing is
// known here, is one.
func CompileMatch(m *mesh.Match, caller mesh.Labels) (*Matcher, error) {
	if m != nil && m.SourceNamespace != "" {
		return nil, errors.New("sourceNamespace: the caller's is not known")
	}
	return compileMatch(m, source{labels: caller})
}

func compileMatch(m *mesh.Match, caller source) (*Matcher, error) {
	if m == nil {
		return nil, nil
	}
	c := &matchCompiler{out: &Matcher{match: m, stranger: !caller.is(m)}}
	c.text(ofMethod, m.Method, compileText)
	c.text(ofPath, m.Path, func(test *mesh.StringMatch) (test, error) { return compilePath(test, m.IgnorePathCase) })
	c.text(ofAuthority, m.Authority, compileText)
	c.hosts(m)
	c.tests(ofHeader, m.Headers)
	c.tests(withoutHeader, m.WithoutHeaders)
	c.tests(ofQuery, m.Query)
	slices.SortStableFunc(c.out.conditions, func(a, b condition) int { return cmp.Compare(a.cost(), b.cost()) })
	return c.out, errors.Join(c.errs...)
}

// Match reports whether a request for the given port of the callee satisfies all conditions. It allocates nothing, unless a tested header occurs several times.
func (m *Matcher) Match(req Request, port int) bool {
	return m == nil || m.possible(port) && m.holds(req)
}

// possible reports whether any request for the port can match.
func (m *Matcher) possible(port int) bool { return m.servers == nil && m.isFor(port) }

// isFor reports whether the caller and the port are wanted.
func (m *Matcher) isFor(port int) bool {
	return !m.stranger && (m.match.Port == 0 || m.match.Port == port)
}

// holds tests the request itself.
func (m *Matcher) holds(req Request) bool {
	for i := range m.conditions {
		if !m.conditions[i].holds(req) {
			return false
		}
	}
	return true
}

// slow reports whether an expression is among the conditions.
func (m *Matcher) slow() bool {
	return slices.ContainsFunc(m.conditions, func(c condition) bool { return c.test.op == matchesRegex })
}

// cost ranks conditions by how long they take.
func (c *condition) cost() int {
	cost := int(c.of) + len(c.hosts)
	if c.test.op == matchesRegex {
		cost += 100
	}
	return cost
}

type matchCompiler struct {
	out  *Matcher
	errs []error
}

func (c *matchCompiler) text(of subject, m *mesh.StringMatch, compile func(*mesh.StringMatch) (test, error)) {
	if m == nil {
		return
	}
	t, err := compile(m)
	c.add(condition{of: of, test: t}, err, of.String())
}

// hosts compiles the names that are asked for, by the authority of a request or the server name of a connection.
func (c *matchCompiler) hosts(m *mesh.Match) {
	if len(m.Hosts) > 0 {
		names, err := compileHosts(m.Hosts)
		c.add(condition{of: ofHosts, hosts: names}, err, ofHosts.String())
	}
	if len(m.SNI) == 0 {
		return
	}
	var err error
	if c.out.servers, err = compileHosts(m.SNI); err == nil && testsRequests(m) {
		err = errors.New("a match of connections cannot test requests")
	}
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("sni: %w", err))
	}
}

// testsRequests reports whether a match has conditions that only requests can meet.
func testsRequests(m *mesh.Match) bool {
	return m.Path != nil || m.Method != nil || m.Authority != nil || len(m.Hosts)+len(m.Headers)+len(m.WithoutHeaders)+len(m.Query) > 0
}

func (c *matchCompiler) tests(of subject, tests map[string]mesh.HeaderTest) {
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t, err := compileHeaderTest(tests[name])
		where := fmt.Sprintf("%s %q", of, name)
		switch {
		case err == nil && of != ofQuery && !isToken(name):
			err = errors.New("no header can have this name")
		case err == nil && name == "":
			err = errors.New("a name is needed")
		}
		if of != ofQuery {
			name = lowerASCII(name)
		}
		c.add(condition{of: of, name: name, test: t}, err, where)
	}
}

func (c *matchCompiler) add(cond condition, err error, where string) {
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", where, err))
		return
	}
	c.out.conditions = append(c.out.conditions, cond)
}

// isToken reports whether a name is a token of RFC 9110, 5.6.2.
func isToken(name string) bool {
	for _, c := range []byte(name) {
		switch {
		case 'a' <= lower(c) && lower(c) <= 'z', '0' <= c && c <= '9':
		default:
			if !slices.Contains([]byte("!#$%&'*+-.^_`|~"), c) {
				return false
			}
		}
	}
	return name != ""
}
