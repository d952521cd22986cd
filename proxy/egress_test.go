package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

// Where only what is known may be reached, the listener for an upstream that no rule opens says so.
func TestUnknownUpstreamsAreRefused(t *testing.T) {
	t.Parallel()
	for unknown, want := range map[mesh.Unknown]struct {
		status int
		reason string
	}{mesh.RegistryOnly: {502, ReasonUnknownHost}, "": {503, ReasonNoDestination}} {
		r := newRig(t, nil)
		r.inbound.Unknown = unknown
		at := r.outbound("time.default.svc.cluster.local", mesh.HTTP)
		r.apply()
		resp, _ := call(t, at).get("/")
		require.Equal(t, want.status, resp.StatusCode)
		require.Equal(t, want.reason, resp.Header.Get(mesh.HeaderReason))
	}
}

func TestUnknownUpstreamsOfTCPAreClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.inbound.Unknown = mesh.RegistryOnly
	at := r.outbound("db.example.com", mesh.TCP)
	r.apply()
	c := call(t, at)
	c.ends()
	r.tells(`meshtest_sidecar_refused_total{reason="unknown_address"} 1`, `destination_service_name="BlackHoleCluster"`)
}

// What a rule opens is reached, and what is opened later is from then on.
func TestKnownUpstreamsAreReached(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.inbound.Unknown = mesh.RegistryOnly
	origin := newOrigin(t, answering(200, "now"))
	at := r.outbound("time.default.svc.cluster.local", mesh.HTTP)
	r.apply()
	c := call(t, at)
	resp, _ := c.get("/")
	require.Equal(t, 502, resp.StatusCode)
	host := r.service("time", mesh.HTTP, map[string][]string{"v1": {origin.address}})
	r.snapshot.Services[host].External = true
	r.apply()
	resp, body := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "now", body)
}

// open adds a service without endpoints: connections go where they were going.
func (r *rig) open(host string, protocol mesh.Protocol, port int) {
	r.snapshot.Services[host] = &mesh.Service{Host: host, External: true, Resolution: mesh.Original, Ports: []mesh.Port{{Number: port, Protocol: protocol}}}
	r.snapshot.Endpoints[mesh.HostPort(host, port)] = &mesh.Endpoints{Host: host, Port: port}
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	at, err := netip.ParseAddrPort(address)
	require.NoError(t, err)
	return int(at.Port())
}

// Of a host without endpoints the http_proxy goes where the request says, and nowhere else.
func TestProxiedRequestsGoWhereTheySay(t *testing.T) {
	t.Parallel()
	a, b := newOrigin(t, answering(200, "a")), newOrigin(t, answering(200, "b"))
	r := newRig(t, nil)
	r.inbound.Proxy, r.inbound.Unknown = testport.Loopback(t), mesh.RegistryOnly
	r.open("*.0.0.1", mesh.HTTP, portOf(t, a.address))
	r.apply()
	c := call(t, r.inbound.Proxy)
	for range 2 {
		status, body, _ := c.ask(a.address)
		require.Equal(t, 200, status)
		require.Equal(t, "a", body)
	}
	require.Equal(t, 1, a.connections(), "a connection is kept")
	status, _, reason := c.ask(b.address)
	require.Equal(t, 502, status, "another port")
	require.Equal(t, ReasonUnknownHost, reason)
	cells, _, _ := r.evidenceOf(3)
	carried := uint64(0)
	for _, cell := range cells {
		if cell.Edge.To == "*.0.0.1" {
			carried += cell.Requests - cell.Failed
		}
	}
	require.Equal(t, uint64(2), carried)
}

func TestAnythingMayBeReachedThroughTheProxy(t *testing.T) {
	t.Parallel()
	a, b := newOrigin(t, answering(200, "a")), newOrigin(t, answering(200, "b"))
	r := newRig(t, nil)
	r.inbound.Proxy, r.inbound.Unknown = testport.Loopback(t), mesh.PassThrough
	r.apply()
	c := call(t, r.inbound.Proxy)
	for _, to := range []struct{ address, body string }{{a.address, "a"}, {b.address, "b"}, {"localhost:" + strconv.Itoa(portOf(t, a.address)), "a"}} {
		status, body, _ := c.ask(to.address)
		require.Equal(t, 200, status, to.address)
		require.Equal(t, to.body, body)
	}
	status, _, reason := c.ask(r.inbound.Proxy)
	require.Equal(t, 502, status, "it would come back")
	require.Equal(t, ReasonUnknownHost, reason)

	c = call(t, r.inbound.Proxy)
	c.say("CONNECT " + b.address + " HTTP/1.1\r\nHost: " + b.address + "\r\n\r\n")
	resp, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodConnect})
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	status, body, _ := c.ask("whoever")
	require.Equal(t, 200, status)
	require.Equal(t, "b", body)
}

// Captured connections to a host without endpoints go where they were going.
func TestCapturedRequestsGoWhereTheyWereGoing(t *testing.T) {
	t.Parallel()
	origin := newOrigin(t, answering(200, "there"))
	k := newKernel(t, nil)
	k.inbound.Unknown = mesh.RegistryOnly
	k.open("*.example.com", mesh.HTTP, portOf(t, origin.address))
	k.snapshot.Routes[mesh.HostPort("*.example.com", portOf(t, origin.address))] = &mesh.RouteTable{Host: "*.example.com", Port: portOf(t, origin.address), Routes: []mesh.Route{
		{Name: "api", Split: []mesh.Destination{{Host: "*.example.com", Port: portOf(t, origin.address), Weight: 1}}, Response: mesh.HeaderChange{Set: map[string]string{"x-route": "api"}}}}}
	k.apply()
	c := k.call(t, k.out, origin.address)
	status, body, _ := c.ask("api.example.com")
	require.Equal(t, 200, status)
	require.Equal(t, "there", body)
	status, _, reason := c.ask("api.example.net")
	require.Equal(t, 502, status)
	require.Equal(t, ReasonUnknownHost, reason)
}

// A request that would come back to the sidecar, under whatever name, is not sent.
func TestNothingIsSentToTheSidecarItself(t *testing.T) {
	t.Parallel()
	for name, bind := range map[string]string{"one address": "127.0.0.1:", "all addresses": "0.0.0.0:", "all of both families": "[::]:"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			_, port, err := net.SplitHostPort(testport.Loopback(t))
			require.NoError(t, err)
			r.inbound.Proxy, r.inbound.Unknown = bind+port, mesh.PassThrough
			r.apply()
			for _, method := range []string{"GET", "CONNECT"} {
				c := call(t, "127.0.0.1:"+port)
				target := "http://localhost:" + port + "/"
				if method == "CONNECT" {
					target = "localhost:" + port
				}
				c.say(method + " " + target + " HTTP/1.1\r\nHost: localhost:" + port + "\r\n\r\n")
				resp, _ := c.reply("GET")
				require.Equal(t, 502, resp.StatusCode)
				require.Equal(t, ReasonLoop, resp.Header.Get(mesh.HeaderReason))
			}
		})
	}
}
