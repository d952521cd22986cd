package istio_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/istio"
	"meshtest.dev/meshtest/proxy/route"
)

// gatewayText is a Gateway of the default namespace that serves hosts on port 80.
func gatewayText(name, hosts string) string {
	return "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " + name + "}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n" +
		"  - port: {number: 80, name: http, protocol: HTTP}\n    hosts: " + hosts + "\n---\n"
}

// bound is a VirtualService for hosts and gateways with one route for each line of http, NAME: MATCH; an empty match takes everything.
func bound(name, hosts, gateways string, http ...string) string {
	text := "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + "}\nspec:\n  hosts: " + hosts + "\n  gateways: " + gateways + "\n  http:\n"
	for _, line := range http {
		route, match, _ := strings.Cut(line, ": ")
		text += "  - name: " + route + "\n"
		if match != "" {
			text += "    match: " + match + "\n"
		}
		text += "    route: [{destination: {host: reviews}}]\n"
	}
	return text + "---\n"
}

// asked is the rule of a gateway's port 80 that a request for authority and path takes, by the router that carries the traffic; empty when there is none.
func asked(t *testing.T, rules istio.Rules, gateway, authority, path string) string {
	t.Helper()
	snap := &mesh.Snapshot{Services: rules.Services, Routes: rules.Routes, Endpoints: map[string]*mesh.Endpoints{
		mesh.HostPort(reviews, 9080): {Host: reviews, Port: 9080},
	}}
	require.Empty(t, snap.Validate())
	r, err := route.Compile(snap, mesh.Workload{Name: "edge", Namespace: "default", Labels: mesh.Labels{"app": "edge"}})
	require.NoError(t, err)
	table := r.Table(istio.GatewayHost(gateway, "default"), 80)
	require.NotNil(t, table)
	hit := table.Lookup(&route.View{Method: "GET", URLPath: path, Authority: authority})
	if hit.Rule == nil {
		return ""
	}
	return hit.Rule.Name
}

func TestGatewayHost(t *testing.T) {
	t.Parallel()
	name, namespace, ok := istio.GatewayName(istio.GatewayHost("front", "shop"))
	require.True(t, ok)
	require.Equal(t, []string{"front", "shop"}, []string{name, namespace})
	_, _, ok = istio.GatewayName(reviews)
	require.False(t, ok)
}

func TestAGatewayIsAServiceWithATableForEachPort(t *testing.T) {
	t.Parallel()
	rules := compile(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [a.example.com]
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [b.example.com]
  - name: second
    port: {number: 8080, name: http-alt, protocol: http}
    hosts: ["*"]
---
`+bound("x", "['*']", "[front]", "all: "))
	host := istio.GatewayHost("front", "default")
	require.Equal(t, &mesh.Service{Host: host, Ports: []mesh.Port{{Name: "http", Number: 80, Protocol: mesh.HTTP}, {Name: "http-alt", Number: 8080, Protocol: mesh.HTTP}}}, rules.Services[host])
	require.Len(t, rules.Routes, 2, "and none for reviews: the document is not for sidecars")
	require.Equal(t, &mesh.RouteTable{Host: host, Port: 80, Routes: []mesh.Route{{
		Name: "all", Origin: "VirtualService default/x", Retry: mesh.DefaultRetry(), Split: []mesh.Destination{{Host: reviews, Port: 9080, Weight: 100}},
		Matches: []mesh.Match{{Hosts: []string{"a.example.com", "b.example.com"}}},
	}}}, rules.Routes[mesh.HostPort(host, 80)])
	require.Empty(t, rules.Routes[mesh.HostPort(host, 8080)].Routes[0].Matches, "every host: nothing to test")
}

func TestAGatewayWithoutRulesServesNothing(t *testing.T) {
	t.Parallel()
	rules := compile(t, gatewayText("front", "['*']"))
	require.Empty(t, asked(t, rules, "front", "a", "/"))
}

func TestGatewayHosts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		serves, hosts string
		takes         []string
		leaves        []string
	}{
		"a name, any case, any port": {"['*']", "[books.example.com]", []string{"books.example.com", "Books.Example.COM", "books.example.com:30080"}, []string{"books.example.com.evil", "xbooks.example.com", "booksxexample.com", "", "books.example.com:x"}},
		"everything":                 {"['*']", "['*']", []string{"a", "", "a:80", "[::1]:80"}, nil},
		"a suffix":                   {"['*']", "['*.example.com']", []string{"a.example.com", "a.b.example.com:80"}, []string{"example.com", ".example.com", "example.com:80"}},
		"narrowed by the gateway":    {"['*.example.com']", "['*']", []string{"a.example.com"}, []string{"a.example.org"}},
		"a name that it serves":      {"['*.example.com', other.org]", "[a.example.com, other.org]", []string{"a.example.com", "other.org"}, []string{"b.example.com"}},
		"its own namespace":          {"[./a.example.com, '*/b.example.com', default/c.example.com]", "['*.example.com']", []string{"a.example.com", "b.example.com", "c.example.com"}, []string{"d.example.com"}},
		"another's namespace":        {"[shop/a.example.com, b.example.com]", "['*.example.com']", []string{"b.example.com"}, []string{"a.example.com"}},
		"a service":                  {"['*']", "[reviews]", []string{reviews}, []string{"ratings.default.svc.cluster.local"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := compile(t, gatewayText("front", tc.serves)+bound("x", tc.hosts, "[front]", "all: "))
			for _, authority := range tc.takes {
				require.Contains(t, asked(t, rules, "front", authority, "/"), "all", authority)
			}
			for _, authority := range tc.leaves {
				require.Empty(t, asked(t, rules, "front", authority, "/"), authority)
			}
		})
	}
}

func TestTheMostSpecificHostDecides(t *testing.T) {
	t.Parallel()
	rules := compile(t, gatewayText("front", "['*']")+
		bound("any", "['*']", "[front]", "any: ")+
		bound("wide", "['*.example.com']", "[front]", "wide: [{uri: {prefix: /}}]")+
		bound("wider", "['*.com']", "[front]", "wider: [{uri: {prefix: /only}}]")+
		bound("exact", "[a.example.com]", "[front]", "exact: [{uri: {prefix: /books}}]"))
	for _, tc := range []struct{ authority, path, want string }{
		{"a.example.com", "/books", "exact"},
		{"a.example.com", "/other", "not-found"}, // not the wildcard's: the host has rules of its own
		{"b.example.com", "/books", "wide"},
		{"b.com", "/only", "wider"},
		{"b.com", "/", "not-found@*.com"},
		{"b.org", "/", "any"},
	} {
		require.Equal(t, tc.want, asked(t, rules, "front", tc.authority, tc.path), tc)
	}
	for _, r := range rules.Routes[mesh.HostPort(istio.GatewayHost("front", "default"), 80)].Routes {
		require.True(t, !strings.HasPrefix(r.Name, "not-found") || r.Direct.Status == 404 && r.Origin == "Gateway default/front")
	}
}

func TestDocumentsAboutOneHostAreMerged(t *testing.T) {
	t.Parallel()
	rules := compile(t, gatewayText("front", "['*']")+
		bound("first", "['*']", "[front]", "books: [{uri: {prefix: /books}}]", "rest: ", "dead: [{uri: {prefix: /dead}}]")+
		bound("second", "['*']", "[front]", "carts: [{uri: {prefix: /carts}}]", "books: [{uri: {prefix: /b}}]", "rest: "))
	for path, want := range map[string]string{"/books": "books", "/b": "books@*", "/carts": "carts", "/x": "rest", "/dead": "rest"} {
		require.Equal(t, want, asked(t, rules, "front", "a", path), path)
	}
	require.Len(t, rules.Routes[mesh.HostPort(istio.GatewayHost("front", "default"), 80)].Routes, 4, "no rule that is never reached")
}

func TestForSidecarsAndGateways(t *testing.T) {
	t.Parallel()
	rules := compile(t, gatewayText("front", "['*']")+gatewayText("back", "['*']")+
		bound("x", "[reviews]", "[front, default/back, mesh]", "inside: [{gateways: [mesh]}]", "fronts: [{gateways: [front], uri: {prefix: /f}}, {gateways: [default/back], uri: {prefix: /b}}]", "all: "))
	names := func(host string, port int) (out []string) {
		for _, r := range rules.Routes[mesh.HostPort(host, port)].Routes {
			out = append(out, fmt.Sprintf("%s/%d", r.Name, len(r.Matches)))
		}
		return out
	}
	require.Equal(t, []string{"inside/1", "all/0"}, names(reviews, 9080))
	require.Equal(t, "fronts", asked(t, rules, "front", reviews, "/f"))
	require.Equal(t, "all", asked(t, rules, "front", reviews, "/b"))
	require.Equal(t, "fronts", asked(t, rules, "back", reviews, "/b"))
}

func TestAnAuthorityOfAMatchChoosesAmongTheHosts(t *testing.T) {
	t.Parallel()
	rules := compile(t, gatewayText("front", "['*']")+bound("x", "[a.example.com, b.example.com]", "[front]", "a: [{authority: {exact: a.example.com}}]", "b: [{authority: {exact: 'b.example.com:80'}}]"))
	require.Equal(t, "a", asked(t, rules, "front", "a.example.com", "/"))
	require.Equal(t, "b", asked(t, rules, "front", "b.example.com:80", "/"))
	require.Empty(t, asked(t, rules, "front", "b.example.com", "/"))
	rules = compile(t, gatewayText("front", "['*']")+bound("x", "[a.example.com]", "[front]", "a: [{authority: {prefix: A.}}]"))
	require.Equal(t, "a", asked(t, rules, "front", "A.example.com", "/"), "a test of the document's own is one more condition")
	require.Empty(t, asked(t, rules, "front", "a.example.com", "/"))
}

func TestARewriteAtAGateway(t *testing.T) {
	t.Parallel()
	rules := compile(t, gatewayText("front", "['*']")+strings.Replace(bound("x", "[a.example.com]", "[front]", "a: "), "    route:", "    rewrite: {uri: /v1}\n    route:", 1))
	match := rules.Routes[mesh.HostPort(istio.GatewayHost("front", "default"), 80)].Routes[0].Matches
	require.Len(t, match, 1)
	require.Equal(t, "/", *match[0].Path.Prefix)
	require.Equal(t, []string{"a.example.com"}, match[0].Hosts)
}

func TestGatewayProblems(t *testing.T) {
	t.Parallel()
	spec := func(text string) string {
		return "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: front}\nspec: {" + text + "}\n"
	}
	port := "port: {number: 80, protocol: HTTP}"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"no server":           {spec(""), []string{`4:7: MT1307 spec: at least one server is needed`}},
		"egress":              {spec("selector: {istio: egressgateway}, servers: [{" + port + ", hosts: ['*']}]"), []string{`4:26: MT1303 spec.selector.istio: an egress gateway is not honoured yet`}},
		"TLS":                 {spec("servers: [{port: {number: 443, protocol: HTTPS}, tls: {mode: SIMPLE}, hosts: ['*']}]"), []string{"4:62: MT1307 spec.servers[0].tls: the field \"serverCertificate\" is missing", "4:62: MT1307 spec.servers[0].tls: the field \"privateKey\" is missing"}},
		"bind":                {spec("servers: [{bind: 127.0.0.1, defaultEndpoint: 'x', " + port + ", hosts: ['*']}]"), []string{`4:19: MT1303 spec.servers[0].bind: bind is not honoured yet`, `4:36: MT1303 spec.servers[0].defaultEndpoint: defaultEndpoint is not honoured yet`}},
		"target port":         {spec("servers: [{port: {number: 80, protocol: HTTP, targetPort: 81}, hosts: ['*']}]"), []string{`4:54: MT1303 spec.servers[0].port.targetPort: targetPort is not honoured yet`}},
		"no port":             {spec("servers: [{hosts: ['*']}]"), []string{`4:18: MT1307 spec.servers[0].port.number: 0 is not a port`}},
		"no protocol":         {spec("servers: [{port: {number: 80}, hosts: ['*']}]"), []string{`4:25: MT1307 spec.servers[0].port: the field "protocol" is missing`}},
		"a large port":        {spec("servers: [{port: {number: 65536, protocol: HTTP}, hosts: ['*']}]"), []string{`4:34: MT1307 spec.servers[0].port.number: 65536 is not a port`}},
		"no hosts":            {spec("servers: [{" + port + "}]"), []string{`4:18: MT1307 spec.servers[0]: at least one host is needed`}},
		"a bad host":          {spec("servers: [{" + port + ", hosts: [a/b/c, 'x.*.com', a b]}]"), []string{`4:63: MT1307 spec.servers[0].hosts[0]: "b/c" is not a host`, `4:70: MT1307 spec.servers[0].hosts[1]: "x.*.com" is not a host`, `4:81: MT1307 spec.servers[0].hosts[2]: "a b" is not a host`}},
		"unknown":             {spec("servers: [{" + port + ", hosts: ['*'], host: x}]"), []string{`4:69: MT1302 spec.servers[0].host: unknown field "host"`}},
		"twice":               {gatewayText("front", "['*']") + spec("servers: [{"+port+", hosts: ['*']}]"), []string{`13:17: MT1306 spec.servers: there is another Gateway default/front (rules.yaml)`}},
		"a host not served":   {gatewayText("front", "[a.com]") + bound("x", "[b.com]", "[front]", "a: "), []string{`14:11: MT1305 spec.hosts[0]: the gateway default/front does not serve b.com`}},
		"not a host":          {gatewayText("front", "[a.com]") + bound("x", "['a.*']", "[front]", "a: "), []string{`14:11: MT1307 spec.hosts[0]: "a.*" is not a host`}},
		"unknown gateway":     {gatewayText("front", "['*']") + bound("x", "[b.com]", "[frnt]", "a: "), []string{`15:14: MT1305 spec.gateways[0]: no such gateway: default/frnt`}},
		"another namespace's": {gatewayText("front", "['*']") + bound("x", "[b.com]", "[shop/front]", "a: "), []string{`15:14: MT1305 spec.gateways[0]: no such gateway: shop/front`}},
		"a gateway of others": {gatewayText("front", "['*']") + bound("x", "[b.com]", "[front]", "a: [{gateways: [mesh]}]"), []string{`18:25: MT1307 spec.http[0].match[0].gateways[0]: mesh is not among the gateways of the document`, `17:3: MT1307 spec.http: none of the routes is for the gateway default/front`}},
		"nothing for one":     {gatewayText("front", "['*']") + bound("x", "[reviews]", "[front, mesh]", "a: [{gateways: [front]}]"), []string{`17:3: MT1307 spec.http: none of the routes is for the gateway mesh`}},
		"as a destination":    {gatewayText("front", "['*']") + strings.Replace(bound("x", "['*']", "[front]", "a: "), "host: reviews", "host: front.default.gateway", 1), []string{`18:34: MT1305 spec.http[0].route[0].destination.host: no such service: front.default.gateway`}},
		"a wildcard inside":   {gatewayText("front", "['*']") + bound("x", "['*']", "[front, mesh]", "a: "), []string{`14:11: MT1303 spec.hosts[0]: a wildcard host is not honoured yet`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := istio.Compile(documents(t, tc.text), known(), mesh.DefaultNamespace)
			var got []string
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%d:%d: %s %s: %s", p.Line, p.Col, p.Code, p.Path, p.Message))
			}
			require.Equal(t, tc.want, got)
		})
	}
}
