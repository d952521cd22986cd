package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"meshtest.dev/meshtest/proxy/socket"
)

// listener takes connections at one address. What they are for is up to the configuration in force when they come.
type listener struct {
	bind   string
	net    net.Listener
	closed chan struct{}
}

// close stops accepting. Connections that were accepted go on.
func (l *listener) close() {
	close(l.closed)
	_ = l.net.Close() // it only ever listened
}

// bind listens on every address of the configuration where nobody listens yet, or on none.
func (s *Server) bind(next *config) (added []*listener, err error) {
	for bind, r := range next.roles {
		if s.listeners[bind] != nil {
			continue
		}
		var lc net.ListenConfig
		bound, err := lc.Listen(context.Background(), "tcp", bind)
		if err != nil {
			for _, l := range added {
				l.close()
			}
			return nil, fmt.Errorf("binding the %s listener: %w", r.way, err)
		}
		added = append(added, &listener{bind: bind, net: bound, closed: make(chan struct{})})
	}
	return added, nil
}

func (s *Server) listen(added []*listener) {
	for _, l := range added {
		s.listeners[l.bind] = l
		s.accepting.Go(func() { s.accept(l) })
	}
}

// unbind closes the listeners that the configuration does not have.
func (s *Server) unbind(next *config) {
	for bind, l := range s.listeners {
		if next.roles[bind] == nil {
			l.close()
			delete(s.listeners, bind)
		}
	}
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l *listener) {
	for pause := time.Duration(0); ; {
		c, err := l.net.Accept()
		switch {
		case err == nil:
			pause = 0
			s.take(l, c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, most likely: it passes
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.opts.Log.Error("accepting a connection", "listener", l.bind, "error", err)
			select {
			case <-time.After(pause):
			case <-l.closed:
			}
		}
	}
}

func (s *Server) take(l *listener, accepted net.Conn) {
	c := &conn{srv: s, at: place{bind: l.bind}, accepted: accepted}
	if !c.arrive(s.config.Load()) {
		_ = accepted.Close() // there is nothing to be said to it
		return
	}
	c.sock = socket.New(accepted)
	c.alarm.init(s.now)
	if !s.admit(c) {
		s.count.refused.with(ReasonTooMany).Inc()
		c.turnAway()
		return
	}
	s.count.accepted[c.at.way].Inc()
	s.carrying.Go(c.carry)
}
