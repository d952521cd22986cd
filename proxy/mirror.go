package proxy

import (
	"bytes"
	"context"
	"sync"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/socket"
	"meshtest.dev/meshtest/proxy/upstream"
)

// A mirror gets a copy of a request, and what it answers is read and forgotten: it can hold up nobody. So a copy is made only of a request whose body is there as a whole, and only when few are on their way.
const (
	maxMirrored   = 128              // copies on their way at once
	mirrorTimeout = 15 * time.Second // of a copy, the connection included (Envoy's default route timeout)
)

// mirrors sends copies. Its owner is the server.
type mirrors struct {
	srv    *Server
	slots  chan struct{}
	flying sync.WaitGroup

	mu     sync.Mutex
	cancel map[*copied]context.CancelFunc // of those on their way
	closed bool
}

func (m *mirrors) init(s *Server) {
	m.srv = s
	m.cancel = map[*copied]context.CancelFunc{}
	m.slots = make(chan struct{}, maxMirrored)
}

// close gives up all copies on their way, and returns when nothing of them is left.
func (m *mirrors) close() {
	m.mu.Lock()
	m.closed = true
	for _, cancel := range m.cancel {
		cancel()
	}
	m.mu.Unlock()
	m.flying.Wait()
}

// begin gives a copy its time.
func (m *mirrors) begin(c *copied) (ctx context.Context, end func()) {
	ctx, cancel := context.WithTimeout(context.Background(), mirrorTimeout)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		cancel()
	}
	m.cancel[c] = cancel
	return ctx, func() {
		cancel()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.cancel, c)
	}
}

// copied is a request for a mirror.
type copied struct {
	bytes    []byte
	exchange http1.Exchange
	group    *upstream.Group
	endpoint *upstream.Endpoint // nil: there is none
	to       string             // logical name of the service
}

// version is that of the endpoint.
func (c *copied) version() string {
	if c.endpoint == nil {
		return ""
	}
	return c.endpoint.Version
}

// mirror sends copies of the request to those mirrors of its rule that want it.
func (s *stream) mirror(rule *route.Rule) {
	for i := range rule.Mirrors {
		m := &rule.Mirrors[i]
		if !m.Copies(s.seed(), s.key) {
			continue
		}
		all := &s.srv.mirrors
		to := s.srv.destination(s.cfg, &m.Arm)
		if to.group == nil || !s.body.Done() || s.req.Upgrade {
			s.srv.count.copies.with("skipped", m.Arm.Edge.To, m.Arm.Version).Inc()
			continue
		}
		select {
		case all.slots <- struct{}{}:
		default:
			s.srv.count.copies.with("overflow", m.Arm.Edge.To, m.Arm.Version).Inc()
			continue
		}
		c := s.copyFor(m, to)
		all.flying.Go(func() {
			all.send(c)
			<-all.slots
		})
	}
}

// copyFor makes the copy: it says of itself that it is a shadow, as in Envoy and Istio, by the suffix of the host that the request itself goes on with. Who sends it is for the mesh alone to know.
func (s *stream) copyFor(m *route.Mirror, to *destination) *copied {
	e := s.edits.Clone()
	e.SetHost(shadowOf(e.HostOf(&s.req)))
	if to.group.service.External {
		e.Delete(mesh.HeaderPeer)
	} else {
		e.Set(mesh.HeaderPeer, s.cfg.peer)
	}
	b := http1.AppendRequest(nil, &s.req, &e)
	arm := &m.Arm
	draw := mesh.Chance(s.seed(), mesh.PurposeSample, arm.Endpoints, arm.EdgeName, s.key, 1)
	return &copied{
		bytes: append(b, s.sent.bytes()...), exchange: http1.ExchangeOf(&s.req),
		group: to.group.Group, endpoint: to.group.Pick(upstream.Choice{Draw: draw}), to: arm.Edge.To,
	}
}

// shadowOf is the host of copies: NAME-shadow[:PORT].
func shadowOf(host []byte) []byte {
	name, port := host, []byte(nil)
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		name, port = host[:i], host[i:]
	}
	if len(name) == 0 || name[len(name)-1] == ']' {
		return host // an address has no shadow
	}
	return append(append(bytes.Clone(name), "-shadow"...), port...)
}

// send sends a copy and reads the answer.
func (m *mirrors) send(c *copied) {
	outcome := "failed"
	defer func() { m.srv.count.copies.with(outcome, c.to, c.version()).Inc() }()
	defer m.srv.survive("a mirror", func() {})
	if c.endpoint == nil {
		return
	}
	ctx, end := m.begin(c)
	defer end()
	conn, err := c.group.Connect(ctx, c.endpoint, upstream.Want{})
	if err != nil {
		return
	}
	pool := c.endpoint.Pool
	pool.Begin()
	defer pool.End()
	interrupt := context.AfterFunc(ctx, conn.Interrupt)
	reusable := false
	if _, err = conn.Write(c.bytes); err == nil {
		reusable, err = m.swallow(conn, c.exchange)
	}
	if err == nil {
		outcome = "answered"
	}
	if reusable && interrupt() {
		pool.Put(conn)
		return
	}
	interrupt()
	pool.Discard(conn)
}

// swallow reads an answer, and reports whether the connection can carry another request.
func (m *mirrors) swallow(conn *upstream.Conn, x http1.Exchange) (reusable bool, err error) {
	var in inbox
	defer in.release()
	var head http1.Head
	limits := m.srv.opts.Limits
	for {
		n, err := http1.ParseResponse(in.bytes(), &head, x, limits)
		switch {
		case err == http1.ErrNeedMore:
			if err := in.fill(conn.Conn); err != nil {
				return false, err
			}
			continue
		case err != nil:
			return false, err
		}
		in.skip(n)
		if head.Status >= 200 {
			break
		}
	}
	var body http1.BodyScanner
	body.Reset(head.Body, http1.Response, limits)
	keep := head.KeepAlive
	for !body.Done() {
		if in.len() == 0 {
			if err := in.fill(conn.Conn); err != nil {
				if ended(err) && body.EOF() == nil {
					return false, nil
				}
				return false, err
			}
		}
		fwd, drop, err := body.Scan(in.bytes())
		if err != nil {
			return false, err
		}
		in.skip(fwd + drop)
	}
	return keep && in.len() == 0 && conn.Look() == socket.Quiet, nil
}
