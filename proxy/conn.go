package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http2"
	"meshtest.dev/meshtest/proxy/socket"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// conn is one downstream connection. One goroutine carries it; between requests it holds little more than that goroutine.
type conn struct {
	srv   *Server
	at    place
	dst   netip.AddrPort // where it was going, if it was captured
	cfg   *config        // the last configuration that it has a role in
	role  *role          // under that
	stays bool           // it has one in the present configuration
	seen  uint64         // serial of the present configuration
	sock  *socket.Conn
	alarm alarm

	parent   *conn                        // the connection of HTTP/2 that it is a stream of; nil: it is one of its own
	mux      atomic.Pointer[http2.Server] // that carries it, when it speaks HTTP/2
	accepted net.Conn                     // as it came
	secure   bool                         // it came by TLS
	protocol string                       // that the handshake agreed on
	used     bool                         // it carried a request
	quiet    time.Duration                // since when it waits for one

	takes  func(b *socket.Buffer, n int) (again bool) // take, made once
	peers  telemetry.PeerCache
	stream *stream // of the request in flight
	onward *onward // where it was going, when something was passed through
}

// streams are the memory of requests in flight.
var streams = sync.Pool{New: func() any { return newStream() }}

// carry is the connection's goroutine. A panic ends the connection and not the sidecar: the other connections share nothing with it but counters and pools, and a mesh under
// test must not lose a node to one bad request. It is logged, counted, and what the connection held is not used again.
func (c *conn) carry() {
	defer c.srv.dismiss(c)
	defer c.alarm.stop()
	defer c.srv.survive("a connection", func() {
		c.sock.Abort()
		if c.stream != nil {
			c.stream.abandon()
		}
	})
	defer c.forgetOnward()
	cfg := c.srv.config.Load()
	switch {
	case !c.resolve(cfg) && !c.arrive(cfg): // the listener went while the connection came
	case !c.handshake():
	case c.role.tcp:
		c.carryTCP(cfg)
	case c.speaksHTTP2():
		c.carryHTTP2(nil)
	default:
		c.carryHTTP()
	}
	_ = c.sock.Close() // all has been said
}

// arrive finds out what a connection is for that has just come, and reports whether it is for anything.
func (c *conn) arrive(cfg *config) bool {
	listens := cfg.roles[c.at.bind]
	if listens == nil {
		return false
	}
	c.at.way, c.role, c.seen = listens.way, nil, 0
	var known bool
	if c.dst, known = c.whereTo(); !known {
		c.srv.count.refused.with(reasonNotRedirected).Inc()
		return false
	}
	return c.resolve(cfg)
}

// resolve finds out what the connection is for under a configuration. It reports false when that is nothing any more: the listener has gone, is for something else, or speaks another protocol now. The
// connection keeps its role and the configuration of that then, and ends with the request in flight.
func (c *conn) resolve(cfg *config) bool {
	if c.seen == cfg.serial {
		return c.stays
	}
	c.seen = cfg.serial
	r := cfg.role(c.at, c.dst)
	c.stays = r != nil && (c.role == nil || c.role.tcp == r.tcp && (c.role.tls == nil) == (r.tls == nil))
	if c.stays {
		c.cfg, c.role = cfg, r
	}
	return c.stays
}

var errPanic = errors.New("a mistake of ours")

// survive recovers from a panic, tells of it, and cleans up. It is to be deferred.
func (s *Server) survive(what string, cleanUp func()) {
	if p := recover(); p != nil {
		s.opts.Log.Error(what+" panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		s.count.panics.Inc() // whoever sees it counted finds out why
		cleanUp()
	}
}

// carryHTTP carries one request after the other.
func (c *conn) carryHTTP() {
	c.quiet, c.takes = c.srv.now(), c.take
	for c.await() && c.goOn() {
	}
}

// await waits for requests, and carries those that arrive whole. It reports true when it has left one to carry on with that needs more of the caller, or was the last; false when there will be none.
func (c *conn) await() bool {
	for {
		c.idle()
		if c.sock.Each(c.takes) == nil {
			return true
		}
		switch c.settle() {
		case overlooked:
			continue
		case idling:
			c.srv.count.closed.with(reasonIdle).Inc()
		}
		return false
	}
}

// idle begins the time between requests. The caller is looked at once: if he closed his side right behind a request, nobody has told, nor of what he sent behind an urgent byte, where a read stops.
func (c *conn) idle() {
	c.alarm.enter(idling, c.quiet+c.srv.opts.Timeouts.Idle, c.sock, c.sock, nil)
}

// take carries what has arrived, as far as it is whole requests, and reports whether that was all, so that the wait goes on. That saves a request a system call which would nearly always find nothing.
func (c *conn) take(b *socket.Buffer, n int) (again bool) {
	c.settle() // even when the wait was ended: it came just in time
	s := streams.Get().(*stream)
	s.begin(c)
	s.in = inbox{lent: b, buf: b[:], w: n}
	c.stream = s
	for s.in.len() > 0 {
		s.began = s.look()
		if !s.whole() || !s.carry(nil) {
			return false
		}
		s.forget()
	}
	c.stream = nil
	s.recycle()
	c.idle()
	return true
}

// goOn carries the request that was begun, and those that have arrived behind it, and reports whether the connection can carry others.
func (c *conn) goOn() bool {
	s := c.stream
	keep := !s.carried && s.serve()
	for keep && s.in.len() > 0 {
		keep = s.serve()
	}
	if !keep {
		s.part()
	}
	preface := s.preface
	c.stream = nil
	s.release()
	if preface != nil {
		c.carryHTTP2(preface)
	}
	return keep
}

// settle ends a phase whose wait was on the caller, and makes the connection usable again if it was interrupted.
func (c *conn) settle() cause {
	why := c.alarm.leave()
	if why != none {
		c.sock.Resume()
	}
	return why
}

// turnAway answers a connection that is one too many, in the words of its listener. Who speaks TLS, or who knows what, is told nothing: it would be taken for something else.
func (c *conn) turnAway() {
	reason := ReasonTooMany
	if c.role.edge {
		reason = "" // the mesh's own
	}
	var words []byte
	switch r := c.role; {
	case r.tcp, r.tls != nil:
	case r.http2:
		words = http2.AppendTurnAway(nil, reason)
	default:
		var e http1.Edits
		e.Close = true
		if reason != "" {
			e.Add(mesh.HeaderReason, reason)
		}
		words = http1.AppendReply(nil, &http1.Reply{Status: 503}, &e)
	}
	if words != nil {
		_, _ = c.sock.Write(words) // a new connection takes that much without waiting
	}
	_ = c.sock.Close()
}

// Lingering: an answer that is followed by a reset may be lost, because the reset overtakes it. So whoever stops reading first ends his own direction and swallows what still comes, for a while.
const (
	lingerBytes = 256 << 10
	lingerTime  = 1e9 // ns
)

// linger closes our direction and waits until the caller has closed his.
func (c *conn) linger() {
	if c.parent != nil {
		return // a stream's end is a frame, which overtakes nothing
	}
	if c.sock.CloseWrite() != nil {
		return
	}
	c.alarm.enter(gathering, c.srv.now()+lingerTime, nil, c.sock, nil)
	defer c.alarm.leave()
	b := socket.Borrow()
	defer socket.Return(b)
	for left := lingerBytes; left > 0; {
		n, err := c.sock.Read(b[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// ended reports whether the error is the orderly end of a stream.
func ended(err error) bool { return errors.Is(err, io.EOF) }
