package upstream

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/proxy/socket"
)

// Pool holds the connections to one address.
type Pool struct {
	Address string
	opts    *Options

	active   atomic.Int64 // requests in flight
	open     atomic.Int64 // connections
	requests atomic.Uint64
	connects atomic.Uint64
	failures atomic.Uint64 // to connect

	mu      sync.Mutex
	idle    []*Conn // the longest unused first
	reaper  *time.Timer
	retired bool
}

// Stats is what a pool did and holds.
type Stats struct {
	Address         string `json:"address"`
	Active          int64  `json:"active"`          // requests in flight
	Connections     int64  `json:"connections"`     // open
	Idle            int    `json:"idle"`            // of them, unused
	Requests        uint64 `json:"requests"`        // ever
	Connects        uint64 `json:"connects"`        // connections ever made
	ConnectFailures uint64 `json:"connectFailures"` // ever
}

// Conn is a connection to an endpoint. It belongs to whoever got it, until Put or Discard.
type Conn struct {
	*socket.Conn
	pool   *Pool
	since  time.Duration // unused since
	Reused bool          // it carried a request before: the other side may have closed it meanwhile
}

// trusted is how long a connection may lie unused before it is looked at when it is taken again. One that dies within costs a repetition of a request that can be
// repeated; looking costs a system call a request.
const trusted = 100 * time.Millisecond

// Begin counts a request in flight, End its end.
func (p *Pool) Begin() {
	p.active.Add(1)
	p.requests.Add(1)
}

// End is Begin's counterpart.
func (p *Pool) End() { p.active.Add(-1) }

// Active is the number of requests in flight.
func (p *Pool) Active() int64 { return p.active.Load() }

// Put gives the connection back: it can carry another request.
func (c *Conn) Put() { c.pool.Put(c) }

// Discard closes the connection, or what is in use of it.
func (c *Conn) Discard() { c.pool.Discard(c) }

// Get takes the connection that was used last; nil when there is none that lives. A sure one is looked at however short it lay unused.
func (p *Pool) Get(sure bool) *Conn {
	for {
		c := p.take()
		if c == nil {
			return nil
		}
		if !sure && p.opts.Now()-c.since < trusted || c.Look() == socket.Quiet {
			return c
		}
		p.Discard(c) // closed by the other side, or it sent something that nobody asked for
	}
}

func (p *Pool) take() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

// Dial makes a new connection, within the context.
func (p *Pool) Dial(ctx context.Context) (*Conn, error) {
	c, err := p.opts.Dial(ctx, p.Address)
	if err != nil {
		p.failures.Add(1)
		return nil, err
	}
	p.connects.Add(1)
	p.open.Add(1)
	return &Conn{Conn: socket.New(c), pool: p}, nil
}

// Put gives a connection back that can carry another request.
func (p *Pool) Put(c *Conn) {
	c.Reused = true
	c.since = p.opts.Now()
	p.mu.Lock()
	if p.retired || len(p.idle) >= p.opts.MaxIdle {
		p.mu.Unlock()
		p.Discard(c)
		return
	}
	p.idle = append(p.idle, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.opts.IdleTimeout, p.reap)
	}
	p.mu.Unlock()
}

// Discard closes a connection.
func (p *Pool) Discard(c *Conn) {
	p.open.Add(-1)
	_ = c.Close() // whatever was of interest has been read
}

// reap closes what has been unused for too long.
func (p *Pool) reap() {
	now := p.opts.Now()
	p.mu.Lock()
	old := 0
	for old < len(p.idle) && now-p.idle[old].since >= p.opts.IdleTimeout {
		old++
	}
	dead := append([]*Conn(nil), p.idle[:old]...)
	p.idle = append(p.idle[:0], p.idle[old:]...)
	switch {
	case p.retired:
	case len(p.idle) > 0:
		p.reaper.Reset(p.opts.IdleTimeout - (now - p.idle[0].since))
	default:
		p.reaper = nil
	}
	p.mu.Unlock()
	for _, c := range dead {
		p.Discard(c)
	}
}

func (p *Pool) retire() {
	p.mu.Lock()
	p.retired = true
	idle := p.idle
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.mu.Unlock()
	for _, c := range idle {
		p.Discard(c)
	}
}

func (p *Pool) stats() Stats {
	p.mu.Lock()
	idle := len(p.idle)
	p.mu.Unlock()
	return Stats{
		Address: p.Address, Active: p.active.Load(), Connections: p.open.Load(), Idle: idle,
		Requests: p.requests.Load(), Connects: p.connects.Load(), ConnectFailures: p.failures.Load(),
	}
}

// Load is what is in flight to a destination: the basis of a retry budget.
type Load struct {
	requests, retries atomic.Int64
}

// Begin counts a logical request in flight, End its end.
func (l *Load) Begin() { l.requests.Add(1) }

// End is Begin's counterpart.
func (l *Load) End() { l.requests.Add(-1) }

// BeginRetry counts a retry in flight, unless there are as many already as the budget allows: percent of the requests in flight, but at least the minimum. EndRetry must
// follow each true.
func (l *Load) BeginRetry(percent float64, minimum int) bool {
	allowed := max(int64(percent*float64(l.requests.Load())/100), int64(minimum))
	for {
		n := l.retries.Load()
		if n >= allowed {
			return false
		}
		if l.retries.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// EndRetry is the counterpart of BeginRetry.
func (l *Load) EndRetry() { l.retries.Add(-1) }

// IsTimeout reports whether dialing took too long, as opposed to having been refused.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}
