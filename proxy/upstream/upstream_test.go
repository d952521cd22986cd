package upstream

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listening is an address that takes connections and keeps them open; hangUp closes all that it has.
func listening(t *testing.T) (address string, hangUp func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	taken := make(chan net.Conn, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	hangUp = func() {
		for {
			select {
			case c := <-taken:
				c.Close()
			default:
				return
			}
		}
	}
	t.Cleanup(func() { l.Close(); <-done; hangUp() })
	return l.Addr().String(), hangUp
}

func newPools(t *testing.T, o Options) *Pools {
	t.Helper()
	ps := NewPools(o)
	t.Cleanup(ps.Close)
	return ps
}

// endpoints makes n endpoints with the weights given, or none.
func endpoints(n int, weights ...uint32) []mesh.Endpoint {
	var list []mesh.Endpoint
	for i := range n {
		e := mesh.Endpoint{Address: "127.0.0.1", Port: 1000 + i, Labels: mesh.Labels{mesh.LabelVersion: fmt.Sprintf("v%d", i%2)}}
		if i < len(weights) {
			e.Weight = weights[i]
		}
		list = append(list, e)
	}
	return list
}

func newGroup(t *testing.T, list []mesh.Endpoint, labels mesh.Labels, b mesh.Balancer) *Group {
	t.Helper()
	g, err := newPools(t, Options{}).NewGroup(Destination{Name: "g", Endpoints: list, Labels: labels, Policy: mesh.TrafficPolicy{Balancer: b}})
	require.NoError(t, err)
	return g
}

// picks counts n picks by independent draws.
func picks(g *Group, n int) map[int]int {
	counts := map[int]int{}
	for i := range n {
		counts[g.Pick(Choice{Draw: mesh.Chance(1, mesh.PurposeSample, "x", "a->b", fmt.Sprint(i), 1)}).Port]++
	}
	return counts
}

func TestBalancersSpread(t *testing.T) {
	t.Parallel()
	const n = 30_000
	for _, b := range []mesh.Balancer{mesh.LeastRequest, mesh.RoundRobin, mesh.Random} {
		for port, count := range picks(newGroup(t, endpoints(3), nil, b), n) {
			require.InDelta(t, n/3, count, n/50, "%s %d", b, port)
		}
		weighted := picks(newGroup(t, endpoints(3, 1, 2, 3), nil, b), n)
		for i, want := range []int{n / 6, n / 3, n / 2} {
			require.InDelta(t, want, weighted[1000+i], n/50, "%s weighted", b)
		}
	}
	require.Equal(t, map[int]int{1000: 10, 1001: 10, 1002: 10}, picks(newGroup(t, endpoints(3), nil, mesh.RoundRobin), 30))
}

func TestLeastRequestAvoidsTheBusy(t *testing.T) {
	t.Parallel()
	g := newGroup(t, endpoints(2), nil, "")
	for range 5 {
		g.Endpoints[0].Pool.Begin()
	}
	counts := picks(g, 10_000)
	require.InDelta(t, 2500, counts[1000], 300, "only when both choices fall on it")
	for range 5 {
		g.Endpoints[0].Pool.End()
	}
}

func TestGroupsTakeWhatIsHealthyAndLabelled(t *testing.T) {
	t.Parallel()
	list := endpoints(4)
	list[0].Health, list[1].Health, list[2].Health = mesh.Unhealthy, mesh.Draining, mesh.Healthy
	g := newGroup(t, list, nil, "")
	require.Len(t, g.Endpoints, 4)
	counts := picks(g, 100)
	require.Zero(t, counts[1000]+counts[1001])
	require.Equal(t, map[int]int{1003: 100}, picks(newGroup(t, list, mesh.Labels{mesh.LabelVersion: "v1"}, ""), 100))
	require.Nil(t, newGroup(t, list[:2], nil, "").Pick(Choice{}))
	require.Nil(t, newGroup(t, list, mesh.Labels{"no": "body"}, "").Pick(Choice{}))
	_, err := newPools(t, Options{}).NewGroup(Destination{Name: "g", Endpoints: list, Policy: mesh.TrafficPolicy{Balancer: "BEST"}})
	require.ErrorContains(t, err, "BEST")
}

func TestPickAvoidsWhatWasTried(t *testing.T) {
	t.Parallel()
	for _, b := range []mesh.Balancer{mesh.LeastRequest, mesh.RoundRobin, mesh.Random} {
		g := newGroup(t, endpoints(3), nil, b)
		for i := range 200 {
			var tried []*Pool
			seen := map[*Pool]bool{}
			for attempt := range 3 {
				e := g.Pick(Choice{Draw: mesh.Chance(1, mesh.PurposeSample, "x", "", fmt.Sprint(i), uint32(attempt)), Tried: tried})
				tried = append(tried, e.Pool)
				seen[e.Pool] = true
			}
			require.Len(t, seen, 3, "%s: three attempts, three endpoints", b)
			for i := range 20 {
				require.NotEqual(t, tried[len(tried)-1], g.Pick(Choice{Draw: mix(mesh.Draw(i)), Tried: tried}).Pool, "when all have been tried, any will do but the last")
			}
		}
	}
}

func TestRetryBudget(t *testing.T) {
	t.Parallel()
	var l Load
	require.False(t, l.BeginRetry(20, 0))
	require.True(t, l.BeginRetry(20, 1))
	require.False(t, l.BeginRetry(20, 1))
	for range 10 {
		l.Begin()
	}
	require.True(t, l.BeginRetry(20, 1), "20 %% of 10 in flight")
	require.False(t, l.BeginRetry(20, 1))
	l.EndRetry()
	require.True(t, l.BeginRetry(20, 1))
	for range 10 {
		l.End()
	}
	require.False(t, l.BeginRetry(20, 1))
}

func TestPickAllocatesNothing(t *testing.T) {
	g := newGroup(t, endpoints(5), nil, "")
	var i atomic.Uint64
	require.Zero(t, testing.AllocsPerRun(100, func() { g.Pick(Choice{Draw: mesh.Draw(i.Add(golden))}) }))
}
