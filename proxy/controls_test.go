package proxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/telemetry"
)

func TestGRPCTimeout(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6, "1000000H": 1_000_000 * time.Hour, "0S": 0, "99999999H": -1,
		"": -1, "S": -1, "1": -1, "1s": -1, "-1S": -1, "1.5S": -1, "123456789S": -1, "1 S": -1,
	} {
		d, ok := grpcTimeout([]byte(text))
		if want < 0 {
			require.False(t, ok, text)
			continue
		}
		require.True(t, ok, text)
		require.Equal(t, want, d, text)
	}
}

// The caller's deadline holds when it is shorter than the route's timeout, is told to the upstream, and what was for this hop alone goes no further.
func TestCallersDeadline(t *testing.T) {
	t.Parallel()
	const json, grpc = "content-type: application/json", "content-type: application/grpc+proto"
	tests := map[string]struct {
		route   time.Duration
		headers []string
		tells   []string
		hides   []string
	}{
		"the route's":              {time.Minute, []string{json}, []string{"x-envoy-expected-rq-timeout-ms: 60000"}, nil},
		"none":                     {0, []string{json}, nil, []string{"x-envoy-expected"}},
		"the caller's is shorter":  {time.Minute, []string{"x-envoy-expected-rq-timeout-ms: 31000"}, []string{"x-envoy-expected-rq-timeout-ms: 31000"}, nil},
		"the caller's is longer":   {30 * time.Second, []string{"x-envoy-expected-rq-timeout-ms: 31000"}, []string{"x-envoy-expected-rq-timeout-ms: 30000"}, nil},
		"for this hop":             {30 * time.Second, []string{"x-envoy-upstream-rq-timeout-ms: 37000"}, []string{"x-envoy-expected-rq-timeout-ms: 37000"}, []string{"upstream-rq-timeout"}},
		"of gRPC":                  {time.Minute, []string{grpc, "grpc-timeout: 40S"}, []string{"grpc-timeout: 40000m", "x-envoy-expected-rq-timeout-ms: 40000"}, []string{"grpc-timeout: 40S"}},
		"of gRPC is longer":        {30 * time.Second, []string{grpc, "grpc-timeout: 40S"}, []string{"grpc-timeout: 40S", "x-envoy-expected-rq-timeout-ms: 30000"}, nil},
		"of gRPC in what is none":  {0, []string{json, "grpc-timeout: 2S"}, []string{"grpc-timeout: 2S"}, []string{"x-envoy-expected"}},
		"of gRPC for ever":         {0, []string{grpc, "grpc-timeout: 99999999H"}, []string{"grpc-timeout: 99999999H"}, []string{"x-envoy-expected"}},
		"of gRPC for years":        {0, []string{grpc, "grpc-timeout: 99999H"}, []string{"grpc-timeout: 99999H"}, nil},
		"malformed":                {0, []string{"x-envoy-expected-rq-timeout-ms: soon"}, nil, []string{"x-envoy-expected"}},
		"retries are not for them": {0, []string{"x-envoy-max-retries: 3", "x-envoy-retry-on: 5xx"}, nil, []string{"x-envoy-max-retries", "x-envoy-retry-on"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, o, at := simple(t, answering(200, "hello"), nil)
			host := mesh.FQDN("backend", mesh.DefaultNamespace)
			rule := split(host, "")
			rule.Timeout = test.route
			r.routes(host, rule)
			r.apply()
			resp, _ := call(t, at).get("/", test.headers...)
			require.Equal(t, 200, resp.StatusCode)
			for _, want := range test.tells {
				require.Contains(t, o.bytes(), want+"\r\n")
			}
			for _, gone := range test.hides {
				require.NotContains(t, o.bytes(), gone)
			}
		})
	}
}

// What an attempt is told is what it has: no more than one may take, and no more than is left for all.
func TestAttemptsAreToldWhatIsLeft(t *testing.T) {
	t.Parallel()
	const begin = time.Hour // when the first attempt began
	tests := map[string]struct {
		whole, one time.Duration
		passed     time.Duration // since then
		grpc       bool          // it is a call whose caller has a deadline
		want       []string
	}{
		"nothing":               {0, 0, time.Second, true, nil},
		"the whole":             {time.Second, 0, 0, false, []string{"x-envoy-expected-rq-timeout-ms: 1000"}},
		"one":                   {time.Second, 400 * time.Millisecond, 0, false, []string{"x-envoy-expected-rq-timeout-ms: 400"}},
		"one, later":            {time.Second, 400 * time.Millisecond, 310 * time.Millisecond, false, []string{"x-envoy-expected-rq-timeout-ms: 400"}},
		"less than one is left": {time.Second, 400 * time.Millisecond, 720 * time.Millisecond, false, []string{"x-envoy-expected-rq-timeout-ms: 280"}},
		"what is left":          {time.Second, 0, 720 * time.Millisecond, false, []string{"x-envoy-expected-rq-timeout-ms: 280"}},
		"no whole":              {0, 400 * time.Millisecond, time.Minute, false, []string{"x-envoy-expected-rq-timeout-ms: 400"}},
		"as good as nothing":    {time.Second, 0, time.Second - time.Microsecond, false, []string{"x-envoy-expected-rq-timeout-ms: 1"}},
		"of gRPC":               {time.Second, 0, 720 * time.Millisecond, true, []string{"x-envoy-expected-rq-timeout-ms: 280", "grpc-timeout: 280m"}},
		"one of gRPC":           {time.Second, 400 * time.Millisecond, 0, true, []string{"x-envoy-expected-rq-timeout-ms: 400", "grpc-timeout: 400m"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStream()
			_, err := http1.ParseRequest([]byte("POST / HTTP/1.1\r\nHost: b\r\n\r\n"), &s.req, http1.DefaultLimits())
			require.NoError(t, err)
			s.timeout, s.perTry, s.grpc, s.deadline = test.whole, test.one, test.grpc, test.grpc
			s.sending, s.present = begin, begin+test.passed
			s.trying.Store(int64(s.present))
			s.tellTimeout()
			lines := strings.Split(string(http1.AppendRequest(nil, &s.req, &s.edits)), "\r\n")
			require.ElementsMatch(t, test.want, slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "timeout") }))
		})
	}
}

// Every attempt is told anew, in place of what the one before was told.
func TestEveryAttemptIsTold(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(503, ""), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	rule := split(host, "")
	rule.Timeout = time.Minute
	rule.Retry = &mesh.Retry{Attempts: 2, On: []mesh.RetryOn{mesh.On5xx}, BackoffBase: time.Millisecond, PerTryTimeout: 10 * time.Second}
	r.routes(host, rule)
	r.apply()
	call(t, at).get("/", "content-type: application/grpc", "grpc-timeout: 20S")
	require.Equal(t, 3, strings.Count(o.bytes(), "x-envoy-attempt-count: "))
	require.Equal(t, 3, strings.Count(o.bytes(), "x-envoy-expected-rq-timeout-ms: 10000\r\n"))
	require.Equal(t, 3, strings.Count(o.bytes(), "grpc-timeout: 10000m\r\n"))
	require.Equal(t, 6, strings.Count(o.bytes(), "timeout"))
}

// An attempt that is sent again, because its kept connection had died, is told its number and its time once.
func TestStaleAttemptsAreToldOnce(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, func(k *talk) {
		if k.n == 1 { // answers one request, and dies of the next
			k.head()
			k.say(answer(200, ""))
			k.head()
			return
		}
		answering(200, "")(k)
	}, nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	rule := split(host, "")
	rule.Timeout = time.Minute
	r.routes(host, rule)
	r.apply()
	c := call(t, at)
	c.get("/")
	resp, _ := c.get("/")
	require.Equal(t, 200, resp.StatusCode)
	r.tells("meshtest_sidecar_stale_connections_total 1")
	require.Equal(t, 3, strings.Count(o.bytes(), "GET / "))
	require.Equal(t, 3, strings.Count(o.bytes(), "x-envoy-attempt-count: 1\r\n"))
	require.Equal(t, 3, strings.Count(o.bytes(), "x-envoy-expected-rq-timeout-ms: 60000\r\n"))
}

// A caller may ask for retries, and the upstream is told which attempt it sees, whatever an application passed on.
func TestCallersRetries(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(503, "no"), nil)
	r.apply()
	resp, _ := call(t, at).get("/", "x-envoy-max-retries: 2", "x-envoy-retry-on: gateway-error", "x-envoy-attempt-count: 9")
	require.Equal(t, 503, resp.StatusCode)
	for n := 1; n <= 3; n++ {
		require.Contains(t, o.bytes(), fmt.Sprintf("x-envoy-attempt-count: %d\r\n", n))
	}
	require.NotContains(t, o.bytes(), "x-envoy-attempt-count: 9")
	cells, _, _ := r.evidenceOf(1)
	require.EqualValues(t, 3, cells[0].Attempts)
}

// What the mesh answers to gRPC is an answer of gRPC, and a call is judged by its own status.
func TestGRPCStatuses(t *testing.T) {
	t.Parallel()
	const grpc = "content-type: application/grpc"
	r, _, at := simple(t, answering(200, "", grpc, "grpc-status: 14"), nil)
	resp, _ := call(t, at).get("/pkg.Service/Method", grpc)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "14", resp.Header.Get("grpc-status"))
	cells, _, _ := r.evidenceOf(1)
	require.EqualValues(t, 1, cells[0].Failed, "unavailable is a failure")
	r.tells(`request_protocol="grpc"`, `response_code="200",grpc_response_status="14"`)

	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	r.routes(host, mesh.Route{Name: "r", Direct: &mesh.DirectResponse{Status: 503}})
	r.apply()
	resp, body := call(t, at).get("/pkg.Service/Method", grpc)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "14", resp.Header.Get("grpc-status"))
	require.Equal(t, "application/grpc", resp.Header.Get("content-type"))
	require.Equal(t, ReasonDirectResponse, resp.Header.Get("grpc-message"))
	require.Empty(t, body)
}

// The sidecar of the destination knows who calls from the caller's sidecar, and tells the application nothing of it.
func TestInboundKnowsItsCallers(t *testing.T) {
	t.Parallel()
	app := newOrigin(t, answering(200, "hello"))
	r := newRig(t, nil)
	at := testport.Loopback(t)
	r.inbound.Listen = []mesh.InboundPort{{Bind: at, App: app.address, Port: 80, Protocol: mesh.HTTP}}
	r.apply()
	c := call(t, at)
	peer := string(telemetry.AppendPeer(nil, telemetry.Peer{Workload: "mobile-v2", Namespace: "shop", App: "mobile", Version: "v2"}))
	c.get("/", mesh.HeaderPeer+": "+peer)
	c.get("/")
	require.NotContains(t, app.bytes(), "x-meshtest")
	r.tells(`reporter="destination",source_workload="mobile-v2"`, `reporter="destination",source_workload="unknown"`, `source_version="v2"`)
}

// Callers are told how long the upstream took, in place of what another hop told; of what the sidecar itself answers there is nothing to tell.
func TestServiceTime(t *testing.T) {
	t.Parallel()
	const header = "X-Envoy-Upstream-Service-Time"
	r, _, at := simple(t, answering(200, "", "x-envoy-upstream-service-time: 86400000"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	r.routes(host, mesh.Route{Name: "no", Matches: []mesh.Match{{Path: &mesh.StringMatch{Exact: ptr("/no")}}}, Direct: &mesh.DirectResponse{Status: 503}}, split(host, ""))
	r.apply()
	c := call(t, at)
	resp, _ := c.get("/")
	require.Len(t, resp.Header.Values(header), 1)
	took, err := strconv.Atoi(resp.Header.Get(header))
	require.NoError(t, err)
	require.Less(t, took, 86400000)
	require.GreaterOrEqual(t, took, 0)
	resp, _ = c.get("/no")
	require.Empty(t, resp.Header.Values(header))

	s := newStream()
	s.sending, s.answeredAt = time.Hour, time.Hour+1999*time.Microsecond
	s.tellServiceTime()
	require.Contains(t, string(http1.AppendResponse(nil, &s.resp, &s.replies)), "x-envoy-upstream-service-time: 1\r\n")
}
