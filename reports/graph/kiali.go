package graph

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The shape of Kiali's graph (kiali, graph/config/common/common.go). All rates are strings: two decimals per second, percentages one.
type (
	kiali struct {
		Timestamp int64    `json:"timestamp"` // seconds since 1970
		Duration  int64    `json:"duration"`  // seconds
		GraphType string   `json:"graphType"`
		Elements  elements `json:"elements"`
	}
	elements struct {
		Nodes []wrapped[nodeData] `json:"nodes"`
		Edges []wrapped[edgeData] `json:"edges"`
	}
	wrapped[T any] struct {
		Data T `json:"data"`
	}
	nodeData struct {
		ID           string        `json:"id"`
		NodeType     string        `json:"nodeType"`
		Cluster      string        `json:"cluster"`
		Namespace    string        `json:"namespace"`
		Workload     string        `json:"workload,omitempty"`
		App          string        `json:"app,omitempty"`
		Version      string        `json:"version,omitempty"`
		Service      string        `json:"service,omitempty"`
		DestServices []serviceName `json:"destServices,omitempty"`
		Traffic      []traffic     `json:"traffic,omitempty"`
		HealthData   any           `json:"healthData"`
		IsOutside    bool          `json:"isOutside,omitempty"`
		IsRoot       bool          `json:"isRoot,omitempty"`
	}
	serviceName struct {
		Cluster   string `json:"cluster"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	edgeData struct {
		ID           string  `json:"id"`
		Source       string  `json:"source"`
		Target       string  `json:"target"`
		IsMTLS       string  `json:"isMTLS,omitempty"`       // percentage
		ResponseTime string  `json:"responseTime,omitempty"` // milliseconds
		Throughput   string  `json:"throughput,omitempty"`
		Traffic      traffic `json:"traffic"`
	}
	traffic struct {
		Protocol  string               `json:"protocol"`
		Rates     map[string]string    `json:"rates,omitempty"`
		Responses map[string]responses `json:"responses,omitempty"`
	}
	responses struct {
		Flags map[string]string `json:"flags,omitempty"`
		Hosts map[string]string `json:"hosts,omitempty"`
	}
)

const unknown = "unknown"

// WriteJSON writes the graph in Kiali's shape. The same graph is the same bytes.
func (g *Graph) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(g.kiali()); err != nil {
		return fmt.Errorf("writing the graph: %w", err)
	}
	return nil
}

func (g *Graph) kiali() kiali {
	k := kiali{
		Timestamp: g.At.Unix(), Duration: int64(g.Window.Seconds()), GraphType: map[By]string{ByApp: "app", ByVersion: "versionedApp", ByWorkload: "workload"}[g.By],
		Elements: elements{[]wrapped[nodeData]{}, []wrapped[edgeData]{}},
	}
	for _, n := range g.Nodes() {
		k.Elements.Nodes = append(k.Elements.Nodes, wrapped[nodeData]{g.nodeData(n)})
	}
	for _, e := range g.Edges() {
		k.Elements.Edges = append(k.Elements.Edges, wrapped[edgeData]{g.edgeData(e)})
	}
	slices.SortFunc(k.Elements.Edges, func(a, b wrapped[edgeData]) int {
		return cmp.Or(cmp.Compare(a.Data.Source, b.Data.Source), cmp.Compare(a.Data.Target, b.Data.Target), cmp.Compare(a.Data.Traffic.Protocol, b.Data.Traffic.Protocol))
	})
	return k
}

// id is the node's identity and type in Kiali (graph/types.go, Id).
func (g *Graph) id(n *Node) (id, nodeType string) {
	cluster, namespace := cmp.Or(n.Cluster, unknown), cmp.Or(n.Namespace, unknown)
	join := func(kind, name string) string {
		return hashed(strings.Join([]string{kind, cluster, namespace, name}, "_"))
	}
	switch {
	case n.App == "" && n.Workload.Name == "" && n.Service == "":
		return hashed(cluster + "_unknown_source"), unknown
	case n.App == "" && n.Workload.Name == "":
		return join("svc", n.Service), "service"
	case n.App == "" || g.By == ByWorkload && n.Workload.Name != "":
		return join("wl", n.Workload.Name), "workload"
	case g.By == ByVersion && n.Workload.Name != "":
		return join("vapp", n.Workload.Name), "app"
	case g.By == ByVersion && n.Version != "":
		return join("vapp", n.App+"_"+n.Version), "app"
	default:
		return join("app", n.App), "app"
	}
}

func hashed(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func (g *Graph) nodeData(n *Node) nodeData {
	id, kind := g.id(n)
	d := nodeData{
		ID: id, NodeType: kind, Cluster: cmp.Or(n.Cluster, unknown), Namespace: cmp.Or(n.Namespace, unknown), Workload: n.Workload.Name, App: n.App, Version: n.Version, Service: n.Service,
		IsOutside: kind == "service" || kind == unknown, IsRoot: len(n.In) == 0,
	}
	if kind == unknown {
		d.Workload, d.App, d.Version = unknown, unknown, unknown
	}
	for _, host := range slices.Sorted(maps.Keys(n.services)) {
		if name, namespace := serviceOf(host); kind != "service" && name != "" {
			d.DestServices = append(d.DestServices, serviceName{d.Cluster, cmp.Or(namespace, d.Namespace), name})
		}
	}
	for _, protocol := range []string{http, grpc, tcp} {
		rates := map[string]string{}
		g.rates(rates, sumOf(n.In, protocol), protocol, "In")
		g.rates(rates, sumOf(n.Out, protocol), protocol, "Out")
		if len(rates) > 0 {
			d.Traffic = append(d.Traffic, traffic{Protocol: protocol, Rates: rates})
		}
	}
	return d
}

// serviceOf takes a host of the cluster apart; any other is its own name.
func serviceOf(host string) (name, namespace string) {
	if short, ok := strings.CutSuffix(host, ".svc.cluster.local"); ok {
		name, namespace, _ = strings.Cut(short, ".")
		return name, namespace
	}
	return host, ""
}

// sum is the traffic of several edges.
type sum struct{ all, c3xx, c4xx, c5xx, none, failed float64 }

func sumOf(edges []*Edge, protocol string) (s sum) {
	for _, e := range edges {
		if e.Protocol != protocol {
			continue
		}
		s.all += e.Count
		s.failed += e.Failed
		if len(e.responses) == 0 {
			s.c5xx += e.Failed
		}
		for _, code := range slices.Sorted(maps.Keys(e.responses)) { // in order, so that sums are the same each time
			switch n := e.responses[code].count; code[0] {
			case '0':
				s.none += n
			case '3':
				s.c3xx += n
			case '4':
				s.c4xx += n
			case '5':
				s.c5xx += n
			}
		}
	}
	return s
}

// rates writes the rates of one direction of a node, or with direction "" of an edge, that are not 0.
func (g *Graph) rates(into map[string]string, s sum, protocol, direction string) {
	put := func(suffix string, count float64) {
		if count > 0 {
			into[protocol+direction+suffix] = strconv.FormatFloat(g.perSecond(count), 'f', 2, 64)
		}
	}
	put("", s.all)
	switch {
	case direction == "Out" || protocol == tcp:
	case protocol == grpc:
		put("Err", s.failed)
	default:
		put("3xx", s.c3xx)
		put("4xx", s.c4xx)
		put("5xx", s.c5xx)
		put("NoResponse", s.none)
	}
}

func (g *Graph) edgeData(e *Edge) edgeData {
	source, _ := g.id(e.From)
	target, _ := g.id(e.To)
	s := sumOf([]*Edge{e}, e.Protocol)
	rates := map[string]string{}
	g.rates(rates, s, e.Protocol, "")
	if e.Protocol != tcp {
		errors := s.failed
		if e.Protocol == http {
			errors = s.c4xx + s.c5xx + s.none
		}
		if errors > 0 {
			rates[e.Protocol+"PercentErr"] = percent(errors, e.Count)
		}
		rates[e.Protocol+"PercentReq"] = percent(e.Count, sumOf(e.From.Out, e.Protocol).all)
	}
	d := edgeData{
		ID: hashed(source + "." + target + "." + e.Protocol), Source: source, Target: target, Traffic: traffic{Protocol: e.Protocol, Rates: rates, Responses: e.percentages()},
	}
	if e.mtls > 0 {
		d.IsMTLS = strconv.FormatFloat(100*e.mtls/e.Count, 'f', 0, 64)
	}
	if p := e.Quantile95(); p > 0 {
		d.ResponseTime = strconv.FormatFloat(float64(p.Microseconds())/1000, 'f', 0, 64)
	}
	return d
}

func (e *Edge) percentages() map[string]responses {
	if len(e.responses) == 0 {
		return nil
	}
	share := func(counts map[string]float64) map[string]string {
		shares := map[string]string{}
		for name, n := range counts {
			shares[name] = percent(n, e.Count)
		}
		return shares
	}
	all := map[string]responses{}
	for code, r := range e.responses {
		if code == "0" && e.Protocol != grpc {
			code = "-"
		}
		all[code] = responses{share(r.flags), share(r.hosts)}
	}
	return all
}

func percent(part, whole float64) string { return strconv.FormatFloat(100*part/whole, 'f', 1, 64) }
