package istio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/istio"
)

const (
	reviews = "reviews.default.svc.cluster.local"
	ratings = "ratings.default.svc.cluster.local"
)

// known are the services that the tests' documents are about. reviews comes with the subsets that a roll-out brings along.
func known() map[string]*mesh.Service {
	return map[string]*mesh.Service{
		reviews: {Host: reviews, Ports: []mesh.Port{{Number: 9080, Protocol: mesh.HTTP}}, Subsets: []mesh.Subset{
			{Name: "v1", Labels: mesh.Labels{"version": "v1"}}, {Name: "v2", Labels: mesh.Labels{"version": "v2"}}}},
		ratings:                           {Host: ratings, Ports: []mesh.Port{{Number: 9080, Protocol: mesh.HTTP}, {Number: 9081, Protocol: mesh.HTTP}}},
		"db.default.svc.cluster.local":    {Host: "db.default.svc.cluster.local", Ports: []mesh.Port{{Number: 5432, Protocol: mesh.TCP}}},
		"reviews.other.svc.cluster.local": {Host: "reviews.other.svc.cluster.local", Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}},
	}
}

func documents(t *testing.T, text string) []istio.Document {
	t.Helper()
	var docs []istio.Document
	for dec := yaml.NewDecoder(strings.NewReader(strings.TrimSuffix(text, "---\n"))); ; {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs
		}
		require.NoError(t, err)
		docs = append(docs, istio.Document{File: "rules.yaml", Node: n.Content[0]})
	}
}

// virtualService is a document about reviews with the given http routes, indented by two.
func virtualService(http string) string {
	return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec:\n  hosts: [reviews]\n  http:\n" + http
}

func compile(t *testing.T, text string) istio.Rules {
	t.Helper()
	rules, problems := istio.Compile(documents(t, text), known(), mesh.DefaultNamespace)
	require.Empty(t, problems)
	return rules
}

func ptr[T any](v T) *T { return &v }

func TestRoutesFollowTheDocument(t *testing.T) {
	t.Parallel()
	rules := compile(t, virtualService(`
  - name: testers
    match:
    - name: dev
      headers: {X-Dev-User: {exact: me}, x-any: {}}
      withoutHeaders: {x-bot: {regex: ".*"}}
      queryParams: {Debug: {exact: "1"}}
      uri: {prefix: /a}
      ignoreUriCase: true
      method: {exact: GET}
      authority: {regex: "reviews.*"}
      sourceLabels: {app: productpage}
      port: 9080
      gateways: [mesh]
    - uri: {exact: /b}
    route:
    - destination: {host: reviews, subset: v2}
      headers: {response: {set: {x-arm: canary}}}
    timeout: 1s500ms
    retries: {attempts: 3, perTryTimeout: 250ms, retryOn: "5xx, reset,503 ,unavailable", backoff: 10ms}
    rewrite: {uri: /c, authority: other}
    headers: {request: {set: {x-a: "1"}, add: {x-b: "2"}, remove: [x-c]}}
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, authority: example.com, scheme: https, port: 8443, redirectCode: 308}
  - match: [{uri: {prefix: /teapot}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - route:
    - destination: {host: reviews.default.svc.cluster.local, subset: v1, port: {number: 9080}}
      weight: 75
    - destination: {host: ratings.default}
      weight: 25
    retries: {attempts: 0}
    timeout: 0s
`))
	require.Len(t, rules.Routes, 1)
	require.Equal(t, &mesh.RouteTable{Host: reviews, Port: 9080, Routes: []mesh.Route{
		{
			Name: "testers", Origin: "VirtualService default/reviews",
			Matches: []mesh.Match{
				{
					Path: &mesh.StringMatch{Prefix: ptr("/a")}, IgnorePathCase: true, Method: &mesh.StringMatch{Exact: ptr("GET")}, Authority: &mesh.StringMatch{Regex: ptr("reviews.*")},
					Headers:        map[string]mesh.HeaderTest{"x-dev-user": {Value: &mesh.StringMatch{Exact: ptr("me")}}, "x-any": {Present: true}},
					WithoutHeaders: map[string]mesh.HeaderTest{"x-bot": {Value: &mesh.StringMatch{Regex: ptr(".*")}}},
					Query:          map[string]mesh.HeaderTest{"Debug": {Value: &mesh.StringMatch{Exact: ptr("1")}}},
					SourceLabels:   mesh.Labels{"app": "productpage"}, Port: 9080,
				},
				{Path: &mesh.StringMatch{Exact: ptr("/b")}},
			},
			Split:   []mesh.Destination{{Host: reviews, Subset: "v2", Port: 9080, Weight: 100, Response: mesh.HeaderChange{Set: map[string]string{"x-arm": "canary"}}}},
			Timeout: 1500 * time.Millisecond,
			Retry: &mesh.Retry{Attempts: 3, PerTryTimeout: 250 * time.Millisecond, BackoffBase: 10 * time.Millisecond,
				On: []mesh.RetryOn{mesh.On5xx, mesh.OnReset, mesh.OnUnavailable, mesh.OnRetriableStatus}, Statuses: []int{503}},
			Rewrite: &mesh.Rewrite{Path: "/c", Authority: "other"},
			Request: mesh.HeaderChange{Set: map[string]string{"x-a": "1"}, Add: map[string]string{"x-b": "2"}, Remove: []string{"x-c"}},
		},
		{
			Name: "reviews-1", Origin: "VirtualService default/reviews", Matches: []mesh.Match{{Path: &mesh.StringMatch{Prefix: ptr("/old")}}},
			Redirect: &mesh.Redirect{Scheme: "https", Host: "example.com", Port: 8443, Path: "/new", Code: 308},
		},
		{
			Name: "reviews-2", Origin: "VirtualService default/reviews", Matches: []mesh.Match{{Path: &mesh.StringMatch{Prefix: ptr("/teapot")}}},
			Direct: &mesh.DirectResponse{Status: 418, Body: []byte("short and stout")},
		},
		{
			Name: "reviews-3", Origin: "VirtualService default/reviews",
			Split: []mesh.Destination{{Host: reviews, Subset: "v1", Port: 9080, Weight: 75}, {Host: ratings, Port: 9080, Weight: 25}},
		},
	}}, rules.Routes[mesh.HostPort(reviews, 9080)])
}

func TestDefaultsAreIstios(t *testing.T) {
	t.Parallel()
	rules := compile(t, virtualService(`
  - route: [{destination: {host: reviews}}]
    rewrite: {uri: /x}
  - match: [{uri: {prefix: /r}}]
    redirect: {uri: /s}
`))
	routes := rules.Routes[mesh.HostPort(reviews, 9080)].Routes
	require.Equal(t, mesh.DefaultRetry(), routes[0].Retry, "retries are on unless they are switched off")
	require.Equal(t, []mesh.Match{{Path: &mesh.StringMatch{Prefix: ptr("/")}}}, routes[0].Matches, "a rewrite without a match replaces the prefix /")
	require.Equal(t, 301, routes[1].Redirect.Code)
	require.Nil(t, routes[1].Retry, "what the sidecar answers itself is not retried")
}

func TestEveryVersionOfTheAPIAndEveryPort(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v1beta1", "v1alpha3"} {
		rules := compile(t, "apiVersion: networking.istio.io/"+version+"\nkind: VirtualService\nmetadata: {name: x}\nspec: {hosts: [ratings], http: [{route: [{destination: {host: reviews}}]}]}")
		require.Len(t, rules.Routes, 2, "one table for each port")
		require.Equal(t, 9081, rules.Routes[mesh.HostPort(ratings, 9081)].Port)
	}
}

func TestHostsAreResolvedInTheDocumentsNamespace(t *testing.T) {
	t.Parallel()
	rules := compile(t, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x, namespace: other}\nspec: {hosts: [reviews], http: [{route: [{destination: {host: reviews.default}}]}]}")
	table := rules.Routes[mesh.HostPort("reviews.other.svc.cluster.local", 80)]
	require.NotNil(t, table)
	require.Equal(t, reviews, table.Routes[0].Split[0].Host)
	require.Equal(t, "VirtualService other/x", table.Routes[0].Origin)
}

func TestDestinationRule(t *testing.T) {
	t.Parallel()
	services := known()
	rules, problems := istio.Compile(documents(t, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, labels: {team: a}}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool: {tcp: {connectTimeout: 250ms}}
  subsets:
  - name: stable
    labels: {version: v1}
  - name: all
    trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}
`), services, mesh.DefaultNamespace)
	require.Empty(t, problems)
	svc := rules.Services[reviews]
	require.Equal(t, mesh.TrafficPolicy{Balancer: mesh.RoundRobin, ConnectTimeout: 250 * time.Millisecond}, svc.Traffic)
	require.Equal(t, []mesh.Subset{
		{Name: "stable", Labels: mesh.Labels{"version": "v1"}},
		{Name: "all", Traffic: &mesh.TrafficPolicy{Balancer: mesh.LeastRequest, ConnectTimeout: 250 * time.Millisecond}},
		{Name: "v2", Labels: mesh.Labels{"version": "v2"}},
	}, svc.Subsets, "the document's subsets, then those of versions that none of them selects")
	require.Equal(t, known(), services, "what was given does not change")
}

func TestSubsetsAreKnownWhateverTheOrder(t *testing.T) {
	t.Parallel()
	compile(t, virtualService("  - route: [{destination: {host: reviews, subset: stable}}]\n")+`---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: stable, labels: {version: v1}}]}
`)
}

func TestProblems(t *testing.T) {
	t.Parallel()
	route := "  - route: [{destination: {host: reviews}}]\n"
	dr := func(spec string) string {
		return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec: {host: reviews, " + spec + "}"
	}
	for name, tc := range map[string]struct {
		text string
		want []string // line:col: code path: message
	}{
		"unknown field":      {virtualService(route + "    timout: 1s\n"), []string{`8:5: MT1302 spec.http[0].timout: unknown field "timout"`}},
		"fault":              {virtualService(route + "    fault: {abort: {httpStatus: 500}}\n"), []string{`8:5: MT1303 spec.http[0].fault: fault is not honoured yet`}},
		"tcp routes":         {strings.Replace(virtualService(route), "  http:", "  tcp: [{route: [{destination: {host: db}}]}]\n  http:", 1), []string{`6:8: MT1307 spec.tcp: no port of the hosts takes tcp routes`}},
		"another gateway":    {strings.Replace(virtualService(route), "  http:", "  gateways: [mesh, front]\n  http:", 1), []string{`6:20: MT1305 spec.gateways[1]: no such gateway: default/front`}},
		"wildcard":           {strings.Replace(virtualService(route), "[reviews]", `["*"]`, 1), []string{`5:11: MT1303 spec.hosts[0]: a wildcard host is not honoured yet`}},
		"unknown host":       {strings.Replace(virtualService(route), "[reviews]", "[reviws]", 1), []string{`5:11: MT1305 spec.hosts[0]: no such service: reviws.default.svc.cluster.local`}},
		"unknown subset":     {virtualService("  - route: [{destination: {host: reviews, subset: v3}}]\n"), []string{`7:51: MT1305 spec.http[0].route[0].destination.subset: reviews has no subset "v3"`}},
		"unknown port":       {virtualService("  - route: [{destination: {host: reviews, port: {number: 1}}}]\n"), []string{`7:58: MT1305 spec.http[0].route[0].destination.port.number: reviews has no port 1`}},
		"ambiguous port":     {strings.Replace(virtualService(route), "host: reviews", "host: ratings", 1), nil}, // the port of the table is taken
		"number for text":    {dr("subsets: [{name: a, labels: {version: 1}}]"), []string{`4:61: MT1304 spec.subsets[0].labels.version: must be text, not "1"`}},
		"text for number":    {virtualService("  - route: [{destination: {host: reviews}, weight: heavy}]\n"), []string{`7:52: MT1304 spec.http[0].route[0].weight: must be a whole number, not "heavy"`}},
		"bare duration":      {virtualService(route + "    timeout: 5\n"), []string{`8:14: MT1304 spec.http[0].timeout: must be a duration such as 250ms, not "5"`}},
		"two kinds of match": {virtualService(route + "    match: [{uri: {exact: /, prefix: /}}]\n"), []string{`8:30: MT1307 spec.http[0].match[0].uri.prefix: exact and prefix cannot both be set`}},
		"no kind of match":   {virtualService(route + "    match: [{uri: {}}]\n"), []string{`8:19: MT1307 spec.http[0].match[0].uri: one of exact, prefix and regex is needed`}},
		"bad regex":          {virtualService(route + "    match: [{uri: {regex: '('}}]\n"), []string{"8:27: MT1304 spec.http[0].match[0].uri.regex: not a regular expression: missing closing ): `(`"}},
		"weights of 0":       {virtualService("  - route: [{destination: {host: reviews}}, {destination: {host: ratings}}]\n"), []string{`7:12: MT1307 spec.http[0].route: the weights add up to 0`}},
		"negative weight":    {virtualService("  - route: [{destination: {host: reviews}, weight: -1}]\n"), []string{`7:52: MT1307 spec.http[0].route[0].weight: a weight is not negative`}},
		"no action":          {virtualService("  - name: x\n"), []string{`7:5: MT1307 spec.http[0]: exactly one of route, redirect and directResponse is needed, not 0`}},
		"two actions":        {virtualService(route + "    redirect: {uri: /x}\n"), []string{`7:5: MT1307 spec.http[0]: exactly one of route, redirect and directResponse is needed, not 2`}},
		"same name twice":    {virtualService("  - name: a\n    route: [{destination: {host: reviews}}]\n  - name: a\n    route: [{destination: {host: reviews}}]\n"), []string{`9:11: MT1306 spec.http[1].name: there is another route named "a"`}},
		"retry condition":    {virtualService(route + "    retries: {attempts: 1, retryOn: 'reset,retriable-headers'}\n"), []string{`8:37: MT1303 spec.http[0].retries.retryOn: the retry condition "retriable-headers" is not honoured yet`}},
		"host by header":     {virtualService(route + "    headers: {request: {add: {Host: x}}}\n"), []string{`8:24: MT1303 spec.http[0].headers.request: changing Host by headers is not honoured here`}},
		"no redirect code":   {virtualService("  - redirect: {redirectCode: 200}\n"), []string{`7:30: MT1307 spec.http[0].redirect.redirectCode: 200 is not a redirect`}},
		"two documents":      {virtualService(route) + "---\n" + virtualService(route), []string{`13:11: MT1306 spec.hosts[0]: VirtualService default/reviews is about reviews already (rules.yaml:5)`}},
		"balancer":           {dr("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}"), []string{`4:62: MT1303 spec.trafficPolicy.loadBalancer.simple: PASSTHROUGH is not honoured yet`}},
		"connect timeout":    {dr("trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1us}}}"), []string{`4:78: MT1307 spec.trafficPolicy.connectionPool.tcp.connectTimeout: must be at least 1ms`}},
		"subset twice":       {dr("subsets: [{name: a}, {name: a}]"), []string{`4:51: MT1306 spec.subsets[1].name: there is another subset named "a"`}},
		"subset taken":       {dr("subsets: [{name: v1, labels: {version: v3}}]"), []string{`4:32: MT1306 spec.subsets: the subset "v1" does not select the version "v1"`}},
		"another kind":       {"apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: x}\nspec: {}", []string{`2:7: MT1303 kind: Sidecar is not honoured yet`}},
		"another API":        {"apiVersion: v1\nkind: Service\nmetadata: {name: x}", []string{`1:13: MT1301 apiVersion: not an API that is known here: "v1"`}},
		"status":             {dr("subsets: []") + "\nstatus: {}", []string{`5:1: MT1302 status: unknown field "status"`}},
		"no metadata":        {"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nspec: {host: reviews}", []string{`1:1: MT1307 metadata: metadata with a name is needed`}},
		"no spec":            {"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}", []string{`1:1: MT1307 : the field "spec" is missing`}},
		"a list":             {"- a", []string{`1:1: MT1301 : must be an Istio document, not a list`}},
		"tcp service":        {strings.Replace(virtualService(route), "[reviews]", "[db]", 1), []string{`5:11: MT1307 spec.hosts[0]: db speaks tcp on port 5432, and the document has no such routes`}},
		"once for all hosts": {strings.Replace(virtualService("  - route: [{destination: {host: reviews, subset: v3}}]\n"), "[reviews]", "[reviews, ratings]", 1), []string{`7:51: MT1305 spec.http[0].route[0].destination.subset: reviews has no subset "v3"`}},
		"everything at once": {virtualService(route + "    fault: {}\n    timout: 1s\n    timeout: 0.5ms\n"), []string{
			`8:5: MT1303 spec.http[0].fault: fault is not honoured yet`, `9:5: MT1302 spec.http[0].timout: unknown field "timout"`, `10:14: MT1307 spec.http[0].timeout: must be at least 1ms`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := istio.Compile(documents(t, tc.text), known(), mesh.DefaultNamespace)
			var got []string
			for _, p := range problems {
				require.Equal(t, "rules.yaml", p.File)
				got = append(got, fmt.Sprintf("%d:%d: %s %s: %s", p.Line, p.Col, p.Code, p.Path, p.Message))
			}
			require.Equal(t, tc.want, got)
		})
	}
}

// Every field of Istio's API is either honoured or refused by name: none is ever ignored.
func TestNoFieldIsIgnored(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"exportTo: ['.']", "workloadSelector: {}", "trafficPolicy: {portLevelSettings: []}", "trafficPolicy: {tunnel: {}}", "trafficPolicy: {proxyProtocol: {}}", "trafficPolicy: {retryBudget: {}}",
		"trafficPolicy: {loadBalancer: {localityLbSetting: {}}}", "trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {}}}", "subsets: [{name: a, trafficPolicy: {portLevelSettings: []}}]",
		"trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: a, attributes: []}}}}", "trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {}}}}",
		"trafficPolicy: {connectionPool: {http: {useClientProtocol: false}}}", "trafficPolicy: {connectionPool: {http: {http2KeepAlive: {}}}}", "trafficPolicy: {outlierDetection: {consecutiveErrors: 1}}",
		"trafficPolicy: {outlierDetection: {outlierDetectionHttpErrorCodes: [429]}}", "trafficPolicy: {tls: {mode: SIMPLE, credentialName: a}}", "trafficPolicy: {tls: {mode: SIMPLE, caCrl: a}}",
	} {
		_, problems := istio.Compile(documents(t, "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec: {host: reviews, "+text+"}"), known(), mesh.DefaultNamespace)
		codes := []string{}
		for _, p := range problems {
			codes = append(codes, p.Code)
		}
		require.Equal(t, []string{istio.CodeNotHonoured}, codes, text)
	}
}

// The hint fits whoever asks: a scenario has faults of its own, a sidecar that runs alone has none.
func TestWhatToDoInsteadOfAFault(t *testing.T) {
	t.Parallel()
	_, problems := istio.Compile(documents(t, virtualService("  - route: [{destination: {host: reviews}}]\n    fault: {abort: {httpStatus: 503}}\n")), known(), mesh.DefaultNamespace)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Hint, "a scenario's (`faults:`)")
	require.Contains(t, problems[0].Hint, "served alone have to do without")
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(virtualService("  - route: [{destination: {host: reviews, subset: v1}, weight: 1}]\n    retries: {attempts: 1, retryOn: 5xx}\n")))
	f.Add([]byte("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec: {host: reviews, subsets: [{name: a}]}"))
	f.Add([]byte("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: x}\nspec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n yaml.Node
		if yaml.NewDecoder(bytes.NewReader(data)).Decode(&n) != nil || len(n.Content) != 1 {
			return
		}
		services := known()
		rules, problems := istio.Compile([]istio.Document{{File: "f", Node: n.Content[0]}}, services, "default")
		if len(problems) > 0 {
			return
		}
		snap := &mesh.Snapshot{Services: rules.Services, Routes: rules.Routes, Endpoints: map[string]*mesh.Endpoints{}}
		for host, svc := range services {
			for _, p := range svc.Ports {
				snap.Endpoints[mesh.HostPort(host, p.Number)] = &mesh.Endpoints{Host: host, Port: p.Number}
			}
		}
		require.Empty(t, slices.Clone(snap.Validate()), "rules without problems make a sound snapshot")
	})
}
