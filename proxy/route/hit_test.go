package route

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// hitOf is the hit of a lone rule.
func hitOf(t testing.TB, r mesh.Route, m *mesh.Match) Hit {
	t.Helper()
	r.Name = "r"
	if m != nil {
		r.Matches = []mesh.Match{*m}
	}
	if r.Redirect == nil {
		r.Split = []mesh.Destination{{Host: middleware, Port: 8080, Weight: 1}}
	}
	rules := compileTable(t, &mesh.RouteTable{Host: middleware, Port: 8080, Routes: []mesh.Route{r}}).Table(middleware, 8080).Rules
	if m == nil {
		return Hit{Rule: &rules[0]}
	}
	return Hit{&rules[0], &rules[0].Route.Matches[0]}
}

func TestRewriteByElements(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ prefix, by, path, want string }{
		{"/foo", "/bar", "/foo", "/bar"}, // the table of HTTPRoute's ReplacePrefixMatch
		{"/foo", "/bar", "/foo/", "/bar/"},
		{"/foo", "/bar", "/foo/baz", "/bar/baz"},
		{"/foo", "/bar/", "/foo/baz", "/bar/baz"},
		{"/foo", "/", "/foo", "/"},
		{"/foo", "/", "/foo/", "/"},
		{"/foo", "/", "/foo/baz", "/baz"},
		{"/", "/bar", "/", "/bar/"},
		{"/", "/bar", "/baz", "/bar/baz"},
		{"/", "/", "/baz", "/baz"},
	} {
		for _, r := range []mesh.Route{{Rewrite: &mesh.Rewrite{Path: c.by}}, {Redirect: &mesh.Redirect{PathPrefix: c.by, Code: 302}}} {
			hit := hitOf(t, r, &mesh.Match{Path: pathPrefix(c.prefix)})
			if r.Rewrite != nil {
				require.Equal(t, c.want, string(hit.AppendPath(nil, []byte(c.path))), "%+v", c)
			} else {
				require.Equal(t, "http://m"+c.want, string(hit.AppendLocation(nil, "http", &View{URLPath: c.path, Authority: "m"})), "%+v", c)
			}
		}
	}
}

func TestRewriteOfTheWholePath(t *testing.T) {
	t.Parallel()
	for _, m := range []*mesh.Match{nil, {Path: prefix("/a")}, {Path: pathPrefix("/a")}, {Path: regex("/a.*")}} {
		require.Equal(t, "x/new", string(hitOf(t, mesh.Route{Rewrite: &mesh.Rewrite{FullPath: "/new"}}, m).AppendPath([]byte("x"), []byte("/a/b"))))
	}
}

func TestRewriteByExpression(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ find, replace, path, want string }{
		{`^/service/([^/]+)(/.*)$`, `/customprefix/\2/\1`, "/service/update/v1/api", "/customprefix//v1/api/update"}, // Istio's examples
		{`(?i)/xxx/`, `/yyy/`, "/aaa/XxX/bbb", "/aaa/yyy/bbb"},
		{`one`, `two`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"},
		{`/(a)?b`, `/\1-\0\\`, "/b/ab", `/-/b\/a-/ab\`},
		{`^/`, ``, "/a", "/a"},
		{`.*`, ``, "/a", "/"},
		{`nothing`, `x`, "/a", "/a"},
	} {
		hit := hitOf(t, mesh.Route{Rewrite: &mesh.Rewrite{Regex: &mesh.RegexRewrite{Find: c.find, Replace: c.replace}}}, nil)
		require.Equal(t, "http:"+c.want, string(hit.AppendPath([]byte("http:"), []byte(c.path))), "%+v", c)
	}
	for want, w := range map[string]mesh.Rewrite{
		`rewrite: "(" is not a regular expression: missing closing ): ` + "`(`": {Regex: &mesh.RegexRewrite{Find: "("}},
		`rewrite: "\\2" is not a replacement: there is no group \2`:             {Regex: &mesh.RegexRewrite{Find: "(a)", Replace: `\2`}},
		`rewrite: "\\x" is not a replacement: \x is no reference`:               {Regex: &mesh.RegexRewrite{Find: "a", Replace: `\x`}},
		`rewrite: "a\\" is not a replacement: it ends with a backslash`:         {Regex: &mesh.RegexRewrite{Find: "a", Replace: `a\`}},
		`rewrite: only one of path, fullPath and regex can be set`:              {Path: "/a", FullPath: "/b"},
	} {
		_, err := compileRewrite(&w)
		require.EqualError(t, err, want)
	}
}

func TestLocation(t *testing.T) {
	t.Parallel()
	req := func(host string) *View { return &View{URLPath: "/a/b", RawQuery: "q=1", Authority: host} }
	for name, c := range map[string]struct {
		to     mesh.Redirect
		scheme string
		req    *View
		want   string
	}{
		"nothing changes":                    {mesh.Redirect{}, "http", req("m:8080"), "http://m:8080/a/b?q=1"},
		"path":                               {mesh.Redirect{Path: "/new"}, "http", req("m"), "http://m/new?q=1"},
		"path with a query":                  {mesh.Redirect{Path: "/new?p=2"}, "http", req("m"), "http://m/new?p=2"},
		"prefix of a text":                   {mesh.Redirect{PathPrefix: "/new"}, "http", req("m"), "http://m/new/b?q=1"},
		"host without a port":                {mesh.Redirect{Host: "n"}, "http", req("m:8080"), "http://n/a/b?q=1"},
		"host with a port":                   {mesh.Redirect{Host: "n:81"}, "http", req("m:8080"), "http://n:81/a/b?q=1"},
		"port":                               {mesh.Redirect{Port: 81}, "http", req("m:8080"), "http://m:81/a/b?q=1"},
		"port of the scheme":                 {mesh.Redirect{Port: 80}, "http", req("m:8080"), "http://m/a/b?q=1"},
		"port of another scheme":             {mesh.Redirect{Port: 80}, "https", req("m:8080"), "https://m:80/a/b?q=1"},
		"scheme":                             {mesh.Redirect{Scheme: "https"}, "http", req("m"), "https://m/a/b?q=1"},
		"scheme, with the port of the other": {mesh.Redirect{Scheme: "https"}, "http", req("m:80"), "https://m/a/b?q=1"},
		"scheme, with a port of its own":     {mesh.Redirect{Scheme: "https"}, "http", req("m:8080"), "https://m:8080/a/b?q=1"},
		"scheme and port":                    {mesh.Redirect{Scheme: "https", Port: 443}, "http", req("m:8080"), "https://m/a/b?q=1"},
		"from https":                         {mesh.Redirect{Scheme: "http"}, "https", req("m:443"), "http://m/a/b?q=1"},
		"the same scheme keeps its port":     {mesh.Redirect{Scheme: "http"}, "http", req("m:80"), "http://m:80/a/b?q=1"},
		"an address in brackets keeps them":  {mesh.Redirect{Scheme: "https"}, "http", req("[::1]:8080"), "https://[::1]:8080/a/b?q=1"},
		"an address without a port":          {mesh.Redirect{Port: 81}, "http", req("[::1]"), "http://[::1]:81/a/b?q=1"},
		"no query":                           {mesh.Redirect{Host: "n"}, "http", &View{URLPath: "/", Authority: "m"}, "http://n/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.to.Code = 301
			hit := hitOf(t, mesh.Route{Redirect: &c.to}, &mesh.Match{Path: prefix("/a")})
			if c.req.URLPath == "/" {
				hit.Match = nil
			}
			require.Equal(t, "x"+c.want, string(hit.AppendLocation([]byte("x"), c.scheme, c.req)))
		})
	}
}

func TestRefusedArm(t *testing.T) {
	t.Parallel()
	s := chain(0)
	s.Routes[mesh.HostPort(middleware, 8080)] = &mesh.RouteTable{Host: middleware, Port: 8080, Routes: []mesh.Route{
		{Name: "half", Split: []mesh.Destination{{Host: middleware, Port: 8080, Weight: 1}, {Weight: 1, Refuse: 500}}},
	}}
	require.Nil(t, s.Validate(), "an arm that refuses names no service")
	rule := compile(t, s).Table(middleware, 8080).Lookup(&View{}).Rule
	require.Zero(t, rule.Arms[0].Refuse)
	require.Equal(t, 500, rule.Arms[1].Refuse)
	require.Empty(t, rule.Arms[1].Missing)
	require.Equal(t, "web->middleware", rule.Arms[1].EdgeName)
	chosen := map[int]int{}
	for i := range uint64(1000) {
		chosen[rule.Choose(i, &View{}, "key")]++
	}
	require.InDelta(t, 500, chosen[1], 60)
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	s := chain(0)
	s.Routes[mesh.HostPort(middleware, 8080)] = &mesh.RouteTable{Host: middleware, Port: 8080, Routes: []mesh.Route{{
		Name: "copied", Split: []mesh.Destination{{Host: middleware, Subset: "stable", Port: 8080, Weight: 1}},
		Request: mesh.HeaderChange{Set: map[string]string{"x": "1"}},
		Mirrors: []mesh.Mirror{{Host: middleware, Subset: "canary", Port: 8080, Share: 0.25}, {Host: backend, Port: 80, Share: 1}, {Host: "gone.test", Port: 80, Share: 0}},
	}}}
	rule := compile(t, s).Table(middleware, 8080).Lookup(&View{}).Rule
	require.Len(t, rule.Mirrors, 3)
	canary := rule.Mirrors[0]
	require.Equal(t, "middleware:8080/copied/mirror/0", canary.ID)
	require.Equal(t, mesh.Labels{"version": "v2"}, canary.Arm.Labels)
	require.Equal(t, "middleware.default.svc.cluster.local:8080", canary.Arm.Endpoints)
	require.Empty(t, canary.Arm.Request, "the copy is of the request as the arm gets it")
	require.Equal(t, "web->backend.prod", rule.Mirrors[1].Arm.EdgeName)
	require.Equal(t, "no such service: gone.test", rule.Mirrors[2].Arm.Missing)
	copies := [3]int{}
	more := canary
	more.Share = 0.5
	for i := range uint64(1000) {
		for j := range rule.Mirrors {
			if rule.Mirrors[j].Copies(i, "key") {
				copies[j]++
			}
		}
		if canary.Copies(i, "key") {
			require.True(t, more.Copies(i, "key"), "a share that grows takes no copy away")
		}
	}
	require.InDelta(t, 250, copies[0], 50)
	require.Equal(t, 1000, copies[1])
	require.Zero(t, copies[2])
	require.Equal(t, []error{
		wrapped("routes middleware.default.svc.cluster.local:8080: route 0 (copied): mirror: no such service: gone.test"),
	}, plain(s.Validate()))
}

type wrapped string

func (w wrapped) Error() string { return string(w) }

func plain(errs []error) (all []error) {
	for _, err := range errs {
		all = append(all, wrapped(err.Error()))
	}
	return all
}
