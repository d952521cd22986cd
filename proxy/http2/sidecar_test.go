package http2_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
	"meshtest.dev/meshtest/proxy/http2"
	"meshtest.dev/meshtest/proxy/socket/certtest"
)

// sidecar is a gateway before an application.
type sidecar struct {
	*proxy.Server
	plain, secure string // addresses without TLS and with it
}

var gateway = mesh.Workload{Name: "gateway", Namespace: mesh.DefaultNamespace, Service: "gateway", Instance: "gateway"}

// newSidecar runs a gateway until the test ends.
func newSidecar(t *testing.T, app string, timeouts proxy.Timeouts) *sidecar {
	t.Helper()
	timeouts.Drain = time.Second
	g := &sidecar{Server: proxy.New(proxy.Options{Workload: gateway, Timeouts: timeouts})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	for tries := 1; ; tries++ { // another program may have taken an address meanwhile
		err := g.configure(t, app)
		if err == nil {
			return g
		}
		require.Less(t, tries, 5, "%v", err)
	}
}

// configure tells the gateway where to listen, and where to send everything.
func (g *sidecar) configure(t *testing.T, app string) error {
	g.plain, g.secure = testport.Loopback(t), testport.Loopback(t)
	cert := certtest.NewAuthority(t).Issue(t, "127.0.0.1")
	host, text, err := net.SplitHostPort(app)
	require.NoError(t, err)
	number, err := strconv.Atoi(text)
	require.NoError(t, err)
	backend := mesh.FQDN("backend", mesh.DefaultNamespace)
	s, in := mesh.NewSnapshot(), &mesh.Inbound{Workload: gateway}
	s.Services[backend] = &mesh.Service{Host: backend, Ports: []mesh.Port{
		{Number: 80, Protocol: mesh.HTTP},
		{Number: 443, Protocol: mesh.HTTP, TLS: &mesh.ServerTLS{Mode: mesh.SimpleTLS, Certificates: []mesh.Certificate{{Hosts: []string{"*"}, Chain: cert.Chain, PrivateKey: cert.Key}}}},
	}}
	for port, bind := range map[int]string{80: g.plain, 443: g.secure} {
		s.Endpoints[mesh.HostPort(backend, port)] = &mesh.Endpoints{Host: backend, Port: port, Endpoints: []mesh.Endpoint{{Address: host, Port: number}}}
		in.Outbound = append(in.Outbound, mesh.OutboundPort{Bind: bind, Host: backend, Port: port, Protocol: mesh.HTTP})
	}
	s.Inbound[gateway.Instance] = in
	return g.Apply(mesh.Update{Generation: mesh.Generation{Epoch: 1, Counter: 1}, Kind: mesh.KindInbound, Set: s})
}

// application reads a request before it answers; otherwise the sidecar would have refused the rest of the request before it comes.
func application(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, answer)
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-served })
	return l.Addr().String()
}

func (g *sidecar) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", g.plain)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute))) // no wait of a test lasts for ever
	t.Cleanup(func() { c.Close() })
	return c
}

// counter is a counter of the sidecar's own, as its /stats say.
func (g *sidecar) counter(t *testing.T, metric string) (n int) {
	t.Helper()
	w := httptest.NewRecorder()
	g.Admin(nil).ServeHTTP(w, httptest.NewRequest("GET", "/stats", nil))
	for line := range strings.Lines(w.Body.String()) {
		if rest, is := strings.CutPrefix(line, "meshtest_sidecar_"+metric+" "); is {
			_, err := fmt.Sscan(rest, &n)
			require.NoError(t, err)
		}
	}
	return n
}

// serves sees that a request is answered, by a new connection.
func (g *sidecar) serves(t *testing.T, want string) {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://" + g.plain)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, want, string(body))
}

// The attacks end at a whole sidecar as they do at the codec, and /stats says why; it serves on.
func TestSidecarUnderAttack(t *testing.T) {
	t.Parallel()
	g := newSidecar(t, application(t, "still here"), proxy.Timeouts{})
	for _, x := range http2.Attacks() {
		t.Run(x.Name, func(t *testing.T) {
			metric := fmt.Sprintf("closed_total{reason=%q}", x.Reason)
			before := g.counter(t, metric)
			code, told := x.Run(t, g.dial(t))
			require.True(t, told, "nobody minds the attack")
			require.Equal(t, x.Code, code)
			require.Equal(t, before+1, g.counter(t, metric))
			g.serves(t, "still here")
		})
	}
}

// A caller who is slow loses his connection, whichever protocol he speaks.
func TestSidecarWithSlowCallers(t *testing.T) {
	t.Parallel()
	g := newSidecar(t, application(t, "still here"), proxy.Timeouts{Header: 50 * time.Millisecond, Idle: 2 * time.Second}) // who says something has said it by then
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	const ack = "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
	for _, x := range []struct{ name, sent, metric string }{
		{"HTTP/1.1: a head without end", "GET / HTTP/1.1\r\nHost: b\r\nA: ", `refused_total{reason="header_timeout"}`},
		{"HTTP/1.1: nothing", "", `closed_total{reason="idle"}`},
		{"HTTP/2: a part of the preface", preface[:20], `closed_total{reason="http2_header_timeout"}`},
		{"HTTP/2: a part of a frame", preface + settings + ack + "\x00\x00\x08\x06", `closed_total{reason="http2_header_timeout"}`},
		{"HTTP/2: nothing", preface + settings + ack, `closed_total{reason="http2_idle"}`},
	} {
		t.Run(x.name, func(t *testing.T) {
			before := g.counter(t, x.metric)
			c := g.dial(t)
			_, err := io.WriteString(c, x.sent)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, c)
			require.NoError(t, err, "the connection ends, and in good order")
			require.Equal(t, before+1, g.counter(t, x.metric))
		})
	}
	g.serves(t, "still here")
}

// A caller may pause for as long as a stream may stand still. Then his connection ends, and not only the stream.
func TestSidecarWithCallersWhoPause(t *testing.T) {
	t.Parallel()
	g := newSidecar(t, application(t, strings.Repeat("x", 8<<20)), proxy.Timeouts{Stream: 2 * time.Second})
	c := g.dial(t)
	http2.Hold(t, c, 1)
	_, err := io.Copy(io.Discard, c)
	require.NoError(t, err)
	require.Equal(t, 1, g.counter(t, `closed_total{reason="http2_slow_read"}`))
}

// A caller who takes nothing makes the sidecar hold little: what was read of an answer and cannot be sent on, and not the answer.
func TestSidecarHoldsLittle(t *testing.T) {
	const streams, answer, most = 100, 8 << 20, 128 << 10
	g := newSidecar(t, application(t, strings.Repeat("x", answer)), proxy.Timeouts{})
	before := live()
	http2.Hold(t, g.dial(t), streams)
	after := live()
	t.Logf("%d bytes a stream", (after-before)/streams)
	require.Less(t, (after-before)/streams, most, "bytes for each stream, the application's end and ours included")
	runtime.KeepAlive(g)
}

// live is the size of what is reachable, in bytes.
func live() int {
	runtime.GC()
	runtime.GC() // what pools hold goes at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
