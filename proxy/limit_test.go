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

// A sidecar that stands before services holds callers to the limits of the one that a request is routed to, once for all attempts, and of no other.
func TestRateLimitsOfUpstreams(t *testing.T) {
	t.Parallel()
	ok, failing := newOrigin(t, answering(200, "hello")), newOrigin(t, answering(503, ""))
	r := newRig(t, nil)
	a, b, free := r.service("a", mesh.HTTP, map[string][]string{"v1": {ok.address}}), r.service("b", mesh.HTTP, map[string][]string{"v1": {failing.address}}), r.service("free", mesh.HTTP, map[string][]string{"v1": {ok.address}})
	to := func(name, path, host string, retry *mesh.Retry) mesh.Route {
		return mesh.Route{Name: name, Matches: []mesh.Match{{Path: &mesh.StringMatch{Prefix: &path}}}, Split: []mesh.Destination{{Host: host, Port: 80, Weight: 1}}, Retry: retry}
	}
	r.routes(free, to("a", "/a", a, nil), to("b", "/b", b, &mesh.Retry{Attempts: 2, On: []mesh.RetryOn{mesh.On5xx}}), to("free", "/", free, nil))
	at := r.outbound(free, mesh.HTTP)
	limit := func(requests, port int) []mesh.RateLimit {
		return []mesh.RateLimit{{Name: "all", Requests: requests, Per: time.Hour, Headers: true, Matches: []mesh.Match{{Port: port}}}}
	}
	r.inbound.UpstreamLimits = map[string][]mesh.RateLimit{a: limit(1, 80), b: limit(2, 80), free: limit(1, 81)}
	r.apply()
	c := call(t, at)
	statuses := func(path string, requests int) (out []int) {
		for range requests {
			resp, _ := c.get(path)
			out = append(out, resp.StatusCode)
		}
		return out
	}
	require.Equal(t, []int{200, 200, 200}, statuses("/", 3), "its limit is for another port")
	require.Equal(t, []int{200, 429, 429}, statuses("/a", 3))
	require.Equal(t, []int{503, 503, 429}, statuses("/b", 3))
	require.Equal(t, 6, strings.Count(failing.bytes(), "GET /b "), "retries take no tokens")
	resp, _ := c.get("/a")
	require.Equal(t, ReasonRateLimited, resp.Header.Get(mesh.HeaderReason))
	require.Equal(t, "1", resp.Header.Get("x-ratelimit-limit"))
	r.apply()
	require.Equal(t, []int{429}, statuses("/a", 1), "a limit that stays keeps its buckets")
	r.tells(`ratelimit_refused_total{limit="a/all"} 4`, `ratelimit_refused_total{limit="b/all"} 1`, `ratelimit_allowed_total{limit="b/all"} 2`, `ratelimit_allowed_total{limit="free/all"} 0`)
	r.inbound.UpstreamLimits = nil
	r.apply()
	require.Equal(t, []int{200}, statuses("/a", 1))

	r.inbound.UpstreamLimits = map[string][]mesh.RateLimit{a: {{Name: "all"}}}
	require.ErrorContains(t, r.tryApply(), "rate limits of "+a+": limit \"all\":")
}
