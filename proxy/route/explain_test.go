package route

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

func TestExplanation(t *testing.T) {
	t.Parallel()
	r := compile(t, chain(25))
	ask := Ask{Host: middleware, Port: 8080, Seed: 42, Key: "users-2"}
	v := &View{Method: "GET", URLPath: "/", Authority: "middleware:8080", Headers: []Header{{"x-dev-user", "you"}}}
	x := r.Explain(ask, v)
	require.Equal(t, `web asks for middleware.default.svc.cluster.local:8080
rule 1 "testers": does not match
  match 1: no
    no headers x-dev-user: want exactly "me", got "you"
rule 2 "primary": matches every request
primary splits over 2; request key "users-2" draws 0.790293 (seed 42, id middleware:8080/primary, edge web->middleware)
  middleware.default.svc.cluster.local:8080 subset stable, weight 75: draws in [0.000000, 0.750000)
    middleware-v1-1 at 127.0.0.1:1, healthy
> middleware.default.svc.cluster.local:8080 subset canary, weight 25: draws in [0.750000, 1.000000)
    middleware-v2-1 at 127.0.0.1:2, draining
`, x.String())

	body, err := json.Marshal(x)
	require.NoError(t, err)
	var back Explanation
	require.NoError(t, json.Unmarshal(body, &back))
	back.Rule, back.Arm = x.Rule, x.Arm
	require.Equal(t, x, back)
}

func TestExplanationsOfOtherEnds(t *testing.T) {
	t.Parallel()
	s := chain(25)
	s.Routes[mesh.HostPort(middleware, 8080)] = &mesh.RouteTable{Host: middleware, Port: 8080, Routes: []mesh.Route{
		{Name: "old", Origin: "VirtualService default/m", Matches: []mesh.Match{{Path: prefix("/old"), SourceLabels: mesh.Labels{"app": "batch"}}, {Path: exact("/old"), Port: 8080}},
			Redirect: &mesh.Redirect{Path: "/", Code: 308}},
		{Name: "direct", Matches: []mesh.Match{{Query: header("q", nil), WithoutHeaders: header("x", nil)}}, Direct: &mesh.DirectResponse{Status: 204}},
	}}
	r := compile(t, s)
	for _, c := range []struct {
		v    View
		want string
	}{
		{View{Authority: "nowhere"}, "web asks for nowhere: no such host is configured for it\n"},
		{View{Authority: "middleware", URLPath: "/old"}, `web asks for middleware, which is middleware.default.svc.cluster.local:8080
rule 1 "old" of VirtualService default/m: matches
  match 1: no
    no sourceLabels app: want exactly "batch", got "web"
    yes path: want prefix "/old", got "/old"
  match 2: yes
    yes port: want exactly 8080, got 8080
    yes path: want exactly "/old", got "/old"
old answers with a redirect, 308, to http://middleware/
`},
		{View{Authority: "middleware", URLPath: "/", RawQuery: "q"}, `web asks for middleware, which is middleware.default.svc.cluster.local:8080
rule 1 "old" of VirtualService default/m: does not match
  match 1: no
    no sourceLabels app: want exactly "batch", got "web"
    no path: want prefix "/old", got "/"
  match 2: no
    yes port: want exactly 8080, got 8080
    no path: want exactly "/old", got "/"
rule 2 "direct": matches
  match 1: yes
    yes query q: want present, got ""
    yes withoutHeaders x: want not present, got absent
direct answers by itself, 204
`},
		{View{Authority: "backend.prod"}, `web asks for backend.prod, which is backend.prod.svc.cluster.local:80
rule 1 "default": there are no rules, every request goes to all endpoints
default splits over 1
> backend.prod.svc.cluster.local:80, weight 100: draws in [0.000000, 1.000000)
    no endpoints
`},
	} {
		require.Equal(t, c.want, r.Explain(Ask{}, &c.v).String())
	}
}

// The arm that an explanation names is the one that the traffic takes.
func TestExplainedArmIsTheChosenOne(t *testing.T) {
	t.Parallel()
	r := compile(t, chain(25))
	rule := r.Table(middleware, 8080).Lookup(&View{}).Rule
	for i := range 500 {
		key := "users-" + string(rune('a'+i%26)) + "-" + string(rune('0'+i%10))
		x := r.Explain(Ask{Host: middleware, Port: 8080, Seed: uint64(i), Key: key}, &View{})
		require.Equal(t, rule.Choose(uint64(i), &View{}, key), x.Arm)
		arm := x.Arms[x.Arm]
		require.True(t, arm.Chosen)
		require.True(t, arm.From <= x.Draw.Chance && x.Draw.Chance < arm.To)
	}
}
