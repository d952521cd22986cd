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
	port       int         // 0: any
	labels     mesh.Labels // wanted of the caller
	stranger   bool        // the caller does not have them
}

// CompileMatch compiles a match for requests of a caller with the given labels; a nil match matches every request. The error joins all mistakes.
func CompileMatch(m *mesh.Match, caller mesh.Labels) (*Matcher, error) {
	if m == nil {
		return nil, nil
	}
	c := &matchCompiler{out: &Matcher{port: m.Port, labels: m.SourceLabels, stranger: !caller.Match(m.SourceLabels)}}
	c.text(ofMethod, m.Method, false)
	c.text(ofPath, m.Path, m.IgnorePathCase)
	c.text(ofAuthority, m.Authority, false)
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
func (m *Matcher) possible(port int) bool { return !m.stranger && (m.port == 0 || m.port == port) }

// holds tests the request itself.
func (m *Matcher) holds(req Request) bool {
	for i := range m.conditions {
		if !m.conditions[i].holds(req) {
			return false
		}
	}
	return true
}

// cost ranks conditions by how long they take.
func (c *condition) cost() int {
	cost := int(c.of)
	if c.test.op == matchesRegex {
		cost += 100
	}
	return cost
}

type matchCompiler struct {
	out  *Matcher
	errs []error
}

func (c *matchCompiler) text(of subject, m *mesh.StringMatch, fold bool) {
	if m == nil {
		return
	}
	t, err := compileText(m, fold)
	c.add(condition{of: of, test: t}, err, of.String())
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
