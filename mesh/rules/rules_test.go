package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

const entry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: backend}
spec:
  hosts: [backend.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: 9001}, labels: {version: v1}}]
`

const virtualService = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ours}
spec: {hosts: [backend], http: [{route: [{destination: {host: backend}}]}]}
`

const httpRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: theirs}
spec:
  parentRefs: [{group: "", kind: Service, name: backend}]
  rules: [{backendRefs: [{name: backend, port: 80}]}]
`

const limit = `apiVersion: meshtest.dev/v1
kind: RateLimitPolicy
metadata: {name: callers}
spec:
  targetRefs: [{kind: Service, name: backend}]
  rateLimits: [{name: callers, requests: 20, per: 1s, key: {caller: true}}]
`

const gateway = `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: entrance}
spec: {hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: backend}}]}]}
`

func parse(t *testing.T, texts ...string) []Document {
	t.Helper()
	docs, problems := Parse("rules.yaml", []byte(strings.Join(texts, "---\n")))
	require.Empty(t, problems)
	return docs
}

// Documents of all three APIs become one snapshot.
func TestCompile(t *testing.T) {
	t.Parallel()
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	for name, routes := range map[string]string{"VirtualService": virtualService, "HTTPRoute": httpRoute} {
		c, problems := Compile(parse(t, entry, routes, limit, gateway), mesh.DefaultNamespace, nil)
		require.Empty(t, problems, name)
		require.Equal(t, 9001, c.Snapshot.Endpoints[mesh.HostPort(host, 80)].Endpoints[0].Port)
		table := c.Snapshot.Routes[mesh.HostPort(host, 80)]
		require.Len(t, table.Routes, 1, name)
		require.Contains(t, table.Routes[0].Origin, name)
		require.Len(t, c.Policies.Limits[host], 1)
		require.Len(t, c.Gateways, 1)
		require.Contains(t, c.Snapshot.Services, c.Gateways[0])
		require.True(t, c.Opened[host])
	}
}

func TestCompileTellsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		texts []string
		codes []string
		parts []string
	}{
		"two APIs route one host":         {[]string{entry, virtualService, httpRoute}, []string{codeConflict}, []string{"ours", "theirs"}},
		"each API has something to say":   {[]string{entry, strings.Replace(virtualService, "http:", "htpp:", 1), strings.Replace(httpRoute, "rules:", "rulez:", 1), strings.Replace(limit, "requests", "request", 1)}, nil, []string{"htpp", "rulez", "request"}},
		"a destination that nobody knows": {[]string{virtualService}, nil, []string{"backend"}},
	} {
		c, problems := Compile(parse(t, test.texts...), mesh.DefaultNamespace, nil)
		require.Nil(t, c, name)
		var all strings.Builder
		for i, p := range problems {
			all.WriteString(p.Error() + "\n")
			require.Equal(t, "rules.yaml", p.File, name)
			require.NotZero(t, p.Line, name)
			if i < len(test.codes) {
				require.Equal(t, test.codes[i], p.Code)
			}
		}
		for _, part := range test.parts {
			require.Contains(t, all.String(), part, name)
		}
	}
}

// Of what is none of ours nothing is said but that, and once what would be read.
func TestForeignDocuments(t *testing.T) {
	t.Parallel()
	const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, uid: 1}\ndata: {a: b}\nbinaryData: {}\n"
	for _, c := range []struct {
		text string
		want []string
	}{
		{configMap, []string{"rules.yaml:1:1: MT1301 ConfigMap (v1) is no kind of document that is known here; known are VirtualService, "}},
		{"- a\n", []string{"rules.yaml:1:1: MT1301 a document must be a mapping with apiVersion and kind, not a list; known are VirtualService, "}},
		{"word\n", []string{`rules.yaml:1:1: MT1301 a document must be a mapping with apiVersion and kind, not "word"; known are VirtualService, `}},
		{"kind: VirtualService\nspec: {}\n", []string{`rules.yaml:1:1: MT1301 the field "apiVersion" is missing; known are `}},
		{"apiVersion: v1\ndata: {}\n", []string{`rules.yaml:1:1: MT1301 the field "kind" is missing; known are `}},
		{configMap + "---\napiVersion: apps/v1\nkind: Deployment\n---\n" + entry, []string{"1:1: MT1301 ConfigMap", "7:1: MT1301 Deployment (apps/v1) is no kind of document that is known here"}},
		// Of a group that is known it is the kind or the version that is not, and its fields are nobody's business either.
		{"apiVersion: networking.istio.io/v1\nkind: Telemetry\ndata: {}\n", []string{`2:7: MT1301 kind: unknown kind "Telemetry"; VirtualService, DestinationRule, ServiceEntry or Gateway`}},
		{"apiVersion: config.istio.io/v1alpha2\nkind: RouteRule\ndata: {}\n", []string{`2:7: MT1301 kind: of the API config.istio.io/v1alpha2 only EgressRule is read`}},
		{"apiVersion: v2\nkind: Secret\nextra: {}\n", []string{`1:13: MT1301 apiVersion: a Secret is of the API v1`}},
		{"apiVersion: gateway.networking.k8s.io/v1\nkind: Mesh\ndata: {}\n", []string{`2:7: MT1601 kind: unknown kind "Mesh"`}},
		{"apiVersion: meshtest.dev/v1\nkind: Scenario\nservices: {}\n", []string{`2:7: MT1701 kind: unknown kind "Scenario"`}},
	} {
		_, problems := Compile(parse(t, c.text), mesh.DefaultNamespace, nil)
		require.Len(t, problems, len(c.want), "%s\n%v", c.text, Problems(problems))
		for i, want := range c.want {
			require.Contains(t, problems[i].Error(), want)
			require.Equal(t, i == 0, problems[i].Hint != "" || problems[i].Known != nil, "%s: it is said once what is known", c.text)
		}
	}
}

// What is said to be known is.
func TestKnownKindsAreRead(t *testing.T) {
	t.Parallel()
	for _, api := range read {
		for _, kind := range api.kinds {
			_, problems := Compile(parse(t, "apiVersion: "+api.apiVersion+"\nkind: "+kind+"\nmetadata: {name: x}\n"), mesh.DefaultNamespace, nil)
			for _, p := range problems {
				require.NotRegexp(t, "^MT1[367]0[13]$", p.Code, p.Error())
			}
		}
	}
}

// Whoever serves rules from files, or explains how they are served, takes the same host and port.
func TestServes(t *testing.T) {
	t.Parallel()
	const sql = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: sql}\nspec: {hosts: [sql], resolution: DNS, ports: [{number: 5432, name: sql, protocol: TCP}, {number: 80, name: http, protocol: HTTP}]}\n"
	elsewhere := strings.NewReplacer("name: door", "name: door, namespace: prod", "name: entrance", "name: entrance, namespace: prod", "host: backend", "host: backend.default").Replace(gateway)
	backend, door := mesh.FQDN("backend", mesh.DefaultNamespace), "door.default"
	for name, c := range map[string]struct {
		texts []string
		want  Wanted
		host  string // or the beginning of it
		port  int
		err   string
	}{
		"the only host":                   {[]string{entry}, Wanted{}, backend, 80, ""},
		"the only host, whatever listens": {[]string{entry}, Wanted{Likely: []int{8080}}, backend, 80, ""},
		"the only gateway":                {[]string{entry, gateway}, Wanted{}, door, 8080, ""},
		"a host beside a gateway":         {[]string{entry, gateway}, Wanted{Host: "backend"}, backend, 80, ""},
		"several hosts":                   {[]string{entry, sql}, Wanted{}, "", 0, ""},
		"a host of several":               {[]string{entry, sql}, Wanted{Host: "sql", Port: 5432}, "sql.", 5432, ""},
		"a likely port":                   {[]string{entry, sql}, Wanted{Host: "sql", Likely: []int{8080, 80}}, "sql.", 80, ""},
		"no likely port":                  {[]string{sql}, Wanted{Likely: []int{8080}}, "", 0, "sql has the ports 5432, 80: name one of them behind a colon"},
		"no such port":                    {[]string{sql}, Wanted{Port: 81, Likely: []int{80}}, "", 0, "sql has no port 81: name one of 5432, 80 behind a colon"},
		"no such host":                    {[]string{entry, sql}, Wanted{Host: "nobody"}, "", 0, `the rules have no host "nobody": backend, sql`},
		"a gateway":                       {[]string{entry, gateway, elsewhere}, Wanted{Gateway: "door"}, door, 8080, ""},
		"a gateway elsewhere":             {[]string{entry, gateway, elsewhere}, Wanted{Gateway: "prod/door"}, "door.prod", 8080, ""},
		"several gateways":                {[]string{entry, gateway, elsewhere}, Wanted{}, "", 0, ""},
		"no such gateway":                 {[]string{entry, gateway, elsewhere}, Wanted{Gateway: "gate"}, "", 0, `the rules have no gateway "gate": door, prod/door`},
		"no gateway at all":               {[]string{entry}, Wanted{Gateway: "gate"}, "", 0, `the rules have no gateway "gate": they have none`},
	} {
		compiled, problems := Compile(parse(t, c.texts...), mesh.DefaultNamespace, nil)
		require.Empty(t, problems, name)
		host, port, err := compiled.Serves(c.want)
		if c.err != "" {
			require.EqualError(t, err, c.err, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, c.port, port.Number, name)
		require.True(t, strings.HasPrefix(host, c.host) && (host == "") == (c.host == ""), "%s: %s", name, host)
	}
}

// Files and folders are read in the order of their names, and all that cannot be read is told at once.
func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	b, a := write("some/b.yml", virtualService), write("some/a.yaml", "---\n"+entry+"---\n\n---\n"+limit)
	write("some/notes.txt", "{")
	write("some/.#a.yaml", "{")
	one := write("one.yaml", gateway)
	docs, files, err := Load([]string{one, filepath.Join(dir, "some")})
	require.NoError(t, err)
	require.Equal(t, []string{one, a, b}, files)
	var kinds []string
	for _, d := range docs {
		kinds = append(kinds, d.Word("kind"))
	}
	require.Equal(t, []string{"Gateway", "VirtualService", "ServiceEntry", "RateLimitPolicy", "VirtualService"}, kinds)

	require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	_, _, err = Load([]string{filepath.Join(dir, "none.yaml"), filepath.Join(dir, "empty"), write("broken.yaml", "a: [")})
	require.ErrorContains(t, err, "none.yaml: MT1001 cannot be read: no such file")
	require.ErrorContains(t, err, "empty: MT1004 there is no .yaml or .yml file in it")
	require.ErrorContains(t, err, "broken.yaml:1:1: MT1006 not valid YAML: ")
	require.Equal(t, 1, strings.Count(err.Error(), "none.yaml"), "it is told once")
	_, files, err = Load([]string{write("emptied.yaml", ""), write("comments.yaml", "# none\n")})
	require.ErrorContains(t, err, "comments.yaml: MT1004 there is no document in it")
	require.Len(t, files, 2, "they are looked after")

	_, _, err = Load([]string{write("large.yaml", strings.Repeat("#", maxFile+1))})
	require.ErrorContains(t, err, "large.yaml: MT1002 larger than 16 MiB")

	text, err := Beside([]string{one}, nil)("some/b.yml")
	require.NoError(t, err)
	require.Equal(t, virtualService, string(text))
}
