package gatewayapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
)

// toService is an HTTPRoute for a Service, which marks the answers that it has to do with.
func toService(name, parent, mark string) string {
	return document("HTTPRoute", name, "  parentRefs: [{group: '', kind: Service, "+parent+"}]\n  rules: [{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-mark, value: "+
		mark+"}]}}], backendRefs: [{name: echo-v1, namespace: infra, port: 80}]}]")
}

// mark is what a request to a port of a Service is marked with; "none" when there are no rules for it.
func mark(t *testing.T, rules gatewayapi.Rules, host string, port int, from string) string {
	t.Helper()
	table := rules.Routes[mesh.HostPort(host, port)]
	if table == nil {
		return "none"
	}
	route := taken(t, table, request{path: "/", from: from})
	require.NotNil(t, route)
	if route.Direct != nil {
		return outcome(t, table, request{path: "/", from: from})
	}
	if route.Response.IsZero() {
		require.Equal(t, []mesh.Destination{{Host: host, Port: port, Weight: 100}}, route.Split, "as without rules")
		require.Equal(t, mesh.DefaultRetry(), route.Retry)
		return "none"
	}
	return route.Response.Set["x-mark"]
}

func TestMeshPorts(t *testing.T) {
	t.Parallel()
	rules := compile(t, toService("one", "name: echo-v1, port: 80", "v1")+toService("all", "name: echo-v2", "v2")+toService("named", "name: echo-v3, sectionName: http-alt", "v3")+
		toService("both", "name: echo, sectionName: http, port: 80", "v0"))
	for _, c := range []struct {
		name string
		port int
		want string
	}{
		{"echo-v1", 80, "v1"}, {"echo-v1", 8080, "none"},
		{"echo-v2", 80, "v2"}, {"echo-v2", 8080, "v2"}, {"echo-v2", 7070, "v2"}, {"echo-v2", 9090, "none"}, // which does not speak HTTP
		{"echo-v3", 80, "none"}, {"echo-v3", 8080, "v3"},
		{"echo", 80, "v0"}, {"echo", 8080, "none"},
	} {
		require.Equal(t, c.want, mark(t, rules, mesh.FQDN(c.name, "infra"), c.port, "web"), "%+v", c)
	}
}

// Routes of another namespace are for its callers, and take the place of the Service's own there.
func TestMeshConsumerRoute(t *testing.T) {
	t.Parallel()
	host := mesh.FQDN("echo", "infra")
	consumer := toService("consumer, namespace: web", "name: echo, namespace: infra", "web")
	producer := toService("producer", "name: echo", "own")
	for _, c := range []struct {
		name, docs    string
		web, app, own string
	}{
		{"consumer", consumer, "web", "none", "none"},
		{"producer", producer, "own", "own", "own"},
		{"both", producer + consumer, "web", "own", "own"},
		{"two consumers", consumer + toService("consumer, namespace: app", "name: echo, namespace: infra", "app"), "web", "app", "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rules := compile(t, c.docs)
			require.Equal(t, []string{c.web, c.app, c.own}, []string{mark(t, rules, host, 80, "web"), mark(t, rules, host, 80, "app"), mark(t, rules, host, 80, "infra")})
		})
	}
}

func TestWhatNoConsumerRouteTakesIsNotFound(t *testing.T) {
	t.Parallel()
	rules := compile(t, toService("producer", "name: echo", "own")+
		document("HTTPRoute", "consumer, namespace: web", "  parentRefs: [{group: '', kind: Service, name: echo, namespace: infra}]\n"+toV("/v2", "v2")))
	steps(t, table(t, rules, mesh.FQDN("echo", "infra"), 80), []step{
		{request{path: "/v2", from: "web"}, "echo-v2"},
		{request{path: "/v3", from: "web"}, "404"},
		{request{path: "/v3", from: "app"}, "echo-v1"},
	})
}

func TestHowARouteStandsWithAService(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parent, reason string
		problems       int
	}{
		{"name: echo", "Accepted", 0},
		{"name: nobody", "NoMatchingParent", 1},
		{"name: echo, namespace: nowhere", "NoMatchingParent", 1},
		{"name: echo, port: 81", "NoMatchingParent", 1},
		{"name: echo, port: 80, sectionName: http-alt", "NoMatchingParent", 1},
		{"name: echo, port: 9090", "UnsupportedProtocol", 1},
	} {
		rules, problems := gatewayapi.Compile(documents(t, toService("r", c.parent, "x")), known(), "infra")
		require.Len(t, problems, c.problems, c.parent)
		require.Equal(t, c.reason, condition(t, statusOf(t, rules, "HTTPRoute", "r").Parents[0].Conditions, "Accepted").Reason, c.parent)
		require.Equal(t, c.problems == 0, len(rules.Routes) > 0)
	}
}
