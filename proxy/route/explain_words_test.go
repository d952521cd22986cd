package route

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

func tableOf(routes ...mesh.Route) *mesh.Snapshot {
	s := chain(25)
	s.Routes[mesh.HostPort(middleware, 8080)] = &mesh.RouteTable{Host: middleware, Port: 8080, Routes: routes}
	return s
}

func TestExplanationOfConditions(t *testing.T) {
	t.Parallel()
	r := compile(t, tableOf(
		mesh.Route{Name: "shop", Matches: []mesh.Match{{SourceNamespace: "shop", Path: pathPrefix("/a")}}, Direct: &mesh.DirectResponse{Status: 204}},
		mesh.Route{Name: "test", Matches: []mesh.Match{{Hosts: []string{"a.test", "*.b.test"}, Path: pathPrefix("/a")}}, Redirect: &mesh.Redirect{Scheme: "https", Code: 301}},
	))
	x := r.Explain(Ask{Host: middleware, Port: 8080, Scheme: "http"}, &View{Authority: "X.B.test:80", URLPath: "/a/b", RawQuery: "q"})
	require.Equal(t, `web asks for middleware.default.svc.cluster.local:8080
rule 1 "shop": does not match
  match 1: no
    no sourceNamespace: want exactly "shop", got "default"
    yes path: want path prefix "/a", got "/a/b"
rule 2 "test": matches
  match 1: yes
    yes path: want path prefix "/a", got "/a/b"
    yes hosts: want one of the hosts a.test, *.b.test, got "x.b.test"
test answers with a redirect, 301, to https://X.B.test/a/b?q
`, x.String())
	require.Equal(t, 301, x.Status)
}

func TestExplanationOfActions(t *testing.T) {
	t.Parallel()
	cors := &mesh.CORS{Origins: []mesh.StringMatch{*exact("https://shop.test")}, Methods: []string{"GET"}, Expose: []string{"x-a"}}
	split := []mesh.Destination{{Host: middleware, Subset: "stable", Port: 8080, Weight: 1}, {Weight: 1, Refuse: 500}}
	r := compile(t, tableOf(mesh.Route{
		Name: "all", Matches: []mesh.Match{{Path: pathPrefix("/a")}}, CORS: cors, Split: split,
		Rewrite: &mesh.Rewrite{Path: "/v2", Authority: "m.test"},
		Mirrors: []mesh.Mirror{{Host: middleware, Subset: "canary", Port: 8080, Share: 0.25}, {Host: "gone.test", Port: 80, Share: 1}},
	}))
	view := func(method, origin string) *View {
		v := &View{Method: method, URLPath: "/a/b", Headers: []Header{{"access-control-request-method", "PUT"}}}
		if origin != "" {
			v.Headers = append(v.Headers, Header{"origin", origin})
		}
		return v
	}
	const begin = `web asks for middleware.default.svc.cluster.local:8080
rule 1 "all": matches
  match 1: yes
    yes path: want path prefix "/a", got "/a/b"
`
	for name, c := range map[string]struct {
		key    string
		req    *View
		action Action
		status int
		want   string
	}{
		"sent on": {"users-1", view("GET", "https://shop.test"), ActionSplit, 0, `cors: the origin "https://shop.test" is allowed
    access-control-allow-origin: https://shop.test
    access-control-expose-headers: x-a
    vary: origin
all splits over 2; request key "users-1" draws 0.003361 (seed 42, id middleware:8080/all, edge web->middleware)
> middleware.default.svc.cluster.local:8080 subset stable, weight 1: draws in [0.000000, 0.500000)
    middleware-v1-1 at 127.0.0.1:1, healthy
  refused with 500, weight 1: draws in [0.500000, 1.000000)
the authority becomes m.test
the path becomes /v2/b
no copy goes to middleware.default.svc.cluster.local:8080 subset canary: 0.891468 is not below 0.25 (id middleware:8080/all/mirror/0)
a copy goes to gone.test:80: 0.963195 is below 1 (id middleware:8080/all/mirror/1)
    no such service: gone.test
`},
		"refused": {"users-2", view("GET", ""), ActionRefuse, 500, `all splits over 2; request key "users-2" draws 0.825558 (seed 42, id middleware:8080/all, edge web->middleware)
  middleware.default.svc.cluster.local:8080 subset stable, weight 1: draws in [0.000000, 0.500000)
    middleware-v1-1 at 127.0.0.1:1, healthy
> refused with 500, weight 1: draws in [0.500000, 1.000000)
`},
		"preflight": {"users-1", view("OPTIONS", "https://shop.test"), ActionPreflight, 200, `cors: the origin "https://shop.test" is allowed; all answers the preflight by itself, 200
    access-control-allow-origin: https://shop.test
    access-control-allow-methods: GET
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := r.Explain(Ask{Host: middleware, Port: 8080, Seed: 42, Key: c.key}, c.req)
			require.Equal(t, begin+c.want, x.String())
			require.Equal(t, c.action, x.Action)
			require.Equal(t, c.status, x.Status)
		})
	}
	x := r.Explain(Ask{Host: middleware, Port: 8080, Key: "users-2"}, view("OPTIONS", "https://evil.test"))
	require.Equal(t, &CORSSeen{Origin: "https://evil.test"}, x.CORS)
}

func TestExplanationOfConnections(t *testing.T) {
	t.Parallel()
	r := compile(t, tableOf(
		mesh.Route{Name: "paths", Matches: []mesh.Match{{Path: prefix("/")}}, Direct: &mesh.DirectResponse{Status: 204}},
		mesh.Route{Name: "db", Matches: []mesh.Match{{SNI: []string{"*.db.test"}, Port: 8080}}, Split: []mesh.Destination{{Host: middleware, Subset: "stable", Port: 8080, Weight: 1}}},
	))
	ask := Ask{Host: middleware, Port: 8080, Connection: true, SNI: "A.db.test"}
	require.Equal(t, `web asks for middleware.default.svc.cluster.local:8080
rule 1 "paths": does not match
  match 1: no
    no path: want prefix "/", got absent
rule 2 "db": matches
  match 1: yes
    yes port: want exactly 8080, got 8080
    yes sni: want host *.db.test, got "A.db.test"
db splits over 1
> middleware.default.svc.cluster.local:8080 subset stable, weight 1: draws in [0.000000, 1.000000)
    middleware-v1-1 at 127.0.0.1:1, healthy
`, r.Explain(ask, nil).String())
	ask.SNI = ""
	x := r.Explain(ask, nil)
	require.Equal(t, ActionNoRule, x.Action)
	require.Zero(t, x.Status)
	require.Contains(t, x.String(), `no sni: want host *.db.test, got absent
no rule matches: the connection is closed
`)
}
