package route

import (
	"regexp"
	"strings"
	"sync"

	"meshtest.dev/meshtest/mesh"
)

// naive evaluates a table as the comments in mesh say, one rule after the other, with nothing compiled and nothing shared with the code under test. It returns the rule and its
// match (-1: the rule has none), or -1, -1.
func naive(t *mesh.RouteTable, caller mesh.Labels, v *View) (rule, match int) {
	for i, r := range t.Routes {
		if len(r.Matches) == 0 {
			return i, -1
		}
		for j, m := range r.Matches {
			if naiveMatch(&m, t.Port, caller, v) {
				return i, j
			}
		}
	}
	return -1, -1
}

func naiveMatch(m *mesh.Match, port int, caller mesh.Labels, v *View) bool {
	if m.Port != 0 && m.Port != port || !caller.Match(m.SourceLabels) {
		return false
	}
	path := naiveText
	if m.IgnorePathCase && m.Path != nil && m.Path.Regex == nil {
		path = func(want *mesh.StringMatch, got string) bool {
			fold := func(s *string) *string {
				if s == nil {
					return nil
				}
				folded := strings.ToLower(*s)
				return &folded
			}
			return naiveText(&mesh.StringMatch{Exact: fold(want.Exact), Prefix: fold(want.Prefix)}, strings.ToLower(got))
		}
	}
	if m.Path != nil && !path(m.Path, v.URLPath) ||
		m.Method != nil && !naiveText(m.Method, v.Method) ||
		m.Authority != nil && !naiveText(m.Authority, v.Authority) {
		return false
	}
	for name, test := range m.Headers {
		if !naiveTest(test, naiveHeader(v, name)) {
			return false
		}
	}
	for name, test := range m.WithoutHeaders {
		if naiveTest(test, naiveHeader(v, name)) {
			return false
		}
	}
	for name, test := range m.Query {
		if !naiveTest(test, naiveParameter(v.RawQuery, name)) {
			return false
		}
	}
	return true
}

func naiveTest(test mesh.HeaderTest, got *string) bool {
	return got != nil && (test.Value == nil || naiveText(test.Value, *got))
}

func naiveText(want *mesh.StringMatch, got string) bool {
	switch {
	case want.Exact != nil:
		return got == *want.Exact
	case want.Prefix != nil:
		return strings.HasPrefix(got, *want.Prefix)
	default:
		return naiveRegex(*want.Regex).MatchString(got)
	}
}

var naiveRegexes sync.Map

func naiveRegex(text string) *regexp.Regexp {
	if re, ok := naiveRegexes.Load(text); ok {
		return re.(*regexp.Regexp)
	}
	re := regexp.MustCompile("^(" + text + ")$")
	naiveRegexes.Store(text, re)
	return re
}

func naiveHeader(v *View, name string) *string {
	var values []string
	for _, h := range v.Headers {
		if strings.EqualFold(h.Name, name) {
			values = append(values, h.Value)
		}
	}
	if values == nil {
		return nil
	}
	joined := strings.Join(values, ",")
	return &joined
}

func naiveParameter(query, name string) *string {
	for _, one := range strings.Split(query, "&") {
		key, value, _ := strings.Cut(one, "=")
		if key == name && one != "" {
			return &value
		}
	}
	return nil
}
