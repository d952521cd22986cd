package agent

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/loadtest"
)

// A badConn is a connection with faults. It knows no deadlines.
type badConn struct {
	net.Conn
	up, down time.Duration // what every write and every read takes longer
	perByte  time.Duration // what every byte read takes
	silent   chan struct{} // closed: nothing goes through any more, and nobody is told
	closed   chan struct{}
	once     sync.Once
}

func newBadConn(c net.Conn) *badConn {
	return &badConn{Conn: c, silent: make(chan struct{}), closed: make(chan struct{})}
}

func (c *badConn) Write(b []byte) (int, error) {
	time.Sleep(c.up)
	if err := c.through(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *badConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(c.down + time.Duration(n)*c.perByte)
	if err := c.through(); err != nil {
		return 0, err
	}
	return n, err
}

// through waits while the connection is silent: until somebody loses patience.
func (c *badConn) through() error {
	select {
	case <-c.silent:
		<-c.closed
		return net.ErrClosed
	default:
		return nil
	}
}

func (c *badConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *badConn) SetDeadline(time.Time) error { panic("this connection knows no deadlines") }

// through returns way with faults.
func through(way func(context.Context) (net.Conn, error), spoil func(*badConn)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := way(ctx)
		if err != nil {
			return nil, err
		}
		bad := newBadConn(conn)
		spoil(bad)
		return bad, nil
	}
}

// A shop counts its requests and knows when the last one came.
type shop struct {
	requests atomic.Int64
	last     atomic.Pointer[time.Time]
}

func (s *shop) ServeHTTP(http.ResponseWriter, *http.Request) {
	now := time.Now()
	s.last.Store(&now)
	s.requests.Add(1)
}

// users is a stream of 100 requests a second.
func users(t *testing.T, d time.Duration) load.Stream {
	t.Helper()
	c, err := load.Constant(100)
	require.NoError(t, err)
	return load.Stream{Name: "users", URL: "http://shop", Pacer: c, Duration: d}
}

// However the way there delays, the load is as it was meant, and its start is known to within the error that is claimed.
func TestASlowNetwork(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ up, down, within time.Duration }{
		"both ways alike":      {30 * time.Millisecond, 30 * time.Millisecond, 30 * time.Millisecond},
		"slow to the agent":    {60 * time.Millisecond, 0, 30 * time.Millisecond},
		"slow from the agent":  {0, 60 * time.Millisecond, 30 * time.Millisecond},
		"across an ocean":      {200 * time.Millisecond, 100 * time.Millisecond, 150 * time.Millisecond},
		"no delay worth a bit": {0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				var first time.Time
				way, _ := stand(t, loadtest.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if r.Header.Get("X-Request-Id") == "users-0" {
						first = time.Now()
					}
				})))
				way = through(way, func(c *badConn) { c.up, c.down = tc.up, tc.down })
				var sum load.Summary
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				got, err := Client{Dial: way, Token: secret}.Run(ctx, users(t, 0), sum.Add)
				require.NoError(t, err)
				require.Equal(t, sum, got.Summary)
				require.Zero(t, got.Slip.Max)
				require.Greater(t, got.Sent, uint64(600))
				require.GreaterOrEqual(t, got.StartError, tc.within)
				require.LessOrEqual(t, got.StartError, tc.within+2*time.Microsecond)
				require.WithinDuration(t, first, got.Start, got.StartError)
			})
		})
	}
}

// A way that is too thin for all records loses some of them, and says how many; neither the load nor the result suffers.
func TestAThinNetwork(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		way, _ := stand(t, loadtest.Serve(t, new(shop)))
		way = through(way, func(c *badConn) { c.perByte = 4 * time.Millisecond })
		s := users(t, 10*time.Second)
		s.Queue = 100
		delivered := uint64(0)
		got, err := Client{Dial: way, Token: secret}.Run(t.Context(), s, func(load.Record) { delivered++ })
		require.NoError(t, err)
		require.EqualValues(t, 1000, got.OK.Count())
		require.Zero(t, got.Slip.Max)
		require.NotZero(t, got.Lost)
		require.Greater(t, delivered, uint64(100))
		require.EqualValues(t, 1000, delivered+got.Lost)
	})
}

// Whatever becomes of the connection while load runs, both sides know soon: the client returns an error, and the load stops.
func TestTheConnectionEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end   func(c *badConn, stopAgent func())
		text  string
		after time.Duration // that the last request may come later
	}{
		"it breaks, or its driver is killed": {func(c *badConn, _ func()) { c.Close() }, "", 0},
		"nobody is told":                     {func(c *badConn, _ func()) { close(c.silent) }, "nothing was heard for 10s", Silence},
		"the agent is stopped":               {func(_ *badConn, stop func()) { stop() }, "the load agent was stopped", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				var shop shop
				way, stop := stand(t, loadtest.Serve(t, &shop))
				conns := make(chan *badConn, 1)
				way = through(way, func(c *badConn) { conns <- c })
				go func() {
					conn := <-conns
					time.Sleep(5 * time.Second)
					tc.end(conn, stop)
				}()
				s := users(t, 0)
				s.Grace = time.Hour // of no use to anybody
				began, delivered := time.Now(), 0
				_, err := Client{Dial: way, Token: secret}.Run(t.Context(), s, func(load.Record) { delivered++ })
				require.ErrorIs(t, err, ErrLost)
				require.ErrorContains(t, err, tc.text)
				require.ErrorContains(t, err, "load users from an agent: ")
				require.InDelta(t, 500, delivered, 10)
				require.LessOrEqual(t, time.Since(began), 5*time.Second+tc.after)
				time.Sleep(time.Hour)
				require.InDelta(t, 5*time.Second+tc.after, shop.last.Load().Sub(began), float64(beatEvery+batchEvery))
			})
		})
	}
}

// Nothing that is under way or overdue outlives the driver, however patient the stream is.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		open := make(chan struct{}, 1000)
		ended := make(chan time.Time, 1000)
		way, _ := stand(t, loadtest.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			open <- struct{}{}
			<-r.Context().Done()
			ended <- time.Now()
		})))
		conns := make(chan *badConn, 1)
		way = through(way, func(c *badConn) { conns <- c })
		s := users(t, 0)
		s.MaxInFlight, s.Timeout, s.Grace = 5, time.Hour, time.Hour
		failed := make(chan error)
		go func() {
			_, err := Client{Dial: way, Token: secret}.Run(t.Context(), s, nil)
			failed <- err
		}()
		time.Sleep(3 * time.Second)
		killed := time.Now()
		(<-conns).Close()
		require.ErrorIs(t, <-failed, ErrLost)
		for range 5 {
			require.WithinDuration(t, killed, <-ended, time.Millisecond)
		}
		require.Len(t, open, 5)
	})
}

// When the context ends before the load has begun there is no load.
func TestStoppedOnTheWay(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{1, 50 * time.Millisecond, 500 * time.Millisecond, 1850 * time.Millisecond} {
		testbubble.Test(t, func(t *testing.T) {
			var shop shop
			way, _ := stand(t, loadtest.Serve(t, &shop))
			way = through(way, func(c *badConn) { c.up, c.down = 100*time.Millisecond, 100*time.Millisecond })
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			_, err := Client{Dial: way, Token: secret}.Run(ctx, users(t, 0), nil)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			time.Sleep(time.Hour)
			require.Zero(t, shop.requests.Load())
		})
	}
}

func TestTheAgentIsNotThere(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		nowhere := func(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
		_, err := Client{Dial: nowhere, Token: secret}.Run(t.Context(), users(t, 0), nil)
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorContains(t, err, "reach the agent")

		never := func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		began := time.Now()
		_, err = Client{Dial: never, Token: secret}.Run(t.Context(), users(t, 0), nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, greeting, time.Since(began))

		mute := func(context.Context) (net.Conn, error) {
			conn, _ := net.Pipe()
			return conn, nil
		}
		began = time.Now()
		_, err = Client{Dial: mute, Token: secret}.Run(t.Context(), users(t, 0), nil)
		require.ErrorContains(t, err, "did not begin within 10s")
		require.Equal(t, greeting, time.Since(began))

		gone := func(context.Context) (net.Conn, error) {
			conn, other := net.Pipe()
			other.Close()
			return conn, nil
		}
		_, err = Client{Dial: gone, Token: secret}.Run(t.Context(), users(t, 0), nil)
		require.ErrorIs(t, err, ErrLost)
	})
}

// A halfConn is a connection whose other side has said what it had to say, then ends its half of it, and never reads.
type halfConn struct {
	saying
	ends   time.Time
	closed chan struct{}
	once   sync.Once
}

func (c *halfConn) Read(b []byte) (int, error) {
	n, err := c.saying.Read(b)
	if err != nil {
		time.Sleep(time.Until(c.ends))
	}
	return n, err
}

func (c *halfConn) Write(b []byte) (int, error) {
	if kind(b[4]) != kindRecords {
		return len(b), nil
	}
	<-c.closed
	return 0, net.ErrClosed
}

func (c *halfConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// A driver that hangs up while something is written to it does not keep its load, nor the agent, waiting.
func TestADriverThatDoesNotListen(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		start, err := users(t, 0).MarshalJSON()
		require.NoError(t, err)
		began := time.Now()
		text := greetings(secret) + frame(kindStart, string(start))
		conn := &halfConn{saying: saying{strings.NewReader(text)}, ends: began.Add(5 * time.Second), closed: make(chan struct{})}
		s := &Server{Token: secret, dial: loadtest.Serve(t, new(shop))}
		s.converse(t.Context(), conn)
		require.Equal(t, 5*time.Second, time.Since(began))
	})
}
