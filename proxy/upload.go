package proxy

import (
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/proxy/socket"
	"meshtest.dev/meshtest/proxy/upstream"
)

// upload is the second goroutine of a request whose body is streamed: it carries what the caller sends to the upstream, while the first one waits for the answer.
type upload struct {
	to       *upstream.Conn
	rest     []byte // what was taken of the body already, and is still to be written
	running  bool   // there is one that was not waited for
	done     chan struct{}
	failed   atomic.Bool  // the caller's side failed, for the reason err
	taken    atomic.Bool  // the whole body was read: the caller's connection is where the next request begins
	finished atomic.Int64 // when the body had been sent, in nanoseconds; 0: it was not
	err      error
}

// startUpload begins to carry the rest of the body: what was taken already, and what the caller still sends.
func (s *stream) startUpload(to *upstream.Conn, rest []byte) {
	u := &s.upload
	u.to, u.rest, u.running, u.err = to, rest, true, nil
	u.finished.Store(0)
	u.taken.Store(s.body.Done())
	go s.carryUp()
}

// stopUpload ends the second goroutine, and returns when it has gone. The connection to the upstream is of no use afterwards unless the body had been sent.
func (s *stream) stopUpload() {
	u := &s.upload
	if !u.running {
		return
	}
	if u.finished.Load() == 0 {
		s.c.sock.InterruptRead()
		u.to.Interrupt()
	}
	<-u.done
	s.c.sock.Resume()
	s.sending = s.srv.now()
	if at := u.finished.Load(); at != 0 {
		u.to.Resume()
		s.sending = time.Duration(at)
	} else {
		s.torn = true
	}
	u.running, u.to, u.rest = false, nil, nil
}

func (s *stream) carryUp() {
	u := &s.upload
	defer func() { u.done <- struct{}{} }()
	defer s.srv.survive("an upload", func() { s.uploadFailed(errPanic) })
	if _, err := u.to.Write(u.rest); err != nil {
		return // what the upstream has to say about it is being read
	}
	for !s.body.Done() {
		s.extend(0)
		if !s.carryWindow(u.to) {
			return
		}
	}
	u.finished.Store(int64(max(s.srv.now(), 1)))
	s.extend(0)
	s.c.alarm.watch(s.c.sock)
}

// carryWindow carries what has arrived, or else what arrives next. It reports false when that is not possible any more.
func (s *stream) carryWindow(to *upstream.Conn) bool {
	if s.more.len() == 0 {
		switch err := s.more.fill(s.c.sock); {
		case err == nil:
		case socket.Interrupted(err): // whoever did that knows why
			return false
		default:
			s.uploadFailed(err)
			return false
		}
	}
	window := s.more.bytes()
	fwd, drop, err := s.body.Scan(window)
	if err != nil {
		s.uploadFailed(err)
		return false
	}
	s.keepSent(window[:fwd])
	s.more.skip(fwd + drop)
	s.upload.taken.Store(s.body.Done()) // before the upstream can answer because of it
	_, err = to.Write(window[:fwd])
	s.more.rest()
	return err == nil
}

// keepSent remembers bytes for another attempt, as long as there are few.
func (s *stream) keepSent(p []byte) {
	if s.sent.over || len(s.sent.kept)+len(p) > maxReplay {
		s.sent.over = true
		return
	}
	s.sent.kept = append(s.sent.kept, p...)
}

func (s *stream) uploadFailed(err error) {
	s.upload.err = err
	s.upload.failed.Store(true)
	s.c.alarm.end(linkedFailure)
}

// limits are when the request, and the present attempt, have to be over (0: whenever). While the body is still coming there are none, as in Envoy.
func (s *stream) limits() (whole, one time.Duration) {
	if s.sending == 0 || s.timeout == 0 && s.perTry == 0 {
		return 0, 0
	}
	trying := time.Duration(s.trying.Load())
	from, tryFrom := s.sending, trying
	if s.upload.running {
		finished := time.Duration(s.upload.finished.Load())
		if finished == 0 {
			return 0, 0
		}
		from, tryFrom = finished, max(finished, tryFrom)
	}
	if s.timeout > 0 {
		whole = from + s.timeout
	}
	if trying > 0 && s.perTry > 0 {
		one = tryFrom + s.perTry
	}
	return whole, one
}

// until is the deadline of a wait that begins now, and must not exceed the limits, nor last for longer than idle (0: the timeout of streams) without progress.
func (s *stream) until(now, idle time.Duration) time.Duration {
	if idle == 0 {
		idle = s.srv.opts.Timeouts.Stream
	}
	deadline := now + idle
	if s.ends > 0 {
		deadline = min(deadline, s.ends)
	}
	whole, one := s.limits()
	for _, limit := range [...]time.Duration{whole, one} {
		if limit != 0 {
			deadline = min(deadline, limit)
		}
	}
	return deadline
}

// extend says that there was progress.
func (s *stream) extend(idle time.Duration) { s.c.alarm.extend(s.until(s.srv.now(), idle)) }
