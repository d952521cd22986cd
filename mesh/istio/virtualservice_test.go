package istio_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/istio"
	"meshtest.dev/meshtest/proxy/route"
)

const (
	db    = "db.default.svc.cluster.local"
	vault = "vault.default.svc.cluster.local"
)

// services are known ones, with a port of each protocol.
func services() map[string]*mesh.Service {
	all := known()
	all[vault] = &mesh.Service{Host: vault, Ports: []mesh.Port{{Number: 443, Protocol: mesh.TLS}, {Number: 50051, Protocol: mesh.GRPC}}}
	return all
}

func compileAll(t *testing.T, text string) istio.Rules {
	t.Helper()
	rules, problems := istio.Compile(documents(t, text), services(), mesh.DefaultNamespace)
	require.Empty(t, problems)
	return rules
}

// only is the lone route of reviews with the given lines beside its destination.
func only(t *testing.T, lines string) mesh.Route {
	t.Helper()
	rules := compileAll(t, virtualService("  - route: [{destination: {host: reviews}}]\n"+lines))
	require.Len(t, rules.Routes[mesh.HostPort(reviews, 9080)].Routes, 1)
	return rules.Routes[mesh.HostPort(reviews, 9080)].Routes[0]
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string][]mesh.Mirror{
		"    mirror: {host: reviews, subset: v2}\n":                                                                                     {{Host: reviews, Subset: "v2", Port: 9080, Share: 1}},
		"    mirror: {host: reviews}\n    mirrorPercentage: {value: 12.5}\n":                                                            {{Host: reviews, Port: 9080, Share: 0.125}},
		"    mirror: {host: reviews}\n    mirrorPercent: 50\n":                                                                          {{Host: reviews, Port: 9080, Share: 0.5}},
		"    mirror: {host: reviews}\n    mirrorPercentage: {value: 0}\n":                                                               nil,
		"    mirrors: [{destination: {host: reviews}, percentage: {value: 1}}, {destination: {host: ratings, port: {number: 9081}}}]\n": {{Host: reviews, Port: 9080, Share: 0.01}, {Host: ratings, Port: 9081, Share: 1}},
	} {
		require.Equal(t, want, only(t, lines).Mirrors, lines)
	}
}

func TestCORSPolicy(t *testing.T) {
	t.Parallel()
	got := only(t, `    corsPolicy:
      allowOrigins: [{exact: 'https://a.test'}, {prefix: 'http://dev.'}, {regex: 'https://.*\.a\.test'}]
      allowOrigin: ['*']
      allowMethods: [GET, PUT]
      allowHeaders: [x-a]
      exposeHeaders: [x-b, x-c]
      maxAge: 24h
      allowCredentials: true
      unmatchedPreflights: IGNORE
`).CORS
	require.Equal(t, &mesh.CORS{
		Origins: []mesh.StringMatch{{Exact: ptr("https://a.test")}, {Prefix: ptr("http://dev.")}, {Regex: ptr(`https://.*\.a\.test`)}, {Exact: ptr("*")}},
		Methods: []string{"GET", "PUT"}, Headers: []string{"x-a"}, Expose: []string{"x-b", "x-c"}, MaxAge: 24 * time.Hour, Credentials: true, AnswerAll: true,
	}, got)
	require.False(t, only(t, "    corsPolicy: {unmatchedPreflights: FORWARD}\n").CORS.AnswerAll)
	require.Nil(t, only(t, "").CORS)
}

func TestRetries(t *testing.T) {
	t.Parallel()
	on := func(words ...mesh.RetryOn) []mesh.RetryOn { return words }
	for text, want := range map[string]*mesh.Retry{
		"{attempts: 0}": nil,
		"{attempts: 2}": {Attempts: 2, On: mesh.DefaultRetry().On},
		"{attempts: 3, perTryTimeout: 2s, backoff: 100ms, retryOn: '5xx, 429,refused-stream', retryIgnorePreviousHosts: false, retryRemoteLocalities: false}": {
			Attempts: 3, PerTryTimeout: 2 * time.Second, BackoffBase: 100 * time.Millisecond, Same: true, Statuses: []int{429},
			On: on(mesh.On5xx, mesh.OnRefusedStream, mesh.OnRetriableStatus),
		},
		"{attempts: 1, retryIgnorePreviousHosts: true, retryOn: 'gateway-error,reset,reset-before-request,connect-failure,retriable-4xx,retriable-status-codes,cancelled,deadline-exceeded,internal,resource-exhausted,unavailable'}": {
			Attempts: 1, On: on(mesh.OnGatewayError, mesh.OnReset, mesh.OnResetBefore, mesh.OnConnectFailure, mesh.OnRetriable4xx, mesh.OnRetriableStatus,
				mesh.OnCancelled, mesh.OnDeadlineExceeded, mesh.OnInternal, mesh.OnResourceExhausted, mesh.OnUnavailable),
		},
	} {
		require.Equal(t, want, only(t, "    retries: "+text+"\n").Retry, text)
	}
}

func TestRewrites(t *testing.T) {
	t.Parallel()
	require.Equal(t, &mesh.Rewrite{Regex: &mesh.RegexRewrite{Find: "^/v1/(.*)$", Replace: `/\1`}, Authority: "b"}, only(t, "    rewrite: {uriRegexRewrite: {match: '^/v1/(.*)$', rewrite: '/\\1'}, authority: b}\n").Rewrite)
	r := only(t, "    match: [{uri: {regex: '/a.*'}}]\n    rewrite: {uri: /b}\n")
	require.Equal(t, &mesh.Rewrite{Path: "/b"}, r.Rewrite)
	require.NotNil(t, r.Matches[0].Path.Regex, "what an expression matches is the whole path, which is replaced")
	r = only(t, "    headers: {request: {set: {Host: b.test, x: '1'}}}\n")
	require.Equal(t, &mesh.Rewrite{Authority: "b.test"}, r.Rewrite)
	require.Equal(t, mesh.HeaderChange{Set: map[string]string{"x": "1"}}, r.Request)
	r = only(t, "    headers: {request: {set: {':authority': b.test}}}\n    rewrite: {uri: /v2}\n")
	require.Equal(t, &mesh.Rewrite{Authority: "b.test", Path: "/v2"}, r.Rewrite)
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]mesh.Redirect{
		"{}": {Code: 301},
		"{uri: /new, authority: b.test, port: 8443, scheme: https, redirectCode: 308}": {Path: "/new", Host: "b.test", Port: 8443, Scheme: "https", Code: 308},
		"{derivePort: FROM_REQUEST_PORT}":                                              {Port: 9080, Code: 301},
		"{derivePort: FROM_PROTOCOL_DEFAULT}":                                          {Port: 80, Code: 301},
		"{derivePort: FROM_PROTOCOL_DEFAULT, scheme: https}":                           {Port: 443, Scheme: "https", Code: 301},
		"{prefixRewrite: /new}":                                                        {PathPrefix: "/new", Code: 301},
	} {
		rules := compileAll(t, virtualService("  - match: [{uri: {prefix: /old}}]\n    redirect: "+text+"\n"))
		require.Equal(t, &want, rules.Routes[mesh.HostPort(reviews, 9080)].Routes[0].Redirect, text)
	}
}

func TestSchemesAreKnownWhereRoutesAreFor(t *testing.T) {
	t.Parallel()
	rules := compileAll(t, virtualService("  - match: [{scheme: {exact: https}}]\n    route: [{destination: {host: ratings, port: {number: 9081}}}]\n  - match: [{scheme: {regex: 'http|ftp'}, sourceNamespace: shop}]\n    route: [{destination: {host: reviews}}]\n"))
	routes := rules.Routes[mesh.HostPort(reviews, 9080)].Routes
	require.Len(t, routes, 1, "no request to a sidecar is https")
	require.Equal(t, []mesh.Match{{SourceNamespace: "shop"}}, routes[0].Matches)
}

const connections = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x}
spec:
  hosts: [db, vault, '*.vault.test']
  tcp:
  - match: [{port: 5432, sourceLabels: {app: web}, sourceNamespace: shop}]
    route: [{destination: {host: db}, weight: 90}, {destination: {host: ratings, port: {number: 9081}}, weight: 10}]
  - match: [{port: 1}]
    route: [{destination: {host: db}}]
  tls:
  - match: [{sniHosts: [A.vault.test, '*.b.vault.test'], port: 443}, {sniHosts: [vault]}]
    route: [{destination: {host: vault, port: {number: 443}}}]
`

func TestRoutesOfConnections(t *testing.T) {
	t.Parallel()
	all := services()
	all["*.vault.test"] = &mesh.Service{Host: "*.vault.test", External: true, Ports: []mesh.Port{{Number: 443, Protocol: mesh.TLS}}}
	rules, problems := istio.Compile(documents(t, connections), all, mesh.DefaultNamespace)
	require.Empty(t, problems)
	require.Equal(t, &mesh.RouteTable{Host: db, Port: 5432, Routes: []mesh.Route{
		{
			Name: "x-tcp-0", Origin: "VirtualService default/x", Matches: []mesh.Match{{SourceLabels: mesh.Labels{"app": "web"}, SourceNamespace: "shop"}},
			Split: []mesh.Destination{{Host: db, Port: 5432, Weight: 90}, {Host: ratings, Port: 9081, Weight: 10}},
		},
		{Name: "default", Split: []mesh.Destination{{Host: db, Port: 5432, Weight: 100}}},
	}}, rules.Routes[mesh.HostPort(db, 5432)], "what no route takes goes where it was going")
	names := mesh.Route{
		Name: "x-tls-0", Origin: "VirtualService default/x", Matches: []mesh.Match{{SNI: []string{"a.vault.test", "*.b.vault.test"}}, {SNI: []string{"vault"}}},
		Split: []mesh.Destination{{Host: vault, Port: 443, Weight: 100}},
	}
	require.Equal(t, &mesh.RouteTable{Host: vault, Port: 443, Routes: []mesh.Route{names}}, rules.Routes[mesh.HostPort(vault, 443)])
	require.Equal(t, []mesh.Route{names}, rules.Routes["*.vault.test:443"].Routes)
	require.Nil(t, rules.Routes[mesh.HostPort(vault, 50051)], "no routes for requests")

	snap := &mesh.Snapshot{Services: rules.Services, Routes: rules.Routes, Endpoints: map[string]*mesh.Endpoints{}}
	for _, s := range rules.Services {
		for _, p := range s.Ports {
			snap.Endpoints[mesh.HostPort(s.Host, p.Number)] = &mesh.Endpoints{Host: s.Host, Port: p.Number}
		}
	}
	require.Empty(t, snap.Validate())
	r, err := route.Compile(snap, mesh.Workload{Name: "web", Namespace: "shop", Labels: mesh.Labels{"app": "web"}})
	require.NoError(t, err)
	require.Equal(t, "x-tcp-0", r.Table(db, 5432).LookupTLS("").Rule.Name)
	require.Equal(t, "x-tls-0", r.TableOn([]byte("any.vault.test"), 443).LookupTLS("x.B.vault.test").Rule.Name)
	require.Nil(t, r.Table(vault, 443).LookupTLS("other").Rule)
}

func TestHTTPRoutesAreForEveryPortOfRequests(t *testing.T) {
	t.Parallel()
	rules := compileAll(t, strings.Replace(virtualService("  - route: [{destination: {host: vault, port: {number: 50051}}}]\n"), "[reviews]", "[vault]", 1))
	require.NotNil(t, rules.Routes[mesh.HostPort(vault, 50051)], "gRPC")
	require.Nil(t, rules.Routes[mesh.HostPort(vault, 443)], "not TLS that is passed on")
}

func TestProblemsOfRoutes(t *testing.T) {
	t.Parallel()
	to := "  - route: [{destination: {host: reviews}}]\n"
	l4 := func(hosts, text string) string {
		return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n  hosts: " + hosts + "\n  " + text + "\n"
	}
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"delegate":            {virtualService("  - delegate: {name: x}\n"), []string{`7:5: MT1303 spec.http[0].delegate: delegate is not honoured yet`}},
		"statPrefix":          {virtualService(to + "    match: [{statPrefix: a}]\n"), []string{`8:14: MT1303 spec.http[0].match[0].statPrefix: statPrefix is not honoured yet`}},
		"both mirrors":        {virtualService(to + "    mirror: {host: reviews}\n    mirrors: [{destination: {host: reviews}}]\n"), []string{`9:14: MT1307 spec.http[0].mirrors: mirror and mirrors cannot both be set`}},
		"unknown mirror":      {virtualService(to + "    mirror: {host: revews}\n"), []string{`8:20: MT1305 spec.http[0].mirror.host: no such service: revews.default.svc.cluster.local`}},
		"percentage":          {virtualService(to + "    mirror: {host: reviews}\n    mirrorPercentage: {value: 101}\n"), []string{`9:23: MT1307 spec.http[0].mirrorPercentage: a percentage is 0 to 100, not 101`}},
		"percentage alone":    {virtualService(to + "    mirrorPercent: 5\n"), []string{`7:5: MT1307 spec.http[0]: a percentage of mirrored requests needs a mirror`}},
		"mirror of nothing":   {virtualService("  - redirect: {}\n    mirror: {host: reviews}\n"), []string{`7:5: MT1307 spec.http[0]: rewrite, retries, timeout and mirrors need a route`}},
		"a mirror nowhere":    {virtualService(to + "    mirrors: [{}]\n"), []string{`8:15: MT1307 spec.http[0].mirrors[0]: the field "destination" is missing`}},
		"origins":             {virtualService(to + "    corsPolicy: {allowOrigins: [{regex: '('}, {}]}\n"), []string{"8:41: MT1304 spec.http[0].corsPolicy.allowOrigins[0].regex: not a regular expression: missing closing ): `(`", `8:47: MT1307 spec.http[0].corsPolicy.allowOrigins[1]: one of exact, prefix and regex is needed`}},
		"preflights":          {virtualService(to + "    corsPolicy: {unmatchedPreflights: DROP}\n"), []string{`8:39: MT1304 spec.http[0].corsPolicy.unmatchedPreflights: must be one of UNSPECIFIED, FORWARD, IGNORE, not "DROP"`}},
		"a wrapped word":      {virtualService(to + "    corsPolicy: {allowCredentials: 'yes'}\n"), []string{`8:36: MT1304 spec.http[0].corsPolicy.allowCredentials: must be true or false, not "yes"`}},
		"remote localities":   {virtualService(to + "    retries: {attempts: 1, retryRemoteLocalities: true}\n"), []string{`8:51: MT1303 spec.http[0].retries.retryRemoteLocalities: retries know no localities yet`}},
		"both rewrites":       {virtualService(to + "    rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}\n"), []string{`8:41: MT1307 spec.http[0].rewrite.uriRegexRewrite: uri and uriRegexRewrite cannot both be set`}},
		"a group too many":    {virtualService(to + "    rewrite: {uriRegexRewrite: {match: a, rewrite: '\\1'}}\n"), []string{`8:32: MT1304 spec.http[0].rewrite.uriRegexRewrite: "\\1" is not a replacement: there is no group \1`}},
		"nothing to find":     {virtualService(to + "    rewrite: {uriRegexRewrite: {rewrite: b}}\n"), []string{`8:32: MT1307 spec.http[0].rewrite.uriRegexRewrite: the field "match" is missing`}},
		"no path":             {virtualService(to + "    rewrite: {uri: a}\n"), []string{`8:20: MT1307 spec.http[0].rewrite.uri: "a" is not a path`}},
		"both redirects":      {virtualService("  - match: [{uri: {prefix: /a}}]\n    redirect: {uri: /b, prefixRewrite: /c}\n"), []string{`8:40: MT1307 spec.http[0].redirect.prefixRewrite: uri and prefixRewrite cannot both be set`}},
		"no prefix":           {virtualService("  - redirect: {prefixRewrite: /c}\n"), []string{`7:31: MT1307 spec.http[0].redirect.prefixRewrite: each match of the route must be of a prefix of the path`}},
		"redirect to no path": {virtualService("  - redirect: {uri: '%PREFIX()%/b'}\n"), []string{`7:21: MT1307 spec.http[0].redirect.uri: "%PREFIX()%/b" is not a path`}},
		"scheme":              {virtualService("  - redirect: {scheme: ftp}\n"), []string{`7:24: MT1307 spec.http[0].redirect.scheme: "ftp" is not a scheme`}},
		"two ports":           {virtualService("  - redirect: {port: 80, derivePort: FROM_REQUEST_PORT}\n"), []string{`7:26: MT1307 spec.http[0].redirect.derivePort: port and derivePort cannot both be set`}},
		"subnets":             {l4("[db]", "tcp: [{match: [{destinationSubnets: [10.0.0.0/8], sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: db}}]}]"), []string{`6:19: MT1303 spec.tcp[0].match[0].destinationSubnets: destinationSubnets is not honoured yet`, `6:53: MT1303 spec.tcp[0].match[0].sourceSubnet: sourceSubnet is not honoured yet`}},
		"tcp for requests":    {l4("[reviews]", "tcp: [{route: [{destination: {host: db}}]}]"), []string{`5:11: MT1307 spec.hosts[0]: reviews speaks http on port 9080, and the document has no such routes`}},
		"tcp to nowhere":      {l4("[db]", "tcp: [{}]"), []string{`6:9: MT1307 spec.tcp[0]: the field "route" is missing`}},
		"tls without a match": {l4("[vault]", "tls: [{route: [{destination: {host: vault, port: {number: 443}}}]}]"), []string{`6:9: MT1307 spec.tls[0]: the field "match" is missing`}},
		"no server names":     {l4("[vault]", "tls: [{match: [{}], route: [{destination: {host: vault, port: {number: 443}}}]}]"), []string{`6:18: MT1307 spec.tls[0].match[0]: the field "sniHosts" is missing`}},
		"another's name":      {l4("[vault]", "tls: [{match: [{sniHosts: [vault, b.test, 'a b']}], route: [{destination: {host: vault, port: {number: 443}}}]}]"), []string{`6:37: MT1307 spec.tls[0].match[0].sniHosts[1]: b.test is not among the hosts of the document`, `6:45: MT1307 spec.tls[0].match[0].sniHosts[2]: "a b" is not a host`}},
		"nothing at all":      {l4("[vault]", "http: []"), []string{`6:9: MT1307 spec.http: at least one http, tls or tcp route is needed`}},
		"exported to another": {l4("[reviews]", "exportTo: [shop]\n  http: [{route: [{destination: {host: reviews}}]}]"), []string{`6:14: MT1303 spec.exportTo[0]: an export to "shop" alone is not honoured yet`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := istio.Compile(documents(t, tc.text), services(), mesh.DefaultNamespace)
			var got []string
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%d:%d: %s %s: %s", p.Line, p.Col, p.Code, p.Path, p.Message))
			}
			require.Equal(t, tc.want, got)
		})
	}
}
