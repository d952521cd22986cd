package proxy

import (
	"bytes"
	"time"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http2"
	"meshtest.dev/meshtest/proxy/socket"
)

// carryHTTP2 carries a connection of HTTP/2: each of its streams as a connection of one request. What was read already comes first.
func (c *conn) carryHTTP2(first []byte) {
	o := &c.srv.opts
	mux := http2.NewServer(c.sock, http2.ServerOptions{
		Serve: c.carryStream, Count: func(reason string) { c.srv.count.closed.with(reason).Inc() }, Refused: c.refusedHere,
		Limits: o.Limits, Header: o.Timeouts.Header, Idle: o.Timeouts.Idle, Patience: o.Timeouts.slowPeer(), MaxStreams: o.MaxStreams,
	})
	c.mux.Store(mux)
	if c.srv.draining.Load() {
		mux.Drain()
	}
	mux.Run(first)
}

// slowPeer is how long a peer may let streams of HTTP/2 wait: not quite as long as a stream may, so that it is the connection of a slow peer that ends, and not only his streams.
func (t Timeouts) slowPeer() time.Duration { return t.Stream - t.Stream/10 }

// carryStream carries one stream of a connection of HTTP/2.
func (c *conn) carryStream(st *http2.Stream) {
	one := &conn{srv: c.srv, at: c.at, dst: c.dst, sock: socket.New(st), parent: c, secure: c.secure}
	one.alarm.init(c.srv.now)
	if !one.resolve(c.srv.config.Load()) || one.role.tcp { // the listener has gone
		c.mux.Load().Drain()
		st.Refuse()
		return
	}
	c.srv.enlist(one)
	one.carryOne()
}

// refusedHere remembers a request of HTTP/2 that was answered before anything of it could be read.
func (c *conn) refusedHere(status int, reason string) {
	cfg := c.srv.config.Load()
	one := &conn{srv: c.srv, at: c.at, dst: c.dst, sock: c.sock, parent: c, secure: c.secure}
	if !one.resolve(cfg) {
		return
	}
	s := streams.Get().(*stream)
	s.begin(one)
	defer s.release()
	s.cfg, s.role, s.began, s.key = cfg, one.role, s.look(), s.mint()
	s.body.Reset(http1.Body{}, http1.Request, c.srv.opts.Limits)
	s.result.status, s.result.reason, s.result.byMesh, s.result.flags = status, reason, true, FlagDownstreamProtocol
	s.record()
}

// carryOne carries the one request of a stream.
func (c *conn) carryOne() {
	defer c.srv.dismiss(c)
	defer c.alarm.stop()
	defer c.srv.survive("a stream", func() {
		c.sock.Abort()
		if c.stream != nil {
			c.stream.abandon()
		}
	})
	defer c.forgetOnward()
	s := streams.Get().(*stream)
	s.begin(c)
	c.stream = s
	if err := s.in.fill(c.sock); err == nil {
		s.serve()
		s.part()
	}
	c.stream = nil
	s.release()
}

// preface begins every connection of HTTP/2 by prior knowledge; HTTP/1.1 takes it for a request without Host.
var preface = []byte("PRI * HTTP/2.0\r\n")

// beginsHTTP2 reports whether a caller speaks HTTP/2 who was taken for one of HTTP/1.1.
func (s *stream) beginsHTTP2() bool {
	return s.c.parent == nil && !s.c.used && !s.c.secure && bytes.HasPrefix(s.in.bytes(), preface)
}

// depart asks a connection to end when that costs nobody anything.
func (c *conn) depart() {
	if mux := c.mux.Load(); mux != nil {
		mux.Drain()
		return
	}
	c.alarm.endIf(idling, idling)
}

// abort breaks a connection of HTTP/2, whatever its streams do. Any other ends by itself when its wait is over.
func (c *conn) abort() {
	if mux := c.mux.Load(); mux != nil {
		mux.Abort()
	}
}

// busy reports whether a request is carried, or a tunnel. What waits for one, or for the rest of its head, is not; neither is a connection of HTTP/2, whose streams are.
func (c *conn) busy() bool {
	if c.mux.Load() != nil {
		return false
	}
	c.alarm.mu.Lock()
	defer c.alarm.mu.Unlock()
	return c.alarm.phase != idling && c.alarm.phase != readingHead
}
