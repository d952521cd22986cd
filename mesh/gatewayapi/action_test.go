package gatewayapi_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
)

// ruleFor compiles one rule for the Service echo at port 80.
func ruleFor(t *testing.T, rule string) mesh.Route {
	t.Helper()
	rules := compile(t, forEcho("r", "  rules: ["+rule+"]"))
	routes := table(t, rules, mesh.FQDN("echo", "infra"), 80).Routes
	require.Len(t, routes, 1)
	return routes[0]
}

func TestARuleInFull(t *testing.T) {
	t.Parallel()
	got := ruleFor(t, `{
    name: main, matches: [{path: {value: /a/}, headers: [{name: X-A, value: "1"}]}],
    filters: [
      {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: s}], add: [{name: X-Add, value: "a,b"}], remove: [X-Remove]}},
      {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: X-Answer, value: yes please}]}},
      {type: URLRewrite, urlRewrite: {hostname: other.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}},
      {type: RequestMirror, requestMirror: {backendRef: {name: echo-v3, port: 80}}},
      {type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 80}, fraction: {numerator: 25, denominator: 50}}},
      {type: CORS, cors: {allowOrigins: ["https://www.Foo.com", "https://*.bar.com", "http://*:8080", "https://a.com:443"], allowMethods: [GET, OPTIONS], allowHeaders: [x-1], exposeHeaders: ["*"], allowCredentials: true, maxAge: 3600}}],
    timeouts: {request: 10s, backendRequest: 1s500ms}, retry: {codes: [500, 503], attempts: 3, backoff: 100ms},
    backendRefs: [
      {name: echo-v1, port: 8080, weight: 70, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Arm, value: one}]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [X-Gone]}}]},
      {group: '', kind: Service, name: echo-v2, namespace: web, port: 80, weight: 30}, {name: echo-v3, port: 80, weight: 0}]}`)
	require.Equal(t, mesh.Route{
		Name: "infra/r/main", Origin: "HTTPRoute infra/r",
		Matches: []mesh.Match{{Path: &mesh.StringMatch{PathPrefix: ptr("/a")}, Headers: map[string]mesh.HeaderTest{"x-a": {Value: &mesh.StringMatch{Exact: ptr("1")}}}}},
		Split: []mesh.Destination{
			{Host: mesh.FQDN("echo-v1", "infra"), Port: 8080, Weight: 70, Request: mesh.HeaderChange{Set: map[string]string{"X-Arm": "one"}}, Response: mesh.HeaderChange{Remove: []string{"X-Gone"}}},
			{Host: mesh.FQDN("echo-v2", "web"), Port: 80, Weight: 30}, {Host: mesh.FQDN("echo-v3", "infra"), Port: 80}},
		Mirrors: []mesh.Mirror{{Host: mesh.FQDN("echo-v3", "infra"), Port: 80, Share: 1}, {Host: mesh.FQDN("echo-v2", "infra"), Port: 80, Share: 0.5}},
		CORS: &mesh.CORS{
			AnswerAll: true,
			Origins:   []mesh.StringMatch{{Exact: ptr("https://www.foo.com")}, {Regex: ptr(`https://[^/:]+\.bar\.com`)}, {Regex: ptr("http://[^/:]+:8080")}, {Exact: ptr("https://a.com")}},
			Methods:   []string{"GET", "OPTIONS"}, Headers: []string{"x-1"}, Expose: []string{"*"}, Credentials: true, MaxAge: time.Hour,
		},
		Rewrite:  &mesh.Rewrite{Path: "/b", Authority: "other.example"},
		Request:  mesh.HeaderChange{Set: map[string]string{"X-Set": "s"}, Add: map[string]string{"X-Add": "a,b"}, Remove: []string{"X-Remove"}},
		Response: mesh.HeaderChange{Add: map[string]string{"X-Answer": "yes please"}},
		Timeout:  10 * time.Second,
		Retry: &mesh.Retry{Attempts: 3, PerTryTimeout: 1500 * time.Millisecond, BackoffBase: 100 * time.Millisecond, BackoffMin: 100 * time.Millisecond, Statuses: []int{500, 503},
			On: []mesh.RetryOn{mesh.OnConnectFailure, mesh.OnReset, mesh.OnRetriableStatus}},
	}, got)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	got := ruleFor(t, "{backendRefs: [{name: echo-v1, port: 80}, {name: echo-v2, port: 80}]}")
	require.Equal(t, "infra/r/0", got.Name)
	require.Empty(t, got.Matches, "every request")
	require.Equal(t, []uint32{1, 1}, []uint32{got.Split[0].Weight, got.Split[1].Weight})
	require.Equal(t, mesh.DefaultRetry(), got.Retry)
	require.Zero(t, got.Timeout)
	got = ruleFor(t, "{timeouts: {request: 0s, backendRequest: 0s}, backendRefs: [{name: echo, port: 80}]}")
	require.Equal(t, mesh.DefaultRetry(), got.Retry, "0s switches a timeout off")
	require.Zero(t, got.Timeout)
	got = ruleFor(t, "{filters: [{type: CORS, cors: {allowOrigins: ['*']}}, {type: RequestMirror, requestMirror: {percent: 0, backendRef: {name: echo, port: 80}}}], backendRefs: [{name: echo, port: 80}]}")
	require.Equal(t, &mesh.CORS{Origins: []mesh.StringMatch{{Prefix: ptr("")}}, MaxAge: 5 * time.Second, AnswerAll: true}, got.CORS)
	require.Zero(t, got.Mirrors[0].Share)
}

// The table of the specification of replacePrefixMatch.
func TestReplacedPrefixes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, prefix, replacement, want string }{
		{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz/", "/xyz/bar"},
		{"/foo", "/foo", "/xyz", "/xyz"},
		{"/foo/", "/foo", "/xyz", "/xyz/"},
		{"/foo/bar", "/foo", "", "/bar"},
		{"/foo/", "/foo", "", "/"},
		{"/foo", "/foo", "", "/"},
		{"/foo/", "/foo", "/", "/"},
		{"/foo", "/foo", "/", "/"},
		{"/foo", "/", "/xyz", "/xyz/foo"},
	} {
		for _, rule := range []string{
			"filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: '" + c.replacement + "'}}}], backendRefs: [{name: echo, port: 80}]",
			"filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: '" + c.replacement + "'}}}]",
		} {
			route := ruleFor(t, "{matches: [{path: {value: "+c.prefix+"}}], "+rule+"}")
			require.True(t, request{path: c.path}.satisfies(route.Matches[0]))
			require.Equal(t, c.want, newPath(&route, c.path), "%+v %s", c, rule)
			route.Name = "r"
			hit, v := routed(t, &mesh.RouteTable{Host: "h", Port: 80, Routes: []mesh.Route{route}}, request{path: c.path, host: "h"})
			if route.Redirect != nil {
				require.Equal(t, "http://h"+c.want, string(hit.AppendLocation(nil, "http", v)), "%+v %s", c, rule)
			} else {
				require.Equal(t, c.want, string(hit.AppendPath(nil, v.Path())), "%+v %s", c, rule)
			}
		}
	}
	for _, filter := range []string{"{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}], backendRefs: [{name: echo, port: 80}",
		"{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}"} {
		route := ruleFor(t, "{matches: [{path: {value: /full}}], filters: ["+filter+"]}")
		require.Equal(t, "/one", newPath(&route, "/full/one/two"))
	}
	require.Equal(t, &mesh.Rewrite{Authority: "one.example.org"},
		ruleFor(t, "{filters: [{type: URLRewrite, urlRewrite: {hostname: one.example.org}}], backendRefs: [{name: echo, port: 80}]}").Rewrite)
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter string
		want   mesh.Redirect // at port 80; at port 8080 a port of 80 that was not asked for is that
	}{
		{"", mesh.Redirect{Port: 80, Code: 302}},
		{"hostname: example.org", mesh.Redirect{Host: "example.org", Port: 80, Code: 302}},
		{"hostname: example.org, statusCode: 301", mesh.Redirect{Host: "example.org", Port: 80, Code: 301}},
		{"statusCode: 303", mesh.Redirect{Port: 80, Code: 303}},
		{"statusCode: 307", mesh.Redirect{Port: 80, Code: 307}},
		{"statusCode: 308", mesh.Redirect{Port: 80, Code: 308}},
		{"port: 8083", mesh.Redirect{Port: 8083, Code: 302}},
		{"scheme: https", mesh.Redirect{Scheme: "https", Port: 443, Code: 302}},
		{"scheme: http, hostname: example.org", mesh.Redirect{Scheme: "http", Host: "example.org", Port: 80, Code: 302}},
		{"scheme: https, port: 8443", mesh.Redirect{Scheme: "https", Port: 8443, Code: 302}},
		{"path: {type: ReplaceFullPath, replaceFullPath: ''}", mesh.Redirect{Path: "/", Port: 80, Code: 302}},
	} {
		t.Run(c.filter, func(t *testing.T) {
			t.Parallel()
			spec := "  rules: [{filters: [{type: RequestRedirect, requestRedirect: {" + c.filter + "}}]}]"
			rules := compile(t, gateway(plain, "{name: other, port: 8080, protocol: HTTP}")+forEdge("r", spec))
			require.Equal(t, &c.want, edgeTable(t, rules, 80).Routes[0].Redirect)
			want := c.want
			if want.Port == 80 && want.Scheme == "" {
				want.Port = 8080
			}
			require.Equal(t, &want, edgeTable(t, rules, 8080).Routes[0].Redirect, "it is the listener's")
		})
	}
}

// What cannot be reached costs its share of the requests.
func TestBackendsThatCannotBeReached(t *testing.T) {
	t.Parallel()
	const good = "{name: echo-v1, port: 80, weight: 3}"
	for _, c := range []struct {
		name, kind, backends string
		direct               int      // the status of the rule, or
		refuse               []int    // of each arm
		weights              []uint32 // of each arm
		problem              string   // the path below backendRefs
		reason               string
	}{
		{"no such Service", "HTTPRoute", "{name: nobody, port: 80}", 500, nil, nil, "[0].name", "BackendNotFound"},
		{"no such port", "HTTPRoute", "{name: echo, port: 81}", 500, nil, nil, "[0].port", "BackendNotFound"},
		{"no port", "HTTPRoute", "{name: echo}", 500, nil, nil, "[0]", "BackendNotFound"},
		{"another kind", "HTTPRoute", "{group: example.com, kind: Bucket, name: echo, port: 80}", 500, nil, nil, "[0]", "InvalidKind"},
		{"a share", "HTTPRoute", good + ", {name: nobody, port: 80, weight: 1}", 0, []int{0, 500}, []uint32{3, 1}, "[1].name", "BackendNotFound"},
		{"without weight", "HTTPRoute", good + ", {name: nobody, port: 80, weight: 0}", 0, []int{0, 500}, []uint32{3, 0}, "[1].name", "BackendNotFound"},
		{"all of the weight", "HTTPRoute", "{name: echo-v1, port: 80, weight: 0}, {name: nobody, port: 80}", 500, nil, nil, "[1].name", "BackendNotFound"},
		{"no weight at all", "HTTPRoute", "{name: echo-v1, port: 80, weight: 0}, {name: echo-v2, port: 80, weight: 0}", 500, nil, nil, "", "ResolvedRefs"},
		{"for gRPC", "GRPCRoute", "{name: nobody, port: 80}", 503, nil, nil, "[0].name", "BackendNotFound"},
		{"a share for gRPC", "GRPCRoute", good + ", {name: nobody, port: 80}", 0, []int{0, 503}, []uint32{3, 1}, "[1].name", "BackendNotFound"},
		{"a filter of one backend", "HTTPRoute", good + ", {name: echo-v2, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: a.com}}]}", 0, []int{0, 500}, []uint32{3, 1},
			"[1].filters[0].type", "ResolvedRefs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			docs := document(c.kind, "r", "  parentRefs: [{group: '', kind: Service, name: echo, port: 80}]\n  rules: [{backendRefs: ["+c.backends+"]}]")
			rules, problems := gatewayapi.Compile(documents(t, docs), known(), "infra")
			if c.problem == "" {
				require.Empty(t, problems)
			} else {
				require.Len(t, problems, 1)
				require.Equal(t, "spec.rules[0].backendRefs"+c.problem, problems[0].Path)
			}
			conditions := statusOf(t, rules, c.kind, "r").Parents[0].Conditions
			require.True(t, condition(t, conditions, "Accepted").True)
			require.Equal(t, c.reason, condition(t, conditions, "ResolvedRefs").Reason)
			route := table(t, rules, mesh.FQDN("echo", "infra"), 80).Routes[0]
			if c.direct != 0 {
				require.Equal(t, &mesh.DirectResponse{Status: c.direct}, route.Direct)
				require.Empty(t, route.Split)
				return
			}
			for i, d := range route.Split {
				require.Equal(t, []any{c.refuse[i], c.weights[i]}, []any{d.Refuse, d.Weight})
				require.Equal(t, d.Refuse != 0, d.Host == "", "a refused arm leads nowhere, even for who does not know that it is one")
			}
		})
	}
}

// A mirror that leads nowhere is left out, and the rule goes on without it.
func TestMirrorsThatLeadNowhere(t *testing.T) {
	t.Parallel()
	rule := "  rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, namespace: web, port: 80}}}], backendRefs: [{name: echo, port: 80}]}]"
	rules, problems := gatewayapi.Compile(documents(t, gateway(plain)+forEdge("r", rule)), known(), "infra")
	require.Len(t, problems, 1)
	require.Equal(t, "spec.rules[0].filters[0].requestMirror.backendRef.namespace", problems[0].Path)
	require.Equal(t, "RefNotPermitted", condition(t, statusOf(t, rules, "HTTPRoute", "r").Parents[0].Conditions, "ResolvedRefs").Reason)
	route := edgeTable(t, rules, 80).Routes[0]
	require.Empty(t, route.Mirrors)
	require.Len(t, route.Split, 1)
}

func TestNamesAreTheSameWhateverElseThereIs(t *testing.T) {
	t.Parallel()
	names := func(rules gatewayapi.Rules) map[string]bool {
		out := map[string]bool{}
		for _, r := range edgeTable(t, rules, 80).Routes {
			out[r.Name] = true
		}
		return out
	}
	own := forEdge("own", "  hostnames: [a.com, '*.a.com', b.com]\n  rules: [{name: x, matches: [{method: GET}, {path: {value: /p}}], backendRefs: [{name: echo, port: 80}]}, {backendRefs: [{name: echo, port: 80}]}]")
	want := map[string]bool{"infra/own/x.0": true, "infra/own/x.1": true, "infra/own/1": true,
		"infra/own/x.0@*.a.com": true, "infra/own/x.1@*.a.com": true, "infra/own/1@*.a.com": true}
	require.Equal(t, want, names(compile(t, gateway(plain)+own)))
	all := names(compile(t, gateway(plain)+forEdge("another", toV("/p", "v1"))+own))
	for name := range want {
		require.True(t, all[name], name)
	}
	two := names(compile(t, gateway(plain, "{name: second, port: 80, protocol: HTTP, hostname: '*.a.com'}")+own))
	require.True(t, two["infra/own/x.0@*.a.com"])
	require.True(t, two["infra/own/x.0@second"])
}
