// Package graph shows who calls whom: the graph of services as traffic has drawn it, from the series of a Prometheus or from the evidence of a run. It is told as JSON in the shape of Kiali's, for
// Graphviz, and as text, whole or only what one service depends on.
package graph

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/internal/hist"
)

// By says what a node is.
type By string

// Kinds of nodes.
const (
	ByApp      By = "app"      // an application, whatever its version
	ByVersion  By = "version"  // a version of an application
	ByWorkload By = "workload" // what runs it
)

// Kinds lists them.
func Kinds() []By { return []By{ByApp, ByVersion, ByWorkload} }

// Workload is one end of observed traffic. What is not known is empty; of someone who is no workload of the mesh everything is.
type Workload struct {
	Cluster, Namespace, App, Version, Name string
}

// Flow is traffic that was observed between two workloads and ended alike.
type Flow struct {
	From, To Workload
	Host     string  // that was called, fully qualified
	Protocol string  // http, grpc or tcp
	Count    float64 // requests; of TCP, bytes of answers
	Failed   float64 // of them; of a flow with a Code that follows from it
	Code     string  // of the answer, 0 when there was none; empty: not known
	GRPC     string  // status; empty: none
	Flags    string  // response flags
	MTLS     bool    // the destination's sidecar saw mutual TLS
	Latency  *hist.Histogram
}

// Graph is what was observed in a window.
type Graph struct {
	By     By
	At     time.Time     // end of the window
	Window time.Duration // in which everything was counted
	nodes  map[nodeKey]*Node
	edges  map[edgeKey]*Edge
}

// Node is one end of edges.
type Node struct {
	Workload        // as far as nodes of this kind are told apart by it
	Service  string // of a node that is no workload of the mesh: the host that was called
	In, Out  []*Edge
	services map[string]bool // hosts by which it was called
}

// Edge is the traffic of one protocol from one node to another.
type Edge struct {
	From, To  *Node
	Protocol  string
	Count     float64 // requests; of TCP, bytes
	Failed    float64
	Latency   hist.Histogram // of successes, where evidence has it
	P95       time.Duration  // 0: not known
	key       edgeKey
	mtls      float64
	responses map[string]*response // by code
}

// response is traffic with one code.
type response struct {
	count        float64
	flags, hosts map[string]float64
}

// nodeKey is what tells nodes apart: all of a workload that counts, or the host of someone outside.
type nodeKey struct {
	Workload
	service string
}

type edgeKey struct {
	from, to nodeKey
	protocol string
}

// New returns a graph without traffic.
func New(by By, at time.Time, window time.Duration) *Graph {
	return &Graph{By: by, At: at, Window: window, nodes: map[nodeKey]*Node{}, edges: map[edgeKey]*Edge{}}
}

// Add adds traffic. One without any draws nothing.
func (g *Graph) Add(f Flow) {
	if !(f.Count > 0) {
		return
	}
	e := g.edge(f)
	e.Count += f.Count
	if f.MTLS {
		e.mtls += f.Count
	}
	if f.Latency != nil {
		e.Latency.Merge(f.Latency)
	}
	e.To.services[f.Host] = true
	if f.Code == "" {
		e.Failed += f.Failed
		return
	}
	if f.failed() {
		e.Failed += f.Count
	}
	e.respond(f)
}

// failed reports whether the flow's answers are failures: of the server or, of gRPC, anything but OK.
func (f *Flow) failed() bool {
	return strings.HasPrefix(f.Code, "5") || f.Code == "0" || f.Protocol == grpc && f.GRPC != "" && f.GRPC != "0"
}

// Protocols.
const (
	http = "http"
	grpc = "grpc"
	tcp  = "tcp"
)

func (e *Edge) respond(f Flow) {
	code := f.Code
	if f.Protocol == grpc && f.GRPC != "" {
		code = f.GRPC
	}
	r := e.responses[code]
	if r == nil {
		r = &response{flags: map[string]float64{}, hosts: map[string]float64{}}
		e.responses[code] = r
	}
	r.count += f.Count
	r.flags[cmp.Or(f.Flags, "-")] += f.Count
	if f.Host != "" {
		r.hosts[f.Host] += f.Count
	}
}

// edge finds or makes the edge of a flow.
func (g *Graph) edge(f Flow) *Edge {
	key := edgeKey{g.key(f.From, ""), g.key(f.To, f.Host), f.Protocol}
	if e := g.edges[key]; e != nil {
		return e
	}
	e := &Edge{From: g.node(key.from), To: g.node(key.to), Protocol: f.Protocol, key: key, responses: map[string]*response{}}
	e.From.Out = append(e.From.Out, e)
	e.To.In = append(e.To.In, e)
	g.edges[key] = e
	return e
}

// key is what a workload is told by in this graph.
func (g *Graph) key(w Workload, host string) nodeKey {
	switch {
	case w.App == "" && w.Name == "":
		return nodeKey{Workload{Cluster: w.Cluster, Namespace: w.Namespace}, host}
	case g.By == ByApp && w.App != "":
		w.Version, w.Name = "", ""
	case g.By == ByWorkload && w.Name != "":
		w.App, w.Version = "", ""
	}
	return nodeKey{Workload: w}
}

func (g *Graph) node(key nodeKey) *Node {
	if n := g.nodes[key]; n != nil {
		return n
	}
	n := &Node{Workload: key.Workload, Service: key.service, services: map[string]bool{}}
	g.nodes[key] = n
	return n
}

// Nodes lists the nodes in the order of their names.
func (g *Graph) Nodes() []*Node {
	return slices.SortedFunc(maps.Values(g.nodes), compareNodes)
}

// Edges lists the edges in the order of their ends' names.
func (g *Graph) Edges() []*Edge {
	return slices.SortedFunc(maps.Values(g.edges), compareEdges)
}

func compareEdges(a, b *Edge) int {
	return cmp.Or(compareNodes(a.From, b.From), compareNodes(a.To, b.To), cmp.Compare(a.Protocol, b.Protocol))
}

// compareNodes orders as Kiali does.
func compareNodes(a, b *Node) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.App, b.App), cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Service, b.Service), cmp.Compare(a.Workload.Name, b.Workload.Name))
}

// outside reports whether the node is no workload of the mesh.
func (n *Node) outside() bool { return n.App == "" && n.Workload.Name == "" }

// defaultNamespace is left out of names, as everywhere in meshtest.
const defaultNamespace = "default"

// Label is the node's name for people: NAME, NAME@VERSION, with .NAMESPACE behind NAME outside the default one.
func (n *Node) Label() string {
	name := cmp.Or(n.App, n.Workload.Name)
	if name == "" {
		return cmp.Or(n.Service, "unknown")
	}
	if n.Namespace != "" && n.Namespace != defaultNamespace {
		name += "." + n.Namespace
	}
	if n.Version != "" {
		name += "@" + n.Version
	}
	return name
}

// is reports whether a node is called so: by its label, or by that without version, or by its workload, or by a host.
func (n *Node) is(name string) bool {
	short, _, _ := strings.Cut(n.Label(), "@")
	named := cmp.Or(n.App, n.Workload.Name)
	return name == n.Label() || name == short || name == n.Workload.Name || name == n.Service || n.services[name] ||
		named != "" && name == named+"."+n.Namespace
}

// DependenciesOf is the part of the graph that what is called so depends on: its nodes, those that they call, those that those call, and so on. ok is false when nobody is called so.
func (g *Graph) DependenciesOf(name string) (part *Graph, ok bool) {
	reached := map[*Node]bool{}
	var reach func(*Node)
	reach = func(n *Node) {
		if reached[n] {
			return
		}
		reached[n] = true
		for _, e := range n.Out {
			reach(e.To)
		}
	}
	for _, n := range g.nodes {
		if n.is(name) {
			reach(n)
		}
	}
	return g.only(reached), len(reached) > 0
}

// only is the graph with some of its nodes, and the edges between them.
func (g *Graph) only(some map[*Node]bool) *Graph {
	part := New(g.By, g.At, g.Window)
	copies := map[*Node]*Node{}
	for key, n := range g.nodes {
		if some[n] {
			c := part.node(key)
			c.services = n.services
			copies[n] = c
		}
	}
	for _, e := range g.Edges() { // in order, so that sums are the same each time
		from, to := copies[e.From], copies[e.To]
		if from == nil || to == nil {
			continue
		}
		c := *e
		c.From, c.To = from, to
		from.Out, to.In = append(from.Out, &c), append(to.In, &c)
		part.edges[e.key] = &c
	}
	return part
}

// perSecond is a rate over the window; 0 when that is unknown.
func (g *Graph) perSecond(count float64) float64 {
	if g.Window <= 0 {
		return 0
	}
	return count / g.Window.Seconds()
}

// Quantile95 is what nine in ten and a half of the successes took at most; 0: not known.
func (e *Edge) Quantile95() time.Duration {
	if e.Latency.Count() > 0 {
		return e.Latency.Quantile(0.95)
	}
	return e.P95
}
