package route

import (
	"fmt"
	"runtime"
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
		"pathPrefix": table(func(i int) mesh.Match { return mesh.Match{Path: pathPrefix(fmt.Sprintf("/api/v1/items-%d", i))} }),
		"hosts": table(func(i int) mesh.Match {
			hosts := []string{fmt.Sprintf("shop-%d.example.com", i), fmt.Sprintf("*.shop-%d.example.com", i)}
			return mesh.Match{Hosts: hosts, Path: pathPrefix("/api")}
		}),
		"header": table(func(i int) mesh.Match {
			return mesh.Match{Headers: header("x-dev-user", exact(fmt.Sprintf("user-%d", i)))}
		}),
		"mixed": table(func(i int) mesh.Match {
			m := mesh.Match{Method: exact("GET"), Hosts: []string{"*.example.com", "middleware"}}
			user := header("x-dev-user", exact(fmt.Sprintf("user-%d", i)))
			switch i % 7 {
			case 0:
				m.Path = exact(fmt.Sprintf("/api/v1/items-%d/list", i))
			case 1:
				m.Path = prefix(fmt.Sprintf("/api/v1/items-%d/", i))
			case 2:
				m.Path = pathPrefix(fmt.Sprintf("/api/v1/items-%d", i))
			case 3:
				m.Path = regex(fmt.Sprintf("/api/v1/items-%d/[a-z]+", i))
			case 4:
				m.Headers = user
			case 5:
				m.Hosts = []string{fmt.Sprintf("shop-%d.example.com", i)}
			default:
				m.Path, m.Headers, m.WithoutHeaders = pathPrefix("/api"), user, header("x-debug", nil)
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

// asking is the host of the request that takes the rule 700 of each shape.
func asking(shape string) string {
	if shape == "hosts" {
		return "www.Shop-700.example.com:8080"
	}
	return "middleware"
}

func BenchmarkLookupAmong1000Rules(b *testing.B) {
	for name, table := range shapes() {
		req := head(b, "/api/v1/items-700/list", asking(name))
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

// BenchmarkLookupOfNothing is the slowest a table can be: no rule takes the request, which has what most of them want.
func BenchmarkLookupOfNothing(b *testing.B) {
	req := head(b, "/api/v1/items-9999/list", "other.test")
	compiled := compileTable(b, shapes()["mixed"]).Table(middleware, 8080)
	b.ReportAllocs()
	for b.Loop() {
		sinkHit = compiled.Lookup(req)
	}
	require.Nil(b, sinkHit.Rule)
}

func BenchmarkLookupTLSAmong1000Names(b *testing.B) {
	t := &mesh.RouteTable{Host: middleware, Port: 8080}
	for i := range 1000 {
		t.Routes = append(t.Routes, mesh.Route{
			Name: fmt.Sprintf("r%d", i), Matches: []mesh.Match{{SNI: []string{fmt.Sprintf("*.db-%d.example.com", i)}}},
			Split: []mesh.Destination{{Host: middleware, Port: 8080, Weight: 1}},
		})
	}
	compiled := compileTable(b, t).Table(middleware, 8080)
	b.ReportAllocs()
	for b.Loop() {
		sinkHit = compiled.LookupTLS("a.DB-700.example.com")
	}
	require.Equal(b, "r700", sinkHit.Rule.Name)
}

// BenchmarkCompile5000 shows what 5,000 rules in one table take, and 5,000 hosts with a table of two rules and three arms each: time, and what is kept of it for each rule or host.
func BenchmarkCompile5000(b *testing.B) {
	one := mesh.NewSnapshot()
	table := &mesh.RouteTable{Host: middleware, Port: 8080}
	for range 5 {
		table.Routes = append(table.Routes, shapes()["mixed"].Routes...)
	}
	one.Routes[mesh.HostPort(middleware, 8080)] = table
	for name, s := range map[string]*mesh.Snapshot{"hosts": manyHosts(5000), "rules": one} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var r *Router
			for b.Loop() {
				r = compile(b, s)
			}
			b.ReportMetric(float64(kept(func() any { return compile(b, s) }))/5000, "kept-B/each")
			runtime.KeepAlive(r)
		})
	}
}

// kept is how many bytes of the heap something takes.
func kept(make func() any) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	made := make()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(made)
	return after.HeapAlloc - before.HeapAlloc
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
	require.Zero(t, testing.AllocsPerRun(100, func() { sinkHit = r.TableOn([]byte("service-21.default"), 8080).LookupTLS("a.test") }))
	require.Zero(t, testing.AllocsPerRun(100, func() { rule.Choose(1, req, "users-1234567890123456789012345678901234567890") }))
	for name, table := range shapes() {
		req := head(t, "/api/v1/items-700/list", asking(name))
		compiled := compileTable(t, table).Table(middleware, 8080)
		require.Zero(t, testing.AllocsPerRun(100, func() { sinkHit = compiled.Lookup(req) }), name)
		require.Equal(t, "r700", sinkHit.Rule.Name, name)
	}
}
