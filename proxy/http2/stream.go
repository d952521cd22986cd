package http2

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/socket"
)

// Stream is one exchange of HTTP/2, seen as a connection that carries one exchange of HTTP/1.1. It is a net.Conn: at the server's side the request is read from it and the answer written to it, at the
// client's the other way round. Reading ends with io.EOF when the message has ended.
//
// At most one goroutine reads and one writes at a time; everything else may be called by any. A deadline in the past ends what waits, with os.ErrDeadlineExceeded, until it is cleared. A write that was
// interrupted in its midst has sent nobody knows how much, so that nothing can be written behind it.
type Stream struct {
	c          *conn
	id         uint32 // 0 at the client's side until the head of the request was sent
	method     http1.Method
	upgrade    bool      // the request is an extended CONNECT
	acceptance string    // of its key, which a client of HTTP/1.1 waits for
	recv       inbound   // see read.go
	send       outbound  // see write.go
	readable   sync.Cond // something arrived, or nothing will
	writable   sync.Cond // more may be sent, or nothing may
	scratch    *scratch  // nil: let go of
	writing    bool      // a Write uses the scratch, without the lock perhaps
	closed     bool      // by us
	placed     bool      // it counts as one of the streams that there may be at once
	timers     [2]*time.Timer
}

// scratch is the memory that a stream needs while it lives. It is used again for others.
type scratch struct {
	text    []byte     // what is read before payload: heads, the framing of chunks, trailers
	partial []byte     // of a head that is written
	head    http1.Head // that is written
	body    http1.BodyScanner
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

var _ net.Conn = (*Stream)(nil)

// newStream makes a stream. The lock is held.
func (c *conn) newStream(id uint32) *Stream {
	st := &Stream{c: c, id: id, scratch: scratches.Get().(*scratch)}
	st.readable.L, st.writable.L = &c.mu, &c.mu
	st.recv.window = c.newWindow
	st.recv.left = -1
	st.send.window = c.peer.window
	return st
}

// release gives the scratch back once nobody uses it. The lock is held.
func (st *Stream) release() {
	s := st.scratch
	if s == nil || !st.closed || st.writing {
		return
	}
	st.scratch = nil
	if cap(s.text)+cap(s.partial) > maxKept {
		return
	}
	s.head.Reset()
	s.text, s.partial = s.text[:0], s.partial[:0]
	scratches.Put(s)
}

// fail ends the stream in both directions. What has wholly arrived can still be read. The lock is held.
func (st *Stream) fail(why error) {
	if st.recv.err == nil && !st.recv.ended {
		st.recv.err = why
		st.c.credit(st.recv.payload.reset())
	}
	if st.send.err == nil && !st.send.ended {
		st.send.err = why
	}
	st.readable.Broadcast()
	st.writable.Broadcast()
}

// whole forgets a stream that has ended well in both directions. The lock is held.
func (st *Stream) whole() {
	if st.recv.ended && st.send.ended {
		st.c.moved++
		st.c.meter.ended()
		st.c.forget(st, false)
		st.c.side.over(st)
	}
}

// CloseWrite says that no more is written: a message or a tunnel that ends with its connection ends here.
func (st *Stream) CloseWrite() error {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	return st.closeWrite()
}

// closeWrite ends our direction if the message allows that. The lock is held.
func (st *Stream) closeWrite() error {
	switch {
	case st.send.ended:
		return nil
	case st.send.err != nil:
		return st.send.err
	case st.closed:
		return net.ErrClosed
	case st.writing || st.send.phase != atBody || st.scratch.body.EOF() != nil:
		return errIncomplete
	}
	st.sendData(nil, true)
	st.c.kick()
	return nil
}

var errIncomplete = errors.New("the message is incomplete")

// Close ends the exchange. A message that ends with its connection ends with it; one that is not whole is reset, so that it does not look whole. When the whole answer came before the whole request, the
// rest of the request is refused with NO_ERROR (RFC 9113, 8.1).
func (st *Stream) Close() error {
	code := http2.ErrCodeInternal
	if st.c.client {
		code = http2.ErrCodeCancel
	}
	return st.end(code, true)
}

// Abort ends the exchange so that it does not look whole.
func (st *Stream) Abort() {
	code := http2.ErrCodeInternal
	switch {
	case st.method == http1.CONNECT:
		code = http2.ErrCodeConnect // RFC 9113, 8.5
	case st.c.client:
		code = http2.ErrCodeCancel
	}
	_ = st.end(code, false)
}

// Refuse ends an exchange of a server of which nothing was processed: the client may send the request again, elsewhere.
func (st *Stream) Refuse() { _ = st.end(http2.ErrCodeRefusedStream, false) }

func (st *Stream) end(code http2.ErrCode, orderly bool) error {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.closed {
		return net.ErrClosed
	}
	if orderly {
		_ = st.closeWrite()
	}
	st.closed = true
	if st.send.ended && !c.client && orderly {
		code = http2.ErrCodeNo
	}
	c.credit(st.recv.payload.reset())
	st.fail(net.ErrClosed)
	st.stopTimers()
	c.reset(st, code)
	st.release()
	return nil
}

// Look tells whether the peer is still interested, without taking anything. A caller who has said all that he has to say is; an upstream that has answered is not.
func (st *Stream) Look() socket.Presence {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	switch {
	case st.closed || st.recv.err != nil || st.send.err != nil && !st.c.client:
		return socket.Gone
	case st.recv.ready(st.scratch):
		return socket.Ready
	case st.recv.ended && st.c.client:
		return socket.Gone
	default:
		return socket.Quiet
	}
}

// SetDeadline sets both deadlines; the zero time means none.
func (st *Stream) SetDeadline(t time.Time) error {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.setDeadline(t, 0, &st.recv.stopped, &st.readable)
	st.setDeadline(t, 1, &st.send.stopped, &st.writable)
	return nil
}

// SetReadDeadline sets the deadline of reads.
func (st *Stream) SetReadDeadline(t time.Time) error {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.setDeadline(t, 0, &st.recv.stopped, &st.readable)
	return nil
}

// SetWriteDeadline sets the deadline of writes.
func (st *Stream) SetWriteDeadline(t time.Time) error {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.setDeadline(t, 1, &st.send.stopped, &st.writable)
	return nil
}

// setDeadline sets one of the two deadlines. The data path only knows the past and none, which need no timer.
func (st *Stream) setDeadline(t time.Time, which int, stopped *bool, wake *sync.Cond) {
	if timer := st.timers[which]; timer != nil {
		timer.Stop()
		st.timers[which] = nil
	}
	*stopped = false
	if t.IsZero() || st.closed {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		*stopped = true
		wake.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		st.c.mu.Lock()
		defer st.c.mu.Unlock()
		if st.timers[which] == timer {
			*stopped = true
			wake.Broadcast()
		}
	})
	st.timers[which] = timer
}

func (st *Stream) stopTimers() {
	for i, t := range st.timers {
		if t != nil {
			t.Stop()
			st.timers[i] = nil
		}
	}
}

// LocalAddr is the connection's.
func (st *Stream) LocalAddr() net.Addr {
	if c, ok := st.c.tr.(interface{ LocalAddr() net.Addr }); ok {
		return c.LocalAddr()
	}
	return noAddr{}
}

// RemoteAddr is the connection's.
func (st *Stream) RemoteAddr() net.Addr {
	if c, ok := st.c.tr.(interface{ RemoteAddr() net.Addr }); ok {
		return c.RemoteAddr()
	}
	return noAddr{}
}

// noAddr is the address of a transport that has none.
type noAddr struct{}

func (noAddr) Network() string { return "http2" }
func (noAddr) String() string  { return "http2" }

// interrupted is what reads and writes return that a deadline has ended.
var interrupted = os.ErrDeadlineExceeded
