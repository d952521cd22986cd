package proxy

import (
	"context"
	"time"
)

// Run serves until ctx ends. Then it stops accepting, lets requests in flight finish for as long as Timeouts.Drain, closes everything, and returns when nothing of it is left. The log says how many
// requests are in flight when that begins, and how many were cut.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.stopListening()
	s.opts.Log.Info("stopping", "inFlight", s.inFlight(), "drain", s.opts.Timeouts.Drain.String())
	s.drain()
	cut := s.cut.Load()
	s.opts.Log.Info("stopped", "cut", cut)
	s.count.cut.Add(uint64(cut)) // whoever sees it counted finds out why
	s.mirrors.close()
	s.pools.Close()
	s.apps.Close()
	return nil
}

func (s *Server) stopListening() {
	s.applying.Lock()
	s.stopped = true
	s.draining.Store(true)
	for bind, l := range s.listeners {
		l.close()
		delete(s.listeners, bind)
	}
	s.applying.Unlock()
	s.accepting.Wait()
}

// idleGrace is how long a drained connection may lie idle before it is closed: a request that is on its way arrives within, and is told that it was the last.
const idleGrace = 250 * time.Millisecond

// drain ends all connections: first those that are idle, and at the end all.
func (s *Server) drain() {
	gone := make(chan struct{})
	go func() {
		s.carrying.Wait()
		close(gone)
	}()
	grace := time.NewTicker(min(s.idleGrace, s.opts.Timeouts.Drain))
	defer grace.Stop()
	limit := time.NewTimer(s.opts.Timeouts.Drain)
	defer limit.Stop()
	for {
		select {
		case <-gone:
			return
		case <-grace.C:
			s.each(func(c *conn) { c.depart() })
		case <-limit.C:
			s.each(func(c *conn) { c.alarm.end(shuttingDown) })
			s.each(func(c *conn) { c.abort() }) // last, since streams of a connection that breaks look like callers who have gone
			<-gone
			return
		}
	}
}

// inFlight counts the requests and tunnels that are carried.
func (s *Server) inFlight() (n int) {
	s.each(func(c *conn) {
		if c.busy() {
			n++
		}
	})
	return n
}
