package gatewayapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
)

// toV is one rule for a path to a version of echo.
func toV(path, version string) string {
	return "  rules: [{matches: [{path: {value: " + path + "}}], backendRefs: [{name: echo-" + version + ", port: 8080}]}]"
}

func TestHostnameIntersection(t *testing.T) {
	t.Parallel()
	rules, problems := gatewayapi.Compile(documents(t, gateway(
		"{name: one, port: 80, protocol: HTTP, hostname: very.specific.com}",
		"{name: two, port: 80, protocol: HTTP, hostname: '*.wildcard.io'}",
		"{name: three, port: 80, protocol: HTTP, hostname: '*.anotherwildcard.io'}",
	)+
		forEdge("s1", "  hostnames: [non.matching.com, '*.nonmatchingwildcard.io', very.specific.com]\n"+toV("/s1", "v1"))+
		forEdge("s2", "  hostnames: [non.matching.com, wildcard.io, foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io]\n"+toV("/s2", "v2"))+
		forEdge("s3", "  hostnames: [non.matching.com, '*.specific.com']\n"+toV("/s3", "v3"))+
		forEdge("s4", "  hostnames: ['*.anotherwildcard.io']\n"+toV("/s4", "v1"))+
		forEdge("s5", "  hostnames: [specific.but.wrong.com, wildcard.io]\n"+toV("/s5", "v2"))), known(), "infra")
	require.Len(t, problems, 1)
	require.Equal(t, "spec.parentRefs[0]", problems[0].Path)
	steps(t, edgeTable(t, rules, 80), []step{
		{request{host: "very.specific.com", path: "/s1"}, "echo-v1"},
		{request{host: "very.specific.com:1234", path: "/s1"}, "echo-v1"},
		{request{host: "non.matching.com", path: "/s1"}, "404"},
		{request{host: "foo.nonmatchingwildcard.io", path: "/s1"}, "404"},
		{request{host: "foo.wildcard.io", path: "/s1"}, "404"},
		{request{host: "foo.wildcard.io", path: "/s2"}, "echo-v2"},
		{request{host: "bar.wildcard.io", path: "/s2"}, "echo-v2"},
		{request{host: "foo.bar.wildcard.io", path: "/s2"}, "echo-v2"},
		{request{host: "wildcard.io", path: "/s2"}, "404"},
		{request{host: "very.specific.com", path: "/s2"}, "404"},
		{request{host: "very.specific.com", path: "/s3"}, "echo-v3"},
		{request{host: "foo.specific.com", path: "/s3"}, "404"},
		{request{host: "foo.anotherwildcard.io", path: "/s4"}, "echo-v1"},
		{request{host: "foo.bar.anotherwildcard.io", path: "/s4"}, "echo-v1"},
		{request{host: "anotherwildcard.io", path: "/s4"}, "404"},
		{request{host: "specific.but.wrong.com", path: "/s5"}, "404"},
		{request{host: "wildcard.io", path: "/s5"}, "404"},
	})
	require.Equal(t, gatewayapi.Condition{Type: "Accepted", Reason: "NoMatchingListenerHostname", Message: "no listener has a host of the route"},
		condition(t, statusOf(t, rules, "HTTPRoute", "s5").Parents[0].Conditions, "Accepted"))
	var attached []int
	for _, l := range statusOf(t, rules, "Gateway", "edge").Listeners {
		attached = append(attached, l.AttachedRoutes)
	}
	require.Equal(t, []int{2, 1, 1}, attached)
}

// A request is for the most specific listener alone, whatever the others would do with it.
func TestListenerIsolation(t *testing.T) {
	t.Parallel()
	listeners := []string{
		"{name: empty, port: 80, protocol: HTTP}",
		"{name: wild, port: 80, protocol: HTTP, hostname: '*.example.com'}",
		"{name: wilder, port: 80, protocol: HTTP, hostname: '*.foo.example.com'}",
		"{name: exact, port: 80, protocol: HTTP, hostname: abc.foo.example.com}",
	}
	for _, hostnames := range []string{"", "  hostnames: [bar.com, '*.example.com', '*.foo.example.com', abc.foo.example.com]\n"} {
		t.Run("hostnames "+hostnames, func(t *testing.T) {
			t.Parallel()
			docs := gateway(listeners...)
			for _, l := range []string{"empty", "wild", "wilder", "exact"} {
				docs += document("HTTPRoute", l, "  parentRefs: [{name: edge, sectionName: "+l+"}]\n"+hostnames+toV("/"+l, "v1"))
			}
			rules := compile(t, docs)
			for host, own := range map[string]string{"bar.com": "empty", "bar.example.com": "wild", "bar.foo.example.com": "wilder", "abc.foo.example.com": "exact"} {
				for _, path := range []string{"empty", "wild", "wilder", "exact"} {
					want := "404"
					if path == own {
						want = "echo-v1"
					}
					require.Equal(t, want, outcome(t, edgeTable(t, rules, 80), request{host: host, path: "/" + path}), "%s/%s", host, path)
				}
			}
		})
	}
}

func TestListenersArePortsAndSections(t *testing.T) {
	t.Parallel()
	rules := compile(t, gateway(
		"{name: one, port: 80, protocol: HTTP, hostname: foo.com}", "{name: two, port: 8080, protocol: HTTP, hostname: foo.com}",
		"{name: three, port: 8080, protocol: HTTP, hostname: bar.com}", "{name: four, port: 8090, protocol: HTTP, hostname: foo.com}",
		"{name: five, port: 8090, protocol: HTTP, hostname: bar.com}",
	)+
		document("HTTPRoute", "v1", "  parentRefs: [{name: edge, port: 80}]\n"+toV("/", "v1"))+
		document("HTTPRoute", "v2", "  parentRefs: [{name: edge, port: 8080}]\n"+toV("/", "v2"))+
		document("HTTPRoute", "v3", "  parentRefs: [{name: edge, port: 8090, sectionName: four}]\n"+toV("/", "v3")))
	for _, c := range []struct {
		port       int
		host, want string
	}{{80, "foo.com", "echo-v1"}, {80, "bar.com", "404"}, {8080, "foo.com", "echo-v2"}, {8080, "bar.com", "echo-v2"}, {8090, "foo.com", "echo-v3"}, {8090, "bar.com", "404"}} {
		require.Equal(t, c.want, outcome(t, edgeTable(t, rules, c.port), request{host: c.host, path: "/"}), "%+v", c)
	}
	svc := rules.Services[gatewayapi.GatewayHost("edge", "infra")]
	require.Equal(t, []mesh.Port{{Name: "one", Number: 80, Protocol: mesh.HTTP}, {Name: "two", Number: 8080, Protocol: mesh.HTTP}, {Name: "four", Number: 8090, Protocol: mesh.HTTP}}, svc.Ports)
	name, namespace, ok := gatewayapi.GatewayName(svc.Host)
	require.Equal(t, []any{"edge", "infra", true}, []any{name, namespace, ok})
	_, _, ok = gatewayapi.GatewayName(mesh.FQDN("edge", "infra"))
	require.False(t, ok)
}

func TestWhichRoutesAListenerTakes(t *testing.T) {
	t.Parallel()
	namespace := "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: web, labels: {team: shop, tier: front}}\n"
	for _, c := range []struct {
		allowed string
		takes   bool
	}{
		{"", false},
		{"allowedRoutes: {namespaces: {}}", false},
		{"allowedRoutes: {namespaces: {from: All}}", true},
		{"allowedRoutes: {namespaces: {from: All}, kinds: [{kind: HTTPRoute}]}", true},
		{"allowedRoutes: {namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}", false},
		{"allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: shop}}}}", true},
		{"allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: shop, tier: back}}}}", false},
		{"allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: web}}}}", true},
		{"allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [shop, toys]}, {key: x, operator: DoesNotExist}]}}}", true},
		{"allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: NotIn, values: [shop]}]}}}", false},
		{"allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: Exists}]}}}", true},
		{"allowedRoutes: {namespaces: {from: Selector, selector: {}}}", true},
	} {
		t.Run(c.allowed, func(t *testing.T) {
			t.Parallel()
			docs := gateway("{name: http, port: 80, protocol: HTTP, "+c.allowed+"}") + namespace +
				document("HTTPRoute", "r, namespace: web", "  parentRefs: [{name: edge, namespace: infra}]\n"+toV("/", "v1"))
			rules, problems := gatewayapi.Compile(documents(t, docs), known(), "infra")
			accepted := condition(t, statusOf(t, rules, "HTTPRoute", "r").Parents[0].Conditions, "Accepted")
			require.Equal(t, c.takes, accepted.True)
			if c.takes {
				require.Empty(t, problems)
				require.Equal(t, mesh.FQDN("echo-v1", "web"), edgeTable(t, rules, 80).Routes[0].Split[0].Host)
				return
			}
			require.Len(t, problems, 1)
			require.Equal(t, "NotAllowedByListeners", accepted.Reason)
			require.Empty(t, edgeTable(t, rules, 80).Routes)
		})
	}
}

func TestListenersThatDoNotListen(t *testing.T) {
	t.Parallel()
	type is struct {
		kind   string
		true   bool
		reason string
	}
	for _, c := range []struct {
		name      string
		listeners []string
		gateway   is
		first     []is // of the first listener
		kinds     []string
		ports     []int // that are served
	}{
		{"well", []string{plain}, is{"Accepted", true, "Accepted"},
			[]is{{"Accepted", true, "Accepted"}, {"Conflicted", false, "NoConflicts"}, {"ResolvedRefs", true, "ResolvedRefs"}}, []string{"HTTPRoute", "GRPCRoute"}, []int{80}},
		{"only another protocol", []string{"{name: a, port: 1111, protocol: INVALID}"}, is{"Accepted", false, "ListenersNotValid"},
			[]is{{"Accepted", false, "UnsupportedProtocol"}}, nil, nil},
		{"another protocol beside", []string{"{name: a, port: 443, protocol: HTTPS}", plain}, is{"Accepted", true, "ListenersNotValid"},
			[]is{{"Accepted", false, "UnsupportedProtocol"}}, []string{"HTTPRoute", "GRPCRoute"}, []int{80}},
		{"another kind", []string{"{name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}]}}"}, is{"Accepted", true, "Accepted"},
			[]is{{"ResolvedRefs", false, "InvalidRouteKinds"}}, nil, []int{80}},
		{"another kind beside", []string{"{name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}, {kind: HTTPRoute}]}}"}, is{"Accepted", true, "Accepted"},
			[]is{{"ResolvedRefs", false, "InvalidRouteKinds"}}, []string{"HTTPRoute"}, []int{80}},
		{"the same hosts", []string{"{name: a, port: 80, protocol: HTTP, hostname: a.com}", "{name: b, port: 80, protocol: HTTP, hostname: a.com}"}, is{"Accepted", false, "ListenersNotValid"},
			[]is{{"Conflicted", true, "HostnameConflict"}}, []string{"HTTPRoute", "GRPCRoute"}, nil},
		{"two protocols", []string{"{name: a, port: 80, protocol: HTTP}", "{name: b, port: 80, protocol: TCP}"}, is{"Accepted", false, "ListenersNotValid"},
			[]is{{"Conflicted", true, "ProtocolConflict"}}, []string{"HTTPRoute", "GRPCRoute"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rules, problems := gatewayapi.Compile(documents(t, gateway(c.listeners...)), known(), "infra")
			require.Equal(t, c.name == "well", len(problems) == 0)
			s := statusOf(t, rules, "Gateway", "edge")
			got := condition(t, s.Conditions, c.gateway.kind)
			require.Equal(t, c.gateway, is{got.Type, got.True, got.Reason})
			for _, want := range c.first {
				got := condition(t, s.Listeners[0].Conditions, want.kind)
				require.Equal(t, want, is{got.Type, got.True, got.Reason})
			}
			require.Equal(t, c.kinds, s.Listeners[0].SupportedKinds)
			var ports []int
			for _, p := range rules.Services[gatewayapi.GatewayHost("edge", "infra")].Ports {
				ports = append(ports, p.Number)
			}
			require.Equal(t, c.ports, ports)
			require.Len(t, rules.Routes, len(ports))
		})
	}
}

// An HTTPRoute and a GRPCRoute do not share hosts of a listener: the older one has them. At a Service the GRPCRoute does.
func TestRoutesOfTwoKinds(t *testing.T) {
	t.Parallel()
	route := func(kind, name, parent, hostnames string) string {
		return document(kind, name, "  parentRefs: ["+parent+"]\n"+hostnames+"  rules: [{backendRefs: [{name: "+map[string]string{"HTTPRoute": "echo-v1", "GRPCRoute": "echo-v2"}[kind]+", port: 80}]}]")
	}
	accepted := func(rules gatewayapi.Rules, kind, name string) string {
		c := condition(t, statusOf(t, rules, kind, name).Parents[0].Conditions, "Accepted")
		return fmt.Sprint(c.True, c.Reason)
	}
	echo := "{group: '', kind: Service, name: echo, port: 80}"
	for _, c := range []struct {
		name, docs, http, grpc, want string
	}{
		{"at a listener by name", gateway(plain) + route("HTTPRoute", "b", "{name: edge}", "") + route("GRPCRoute", "a", "{name: edge}", ""), "falseConflicted", "trueAccepted", "echo-v2"},
		{"at a listener by name, the other way", gateway(plain) + route("HTTPRoute", "a", "{name: edge}", "") + route("GRPCRoute", "b", "{name: edge}", ""), "trueAccepted", "falseConflicted", "echo-v1"},
		{"at a listener with other hosts", gateway(plain) + route("HTTPRoute", "a", "{name: edge}", "  hostnames: [a.com]\n") + route("GRPCRoute", "b", "{name: edge}", "  hostnames: ['*.b.com']\n"), "trueAccepted", "trueAccepted", "echo-v1"},
		{"at a listener with hosts that overlap", gateway(plain) + route("HTTPRoute", "a", "{name: edge}", "  hostnames: [x.b.com, a.com]\n") + route("GRPCRoute", "b", "{name: edge}", "  hostnames: ['*.b.com']\n"), "trueAccepted", "falseConflicted", "echo-v1"},
		{"at a Service", route("HTTPRoute", "a", echo, "") + route("GRPCRoute", "b", echo, ""), "falseConflicted", "trueAccepted", "echo-v2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rules, problems := gatewayapi.Compile(documents(t, c.docs), known(), "infra")
			http, grpc := "a", "b"
			if strings.Contains(c.docs, "HTTPRoute\nmetadata: {name: b}") {
				http, grpc = "b", "a"
			}
			require.Equal(t, []string{c.http, c.grpc}, []string{accepted(rules, "HTTPRoute", http), accepted(rules, "GRPCRoute", grpc)})
			require.Equal(t, strings.Contains(c.http+c.grpc, "Conflicted"), len(problems) == 1)
			for name, table := range rules.Routes {
				require.Equal(t, c.want, outcome(t, table, request{host: "a.com", path: "/"}), name)
			}
		})
	}
}

func TestReferenceGrants(t *testing.T) {
	t.Parallel()
	grant := func(namespace, from, to string) string {
		return document("ReferenceGrant", "g, namespace: "+namespace, "  from: ["+from+"]\n  to: ["+to+"]")
	}
	const routes, service = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}", "{group: '', kind: Service, name: echo-v1}"
	for _, c := range []struct {
		name, grant string
		allowed     bool
	}{
		{"none", "", false},
		{"by name", grant("web", routes, service), true},
		{"of all", grant("web", routes, "{group: '', kind: Service}"), true},
		{"one of several", grant("web", "{group: '', kind: Pod, namespace: infra}, "+routes, "{group: '', kind: Secret}, "+service), true},
		{"in another namespace", grant("infra", routes, service), false},
		{"from another group", grant("web", "{group: example.com, kind: HTTPRoute, namespace: infra}", service), false},
		{"from another kind", grant("web", "{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}", service), false},
		{"from another namespace", grant("web", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: app}", service), false},
		{"to another group", grant("web", routes, "{group: example.com, kind: Service}"), false},
		{"to another kind", grant("web", routes, "{group: '', kind: Secret}"), false},
		{"to another name", grant("web", routes, "{group: '', kind: Service, name: echo-v2}"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rule := "  rules: [{backendRefs: [{name: echo-v1, namespace: web, port: 80}]}]"
			rules, problems := gatewayapi.Compile(documents(t, gateway(plain)+c.grant+forEdge("r", rule)), known(), "infra")
			conditions := statusOf(t, rules, "HTTPRoute", "r").Parents[0].Conditions
			require.True(t, condition(t, conditions, "Accepted").True)
			if c.allowed {
				require.Empty(t, problems)
				require.True(t, condition(t, conditions, "ResolvedRefs").True)
				require.Equal(t, mesh.FQDN("echo-v1", "web"), edgeTable(t, rules, 80).Routes[0].Split[0].Host)
				return
			}
			require.Len(t, problems, 1)
			require.Equal(t, "spec.rules[0].backendRefs[0].namespace", problems[0].Path)
			require.Equal(t, "RefNotPermitted", condition(t, conditions, "ResolvedRefs").Reason)
			steps(t, edgeTable(t, rules, 80), []step{{request{path: "/"}, "500"}})

			// What is for a Service needs no grant: it adds to what callers reach anyway, and exposes nothing (GEP-1294).
			rules = compile(t, c.grant+forEcho("r", rule))
			require.Equal(t, mesh.FQDN("echo-v1", "web"), table(t, rules, mesh.FQDN("echo", "infra"), 80).Routes[0].Split[0].Host)
		})
	}
}
