package http2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/socket"
)

// Stream is one exchange of HTTP/2, seen as a connection that carries one exchange of HTTP/1.1. It is a net.Conn: at the server's side the request is read from it and the answer written to it, at the
// client's the other way round. At most one goroutine reads and one writes at a time; all else may be called by any.
//
// A deadline in the past interrupts what waits, with os.ErrDeadlineExceeded, until it is cleared.
type Stream struct {
	m  *mux
	id uint32 // 0 at the client's side until the head of the request was sent
	rd sync.Cond
	wr sync.Cond

	// What arrives.
	in      []byte // HTTP/1.1, to be read
	off     int
	kind    bodyKind
	expect  int64 // payload bytes that must still come, by Content-Length; below 0: any number
	began   bool  // the head is in
	recvEnd bool  // all has arrived
	recvErr error // or will not
	unread  int   // payload bytes in in of which the peer was not told that they were taken
	taken   int   // payload bytes taken of which the peer was not told
	granted int64 // what the peer may still send

	// What is sent.
	phase    phase
	head     http1.Head
	scan     http1.BodyScanner
	partial  []byte // of a head
	exchange http1.Exchange
	method   http1.Method // of the request
	window   int64        // what the peer lets us send
	sentEnd  bool
	sendErr  error

	stopRead, stopWrite bool
	timers              [2]*time.Timer
	closed              bool
	opened              time.Duration
	done                func() // the mux forgets it
}

// phase is where the message that is written has got to.
type phase uint8

const (
	atHead phase = iota
	atBody
	atEnd
)

var _ net.Conn = (*Stream)(nil)

func (m *mux) newStream(id uint32) *Stream {
	st := &Stream{m: m, id: id, window: m.peer.window, granted: streamWindow, opened: m.clock()}
	st.rd.L, st.wr.L = &m.mu, &m.mu
	return st
}

// Read reads what has arrived, as HTTP/1.1.
func (st *Stream) Read(p []byte) (int, error) {
	m := st.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		switch {
		case st.stopRead:
			return 0, os.ErrDeadlineExceeded
		case st.off < len(st.in):
			n := copy(p, st.in[st.off:])
			st.off += n
			st.credit(n)
			return n, nil
		case st.recvErr != nil:
			return 0, st.recvErr
		case st.recvEnd:
			return 0, io.EOF
		case st.closed:
			return 0, net.ErrClosed
		}
		st.rd.Wait()
	}
}

// credit tells the peer that the reader took n bytes. Framing is more than payload, so this never tells of too much; when all was read it tells of the rest.
func (st *Stream) credit(n int) {
	if st.off == len(st.in) {
		st.in, st.off = st.in[:0], 0
		n = st.unread
	}
	n = min(n, st.unread)
	st.unread -= n
	st.m.grant(st, n)
}

// receive takes payload that arrived. The lock is held.
func (st *Stream) receive(data []byte, ended bool) error {
	if st.expect >= 0 {
		if st.expect -= int64(len(data)); st.expect < 0 || ended && st.expect > 0 {
			st.m.credit(len(data))
			return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol, Cause: errLength}
		}
	}
	switch st.kind {
	case rawBody, tunnelBody:
		st.in = append(st.in, data...)
	case chunkedBody:
		if len(data) > 0 {
			st.in = strconv.AppendInt(st.in, int64(len(data)), 16)
			st.in = append(st.in, "\r\n"...)
			st.in = append(st.in, data...)
			st.in = append(st.in, "\r\n"...)
		}
		if ended {
			st.in = append(st.in, "0\r\n\r\n"...)
		}
	}
	st.unread += len(data)
	st.recvEnd = st.recvEnd || ended
	if st.m.client {
		st.settle()
	}
	st.rd.Signal()
	return nil
}

var errLength = errors.New("the body is not as long as announced")

// receiveTrailers takes the fields behind a body, which they end. The lock is held.
func (st *Stream) receiveTrailers(f *fields) error {
	malformed := http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	switch {
	case st.expect > 0:
		return malformed
	case st.kind == chunkedBody:
		b, ok := f.appendTrailers(append(st.in, "0\r\n"...))
		if !ok {
			return malformed
		}
		st.in = append(b, "\r\n"...)
	case f.malformed:
		return malformed
	}
	st.recvEnd = true
	st.rd.Signal()
	return nil
}

// fail ends the stream in both directions. The lock is held.
func (st *Stream) fail(why error) {
	if st.recvErr == nil && !st.recvEnd {
		st.recvErr = why
	}
	if st.sendErr == nil && !st.sentEnd {
		st.sendErr = why
	}
	st.rd.Broadcast()
	st.wr.Broadcast()
}

// Write takes HTTP/1.1, and sends what is whole of it.
func (st *Stream) Write(p []byte) (int, error) {
	m := st.m
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.flush()
	total := len(p)
	for len(p) > 0 || st.phase == atHead && len(st.partial) > 0 {
		var n int
		var err error
		switch st.phase {
		case atHead:
			n, err = st.writeHead(p)
		case atBody:
			n, err = st.writeBody(p)
		default:
			return total - len(p), fmt.Errorf("%d bytes behind the end of the message", len(p))
		}
		if err != nil {
			return total - len(p), err
		}
		if p = p[n:]; st.phase == atHead && len(p) == 0 {
			break
		}
	}
	return total, nil
}

// writeHead takes bytes of a head, and sends it when it is whole.
func (st *Stream) writeHead(p []byte) (n int, err error) {
	had := len(st.partial)
	whole := p
	if had > 0 {
		st.partial = append(st.partial, p...)
		whole = st.partial
	}
	if st.m.client {
		n, err = http1.ParseRequest(whole, &st.head, st.m.lim)
	} else {
		n, err = http1.ParseResponse(whole, &st.head, st.exchange, st.m.lim)
	}
	switch {
	case err == http1.ErrNeedMore:
		if had == 0 {
			st.partial = append(st.partial, p...)
		}
		return len(p), nil
	case err != nil:
		return 0, err
	}
	if err := st.sendHead(); err != nil {
		return 0, err
	}
	st.partial = nil
	return n - had, nil
}

// sendHead sends the head that was parsed.
func (st *Stream) sendHead() error {
	h, m := &st.head, st.m
	interim := !m.client && h.Status < 200
	side := http1.Response
	if m.client {
		side = http1.Request
	}
	body := h.Body
	switch {
	case h.Method == http1.CONNECT && m.client, h.Status == 101:
		return errors.New("HTTP/2 has no such thing")
	case interim:
		body = http1.Body{}
	}
	st.scan.Reset(body, side, m.lim)
	if err := st.mayWrite(); err != nil {
		return err
	}
	if m.client {
		if err := st.number(); err != nil {
			return err
		}
		st.method = h.Method
		m.enc.request(h, "http")
	} else {
		m.enc.response(h)
	}
	ended := !interim && st.scan.Done()
	st.headers(ended)
	if interim {
		h.Reset()
		return nil
	}
	st.phase = atBody
	if ended {
		st.end()
	}
	return nil
}

// headers writes the block that was encoded, in frames that the peer takes.
func (st *Stream) headers(ended bool) {
	m := st.m
	block := m.enc.buf.Bytes()
	first := block[:min(len(block), m.peer.maxFrame)]
	block = block[len(first):]
	_ = m.out.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: first, EndStream: ended, EndHeaders: len(block) == 0})
	for len(block) > 0 {
		next := block[:min(len(block), m.peer.maxFrame)]
		block = block[len(next):]
		_ = m.out.WriteContinuation(st.id, len(block) == 0, next)
	}
}

// end notes that all was sent.
func (st *Stream) end() {
	st.phase, st.sentEnd = atEnd, true
	if st.m.client {
		st.settle()
	}
}

// writeBody takes bytes of a body, and sends its payload.
func (st *Stream) writeBody(p []byte) (n int, err error) {
	var payload []byte // that waits for us to know whether it is the last
	for n < len(p) && !st.scan.Done() {
		skip, size, err := st.scan.Payload(p[n:])
		if err != nil {
			return n, err
		}
		if size > 0 {
			if err := st.data(payload, false); err != nil {
				return n, err
			}
			payload = p[n+skip : n+skip+size]
		}
		n += skip + size
	}
	trailers := st.scan.Trailers()
	if err := st.data(payload, st.scan.Done() && trailers == nil); err != nil {
		return n, err
	}
	if st.scan.Done() && trailers != nil {
		if err := st.mayWrite(); err != nil {
			return n, err
		}
		st.m.enc.trailers(trailers)
		st.headers(true)
		st.end()
	}
	return n, nil
}

// data sends payload as the windows allow, and ends the stream if it is the last. The lock is held, and given up while it waits.
func (st *Stream) data(p []byte, last bool) error {
	m := st.m
	for len(p) > 0 || last && !st.sentEnd {
		if err := st.mayWrite(); err != nil {
			return err
		}
		n := int(min(int64(len(p)), int64(m.peer.maxFrame), st.window, m.window))
		if n <= 0 && len(p) > 0 {
			m.flush()
			if st.window <= 0 || m.window <= 0 {
				st.wr.Wait()
			}
			continue
		}
		ended := last && n == len(p)
		_ = m.out.WriteData(st.id, ended, p[:n])
		st.window -= int64(n)
		m.window -= int64(n)
		p = p[n:]
		if ended {
			st.end()
		}
	}
	return nil
}

// mayWrite waits until the backlog is small, and reports why nothing can be written any more.
func (st *Stream) mayWrite() error {
	m := st.m
	for {
		switch {
		case st.stopWrite:
			return os.ErrDeadlineExceeded
		case st.sendErr != nil:
			return st.sendErr
		case m.dead != nil:
			return m.dead
		case st.closed || st.sentEnd:
			return net.ErrClosed
		case len(m.buf) < maxBacklog:
			return nil
		case !m.flushing:
			m.flush()
		default:
			m.room.Wait()
		}
	}
}

// CloseWrite says that no more is written: a message that ends with its connection ends here.
func (st *Stream) CloseWrite() error {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	st.closeWrite()
	return nil
}

func (st *Stream) closeWrite() {
	if st.sentEnd || st.sendErr != nil || st.closed || st.phase != atBody || st.scan.EOF() != nil || st.m.dead != nil {
		return
	}
	_ = st.m.out.WriteData(st.id, true, nil)
	st.end()
	st.m.flush()
}

// Close ends the exchange. What is not whole is reset.
func (st *Stream) Close() error {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	st.closeWrite()
	st.abandon(st.m.defaultCode())
	return nil
}

// Abort ends the exchange so that it does not look whole.
func (st *Stream) Abort() {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	st.abandon(st.m.defaultCode())
}

// defaultCode is that of a stream that was given up: a client does not want the answer any more, a server cannot give one.
func (m *mux) defaultCode() http2.ErrCode {
	if m.client {
		return http2.ErrCodeCancel
	}
	return http2.ErrCodeInternal
}

// abandon lets go of the stream. The lock is held.
func (st *Stream) abandon(code http2.ErrCode) {
	if st.closed {
		return
	}
	st.closed = true
	switch {
	case st.id == 0, st.recvErr != nil && st.sendErr != nil, st.m.dead != nil:
	case !st.sentEnd:
		st.m.reset(st.id, code)
	case !st.recvEnd && st.recvErr == nil:
		if !st.m.client {
			code = http2.ErrCodeNo // RFC 9113, 8.1: the answer is whole, the rest of the request is not needed
		}
		st.m.reset(st.id, code)
	}
	st.m.credit(st.unread)
	st.unread = 0
	st.fail(net.ErrClosed)
	st.forget()
}

func (st *Stream) forget() {
	if st.done != nil {
		st.done()
		st.done = nil
	}
}

// Look tells whether the peer is still interested, without taking anything. A peer that has said all is.
func (st *Stream) Look() socket.Presence {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	switch {
	case st.recvErr != nil, st.sendErr != nil:
		return socket.Gone
	case st.off < len(st.in):
		return socket.Ready
	default:
		return socket.Quiet
	}
}

// SetDeadline interrupts reads and writes at a time; the zero time lets them go on.
func (st *Stream) SetDeadline(t time.Time) error {
	return errors.Join(st.SetReadDeadline(t), st.SetWriteDeadline(t))
}

// SetReadDeadline is SetDeadline for reads.
func (st *Stream) SetReadDeadline(t time.Time) error { return st.deadline(t, 0, &st.stopRead, &st.rd) }

// SetWriteDeadline is SetDeadline for writes.
func (st *Stream) SetWriteDeadline(t time.Time) error {
	return st.deadline(t, 1, &st.stopWrite, &st.wr)
}

func (st *Stream) deadline(t time.Time, which int, stop *bool, wake *sync.Cond) error {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	if timer := st.timers[which]; timer != nil {
		timer.Stop()
		st.timers[which] = nil
	}
	*stop = false
	if t.IsZero() {
		return nil
	}
	interrupt := func() {
		*stop = true
		wake.Broadcast()
		st.m.room.Broadcast()
	}
	if wait := time.Until(t); wait > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			st.m.mu.Lock()
			defer st.m.mu.Unlock()
			if st.timers[which] == timer {
				interrupt()
			}
		})
		st.timers[which] = timer
		return nil
	}
	interrupt()
	return nil
}

// LocalAddr is the connection's.
func (st *Stream) LocalAddr() net.Addr { return st.m.addr(false) }

// RemoteAddr is the connection's.
func (st *Stream) RemoteAddr() net.Addr { return st.m.addr(true) }

func (m *mux) addr(remote bool) net.Addr {
	if c, ok := m.tr.(interface {
		LocalAddr() net.Addr
		RemoteAddr() net.Addr
	}); ok {
		if remote {
			return c.RemoteAddr()
		}
		return c.LocalAddr()
	}
	return &net.TCPAddr{}
}
