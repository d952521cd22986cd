package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket/certtest"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// logging is a rig with an access log of everything.
func logging(t *testing.T) (*rig, *telemetry.AccessLog) {
	log := telemetry.NewAccessLog(telemetry.AccessLogOptions{Mode: telemetry.LogComplete})
	return newRig(t, func(o *Options) { o.AccessLog = log }), log
}

// The access log says where a request went, over which connection, and why there was none.
func TestAccessLogSaysWhereRequestsWent(t *testing.T) {
	t.Parallel()
	const outbound = "outbound|80|v1|backend.default.svc.cluster.local"
	var from atomic.Value
	o := newOrigin(t, func(k *talk) {
		from.Store(k.RemoteAddr().String())
		answering(200, "hello")(k)
	})
	dead := testport.Refusing(t)
	for name, test := range map[string]struct {
		address string
		inbound bool
		route   func(*mesh.Route)
		request string
		want    map[string]any
		reason  string // of the transport
	}{
		"answered": {address: o.address, request: "HTTP/1.1", want: map[string]any{
			"protocol": "HTTP/1.1", "response_code": 200.0, "response_flags": "-", "response_code_details": "via_upstream", "upstream_cluster": outbound, "upstream_host": o.address, "route_name": "r", "attempts": 1.0,
		}},
		"of an old caller": {address: o.address, request: "HTTP/1.0", want: map[string]any{"protocol": "HTTP/1.0", "upstream_host": o.address}},
		"for the workload": {address: o.address, inbound: true, request: "HTTP/1.1", want: map[string]any{
			"response_code": 200.0, "upstream_cluster": "inbound|80||", "upstream_host": o.address, "route_name": nil,
		}},
		"not connected": {address: dead, request: "HTTP/1.1", reason: "connection refused", want: map[string]any{
			"response_code": 503.0, "response_flags": "UF", "response_code_details": ReasonConnectFailure, "upstream_cluster": outbound, "upstream_host": dead, "upstream_local_address": nil,
		}},
		"answered here": {
			address: o.address, request: "HTTP/1.1", route: func(r *mesh.Route) { r.Split, r.Direct = nil, &mesh.DirectResponse{Status: 418} },
			want: map[string]any{"response_code": 418.0, "upstream_cluster": nil, "upstream_host": nil, "upstream_local_address": nil, "route_name": "r", "attempts": 0.0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, log := logging(t)
			host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {test.address}})
			at := testport.Loopback(t)
			if test.inbound {
				r.inbound.Listen = []mesh.InboundPort{{Bind: at, App: test.address, Port: 80, Protocol: mesh.HTTP}}
			} else {
				at = r.outbound(host, mesh.HTTP)
			}
			rule := split(host, "v1")
			if test.route != nil {
				test.route(&rule)
			}
			r.routes(host, rule)
			r.apply()
			c := call(t, at)
			c.say("GET / " + test.request + "\r\nHost: b\r\nConnection: close\r\n\r\n")
			c.reply("GET")
			require.Empty(t, c.ends())
			r.stop()
			<-r.done
			lines := logs(t, log)
			require.Len(t, lines, 1)
			for field, want := range test.want {
				require.Equal(t, want, lines[0][field], field)
			}
			if _, other := test.want["upstream_local_address"]; !other {
				require.Equal(t, from.Load(), lines[0]["upstream_local_address"])
			}
			if test.reason == "" {
				require.Nil(t, lines[0]["upstream_transport_failure_reason"])
			} else {
				require.Contains(t, lines[0]["upstream_transport_failure_reason"], test.reason)
			}
			require.Nil(t, lines[0]["connection_termination_details"])
			require.Nil(t, lines[0]["requested_server_name"])
		})
	}
}

// A retry that found a connection has no transport failure to tell of.
func TestAccessLogTellsOfTheLastAttempt(t *testing.T) {
	t.Parallel()
	o, dead := newOrigin(t, answering(200, "hello")), testport.Refusing(t)
	r, log := logging(t)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {dead, o.address}})
	r.snapshot.Services[host].Traffic.Balancer = mesh.RoundRobin
	rule := split(host, "v1")
	rule.Retry = &mesh.Retry{Attempts: 1, On: []mesh.RetryOn{mesh.OnConnectFailure}}
	r.routes(host, rule)
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	c := call(t, at)
	for range 2 { // one of them at least comes to the dead one first
		resp, _ := c.get("/")
		require.Equal(t, 200, resp.StatusCode)
	}
	r.evidenceOf(2)
	lines := logs(t, log)
	require.Len(t, lines, 2)
	require.Greater(t, lines[0]["attempts"].(float64)+lines[1]["attempts"].(float64), 2.0)
	for _, line := range lines {
		require.Equal(t, o.address, line["upstream_host"])
		require.NotNil(t, line["upstream_local_address"])
		require.Nil(t, line["upstream_transport_failure_reason"])
	}
}

// A server name that was asked for is told of requests, too, by either protocol.
func TestAccessLogTellsServerNames(t *testing.T) {
	t.Parallel()
	r, log := logging(t)
	shown := certtest.NewAuthority(t).Issue(t, "*.example")
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {newOrigin(t, answering(200, "hello")).address}})
	r.snapshot.Services[host].Ports[0].TLS = &mesh.ServerTLS{Mode: mesh.SimpleTLS, Certificates: []mesh.Certificate{{Hosts: []string{"*.example"}, Chain: shown.Chain, PrivateKey: shown.Key}}}
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(shown.Chain)))
	for _, version := range []int{1, 2} {
		tr := &http.Transport{
			ForceAttemptHTTP2: version == 2, TLSClientConfig: &tls.Config{RootCAs: roots, InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, at)
			},
		}
		resp, _ := get(t, &http.Client{Transport: tr}, "https://one.example/")
		require.Equal(t, version, resp.ProtoMajor)
		tr.CloseIdleConnections()
	}
	r.evidenceOf(2)
	lines := logs(t, log)
	require.Len(t, lines, 2)
	for i, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		require.Equal(t, protocol, lines[i]["protocol"])
		require.Equal(t, "one.example", lines[i]["requested_server_name"])
		require.NotNil(t, lines[i]["upstream_local_address"])
	}
}

// A connection of which nothing was carried is logged too, with the reason.
func TestAccessLogOfConnections(t *testing.T) {
	t.Parallel()
	dead := testport.Refusing(t)
	for name, test := range map[string]struct {
		addresses []string
		want      map[string]any
		reason    string
	}{
		"not connected": {[]string{dead}, map[string]any{
			"response_flags": "UF", "connection_termination_details": ReasonConnectFailure, "upstream_host": dead, "upstream_cluster": "outbound|80||db.default.svc.cluster.local", "attempts": 1.0,
		}, "connection refused"},
		"nobody": {nil, map[string]any{
			"response_flags": "UH", "connection_termination_details": ReasonNoHealthy, "upstream_host": nil, "upstream_cluster": "outbound|80||db.default.svc.cluster.local", "attempts": 0.0,
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, log := logging(t)
			at := r.outbound(r.service("db", mesh.TCP, map[string][]string{"v1": test.addresses}), mesh.TCP)
			r.apply()
			if c, err := net.Dial("tcp", at); err == nil { // it may be over before that is done
				defer c.Close()
			}
			require.Eventually(t, func() bool { return strings.Contains(r.metrics(), "istio_tcp_connections_closed_total{") }, patience, time.Millisecond)
			lines := logs(t, log)
			require.Len(t, lines, 1)
			require.Equal(t, telemetry.ProtocolNameTCP, lines[0]["protocol"])
			require.Nil(t, lines[0]["response_code_details"])
			for field, want := range test.want {
				require.Equal(t, want, lines[0][field], field)
			}
			if test.reason == "" {
				require.Nil(t, lines[0]["upstream_transport_failure_reason"])
			} else {
				require.True(t, strings.Contains(lines[0]["upstream_transport_failure_reason"].(string), test.reason), lines[0])
			}
		})
	}
}
