package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket/certtest"
)

func TestSlowHeads(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, ""), func(o *Options) { o.Timeouts.Header = 50 * time.Millisecond })
	c := call(t, at)
	c.say("GET / HTTP/1.1\r\nHost: b\r\n") // and never the end
	resp, err := http.ReadResponse(c.r, nil)
	require.NoError(t, err)
	require.Equal(t, 408, resp.StatusCode)
	require.Equal(t, ReasonHeaderTimeout, resp.Header.Get(mesh.HeaderReason))
	require.True(t, resp.Close)
	require.Zero(t, o.connections())
	r.tells(`meshtest_sidecar_refused_total{reason="header_timeout"} 1`)
}

func TestIdleConnectionsAreClosedSilently(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, ""), func(o *Options) { o.Timeouts.Idle = ample })
	require.Empty(t, call(t, at).ends())
	c := call(t, at)
	resp, _ := c.get("/")
	require.Equal(t, 200, resp.StatusCode)
	require.Empty(t, c.ends())
	r.tells(`meshtest_sidecar_closed_total{reason="idle"} 2`)
}

func TestStreamsWithoutProgress(t *testing.T) {
	t.Parallel()
	silent := func(k *talk) {
		for k.head() != "" {
		}
	}
	r, _, at := simple(t, silent, func(o *Options) { o.Timeouts.Stream = 50 * time.Millisecond })
	resp, _ := call(t, at).get("/")
	require.Equal(t, 504, resp.StatusCode)
	require.Equal(t, ReasonStreamTimeout, resp.Header.Get(mesh.HeaderReason))

	c := call(t, at) // the caller is the one who stops
	c.say("POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000\r\n\r\nx")
	resp, _ = c.reply("POST")
	require.Equal(t, 504, resp.StatusCode)
	require.True(t, resp.Close)
	r.evidenceOf(2)
	r.tells(`response_code="504",grpc_response_status="",response_flags="UT"} 2`)
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, ""), func(o *Options) { o.MaxConnections = 2 })
	first, second := call(t, at), call(t, at)
	for _, c := range []*caller{first, second} {
		resp, _ := c.get("/")
		require.Equal(t, 200, resp.StatusCode)
	}
	third := call(t, at)
	resp, err := http.ReadResponse(third.r, nil)
	require.NoError(t, err)
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, ReasonTooMany, resp.Header.Get(mesh.HeaderReason))
	r.tells(`meshtest_sidecar_refused_total{reason="too_many_connections"} 1`)

	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return r.srv.connections() == 1 }, patience, time.Millisecond)
	resp, _ = call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
}

// One connection too many hears so in the words of its listener, and strangers do not hear why.
func TestTooManyConnectionsInTheWordsOfTheListener(t *testing.T) {
	t.Parallel()
	const turnedAway = "HTTP/1.1 503 Service Unavailable\r\n"
	goAway := func(why string) string {
		return "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00" + string(rune(8+len(why))) + "\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + why
	}
	for name, test := range map[string]struct {
		protocol mesh.Protocol
		edge     bool
		tls      bool
		says     func(t *testing.T, said string)
	}{
		"HTTP": {protocol: mesh.HTTP, says: func(t *testing.T, said string) {
			require.True(t, strings.HasPrefix(said, turnedAway), said)
			require.Contains(t, said, mesh.HeaderReason+": "+ReasonTooMany)
		}},
		"HTTP at an edge": {protocol: mesh.HTTP, edge: true, says: func(t *testing.T, said string) {
			require.True(t, strings.HasPrefix(said, turnedAway), said)
			require.NotContains(t, said, ReasonTooMany)
		}},
		"HTTP/2":            {protocol: mesh.HTTP2, says: func(t *testing.T, said string) { require.Equal(t, goAway(ReasonTooMany), said) }},
		"gRPC":              {protocol: mesh.GRPC, says: func(t *testing.T, said string) { require.Equal(t, goAway(ReasonTooMany), said) }},
		"HTTP/2 at an edge": {protocol: mesh.HTTP2, edge: true, says: func(t *testing.T, said string) { require.Equal(t, goAway(""), said) }},
		"TCP":               {protocol: mesh.TCP, says: func(t *testing.T, said string) { require.Empty(t, said) }},
		"TLS, passed on":    {protocol: mesh.TLS, says: func(t *testing.T, said string) { require.Empty(t, said) }},
		"TLS, ended here":   {protocol: mesh.HTTP, edge: true, tls: true, says: func(t *testing.T, said string) { require.Empty(t, said) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *Options) { o.MaxConnections = 1 })
			r.inbound.Trusted = test.edge
			host := r.service("backend", test.protocol, map[string][]string{"v1": {"127.0.0.1:1"}})
			if test.tls {
				shown := certtest.NewAuthority(t).Issue(t, "*.example")
				r.snapshot.Services[host].Ports[0].TLS = &mesh.ServerTLS{Mode: mesh.SimpleTLS, Certificates: []mesh.Certificate{{Hosts: []string{"*.example"}, Chain: shown.Chain, PrivateKey: shown.Key}}}
			}
			first, at := r.outbound(r.service("first", mesh.HTTP, nil), mesh.HTTP), r.outbound(host, test.protocol)
			r.apply()
			call(t, first).get("/")
			test.says(t, call(t, at).ends())
			r.tells(`meshtest_sidecar_refused_total{reason="too_many_connections"} 1`)
		})
	}
}

func TestHeadsThatAreTooLarge(t *testing.T) {
	t.Parallel()
	_, o, at := simple(t, answering(200, ""), nil)
	for name, in := range map[string]string{
		"block":  "GET / HTTP/1.1\r\nHost: b\r\nx: " + strings.Repeat("x", 33<<10) + "\r\n\r\n",
		"lines":  "GET / HTTP/1.1\r\nHost: b\r\n" + strings.Repeat("x: y\r\n", 101) + "\r\n",
		"target": "GET /" + strings.Repeat("x", 9<<10) + " HTTP/1.1\r\nHost: b\r\n\r\n",
	} {
		c := call(t, at)
		c.say(in)
		resp, err := http.ReadResponse(c.r, nil)
		require.NoError(t, err, name)
		require.Contains(t, []int{431, 414}, resp.StatusCode, name)
	}
	require.Zero(t, o.connections())
	resp, _ := call(t, at).get("/", "x: "+strings.Repeat("x", 30<<10))
	require.Equal(t, 200, resp.StatusCode, "what is within the limit passes")
	require.Contains(t, o.bytes(), strings.Repeat("x", 30<<10))
}

func TestTunnelsWithoutProgress(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(k *talk) { _ = k.head() })
	r := newRig(t, func(o *Options) { o.Timeouts.Tunnel = 50 * time.Millisecond })
	at := r.outbound(r.service("database", mesh.TCP, map[string][]string{"v1": {o.address}}), mesh.TCP)
	r.apply()
	require.Empty(t, call(t, at).ends())
}
