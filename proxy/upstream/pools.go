package upstream

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// Options are what pools are made with. The zero value of a field means its default.
type Options struct {
	Now         func() time.Duration                                        // monotonic; default: since the call
	Dial        func(ctx context.Context, address string) (net.Conn, error) // default: TCP
	IdleTimeout time.Duration                                               // of an unused connection; default 30 s, below what servers allow (nginx: 75 s, our own listeners: 60 s)
	MaxIdle     int                                                         // unused connections to an endpoint; default 1024, Envoy's limit of all
	Chance      func() mesh.Draw                                            // the jitter between health checks; default: random. It is called concurrently
}

// Pools holds the connections to all endpoints, by address. It is safe for concurrent use.
type Pools struct {
	opts Options

	mu     sync.Mutex
	byAddr map[string]*Pool
	loads  map[string]*Load
	closed bool

	health health
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
	return &Pools{opts: opts, byAddr: map[string]*Pool{}, loads: map[string]*Load{}}
}

// Pool gives the pool of an address (HOST:PORT), and makes it when there is none.
func (ps *Pools) Pool(address string) *Pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byAddr[address]
	if p == nil {
		p = &Pool{Address: address, opts: &ps.opts, retired: ps.closed}
		ps.byAddr[address] = p
	}
	return p
}

// Load gives what is in flight to a destination, by any name that outlives configurations.
func (ps *Pools) Load(name string) *Load {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	l := ps.loads[name]
	if l == nil {
		l = &Load{}
		ps.loads[name] = l
	}
	return l
}

// NewLone makes a group of one endpoint, with connections that nobody else uses and no Stats tell. Whoever made it closes it.
func (ps *Pools) NewLone(e mesh.Endpoint) *Group {
	return newLone(e, &Pool{Address: mesh.HostPort(e.Address, e.Port), opts: &ps.opts}, &ps.opts)
}

// Retain retires every pool that is not in use any more: its idle connections are closed, and the others when their requests end.
func (ps *Pools) Retain(used map[*Pool]bool) {
	ps.mu.Lock()
	var retired []*Pool
	for address, p := range ps.byAddr {
		if !used[p] {
			retired = append(retired, p)
			delete(ps.byAddr, address)
		}
	}
	ps.mu.Unlock()
	for _, p := range retired {
		p.retire()
	}
}

// Close retires all pools, and ends all health checks.
func (ps *Pools) Close() {
	ps.health.checks.close()
	ps.mu.Lock()
	ps.closed = true
	ps.mu.Unlock()
	ps.Retain(nil)
}

// Stats tells the state of all pools, by address.
func (ps *Pools) Stats() []Stats {
	ps.mu.Lock()
	all := make([]*Pool, 0, len(ps.byAddr))
	for _, p := range ps.byAddr {
		all = append(all, p)
	}
	ps.mu.Unlock()
	stats := make([]Stats, len(all))
	for i, p := range all {
		stats[i] = p.stats()
	}
	slices.SortFunc(stats, func(a, b Stats) int { return cmp.Compare(a.Address, b.Address) })
	return stats
}

// access is how the endpoints of a group are connected to.
type access struct{}

func (ps *Pools) newAccess(Destination) (access, error) { return access{}, nil }

func (ps *Pools) pool(address string, _ *access) *Pool { return ps.Pool(address) }
