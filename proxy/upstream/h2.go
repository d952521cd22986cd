package upstream

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"meshtest.dev/meshtest/proxy/http2"
	"meshtest.dev/meshtest/proxy/socket"
)

// speech is what is spoken with an endpoint.
type speech uint32

const (
	undecided speech = iota
	http1Only        // or anything else that has a connection to itself
	http2Only
)

func (s speech) String() string { return [...]string{"", "http/1.1", "h2"}[s] }

// mux is a connection of HTTP/2, of which requests share the streams.
type mux struct {
	client   *http2.Client
	name     string
	born     time.Duration
	released bool // is counted out; under the account's lock

	// Under the pool's lock.
	streams int
	carried int           // streams ever
	since   time.Duration // without streams since
	closing bool          // it takes no more streams, and ends with the last
}

// muxes are all connections of HTTP/2 that have not ended, each with a goroutine that waits for that.
type muxes struct {
	sync.WaitGroup
	mu   sync.Mutex
	live map[*mux]struct{}
}

func newMuxes() *muxes { return &muxes{live: map[*mux]struct{}{}} }

func (all *muxes) add(m *mux, watch func()) {
	all.mu.Lock()
	all.live[m] = struct{}{}
	all.mu.Unlock()
	all.Go(func() {
		watch()
		all.mu.Lock()
		delete(all.live, m)
		all.mu.Unlock()
	})
}

// close ends all connections, and returns when nothing is left of them.
func (all *muxes) close() {
	all.mu.Lock()
	live := slices.Collect(maps.Keys(all.live))
	all.mu.Unlock()
	for _, m := range live {
		m.end()
	}
	all.Wait()
}

// end closes the connection at once.
func (m *mux) end() { _ = m.client.Close() } // of what it still had to say nobody would hear

// retire lets the connection take no more streams, and end with the last. The pool's lock is held.
func (m *mux) retire() {
	m.closing = true
	m.rest()
}

// rest ends a connection that is retired and has no streams. The client itself is told no earlier: it would refuse streams of which nothing has been sent yet.
func (m *mux) rest() {
	if m.closing && m.streams == 0 {
		m.client.Retire()
	}
}

// mayShare reports whether a connection that is made now may turn out to be one that is shared.
func (p *Pool) mayShare() bool {
	return p.spoken() != http1Only
}

// spoken is what is known to be spoken.
func (p *Pool) spoken() speech {
	if p.transport.speech != undecided {
		return p.transport.speech
	}
	return speech(p.speaks.Load())
}

// learn remembers what the endpoint speaks.
func (p *Pool) learn(multiplexed bool) {
	s := http1Only
	if multiplexed {
		s = http2Only
	}
	p.speaks.Store(uint32(s))
}

// multiplex makes a connection one of HTTP/2, and gives its first stream.
func (p *Pool) multiplex(sock *socket.Conn, name string) (*Conn, error) {
	o := http2.ClientOptions{Patience: p.opts.Patience, Limits: p.opts.Limits, Count: p.opts.Ended}
	if p.transport.security != nil {
		o.Scheme = "https"
	}
	m := &mux{client: http2.NewClient(sock, o), name: name, born: p.opts.Now()}
	p.mu.Lock()
	c, err := p.openStream(m)
	if err == nil {
		p.muxes = append(p.muxes, m)
		if p.retired {
			m.retire()
		}
	}
	p.mu.Unlock()
	if err != nil {
		m.end()
		return nil, fmt.Errorf("HTTP/2 with %s: %w", p.Address, err)
	}
	p.all.add(m, func() { p.watch(m) })
	return c, nil
}

// watch waits for the end of a shared connection, and counts it out.
func (p *Pool) watch(m *mux) {
	<-m.client.Done()
	p.mu.Lock()
	p.muxes = slices.DeleteFunc(p.muxes, func(other *mux) bool { return other == m })
	p.mu.Unlock()
	p.account.lost(p, m)
}

// stream opens a stream on the first shared connection that has room; nil when there is none. The lock is held.
func (p *Pool) stream(w *Want) *Conn {
	for _, m := range p.muxes {
		if m.closing || !p.transport.serves(m.name, w) || p.limits.MaxConcurrentStreams > 0 && m.streams >= p.limits.MaxConcurrentStreams {
			continue
		}
		switch c, err := p.openStream(m); {
		case err == nil:
			return c
		case !errors.Is(err, http2.ErrFull):
			m.retire()
		}
	}
	return nil
}

// openStream opens a stream, and retires a connection that has carried enough then. The lock is held.
func (p *Pool) openStream(m *mux) (*Conn, error) {
	st, err := m.client.Open()
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: socket.New(st), Reused: m.carried > 0, pool: p, mux: m, name: m.name, born: m.born, carried: m.carried}
	m.streams++
	m.carried++
	if p.worn(m.born, m.carried, p.opts.Now()) {
		m.retire()
	}
	return c, nil
}

// closeStream gives a stream back. One that is not whole is reset.
func (p *Pool) closeStream(c *Conn) {
	c.end()
	m := c.mux
	now := p.opts.Now()
	p.mu.Lock()
	m.streams--
	idle := m.streams == 0
	if idle {
		m.since = now
		p.watchIdle()
	}
	m.closing = m.closing || p.worn(m.born, m.carried, now)
	m.rest()
	p.mu.Unlock()
	if p.account.attention.Load() && p.account.freed(p, idle) {
		p.mu.Lock()
		m.retire()
		p.mu.Unlock()
	}
}
