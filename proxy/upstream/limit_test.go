package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/mesh"
)

// lines are connections that exist only as pipes, and are counted.
type lines struct {
	open, most atomic.Int64
	made       atomic.Int64
	broken     atomic.Bool   // none can be made
	delay      time.Duration // that making one takes
}

func (l *lines) dial(ctx context.Context, _ string) (net.Conn, error) {
	if n := l.open.Add(1); n > l.most.Load() {
		l.most.Store(n) // who is above a limit here is caught sooner or later
	}
	select {
	case <-ctx.Done():
		l.open.Add(-1)
		return nil, ctx.Err()
	case <-time.After(l.delay):
	}
	if l.broken.Load() {
		l.open.Add(-1)
		return nil, errors.New("connection refused")
	}
	l.made.Add(1)
	near, _ := net.Pipe()
	return &line{Conn: near, close: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type line struct {
	net.Conn
	close func()
}

func (l *line) Close() error {
	defer l.close()
	return l.Conn.Close()
}

// seeker is a request that waits for a connection to the group's endpoint.
type seeker struct {
	conn *Conn
	err  error
	done bool
}

func seek(ctx context.Context, g *Group, endpoint int, w Want) *seeker {
	a := &seeker{}
	go func() {
		a.conn, a.err = g.Connect(ctx, g.Endpoints[endpoint], w)
		a.done = true
	}()
	synctest.Wait()
	return a
}

// bubble runs a test on pipes, in a time of its own.
func bubble(t *testing.T, test func(t *testing.T, ps *Pools, l *lines)) {
	t.Helper()
	testbubble.Test(t, func(t *testing.T) {
		l := &lines{}
		ps := NewPools(Options{Dial: l.dial, IdleTimeout: time.Hour})
		test(t, ps, l)
		ps.Close()
		synctest.Wait()
		require.Zero(t, l.open.Load(), "all connections are closed")
	})
}

func TestRequestsWaitInLine(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1, MaxPending: 2}), "10.0.0.1:80")
		first := connect(t, g)
		second, third := seek(t.Context(), g, 0, Want{}), seek(t.Context(), g, 0, Want{})
		require.False(t, second.done || third.done)
		fourth := seek(t.Context(), g, 0, Want{})
		overflow, ok := IsOverflow(fourth.err)
		require.True(t, ok)
		require.Equal(t, TooManyPending, overflow)

		first.Put()
		synctest.Wait()
		require.Same(t, first, second.conn, "the first in line gets what was given back")
		require.True(t, second.conn.Reused)
		require.False(t, third.done)
		second.conn.Discard()
		synctest.Wait()
		require.NotNil(t, third.conn, "another may be made when one is closed")
		require.False(t, third.conn.Reused)
		third.conn.Put()
		require.EqualValues(t, 1, l.most.Load())
		require.Equal(t, []DestinationStats{{
			Name: g.account.name, Limits: mesh.ConnectionPool{MaxConnections: 1, MaxPending: 2}, Connections: 1, CxOverflow: 3, PendingOverflow: 1,
		}}, ps.Destinations())
	})
}

func TestWhoCameFirstIsServedFirst(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.1:80")
		conn := connect(t, g)
		var line []*seeker
		for range 20 {
			line = append(line, seek(t.Context(), g, 0, Want{}))
		}
		require.Equal(t, 20, ps.Stats()[0].Pending)
		require.Nil(t, take(t, g, Want{}), "nobody pushes in")
		for _, a := range line {
			require.False(t, a.done)
			conn.Put()
			synctest.Wait()
			require.Same(t, conn, a.conn)
		}
		conn.Put()
		require.Zero(t, ps.Stats()[0].Pending)
	})
}

// TestNobodyStarves lets a request to one endpoint wait behind the many for another one that has the only connection.
func TestNobodyStarves(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.1:80", "10.0.0.2:80")
		conn := connect(t, g)
		other := seek(t.Context(), g, 1, Want{})
		var line []*seeker
		for range patience + 2 {
			line = append(line, seek(t.Context(), g, 0, Want{}))
		}
		for i := range patience {
			conn.Put()
			synctest.Wait()
			require.Same(t, conn, line[i].conn, "changing over costs a connection")
			require.False(t, other.done)
		}
		conn.Put()
		synctest.Wait()
		require.NotNil(t, other.conn, "but only for so long")
		require.False(t, line[patience].done)
		other.conn.Put()
		synctest.Wait()
		require.NotNil(t, line[patience].conn)
		line[patience].conn.Put()
		synctest.Wait()
		line[patience+1].conn.Put()
		require.EqualValues(t, 1, l.most.Load())
	})
}

func TestUnusedConnectionsMakeWay(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.1:80", "10.0.0.2:80")
		connect(t, g).Put()
		other := seek(t.Context(), g, 1, Want{})
		require.NotNil(t, other.conn)
		other.conn.Put()
		require.Nil(t, take(t, g, Want{}))
		c := fresh(t, g)
		c.Put()
		tunnel := seek(t.Context(), g, 0, Want{Tunnel: true})
		require.NotNil(t, tunnel.conn)
		tunnel.conn.Discard()
		require.EqualValues(t, 1, l.most.Load())
		require.EqualValues(t, 4, l.made.Load())
	})
}

func TestTunnelsAreRefused(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.1:80")
		first := seek(t.Context(), g, 0, Want{Tunnel: true})
		require.NotNil(t, first.conn)
		overflow, _ := IsOverflow(seek(t.Context(), g, 0, Want{Tunnel: true}).err)
		require.Equal(t, TooManyConnections, overflow)
		request := seek(t.Context(), g, 0, Want{})
		require.False(t, request.done)
		first.conn.Discard()
		synctest.Wait()
		require.NotNil(t, request.conn)
		request.conn.Discard()
		require.EqualValues(t, 1, ps.Destinations()[0].CxOverflow-1, "the request's wait is one, too")
	})
}

func TestGivingUpWhileWaiting(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.1:80")
		conn := connect(t, g)
		ctx, cancel := context.WithCancel(t.Context())
		gone, patient := seek(ctx, g, 0, Want{}), seek(t.Context(), g, 0, Want{})
		cancel()
		synctest.Wait()
		require.ErrorIs(t, gone.err, context.Canceled)
		conn.Put()
		synctest.Wait()
		require.Same(t, conn, patient.conn)

		// A grant and the end of the wait at once: whatever the request makes of it, the next one is served.
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			torn, next := seek(ctx, g, 0, Want{}), seek(t.Context(), g, 0, Want{})
			go cancel()
			if rand.IntN(2) == 0 {
				conn.Put()
			} else {
				conn.Discard()
			}
			synctest.Wait()
			if torn.conn != nil {
				require.False(t, next.done)
				torn.conn.Put()
				synctest.Wait()
			}
			conn = next.conn
			require.NotNil(t, conn)
		}
		conn.Put()
		require.Equal(t, 1, ps.Destinations()[0].Connections)
		require.EqualValues(t, 1, l.most.Load())
	})
}

func TestLimitsChangeWhileRequestsWait(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		old := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.1:80")
		a := connect(t, old)
		b, c := seek(t.Context(), old, 0, Want{}), seek(t.Context(), old, 0, Want{})
		wider := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 4}), "10.0.0.1:80")
		require.False(t, b.done, "nobody has used it")
		d := seek(t.Context(), wider, 0, Want{})
		require.True(t, b.conn != nil && c.conn != nil && d.conn != nil)
		require.EqualValues(t, 4, l.open.Load())
		e := seek(t.Context(), old, 0, Want{})
		require.False(t, e.done, "the newest configuration rules")

		narrower := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 2}), "10.0.0.1:80")
		f := seek(t.Context(), narrower, 0, Want{})
		a.Put()
		b.conn.Put()
		synctest.Wait()
		require.EqualValues(t, 2, l.open.Load(), "what is too much is closed when it is given back")
		require.False(t, e.done || f.done)

		free := connecting(t, ps, Destination{}, "10.0.0.1:80")
		g := seek(t.Context(), free, 0, Want{})
		require.True(t, e.conn != nil && f.conn != nil && g.conn != nil)
		for _, conn := range []*Conn{c.conn, d.conn, e.conn, f.conn, g.conn} {
			conn.Put()
		}
		require.Equal(t, 5, ps.Stats()[0].Idle)
	})
}

// TestWaitingOutlivesTheConfiguration retires the pool that a request waits at.
func TestWaitingOutlivesTheConfiguration(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.1:80")
		conn := connect(t, g)
		waits := seek(t.Context(), g, 0, Want{})
		ps.Retain(nil)
		again := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.2:80")
		require.Same(t, g.account, again.account, "there is a connection that counts")
		late := seek(t.Context(), again, 0, Want{})
		conn.Put()
		synctest.Wait()
		require.NotNil(t, waits.conn)
		require.False(t, late.done)
		waits.conn.Put()
		synctest.Wait()
		require.NotNil(t, late.conn)
		late.conn.Put()
		require.EqualValues(t, 1, l.most.Load())
	})
}

func TestRequestsInFlight(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxRequests: 2}), "10.0.0.1:80")
		a, b := connect(t, g), connect(t, g)
		_, err := g.Connect(t.Context(), g.Endpoints[0], Want{})
		require.ErrorIs(t, err, TooManyRequests)
		_, err = g.Take(g.Endpoints[0], Want{})
		require.ErrorIs(t, err, TooManyRequests)
		require.ErrorContains(t, err, "upstream_rq_pending_overflow")
		require.EqualValues(t, 2, l.made.Load())
		a.Put()
		a = connect(t, g)
		a.Discard()
		b.Put()
		connect(t, g).Put()
		require.Equal(t, DestinationStats{Name: g.account.name, Limits: g.limits, Connections: 1, PendingOverflow: 2}, ps.Destinations()[0])
	})
}

func TestRetriesInFlight(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxRetries: 2}), "10.0.0.1:80")
		connect(t, g).Put()
		budget := &mesh.RetriesBudget{Percent: 100, MinConcurrency: 1}
		require.NoError(t, g.BeginRetry(budget))
		require.ErrorIs(t, g.BeginRetry(budget), TooManyRetries, "the budget")
		require.NoError(t, g.BeginRetry(nil))
		require.ErrorIs(t, g.BeginRetry(nil), TooManyRetries, "the limit")
		g.EndRetry()
		g.EndRetry()
		require.NoError(t, g.BeginRetry(budget))
		g.EndRetry()
		require.EqualValues(t, 2, ps.Destinations()[0].RetryOverflow)
		require.Zero(t, ps.Destinations()[0].Retries)
		require.Zero(t, g.Load.retries.Load())
	})
}

func TestRefusedConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		l.delay = time.Second
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 1}), "10.0.0.1:80")
		l.broken.Store(true)
		a, b := seek(t.Context(), g, 0, Want{}), seek(t.Context(), g, 0, Want{})
		time.Sleep(time.Second)
		synctest.Wait()
		require.Error(t, a.err)
		require.False(t, b.done, "its own attempt")
		l.broken.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NotNil(t, b.conn)
		b.conn.Put()
	})
}

// TestSomewhereElseCounts: a destination that leads wherever a request says has limits too.
func TestSomewhereElseCounts(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, ps *Pools, l *lines) {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: 2}))
		one, other := g.NewLone(mesh.Endpoint{Address: "10.0.0.1", Port: 80}), g.NewLone(mesh.Endpoint{Address: "10.0.0.2", Port: 80})
		a, b := connect(t, one), connect(t, other)
		c := seek(t.Context(), one, 0, Want{})
		require.False(t, c.done)
		b.Put()
		synctest.Wait()
		require.NotNil(t, c.conn, "what the other one does not use makes way")
		ps.Retain(nil)
		require.Equal(t, 2, ps.Destinations()[0].Connections)
		a.Put()
		require.Same(t, a, take(t, one, Want{}))
		a.Put()
		c.conn.Put()
		one.Close()
		other.Close()
		free := ps.NewLone(mesh.Endpoint{Address: "10.0.0.3", Port: 80})
		connect(t, free).Put()
		require.Len(t, ps.Destinations(), 1)
		free.Close()
	})
}

// TestLimitsUnderLoad: never more than allowed, nobody is forgotten, and all is given back, while requests give up, connections break, and configurations come and go.
func TestLimitsUnderLoad(t *testing.T) {
	t.Parallel()
	const limit, workers, each = 5, 40, 300
	l := &lines{}
	ps := NewPools(Options{Dial: l.dial, IdleTimeout: time.Hour})
	addresses := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}
	var group atomic.Pointer[Group]
	configure := func() {
		g := connecting(t, ps, limited(mesh.ConnectionPool{MaxConnections: limit, MaxRequests: workers, MaxRequestsPerConnection: 50}), addresses...)
		group.Store(g)
		used := map[*Pool]bool{}
		for _, e := range g.Endpoints {
			used[e.Pool] = true
		}
		ps.Retain(used)
	}
	configure()
	var busy, served, gaveUp atomic.Int64
	var all sync.WaitGroup
	for worker := range workers {
		random := rand.New(rand.NewPCG(1, uint64(worker)))
		all.Go(func() {
			for i := range each {
				if i%100 == 99 && worker == 0 {
					configure()
				}
				g := group.Load()
				ctx, cancel := context.WithCancel(context.Background())
				if random.IntN(10) == 0 {
					go cancel()
				}
				c, err := g.Connect(ctx, g.Endpoints[random.IntN(len(addresses))], Want{Fresh: random.IntN(20) == 0})
				switch {
				case err == nil:
					if n := busy.Add(1); n > limit {
						t.Errorf("%d requests have a connection", n)
					}
					busy.Add(-1)
					served.Add(1)
					if random.IntN(10) == 0 {
						c.Discard()
					} else {
						c.Put()
					}
				case errors.Is(err, context.Canceled):
					gaveUp.Add(1)
				default:
					t.Error(err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	require.EqualValues(t, workers*each, served.Load()+gaveUp.Load())
	require.LessOrEqual(t, l.most.Load(), int64(limit))
	for _, d := range ps.Destinations() {
		require.Zero(t, d.Pending)
		require.Zero(t, d.Requests)
		require.EqualValues(t, l.open.Load(), d.Connections)
	}
	ps.Close()
	require.Zero(t, l.open.Load())
}

func TestOverflowsHaveNames(t *testing.T) {
	t.Parallel()
	for _, o := range []Overflow{TooManyConnections, TooManyPending, TooManyRequests, TooManyRetries} {
		got, ok := IsOverflow(fmt.Errorf("connecting: %w", o))
		require.True(t, ok)
		require.Equal(t, o, got)
		require.Contains(t, o.Error(), "overflow")
	}
	_, ok := IsOverflow(context.Canceled)
	require.False(t, ok)
}
