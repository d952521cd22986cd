package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/telemetry"
)

func TestRateLimitsByCaller(t *testing.T) {
	t.Parallel()
	app := newOrigin(t, answering(200, "hello"))
	r := newRig(t, nil)
	at := testport.Loopback(t)
	r.inbound.Listen = []mesh.InboundPort{{Bind: at, App: app.address, Port: 80, Protocol: mesh.HTTP}}
	r.inbound.Limits = []mesh.RateLimit{{Name: "quota", Requests: 2, Per: time.Hour, Caller: true, Headers: true}}
	r.apply()
	from := func(service string) string {
		return mesh.HeaderPeer + ": " + string(telemetry.AppendPeer(nil, telemetry.Peer{Workload: service + "-v1", CanonicalService: service}))
	}
	c := call(t, at)
	for i, want := range []int{200, 200, 429} {
		resp, _ := c.get("/", from("mobile"))
		require.Equal(t, want, resp.StatusCode)
		require.Equal(t, "2", resp.Header.Get("x-ratelimit-limit"))
		require.Equal(t, []string{"1", "0", "0"}[i], resp.Header.Get("x-ratelimit-remaining"))
	}
	resp, _ := c.get("/", from("desktop"))
	require.Equal(t, 200, resp.StatusCode, "another caller has tokens of its own")
	resp, _ = c.get("/", from("mobile"))
	require.Equal(t, ReasonRateLimited, resp.Header.Get(mesh.HeaderReason))

	r.apply()
	resp, _ = c.get("/", from("mobile"))
	require.Equal(t, 429, resp.StatusCode, "a limit that stays keeps its buckets")
	r.tells(`ratelimit_refused_total{limit="quota"} 3`, `ratelimit_allowed_total{limit="quota"} 3`, `response_code="429",grpc_response_status="",response_flags="RL"`)

	r.inbound.Limits = nil
	r.apply()
	resp, _ = c.get("/", from("mobile"))
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, 4, strings.Count(app.bytes(), "GET / "), "what is refused does not reach the application")
}
