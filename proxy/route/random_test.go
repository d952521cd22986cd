package route

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// dice makes tables and requests out of few words, so that requests often match, and tests often share values.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 1))} }

func (d dice) one(words ...string) string { return words[d.IntN(len(words))] }

func (d dice) path() string {
	var b strings.Builder
	for range 1 + d.IntN(3) {
		b.WriteString("/" + d.one("", "a", "A", "ab", "b", "api", "Api", "c"))
	}
	if d.IntN(4) == 0 {
		fmt.Fprintf(&b, "/%d", d.IntN(30))
	}
	return b.String()
}

func (d dice) text(exact func() string) *mesh.StringMatch {
	s := exact()
	switch d.IntN(5) {
	case 0:
		cut := s[:d.IntN(len(s)+1)]
		return &mesh.StringMatch{Prefix: &cut}
	case 1:
		regex := d.one(".*", "(?i)"+s, s+".*", s+"|b", "[ab]+", ".+b", "/a(/.*)?", "")
		return &mesh.StringMatch{Regex: &regex}
	default:
		return &mesh.StringMatch{Exact: &s}
	}
}

func (d dice) value() string {
	if d.IntN(4) == 0 {
		return fmt.Sprint(d.IntN(10))
	}
	return d.one("a", "b", "ab", "", "a,b", "1")
}

func (d dice) tests(names ...string) map[string]mesh.HeaderTest {
	tests := map[string]mesh.HeaderTest{}
	for range 1 + d.IntN(2) {
		test := mesh.HeaderTest{Present: true}
		if d.IntN(4) > 0 {
			test = mesh.HeaderTest{Value: d.text(d.value)}
		}
		tests[d.one(names...)] = test
	}
	return tests
}

// Nine names, more than there are indexes of values.
var headerNames = []string{"x-a", "x-b", "x-c", "x-d", "x-e", "x-f", "x-g", "x-h", "cookie"}

func (d dice) match() mesh.Match {
	var m mesh.Match
	if d.IntN(3) > 0 {
		m.Path = d.text(d.path)
		if d.IntN(3) == 0 {
			m.Path = pathPrefix(d.pathPrefix())
		}
		m.IgnorePathCase = d.IntN(4) == 0
	}
	if d.IntN(5) == 0 {
		m.Method = d.text(func() string { return d.one("GET", "POST") })
	}
	if d.IntN(8) == 0 {
		m.Authority = d.text(func() string { return d.one("svc", "svc:80") })
	}
	if d.IntN(2) == 0 {
		m.Headers = d.tests(headerNames...)
	}
	if d.IntN(6) == 0 {
		m.WithoutHeaders = d.tests(headerNames...)
	}
	if d.IntN(5) == 0 {
		m.Query = d.tests("q", "debug", "p")
	}
	if d.IntN(10) == 0 {
		m.SourceLabels = mesh.Labels{"app": d.one("web", "other")}
	}
	if d.IntN(5) == 0 {
		m.Hosts = d.hosts()
	}
	if d.IntN(15) == 0 {
		m.Port = 80 + d.IntN(2)
	}
	if d.IntN(15) == 0 {
		m.SourceNamespace = d.one("default", "shop")
	}
	if d.IntN(8) == 0 {
		m = mesh.Match{SNI: d.hosts(), Port: m.Port, SourceLabels: m.SourceLabels, SourceNamespace: m.SourceNamespace}
	}
	return m
}

func (d dice) pathPrefix() string {
	if p := strings.TrimRight(d.path(), "/"); p != "" {
		return p
	}
	return "/"
}

func (d dice) hosts() []string {
	var all []string
	for range 1 + d.IntN(3) {
		all = append(all, d.one("svc", "a.svc", "b.a.svc", "*.svc", "*.a.svc", "x.test", "*.test", "x.b.test"))
	}
	return all
}

func (d dice) host() string {
	return d.one("", "x.", "b.a.", "y.") + d.one("svc", "a.svc", "SVC", "test", "b.Test", "vc")
}

func (d dice) table(routes int) *mesh.RouteTable {
	t := &mesh.RouteTable{Host: "svc.default.svc.cluster.local", Port: 80}
	for i := range routes {
		r := mesh.Route{Name: fmt.Sprintf("r%d", i), Direct: &mesh.DirectResponse{Status: 200}}
		for range d.IntN(4) {
			r.Matches = append(r.Matches, d.match())
		}
		if len(r.Matches) == 0 && d.IntN(20) > 0 {
			r.Matches = append(r.Matches, d.match())
		}
		t.Routes = append(t.Routes, r)
	}
	return t
}

func (d dice) request() *View {
	v := &View{Method: d.one("GET", "POST", "get"), URLPath: d.path(), Authority: d.host() + d.one("", ":80", ".", ":x")}
	for range d.IntN(4) {
		name := d.one(headerNames...)
		if d.IntN(3) == 0 {
			name = strings.ToUpper(name)
		}
		if n := len(v.Headers); n > 0 && d.IntN(3) == 0 {
			name = v.Headers[n-1].Name
		}
		v.Headers = append(v.Headers, Header{name, d.value()})
	}
	var query []string
	for range d.IntN(3) {
		query = append(query, d.one("q", "debug", "p", "")+d.one("", "=", "=a", "=b", "=a=b"))
	}
	v.RawQuery = strings.Join(query, "&")
	return v
}
