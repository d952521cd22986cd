package graph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/metrics"
	"meshtest.dev/meshtest/metrics/promql"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/reports"
	"meshtest.dev/meshtest/reports/graph"
)

func workload(app, version string) graph.Workload {
	return graph.Workload{Namespace: "default", App: app, Version: version, Name: app + "-" + version}
}

// shop is the edge, web and two versions of api, a database, something outside, a caller without a sidecar, and two that call each other.
func shop(by graph.By) *graph.Graph {
	g := graph.New(by, time.Unix(1000, 0), 10*time.Second)
	add := func(from, to graph.Workload, host, protocol, code, grpc, flags string, count float64) {
		g.Add(graph.Flow{From: from, To: to, Host: host, Protocol: protocol, Code: code, GRPC: grpc, Flags: flags, Count: count})
	}
	host := func(name string) string { return name + ".default.svc.cluster.local" }
	edge, web, api1, api2, db := workload("edge", "v1"), workload("web", "v1"), workload("api", "v1"), workload("api", "v2"), workload("db", "v1")
	add(edge, web, host("web"), "http", "200", "", "-", 90)
	add(edge, web, host("web"), "http", "404", "", "-", 10)
	add(web, api1, host("api"), "http", "200", "", "-", 150)
	add(web, api2, host("api"), "http", "200", "", "-", 30)
	add(web, api2, host("api"), "http", "503", "", "UF,URX", 15)
	add(web, api2, host("api"), "http", "0", "", "DC", 5)
	add(web, graph.Workload{}, "time.example.com", "http", "502", "", "NR", 3)
	add(api1, db, host("db"), "tcp", "", "", "-", 20480)
	add(graph.Workload{}, web, host("web"), "http", "200", "", "-", 1)
	ping, pong := workload("ping", "v1"), workload("pong", "v1")
	add(ping, pong, host("pong"), "grpc", "200", "0", "-", 3)
	add(ping, pong, host("pong"), "grpc", "200", "14", "-", 1)
	add(pong, ping, host("ping"), "grpc", "200", "0", "-", 4)
	add(pong, ping, host("ping"), "grpc", "200", "0", "-", 0) // nothing
	return g
}

func text(t *testing.T, g *graph.Graph) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, g.WriteText(&b))
	return b.String()
}

func TestText(t *testing.T) {
	t.Parallel()
	require.Equal(t, `edge
└─ web  http 10.0/s
   ├─ api  http 20.0/s, 10.0 % failed
   │  └─ db  tcp 2.0 KiB/s
   └─ time.example.com  http 0.3/s, 100.0 % failed
unknown
└─ web  http 0.1/s  (see above)
ping
└─ pong  grpc 0.4/s, 25.0 % failed
   └─ ping  grpc 0.4/s  (see above)
`, text(t, shop(graph.ByApp)))
	require.Contains(t, text(t, shop(graph.ByVersion)), "├─ api@v1  http 15.0/s\n")
	require.Contains(t, text(t, shop(graph.ByWorkload)), "api-v2  http 5.0/s, 40.0 % failed\n")
	require.Empty(t, text(t, graph.New(graph.ByApp, time.Unix(0, 0), 0)))
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"web":                           "web\n├─ api  http 20.0/s, 10.0 % failed\n│  └─ db  tcp 2.0 KiB/s\n└─ time.example.com  http 0.3/s, 100.0 % failed\n",
		"web.default":                   "web\n├─ api  http 20.0/s, 10.0 % failed\n│  └─ db  tcp 2.0 KiB/s\n└─ time.example.com  http 0.3/s, 100.0 % failed\n",
		"api.default.svc.cluster.local": "api\n└─ db  tcp 2.0 KiB/s\n",
		"db":                            "db\n",
		"time.example.com":              "time.example.com\n",
		"pong":                          "ping\n└─ pong  grpc 0.4/s, 25.0 % failed\n   └─ ping  grpc 0.4/s  (see above)\n",
	} {
		part, ok := shop(graph.ByApp).DependenciesOf(name)
		require.True(t, ok, name)
		require.Equal(t, want, text(t, part), name)
	}
	part, ok := shop(graph.ByVersion).DependenciesOf("api")
	require.True(t, ok)
	require.Equal(t, "api@v1\n└─ db@v1  tcp 2.0 KiB/s\napi@v2\n", text(t, part))
	_, ok = shop(graph.ByVersion).DependenciesOf("api@v1")
	require.True(t, ok)
	_, ok = shop(graph.ByApp).DependenciesOf("nobody")
	require.False(t, ok)
}

func TestDOT(t *testing.T) {
	t.Parallel()
	g := graph.New(graph.ByApp, time.Unix(0, 0), time.Second)
	g.Add(graph.Flow{From: workload("a\"\\", "v1"), To: workload("b", "v1"), Protocol: "http", Code: "500", Count: 1})
	g.Add(graph.Flow{From: workload("b", "v1"), To: graph.Workload{}, Host: "x", Protocol: "http", Code: "200", Count: 1})
	var b bytes.Buffer
	require.NoError(t, g.WriteDOT(&b))
	require.Equal(t, `digraph mesh {
  rankdir=LR;
  node [shape=box, style=rounded];
  n0 [label="x", style=dashed];
  n1 [label="a\"\\"];
  n2 [label="b"];
  n1 -> n2 [label="http 1.0/s, 100.0 % failed", color=red];
  n2 -> n0 [label="http 1.0/s"];
}
`, b.String())
}

// kiali is what a reader of Kiali's graph reads.
type kiali struct {
	Timestamp, Duration int64
	GraphType           string
	Elements            struct {
		Nodes []struct {
			Data struct {
				ID, NodeType, Cluster, Namespace, Workload, App, Version, Service string
				DestServices                                                      []struct{ Cluster, Namespace, Name string }
				Traffic                                                           []traffic
				IsRoot                                                            bool
			}
		}
		Edges []struct {
			Data struct {
				ID, Source, Target, IsMTLS, ResponseTime string
				Traffic                                  traffic
			}
		}
	}
}

type traffic struct {
	Protocol  string
	Rates     map[string]string
	Responses map[string]struct{ Flags, Hosts map[string]string }
}

func read(t *testing.T, g *graph.Graph) kiali {
	t.Helper()
	var b, again bytes.Buffer
	require.NoError(t, g.WriteJSON(&b))
	require.NoError(t, g.WriteJSON(&again))
	require.Equal(t, b.String(), again.String())
	var k kiali
	dec := json.NewDecoder(&b)
	require.NoError(t, dec.Decode(&k))
	return k
}

func TestJSONIsKialis(t *testing.T) {
	t.Parallel()
	k := read(t, shop(graph.ByVersion))
	require.EqualValues(t, 1000, k.Timestamp)
	require.EqualValues(t, 10, k.Duration)
	require.Equal(t, "versionedApp", k.GraphType)
	ids := map[string]string{}
	rates := map[string][]traffic{}
	for _, n := range k.Elements.Nodes {
		d := n.Data
		name := d.App + d.Version + d.Service
		require.Len(t, d.ID, 64)
		ids[d.ID] = name
		rates[name] = d.Traffic
		require.Equal(t, "unknown", d.Cluster)
		require.Equal(t, name == "edgev1" || d.NodeType == "unknown", d.IsRoot, name)
		if name == "apiv2" {
			require.Equal(t, "app", d.NodeType)
			require.Equal(t, "api-v2", d.Workload)
			require.Equal(t, []struct{ Cluster, Namespace, Name string }{{"unknown", "default", "api"}}, d.DestServices)
		}
	}
	require.Len(t, ids, 9)
	require.Equal(t, []traffic{{Protocol: "http", Rates: map[string]string{"httpIn": "5.00", "httpIn5xx": "1.50", "httpInNoResponse": "0.50"}}}, rates["apiv2"])
	require.Equal(t, []traffic{{Protocol: "http", Rates: map[string]string{"httpIn": "10.10", "httpIn4xx": "1.00", "httpOut": "20.30"}}}, rates["webv1"])
	require.Equal(t, []traffic{{Protocol: "grpc", Rates: map[string]string{"grpcIn": "0.40", "grpcInErr": "0.10", "grpcOut": "0.40"}}}, rates["pongv1"])
	require.Equal(t, []traffic{{Protocol: "tcp", Rates: map[string]string{"tcpIn": "2048.00"}}}, rates["dbv1"])

	edges := map[string]traffic{}
	for i, e := range k.Elements.Edges {
		if i > 0 {
			before := k.Elements.Edges[i-1].Data
			require.LessOrEqual(t, before.Source+before.Target, e.Data.Source+e.Data.Target)
		}
		edges[ids[e.Data.Source]+">"+ids[e.Data.Target]] = e.Data.Traffic
	}
	require.Len(t, edges, 8)
	flagged := edges["webv1>apiv2"]
	require.Equal(t, map[string]string{"http": "5.00", "http5xx": "1.50", "httpNoResponse": "0.50", "httpPercentErr": "40.0", "httpPercentReq": "24.6"}, flagged.Rates)
	require.Equal(t, map[string]string{"UF,URX": "30.0"}, flagged.Responses["503"].Flags)
	require.Equal(t, map[string]string{"api.default.svc.cluster.local": "60.0"}, flagged.Responses["200"].Hosts)
	require.Equal(t, map[string]string{"DC": "10.0"}, flagged.Responses["-"].Flags)
	require.Equal(t, map[string]string{"grpc": "0.40", "grpcErr": "0.10", "grpcPercentErr": "25.0", "grpcPercentReq": "100.0"}, edges["pingv1>pongv1"].Rates)

	require.Equal(t, "app", read(t, shop(graph.ByApp)).GraphType)
	require.Equal(t, "workload", read(t, shop(graph.ByWorkload)).GraphType)
	empty := read(t, graph.New(graph.ByApp, time.Unix(0, 0), 0))
	require.NotNil(t, empty.Elements.Nodes)
	require.NotNil(t, empty.Elements.Edges)
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	var fast hist.Histogram
	for range 100 {
		fast.Record(10 * time.Millisecond)
	}
	block := func(start, end time.Duration, cells ...journal.Cell) journal.Evidence {
		return journal.Evidence{Start: start, End: end, Cells: cells}
	}
	g, err := graph.FromEvidence(graph.ByVersion, time.Unix(1000, 0), []journal.Evidence{
		block(time.Second, 2*time.Second), // idle
		block(5*time.Second, 6*time.Second, journal.Cell{From: "edge", To: "web", Version: "v1", Requests: 100, Failed: 0, Latency: fast.AppendSparse(nil)}),
		block(9*time.Second, 15*time.Second,
			journal.Cell{From: "edge", To: "web", Version: "v1", Requests: 100, Failed: 20}, journal.Cell{From: "web", To: "api.prod", Version: "v2", Requests: 50},
			journal.Cell{From: "web", To: "time.example.com", Requests: 5, Failed: 5}),
	}, []journal.Connections{{From: "web", To: "db", Opened: 3, Received: 1, Sent: 10 << 10}, {From: "web", To: "idle", Opened: 1}})
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, g.Window)
	require.Equal(t, time.Unix(1015, 0), g.At)
	// callers have no version in evidence, so what is called and calls is two nodes by version
	byApp, err := graph.FromEvidence(graph.ByApp, time.Unix(1000, 0), []journal.Evidence{
		block(0, time.Second, journal.Cell{From: "edge", To: "web", Version: "v1", Requests: 10, Failed: 2}, journal.Cell{From: "web", To: "api.prod", Version: "v2", Requests: 5}),
	}, nil)
	require.NoError(t, err)
	require.Equal(t, "edge\n└─ web  http 10.0/s, 20.0 % failed\n   └─ api.prod  http 5.0/s\n", text(t, byApp))
	require.Contains(t, text(t, g), "web@v1  http 20.0/s, 10.0 % failed, p95 10")
	require.Contains(t, text(t, g), "time.example.com  http 0.5/s, 100.0 % failed")
	require.Contains(t, text(t, g), "db  tcp 1.0 KiB/s")

	_, err = graph.FromEvidence(graph.ByApp, time.Unix(0, 0), []journal.Evidence{block(0, 1, journal.Cell{From: "a", To: "b", Requests: 1, Latency: []uint64{1}})}, nil)
	require.ErrorContains(t, err, "block 0")
}

func TestEvidenceOfARun(t *testing.T) {
	t.Parallel()
	story, err := reports.Open(filepath.Join("..", "..", "fixtures", "journals", "promoted"))
	require.NoError(t, err)
	g, err := graph.FromEvidence(graph.ByApp, story.Started.Wall, story.Evidence, story.Connections)
	require.NoError(t, err)
	require.NotEmpty(t, g.Edges())
	require.Contains(t, text(t, g), "middleware  http ")
}

// Observe asks a real engine about what sidecars expose.
func TestObserve(t *testing.T) {
	t.Parallel()
	standard := telemetry.NewMetrics(telemetry.MetricsOptions{})
	peer := func(name, version string) telemetry.Peer {
		return telemetry.PeerOf(mesh.Workload{Name: name + "-" + version, Namespace: "default", Labels: mesh.Labels{"app": name, "version": version}})
	}
	record := func(t telemetry.Traffic, o telemetry.Outcome, n int) {
		for range n {
			standard.Requests(t).Record(o)
		}
	}
	traffic := func() {
		toWeb := telemetry.Traffic{Reporter: telemetry.Source, Source: peer("edge", "v1"), Destination: peer("web", "v1"), Host: "web.default.svc.cluster.local"}
		record(toWeb, telemetry.Outcome{Code: 200, Duration: 2 * time.Millisecond}, 30)
		record(toWeb, telemetry.Outcome{Code: 500, Duration: 2 * time.Millisecond}, 10)
		seen := toWeb
		seen.Reporter, seen.Security = telemetry.Destination, telemetry.MutualTLS
		record(seen, telemetry.Outcome{Code: 200}, 30) // both ends tell of it
		stranger := seen
		stranger.Source = telemetry.Peer{}
		record(stranger, telemetry.Outcome{Code: 200}, 10)
		toTime := telemetry.Traffic{Reporter: telemetry.Source, Source: peer("web", "v1"), Host: "time.example.com"}
		record(toTime, telemetry.Outcome{Code: 502, Duration: time.Millisecond}, 20)
		db := standard.Connections(telemetry.Traffic{Reporter: telemetry.Source, Source: peer("web", "v1"), Destination: peer("db", "v1"), Host: "db.default.svc.cluster.local"})
		db.Opened()
		db.Moved(1<<20, 1)
	}
	store, now := metrics.NewStore(metrics.Bounds{}), time.Unix(1000, 0)
	for range 5 {
		now = now.Add(time.Second)
		traffic()
		require.NoError(t, store.Take(now, map[string]string{"instance": "all"}, standard.AppendText(nil), telemetry.ContentType))
	}
	engine := promql.NewEngine(store, promql.Options{})
	asked := func(ctx context.Context, query string) ([]graph.Sample, error) {
		v, err := engine.Instant(ctx, query, now)
		var all []graph.Sample
		for _, s := range v.Series {
			all = append(all, graph.Sample{Labels: s.Labels, Value: s.Points[0].V})
		}
		return all, err
	}
	for _, by := range graph.Kinds() {
		g, err := graph.Observe(t.Context(), asked, by, now, time.Minute)
		require.NoError(t, err)
		edges := map[string]*graph.Edge{}
		for _, e := range g.Edges() {
			edges[e.From.App+e.From.Workload.Name+">"+e.To.App+e.To.Workload.Name+e.To.Service+" "+e.Protocol] = e
		}
		require.Len(t, edges, 4, "%v", edges)
		name := map[graph.By]func(string) string{
			graph.ByApp: func(n string) string { return n }, graph.ByVersion: func(n string) string { return n + n + "-v1" }, graph.ByWorkload: func(n string) string { return n + "-v1" },
		}[by]
		web := edges[name("edge")+">"+name("web")+" http"]
		require.NotNil(t, web, "%v", edges)
		require.InEpsilon(t, 0.25, web.Failed/web.Count, 0.01)
		require.Greater(t, web.P95, time.Millisecond)
		require.Less(t, web.P95, 3*time.Millisecond)
		require.NotNil(t, edges[">"+name("web")+" http"], "a caller without a sidecar")
		outside := edges[name("web")+">time.example.com http"]
		require.NotNil(t, outside)
		require.Equal(t, outside.Count, outside.Failed)
		require.NotZero(t, outside.P95)
		require.NotNil(t, edges[name("web")+">"+name("db")+" tcp"])
	}
	wrong := fmt.Errorf("nobody there")
	_, err := graph.Observe(t.Context(), func(context.Context, string) ([]graph.Sample, error) { return nil, wrong }, graph.ByApp, now, time.Minute)
	require.ErrorIs(t, err, wrong)
}
