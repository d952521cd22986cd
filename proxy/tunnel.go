package proxy

import (
	"sync"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/socket"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/upstream"
)

// upgrade passes an answer on that leaves HTTP, and then carries bytes.
func (s *stream) upgrade(conn *upstream.Conn) {
	s.keep = false
	s.sign()
	s.replies.KeepUpgrade = true
	s.out = http1.AppendResponse(s.out[:0], &s.resp, &s.replies)
	s.tunnel(conn, telemetry.Connections{}, s.out)
}

// connectTunnel opens a tunnel to the chosen endpoint.
func (s *stream) connectTunnel() {
	if s.chosen == nil {
		s.local(503, ReasonNoHealthy, FlagNoHealthyUpstream)
		return
	}
	pool := s.chosen.Pool
	pool.Begin()
	defer pool.End()
	conn, o := s.connect(upstream.Want{Tunnel: true})
	s.count(conn == nil)
	switch {
	case conn == nil && o.kind == stopped:
		s.interrupted()
	case conn == nil:
		s.local(o.status, o.reason, o.flags)
	default:
		s.keep = false
		s.result.status = 200
		s.tunnel(conn, telemetry.Connections{}, []byte("HTTP/1.1 200 OK\r\n\r\n"))
	}
}

// carryTCP carries a connection of which we understand nothing.
func (c *conn) carryTCP(cfg *config) {
	s := streams.Get().(*stream)
	s.begin(c)
	s.cfg, s.role = cfg, c.role
	s.key, s.began = s.mint(), c.srv.now()
	s.tunnelTCP()
	s.release()
}

func (s *stream) tunnelTCP() {
	c := s.c
	if s.role.sniffs {
		s.serverName = s.sniff()
	}
	switch refused := s.directTCP(); refused {
	case "":
	case ReasonUnknownHost:
		s.explain()
		return
	default:
		s.lost(refused, FlagNoCluster)
		s.loggedTCP()
		c.srv.count.refused.with(refused).Inc() // whoever sees it counted finds out why
		return
	}
	told := c.srv.opts.Metrics.Connections(s.tcpTraffic())
	told.Opened()
	if s.chosen == nil {
		s.notCarried(told, ReasonNoHealthy, FlagNoHealthyUpstream)
		return
	}
	pool := s.chosen.Pool
	pool.Begin()
	defer pool.End()
	s.result.attempts = 1
	conn, o := s.connect(upstream.Want{Tunnel: true})
	switch {
	case conn != nil:
	case o.kind != stopped:
		s.notCarried(told, o.reason, o.flags)
		return
	case c.alarm.why() == shuttingDown:
		s.srv.cut.Add(1)
		s.notCarried(told, reasonShutdown, 0)
		return
	default:
		s.notCarried(told, reasonCallerGone, FlagDownstreamTerminated)
		return
	}
	s.tunnel(conn, told, nil)
	s.loggedTCP()
	told.Closed(uint32(s.result.flags))
}

// notCarried ends a connection of which nothing was carried.
func (s *stream) notCarried(told telemetry.Connections, reason string, flags Flags) {
	s.lost(reason, flags)
	s.c.sock.Abort()
	s.loggedTCP()
	told.Closed(uint32(flags)) // whoever sees it counted finds out why
}

// directTCP finds out where the connection goes, or why nowhere.
func (s *stream) directTCP() (refused string) {
	switch {
	case s.role.way == inboundWay:
		s.dest = s.role.app
		s.chosen = s.dest.group.Pick(upstream.Choice{})
		return ""
	case s.role.way.captured():
		return s.directOnward()
	case s.role.refused:
		return s.blackHole()
	}
	return s.routeTCP(s.role.table)
}

// routeTCP finds the rule and the endpoint for a connection.
func (s *stream) routeTCP(table *route.Table) (refused string) {
	s.table = table
	s.hit = table.LookupTLS(s.serverName)
	rule := s.hit.Rule
	if rule == nil || len(rule.Arms) == 0 {
		return ReasonNoDestination
	}
	arm := &rule.Arms[rule.Choose(s.seed(), nil, s.key)]
	s.dest = s.srv.destination(s.cfg, arm)
	if s.dest.group == nil {
		return ReasonNoDestination
	}
	if !s.aim(arm) {
		return ReasonNoDestination
	}
	return ""
}

func (s *stream) tcpTraffic() telemetry.Traffic {
	if s.role.way.inward() {
		return telemetry.Traffic{Reporter: telemetry.Destination, Destination: telemetry.PeerOf(*s.caller()), Host: s.role.host, Security: telemetry.Plaintext}
	}
	t := telemetry.Traffic{Reporter: telemetry.Source, Source: telemetry.PeerOf(*s.caller()), Host: s.dest.arm.Host}
	if s.chosen != nil {
		t.Destination = telemetry.PeerOfEndpoint(s.dest.arm.Host, &s.chosen.Endpoint)
	}
	return t
}

// tunnel carries bytes both ways until both ends have closed, one of them breaks, or nothing moves for too long. The greeting goes to the caller first.
func (s *stream) tunnel(conn *upstream.Conn, told telemetry.Connections, greeting []byte) {
	idle := s.srv.opts.Timeouts.Tunnel
	s.sending = 0 // the route's timeout is for requests
	s.ends = conn.Ends()
	s.movedUp.Store(0)
	s.movedDown.Store(0)
	s.traced.up = conn.Conn
	s.c.alarm.enter(streaming, s.until(s.srv.now(), idle), nil, conn, s.c.sock)
	var back sync.WaitGroup
	back.Go(func() {
		defer s.srv.survive("a tunnel", func() { s.c.alarm.end(linkedFailure) })
		s.carryBytes(&s.in, conn.Conn, s.c.sock, func(n int) { s.moved(told, 0, n) })
	})
	if _, err := s.c.sock.Write(greeting); err == nil {
		s.carryBytes(&s.up, s.c.sock, conn.Conn, func(n int) { s.moved(told, n, 0) })
	} else {
		s.c.alarm.end(linkedFailure)
	}
	back.Wait()
	switch s.c.settle() {
	case streaming:
		reason := reasonIdle
		if s.ends > 0 && s.srv.now() >= s.ends {
			reason = reasonDuration
		}
		s.lost(reason, FlagUpstreamTimeout)
	case shuttingDown:
		s.lostByUs()
	}
	s.chosen.Pool.Discard(conn)
}

// moved counts bytes and says that there was progress.
func (s *stream) moved(told telemetry.Connections, sent, received int) {
	s.movedUp.Add(int64(received))
	s.movedDown.Add(int64(sent))
	if told != (telemetry.Connections{}) {
		told.Moved(int64(sent), int64(received))
	}
	s.extend(s.srv.opts.Timeouts.Tunnel)
}

// carryBytes carries one direction of a tunnel to its end, beginning with what has arrived already. When it breaks, the other direction ends too.
func (s *stream) carryBytes(arrived *inbox, to, from *socket.Conn, moved func(int)) {
	for {
		n := arrived.len()
		if _, err := to.Write(arrived.bytes()); err != nil {
			break
		}
		arrived.release()
		moved(n)
		err := error(nil)
		for n >= socket.BufferSize && err == nil { // there is much: what has come already is moved in the kernel
			n, err = from.Pass(to, from.Waiting())
			moved(n)
		}
		if err == nil {
			err = arrived.fill(from)
		}
		if ended(err) {
			if to.CloseWrite() == nil {
				return
			}
			break
		}
		if err != nil {
			break
		}
	}
	s.c.alarm.end(linkedFailure)
}
