package proxy

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// script is a filter that does what it is told.
type script struct {
	decide func(Point, *Exchange) Verdict

	mu   sync.Mutex
	done []Carried
	came chan struct{} // gets one for each Done
}

func newScript(decide func(Point, *Exchange) Verdict) *script {
	return &script{decide: decide, came: make(chan struct{}, 1000)}
}

func (f *script) Name() string { return "script" }

func (f *script) Decide(at Point, x *Exchange) Verdict { return f.decide(at, x) }

func (f *script) Done(c Carried) {
	f.mu.Lock()
	f.done = append(f.done, c)
	f.mu.Unlock()
	f.came <- struct{}{}
}

// ended waits for the end of n effects.
func (f *script) ended(t *testing.T, n int) []Carried {
	t.Helper()
	for range n {
		select {
		case <-f.came:
		case <-time.After(patience):
			t.Fatal("an effect did not end")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}

func filtered(t *testing.T, behave func(*talk), filters ...Filter) (*rig, *origin, string) {
	r, o, at := simple(t, behave, func(o *Options) { o.Filters = filters })
	return r, o, at
}

func TestFiltersSeeTheRequest(t *testing.T) {
	t.Parallel()
	var seen []Exchange
	var points []Point
	f := newScript(func(at Point, x *Exchange) Verdict {
		seen, points = append(seen, *x), append(points, at)
		require.Equal(t, "users-1", string(x.Request.Lookup("x-request-id")))
		require.Equal(t, "users-1", x.Key)
		return Verdict{}
	})
	_, _, at := filtered(t, answering(200, ""), f)
	call(t, at).get("/p", "x-request-id: users-1")
	require.Equal(t, []Point{AtRequest, AtAttempt}, points)
	for i, x := range seen {
		require.EqualValues(t, i, x.Attempt)
		require.Equal(t, mesh.Edge{From: "frontend", To: "backend"}, x.Edge)
		require.Equal(t, "default", x.Route)
		require.Equal(t, "backend.default.svc.cluster.local", x.Host)
		require.Equal(t, 80, x.Port)
		require.Equal(t, "v1", x.Version, "of the endpoint, when the split does not say")
		require.Equal(t, instance, x.Caller.Instance)
		require.EqualValues(t, 7, x.Seed)
	}
}

func TestFilterAnswersAtTheRequest(t *testing.T) {
	t.Parallel()
	var f *script
	f = newScript(func(at Point, _ *Exchange) Verdict {
		if at == AtAttempt {
			return Verdict{}
		}
		return Verdict{Delay: 5 * time.Millisecond, Status: 503, Reason: "because", Flags: FlagFaultInjected | FlagDelayInjected, Effect: f}
	})
	behind := newScript(func(Point, *Exchange) Verdict { panic("a filter behind an answer is not asked") })
	r, o, at := filtered(t, answering(200, ""), f, behind)
	c := call(t, at)
	for range 2 {
		resp, _ := c.get("/")
		require.Equal(t, 503, resp.StatusCode)
		require.Equal(t, "because", resp.Header.Get(mesh.HeaderReason))
	}
	require.Zero(t, o.connections())
	for _, carried := range f.ended(t, 2) {
		require.True(t, carried.Answered)
		require.Equal(t, 5*time.Millisecond, carried.Delayed)
	}
	cells, errs, _ := r.evidenceOf(2)
	require.EqualValues(t, 2, total(cells, func(c mesh.EvidenceCell) uint64 { return c.ByFault }))
	require.Zero(t, total(cells, func(c mesh.EvidenceCell) uint64 { return c.ByMesh + c.Attempts }))
	require.Equal(t, "v1", errs[0].Version)
	require.Equal(t, "because", errs[0].Reason)
	r.tells(`response_flags="FI,DI"} 2`)
}

func total(cells []mesh.EvidenceCell, of func(mesh.EvidenceCell) uint64) (sum uint64) {
	for _, c := range cells {
		sum += of(c)
	}
	return sum
}

func TestFilterAtAttemptsIsBelowRetries(t *testing.T) {
	t.Parallel()
	var f *script
	f = newScript(func(at Point, x *Exchange) Verdict {
		if at == AtAttempt && x.Attempt < 3 {
			return Verdict{Status: 503, Reason: "because", Flags: FlagFaultInjected, Effect: f}
		}
		return Verdict{}
	})
	o := newOrigin(t, answering(200, "ok"))
	r := newRig(t, func(o *Options) { o.Filters = []Filter{f} })
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
	at := r.outbound(host, mesh.HTTP)
	route := split(host, "v1")
	route.Retry = &mesh.Retry{Attempts: 2, On: []mesh.RetryOn{mesh.On5xx}, BackoffBase: time.Millisecond}
	r.routes(host, route)
	r.apply()
	resp, body := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "ok", body)
	f.ended(t, 2)
	cells, _, _ := r.evidenceOf(1)
	require.EqualValues(t, 3, cells[0].Attempts)
	require.EqualValues(t, 2, cells[0].AttemptsKO)
	require.Zero(t, cells[0].Failed+cells[0].ByFault)
	r.tells(`response_code="200",grpc_response_status="",response_flags="-"} 1`)
}

func TestDelayAtAttemptsIsWithinTheTimeouts(t *testing.T) {
	t.Parallel()
	var f *script
	f = newScript(func(at Point, x *Exchange) Verdict {
		if at == AtAttempt && x.Attempt == 1 {
			return Verdict{Delay: time.Hour, Flags: FlagDelayInjected, Effect: f}
		}
		return Verdict{}
	})
	o := newOrigin(t, answering(200, "ok"))
	r := newRig(t, func(o *Options) { o.Filters = []Filter{f} })
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
	at := r.outbound(host, mesh.HTTP)
	route := split(host, "v1")
	route.Retry = &mesh.Retry{Attempts: 1, PerTryTimeout: ample, On: []mesh.RetryOn{mesh.OnReset}, BackoffBase: time.Millisecond}
	r.routes(host, route)
	r.apply()
	resp, _ := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
	carried := f.ended(t, 1)
	require.Less(t, carried[0].Delayed, time.Hour)
}

func TestDelayAtTheRequestIsAboveTheTimeouts(t *testing.T) {
	t.Parallel()
	var f *script
	f = newScript(func(at Point, _ *Exchange) Verdict {
		if at == AtRequest {
			return Verdict{Delay: ample + time.Millisecond, Effect: f}
		}
		return Verdict{}
	})
	o := newOrigin(t, answering(200, "ok"))
	r := newRig(t, func(o *Options) { o.Filters = []Filter{f} })
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
	at := r.outbound(host, mesh.HTTP)
	route := split(host, "v1")
	route.Timeout = ample
	r.routes(host, route)
	r.apply()
	resp, _ := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, ample+time.Millisecond, f.ended(t, 1)[0].Delayed)
}

func TestDelaysEndEarly(t *testing.T) {
	t.Parallel()
	hold := func(cut <-chan struct{}) (*script, chan struct{}) {
		began := make(chan struct{})
		var f *script
		f = newScript(func(at Point, _ *Exchange) Verdict {
			if at != AtRequest {
				return Verdict{}
			}
			close(began)
			return Verdict{Delay: time.Hour, Cut: cut, Status: 503, Effect: f}
		})
		return f, began
	}
	t.Run("when the lease ends, and the request passes", func(t *testing.T) {
		t.Parallel()
		cut := make(chan struct{})
		f, began := hold(cut)
		_, _, at := filtered(t, answering(200, ""), f)
		c := call(t, at)
		c.say("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
		<-began
		close(cut)
		resp, _ := c.reply("GET")
		require.Equal(t, 200, resp.StatusCode)
		carried := f.ended(t, 1)[0]
		require.Less(t, carried.Delayed, time.Hour)
		require.False(t, carried.Answered)
	})
	t.Run("when the caller goes", func(t *testing.T) {
		t.Parallel()
		f, began := hold(nil)
		r, o, at := filtered(t, answering(200, ""), f)
		c := call(t, at)
		c.say("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
		<-began
		require.NoError(t, c.Close())
		require.False(t, f.ended(t, 1)[0].Answered)
		_, errs, _ := r.evidenceOf(1)
		require.Equal(t, reasonCallerGone, errs[0].Reason)
		require.Zero(t, o.connections())
	})
	t.Run("when the sidecar stops", func(t *testing.T) {
		t.Parallel()
		f, began := hold(nil)
		r, _, at := simple(t, answering(200, ""), func(o *Options) {
			o.Filters = []Filter{f}
			o.Timeouts.Drain = 20 * time.Millisecond
		})
		c := call(t, at)
		c.say("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
		<-began
		r.stop()
		<-r.done
		require.False(t, f.ended(t, 1)[0].Answered)
		require.Empty(t, c.ends())
	})
}

func TestAPanicEndsItsConnectionOnly(t *testing.T) {
	t.Parallel()
	var held *script
	held = newScript(func(at Point, x *Exchange) Verdict {
		if at == AtRequest && string(x.Request.Path()) == "/held" {
			return Verdict{Status: 418, Effect: held}
		}
		return Verdict{}
	})
	bad := newScript(func(at Point, x *Exchange) Verdict {
		if string(x.Request.Path()) == "/panic" {
			panic("a mistake")
		}
		return Verdict{}
	})
	r, _, at := filtered(t, answering(200, ""), held, bad)
	other := call(t, at)
	resp, _ := other.get("/")
	require.Equal(t, 200, resp.StatusCode)
	c := call(t, at)
	c.say("GET /panic HTTP/1.1\r\nHost: b\r\n\r\n")
	_, err := c.r.ReadByte()
	require.Error(t, err)
	resp, _ = other.get("/")
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = other.get("/held")
	require.Equal(t, 418, resp.StatusCode)
	r.tells(`meshtest_sidecar_panics_total 1`)
	for _, p := range r.srv.pools.Stats() {
		require.Zero(t, p.Active, "what is in flight is counted right")
	}
}
