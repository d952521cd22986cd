package upstream

import (
	"context"
	"sync"
	"sync/atomic"

	"meshtest.dev/meshtest/mesh"
)

// account is what one destination has of connections, requests and retries, and who waits there. It outlives configurations; the limits are those of the newest group that made use of it.
//
// Its lock comes before those of pools. Whoever gives something back looks at attention, and only takes the lock when there is somebody to be served.
type account struct {
	name      string
	gone      bool         // no group in force is the destination's; under the lock of Pools
	requests  atomic.Int64 // in flight, of groups that limit them
	retries   atomic.Int64 // in flight
	attention atomic.Bool  // requests wait, or there are more connections than there may be
	overflows [TooManyRetries + 1]atomic.Uint64

	mu      sync.Mutex
	serial  uint64 // of the group that the limits are of
	limits  mesh.ConnectionPool
	open    int                // connections, and those that are being made
	pools   map[*Pool]struct{} // that have some of them
	waiting waiters
}

// waiter is a request that waits for a connection.
type waiter struct {
	group      *Group
	pool       *Pool
	want       Want
	passed     int        // how often a connection went to somebody behind it
	ready      chan grant // of one
	prev, next *waiter
	queued     bool
}

// grant is what a request gets: a connection, the right to make one, or an error.
type grant struct {
	conn   *Conn
	dial   bool
	shared bool   // of a dial: others wait for the same connection
	victim victim // of a dial: is to be closed before
	err    error
}

// victim is a connection that gives way to another one.
type victim interface{ end() }

// patience is how often connections may be given to requests for their own endpoint while an earlier one waits for one to another endpoint: changing over costs a connection.
const patience = 8

func newAccount(name string) *account { return &account{name: name, pools: map[*Pool]struct{}{}} }

// overflow counts and returns an overflow.
func (a *account) overflow(o Overflow) error {
	a.overflows[o].Add(1)
	return o
}

// acquire gives a connection, or the right to make one, and waits for that.
func (a *account) acquire(ctx context.Context, g *Group, p *Pool, w Want) (grant, error) {
	a.mu.Lock()
	a.adopt(g)
	a.attention.Store(true) // from here on what is given back is either found below, or served to us
	got, ok := a.atOnce(g, p, &w)
	var one *waiter
	var err error
	if !ok {
		one, err = a.enqueue(g, p, w)
	}
	a.note()
	a.mu.Unlock()
	if one == nil {
		return got, err
	}
	select {
	case got = <-one.ready:
		return got, got.err
	case <-ctx.Done():
		a.withdraw(one)
		return grant{}, ctx.Err()
	}
}

// atOnce finds what there is without waiting.
func (a *account) atOnce(g *Group, p *Pool, w *Want) (grant, bool) {
	if !w.Tunnel && p.waiting.Load() == 0 {
		if c := p.ready(g, w); c != nil {
			return grant{conn: c}, true
		}
	}
	if p.dialing && !w.Tunnel {
		return grant{}, false
	}
	if a.room() {
		return a.slot(p, w, nil), true
	}
	a.overflows[TooManyConnections].Add(1)
	for other := range a.pools {
		if v := other.evict(); v != nil {
			a.forget(other)
			return a.slot(p, w, v), true
		}
	}
	return grant{}, false
}

// room reports whether there may be another connection.
func (a *account) room() bool {
	return a.limits.MaxConnections == 0 || a.open < a.limits.MaxConnections
}

// slot is the right to make a connection.
func (a *account) slot(p *Pool, w *Want, v victim) grant {
	a.count(p)
	shared := !w.Tunnel && p.mayShare()
	p.dialing = p.dialing || shared
	return grant{dial: true, shared: shared, victim: v}
}

// count counts a connection.
func (a *account) count(p *Pool) {
	a.open++
	p.open++
	a.pools[p] = struct{}{}
}

// forget is count's counterpart.
func (a *account) forget(p *Pool) {
	a.open--
	if p.open--; p.open == 0 {
		delete(a.pools, p)
	}
}

// enqueue lets a request wait.
func (a *account) enqueue(g *Group, p *Pool, w Want) (*waiter, error) {
	switch {
	case w.Tunnel:
		return nil, TooManyConnections // counted
	case a.limits.MaxPending > 0 && a.waiting.n >= a.limits.MaxPending:
		return nil, a.overflow(TooManyPending)
	}
	one := &waiter{group: g, pool: p, want: w, ready: make(chan grant, 1)}
	a.waiting.push(one)
	return one, nil
}

// withdraw ends a wait. What was granted meanwhile is given back.
func (a *account) withdraw(one *waiter) {
	a.mu.Lock()
	queued := one.queued
	if queued {
		a.waiting.remove(one)
		a.note()
	}
	a.mu.Unlock()
	if queued {
		return
	}
	switch got := <-one.ready; {
	case got.conn != nil:
		got.conn.unused()
	case got.dial:
		a.abandon(one.pool, got.shared, nil)
	}
}

func (a *account) grant(one *waiter, g grant) {
	a.waiting.remove(one)
	one.ready <- g
}

// adopt takes over the limits of a group that is newer than the last one.
func (a *account) adopt(g *Group) {
	if g.serial <= a.serial {
		return
	}
	a.serial, a.limits = g.serial, g.limits
	a.serve()
}

// busy reports whether the destination has connections, or requests that go there or want to.
func (a *account) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open > 0 || a.waiting.n > 0 || a.requests.Load() > 0 || a.retries.Load() > 0
}

// note keeps attention right. It is called before the lock is given up, after anything that changes what it is made of.
func (a *account) note() {
	a.attention.Store(a.waiting.n > 0 || a.limits.MaxConnections > 0 && a.open > a.limits.MaxConnections)
}

// release says that a connection has been closed.
func (a *account) release(p *Pool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(p)
	a.serve()
	a.note()
}

// lost says that a shared connection has ended.
func (a *account) lost(p *Pool, m *mux) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.released {
		return
	}
	m.released = true
	a.forget(p)
	a.serve()
	a.note()
}

// abandon gives the right to make a connection back. When it could not be made, those who waited for the same one hear why.
func (a *account) abandon(p *Pool, shared bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if shared {
		p.dialing = false
		for one := a.waiting.firstOf(p, nil); one != nil && err != nil; one = a.waiting.firstOf(p, nil) {
			a.grant(one, grant{err: err})
		}
	}
	a.forget(p)
	a.serve()
	a.note()
}

// made says that a connection has been made that others wait for, whether they can share it or not.
func (a *account) made(p *Pool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p.dialing = false
	a.share(p)
	a.serve()
	a.note()
}

// serve lets those who have waited longest make connections while there may be more.
func (a *account) serve() {
	for a.room() {
		one := a.waiting.firstToDial()
		if one == nil {
			return
		}
		if c := one.pool.ready(one.group, &one.want); c != nil {
			a.grant(one, grant{conn: c})
			continue
		}
		a.grant(one, a.slot(one.pool, &one.want, nil))
	}
}

// share gives room on the pool's connections to those who wait for it.
func (a *account) share(p *Pool) {
	for {
		one := a.waiting.firstOf(p, nil)
		if one == nil {
			return
		}
		c := p.ready(one.group, &one.want)
		if c == nil {
			return
		}
		a.grant(one, grant{conn: c})
	}
}

// offer finds out what becomes of a connection that can carry another request: it goes to the first who waits for one to the same endpoint, or is kept. It reports false when it is to be closed, because
// there are too many, or because somebody has waited for long enough for one to another endpoint.
func (a *account) offer(c *Conn) (accepted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.note()
	if m := a.limits.MaxConnections; m > 0 && a.open > m {
		return false
	}
	own, other := a.waiting.firstOf(c.pool, c), a.waiting.firstToDial()
	switch {
	case own == nil && other == nil:
		return c.pool.park(c)
	case own == nil, other != nil && other != own && other.passed >= patience:
		return false
	case other != nil && other != own:
		other.passed++
	}
	a.grant(own, grant{conn: c})
	return true
}

// freed says that a shared connection has room again. It reports whether that connection should take nothing more, because somebody has waited for long enough for one to another endpoint.
func (a *account) freed(p *Pool, idle bool) (enough bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.note()
	if m := a.limits.MaxConnections; m > 0 && a.open > m {
		return true
	}
	other := a.waiting.firstToDial()
	if other == nil || other.pool == p {
		a.share(p)
		return false
	}
	own := a.waiting.firstOf(p, nil)
	if own == nil && idle || other.passed >= patience {
		return true
	}
	other.passed++
	a.share(p)
	return false
}

// waiters is a queue: the first has waited longest.
type waiters struct {
	first, last *waiter
	n           int
}

func (q *waiters) push(one *waiter) {
	one.queued = true
	if one.prev = q.last; q.last == nil {
		q.first = one
	} else {
		q.last.next = one
	}
	q.last = one
	q.n++
	one.pool.waiting.Add(1)
}

func (q *waiters) remove(one *waiter) {
	if one.prev == nil {
		q.first = one.next
	} else {
		one.prev.next = one.next
	}
	if one.next == nil {
		q.last = one.prev
	} else {
		one.next.prev = one.prev
	}
	one.prev, one.next, one.queued = nil, nil, false
	q.n--
	one.pool.waiting.Add(-1)
}

// firstOf is the first who waits for the pool, and could use the connection if there is one.
func (q *waiters) firstOf(p *Pool, c *Conn) *waiter {
	for one := q.first; one != nil; one = one.next {
		if one.pool == p && (c == nil || p.transport.serves(c.name, &one.want)) {
			return one
		}
	}
	return nil
}

// firstToDial is the first who waits for leave to make a connection, and not for one that is being made.
func (q *waiters) firstToDial() *waiter {
	for one := q.first; one != nil; one = one.next {
		if !one.pool.dialing {
			return one
		}
	}
	return nil
}
