package filter_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/injector/filter"
	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
	"meshtest.dev/meshtest/proxy/http1"
)

var _ wire.Leaseholder = (*filter.Filter)(nil)

var caller = &mesh.Workload{Service: "a", Instance: "a-v1-1", Labels: mesh.Labels{"app": "a"}}

func exchange(t testing.TB, key string, change ...func(*proxy.Exchange)) *proxy.Exchange {
	t.Helper()
	head := new(http1.Head)
	raw := "GET /pay?x=1 HTTP/1.1\r\nhost: b\r\nx-user: tester\r\n\r\n"
	parse(t, head, raw)
	x := &proxy.Exchange{Key: key, Seed: 7, Edge: mesh.Edge{From: "a", To: "b"}, Route: "all", Host: "b.default.svc.cluster.local", Port: 80, Version: "v1", Caller: caller, Request: head}
	for _, c := range change {
		c(x)
	}
	return x
}

func abort(id string, change ...func(*mesh.Fault)) mesh.Fault {
	f := mesh.Fault{ID: id, From: "a", To: "b", At: mesh.AtRequest, Abort: &mesh.Abort{Status: 503, Share: 1}}
	for _, c := range change {
		c(&f)
	}
	return f
}

func delay(id string, d time.Duration, change ...func(*mesh.Fault)) mesh.Fault {
	return abort(id, append([]func(*mesh.Fault){func(f *mesh.Fault) { f.Abort, f.Delay = nil, &mesh.Delay{Fixed: d, Share: 1} }}, change...)...)
}

// holder numbers its messages.
type holder struct {
	*filter.Filter
	counter uint64
}

func (h *holder) lease(t testing.TB, f mesh.Fault, ttl time.Duration) {
	t.Helper()
	h.counter++
	require.NoError(t, h.Lease(mesh.Lease{Run: "r", Fault: f.ID, Epoch: 1, Counter: h.counter, TTL: ttl}, f))
}

func still() time.Duration { return 0 }

func (h *holder) account(t testing.TB, fault string) mesh.Accounting {
	t.Helper()
	a, _, ok := h.Account(fault)
	require.True(t, ok)
	return a
}

func TestWhatAFaultMatches(t *testing.T) {
	t.Parallel()
	pay := "/pay"
	tests := []struct {
		name   string
		fault  func(*mesh.Fault)
		change func(*proxy.Exchange)
		at     proxy.Point
		hit    bool
	}{
		{name: "its edge", hit: true},
		{name: "another caller", fault: func(f *mesh.Fault) { f.From = "c" }},
		{name: "another callee", fault: func(f *mesh.Fault) { f.To = "c" }},
		{name: "its version", fault: func(f *mesh.Fault) { f.Version = "v1" }, hit: true},
		{name: "another version", fault: func(f *mesh.Fault) { f.Version = "v2" }},
		{name: "another point", at: proxy.AtAttempt},
		{name: "an attempt", fault: func(f *mesh.Fault) { f.At = mesh.AtAttempt }, at: proxy.AtAttempt, change: func(x *proxy.Exchange) { x.Attempt = 1 }, hit: true},
		{name: "its path", fault: func(f *mesh.Fault) { f.Match = &mesh.Match{Path: &mesh.StringMatch{Exact: &pay}} }, hit: true},
		{name: "another header", fault: func(f *mesh.Fault) {
			f.Match = &mesh.Match{Headers: map[string]mesh.HeaderTest{"x-other": {Present: true}}}
		}},
		{name: "its header", fault: func(f *mesh.Fault) {
			f.Match = &mesh.Match{Headers: map[string]mesh.HeaderTest{"x-user": {Present: true}}}
		}, hit: true},
		{name: "its caller's labels", fault: func(f *mesh.Fault) { f.Match = &mesh.Match{SourceLabels: mesh.Labels{"app": "a"}} }, hit: true},
		{name: "another caller's labels", fault: func(f *mesh.Fault) { f.Match = &mesh.Match{SourceLabels: mesh.Labels{"app": "c"}} }},
		{name: "its port", fault: func(f *mesh.Fault) { f.Match = &mesh.Match{Port: 80} }, hit: true},
		{name: "another port", fault: func(f *mesh.Fault) { f.Match = &mesh.Match{Port: 81} }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := &holder{Filter: filter.New("a-v1-1", still)}
			f := abort("f")
			if test.fault != nil {
				test.fault(&f)
			}
			h.lease(t, f, time.Second)
			x := exchange(t, "k-1")
			if test.change != nil {
				test.change(x)
			}
			v := h.Decide(test.at, x)
			a := h.account(t, "f")
			if !test.hit {
				require.True(t, v.IsZero())
				require.Zero(t, a.Matched)
				return
			}
			require.Equal(t, 503, v.Status)
			require.Equal(t, filter.ReasonAbort, v.Reason)
			require.Equal(t, proxy.FlagFaultInjected, v.Flags)
			require.EqualValues(t, 1, a.Active)
			v.Effect.Done(proxy.Carried{Answered: true})
			require.Equal(t, mesh.Accounting{Fault: "f", Executor: "a-v1-1", State: mesh.LeaseHeld, Matched: 1, Aborted: 1}, h.account(t, "f"))
		})
	}
}

func TestRefusesWhatItCannotExecute(t *testing.T) {
	t.Parallel()
	f := filter.New("a", still)
	open := "("
	lease := mesh.Lease{Run: "r", Fault: "f", Epoch: 1, Counter: 1, TTL: time.Second}
	require.ErrorContains(t, f.Lease(lease, abort("f", func(f *mesh.Fault) { f.Abort = nil })), "neither")
	require.ErrorContains(t, f.Lease(lease, abort("f", func(f *mesh.Fault) { f.Match = &mesh.Match{Path: &mesh.StringMatch{Regex: &open}} })), "match")
	_, _, known := f.Account("f")
	require.False(t, known)
}

func TestFaultsActInOrder(t *testing.T) {
	t.Parallel()
	h := &holder{Filter: filter.New("a", still)}
	h.lease(t, delay("3", 3*time.Second), time.Second)
	h.lease(t, delay("1", time.Second), time.Second)
	h.lease(t, abort("2"), time.Second)
	v := h.Decide(proxy.AtRequest, exchange(t, "k-1"))
	require.Equal(t, time.Second, v.Delay)
	require.Equal(t, 503, v.Status)
	require.Equal(t, proxy.FlagDelayInjected|proxy.FlagFaultInjected, v.Flags)
	require.Zero(t, h.account(t, "3").Matched, "behind an answer nobody is asked")
	v.Effect.Done(proxy.Carried{Delayed: time.Second, Answered: true})
	require.Equal(t, mesh.Accounting{Fault: "1", Executor: "a", State: mesh.LeaseHeld, Matched: 1, Delayed: 1}, h.account(t, "1"))
	require.Equal(t, mesh.Accounting{Fault: "2", Executor: "a", State: mesh.LeaseHeld, Matched: 1, Aborted: 1}, h.account(t, "2"))

	h.lease(t, mesh.Fault{ID: "2"}, 0)
	v = h.Decide(proxy.AtRequest, exchange(t, "k-1"))
	require.Equal(t, 4*time.Second, v.Delay, "delays add up")
	h.lease(t, mesh.Fault{ID: "3"}, 0)
	requireClosed(t, v.Cut)
	v.Effect.Done(proxy.Carried{})
	require.Zero(t, h.account(t, "1").Active+h.account(t, "3").Active)
}

func requireClosed(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	default:
		require.Fail(t, "the channel is open")
	}
}

func TestMaxActiveLetsThrough(t *testing.T) {
	t.Parallel()
	h := &holder{Filter: filter.New("a", still)}
	h.lease(t, delay("f", time.Second, func(f *mesh.Fault) { f.Max = 1 }), time.Second)
	first := h.Decide(proxy.AtRequest, exchange(t, "k-1"))
	second := h.Decide(proxy.AtRequest, exchange(t, "k-2"))
	require.True(t, second.IsZero())
	first.Effect.Done(proxy.Carried{Delayed: time.Second})
	require.Equal(t, mesh.Accounting{Fault: "f", Executor: "a", State: mesh.LeaseHeld, Matched: 2, Delayed: 1, Overflow: 1}, h.account(t, "f"))
}

func TestReleaseCutsDelays(t *testing.T) {
	t.Parallel()
	h := &holder{Filter: filter.New("a", still)}
	f := delay("f", time.Minute)
	h.lease(t, f, time.Second)
	v := h.Decide(proxy.AtRequest, exchange(t, "k-1"))
	h.lease(t, f, time.Second)
	select {
	case <-v.Cut:
		require.Fail(t, "a renewal cuts nothing")
	default:
	}
	_, changed, _ := h.Account("f")
	h.lease(t, mesh.Fault{ID: "f"}, 0)
	requireClosed(t, v.Cut)
	requireClosed(t, changed)
	passed := h.Decide(proxy.AtRequest, exchange(t, "k-2"))
	require.True(t, passed.IsZero(), "new requests see nothing")
	a, changed, _ := h.Account("f")
	require.Equal(t, mesh.LeaseReleased, a.State)
	require.EqualValues(t, 1, a.Active, "residue until the request goes on")
	v.Effect.Done(proxy.Carried{Delayed: time.Second})
	requireClosed(t, changed)
	require.Equal(t, mesh.Accounting{Fault: "f", Executor: "a", State: mesh.LeaseReleased, Matched: 1, Delayed: 1}, h.account(t, "f"))
}

func TestACountGoesOnWhenTheFaultChanges(t *testing.T) {
	t.Parallel()
	h := &holder{Filter: filter.New("a", still)}
	first := abort("f", func(f *mesh.Fault) { f.First = 2 })
	h.lease(t, first, time.Second)
	require.Equal(t, 503, h.Decide(proxy.AtRequest, exchange(t, "k-1")).Status)
	h.lease(t, abort("f", func(f *mesh.Fault) { f.First, f.Abort.Status = 2, 500 }), time.Second)
	require.Equal(t, 500, h.Decide(proxy.AtRequest, exchange(t, "k-2")).Status)
	require.Zero(t, h.Decide(proxy.AtRequest, exchange(t, "k-3")).Status)
	require.EqualValues(t, 3, h.account(t, "f").Matched)
}

// TestKilledHolder: nobody renews, and at its deadline the fault ends by itself, whatever is being delayed.
func TestKilledHolder(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		start := time.Now()
		h := &holder{Filter: filter.New("a", func() time.Duration { return time.Since(start) })}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { h.Run(ctx) })
		h.lease(t, delay("f", 5*time.Minute), 10*time.Second)
		h.lease(t, delay("g", 5*time.Minute, func(f *mesh.Fault) { f.At = mesh.AtAttempt }), 5*time.Second)
		v := h.Decide(proxy.AtRequest, exchange(t, "k-1"))
		_, changed, _ := h.Account("f")
		select {
		case <-v.Cut:
		case <-time.After(time.Minute):
		}
		require.Equal(t, 10*time.Second, time.Since(start))
		synctest.Wait()
		requireClosed(t, changed)
		require.Equal(t, mesh.LeaseLapsed, h.account(t, "f").State)
		require.Equal(t, mesh.LeaseLapsed, h.account(t, "g").State)
		v.Effect.Done(proxy.Carried{Delayed: 10 * time.Second})
		require.Zero(t, h.account(t, "f").Active)
		cancel()
		running.Wait()
	})
}

// TestSleepingMachine: the timer stands still, the boot-time clock does not, and the filter looks at the clock often enough.
func TestSleepingMachine(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		start := time.Now()
		var slept time.Duration
		var mu sync.Mutex
		clock := func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Since(start) + slept
		}
		h := &holder{Filter: filter.New("a", clock)}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { h.Run(ctx) })
		h.lease(t, abort("f"), 10*time.Second)
		_, changed, _ := h.Account("f")
		mu.Lock()
		slept = time.Hour
		mu.Unlock()
		<-changed
		require.LessOrEqual(t, time.Since(start), time.Second)
		require.Equal(t, mesh.LeaseLapsed, h.account(t, "f").State)
		cancel()
		running.Wait()
	})
}

// TestAccountingUnderTraffic: with faults coming and going, what was decided is what is accounted for.
func TestAccountingUnderTraffic(t *testing.T) {
	t.Parallel()
	h := &holder{Filter: filter.New("a", still)}
	f := abort("f", func(f *mesh.Fault) { f.Abort.Share, f.Delay = 0.5, &mesh.Delay{Fixed: 1, Share: 0.5} })
	var delayed, aborted sync.Map
	var wg sync.WaitGroup
	count := func(m *sync.Map, w int) { n, _ := m.LoadOrStore(w, 0); m.Store(w, n.(int)+1) }
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				v := h.Decide(proxy.AtRequest, exchange(t, fmt.Sprintf("k%d-%d", w, i)))
				if v.Delay > 0 {
					count(&delayed, w)
				}
				if v.Status != 0 {
					count(&aborted, w)
				}
				if v.Effect != nil {
					v.Effect.Done(proxy.Carried{Delayed: v.Delay, Answered: v.Status != 0})
				}
			}
		})
	}
	for range 200 {
		h.lease(t, f, time.Second)
		h.lease(t, f, 0)
	}
	h.lease(t, f, time.Second)
	wg.Wait()
	sum := func(m *sync.Map) (n uint64) {
		m.Range(func(_, v any) bool { n += uint64(v.(int)); return true })
		return n
	}
	a := h.account(t, "f")
	require.Equal(t, sum(&delayed), a.Delayed)
	require.Equal(t, sum(&aborted), a.Aborted)
	require.Zero(t, a.Active)
	require.GreaterOrEqual(t, a.Matched, max(a.Delayed, a.Aborted))
}

func BenchmarkPass(b *testing.B) {
	h := &holder{Filter: filter.New("a", still)}
	h.lease(b, abort("f", func(f *mesh.Fault) { f.Abort.Share = 0 }), time.Second)
	x := exchange(b, "k-1")
	b.ReportAllocs()
	for b.Loop() {
		if v := h.Decide(proxy.AtRequest, x); !v.IsZero() {
			b.Fatal("it did not pass")
		}
	}
}

func TestPassingAllocatesNothing(t *testing.T) {
	h := &holder{Filter: filter.New("a", still)}
	h.lease(t, abort("f", func(f *mesh.Fault) { f.Abort.Share = 0 }), time.Second)
	x := exchange(t, "k-1")
	require.Zero(t, testing.AllocsPerRun(100, func() { h.Decide(proxy.AtRequest, x) }))
}

func parse(t testing.TB, head *http1.Head, raw string) {
	t.Helper()
	n, err := http1.ParseRequest([]byte(raw), head, http1.DefaultLimits())
	require.NoError(t, err)
	require.Equal(t, len(raw), n)
}
