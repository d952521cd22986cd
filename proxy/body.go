package proxy

import (
	"time"

	"meshtest.dev/meshtest/proxy/http1"
)

// A request body that is there when its head is, is sent with the head, in one write. One that is not is waited for, for a moment, so that small ones are that case too. What is
// longer, or takes longer, is streamed by a second goroutine, because the upstream may answer before it has read it all.
const (
	// maxReplay bounds what is kept of a body so that it can be sent again; a request with more is not retried once its body has left (Linkerd: 64 KiB).
	maxReplay = 64 << 10
	// gatherTime is how long an incomplete short body is waited for before its head is sent on. It also decides what an upstream sees of a body that turns out to be malformed: nothing,
	// when that comes within it.
	gatherTime = 10 * time.Millisecond
)

// sentBody is what was taken of the request's body so far, checked and without chunk extensions: the bytes that every attempt begins with.
type sentBody struct {
	window []byte // the whole of it, where it arrived
	kept   []byte // else: a copy
	over   bool   // there was more than maxReplay, and it has left
}

func (b *sentBody) reset() {
	if cap(b.kept) > 2*maxReplay {
		b.kept = nil
	}
	b.window, b.kept, b.over = nil, b.kept[:0], false
}

func (b *sentBody) bytes() []byte {
	if b.window != nil {
		return b.window
	}
	return b.kept
}

// beginBody checks what came of the body along with the head; when that is malformed it answers, and reports false.
func (s *stream) beginBody() bool {
	s.body.Reset(s.req.Body, http1.Request, s.srv.opts.Limits)
	if s.grpc {
		s.body.Watch(&s.messages.request)
	}
	if s.body.Done() {
		return true
	}
	window := s.in.bytes()
	fwd, drop, err := s.body.Scan(window)
	s.in.skip(fwd + drop)
	if err == nil && s.body.Done() && drop == 0 {
		s.sent.window = window[:fwd:fwd]
		return true
	}
	if err == nil {
		s.sent.kept = append(s.sent.kept, window[:fwd]...)
		err = s.absorb(&s.in)
	}
	if err != nil {
		s.malformed(err)
		return false
	}
	return true
}

// absorb takes the body out of what has arrived.
func (s *stream) absorb(b *inbox) error {
	for b.len() > 0 && !s.body.Done() {
		window := b.bytes()
		fwd, drop, err := s.body.Scan(window)
		if err != nil {
			return err
		}
		s.sent.kept = append(s.sent.kept, window[:fwd]...)
		b.skip(fwd + drop)
	}
	return nil
}

// malformed answers a request whose body breaks HTTP. Who closes before the end of it has gone, half-closed or not, as when he waits for an answer.
func (s *stream) malformed(err error) {
	var wrong *http1.ProtocolError
	if !asProtocol(err, &wrong) {
		s.lost(reasonCallerGone, FlagDownstreamTerminated)
		return
	}
	s.keep = false
	s.srv.count.bad[wrong.Index].Inc()
	s.local(wrong.Status, wrong.Reason, FlagDownstreamProtocol)
}

// gather waits a moment for the rest of a short body. It reports false when the request is over because of what came.
func (s *stream) gather() bool {
	if s.body.Done() || s.req.Expect100 || s.body.Remaining() > maxReplay {
		return true
	}
	s.c.alarm.enter(gathering, s.srv.now()+gatherTime, nil, s.c.sock, nil)
	var err error
	for err == nil && !s.body.Done() && len(s.sent.kept) <= maxReplay {
		if err = s.more.fill(s.c.sock); err == nil {
			err = s.absorb(&s.more)
		}
	}
	why := s.c.settle()
	s.look()
	switch {
	case err == nil, why == gathering:
		return true
	case why == shuttingDown:
		s.lostByUs()
	default:
		s.malformed(err)
	}
	return false
}

// endBody leaves the connection where the next request begins.
func (s *stream) endBody() {
	s.stopUpload()
	if !s.body.Done() {
		s.keep = false
	}
	if s.more.len() > 0 {
		s.in.release()
		s.in, s.more = s.more, inbox{}
		return
	}
	s.more.release()
}
