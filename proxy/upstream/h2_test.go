//lint:file-ignore SA1019 x/net's server carries a connection that it is handed, which net/http's does not

package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket/certtest"
)

// h2Server is x/net's server of HTTP/2, without TLS or with it. It answers /hold only when it is told to, and everything else at once.
type h2Server struct {
	address string
	secure  bool
	made    atomic.Int64 // connections
	held    atomic.Int64 // requests for /hold that have arrived
	release chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func serveH2(t testing.TB, server *http2.Server, config *tls.Config) *h2Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &h2Server{address: l.Addr().String(), secure: config != nil, release: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.made.Add(1)
			all.Go(func() { s.carry(c, server, config) })
		}
	})
	t.Cleanup(func() { l.Close(); s.hangUp(); all.Wait() })
	return s
}

func (s *h2Server) carry(c net.Conn, server *http2.Server, config *tls.Config) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
	}()
	if config != nil {
		secure := tls.Server(c, config)
		if secure.Handshake() != nil {
			return
		}
		if secure.ConnectionState().NegotiatedProtocol != "h2" {
			carryHTTP1(secure)
			return
		}
		c = secure
	}
	server.ServeConn(c, &http2.ServeConnOpts{Handler: s, BaseConfig: &http.Server{}})
}

// carryHTTP1 answers requests of HTTP/1.1.
func carryHTTP1(c net.Conn) {
	for in := bufio.NewReader(c); ; {
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

func (s *h2Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/hold" {
		s.held.Add(1)
		select {
		case <-s.release:
		case <-r.Context().Done():
			return
		}
	}
	if s.secure && r.TLS == nil { // x/net tells of TLS when the scheme says so, too
		http.Error(w, "the scheme is not https", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", "2")
	_, _ = io.WriteString(w, "ok")
}

// open is how many connections there are.
func (s *h2Server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// hangUp closes all connections.
func (s *h2Server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// begin sends a request.
func begin(c *Conn, path string) error {
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: backend\r\n\r\n", path)
	return err
}

// finish reads the answer.
func finish(c *Conn) error {
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "ok" {
		return fmt.Errorf("answered %d %q: %w", r.StatusCode, body, err)
	}
	return nil
}

// request makes a request over a connection of the group.
func request(ctx context.Context, g *Group) error {
	c, err := g.Connect(ctx, g.Endpoints[0], Want{})
	if err != nil {
		return err
	}
	if err = begin(c, "/"); err == nil {
		err = finish(c)
	}
	if err != nil {
		c.Discard()
		return err
	}
	c.Put()
	return nil
}

// hold makes requests that the server holds.
func hold(t *testing.T, s *h2Server, g *Group, n int) []*Conn {
	t.Helper()
	var all []*Conn
	before := s.held.Load()
	for range n {
		c := connect(t, g)
		require.NoError(t, begin(c, "/hold"))
		all = append(all, c)
	}
	require.Eventually(t, func() bool { return s.held.Load() == before+int64(n) }, 30*time.Second, time.Millisecond)
	return all
}

func http2To(l mesh.ConnectionPool) Destination {
	d := limited(l)
	d.Protocol = mesh.HTTP2
	return d
}

func TestHTTP2IsShared(t *testing.T) {
	t.Parallel()
	s := serveH2(t, &http2.Server{}, nil)
	g := connecting(t, newPools(t, Options{}), http2To(mesh.ConnectionPool{}), s.address)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 10 {
				if err := request(context.Background(), g); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, s.made.Load(), "the first requests share one dial")
	held := hold(t, s, g, 3)
	require.True(t, held[0].Shared() && held[0].Reused)
	stats := g.Endpoints[0].Pool.stats()
	require.Equal(t, "h2", stats.Protocol)
	require.Equal(t, 3, stats.Streams)
	require.EqualValues(t, 1, stats.Connections)
	close(s.release)
	for _, c := range held {
		require.NoError(t, finish(c))
		c.Put()
	}
	require.Equal(t, 1, g.Endpoints[0].Pool.stats().Idle)
}

func TestHTTP2MakesAnotherConnectionWhenAllAreFull(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server *http2.Server
		policy mesh.ConnectionPool
	}{
		"by the policy": {&http2.Server{}, mesh.ConnectionPool{MaxConcurrentStreams: 10}},
		"by the server": {&http2.Server{MaxConcurrentStreams: 10}, mesh.ConnectionPool{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveH2(t, test.server, nil)
			g := connecting(t, newPools(t, Options{}), http2To(test.policy), s.address)
			var held []*Conn
			for i := range 25 {
				if i%10 == 0 {
					learnSettings(t, g)
				}
				held = append(held, hold(t, s, g, 1)...)
			}
			require.EqualValues(t, 3, s.made.Load())
			require.Equal(t, 25, g.Endpoints[0].Pool.stats().Streams)
			close(s.release)
			for _, c := range held {
				require.NoError(t, finish(c))
				c.Put()
			}
		})
	}
}

// learnSettings makes sure that the server's settings are known of a connection that the next request would make: it makes one request.
func learnSettings(t *testing.T, g *Group) {
	t.Helper()
	require.NoError(t, request(t.Context(), g))
}

func TestHTTP2WaitsForRoom(t *testing.T) {
	t.Parallel()
	s := serveH2(t, &http2.Server{}, nil)
	ps := newPools(t, Options{})
	g := connecting(t, ps, http2To(mesh.ConnectionPool{MaxConnections: 2, MaxConcurrentStreams: 5, MaxPending: 20}), s.address)
	held := hold(t, s, g, 10)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := request(context.Background(), g); err != nil {
				t.Error(err)
			}
		})
	}
	require.Eventually(t, func() bool { return ps.Destinations()[0].Pending == 20 }, 30*time.Second, time.Millisecond)
	_, err := g.Connect(t.Context(), g.Endpoints[0], Want{})
	require.ErrorIs(t, err, TooManyPending)
	close(s.release)
	for _, c := range held {
		require.NoError(t, finish(c))
		c.Put()
	}
	all.Wait()
	require.EqualValues(t, 2, s.made.Load())
	require.Zero(t, ps.Destinations()[0].Pending)
}

func TestHTTP2WearsOut(t *testing.T) {
	t.Parallel()
	s := serveH2(t, &http2.Server{}, nil)
	ps := newPools(t, Options{})
	g := connecting(t, ps, http2To(mesh.ConnectionPool{MaxRequestsPerConnection: 3}), s.address)
	for range 9 {
		require.NoError(t, request(t.Context(), g))
	}
	require.EqualValues(t, 3, s.made.Load())
	require.Eventually(t, func() bool { return ps.Destinations()[0].Connections == 0 }, 30*time.Second, time.Millisecond)
}

func TestHTTP2IdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	s := serveH2(t, &http2.Server{}, nil)
	ps := newPools(t, Options{IdleTimeout: 10 * time.Millisecond})
	g := connecting(t, ps, http2To(mesh.ConnectionPool{}), s.address)
	held := hold(t, s, g, 1)
	require.NoError(t, request(t.Context(), g))
	require.EqualValues(t, 1, ps.Destinations()[0].Connections)
	close(s.release)
	require.NoError(t, finish(held[0]))
	held[0].Put()
	require.Eventually(t, func() bool { return ps.Destinations()[0].Connections == 0 }, 30*time.Second, time.Millisecond)
	require.NoError(t, request(t.Context(), g))
}

func TestHTTP2MakesWay(t *testing.T) {
	t.Parallel()
	one, other := serveH2(t, &http2.Server{}, nil), serveH2(t, &http2.Server{}, nil)
	ps := newPools(t, Options{})
	g := connecting(t, ps, http2To(mesh.ConnectionPool{MaxConnections: 1}), one.address, other.address)
	require.NoError(t, request(t.Context(), g))
	c, err := g.Connect(t.Context(), g.Endpoints[1], Want{})
	require.NoError(t, err, "an unused connection gives way")
	require.NoError(t, begin(c, "/"))
	require.NoError(t, finish(c))

	waited := make(chan error)
	go func() { waited <- request(context.Background(), g) }()
	require.Eventually(t, func() bool { return ps.Destinations()[0].Pending == 1 }, 30*time.Second, time.Millisecond)
	for range patience + 1 { // the connection is never without streams
		next, err := g.Connect(t.Context(), g.Endpoints[1], Want{})
		require.NoError(t, err)
		c.Put()
		c = next
	}
	c.Put()
	require.NoError(t, <-waited, "a busy one takes no more streams after a while")
	require.EqualValues(t, 1, ps.Destinations()[0].Connections)
}

func TestHTTP2AndTheEndOfConnections(t *testing.T) {
	t.Parallel()
	s := serveH2(t, &http2.Server{}, nil)
	ps := newPools(t, Options{})
	g := connecting(t, ps, http2To(mesh.ConnectionPool{}), s.address)
	held := hold(t, s, g, 5)
	s.hangUp()
	for _, c := range held {
		require.Error(t, finish(c))
		c.Discard()
	}
	require.Eventually(t, func() bool { return ps.Destinations()[0].Connections == 0 }, 30*time.Second, time.Millisecond)
	require.NoError(t, request(t.Context(), g))
	require.EqualValues(t, 2, s.made.Load())

	held = hold(t, s, g, 1)
	ps.Retain(nil)
	close(s.release)
	require.NoError(t, finish(held[0]), "what is in flight finishes on a retired connection")
	held[0].Put()
	require.Eventually(t, func() bool { return ps.Destinations()[0].Connections == 0 }, 30*time.Second, time.Millisecond)
}

func TestHTTP2ConnectionsDieUnderLoad(t *testing.T) {
	t.Parallel()
	s := serveH2(t, &http2.Server{MaxConcurrentStreams: 20}, nil)
	ps := newPools(t, Options{})
	g := connecting(t, ps, http2To(mesh.ConnectionPool{MaxConnections: 4}), s.address)
	var good atomic.Int64
	var all sync.WaitGroup
	for worker := range 60 {
		all.Go(func() {
			for i := range 50 {
				if worker == 0 && i%10 == 5 {
					s.hangUp()
				}
				ctx, cancel := context.WithCancel(context.Background())
				if (worker+i)%7 == 0 {
					go cancel()
				}
				if request(ctx, g) == nil {
					good.Add(1)
				}
				cancel()
			}
		})
	}
	all.Wait()
	require.Positive(t, good.Load())
	require.Eventually(t, func() bool { return s.open() == ps.Destinations()[0].Connections }, 30*time.Second, time.Millisecond, "the ends of connections are noticed")
	require.NoError(t, request(t.Context(), g))
	d := ps.Destinations()[0]
	require.Zero(t, d.Pending)
	require.LessOrEqual(t, d.Connections, 4)
	require.Zero(t, g.Endpoints[0].Pool.stats().Streams)
}

func TestHTTP2IsNotMade(t *testing.T) {
	t.Parallel()
	dialing, proceed := make(chan struct{}, 100), make(chan error)
	ps := newPools(t, Options{Dial: func(ctx context.Context, address string) (net.Conn, error) {
		dialing <- struct{}{}
		select {
		case err := <-proceed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	g := connecting(t, ps, http2To(mesh.ConnectionPool{}), "127.0.0.1:1")
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 100)
	go func() { results <- request(ctx, g) }()
	<-dialing
	for range 9 {
		go func() { results <- request(context.Background(), g) }()
	}
	require.Eventually(t, func() bool { return ps.Destinations()[0].Pending == 9 }, 30*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-results, context.Canceled)
	<-dialing // who is next makes the connection
	refused := errors.New("refused")
	proceed <- refused
	for range 9 {
		require.ErrorIs(t, <-results, refused, "all who waited for it hear why there is none")
	}
	require.Empty(t, dialing)
	require.Zero(t, ps.Destinations()[0].Connections)
	require.EqualValues(t, 1, ps.Stats()[0].ConnectFailures)
}

func TestALPNDecides(t *testing.T) {
	t.Parallel()
	ca := certtest.NewAuthority(t)
	own := []tls.Certificate{ca.Issue(t, backend).Certificate}
	both := []string{"h2", "http/1.1"}
	for name, test := range map[string]struct {
		protocol mesh.Protocol
		alpn     []string
		offers   []string
		shared   bool
	}{
		"both, to who has both":       {mesh.HTTP, both, both, true},
		"both, to who has HTTP/1.1":   {mesh.HTTP, both, []string{"http/1.1"}, false},
		"both, to who knows no ALPN":  {mesh.HTTP, both, nil, false},
		"HTTP/2":                      {mesh.GRPC, nil, both, true},
		"HTTP/1.1, to who has HTTP/2": {mesh.HTTP, nil, both, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveH2(t, &http2.Server{}, &tls.Config{Certificates: own, NextProtos: test.offers})
			d := securely(mesh.ClientTLS{Roots: ca.PEM, ALPN: test.alpn})
			d.Protocol = test.protocol
			g := connecting(t, newPools(t, Options{}), d, s.address)
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					for range 5 {
						if err := request(context.Background(), g); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			c := connect(t, g)
			require.Equal(t, test.shared, c.Shared())
			c.Put()
			stats := g.Endpoints[0].Pool.stats()
			if test.shared {
				require.EqualValues(t, 1, stats.Connects)
				require.Equal(t, "h2", stats.Protocol)
			} else {
				require.Equal(t, "http/1.1", stats.Protocol)
			}
		})
	}
}

func TestHTTP2TunnelsHaveAConnectionOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := serveH2(t, &http2.Server{}, nil)
	g := connecting(t, newPools(t, Options{}), http2To(mesh.ConnectionPool{}), s.address)
	require.NoError(t, request(t.Context(), g))
	c, err := g.Connect(t.Context(), g.Endpoints[0], Want{Tunnel: true})
	require.NoError(t, err)
	require.False(t, c.Shared())
	c.Discard()
	require.EqualValues(t, 2, g.Endpoints[0].Pool.stats().Connects)
}

func TestPoolsCloseWhatIsOpen(t *testing.T) {
	t.Parallel()
	s := serveH2(t, &http2.Server{}, nil)
	ps := NewPools(Options{})
	g := connecting(t, ps, http2To(mesh.ConnectionPool{}), s.address)
	held := hold(t, s, g, 2)
	ps.Close()
	for _, c := range held {
		require.Error(t, finish(c))
		c.Discard()
	}
	require.Zero(t, ps.Destinations()[0].Connections)
}
