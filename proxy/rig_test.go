package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// patience bounds every wait of a test for something that must happen.
const patience = 30 * time.Second

// ample is a timeout that a test waits for, and within which whoever answers at once has answered on a machine as slow as may be.
const ample = 2 * time.Second

// rig is a server with its configuration, on real sockets.
type rig struct {
	t        testing.TB
	srv      *Server
	evidence *telemetry.Evidence
	snapshot *mesh.Snapshot
	inbound  *mesh.Inbound
	stop     context.CancelFunc
	done     chan struct{}
	counter  uint64
}

const instance = "frontend-v1-0"

// newRig starts a server for one workload; change may be nil.
func newRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	workload := mesh.Workload{Name: "frontend-v1", Namespace: mesh.DefaultNamespace, Service: "frontend", Version: "v1", Instance: instance, Labels: mesh.Labels{mesh.LabelApp: "frontend", mesh.LabelVersion: "v1"}}
	r := &rig{
		t: t, snapshot: mesh.NewSnapshot(), inbound: &mesh.Inbound{Workload: workload, Seed: 7}, done: make(chan struct{}),
		evidence: telemetry.NewEvidence(telemetry.EvidenceOptions{Instance: instance, Interval: 5 * time.Millisecond}),
	}
	opts := Options{Workload: workload, EdgeToken: "open sesame", Evidence: r.evidence, Timeouts: Timeouts{Drain: patience}}
	if change != nil {
		change(&opts)
	}
	r.srv = New(opts)
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() {
		defer close(r.done)
		_ = r.srv.Run(ctx)
	}()
	telling := make(chan struct{})
	go func() {
		defer close(telling)
		r.evidence.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
		<-telling
	})
	return r
}

// service adds a service on port 80 whose endpoints, by version, are at the addresses.
func (r *rig) service(name string, protocol mesh.Protocol, addresses map[string][]string) string {
	host := mesh.FQDN(name, mesh.DefaultNamespace)
	svc := &mesh.Service{Host: host, Ports: []mesh.Port{{Number: 80, Protocol: protocol}}}
	eps := &mesh.Endpoints{Host: host, Port: 80}
	for version, list := range addresses {
		labels := mesh.Labels{mesh.LabelApp: name, mesh.LabelVersion: version}
		svc.Subsets = append(svc.Subsets, mesh.Subset{Name: version, Labels: mesh.Labels{mesh.LabelVersion: version}})
		for _, address := range list {
			h, p, err := net.SplitHostPort(address)
			require.NoError(r.t, err)
			port, err := strconv.Atoi(p)
			require.NoError(r.t, err)
			eps.Endpoints = append(eps.Endpoints, mesh.Endpoint{Address: h, Port: port, Workload: mesh.WorkloadName(name, version), Labels: labels})
		}
	}
	r.snapshot.Services[host] = svc
	r.snapshot.Endpoints[mesh.HostPort(host, 80)] = eps
	return host
}

// routes sets the table of a host.
func (r *rig) routes(host string, routes ...mesh.Route) {
	r.snapshot.Routes[mesh.HostPort(host, 80)] = &mesh.RouteTable{Host: host, Port: 80, Routes: routes}
}

// outbound adds a listener for a host, and returns its address.
func (r *rig) outbound(host string, protocol mesh.Protocol) string {
	bind := testport.Loopback(r.t)
	r.inbound.Outbound = append(r.inbound.Outbound, mesh.OutboundPort{Bind: bind, Host: host, Port: 80, Protocol: protocol})
	return bind
}

// apply applies everything that the rig holds.
func (r *rig) apply() {
	r.t.Helper()
	require.NoError(r.t, r.tryApply())
}

func (r *rig) tryApply() error {
	in := *r.inbound
	r.snapshot.Inbound[instance] = &in
	r.counter++
	return r.srv.Apply(mesh.Update{Generation: mesh.Generation{Epoch: 1, Counter: r.counter}, Kind: mesh.KindInbound, Set: r.snapshot.Clone()})
}

// evidenceOf waits until the server has told of n requests, and returns the cells and errors.
func (r *rig) evidenceOf(n uint64) (cells []mesh.EvidenceCell, errs []mesh.EvidenceError, edges []mesh.EdgeCount) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for seen, from := uint64(0), uint64(0); seen < n; {
		b, err := r.evidence.Next(ctx, from)
		require.NoError(r.t, err, "waiting for evidence of %d requests, got %d", n, seen)
		from = b.Seq + 1
		for _, c := range b.Cells {
			seen += c.Requests
		}
		cells, errs, edges = append(cells, b.Cells...), append(errs, b.Errors...), append(edges, b.Edges...)
	}
	return cells, errs, edges
}

// split is a route to one subset of a host.
func split(host, subset string) mesh.Route {
	return mesh.Route{Name: "r", Split: []mesh.Destination{{Host: host, Subset: subset, Port: 80, Weight: 100}}}
}

// origin is a scripted upstream: each connection is carried by the script, and all bytes that arrive are recorded.
type origin struct {
	address string
	mu      sync.Mutex
	seen    bytes.Buffer
	conns   int
	open    map[net.Conn]bool
}

// talk is one connection of an origin.
type talk struct {
	net.Conn
	r *bufio.Reader
	n int // of the connection, from 1
}

// newOrigin starts an origin.
func newOrigin(t *testing.T, script func(*talk)) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	o := &origin{address: l.Addr().String(), open: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns++
			n := o.conns
			o.open[c] = true
			o.mu.Unlock()
			all.Go(func() {
				defer c.Close()
				script(&talk{Conn: c, r: bufio.NewReader(io.TeeReader(c, o)), n: n})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		o.mu.Lock()
		for c := range o.open {
			c.Close()
		}
		o.mu.Unlock()
		all.Wait()
	})
	return o
}

// Write records.
func (o *origin) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen.Write(p)
}

func (o *origin) bytes() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen.String()
}

func (o *origin) connections() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conns
}

// head reads a head, up to the empty line; "" at the end of the connection.
func (k *talk) head() string {
	var b strings.Builder
	for {
		line, err := k.r.ReadString('\n')
		if err != nil {
			return ""
		}
		if b.WriteString(line); line == "\r\n" {
			return b.String()
		}
	}
}

func (k *talk) say(s string) { _, _ = io.WriteString(k, s) }

// request reads a request with its body by net/http; nil at the end.
func (k *talk) request() (*http.Request, string) {
	req, err := http.ReadRequest(k.r)
	if err != nil {
		return nil, ""
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, ""
	}
	return req, string(body)
}

// answering answers every request with the status and the body.
func answering(status int, body string, headers ...string) func(*talk) {
	return func(k *talk) {
		for {
			if req, _ := k.request(); req == nil {
				return
			}
			k.say(answer(status, body, headers...))
		}
	}
}

// echoing answers every request with its own body.
func echoing(k *talk) {
	for {
		req, body := k.request()
		if req == nil {
			return
		}
		k.say(answer(200, body))
	}
}

// holding answers every request with its path and its body, each when it is released.
func holding(release <-chan struct{}) func(*talk) {
	return func(k *talk) {
		for {
			req, body := k.request()
			if req == nil {
				return
			}
			<-release
			k.say(answer(200, req.URL.Path+body))
		}
	}
}

func answer(status int, body string, headers ...string) string {
	return "HTTP/1.1 " + strconv.Itoa(status) + " X\r\n" + strings.Join(append(headers, ""), "\r\n") + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// caller is a raw client.
type caller struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func call(t *testing.T, address string) *caller {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { c.Close() })
	return &caller{Conn: c, t: t, r: bufio.NewReader(c)}
}

// say sends something, behind which all that comes next may take as long as any wait.
func (c *caller) say(s string) {
	c.t.Helper()
	require.NoError(c.t, c.SetDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(c, s)
	require.NoError(c.t, err)
}

// reply reads an answer to a request of the method.
func (c *caller) reply(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	require.NoError(c.t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return resp, string(body)
}

// get sends a GET with more header lines, and reads the answer.
func (c *caller) get(path string, lines ...string) (*http.Response, string) {
	c.t.Helper()
	c.say("GET " + path + " HTTP/1.1\r\nHost: backend\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n")
	return c.reply("GET")
}

// ends waits until the other side closes, and returns what came before.
func (c *caller) ends() string {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	require.NoError(c.t, err)
	return string(rest)
}

// simple is a rig with one upstream, and its outbound listener.
func simple(t *testing.T, script func(*talk), change func(*Options)) (*rig, *origin, string) {
	t.Helper()
	o := newOrigin(t, script)
	r := newRig(t, change)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	return r, o, at
}

func newArm() *route.Arm { return &route.Arm{EdgeName: "a->b", Endpoints: "b:80"} }

// tells waits until the metrics tell all parts: a request is counted after its answer is sent.
func (r *rig) tells(parts ...string) {
	r.t.Helper()
	for _, part := range parts {
		require.Eventually(r.t, func() bool { return strings.Contains(r.metrics(), part) }, patience, time.Millisecond, "the metrics do not tell %s", part)
	}
}

func (r *rig) metrics() string {
	return string(r.srv.opts.Counters.AppendText(r.srv.opts.Metrics.AppendText(nil)))
}
