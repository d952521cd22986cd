package gatewayapi_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
)

// The scenarios of this file are those of the conformance suite of the same names, written anew, and each is tried at a Gateway and at a Service.
var scenarios = []struct {
	name  string
	rules string
	steps []step
}{
	{"HTTPRouteMatching", `
  - matches: [{path: {type: PathPrefix, value: /}}, {headers: [{name: version, value: one}]}]
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches: [{path: {type: PathPrefix, value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: echo-v2, port: 8080}]
`, []step{
		{request{path: "/"}, "echo-v1"},
		{request{path: "/example"}, "echo-v1"},
		{request{path: "/", headers: map[string]string{"Version": "one"}}, "echo-v1"},
		{request{path: "/v2"}, "echo-v2"},
		{request{path: "/v2/example"}, "echo-v2"},
		{request{path: "/", headers: map[string]string{"Version": "two"}}, "echo-v2"},
		{request{path: "/v2/"}, "echo-v2"},
		{request{path: "/v2example"}, "echo-v1"},
		{request{path: "/foo/v2/example"}, "echo-v1"},
	}},
	{"HTTPRouteExactPathMatching", `
  - {matches: [{path: {type: Exact, value: /one}}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{path: {type: Exact, value: /two}}], backendRefs: [{name: echo-v2, port: 8080}]}
`, []step{
		{request{path: "/one"}, "echo-v1"},
		{request{path: "/two"}, "echo-v2"},
		{request{path: "/"}, "404"},
		{request{path: "/one/example"}, "404"},
		{request{path: "/two/"}, "404"},
		{request{path: "/Two"}, "404"},
	}},
	{"HTTPRoutePathMatchOrder", `
  - {matches: [{path: {type: Exact, value: /match}}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{path: {type: Exact, value: /match/exact}}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{path: {type: Exact, value: /match/exact/one}}], backendRefs: [{name: echo-v3, port: 8080}]}
  - {matches: [{path: {type: PathPrefix, value: /match/}}], backendRefs: [{name: echo-v3, port: 8080}]}
  - {matches: [{path: {type: PathPrefix, value: /match/prefix/}}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{path: {type: PathPrefix, value: /match/prefix/one}}], backendRefs: [{name: echo-v2, port: 8080}]}
`, []step{
		{request{path: "/match/exact/one"}, "echo-v3"},
		{request{path: "/match/exact"}, "echo-v2"},
		{request{path: "/match"}, "echo-v1"},
		{request{path: "/match/prefix/one/any"}, "echo-v2"},
		{request{path: "/match/prefix/any"}, "echo-v1"},
		{request{path: "/match/any"}, "echo-v3"},
	}},
	{"HTTPRouteHeaderMatching", `
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{headers: [{name: version, value: two}]}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{headers: [{name: color, value: blue}]}, {headers: [{name: color, value: green}]}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{headers: [{name: color, value: red}]}, {headers: [{name: color, value: yellow}]}], backendRefs: [{name: echo-v2, port: 8080}]}
`, []step{
		{request{path: "/", headers: map[string]string{"Version": "one"}}, "echo-v1"},
		{request{path: "/", headers: map[string]string{"Version": "two"}}, "echo-v2"},
		{request{path: "/", headers: map[string]string{"Version": "two", "Color": "orange"}}, "echo-v1"},
		{request{path: "/", headers: map[string]string{"Version": "two", "Color": "blue"}}, "echo-v2"},
		{request{path: "/", headers: map[string]string{"Color": "orange"}}, "404"},
		{request{path: "/", headers: map[string]string{"Some-Other-Header": "one"}}, "404"},
		{request{path: "/", headers: map[string]string{"Color": "blue"}}, "echo-v1"},
		{request{path: "/", headers: map[string]string{"Color": "green"}}, "echo-v1"},
		{request{path: "/", headers: map[string]string{"Color": "red"}}, "echo-v2"},
		{request{path: "/", headers: map[string]string{"Color": "yellow"}}, "echo-v2"},
		{request{path: "/", headers: map[string]string{"Color": "purple"}}, "404"},
	}},
	{"HTTPRouteQueryParamMatching", `
  - {matches: [{queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{queryParams: [{name: animal, value: dolphin}]}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}, {queryParams: [{name: ANIMAL, value: Whale}]}], backendRefs: [{name: echo-v3, port: 8080}]}
  - {matches: [{path: {value: /path1}, queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{headers: [{name: version, value: one}], queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{path: {value: /path2}, headers: [{name: version, value: two}], queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: echo-v3, port: 8080}]}
  - matches:
    - {path: {value: /path3}, queryParams: [{name: animal, value: shark}]}
    - {path: {value: /path4}, headers: [{name: version, value: three}], queryParams: [{name: animal, value: kraken}]}
    backendRefs: [{name: echo-v1, port: 8080}]
  - {matches: [{path: {value: /path5}}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{queryParams: [{name: animal, value: hydra}]}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{headers: [{name: version, value: four}]}], backendRefs: [{name: echo-v3, port: 8080}]}
`, []step{
		{request{path: "/?animal=whale"}, "echo-v1"},
		{request{path: "/?animal=dolphin"}, "echo-v2"},
		{request{path: "/?animal=dolphin&color=blue"}, "echo-v3"},
		{request{path: "/?ANIMAL=Whale"}, "echo-v3"},
		{request{path: "/?animal=whale&otherparam=irrelevant"}, "echo-v1"},
		{request{path: "/?animal=dolphin&color=yellow"}, "echo-v2"},
		{request{path: "/?color=blue"}, "404"},
		{request{path: "/?animal=dog"}, "404"},
		{request{path: "/?animal=whaledolphin"}, "404"},
		{request{path: "/"}, "404"},
		{request{path: "/path1?animal=whale"}, "echo-v1"},
		{request{path: "/?animal=whale", headers: map[string]string{"version": "one"}}, "echo-v2"},
		{request{path: "/path2?animal=whale", headers: map[string]string{"version": "two"}}, "echo-v3"},
		{request{path: "/path3?animal=shark"}, "echo-v1"},
		{request{path: "/path4?animal=kraken", headers: map[string]string{"version": "three"}}, "echo-v1"},
		{request{path: "/?animal=shark"}, "404"},
		{request{path: "/path4?animal=kraken"}, "404"},
		{request{path: "/path5?animal=hydra"}, "echo-v1"},
		{request{path: "/?animal=hydra", headers: map[string]string{"version": "four"}}, "echo-v3"},
	}},
	{"HTTPRouteMethodMatching", `
  - {matches: [{method: POST}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{method: GET}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{path: {value: /path1}, method: GET}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{headers: [{name: version, value: one}], method: PUT}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{path: {value: /path2}, headers: [{name: version, value: two}], method: POST}], backendRefs: [{name: echo-v3, port: 8080}]}
  - {matches: [{path: {value: /path3}, method: PATCH}, {path: {value: /path4}, headers: [{name: version, value: three}], method: DELETE}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{path: {value: /path5}}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{method: PATCH}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{headers: [{name: version, value: four}]}], backendRefs: [{name: echo-v3, port: 8080}]}
`, []step{
		{request{method: "POST", path: "/"}, "echo-v1"},
		{request{method: "GET", path: "/"}, "echo-v2"},
		{request{method: "HEAD", path: "/"}, "404"},
		{request{method: "GET", path: "/path1"}, "echo-v1"},
		{request{method: "PUT", path: "/", headers: map[string]string{"version": "one"}}, "echo-v2"},
		{request{method: "POST", path: "/path2", headers: map[string]string{"version": "two"}}, "echo-v3"},
		{request{method: "PATCH", path: "/path3"}, "echo-v1"},
		{request{method: "DELETE", path: "/path4", headers: map[string]string{"version": "three"}}, "echo-v1"},
		{request{method: "PUT", path: "/"}, "404"},
		{request{method: "DELETE", path: "/path4"}, "404"},
		{request{method: "PATCH", path: "/path5"}, "echo-v1"},
		{request{method: "PATCH", path: "/", headers: map[string]string{"version": "four"}}, "echo-v2"},
	}},
	{"MeshSplit", `
  - {matches: [{path: {type: Exact, value: /v1}}], backendRefs: [{name: echo-v1, port: 80}]}
  - {matches: [{path: {type: Exact, value: /v2}}], backendRefs: [{name: echo-v2, port: 80}]}
`, []step{{request{path: "/v1"}, "echo-v1"}, {request{path: "/v2"}, "echo-v2"}, {request{path: "/v3"}, "404"}}},
	{"HTTPRouteOmittedBackendRefs", `
  - {matches: [{path: {type: Exact, value: /omitted}}]}
  - {matches: [{path: {type: Exact, value: /empty}}], backendRefs: []}
  - {matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: echo-v1, port: 8080}]}
`, []step{{request{path: "/forward"}, "echo-v1"}, {request{path: "/omitted"}, "500"}, {request{path: "/empty"}, "500"}}},
	{"a regular expression comes after prefixes and before all paths", `
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{path: {type: RegularExpression, value: "/[a-z]+"}}], backendRefs: [{name: echo-v2, port: 8080}]}
  - {matches: [{path: {type: RegularExpression, value: "/[a-z]+/x.*"}}, {path: {type: RegularExpression, value: "/p.*"}}], backendRefs: [{name: echo-v3, port: 8080}]}
  - {matches: [{path: {value: /p}}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{path: {type: RegularExpression, value: "/long[a-z]+"}}], backendRefs: [{name: echo-v3, port: 8080}]}
`, []step{
		{request{path: "/longer"}, "echo-v3"},
		{request{path: "/a", headers: map[string]string{"version": "one"}}, "echo-v2"},
		{request{path: "/A", headers: map[string]string{"version": "one"}}, "echo-v1"},
		{request{path: "/p"}, "echo-v1"},
		{request{path: "/pa"}, "echo-v2"},
		{request{path: "/p1"}, "echo-v3"},
		{request{path: "/q/x1"}, "echo-v3"},
	}},
	{"of several tests of a header the first counts, and Host is the authority", `
  - {matches: [{headers: [{name: X-A, value: "1"}, {name: x-a, value: "2"}, {name: Host, value: books}]}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{headers: [{name: x-b, type: RegularExpression, value: "b+"}]}], backendRefs: [{name: echo-v2, port: 8080}]}
`, []step{
		{request{path: "/", host: "books", headers: map[string]string{"x-a": "1"}}, "echo-v1"},
		{request{path: "/", host: "books", headers: map[string]string{"x-a": "2"}}, "404"},
		{request{path: "/", host: "toys", headers: map[string]string{"x-a": "1"}}, "404"},
		{request{path: "/", headers: map[string]string{"x-b": "bbb"}}, "echo-v2"},
		{request{path: "/", headers: map[string]string{"x-b": "abbb"}}, "404"},
	}},
}

func TestTheOrderIsTheSpecifications(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			spec := "  rules:" + s.rules
			steps(t, edgeTable(t, compile(t, gateway(plain)+forEdge("r", spec)), 80), s.steps)
			steps(t, table(t, compile(t, forEcho("r", spec)), mesh.FQDN("echo", "infra"), 80), s.steps)
		})
	}
}

// The order does not depend on that of the rules, as long as no two matches have the same rank.
func TestTheOrderOfRulesDecidesOnlyTies(t *testing.T) {
	t.Parallel()
	rules := []string{
		`{matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: echo, port: 80}]}`,
		`{matches: [{path: {value: /a}, method: GET, headers: [{name: x, value: "1"}]}], backendRefs: [{name: echo-v1, port: 80}]}`,
		`{matches: [{path: {value: /a}, headers: [{name: x, value: "1"}, {name: y, value: "1"}]}], backendRefs: [{name: echo-v2, port: 80}]}`,
		`{matches: [{path: {value: /a}, headers: [{name: x, value: "1"}], queryParams: [{name: q, value: "1"}]}], backendRefs: [{name: echo-v3, port: 80}]}`,
		`{matches: [{path: {value: /a}}], backendRefs: [{name: echo, port: 8080}]}`,
	}
	var want []mesh.Route
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		routes := edgeTable(t, compile(t, gateway(plain)+forEdge("r", "  rules: ["+strings.Join(rules, ", ")+"]")), 80).Routes
		for i := range routes {
			routes[i].Name = ""
		}
		if want == nil {
			want = routes
		}
		require.Equal(t, want, routes)
	}
	require.Equal(t, "/a", *want[0].Matches[0].Path.Exact)
	require.Equal(t, "GET", *want[1].Matches[0].Method.Exact, "a method counts more than headers")
	require.Len(t, want[2].Matches[0].Headers, 2, "headers count more than query parameters")
	require.Len(t, want[3].Matches[0].Query, 1)
}

func TestMatchingAcrossRoutes(t *testing.T) {
	t.Parallel()
	rules := compile(t, gateway(plain)+forEdge("part1", `
  hostnames: [example.com, example.net]
  rules:
  - matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}]
    backendRefs: [{name: echo-v1, port: 8080}]
`)+forEdge("part2", `
  hostnames: [example.com]
  rules:
  - matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: echo-v2, port: 8080}]
`))
	steps(t, edgeTable(t, rules, 80), []step{
		{request{host: "example.com", path: "/"}, "echo-v1"},
		{request{host: "example.com", path: "/example"}, "echo-v1"},
		{request{host: "example.net", path: "/example"}, "echo-v1"},
		{request{host: "example.com", path: "/example", headers: map[string]string{"Version": "one"}}, "echo-v1"},
		{request{host: "example.com", path: "/v2"}, "echo-v2"},
		{request{host: "example.net", path: "/v2"}, "echo-v1"},
		{request{host: "example.com", path: "/v2/example"}, "echo-v2"},
		{request{host: "example.com", path: "/", headers: map[string]string{"Version": "two"}}, "echo-v2"},
		{request{host: "EXAMPLE.com:8080", path: "/v2"}, "echo-v2"},
		{request{host: "example.org", path: "/"}, "404"},
	})
}

func TestTheMoreSpecificHostComesFirst(t *testing.T) {
	t.Parallel()
	one := func(name, hostnames, path, backend string) string {
		return forEdge(name, "  hostnames: ["+hostnames+"]\n  rules: [{matches: [{path: {value: "+path+"}}], backendRefs: [{name: "+backend+", port: 80}]}]")
	}
	rules := compile(t, gateway(plain)+
		forEdge("any", "  rules: [{matches: [{path: {type: Exact, value: /x/y/z}}], backendRefs: [{name: echo, port: 80}]}]")+
		one("wide", "'*.example.com'", "/x/y", "echo-v1")+
		one("narrow", "'*.b.example.com', other.org", "/x", "echo-v2")+
		one("exact", "a.b.example.com", "/only", "echo-v3"))
	steps(t, edgeTable(t, rules, 80), []step{
		{request{host: "a.b.example.com", path: "/only"}, "echo-v3"},
		{request{host: "a.b.example.com", path: "/x/y/z"}, "echo-v2"}, // what a host's routes do not take goes to a less specific one's
		{request{host: "c.example.com", path: "/x/y/z"}, "echo-v1"},
		{request{host: "b.example.com", path: "/x"}, "404"},
		{request{host: "b.example.com", path: "/x/y"}, "echo-v1"},
		{request{host: "example.com", path: "/x/y/z"}, "echo"},
		{request{host: "other.org", path: "/x/1"}, "echo-v2"},
	})
}

func TestTheOldestRouteBreaksTies(t *testing.T) {
	t.Parallel()
	one := func(kind, namespace, name, created, backend string) string {
		text := document(kind, name+", namespace: "+namespace+created, "  parentRefs: [{name: edge, namespace: infra}]\n  rules: [{backendRefs: [{name: "+backend+", port: 80}]}]")
		return text
	}
	listener := "{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}"
	young, old := ", creationTimestamp: '2026-02-01T00:00:00Z'", ", creationTimestamp: '2026-01-31T23:59:59-02:00'"
	older := ", creationTimestamp: '2026-01-31T23:59:59Z'"
	for _, c := range []struct {
		name, docs, want string
	}{
		{"age", one("HTTPRoute", "infra", "a", young, "echo-v1") + one("HTTPRoute", "infra", "b", older, "echo-v2"), "echo-v2"},
		{"age in another zone", one("HTTPRoute", "infra", "a", old, "echo-v1") + one("HTTPRoute", "infra", "b", young, "echo-v2"), "echo-v2"},
		{"namespace", one("HTTPRoute", "web", "a", young, "echo-v1") + one("HTTPRoute", "app", "z", young, "echo-v2"), "echo-v2"},
		{"name", one("HTTPRoute", "infra", "z", "", "echo-v1") + one("HTTPRoute", "infra", "a", "", "echo-v2"), "echo-v2"},
		{"the first rule", forEdge("r", "  rules: [{backendRefs: [{name: echo-v2, port: 80}]}, {backendRefs: [{name: echo-v1, port: 80}]}]"), "echo-v2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, outcome(t, edgeTable(t, compile(t, gateway(listener)+c.docs), 80), request{path: "/"}))
		})
	}
}

func TestGRPCRouteOrder(t *testing.T) {
	t.Parallel()
	spec := `
  - {matches: [{method: {service: a.Greeter}}], backendRefs: [{name: echo-v1, port: 7070}]}
  - {matches: [{method: {service: a.Greeter, method: Hello}}], backendRefs: [{name: echo-v2, port: 7070}]}
  - {matches: [{method: {method: Hello}}], backendRefs: [{name: echo-v3, port: 7070}]}
  - {matches: [{method: {type: RegularExpression, service: "a\\.G.*", method: "H[a-z]*"}}], backendRefs: [{name: echo, port: 7070}]}
  - {matches: [{method: {service: a.Greeter, method: Hello}, headers: [{name: version, value: two}]}], backendRefs: [{name: echo-v1, port: 8080}]}
  - {matches: [{method: {service: a.Gone}}], backendRefs: [{name: nobody, port: 7070}]}
`
	docs := document("GRPCRoute", "r", "  parentRefs: [{group: '', kind: Service, name: echo, port: 7070}]\n  rules:"+spec)
	rules, problems := gatewayapi.Compile(documents(t, docs), known(), "infra")
	require.Len(t, problems, 1)
	steps(t, table(t, rules, mesh.FQDN("echo", "infra"), 7070), []step{
		{request{path: "/a.Greeter/Bye"}, "echo-v1"},
		{request{path: "/a.Greeter/Hello"}, "echo-v2"},
		{request{path: "/a.Greeter/Hello", headers: map[string]string{"Version": "two"}}, "echo-v1"},
		{request{path: "/b.Other/Hello"}, "echo-v3"},
		{request{path: "/a.Green/Hey"}, "echo"},
		{request{path: "/a.Green/Hello"}, "echo"}, // the service decides before the method
		{request{path: "/b.Other/Bye"}, "404"},
		{request{path: "/a.Greeter2/Bye"}, "404"},
		{request{path: "/a.Gone/Bye"}, "503"}, // UNAVAILABLE
	})
}
