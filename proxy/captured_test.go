package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/upstream"
)

// kernel stands for the one that redirects: it tells of each connection in turn where it was going.
type kernel struct {
	*rig
	in, out string // the listeners
	going   chan netip.AddrPort
}

var errUntracked = errors.New("no such connection")

// newKernel is a rig whose traffic is captured.
func newKernel(t *testing.T, change func(*Options)) *kernel {
	t.Helper()
	k := &kernel{going: make(chan netip.AddrPort, 100), in: testport.Loopback(t), out: testport.Loopback(t)}
	k.rig = newRig(t, func(o *Options) {
		o.OriginalDst = func(c net.Conn) (netip.AddrPort, error) {
			dst := <-k.going
			if !dst.IsValid() {
				return dst, errUntracked
			}
			return dst, nil
		}
		if change != nil {
			change(o)
		}
	})
	k.inbound.Capture = &mesh.Capture{Inbound: k.in, Outbound: k.out}
	return k
}

// call connects to a listener as the kernel would have it, for somebody who wanted to go elsewhere.
func (k *kernel) call(t *testing.T, at, dst string) *caller {
	t.Helper()
	to := netip.AddrPort{}
	if dst != "" {
		to = netip.MustParseAddrPort(dst)
	}
	k.going <- to
	return call(t, at)
}

// hosted adds a service like rig.service, with a virtual address.
func (k *kernel) hosted(name string, protocol mesh.Protocol, address string, endpoints ...string) string {
	host := k.service(name, protocol, map[string][]string{"v1": endpoints})
	k.snapshot.Services[host].Addresses = []string{address}
	return host
}

func (c *caller) ask(host string) (int, string, string) {
	c.t.Helper()
	c.say("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	resp, body := c.reply("GET")
	return resp.StatusCode, body, resp.Header.Get(mesh.HeaderReason)
}

func TestCapturedOutboundHTTPGoesByAuthorityAndThenByAddress(t *testing.T) {
	t.Parallel()
	backend, other, stranger := newOrigin(t, answering(200, "backend")), newOrigin(t, answering(200, "other")), newOrigin(t, answering(200, "stranger"))
	k := newKernel(t, nil)
	k.hosted("backend", mesh.HTTP, "10.96.0.1", backend.address)
	k.hosted("other", mesh.HTTP, "10.96.0.2", other.address)
	k.apply()
	for _, test := range []struct{ dst, host, body string }{
		{"10.96.0.1:80", "backend", "backend"},
		{"10.96.0.1:80", "backend.default.svc.cluster.local:80", "backend"},
		{"10.96.0.1:80", "other", "other"},         // the authority has the first word
		{"10.96.0.2:80", "nobody.knows", "other"},  // the address the second
		{"10.96.0.2:80", "10.96.0.2", "other"},     // as it has when there is no name
		{"192.0.2.7:80", "backend", "backend"},     // an address that is not a service's, at a port where HTTP is spoken
		{stranger.address, "backend", "stranger"},  // elsewhere nothing is understood of what is carried
		{stranger.address, "anything", "stranger"}, //
	} {
		status, body, _ := k.call(t, k.out, test.dst).ask(test.host)
		require.Equal(t, 200, status, test)
		require.Equal(t, test.body, body, test)
	}
	cells, _, _ := k.evidenceOf(6)
	for _, c := range cells {
		require.Equal(t, "frontend", c.Edge.From)
		require.Contains(t, []string{"backend", "other"}, c.Edge.To)
		require.Equal(t, "v1", c.Version)
	}
	k.tells(`connections_total{listener="captured_outbound"} 8`, `istio_requests_total{reporter="source",source_workload="frontend-v1"`, `destination_service_name="PassthroughCluster"`)
}

func TestCapturedConnectionsChangeTheirHostFromRequestToRequest(t *testing.T) {
	t.Parallel()
	backend, other := newOrigin(t, answering(200, "backend")), newOrigin(t, answering(200, "other"))
	k := newKernel(t, nil)
	k.hosted("backend", mesh.HTTP, "10.96.0.1", backend.address)
	k.hosted("other", mesh.HTTP, "10.96.0.2", other.address)
	k.apply()
	c := k.call(t, k.out, "10.96.0.1:80")
	for range 3 {
		_, body, _ := c.ask("other")
		require.Equal(t, "other", body)
		_, body, _ = c.ask("backend")
		require.Equal(t, "backend", body)
	}
	require.Equal(t, 1, backend.connections())
}

func TestCapturedRequestsToTheUnknown(t *testing.T) {
	t.Parallel()
	stranger := newOrigin(t, answering(200, "stranger"))
	to := netip.MustParseAddrPort(stranger.address)
	k := newKernel(t, nil)
	host := k.hosted("backend", mesh.HTTP, "10.96.0.1", stranger.address)
	k.snapshot.Services[host].Ports = append(k.snapshot.Services[host].Ports, mesh.Port{Number: int(to.Port()), Protocol: mesh.HTTP})
	k.apply()
	c := k.call(t, k.out, stranger.address)
	for range 3 {
		status, body, _ := c.ask("example.org")
		require.Equal(t, 200, status)
		require.Equal(t, "stranger", body)
	}
	require.Equal(t, 1, stranger.connections(), "what is passed through is passed through one connection")
	require.Contains(t, stranger.bytes(), "Host: example.org\r")
	c.say("GET / HTTP/1.0\r\n\r\n")
	resp, _ := c.reply("GET")
	require.Equal(t, 200, resp.StatusCode)
	require.Contains(t, stranger.bytes(), "Host: "+stranger.address+"\r", "the next hop speaks 1.1, and wants a host")
	cells, _, _ := k.evidenceOf(4)
	require.Equal(t, mesh.Edge{From: "frontend", To: passThrough}, cells[0].Edge)

	k.inbound.Unknown = mesh.RegistryOnly
	k.apply()
	status, _, reason := k.call(t, k.out, stranger.address).ask("example.org")
	require.Equal(t, 502, status)
	require.Equal(t, ReasonUnknownHost, reason)
	k.tells(`destination_service_name="PassthroughCluster"`, `destination_service_name="BlackHoleCluster"`, `response_flags="NC"`)
}

func TestCapturedOutboundTCP(t *testing.T) {
	t.Parallel()
	greeting := func(text string) func(*talk) {
		return func(k *talk) {
			k.say(text) // before it has heard anything
			_, _ = io.Copy(k, k.r)
		}
	}
	database, stranger := newOrigin(t, greeting("database")), newOrigin(t, greeting("stranger"))
	k := newKernel(t, nil)
	k.hosted("database", mesh.TCP, "10.96.0.3", database.address)
	k.hosted("six", mesh.TCP, "fd00::3", database.address)
	k.apply()
	for dst, want := range map[string]string{"10.96.0.3:80": "database", "[fd00::3]:80": "database", "[::ffff:10.96.0.3]:80": "database", stranger.address: "stranger"} {
		c := k.call(t, k.out, dst)
		c.say(" hears")
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
		require.Equal(t, want+" hears", c.ends())
	}
	k.tells(`destination_service_name="database"`, `destination_service_name="PassthroughCluster"`)

	k.inbound.Unknown = mesh.RegistryOnly
	k.apply()
	require.Empty(t, k.call(t, k.out, stranger.address).ends())
	require.Equal(t, 1, stranger.connections())
	k.tells(`refused_total{reason="unknown_address"} 1`, `destination_service_name="BlackHoleCluster"`)
	c := k.call(t, k.out, stranger.address)
	c.say("PORT me nowhere\r\n")
	rest, _ := io.ReadAll(c.r) // a reset is an end, too
	require.Empty(t, rest)
	k.tells(`refused_total{reason="unknown_address"} 2`)
}

// Who speaks HTTP to an address that is not known, at a port of no service, is told why he is refused, once.
func TestCapturedRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	k := newKernel(t, nil)
	k.inbound.Unknown = mesh.RegistryOnly
	k.apply()
	c := k.call(t, k.out, "10.96.0.9:8099")
	status, _, reason := c.ask("time.example.com")
	require.Equal(t, 502, status)
	require.Equal(t, ReasonUnknownHost, reason)
	require.Empty(t, c.ends())
	k.tells(`response_flags="NC"`, `destination_service_name="BlackHoleCluster"`)
	require.NotContains(t, k.metrics(), `istio_tcp_connections_opened_total{`)
	cells, _, _ := k.evidenceOf(1)
	require.Equal(t, telemetry.Unknown, cells[0].Edge.To)
}

func TestCapturedInbound(t *testing.T) {
	t.Parallel()
	app, raw, rest := newOrigin(t, answering(200, "app")), newOrigin(t, answering(200, "raw")), newOrigin(t, answering(200, "rest"))
	dialled := make(chan string, 10)
	k := newKernel(t, func(o *Options) {
		direct := (&net.Dialer{}).DialContext
		o.DialApp = func(ctx context.Context, address string) (net.Conn, error) {
			dialled <- address
			return direct(ctx, "tcp", address)
		}
	})
	k.inbound.Listen = []mesh.InboundPort{
		{App: app.address, Port: 80, Protocol: mesh.HTTP},
		{App: app.address, Port: 8080, Protocol: mesh.TCP}, // another service with the same pods behind it
		{App: raw.address, Port: 81, Protocol: mesh.TCP},
	}
	k.apply()
	for _, test := range []struct {
		at     *origin
		answer string
	}{{app, "app"}, {raw, "raw"}, {rest, "rest"}} {
		status, body, _ := k.call(t, k.in, test.at.address).ask("whatever")
		require.Equal(t, 200, status)
		require.Equal(t, test.answer, body)
		require.Equal(t, test.at.address, <-dialled, "the application is dialled its own way")
	}
	require.Contains(t, app.bytes(), "x-request-id: ")
	require.NotContains(t, raw.bytes(), "x-request-id: ")
	require.NotContains(t, rest.bytes(), "x-request-id: ")
	k.tells(
		`istio_requests_total{reporter="destination",source_workload="unknown"`, `destination_service_name="InboundPassthroughCluster"`,
		`istio_tcp_connections_opened_total{reporter="destination"`, `connections_total{listener="captured_inbound"} 3`,
	)
}

// The kubelet and other sidecars' health checks ask through the sidecar, and are answered; but whoever counts requests does not mean theirs.
func TestProbesAreNoTraffic(t *testing.T) {
	t.Parallel()
	app := newOrigin(t, answering(200, "app"))
	k := newKernel(t, nil)
	k.inbound.Listen = []mesh.InboundPort{{App: app.address, Port: 80, Protocol: mesh.HTTP}}
	k.apply()
	c := k.call(t, k.in, app.address)
	for _, agent := range []string{"kube-probe/1.34", upstream.CheckAgent, "curl/8"} {
		response, _ := c.get("/healthz", "User-Agent: "+agent)
		require.Equal(t, 200, response.StatusCode)
	}
	k.tells(`probes_total 2`, `istio_requests_total{reporter="destination"`)
	require.Regexp(t, `(?m)^istio_requests_total\{reporter="destination".*\} 1$`, k.metrics())
}

func TestNobodyMayDialTheListenersForCapturedTraffic(t *testing.T) {
	t.Parallel()
	k := newKernel(t, nil)
	k.apply()
	for _, at := range []string{k.in, k.out} {
		require.Empty(t, k.call(t, at, at).ends(), "it was going to the listener itself")
		require.Empty(t, k.call(t, at, "").ends(), "nothing is known of it")
	}
	k.tells(`refused_total{reason="not_redirected"} 4`)
}

func TestCaptureComesAndGoes(t *testing.T) {
	t.Parallel()
	backend := newOrigin(t, answering(200, "backend"))
	k := newKernel(t, nil)
	host := k.hosted("backend", mesh.HTTP, "10.96.0.1", backend.address)
	k.apply()
	known, unknown := k.call(t, k.out, "10.96.0.1:80"), k.call(t, k.out, "192.0.2.1:80")
	for _, c := range []*caller{known, unknown} {
		_, body, _ := c.ask("backend")
		require.Equal(t, "backend", body)
	}

	// A port at which nobody speaks HTTP any more: a connection that does ends with its next request, which is still carried.
	service := *k.snapshot.Services[host]
	service.Ports = []mesh.Port{{Number: 80, Protocol: mesh.TCP}}
	k.snapshot.Services[host] = &service
	k.apply()
	for _, c := range []*caller{known, unknown} {
		_, body, _ := c.ask("backend")
		require.Equal(t, "backend", body)
		require.Empty(t, c.ends())
	}

	service.Ports = []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}
	k.snapshot.Services[host] = &service
	k.apply()
	last := k.call(t, k.out, "192.0.2.1:80")
	_, body, _ := last.ask("backend")
	require.Equal(t, "backend", body)
	k.inbound.Capture = nil
	k.apply()
	status, _, reason := last.ask("nobody.knows")
	require.Equal(t, 503, status, "there is nobody at that address")
	require.Equal(t, ReasonConnectFailure, reason)
	require.Empty(t, last.ends())
	_, err := net.Dial("tcp", k.out)
	require.Error(t, err)
}

func TestCaptureThatCannotBe(t *testing.T) {
	t.Parallel()
	k := newKernel(t, nil)
	k.hosted("backend", mesh.HTTP, "10.96.0.1")
	k.apply()
	for name, spoil := range map[string]func(*rig){
		"a treatment":    func(r *rig) { r.inbound.Unknown = "MAYBE" },
		"no way to tell": func(r *rig) { r.srv.opts.OriginalDst = nil },
		"an address": func(r *rig) {
			r.snapshot.Services["x"] = &mesh.Service{Host: "x", Addresses: []string{"None"}, Ports: []mesh.Port{{Number: 1}}}
		},
		"a port of the app":    func(r *rig) { r.inbound.Listen = []mesh.InboundPort{{App: "10.0.0.1:99", Protocol: "udp"}} },
		"no place to bind":     func(r *rig) { r.inbound.Listen, r.inbound.Capture = []mesh.InboundPort{{App: "10.0.0.1:99"}}, nil },
		"a digest":             func(r *rig) { r.inbound.Tokens.Edge = "sesame" },
		"a digest of any kind": func(r *rig) { r.inbound.Tokens.Direct = "abcd" },
	} {
		snapshot, inbound, capture, ask := k.snapshot.Clone(), *k.inbound, *k.inbound.Capture, k.srv.opts.OriginalDst
		spoil(k.rig)
		require.Error(t, k.tryApply(), name)
		inbound.Capture = &capture
		k.snapshot, k.inbound, k.srv.opts.OriginalDst = snapshot, &inbound, ask
		require.NoError(t, k.tryApply(), name)
	}
}

func TestTokensOfTheConfiguration(t *testing.T) {
	t.Parallel()
	digest := func(token string) string {
		sum := sha256.Sum256([]byte(token))
		return hex.EncodeToString(sum[:])
	}
	o := newOrigin(t, answering(200, "ok"))
	r := newRig(t, func(o *Options) { o.EdgeToken = "" })
	at := r.outbound(r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}}), mesh.HTTP)
	r.inbound.Trusted = true
	trusted := func(token string) bool {
		resp, _ := call(t, at).get("/", mesh.HeaderToken+": "+token)
		return resp.Header.Get(mesh.HeaderConfig) != ""
	}
	r.apply()
	require.False(t, trusted("edge"))
	require.False(t, r.srv.KnowsDirect("direct"))
	require.False(t, r.srv.KnowsDirect(""))
	r.inbound.Tokens = mesh.Tokens{Edge: digest("edge"), Direct: digest("direct")}
	r.apply()
	require.True(t, trusted("edge"))
	require.False(t, trusted("direct"))
	require.True(t, r.srv.KnowsDirect("direct"))
	require.False(t, r.srv.KnowsDirect("edge"))
	require.False(t, r.srv.KnowsDirect(""))
}
