package gatewayapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
)

// object is a document as clients of the API server decode it.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var fromYAML any
	require.NoError(t, yaml.Unmarshal([]byte(strings.TrimPrefix(text, "---\n")), &fromYAML))
	asJSON, err := json.Marshal(fromYAML)
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, json.Unmarshal(asJSON, &out))
	return out
}

// tableOf compiles an object for the Service echo.
func tableOf(t testing.TB, object map[string]any) *mesh.RouteTable {
	t.Helper()
	text, err := json.Marshal(object)
	require.NoError(t, err)
	return table(t, compile(t, string(text)), mesh.FQDN("echo", "infra"), 80)
}

// weights are those of the arms of a route.
func weights(r mesh.Route) string {
	var out []string
	for _, d := range r.Split {
		name, _, _ := mesh.ShortName(d.Host)
		out = append(out, fmt.Sprintf("%s=%d", name, d.Weight))
	}
	return strings.Join(out, " ")
}

var split = gatewayapi.Split{Stable: "echo-v1", Canary: "echo-v2"}

const main = "{name: main, matches: [{path: {value: /a}, method: GET}, {path: {value: /b}}], timeouts: {request: 3s}, backendRefs: [{name: echo-v1, port: 80, weight: 100}, {name: echo-v2, port: 80, weight: 0}]}"

func TestARolloutByWeights(t *testing.T) {
	t.Parallel()
	before := object(t, forEcho("r", "  rules: ["+main+", {matches: [{path: {value: /other}}], backendRefs: [{name: echo-v3, port: 80, weight: 7}]}]"))
	untouched := object(t, forEcho("r", "  rules: ["+main+", {matches: [{path: {value: /other}}], backendRefs: [{name: echo-v3, port: 80, weight: 7}]}]"))
	for percent, want := range map[int]string{0: "echo-v1=100 echo-v2=0", 25: "echo-v1=75 echo-v2=25", 100: "echo-v1=0 echo-v2=100", 200: "echo-v1=0 echo-v2=100", -1: "echo-v1=100 echo-v2=0"} {
		after, err := split.WithWeights(before, percent)
		require.NoError(t, err)
		require.Equal(t, untouched, before, "the object that was given stays as it is")
		routes := tableOf(t, after).Routes
		require.Len(t, routes, 3)
		for _, r := range routes {
			if strings.HasPrefix(r.Name, "infra/r/main.") {
				require.Equal(t, want, weights(r))
			} else {
				require.Equal(t, "echo-v3=7", weights(r))
			}
		}
	}
	labels, err := split.Rules(before)
	require.NoError(t, err)
	require.Equal(t, []string{"main"}, labels)
}

func TestTheCanaryJoinsRules(t *testing.T) {
	t.Parallel()
	before := object(t, forEcho("r, namespace: infra", `
  rules:
  - {matches: [{path: {value: /a}}], backendRefs: [{name: echo-v1, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}]}]}
  - {matches: [{path: {value: /b}}], backendRefs: [{name: echo-v2, port: 80, weight: 40}, {name: echo-v1, namespace: infra, port: 80, weight: 60}]}
  - {matches: [{path: {value: /c}}], backendRefs: [{name: echo-v3, port: 80}]}
  - {matches: [{path: {value: /d}}], filters: [{type: RequestRedirect, requestRedirect: {}}]}
`))
	after, err := split.Attach(before)
	require.NoError(t, err)
	var got []string
	for _, r := range tableOf(t, after).Routes {
		got = append(got, weights(r))
	}
	require.Equal(t, []string{"echo-v1=100 echo-v2=0", "echo-v2=0 echo-v1=100", "echo-v3=1", ""}, got)
	require.Equal(t, []string{"x"}, tableOf(t, after).Routes[0].Split[1].Request.Remove, "both arms are treated alike")
	again, err := split.Attach(after)
	require.NoError(t, err)
	require.Equal(t, after, again)
	labels, err := split.Rules(after)
	require.NoError(t, err)
	require.Equal(t, []string{"0", "1"}, labels)
}

func TestARolloutByHeaders(t *testing.T) {
	t.Parallel()
	header := func(name string, m mesh.StringMatch) mesh.Match {
		return mesh.Match{Headers: map[string]mesh.HeaderTest{name: {Value: &m}}}
	}
	before := object(t, forEcho("r", "  rules: [{matches: [{path: {value: /other}}], backendRefs: [{name: echo-v3, port: 80}]}, "+main+"]"))
	with, err := split.WithHeaderRoute(before, "testers", []mesh.Match{header("x-user", mesh.StringMatch{Exact: ptr("me")}), header("x-team", mesh.StringMatch{Prefix: ptr("qa.")})})
	require.NoError(t, err)
	with, err = split.WithWeights(with, 25)
	require.NoError(t, err)
	got := tableOf(t, with)
	for _, s := range []struct {
		request
		want string
	}{
		{request{path: "/a", headers: map[string]string{"x-user": "me"}}, "echo-v2=1"},
		{request{path: "/b/c", headers: map[string]string{"x-user": "me"}}, "echo-v2=1"},
		{request{path: "/b", headers: map[string]string{"x-team": "qa.web"}}, "echo-v2=1"},
		{request{path: "/b", headers: map[string]string{"x-team": "qaXweb"}}, "echo-v1=75 echo-v2=25"},
		{request{path: "/b", headers: map[string]string{"x-user": "you"}}, "echo-v1=75 echo-v2=25"},
		{request{path: "/other", headers: map[string]string{"x-user": "me"}}, "echo-v3=1"},
	} {
		route := taken(t, got, s.request)
		require.NotNil(t, route)
		require.Equal(t, s.want, weights(*route), "%+v", s.request)
		if s.want == "echo-v2=1" {
			require.Equal(t, "3s", route.Timeout.String(), "apart from its backend it is like the rule")
		}
	}
	require.Nil(t, taken(t, got, request{method: "POST", path: "/a", headers: map[string]string{"x-user": "me"}}), "what the rule does not take, it does not take either")

	labels, err := split.Rules(with)
	require.NoError(t, err)
	require.Equal(t, []string{"main"}, labels, "weights do not touch it")
	replaced, err := split.WithHeaderRoute(with, "testers", []mesh.Match{{Headers: map[string]mesh.HeaderTest{"x-any": {Present: true}}}})
	require.NoError(t, err)
	require.Equal(t, "echo-v2=1", weights(*taken(t, tableOf(t, replaced), request{path: "/b", headers: map[string]string{"x-any": "1"}})))
	require.Equal(t, "echo-v1=75 echo-v2=25", weights(*taken(t, tableOf(t, replaced), request{path: "/b", headers: map[string]string{"x-user": "me"}})))

	another, err := split.WithHeaderRoute(replaced, "testers-too", []mesh.Match{header("x-b", mesh.StringMatch{Regex: ptr("b+")})})
	require.NoError(t, err)
	require.Len(t, tableOf(t, another).Routes, 1+2+2+2)
	only, err := split.WithHeaderRoute(another, "testers", nil)
	require.NoError(t, err)
	require.Len(t, tableOf(t, only).Routes, 1+2+2, "that of the other name stays")
	without, err := split.WithoutHeaderRoutes(only)
	require.NoError(t, err)
	back, err := split.WithWeights(without, 0)
	require.NoError(t, err)
	require.Equal(t, tableOf(t, before), tableOf(t, back))
}

// Each rule that is split gets its own, since the more specific one wins.
func TestHeaderRulesOfSeveralRules(t *testing.T) {
	t.Parallel()
	arms := "backendRefs: [{name: echo-v1, port: 7070}, {name: echo-v2, port: 7070}]"
	before := object(t, document("GRPCRoute", "r", "  parentRefs: [{group: '', kind: Service, name: echo, port: 7070}]\n  rules: [{matches: [{method: {service: a.A}}], "+arms+"}, {"+arms+"}]"))
	with, err := split.WithHeaderRoute(before, "testers", []mesh.Match{{Headers: map[string]mesh.HeaderTest{"x": {Value: &mesh.StringMatch{Exact: ptr("1")}}}}})
	require.NoError(t, err)
	text, err := json.Marshal(with)
	require.NoError(t, err)
	got := table(t, compile(t, string(text)), mesh.FQDN("echo", "infra"), 7070)
	var names []string
	for _, r := range got.Routes {
		names = append(names, r.Name)
	}
	require.Equal(t, []string{"infra/r/rollout-testers", "infra/r/1", "infra/r/rollout-testers.2", "infra/r/3"}, names)
	require.Equal(t, "echo-v2=1", weights(*taken(t, got, request{path: "/a.A/Do", headers: map[string]string{"x": "1"}})))
	require.Equal(t, "echo-v2=1", weights(*taken(t, got, request{path: "/b.B/Do", headers: map[string]string{"x": "1"}})))
	without, err := split.WithHeaderRoute(with, "testers", nil)
	require.NoError(t, err)
	require.Equal(t, before, without)
}

func TestRoutesThatCannotBeEdited(t *testing.T) {
	t.Parallel()
	headers := []mesh.Match{{Headers: map[string]mesh.HeaderTest{"x-user": {Present: true}}}}
	weigh := func(o map[string]any) error { _, err := split.WithWeights(o, 10); return err }
	attach := func(o map[string]any) error { _, err := split.Attach(o); return err }
	header := func(name string, matches []mesh.Match) func(map[string]any) error {
		return func(o map[string]any) error { _, err := split.WithHeaderRoute(o, name, matches); return err }
	}
	many := "{matches: [" + strings.Repeat("{path: {value: /a}}, ", 40) + "], backendRefs: [{name: echo-v1, port: 80}, {name: echo-v2, port: 80}]}"
	for _, c := range []struct {
		name string
		do   func(map[string]any) error
		docs string
		want string
	}{
		{"no route", weigh, gateway(plain), "not a route that has weights"},
		{"no spec", weigh, "kind: HTTPRoute", "it has no spec"},
		{"no rules", weigh, "kind: HTTPRoute\nspec: {}", "it has no rules"},
		{"malformed rules", weigh, "kind: HTTPRoute\nspec: {rules: [1]}", "a rule is not a mapping"},
		{"malformed backends", weigh, "kind: HTTPRoute\nspec: {rules: [{backendRefs: 1}]}", "is not a list"},
		{"a malformed backend", attach, "kind: HTTPRoute\nspec: {rules: [{backendRefs: [1]}]}", "is not a mapping"},
		{"no such arms", weigh, forEcho("r", "  rules: [{backendRefs: [{name: echo-v1, port: 80}]}]"), "no rule splits between exactly the services echo-v1 and echo-v2"},
		{"arms of another kind", weigh, forEcho("r", "  rules: [{backendRefs: [{name: echo-v1, port: 80}, {kind: Bucket, name: echo-v2}]}]"), "no rule splits"},
		{"arms of another namespace", weigh, forEcho("r", "  rules: [{backendRefs: [{name: echo-v1, port: 80}, {namespace: web, name: echo-v2}]}]"), "no rule splits"},
		{"nothing stable", attach, forEcho("r", "  rules: [{backendRefs: [{name: echo-v3, port: 80}]}]"), "no rule leads to the service echo-v1"},
		{"a third arm", attach, forEcho("r", "  rules: [{name: x, backendRefs: [{name: echo-v1, port: 80}, {name: echo-v3, port: 80}]}]"), "the rule x splits between more than"},
		{"a name", header("Testers!", headers), forEcho("r", "  rules: ["+main+"]"), "cannot be part of the name of a rule"},
		{"more than headers", header("t", []mesh.Match{{Method: &mesh.StringMatch{Exact: ptr("GET")}, Headers: headers[0].Headers}}), forEcho("r", "  rules: ["+main+"]"), "can only match headers"},
		{"no headers", header("t", []mesh.Match{{}}), forEcho("r", "  rules: ["+main+"]"), "can only match headers"},
		{"a header that is matched", header("t", headers), forEcho("r", "  rules: [{name: y, matches: [{headers: [{name: X-User, value: a}]}], backendRefs: [{name: echo-v1, port: 80}, {name: echo-v2, port: 80}]}]"), "the rule y matches the header x-user already"},
		{"too many matches", header("t", headers), forEcho("r", "  rules: ["+many+", "+many+"]"), "4 rules and 160 matches"},
		{"too many rules", header("t", headers), forEcho("r", "  rules: ["+main+strings.Repeat(", {}", 15)+"]"), "17 rules"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, c.do(object(t, c.docs)), c.want)
		})
	}
}
