package route

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
)

func head(t testing.TB, path, host string) *http1.Head {
	t.Helper()
	return headWith(t, "GET", path, host, "")
}

// headWith is a parsed request with more header lines.
func headWith(t testing.TB, method, path, host, more string) *http1.Head {
	t.Helper()
	raw := method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\nX-Request-Id: users-123456\r\n" +
		"X-Dev-User: user-700\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nContent-Type: text/plain\r\n" + more + "\r\n"
	var h http1.Head
	_, err := http1.ParseRequest([]byte(raw), &h, http1.DefaultLimits())
	require.NoError(t, err)
	return &h
}

func manyHosts(n int) *mesh.Snapshot {
	s := mesh.NewSnapshot()
	for i := range n {
		host := mesh.FQDN(fmt.Sprintf("service-%d", i), "default")
		s.Services[host] = &mesh.Service{Host: host, Ports: []mesh.Port{{Number: 8080, Protocol: mesh.HTTP}}}
		s.Endpoints[mesh.HostPort(host, 8080)] = &mesh.Endpoints{Host: host, Port: 8080}
		s.Routes[mesh.HostPort(host, 8080)] = &mesh.RouteTable{Host: host, Port: 8080, Routes: []mesh.Route{
			{Name: "canary", Matches: []mesh.Match{{Headers: header("x-dev-user", exact("me"))}}, Split: []mesh.Destination{{Host: host, Port: 8080, Weight: 1}}},
			{Name: "primary", Split: []mesh.Destination{{Host: host, Port: 8080, Weight: 95}, {Host: host, Port: 8080, Weight: 5}}},
		}}
	}
	return s
}

// shapes are tables of rules that differ in one way each, and a request that takes one of the later ones.
func shapes() map[string]*mesh.RouteTable {
	table := func(match func(i int) mesh.Match) *mesh.RouteTable {
		t := &mesh.RouteTable{Host: middleware, Port: 8080}
		for i := range 1000 {
			t.Routes = append(t.Routes, mesh.Route{Name: fmt.Sprintf("r%d", i), Matches: []mesh.Match{match(i)}, Direct: &mesh.DirectResponse{Status: 200}})
		}
		return t
	}
	return map[string]*mesh.RouteTable{
		"exact":  table(func(i int) mesh.Match { return mesh.Match{Path: exact(fmt.Sprintf("/api/v1/items-%d/list", i))} }),
		"prefix": table(func(i int) mesh.Match { return mesh.Match{Path: prefix(fmt.Sprintf("/api/v1/items-%d/", i))} }),
		"regex": table(func(i int) mesh.Match {
			return mesh.Match{Path: regex(fmt.Sprintf("/api/v1/items-%d/[a-z]+", i))}
		}),
		"header": table(func(i int) mesh.Match {
			return mesh.Match{Headers: header("x-dev-user", exact(fmt.Sprintf("user-%d", i)))}
		}),
		"mixed": table(func(i int) mesh.Match {
			m := mesh.Match{Method: exact("GET")}
			switch i % 4 {
			case 0:
				m.Path = exact(fmt.Sprintf("/api/v1/items-%d/list", i))
			case 1:
				m.Path = prefix(fmt.Sprintf("/api/v1/items-%d/", i))
			case 2:
				m.Headers = header("x-dev-user", exact(fmt.Sprintf("user-%d", i)))
			default:
				m.Path, m.Headers = prefix("/api/"), header("x-dev-user", exact(fmt.Sprintf("user-%d", i)))
			}
			return m
		}),
	}
}

var sinkHit Hit

func BenchmarkLookupAmong5000Hosts(b *testing.B) {
	r := compile(b, manyHosts(5000))
	req := head(b, "/api/v1/items-700/list", "Service-4321:8080")
	b.ReportAllocs()
	for b.Loop() {
		sinkHit = r.TableFor(req.Host()).Lookup(req)
	}
	require.Equal(b, "primary", sinkHit.Rule.Name)
}

func BenchmarkLookupAmong1000Rules(b *testing.B) {
	req := head(b, "/api/v1/items-700/list", "middleware")
	for name, table := range shapes() {
		b.Run(name, func(b *testing.B) {
			compiled := compileTable(b, table).Table(middleware, 8080)
			b.ReportAllocs()
			for b.Loop() {
				sinkHit = compiled.Lookup(req)
			}
			require.Equal(b, "r700", sinkHit.Rule.Name)
		})
	}
}

func BenchmarkChoose(b *testing.B) {
	rule := compile(b, chain(5)).Table(middleware, 8080).Lookup(&View{}).Rule
	req := head(b, "/", "middleware")
	b.ReportAllocs()
	for b.Loop() {
		rule.Choose(42, req, "users-123456")
	}
}

func BenchmarkRecompileOneOf5000(b *testing.B) {
	s := manyHosts(5000)
	r := compile(b, s)
	name := mesh.HostPort(mesh.FQDN("service-7", "default"), 8080)
	b.ReportAllocs()
	for b.Loop() {
		table := *s.Routes[name]
		s.Routes[name] = &table
		next, err := Recompile(r, s, webCaller)
		require.NoError(b, err)
		r = next
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	req := head(t, "/api/v1/items-700/list", "Service-21:8080")
	r := compile(t, manyHosts(50))
	rule := compile(t, chain(5)).Table(middleware, 8080).Lookup(&View{}).Rule
	require.Zero(t, testing.AllocsPerRun(100, func() { sinkHit = r.TableFor(req.Host()).Lookup(req) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { rule.Choose(1, req, "users-1234567890123456789012345678901234567890") }))
	for name, table := range shapes() {
		compiled := compileTable(t, table).Table(middleware, 8080)
		require.Zero(t, testing.AllocsPerRun(100, func() { sinkHit = compiled.Lookup(req) }), name)
		require.Equal(t, "r700", sinkHit.Rule.Name, name)
	}
}
