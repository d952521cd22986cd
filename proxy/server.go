package proxy

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/upstream"
)

// Server is the data plane of one sidecar. It listens on what its configuration says, as soon as there is one; Run makes it live and die.
type Server struct {
	opts  Options
	start time.Time
	token secret          // the edge token
	pools *upstream.Pools // to upstreams
	apps  *upstream.Pools // to the workload itself
	count counts

	mirrors mirrors

	warmUp, idleGrace time.Duration // the constants of these names, but in tests

	config   atomic.Pointer[config]
	draining atomic.Bool
	cut      atomic.Int64 // requests and tunnels, at the end of the drain

	applying  sync.Mutex           // one Apply at a time
	making    sync.Mutex           // one group at a time, and none while it is found out which are in use
	compiled  uint64               // how many configurations were
	listeners map[string]*listener // by address
	stopped   bool

	accepting sync.WaitGroup
	carrying  sync.WaitGroup
	mu        sync.Mutex
	conns     map[*conn]struct{} // and streams of them
	admitted  int                // connections
}

// New returns a server without configuration. It starts nothing.
func New(o Options) *Server {
	o = o.withDefaults()
	s := &Server{opts: o, start: time.Now(), token: secretOf(o.EdgeToken), listeners: map[string]*listener{}, conns: map[*conn]struct{}{}, warmUp: warmUp, idleGrace: idleGrace}
	s.count.init(o.Counters)
	pools := upstream.Options{
		Now: s.now, Dial: o.Dial, IdleTimeout: o.Timeouts.UpstreamIdle, Patience: o.Timeouts.slowPeer(), Limits: o.Limits, Ended: func(reason string) { s.count.ended.with(reason).Inc() },
	}
	s.pools = upstream.NewPools(pools)
	pools.Dial = o.DialApp
	s.apps = upstream.NewPools(pools)
	s.mirrors.init(s)
	o.Counters.Gauge(func() float64 { return float64(s.connections()) }, "connections")
	first, err := s.compile(nil, mesh.NewSnapshot(), mesh.Generation{})
	if err != nil { // an empty configuration has nothing to be wrong
		panic(fmt.Sprintf("proxy: compiling an empty configuration: %v", err))
	}
	s.config.Store(first)
	return s
}

// now is the time since the server was made.
func (s *Server) now() time.Duration { return time.Since(s.start) }

// since says when something was that began at a time of now's, by the clock on the wall, and how long ago that is. It is one look at the clock: between two, any time may pass.
func (s *Server) since(began time.Duration) (start time.Time, took time.Duration) {
	at := time.Now()
	took = at.Sub(s.start) - began
	return at.Add(-took), took
}

// Apply carries an update out as a whole or, with an error, not at all. Nil means that its listeners are bound and that every request from now on uses it; requests in
// flight finish on the configuration they began with. Connections to endpoints that remain are kept, those to others end with their requests. Where an update brings a destination whose endpoints have to pass a
// health check first, nil means that one has, or that none did for a second.
func (s *Server) Apply(u mesh.Update) error {
	return s.install(u.Generation, func(had *mesh.Snapshot) *mesh.Snapshot { return had.Apply(u) })
}

// Replace is Apply for a whole configuration. What it has in common with the one before, as the same resources (see [mesh.Snapshot.Keep]), is not compiled again.
func (s *Server) Replace(all *mesh.Snapshot, g mesh.Generation) error {
	return s.install(g, func(*mesh.Snapshot) *mesh.Snapshot { return all })
}

// warmUp bounds how long an update waits for endpoints that have to pass a health check.
const warmUp = time.Second

func (s *Server) install(g mesh.Generation, change func(*mesh.Snapshot) *mesh.Snapshot) error {
	if err := s.put(g, change); err != nil {
		return err
	}
	if s.Ready() { // before, others wait for our listeners as we would for theirs
		s.pools.Warm(s.warmUp)
	}
	return nil
}

// put makes a configuration the one in force.
func (s *Server) put(g mesh.Generation, change func(*mesh.Snapshot) *mesh.Snapshot) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.stopped {
		return errors.New("the sidecar is stopping")
	}
	prev := s.config.Load()
	next, err := s.compile(prev, change(prev.snapshot), g)
	if err != nil {
		s.retain(prev)
		return err
	}
	added, err := s.bind(next)
	if err != nil {
		s.retain(prev)
		return err
	}
	s.config.Store(next)
	s.listen(added)
	s.unbind(next)
	s.retain(next)
	return nil
}

// Generation is that of the last update that was applied.
func (s *Server) Generation() mesh.Generation { return s.config.Load().generation }

// Workload is whom the sidecar stands beside, as the configuration in force says or, before there is one, as it was made.
func (s *Server) Workload() mesh.Workload {
	if in := s.config.Load().inbound; in != nil {
		return in.Workload
	}
	return s.opts.Workload
}

// Ready reports whether the server knows what to listen on, and listens.
func (s *Server) Ready() bool {
	s.applying.Lock()
	defer s.applying.Unlock()
	return !s.stopped && s.config.Load().inbound != nil
}

func (s *Server) each(do func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		do(c)
	}
}

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admitted
}

// enlist takes in a stream of a connection that was admitted.
func (s *Server) enlist(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

// admit takes a connection in, unless there are too many.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admitted >= s.opts.MaxConnections {
		return false
	}
	s.admitted++
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) dismiss(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.parent == nil {
		s.admitted--
	}
}
