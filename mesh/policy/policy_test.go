package policy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/policy"
)

const backend, db, clock = "backend.default.svc.cluster.local", "db.default.svc.cluster.local", "time.default.svc.cluster.local"

func known() map[string]*mesh.Service {
	own := mesh.TrafficPolicy{Balancer: mesh.Random}
	return map[string]*mesh.Service{
		backend: {Host: backend, Ports: []mesh.Port{{Number: 8080, Protocol: mesh.HTTP}}, Subsets: []mesh.Subset{{Name: "v1"}, {Name: "v2", Traffic: &own}}},
		db:      {Host: db, Ports: []mesh.Port{{Number: 5432, Protocol: mesh.TCP}}},
		clock:   {Host: clock, Ports: []mesh.Port{{Number: 8080, Protocol: mesh.HTTP}}, External: true},
	}
}

func documents(t *testing.T, text string) []policy.Document {
	t.Helper()
	var docs []policy.Document
	for dec := yaml.NewDecoder(strings.NewReader(text)); ; {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs
		}
		require.NoError(t, err)
		docs = append(docs, policy.Document{File: "rules.yaml", Node: n.Content[0]})
	}
}

func compile(t *testing.T, text string) policy.Policies {
	t.Helper()
	out, problems := policy.Compile(documents(t, text), known(), mesh.DefaultNamespace)
	require.Empty(t, problems)
	return out
}

// doc is a document of a kind with a spec in flow style on line 4.
func doc(kind, spec string) string {
	return "apiVersion: meshtest.dev/v1\nkind: " + kind + "\nmetadata: {name: one, labels: {a: b}}\nspec: {" + spec + "}\n"
}

func health(check string) string {
	return doc(policy.KindHealthCheck, "targetRefs: [{kind: Service, name: backend}], healthCheck: {"+check+"}")
}

func limits(list string) string {
	return doc(policy.KindRateLimit, "targetRefs: [{kind: Service, name: backend}], rateLimits: ["+list+"]")
}

func TestHealthChecks(t *testing.T) {
	t.Parallel()
	defaults := mesh.HealthCheck{Interval: 3 * time.Second, Timeout: time.Second, UnhealthyThreshold: 3, HealthyThreshold: 1}
	for text, change := range map[string]func(*mesh.HealthCheck){
		"tcp: {}":                    func(c *mesh.HealthCheck) { c.TCP = true },
		"grpc: {}":                   func(c *mesh.HealthCheck) { c.GRPC = &mesh.GRPCCheck{} },
		"grpc: {serviceName: books}": func(c *mesh.HealthCheck) { c.GRPC = &mesh.GRPCCheck{Service: "books"} },
		"http: {path: /healthz}":     func(c *mesh.HealthCheck) { c.HTTP = &mesh.HTTPCheck{Path: "/healthz"} },
		"http: {path: /, host: a.b, headers: {X-Probe: '1'}, expectedStatuses: [204, {start: 200, end: 300}]}, port: 81, timeout: 200ms, interval: 1m30s, unhealthyThreshold: 5, healthyThreshold: 2": func(c *mesh.HealthCheck) {
			c.HTTP = &mesh.HTTPCheck{Path: "/", Host: "a.b", Headers: map[string]string{"x-probe": "1"}, Statuses: []mesh.StatusRange{{First: 204, Last: 204}, {First: 200, Last: 299}}}
			c.Port, c.Timeout, c.Interval, c.UnhealthyThreshold, c.HealthyThreshold = 81, 200*time.Millisecond, 90*time.Second, 5, 2
		},
	} {
		want := defaults
		change(&want)
		require.Equal(t, map[string]*mesh.HealthCheck{backend: &want}, compile(t, health(text)).HealthChecks, text)
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	exact, prefix := "GET", "/search"
	require.Equal(t, map[string][]mesh.RateLimit{backend: {
		{Name: "all", Requests: 100, Per: time.Second},
		{Name: "each", Requests: 100_000, Per: 24 * time.Hour, Burst: 50, Caller: true, Header: "x-user", Status: 503, Headers: true,
			Matches: []mesh.Match{{Path: &mesh.StringMatch{Prefix: &prefix}, Method: &mesh.StringMatch{Exact: &exact}}, {Headers: map[string]mesh.HeaderTest{"x-bulk": {Present: true}}}}},
		{Name: "more", Requests: 1, Per: time.Minute},
	}}, compile(t, limits(`{name: all, requests: 100, per: 1s}, {name: each, requests: 100000, per: 24h, burst: 50, key: {caller: true, header: X-User}, status: 503, enableXRatelimitHeaders: true,
  match: [{uri: {prefix: /search}, method: {exact: GET}}, {headers: {X-Bulk: {}}}]}`)+"---\n"+limits("{name: more, requests: 1, per: 1m}")).Limits)
}

func TestPoliciesGoIntoTheSnapshot(t *testing.T) {
	t.Parallel()
	out := compile(t, health("tcp: {}")+"---\n"+limits("{name: all, requests: 1, per: 1s}"))
	s := mesh.NewSnapshot()
	services := known()
	s.Services = known()
	in := &mesh.Inbound{Workload: mesh.Workload{Service: "backend", Namespace: "default", Instance: "backend-v1-1"}}
	other := &mesh.Inbound{Workload: mesh.Workload{Service: "backend", Namespace: "other", Instance: "x"}}
	edge := &mesh.Inbound{Workload: mesh.Workload{Namespace: "default", Instance: "edge"}}
	s.Inbound = map[string]*mesh.Inbound{"backend-v1-1": in, "x": other, "edge": edge}
	out.Apply(s)
	checked := s.Services[backend]
	require.True(t, checked.Traffic.HealthCheck.TCP)
	require.Nil(t, checked.Subsets[0].Traffic, "it has the service's")
	require.True(t, checked.Subsets[1].Traffic.HealthCheck.TCP)
	require.Equal(t, mesh.Random, checked.Subsets[1].Traffic.Balancer)
	require.Equal(t, services[db], s.Services[db])
	require.Len(t, s.Inbound["backend-v1-1"].Limits, 1)
	require.Empty(t, in.Limits, "what is shared is not edited")
	require.Same(t, other, s.Inbound["x"])
	require.Same(t, edge, s.Inbound["edge"])
}

func TestOursIsTold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"apiVersion: meshtest.dev/v1": true, "apiVersion: meshtest.dev/v9": true, "apiVersion: networking.istio.io/v1": false, "kind: HealthCheckPolicy": false, "- a": false, "apiVersion: {}": false,
	} {
		require.Equal(t, want, policy.Is(documents(t, text)[0]), text)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	const one = "name: a, requests: 1, per: 1s"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"a list":           {"- a", []string{"1:1: MT1701 : must be a document, not a list"}},
		"another API":      {strings.Replace(health("tcp: {}"), "/v1", "/v2", 1), []string{`1:13: MT1701 apiVersion: not an API that is known here: "meshtest.dev/v2"`}},
		"another kind":     {doc("HealthPolicy", ""), []string{`2:7: MT1701 kind: unknown kind "HealthPolicy"`}},
		"no spec":          {"apiVersion: meshtest.dev/v1\nkind: RateLimitPolicy\nmetadata: {name: a}\nstatus: {}\nkind: x", []string{`5:1: MT1706 kind: "kind" is there twice`, `4:1: MT1702 status: unknown field "status"`, `1:1: MT1707 : the field "spec" is missing`}},
		"no name":          {strings.Replace(health("tcp: {}"), "name: one, ", "", 1), []string{`3:11: MT1707 metadata: the field "name" is missing`}},
		"no metadata":      {strings.Replace(health("tcp: {}"), "metadata: {name: one, labels: {a: b}}\n", "", 1), []string{`1:1: MT1707 metadata: metadata with a name is needed`}},
		"nothing":          {doc("HealthCheckPolicy", ""), []string{`4:7: MT1707 spec: the field "targetRefs" is missing`, `4:7: MT1707 spec: the field "healthCheck" is missing`}},
		"no target":        {doc("HealthCheckPolicy", "targetRefs: [], healthCheck: {tcp: {}}"), []string{`4:20: MT1707 spec.targetRefs: must have 1 to 16 elements, not 0`}},
		"no such service":  {strings.Replace(health("tcp: {}"), "name: backend", "name: backed", 1), []string{`4:43: MT1705 spec.targetRefs[0].name: no such service: backed.default.svc.cluster.local`}},
		"another group":    {strings.Replace(health("tcp: {}"), "{kind: Service", "{group: x, kind: Service", 1), []string{`4:29: MT1707 spec.targetRefs[0].group: Services are of the core group, not of "x"`}},
		"another target":   {strings.Replace(health("tcp: {}"), "kind: Service", "kind: Pod", 1), []string{`4:28: MT1704 spec.targetRefs[0].kind: must be one of Service, not "Pod"`}},
		"one port":         {strings.Replace(health("tcp: {}"), "name: backend", "name: backend, sectionName: http", 1), []string{`4:52: MT1703 spec.targetRefs[0].sectionName: sectionName is not honoured yet`}},
		"a service twice":  {strings.Replace(health("tcp: {}"), "}],", "}, {kind: Service, name: backend}],", 1), []string{`4:75: MT1706 spec.targetRefs[1].name: backend is named twice`}},
		"two policies":     {health("tcp: {}") + "---\n" + health("tcp: {}"), []string{`9:21: MT1706 spec.targetRefs[0]: HealthCheckPolicy default/one says how backend is checked already`}},
		"no kind of check": {health(""), []string{`4:67: MT1707 spec.healthCheck: exactly one of http, tcp and grpc is needed, not 0`}},
		"two of them":      {health("tcp: {}, grpc: {}"), []string{`4:67: MT1707 spec.healthCheck: exactly one of http, tcp and grpc is needed, not 2`}},
		"numbers":          {health("tcp: {}, timeout: 0s, interval: 5, unhealthyThreshold: 0"), []string{`4:100: MT1704 spec.healthCheck.interval: must be a duration such as 250ms or 1m30s, not "5"`, `4:123: MT1707 spec.healthCheck.unhealthyThreshold: must be 1 to 1000, not 0`, `4:86: MT1707 spec.healthCheck.timeout: must be at least 1ms`}},
		"http": {health("http: {path: x, headers: {Host: a, 'b c': d}, expectedStatuses: [99, {start: 200, end: 200}, {start: 200}]}"), []string{
			`4:81: MT1707 spec.healthCheck.http.path: "x" is not a path`, `4:100: MT1707 spec.healthCheck.http.headers.Host: the host is no header`, `4:110: MT1707 spec.healthCheck.http.headers.b c: "b c" is not the name of a header`,
			`4:133: MT1704 spec.healthCheck.http.expectedStatuses[0]: must be a status such as 200 or {start: 200, end: 300}, not "99"`, `4:137: MT1707 spec.healthCheck.http.expectedStatuses[1]: the range 200 to 200 is empty`,
			`4:161: MT1707 spec.healthCheck.http.expectedStatuses[2]: the field "end" is missing`}},

		"no numbers":     {limits("{}"), []string{`4:67: MT1707 spec.rateLimits[0]: the field "name" is missing`, `4:67: MT1707 spec.rateLimits[0]: the field "requests" is missing`, `4:67: MT1707 spec.rateLimits[0]: the field "per" is missing`}},
		"too large":      {limits("{name: a, requests: 2147483647, per: 9000h}"), []string{`4:67: MT1707 spec.rateLimits[0]: burst and per are too large to be counted exactly`}},
		"no time":        {limits("{name: a, requests: 1, per: 0s}"), []string{`4:95: MT1707 spec.rateLimits[0].per: must be at least 1ms`}},
		"a status of OK": {limits("{" + one + ", status: 200}"), []string{`4:107: MT1707 spec.rateLimits[0].status: must be 400 to 599, not 200`}},
		"no key":         {limits("{" + one + ", key: {}}"), []string{`4:104: MT1707 spec.rateLimits[0].key: a key is of the caller, of a header, or of both`}},
		"no header":      {limits("{" + one + ", key: {header: 'a b'}}"), []string{`4:113: MT1707 spec.rateLimits[0].key.header: "a b" is not the name of a header`}},
		"a name twice":   {limits("{" + one + "}, {" + one + "}"), []string{`4:107: MT1706 spec.rateLimits[1].name: RateLimitPolicy default/one says what the limit a of backend is already`}},
		"no requests":    {strings.Replace(limits("{"+one+"}"), "backend", "db", 1), []string{`4:21: MT1707 spec.targetRefs[0]: db has no requests to count: it does not speak HTTP`}},
		"outside":        {strings.Replace(limits("{"+one+"}"), "backend", "time", 1), []string{`4:21: MT1707 spec.targetRefs[0]: time is outside the mesh: nobody counts its requests there`}},
		"matches": {limits("{" + one + ", match: [{uri: {exat: /}}, {sourceLabels: {app: a}}, {gateways: [a]}, 7]}"), []string{
			`4:114: MT1702 spec.rateLimits[0].match[0].uri.exat: unknown field "exat"`, `4:140: MT1703 spec.rateLimits[0].match[1].sourceLabels: sourceLabels is not known of requests to a workload`,
			`4:162: MT1703 spec.rateLimits[0].match[2].gateways: gateways is not known of requests to a workload`, `4:168: MT1704 spec.rateLimits[0].match[3]: must be a mapping, not "7"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := policy.Compile(documents(t, c.text), known(), mesh.DefaultNamespace)
			var got []string
			for _, p := range problems {
				require.Equal(t, "rules.yaml", p.File)
				got = append(got, fmt.Sprintf("%d:%d: %s %s: %s", p.Line, p.Col, p.Code, p.Path, p.Message))
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Whatever is compiled without a problem can act.
func FuzzCompile(f *testing.F) {
	f.Add([]byte(health("http: {path: /, expectedStatuses: [200, {start: 1, end: 2}]}")))
	f.Add([]byte(limits("{name: a, requests: 7, per: 1s, burst: 3, key: {header: x}, match: [{uri: {prefix: /}}]}")))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n yaml.Node
		if yaml.NewDecoder(bytes.NewReader(data)).Decode(&n) != nil || len(n.Content) != 1 {
			return
		}
		out, problems := policy.Compile([]policy.Document{{File: "f", Node: n.Content[0]}}, known(), "default")
		if len(problems) > 0 {
			return
		}
		for _, all := range out.Limits {
			for _, l := range all {
				_, err := l.Units()
				require.NoError(t, err)
			}
		}
		for _, c := range out.HealthChecks {
			require.Positive(t, c.Interval)
			require.Positive(t, c.Timeout)
		}
	})
}
