package route

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"meshtest.dev/meshtest/mesh"
)

// naive evaluates a table as the comments in mesh say, one rule after the other, with nothing compiled and nothing shared with the code under test. It returns the rule and its
// match (-1: the rule has none), or -1, -1.
func naive(t *mesh.RouteTable, caller mesh.Workload, v *View) (rule, match int) {
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

// naiveConnection is naive for a connection of which no requests are understood.
func naiveConnection(t *mesh.RouteTable, caller mesh.Workload, sni string) (rule, match int) {
	for i, r := range t.Routes {
		if len(r.Matches) == 0 {
			return i, -1
		}
		for j, m := range r.Matches {
			of := m
			of.SNI, of.Port, of.SourceLabels, of.SourceNamespace, of.IgnorePathCase = nil, 0, nil, "", false
			if naiveContext(&m, t.Port, caller) && reflect.ValueOf(of).IsZero() && (m.SNI == nil || naiveHost(m.SNI, sni)) {
				return i, j
			}
		}
	}
	return -1, -1
}

func naiveContext(m *mesh.Match, port int, caller mesh.Workload) bool {
	namespace := caller.Namespace
	if namespace == "" {
		namespace = "default"
	}
	return (m.Port == 0 || m.Port == port) && caller.Labels.Match(m.SourceLabels) && (m.SourceNamespace == "" || m.SourceNamespace == namespace)
}

func naiveHost(want []string, got string) bool {
	for _, w := range want {
		if got = strings.ToLower(got); w == got || w[0] == '*' && len(got) > len(w)-1 && strings.HasSuffix(got, w[1:]) {
			return true
		}
	}
	return false
}

func naiveMatch(m *mesh.Match, port int, caller mesh.Workload, v *View) bool {
	if !naiveContext(m, port, caller) || m.SNI != nil {
		return false
	}
	name, number, there := strings.Cut(v.Authority, ":")
	if port, err := strconv.ParseUint(number, 10, 16); m.Hosts != nil && (there && (err != nil || port == 0) || !naiveHost(m.Hosts, strings.TrimSuffix(name, "."))) {
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
			return naiveText(&mesh.StringMatch{Exact: fold(want.Exact), Prefix: fold(want.Prefix), PathPrefix: fold(want.PathPrefix)}, strings.ToLower(got))
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
	case want.PathPrefix != nil:
		return *want.PathPrefix == "/" && (got == "" || got[0] == '/') || got == *want.PathPrefix || strings.HasPrefix(got, *want.PathPrefix+"/")
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
