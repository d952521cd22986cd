package upstream

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket"
)

// Pool holds the connections of one destination to one address.
type Pool struct {
	Address   string
	opts      *Options
	account   *account
	transport *transport
	sessions  tls.ClientSessionCache // nil without TLS
	all       *muxes                 // of all pools

	active   atomic.Int64 // requests in flight
	requests atomic.Uint64
	connects atomic.Uint64
	failures atomic.Uint64 // to connect
	waiting  atomic.Int32  // requests, in the account's queue
	speaks   atomic.Uint32 // a speech: what the endpoint was found to speak

	// Under the account's lock.
	open    int  // connections, and those that are being made
	dialing bool // one that is to be shared is being made

	mu      sync.Mutex
	serial  uint64 // of the group that the limits are of
	limits  mesh.ConnectionPool
	idle    []*Conn // the longest unused first
	muxes   []*mux  // shared connections that have not ended
	reaper  *time.Timer
	retired bool
}

// Conn is a connection to an endpoint, or one stream of a connection that others have streams of too. It belongs to whoever got it, until Put or Discard.
type Conn struct {
	*socket.Conn
	Reused bool // the connection carried a request before: the other side may have closed it meanwhile

	pool    *Pool
	mux     *mux          // nil: it has a connection to itself
	name    string        // server name; empty without TLS
	born    time.Duration // when the connection was made
	since   time.Duration // unused since
	carried int           // requests, this one not among them
	counted bool          // as a request in flight
}

// Begin counts a request in flight, End its end.
func (p *Pool) Begin() {
	p.active.Add(1)
	p.requests.Add(1)
}

// End is Begin's counterpart.
func (p *Pool) End() { p.active.Add(-1) }

// Active is the number of requests in flight.
func (p *Pool) Active() int64 { return p.active.Load() }

// Shared reports whether the connection is a stream of HTTP/2.
func (c *Conn) Shared() bool { return c.mux != nil }

// Ends is when the connection has to be closed, by the MaxDuration of its destination, on the clock of Options.Now; 0: whenever.
func (c *Conn) Ends() time.Duration {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if c.pool.limits.MaxDuration == 0 {
		return 0
	}
	return c.born + c.pool.limits.MaxDuration
}

// Put gives the connection back: it can carry another request.
func (c *Conn) Put() {
	p := c.pool
	c.uncount()
	if c.mux != nil {
		p.closeStream(c)
		return
	}
	c.carried++
	c.Reused = true
	c.since = p.opts.Now()
	p.give(c)
}

// Discard closes the connection, or the stream.
func (c *Conn) Discard() {
	c.uncount()
	if c.mux != nil {
		c.pool.closeStream(c)
		return
	}
	c.pool.drop(c)
}

// unused gives a connection back that was not used.
func (c *Conn) unused() {
	if c.mux != nil {
		c.pool.closeStream(c)
		return
	}
	c.since = c.pool.opts.Now()
	c.pool.give(c)
}

func (c *Conn) uncount() {
	if c.counted {
		c.counted = false
		c.pool.account.requests.Add(-1)
	}
}

// end closes what has been counted out already.
func (c *Conn) end() { _ = c.Close() } // whatever was of interest has been read

// drop closes a connection that nobody shares.
func (p *Pool) drop(c *Conn) {
	c.end()
	p.account.release(p)
}

// adopt takes over the limits of a group that is newer than the last one.
func (p *Pool) adopt(g *Group) {
	if g.serial <= p.serial {
		return
	}
	p.serial, p.limits = g.serial, g.limits
	if p.reaper != nil {
		p.reaper.Reset(0) // what is due may have changed
	}
}

// take gives a connection that is there and lives; nil when there is none.
func (p *Pool) take(g *Group, w *Want) *Conn {
	for {
		c := p.ready(g, w)
		if c == nil || sound(c) {
			return c
		}
		p.drop(c)
	}
}

// sound reports whether a connection may be used again. One that the other side closed may not, nor one on which it said something that nobody asked for: that would be taken for the answer to the next
// request. It costs a system call, and there is no moment that is too short for either.
func sound(c *Conn) bool { return c.mux != nil || c.Look() == socket.Quiet }

// ready takes the connection that was used last, or else a stream of one that is shared. A fresh one is only ever a stream: who shares a connection hears when it ends.
func (p *Pool) ready(g *Group, w *Want) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.adopt(g)
	if !w.Fresh {
		for i := len(p.idle) - 1; i >= 0; i-- {
			if c := p.idle[i]; p.transport.serves(c.name, w) {
				p.idle = slices.Delete(p.idle, i, i+1)
				return c
			}
		}
	}
	if len(p.muxes) == 0 {
		return nil
	}
	return p.stream(w)
}

// give lets a connection carry another request, of one who waits or a later one. What has arrived unasked is looked at before, since it takes memory.
func (p *Pool) give(c *Conn) {
	if c.Held() && c.Look() != socket.Quiet {
		p.drop(c)
		return
	}
	a := p.account
	if !a.attention.Load() {
		if !p.park(c) {
			p.drop(c)
			return
		}
		if !a.attention.Load() {
			return
		}
		if c = p.unpark(); c == nil { // who came meanwhile has seen it
			return
		}
	}
	if !a.offer(c) {
		p.drop(c)
	}
}

// park keeps a connection, unless it has done enough.
func (p *Pool) park(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired || len(p.idle) >= p.opts.MaxIdle || p.worn(c.born, c.carried, c.since) {
		return false
	}
	p.idle = append(p.idle, c)
	p.watchIdle()
	return true
}

// unpark takes the connection that was used last, whomever it serves.
func (p *Pool) unpark() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle = slices.Delete(p.idle, last, last+1)
	return c
}

// worn reports whether a connection has carried as many requests as it may, or lived as long.
func (p *Pool) worn(born time.Duration, carried int, now time.Duration) bool {
	l := &p.limits
	return l.MaxRequestsPerConnection > 0 && carried >= l.MaxRequestsPerConnection || l.MaxDuration > 0 && now-born >= l.MaxDuration
}

// evict takes a connection out that nobody uses; it has to be counted out and ended.
func (p *Pool) evict() victim {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) > 0 {
		c := p.idle[0]
		p.idle = slices.Delete(p.idle, 0, 1)
		return c
	}
	for _, m := range p.muxes {
		if m.streams == 0 && !m.released {
			m.closing, m.released = true, true
			return m
		}
	}
	return nil
}

// idleTimeout is how long a connection lies unused.
func (p *Pool) idleTimeout() time.Duration {
	if t := p.limits.IdleTimeout; t > 0 {
		return t
	}
	return p.opts.IdleTimeout
}

// due is when a connection that is unused since a moment is to be closed.
func (p *Pool) due(born, since time.Duration) time.Duration {
	due := since + p.idleTimeout()
	if p.limits.MaxDuration > 0 {
		due = min(due, born+p.limits.MaxDuration)
	}
	return due
}

// watchIdle makes sure that the reaper comes.
func (p *Pool) watchIdle() {
	if p.reaper == nil && !p.retired {
		p.reaper = time.AfterFunc(p.idleTimeout(), p.reap)
	}
}

// reap closes what has been unused for too long.
func (p *Pool) reap() {
	now := p.opts.Now()
	next := never
	p.mu.Lock()
	var dead []*Conn
	p.idle = slices.DeleteFunc(p.idle, func(c *Conn) bool {
		due := p.due(c.born, c.since)
		if due <= now {
			dead = append(dead, c)
			return true
		}
		next = min(next, due)
		return false
	})
	for _, m := range p.muxes {
		if m.streams > 0 || m.closing {
			continue
		}
		if due := p.due(m.born, m.since); due <= now {
			m.retire()
		} else {
			next = min(next, due)
		}
	}
	switch {
	case p.retired:
	case next < never:
		p.reaper.Reset(next - now)
	default:
		p.reaper = nil
	}
	p.mu.Unlock()
	for _, c := range dead {
		p.drop(c)
	}
}

// retire closes what is unused, and lets the rest be closed when its requests end.
func (p *Pool) retire() {
	p.mu.Lock()
	p.retired = true
	idle := p.idle
	p.idle = nil
	for _, m := range p.muxes {
		m.retire()
	}
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.mu.Unlock()
	for _, c := range idle {
		p.drop(c)
	}
}

// make makes a connection, in TLS if that is wanted, and finds out what is spoken on it.
func (p *Pool) make(ctx context.Context, w *Want) (sock *socket.Conn, name string, multiplexed bool, err error) {
	raw, err := p.opts.Dial(ctx, p.Address)
	if err != nil {
		return nil, "", false, err
	}
	t := p.transport
	if t.security == nil {
		return socket.New(raw), "", t.speech == http2Only && !w.Tunnel, nil
	}
	name = t.serverName(w)
	sock = socket.Client(raw, t.security.config(name, p.sessions, w.Tunnel))
	if err := sock.Handshake(ctx); err != nil {
		_ = sock.Close() // it is of no use
		return nil, "", false, &HandshakeError{Address: p.Address, Refused: CertificateRefused(err), Err: err}
	}
	return sock, name, !w.Tunnel && t.multiplexed(sock.TLS().NegotiatedProtocol), nil
}

// dial uses the right to make a connection.
func (p *Pool) dial(ctx context.Context, timeout time.Duration, w *Want, shared bool) (*Conn, error) {
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sock, name, multiplexed, err := p.make(within, w)
	var c *Conn
	if err == nil && !w.Tunnel {
		p.learn(multiplexed)
	}
	switch {
	case err == nil && multiplexed:
		c, err = p.multiplex(sock, name)
	case err == nil:
		c = &Conn{Conn: sock, pool: p, name: name, born: p.opts.Now()}
	}
	if err != nil {
		if ctx.Err() != nil {
			p.account.abandon(p, shared, nil) // who waits for the connection too can still make it
			return nil, ctx.Err()
		}
		p.failures.Add(1)
		p.account.abandon(p, shared, err)
		return nil, err
	}
	p.connects.Add(1)
	if shared {
		p.account.made(p)
	}
	return c, nil
}

// Put is c.Put.
func (p *Pool) Put(c *Conn) { c.Put() }

// Discard is c.Discard.
func (p *Pool) Discard(c *Conn) { c.Discard() }
