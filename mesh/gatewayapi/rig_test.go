package gatewayapi_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
	router "meshtest.dev/meshtest/proxy/route"
)

func ptr[T any](v T) *T { return &v }

// known are the services of the tests: echo with its versions, in the namespaces infra, web and app.
func known() map[string]*mesh.Service {
	out := map[string]*mesh.Service{}
	for _, namespace := range []string{"infra", "web", "app"} {
		for _, name := range []string{"echo", "echo-v1", "echo-v2", "echo-v3"} {
			host := mesh.FQDN(name, namespace)
			out[host] = &mesh.Service{Host: host, Ports: []mesh.Port{
				{Name: "http", Number: 80, Protocol: mesh.HTTP}, {Name: "http-alt", Number: 8080, Protocol: mesh.HTTP},
				{Name: "tcp", Number: 9090, Protocol: mesh.TCP}, {Name: "grpc", Number: 7070, Protocol: "grpc"},
			}}
		}
	}
	return out
}

func documents(t testing.TB, text string) []gatewayapi.Document {
	t.Helper()
	var docs []gatewayapi.Document
	for dec := yaml.NewDecoder(strings.NewReader(text)); ; {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs
		}
		require.NoError(t, err)
		docs = append(docs, gatewayapi.Document{File: "rules.yaml", Node: n.Content[0]})
	}
}

// compile compiles documents of the namespace infra that are right.
func compile(t testing.TB, text string) gatewayapi.Rules {
	t.Helper()
	rules, problems := gatewayapi.Compile(documents(t, text), known(), "infra")
	require.Empty(t, problems)
	return rules
}

// document is a document of the API with its spec, which is in YAML's flow style or indented by two.
func document(kind, name, spec string) string {
	return fmt.Sprintf("---\napiVersion: gateway.networking.k8s.io/v1\nkind: %s\nmetadata: {name: %s}\nspec:\n%s\n", kind, name, strings.TrimRight(spec, " \n\t"))
}

// gateway is a Gateway named edge with the given listeners, in flow style.
func gateway(listeners ...string) string {
	return document("Gateway", "edge", "  gatewayClassName: meshtest\n  listeners: ["+strings.Join(listeners, ", ")+"]")
}

const plain = "{name: http, port: 80, protocol: HTTP}"

// forEdge is an HTTPRoute whose parent is the Gateway edge.
func forEdge(name, spec string) string {
	return document("HTTPRoute", name, "  parentRefs: [{name: edge}]\n"+spec)
}

// forEcho is an HTTPRoute whose parent is the Service echo, at port 80.
func forEcho(name, spec string) string {
	return document("HTTPRoute", name, "  parentRefs: [{group: '', kind: Service, name: echo, port: 80}]\n"+spec)
}

func edgeTable(t testing.TB, rules gatewayapi.Rules, port int) *mesh.RouteTable {
	t.Helper()
	return table(t, rules, gatewayapi.GatewayHost("edge", "infra"), port)
}

func table(t testing.TB, rules gatewayapi.Rules, host string, port int) *mesh.RouteTable {
	t.Helper()
	out := rules.Routes[mesh.HostPort(host, port)]
	require.NotNil(t, out, "the table of %s:%d", host, port)
	require.Equal(t, []any{host, port}, []any{out.Host, out.Port})
	names := map[string]bool{}
	for _, r := range out.Routes {
		require.False(t, names[r.Name], "the name %s is there twice", r.Name)
		names[r.Name] = true
	}
	return out
}

// outcome is what becomes of a request: the name of the service that it goes to, or the status with which it is answered.
func outcome(t testing.TB, table *mesh.RouteTable, r request) string {
	t.Helper()
	route := taken(t, table, r)
	switch {
	case route == nil:
		return "404"
	case route.Direct != nil:
		return fmt.Sprint(route.Direct.Status)
	case route.Redirect != nil:
		return fmt.Sprint(route.Redirect.Code)
	}
	require.Len(t, route.Split, 1)
	if route.Split[0].Refuse != 0 {
		return fmt.Sprint(route.Split[0].Refuse)
	}
	name, _, _ := mesh.ShortName(route.Split[0].Host)
	return name
}

// taken is the route that a request takes: by trying one after the other, and by the router that carries the traffic, which must agree.
func taken(t testing.TB, table *mesh.RouteTable, r request) *mesh.Route {
	t.Helper()
	want := naive(table, r)
	hit, _ := routed(t, table, r)
	if want == nil {
		require.Nil(t, hit.Rule, "%+v takes no route", r)
		return nil
	}
	require.NotNil(t, hit.Rule, "%+v takes %s", r, want.Name)
	require.Equal(t, want.Name, hit.Rule.Name, "%+v", r)
	return want
}

// routed is what the router finds for a request, and the request as it sees it.
func routed(t testing.TB, table *mesh.RouteTable, r request) (router.Hit, *router.View) {
	t.Helper()
	snap := mesh.NewSnapshot()
	snap.Routes[mesh.HostPort(table.Host, table.Port)] = table
	compiled, err := router.Compile(snap, mesh.Workload{Name: "caller", Namespace: cmp.Or(r.from, "nobodys")})
	require.NoError(t, err)
	v := &router.View{Method: cmp.Or(r.method, "GET"), Authority: r.host}
	v.URLPath, v.RawQuery, _ = strings.Cut(r.path, "?")
	for _, name := range slices.Sorted(maps.Keys(r.headers)) {
		v.Headers = append(v.Headers, router.Header{Name: name, Value: r.headers[name]})
	}
	return compiled.Table(table.Host, table.Port).Lookup(v), v
}

// step is a request and what becomes of it.
type step struct {
	request
	want string
}

func steps(t *testing.T, table *mesh.RouteTable, all []step) {
	t.Helper()
	for _, s := range all {
		require.Equal(t, s.want, outcome(t, table, s.request), "%+v", s.request)
	}
}

// condition is the condition of a type that an object has.
func condition(t testing.TB, all []gatewayapi.Condition, kind string) gatewayapi.Condition {
	t.Helper()
	for _, c := range all {
		if c.Type == kind {
			return c
		}
	}
	require.Fail(t, "there is no condition", "%s in %+v", kind, all)
	return gatewayapi.Condition{}
}

// statusOf is the status of an object of the namespace infra.
func statusOf(t testing.TB, rules gatewayapi.Rules, kind, name string) gatewayapi.Status {
	t.Helper()
	for _, s := range rules.Status {
		if s.Kind == kind && s.Name == name {
			return s
		}
	}
	require.Fail(t, "there is no status", "of %s %s", kind, name)
	return gatewayapi.Status{}
}
