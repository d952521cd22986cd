package proxy

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/route"
)

// flaky answers 503 to the first n requests and 200 to the others.
func flaky(n int64) func(*talk) {
	var seen atomic.Int64
	return func(k *talk) {
		for {
			req, body := k.request()
			if req == nil {
				return
			}
			if seen.Add(1) <= n {
				k.say(answer(503, "no"))
			} else {
				k.say(answer(200, body))
			}
		}
	}
}

// withRetries is a rig whose one route retries.
func withRetries(t *testing.T, retry mesh.Retry, timeout time.Duration, scripts ...func(*talk)) (*rig, []*origin, string) {
	t.Helper()
	r := newRig(t, nil)
	var origins []*origin
	var addresses []string
	for _, script := range scripts {
		o := newOrigin(t, script)
		origins, addresses = append(origins, o), append(addresses, o.address)
	}
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": addresses})
	at := r.outbound(host, mesh.HTTP)
	route := split(host, "v1")
	retry.BackoffBase = time.Millisecond
	route.Retry, route.Timeout = &retry, timeout
	r.routes(host, route)
	r.apply()
	return r, origins, at
}

func TestRetries(t *testing.T) {
	t.Parallel()
	r, _, at := withRetries(t, mesh.Retry{Attempts: 2, On: []mesh.RetryOn{mesh.On5xx}}, 0, flaky(2))
	c := call(t, at)
	c.say("POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\nbody")
	resp, body := c.reply("POST")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "body", body, "the body is sent again")
	cells, _, _ := r.evidenceOf(1)
	require.EqualValues(t, 3, cells[0].Attempts)
	require.EqualValues(t, 2, cells[0].AttemptsKO)
	require.Zero(t, cells[0].Failed)
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	r, _, at := withRetries(t, mesh.Retry{Attempts: 2, On: []mesh.RetryOn{mesh.OnGatewayError}}, 0, flaky(100))
	c := call(t, at)
	resp, body := c.get("/")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "no", body, "the upstream's own answer")
	require.Empty(t, resp.Header.Get(mesh.HeaderReason))
	cells, _, _ := r.evidenceOf(1)
	require.EqualValues(t, 3, cells[0].Attempts)
	require.EqualValues(t, 1, cells[0].Failed)
	require.Zero(t, cells[0].ByMesh)
	r.tells(`response_flags="URX"} 1`)
}

func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	all := []mesh.RetryOn{mesh.On5xx, mesh.OnGatewayError, mesh.OnReset, mesh.OnConnectFailure, mesh.OnRetriable4xx, mesh.OnRetriableStatus}
	for _, test := range []struct {
		o    outcome
		want []bool // by the conditions above, alone
	}{
		{outcome{kind: answered, status: 200}, []bool{false, false, false, false, false, false}},
		{outcome{kind: answered, status: 500}, []bool{true, false, false, false, false, false}},
		{outcome{kind: answered, status: 502}, []bool{true, true, false, false, false, false}},
		{outcome{kind: answered, status: 504}, []bool{true, true, false, false, false, false}},
		{outcome{kind: answered, status: 505}, []bool{true, false, false, false, false, false}},
		{outcome{kind: answered, status: 409}, []bool{false, false, false, false, true, false}},
		{outcome{kind: answered, status: 418}, []bool{false, false, false, false, false, true}},
		{outcome{kind: verdict, status: 503}, []bool{true, true, false, false, false, false}},
		{outcome{kind: unreached, status: 503}, []bool{true, true, true, true, false, false}},
		{outcome{kind: unanswered, status: 503}, []bool{true, true, true, false, false, false}},
		{outcome{kind: garbled, status: 502}, []bool{true, true, true, false, false, false}},
		{outcome{kind: expired, status: 504}, []bool{true, true, true, false, false, false}},
		{outcome{kind: nowhere, status: 503}, []bool{false, false, false, false, false, false}},
	} {
		for i, on := range all {
			policy := &mesh.Retry{On: []mesh.RetryOn{on}, Statuses: []int{418}}
			s := &stream{retryOn: route.CompileRetryOn(policy)}
			require.Equal(t, test.want[i], s.retriable(&test.o), "%v %d on %s", test.o.kind, test.o.status, on)
		}
	}
}

func TestRetriesPreferOtherEndpoints(t *testing.T) {
	t.Parallel()
	bad := func(k *talk) { answering(503, "bad")(k) }
	r, origins, at := withRetries(t, mesh.Retry{Attempts: 1, On: []mesh.RetryOn{mesh.On5xx}}, 0, bad, answering(200, "good"))
	c := call(t, at)
	for i := range 40 {
		resp, body := c.get("/", fmt.Sprintf("x-request-id: users-%d", i))
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "good", body)
	}
	require.Positive(t, origins[0].connections(), "the bad one was tried at all")
	_ = r
}

func TestConnectFailures(t *testing.T) {
	t.Parallel()
	live := newOrigin(t, answering(200, "live"))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {testport.Refusing(t), live.address}})
	dead := r.service("dead", mesh.HTTP, map[string][]string{"v1": {testport.Refusing(t)}})
	none := r.service("none", mesh.HTTP, nil)
	at, atDead, atNone := r.outbound(host, mesh.HTTP), r.outbound(dead, mesh.HTTP), r.outbound(none, mesh.HTTP)
	r.apply()
	c := call(t, at)
	for i := range 20 {
		resp, _ := c.get("/", fmt.Sprintf("x-request-id: users-%d", i))
		require.Equal(t, 200, resp.StatusCode, "a host without rules retries connections that cannot be made")
	}
	resp, body := call(t, atDead).get("/")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, ReasonConnectFailure, resp.Header.Get(mesh.HeaderReason))
	require.Equal(t, ReasonConnectFailure, body)
	require.False(t, resp.Close)
	resp, _ = call(t, atNone).get("/")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, ReasonNoHealthy, resp.Header.Get(mesh.HeaderReason))
	cells, _, _ := r.evidenceOf(22)
	r.tells(`response_flags="UF,URX"} 1`, `response_flags="UH"} 1`)
	for _, cell := range cells {
		require.Equal(t, cell.Failed, cell.ByMesh)
	}
}

func TestRouteTimeout(t *testing.T) {
	t.Parallel()
	var silent = func(k *talk) {
		for k.head() != "" {
		}
	}
	r, _, at := withRetries(t, mesh.Retry{}, 30*time.Millisecond, silent)
	c := call(t, at)
	for range 2 {
		resp, _ := c.get("/")
		require.Equal(t, 504, resp.StatusCode)
		require.Equal(t, ReasonTimeout, resp.Header.Get(mesh.HeaderReason))
		require.False(t, resp.Close, "the caller's connection is as good as before")
	}
	_, errs, _ := r.evidenceOf(2)
	require.Equal(t, ReasonTimeout, errs[0].Reason)
	require.GreaterOrEqual(t, errs[0].Latency, 30*time.Millisecond)
}

func TestPerTryTimeout(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	script := func(k *talk) {
		for k.head() != "" {
			if n.Add(1) > 2 {
				k.say(answer(200, "at last"))
			}
		}
	}
	r, _, at := withRetries(t, mesh.Retry{Attempts: 3, PerTryTimeout: ample, On: []mesh.RetryOn{mesh.OnReset}}, patience, script)
	resp, body := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "at last", body)
	cells, _, _ := r.evidenceOf(1)
	require.EqualValues(t, 3, cells[0].Attempts)
	require.EqualValues(t, 2, cells[0].AttemptsKO)
}

func TestPerTryTimeoutExhausted(t *testing.T) {
	t.Parallel()
	silent := func(k *talk) {
		for k.head() != "" {
		}
	}
	_, _, at := withRetries(t, mesh.Retry{Attempts: 1, PerTryTimeout: 20 * time.Millisecond, On: []mesh.RetryOn{mesh.On5xx}}, 0, silent)
	resp, _ := call(t, at).get("/")
	require.Equal(t, 504, resp.StatusCode)
	require.Equal(t, ReasonTryTimeout, resp.Header.Get(mesh.HeaderReason))
}

func TestTimeoutCutsAnAnswerThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	drip := func(k *talk) {
		k.head()
		k.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
		_ = k.head()
	}
	r, _, at := withRetries(t, mesh.Retry{}, ample, drip)
	c := call(t, at)
	c.say("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
	require.True(t, strings.HasSuffix(c.ends(), "\r\n\r\nx"))
	_, errs, _ := r.evidenceOf(1)
	require.Equal(t, ReasonTimeout, errs[0].Reason)
	require.Equal(t, 200, errs[0].Status)
}

func TestStaleConnectionsAreNoFailures(t *testing.T) {
	t.Parallel()
	// Each connection carries one request; then the origin closes it without saying so.
	once := func(k *talk) {
		if req, body := k.request(); req != nil {
			k.say(answer(200, body))
		}
	}
	r, o, at := simple(t, once, nil)
	c := call(t, at)
	for range 20 {
		resp, _ := c.get("/")
		require.Equal(t, 200, resp.StatusCode)
		c.say("POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\nbody")
		resp, _ = c.reply("POST")
		if resp.StatusCode != 200 { // the origin's end may be on its way while we look
			require.Equal(t, 503, resp.StatusCode)
			require.Equal(t, ReasonReset, resp.Header.Get(mesh.HeaderReason))
		}
	}
	require.GreaterOrEqual(t, o.connections(), 20)
	cells, _, _ := r.evidenceOf(40)
	for _, cell := range cells {
		require.Equal(t, cell.Requests, cell.Attempts, "a repetition on a fresh connection is no attempt of its own")
	}
}

func TestResetWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	_, o, at := simple(t, func(k *talk) { k.head() }, nil)
	resp, _ := call(t, at).get("/")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, ReasonReset, resp.Header.Get(mesh.HeaderReason))
	require.Equal(t, 1, o.connections(), "on a fresh connection it is repeated only by a policy")
}

func TestStreamedBodyIsSentAgainWhileItIsSmall(t *testing.T) {
	t.Parallel()
	_, _, at := withRetries(t, mesh.Retry{Attempts: 1, PerTryTimeout: patience, On: []mesh.RetryOn{mesh.On5xx}}, 2*patience, func(k *talk) {
		if k.n == 1 {
			k.head()
			k.say(answer(503, "not yet", "Connection: close")) // the whole request may have been sent by then, and the connection would be used again
			_ = k.head()
			return
		}
		echoing(k)
	})
	c := call(t, at)
	c.say("POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nhello\r\n")
	c.say("6\r\n world\r\n0\r\n\r\n")
	resp, body := c.reply("POST")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "hello world", body)
}

func TestRetryBudget(t *testing.T) {
	t.Parallel()
	r, _, at := withRetries(t, mesh.Retry{Attempts: 5, On: []mesh.RetryOn{mesh.On5xx}, Budget: &mesh.RetriesBudget{Percent: 20, MinConcurrency: 0}}, 0, flaky(100))
	resp, _ := call(t, at).get("/")
	require.Equal(t, 503, resp.StatusCode)
	cells, _, _ := r.evidenceOf(1)
	require.EqualValues(t, 1, cells[0].Attempts)
	require.EqualValues(t, 1, r.srv.count.budget.Value())
}

func TestBackoffIsFullJitter(t *testing.T) {
	t.Parallel()
	s := newStream()
	s.cfg = &config{inbound: &mesh.Inbound{Seed: 1}}
	s.dest = &destination{arm: newArm()}
	for attempt, ceiling := range map[uint32]time.Duration{1: 25, 2: 75, 3: 175, 4: 250, 5: 250, 40: 250} {
		s.attempt, s.retry = attempt, &mesh.Retry{BackoffBase: 25 * time.Millisecond}
		var highest time.Duration
		for i := range 2000 {
			s.key = fmt.Sprint(i)
			d := s.backoff()
			require.GreaterOrEqual(t, d, time.Duration(0))
			require.Less(t, d, ceiling*time.Millisecond)
			highest = max(highest, d)
		}
		require.Greater(t, highest, ceiling*time.Millisecond*9/10, "attempt %d", attempt)
	}
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, func(k *talk) {
		k.head()
		k.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy")
	}, nil)
	resp, _ := call(t, at).get("/")
	require.Equal(t, 502, resp.StatusCode)
	require.Equal(t, ReasonBadResponse, resp.Header.Get(mesh.HeaderReason))
}

func TestEndlessInterimAnswers(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, func(k *talk) {
		k.head()
		k.say(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000))
		_ = k.head()
	}, nil)
	c := call(t, at)
	c.say("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
	for i := range maxInterim {
		resp, _ := c.reply("GET")
		require.Equal(t, 103, resp.StatusCode, i)
	}
	resp, _ := c.reply("GET")
	require.Equal(t, 502, resp.StatusCode)
}

func TestCallerThatGoesIsNoticed(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	r, _, at := simple(t, func(k *talk) {
		k.head()
		if k.head() == "" { // blocks until the proxy hangs up
			close(gone)
		}
	}, nil)
	c := call(t, at)
	c.say("GET / HTTP/1.1\r\nHost: b\r\nx-request-id: users-1\r\n\r\n")
	require.NoError(t, c.Close())
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("the upstream still works for a caller who has gone")
	}
	_, errs, _ := r.evidenceOf(1)
	require.Equal(t, reasonCallerGone, errs[0].Reason)
	require.Zero(t, errs[0].Status)
}

func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	r := newRig(t, nil)
	r.srv.opts.Dial = nil
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {"192.0.2.1:80"}}) // TEST-NET-1 answers nobody; where it is unreachable, that is an answer
	r.snapshot.Services[host].Traffic.ConnectTimeout = 20 * time.Millisecond
	route := split(host, "v1")
	at := r.outbound(host, mesh.HTTP)
	r.routes(host, route)
	r.apply()
	resp, _ := call(t, at).get("/")
	require.Equal(t, 503, resp.StatusCode)
	require.Contains(t, []string{ReasonConnectTimeout, ReasonConnectFailure}, resp.Header.Get(mesh.HeaderReason))
}
