package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
)

// Options are what pools are made with. The zero value of a field means its default.
type Options struct {
	Now         func() time.Duration                                        // monotonic; default: since the call
	Dial        func(ctx context.Context, address string) (net.Conn, error) // default: TCP
	IdleTimeout time.Duration                                               // of an unused connection; default 30 s, below what servers allow (nginx: 75 s, our own listeners: 60 s)
	Patience    time.Duration                                               // of requests by HTTP/2 with an endpoint that takes nothing of them, while they are few (http2.ClientOptions); default 30 s
	MaxIdle     int                                                         // unused connections to an endpoint; default 1024, Envoy's limit of all
	Limits      *http1.Limits                                               // of what comes by HTTP/2; default http1.DefaultLimits()
	Ended       func(reason string)                                         // is told of connections and streams of HTTP/2 that end because of the upstream, by their http2.Reason; may be nil, must not wait
	Chance      func() mesh.Draw                                            // the jitter between health checks; default: random. It is called concurrently
}

// Pools holds the connections to all endpoints. They are kept apart by destination, and by how they are made: what is limited and counted is the destination's own, as in Envoy. It is safe for
// concurrent use.
type Pools struct {
	opts   Options
	serial atomic.Uint64 // of groups
	all    *muxes

	mu       sync.Mutex
	pools    map[poolKey]*Pool
	accounts map[string]*account
	loads    map[string]*Load
	closed   bool

	health health
}

// poolKey tells pools apart.
type poolKey struct {
	account   *account
	transport string
	address   string
}

// access is how the endpoints of a group are connected to.
type access struct {
	serial    uint64 // a later group has a greater one
	account   *account
	transport *transport
	limits    mesh.ConnectionPool
	opts      *Options
	all       *muxes
}

// NewPools returns pools without connections.
func NewPools(opts Options) *Pools {
	if opts.Now == nil {
		start := time.Now()
		opts.Now = func() time.Duration { return time.Since(start) }
	}
	if opts.Dial == nil {
		dialer := &net.Dialer{}
		opts.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	if opts.Chance == nil {
		opts.Chance = func() mesh.Draw { return mesh.Draw(rand.Uint64()) }
	}
	opts.IdleTimeout = cmp.Or(opts.IdleTimeout, 30*time.Second)
	opts.MaxIdle = cmp.Or(opts.MaxIdle, 1024)
	return &Pools{opts: opts, all: newMuxes(), pools: map[poolKey]*Pool{}, accounts: map[string]*account{}, loads: map[string]*Load{}}
}

// newAccess resolves how a destination's endpoints are connected to.
func (ps *Pools) newAccess(d Destination) (access, error) {
	t, err := newTransport(d)
	if err != nil {
		return access{}, err
	}
	name := d.Name
	if d.Subset != "" {
		name += "/" + d.Subset
	}
	return access{serial: ps.serial.Add(1), account: ps.account(name), transport: t, limits: d.Policy.Pool, opts: &ps.opts, all: ps.all}, nil
}

func (ps *Pools) account(name string) *account {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	a := ps.accounts[name]
	if a == nil {
		a = newAccount(name)
		ps.accounts[name] = a
	}
	a.gone = false
	return a
}

// pool gives the pool of an address (HOST:PORT), and makes it when there is none.
func (ps *Pools) pool(address string, by *access) *Pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	key := poolKey{by.account, by.transport.key, address}
	p := ps.pools[key]
	if p == nil {
		p = by.newPool(address)
		p.retired = ps.closed
		ps.pools[key] = p
	}
	return p
}

func (by *access) newPool(address string) *Pool {
	p := &Pool{Address: address, opts: by.opts, account: by.account, transport: by.transport, all: by.all}
	if by.transport.security != nil {
		p.sessions = tls.NewLRUClientSessionCache(maxSessions)
	}
	return p
}

// maxSessions is how many TLS sessions with an endpoint are kept, one for each server name.
const maxSessions = 8

// Load gives what is in flight to a destination, by any name that outlives configurations.
func (ps *Pools) Load(name string) *Load {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	l := ps.loads[name]
	if l == nil {
		l = &Load{}
		ps.loads[name] = l
	}
	l.gone = false
	return l
}

// NewLone makes a group of one endpoint, with plain connections that nobody else uses, under no limits, and no Stats tell. Whoever made it closes it.
func (ps *Pools) NewLone(e mesh.Endpoint) *Group {
	g := newLone(e, access{serial: ps.serial.Add(1), account: newAccount(""), transport: plaintext, opts: &ps.opts, all: ps.all})
	g.Load = &Load{}
	return g
}

// NewLone makes a group of one endpoint that a destination leads to although it is not among its own, because somebody else says where to go (mesh.Original). It is connected to as the destination's
// are, and counts as one of them where they are limited, but nobody else uses the connections and no Stats tell. Whoever made it closes it.
func (g *Group) NewLone(e mesh.Endpoint) *Group {
	lone := newLone(e, g.access)
	lone.Load, lone.ConnectTimeout = g.Load, g.ConnectTimeout
	return lone
}

// Retain retires every pool that is not in use any more: its idle connections are closed, and the others when their requests end.
func (ps *Pools) Retain(used map[*Pool]bool) {
	ps.mu.Lock()
	var retired []*Pool
	for key, p := range ps.pools {
		if !used[p] {
			retired = append(retired, p)
			delete(ps.pools, key)
		}
	}
	ps.mu.Unlock()
	for _, p := range retired {
		p.retire()
	}
}

// Follow makes the groups those in force. Checks of endpoints that they want go on as they are, or begin; others end. What is known of endpoints that are not in them is forgotten, and what is known of
// destinations as soon as they have nothing any more. A group whose policy has a health check gets no traffic before.
func (ps *Pools) Follow(groups []*Group) {
	ps.health.follow(groups)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, a := range ps.accounts {
		a.gone = true
	}
	for _, l := range ps.loads {
		l.gone = true
	}
	for _, g := range groups {
		g.account.gone, g.Load.gone = false, false
	}
	ps.forget()
}

// Join makes a group one of those in force, beside those that are (see Follow).
func (ps *Pools) Join(g *Group) { ps.health.join(g) }

// Knows reports whether something is remembered of a destination, by its Name: there were groups of it, and one is in force or has something yet.
func (ps *Pools) Knows(name string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.loads[name] != nil
}

// forget lets go of destinations that are gone and have nothing any more. The lock is held.
func (ps *Pools) forget() {
	maps.DeleteFunc(ps.accounts, func(_ string, a *account) bool { return a.gone && !a.busy() })
	maps.DeleteFunc(ps.loads, func(_ string, l *Load) bool { return l.gone && !l.busy() })
}

// Close retires all pools, and ends all health checks and all connections that are shared. It returns when nothing of them is left.
func (ps *Pools) Close() {
	ps.health.checks.close()
	ps.health.giveUp()
	ps.mu.Lock()
	ps.closed = true
	ps.mu.Unlock()
	ps.Retain(nil)
	ps.all.close()
}
