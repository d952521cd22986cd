package istio_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/istio"
)

const clock = "time.default.svc.cluster.local"

// outside are the known services, and one that is outside the mesh.
func outside() map[string]*mesh.Service {
	all := known()
	all[clock] = &mesh.Service{Host: clock, Ports: []mesh.Port{{Number: 8080, Protocol: mesh.HTTP}}, External: true, Addresses: []string{"10.0.0.9"}}
	return all
}

// serviceEntry is a document with the given spec, in flow style on line 4.
func serviceEntry(spec string) string {
	return "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: api}\nspec: {" + spec + "}"
}

func egressRule(spec string) string {
	return "apiVersion: config.istio.io/v1alpha2\nkind: EgressRule\nmetadata: {name: api}\nspec: {" + spec + "}"
}

func compileOutside(t *testing.T, text string) istio.Rules {
	t.Helper()
	rules, problems := istio.Compile(documents(t, text), outside(), mesh.DefaultNamespace)
	require.Empty(t, problems)
	return rules
}

const web = "ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]"

func TestServiceEntryByName(t *testing.T) {
	t.Parallel()
	rules := compileOutside(t, serviceEntry("hosts: [API.example.com, b.example.com], resolution: DNS, location: MESH_EXTERNAL, exportTo: ['.', '*'], "+web))
	require.Equal(t, &mesh.Service{
		Host: "api.example.com", External: true, Resolution: mesh.DNS,
		Ports: []mesh.Port{{Name: "http", Number: 80, Protocol: mesh.HTTP}, {Name: "tls", Number: 443, Protocol: mesh.TLS}},
	}, rules.Services["api.example.com"])
	require.Equal(t, &mesh.Endpoints{Host: "b.example.com", Port: 443, Endpoints: []mesh.Endpoint{
		{Address: "b.example.com", Port: 443, Workload: "b.example.com", Instance: "b.example.com:443"},
	}}, rules.Endpoints["b.example.com:443"])
	require.Len(t, rules.Endpoints, 4)
	require.Empty(t, rules.Routes)
}

func TestServiceEntryWithEndpoints(t *testing.T) {
	t.Parallel()
	rules := compileOutside(t, serviceEntry(`hosts: [db.example.com], addresses: [192.0.2.1], resolution: STATIC, location: MESH_INTERNAL,
  ports: [{number: 5432, name: sql, protocol: TCP, targetPort: 15432}, {number: 80, name: http, protocol: HTTP2}],
  endpoints: [
    {address: 192.0.2.7, weight: 3, locality: r/z, network: n, labels: {version: v1}},
    {address: '2001:db8::1', ports: {sql: 25432}}]`))
	svc := rules.Services["db.example.com"]
	require.False(t, svc.External)
	require.Equal(t, mesh.Static, svc.Resolution)
	require.Equal(t, []string{"192.0.2.1"}, svc.Addresses)
	require.Equal(t, []mesh.Endpoint{
		{Address: "192.0.2.7", Port: 15432, Weight: 3, Locality: "r/z", Network: "n", Labels: mesh.Labels{"version": "v1"}, Workload: "db.example.com", Instance: "192.0.2.7:15432"},
		{Address: "2001:db8::1", Port: 25432, Workload: "db.example.com", Instance: "[2001:db8::1]:25432"},
	}, rules.Endpoints["db.example.com:5432"].Endpoints)
	require.Equal(t, 80, rules.Endpoints["db.example.com:80"].Endpoints[1].Port)
}

func TestServiceEntryOfAWildcard(t *testing.T) {
	t.Parallel()
	rules := compileOutside(t, serviceEntry("hosts: ['*.Example.com'], resolution: NONE, "+web))
	require.Equal(t, mesh.Original, rules.Services["*.example.com"].Resolution)
	require.Equal(t, &mesh.Endpoints{Host: "*.example.com", Port: 443}, rules.Endpoints["*.example.com:443"])
}

// What is known of a service outside the mesh stays, with the ports that the entry opens.
func TestServiceEntryOfAKnownService(t *testing.T) {
	t.Parallel()
	port := mesh.Port{Name: "http", Number: 8080, Protocol: mesh.HTTP}
	for _, name := range []string{"time", "time.default.svc.cluster.local", "time.default.svc"} {
		rules := compileOutside(t, serviceEntry("hosts: ["+name+"], resolution: DNS, ports: [{number: 8080, name: http, protocol: HTTP}]"))
		require.Equal(t, &mesh.Service{Host: clock, External: true, Addresses: []string{"10.0.0.9"}, Ports: []mesh.Port{port}}, rules.Services[clock])
		require.Empty(t, rules.Endpoints)
	}
	rules := compileOutside(t, serviceEntry("hosts: [time], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]"))
	require.Equal(t, []mesh.Endpoint{{Address: clock, Port: 8080, Workload: "time", Instance: clock + ":8080"}}, rules.Endpoints[clock+":80"].Endpoints)
	rules = compileOutside(t, serviceEntry("hosts: [api.example.com], resolution: DNS, endpoints: [{address: time, ports: {http: 8080}}], ports: [{number: 80, name: http, protocol: HTTP}]"))
	require.Equal(t, clock, rules.Endpoints["api.example.com:80"].Endpoints[0].Address)
	rules = compileOutside(t, serviceEntry("hosts: [api.example.com], resolution: DNS, endpoints: [{address: Localhost, ports: {http: 8080}}], ports: [{number: 80, name: http, protocol: HTTP}]"))
	require.Equal(t, "localhost", rules.Endpoints["api.example.com:80"].Endpoints[0].Address, "no service of the namespace")
}

// What is no service of the mesh is looked up by the name that the document says: the machine's resolver knows what it means, as that of a container knows its neighbours.
func TestNamesOfTheOutsideAreLookedUpAsTheyAre(t *testing.T) {
	t.Parallel()
	const port = "ports: [{number: 6379, name: redis, protocol: TCP}]"
	rules := compileOutside(t, serviceEntry("hosts: [cache], resolution: DNS, endpoints: [{address: redis}, {address: Redis-2.internal}, {address: time.default}, {address: 192.0.2.7}], "+port))
	var addresses []string
	for _, e := range rules.Endpoints["cache.default.svc.cluster.local:6379"].Endpoints {
		require.Equal(t, fmt.Sprintf("%s:6379", e.Address), e.Instance)
		addresses = append(addresses, e.Address)
	}
	require.Equal(t, []string{"redis", "redis-2.internal", clock, "192.0.2.7"}, addresses)

	// The host itself too, and a host of another entry is no service that a resolver would know by its full name.
	rules = compileOutside(t, serviceEntry("hosts: [redis], resolution: DNS, "+port)+"\n---\n"+serviceEntry("hosts: [cache], resolution: DNS, endpoints: [{address: redis}], "+port))
	for _, host := range []string{"redis", "cache"} {
		require.Equal(t, "redis", rules.Endpoints[mesh.FQDN(host, mesh.DefaultNamespace)+":6379"].Endpoints[0].Address, host)
	}
}

// Rules may name the hosts of an entry, wherever that stands.
func TestRulesForTheOutside(t *testing.T) {
	t.Parallel()
	rules := compileOutside(t, `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api}
spec: {hosts: [api.example.com], http: [{timeout: 2s, route: [{destination: {host: api.example.com, subset: v1}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api}
spec: {host: api.example.com, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v1}}]}
---
`+serviceEntry("hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]"))
	require.Equal(t, mesh.Random, rules.Services["api.example.com"].Traffic.Balancer)
	require.Len(t, rules.Routes["api.example.com:80"].Routes, 1)
}

func TestEgressRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, now string }{
		{"destination: {service: api.example.com}, ports: [{port: 80, protocol: http}, {port: 443, protocol: https}]",
			"hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]"},
		{"destination: {service: '*.example.com'}, ports: [{port: 80, protocol: http2}]",
			"hosts: ['*.example.com'], resolution: NONE, ports: [{number: 80, name: http2, protocol: HTTP2}]"},
		{"destination: {service: 192.0.2.7}, ports: [{port: 5432, protocol: tcp}]",
			"hosts: [192.0.2.7], addresses: [192.0.2.7], resolution: STATIC, endpoints: [{address: 192.0.2.7}], ports: [{number: 5432, name: tcp, protocol: TCP}]"},
		{"destination: {service: time}, ports: [{port: 8080, protocol: http}], useEgressProxy: false",
			"hosts: [time], resolution: DNS, ports: [{number: 8080, name: http, protocol: HTTP}]"},
	} {
		require.Equal(t, compileOutside(t, serviceEntry(c.now)), compileOutside(t, egressRule(c.old)), c.old)
	}
}

func TestProblemsOfTheOutside(t *testing.T) {
	t.Parallel()
	const hosts, ports = "hosts: [api.example.com], ", "ports: [{number: 80, name: http, protocol: HTTP}]"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":        {serviceEntry(""), []string{"4:7: MT1307 spec: at least one port is needed", "4:7: MT1307 spec: at least one host is needed"}},
		"any host":       {serviceEntry("hosts: ['*'], " + ports), []string{`4:16: MT1307 spec.hosts[0]: "*" is not a host of an entry`}},
		"wildcard, DNS":  {serviceEntry("hosts: ['*.x.com'], resolution: DNS, " + ports), []string{`4:16: MT1307 spec.hosts[0]: a wildcard host has no addresses of its own: connections go where they were going, which is the resolution NONE`}},
		"a mesh service": {serviceEntry("hosts: [reviews], " + ports), []string{`4:16: MT1306 spec.hosts[0]: reviews is a service of the mesh already`}},
		"two entries": {serviceEntry(hosts+ports) + "\n---\n" + serviceEntry(hosts+ports), []string{
			`9:16: MT1306 spec.hosts[0]: ServiceEntry default/api is about api.example.com already (rules.yaml:4)`}},
		"a port that is not there":    {serviceEntry("hosts: [time], " + ports), []string{`4:31: MT1305 spec.ports[0]: time has no port 80`}},
		"static, without endpoints":   {serviceEntry(hosts + "resolution: STATIC, " + ports), []string{`4:16: MT1307 spec.hosts[0]: the resolution STATIC needs endpoints`}},
		"static, by name":             {serviceEntry(hosts + "resolution: STATIC, endpoints: [{address: a.b}], " + ports), []string{`4:76: MT1307 spec.endpoints[0].address: "a.b" is not an IP address, as the resolution STATIC needs`}},
		"none, with endpoints":        {serviceEntry(hosts + "endpoints: [{address: 192.0.2.7}], " + ports), []string{`4:45: MT1307 spec.endpoints: the resolution NONE has no endpoints: connections go where they were going`}},
		"round robin":                 {serviceEntry(hosts + "resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}, {address: b.c}], " + ports), []string{`4:74: MT1307 spec.endpoints: the resolution DNS_ROUND_ROBIN takes one endpoint`}},
		"another resolution":          {serviceEntry(hosts + "resolution: DYNAMIC_DNS, " + ports), []string{`4:46: MT1303 spec.resolution: the resolution DYNAMIC_DNS is not honoured yet`, `4:16: MT1307 spec.hosts[0]: the resolution STATIC needs endpoints`}},
		"a socket":                    {serviceEntry(hosts + "resolution: DNS, endpoints: [{address: 'unix:///a'}], " + ports), []string{`4:73: MT1303 spec.endpoints[0].address: a socket of this machine is not honoured`}},
		"no address":                  {serviceEntry(hosts + "resolution: DNS, endpoints: [{weight: 1}], " + ports), []string{`4:63: MT1307 spec.endpoints[0]: the field "address" is missing`}},
		"a port of nobody":            {serviceEntry(hosts + "resolution: DNS, endpoints: [{address: a.b, ports: {web: 1}}], " + ports), []string{`4:91: MT1305 spec.endpoints[0].ports.web: the entry has no port named "web"`}},
		"open to all":                 {serviceEntry(hosts + "ports: [{number: 5432, name: sql, protocol: TCP}]"), []string{`4:78: MT1303 spec.ports[0].protocol: without addresses the resolution NONE would open port 5432 to every destination`}},
		"a range":                     {serviceEntry(hosts + "addresses: [10.0.0.0/8, x], " + ports), []string{`4:46: MT1303 spec.addresses[0]: a range of addresses is not honoured yet`, `4:58: MT1304 spec.addresses[1]: "x" is not an address`}},
		"another protocol":            {serviceEntry(hosts + "ports: [{number: 80, name: a, protocol: UDP}, {number: 81, name: a, protocol: HTTP}, {number: 80, name: b}]"), []string{`4:74: MT1303 spec.ports[0].protocol: the protocol UDP is not honoured yet`, `4:99: MT1306 spec.ports[1].name: there is another port named "a"`, `4:119: MT1307 spec.ports[2]: the field "protocol" is missing`}},
		"no port":                     {serviceEntry(hosts + "ports: [{number: 0, name: a, protocol: HTTP}]"), []string{`4:51: MT1307 spec.ports[0].number: 0 is not a port`}},
		"exported to one":             {serviceEntry(hosts + "exportTo: [prod], " + ports), []string{`4:45: MT1303 spec.exportTo[0]: an export to "prod" alone is not honoured yet`}},
		"exported from another place": {strings.Replace(serviceEntry(hosts+"exportTo: ['.'], "+ports), "name: api", "name: api, namespace: prod", 1), []string{`4:45: MT1303 spec.exportTo[0]: an export to "." alone is not honoured yet`}},
		"a selector":                  {serviceEntry(hosts + "workloadSelector: {labels: {a: b}}, " + ports), []string{`4:34: MT1303 spec.workloadSelector: workloadSelector is not honoured yet`}},
		"an account":                  {serviceEntry(hosts + "resolution: DNS, endpoints: [{address: a.b, serviceAccount: c}], " + ports), []string{`4:78: MT1303 spec.endpoints[0].serviceAccount: serviceAccount is not honoured yet`}},

		"old: nothing":       {egressRule(""), []string{`4:7: MT1307 spec: the field "destination" is missing`, `4:7: MT1307 spec: the field "ports" is missing`}},
		"old: unknown field": {egressRule("destination: {service: a.b, port: 1}, ports: [{port: 80, protocol: http}]"), []string{`4:36: MT1302 spec.destination.port: unknown field "port"`}},
		"old: protocol":      {egressRule("destination: {service: a.b}, ports: [{port: 80, protocol: HTTP}]"), []string{`4:66: MT1304 spec.ports[0].protocol: must be one of http, http2, grpc, https, tcp, not "HTTP"`}},
		"old: proxy":         {egressRule("destination: {service: a.b}, ports: [{port: 80, protocol: http}], useEgressProxy: true"), []string{`4:90: MT1303 spec.useEgressProxy: an egress gateway is not honoured yet`}},
		"old: wildcard, tcp": {egressRule("destination: {service: '*.b'}, ports: [{port: 80, protocol: tcp}]"), []string{`4:68: MT1303 spec.ports[0].protocol: a wildcard would open port 80 to every destination`}},
		"old: a range":       {egressRule("destination: {service: 10.0.0.0/8}, ports: [{port: 80, protocol: tcp}]"), []string{`4:31: MT1303 spec.destination.service: a range of addresses is not honoured yet`}},
		"old: another kind":  {"apiVersion: config.istio.io/v1alpha2\nkind: DestinationPolicy\nmetadata: {name: api}\nspec: {}", []string{`2:7: MT1301 kind: of the API config.istio.io/v1alpha2 only EgressRule is read`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := istio.Compile(documents(t, c.text), outside(), mesh.DefaultNamespace)
			var got []string
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%d:%d: %s %s: %s", p.Line, p.Col, p.Code, p.Path, p.Message))
			}
			require.Equal(t, c.want, got)
		})
	}
}

// The names of an entry are those that a certificate must have where TLS is spoken to its hosts.
func TestNamesOfCertificates(t *testing.T) {
	t.Parallel()
	rule := func(tls string) string {
		return "\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: api}\nspec: {host: api.example.com, trafficPolicy: {tls: " + tls + "}, subsets: [{name: v1, labels: {a: b}, trafficPolicy: {tls: {mode: SIMPLE}}}]}"
	}
	entry := serviceEntry("hosts: [api.example.com], resolution: DNS, subjectAltNames: [one.example.com], " + web)
	svc := compileOutside(t, entry+rule("{mode: SIMPLE}")).Services["api.example.com"]
	require.Equal(t, []string{"one.example.com"}, svc.Traffic.TLS.Names)
	require.Equal(t, []string{"one.example.com"}, svc.Subsets[0].Traffic.TLS.Names)
	svc = compileOutside(t, entry+rule("{mode: SIMPLE, subjectAltNames: [two.example.com]}")).Services["api.example.com"]
	require.Equal(t, []string{"two.example.com"}, svc.Traffic.TLS.Names)
	require.Nil(t, compileOutside(t, entry).Services["api.example.com"].Traffic.TLS)

	_, problems := istio.Compile(documents(t, strings.Replace(entry, "resolution: DNS", "resolution: NONE", 1)+rule("{mode: SIMPLE}")), outside(), mesh.DefaultNamespace)
	require.Len(t, problems, 1)
	require.Equal(t, "TLS to api.example.com is not honoured yet with the resolution NONE", problems[0].Message)
}
