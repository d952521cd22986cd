package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is one end of a stream connection. At most one goroutine reads and one writes at a time; Interrupt, Look and Close may be called by any other. It is a [net.Conn].
type Conn struct {
	net    net.Conn
	raw    syscall.RawConn // nil: the plain way
	secure *secure         // nil: what is read and written are the bytes of net

	in    operation
	out   operation
	hasty atomic.Bool // writes give up rather than wait
	see   look
}

// operation is a read or a write in progress. Its function is made once, so that a call allocates nothing.
type operation struct {
	p        []byte
	n        int
	err      error
	lending  bool    // p is borrowed only while there is something to read
	asks     []byte  // what has to be written before it is tried
	borrowed *Buffer // of a lending read that succeeded
	try      func(fd uintptr) bool
	take     func(b *Buffer, n int) (again bool) // of Each, while it goes on
	each     func(fd uintptr) bool               // nil: Each was not called yet
}

// Presence is what a look at the other side's end shows.
type Presence uint8

// Presences.
const (
	Quiet Presence = iota // connected, and nothing to read
	Ready                 // connected, and something to read
	Gone                  // closed by the other side, or broken
)

type look struct {
	presence Presence
	try      func(fd uintptr)
	waiting  int
	count    func(fd uintptr)
}

// looker is a connection that knows by itself whether the other side is there, aborter one that knows how to break, waiter one that can wait without a buffer.
type (
	looker  interface{ Look() Presence }
	aborter interface{ Abort() }
	waiter  interface{ WaitRead() error }
)

// New takes over a connection. One that is no socket, because it is a part of another connection, may have methods of its own for what only a socket can do in general: Look() Presence and Abort() as
// Conn has them, and WaitRead() error, which returns nil when a Read would not wait. A deadline that has passed has to end its reads and writes with [os.ErrDeadlineExceeded].
func New(c net.Conn) *Conn {
	if conn, ok := c.(*Conn); ok {
		return conn
	}
	conn := &Conn{net: c}
	if sc, ok := c.(syscall.Conn); ok && rawSupported {
		if raw, err := sc.SyscallConn(); err == nil {
			conn.raw = raw
			conn.in.try = conn.tryRead
			conn.out.try = conn.tryWrite
			conn.see.try = conn.tryLook
			conn.see.count = conn.tryCount
		}
	}
	return conn
}

// Read reads what there is, and waits for the first byte. At the end of the stream it returns io.EOF.
func (c *Conn) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case c.secure != nil:
		return c.secure.read(p)
	case c.raw == nil:
		return c.readPlain(p)
	}
	c.in.p, c.in.lending = p, false
	return c.finishRead()
}

// ReadLent waits without a buffer, and borrows one when there is something to read: n bytes at its front, n > 0. On an error nothing is borrowed.
func (c *Conn) ReadLent() (b *Buffer, n int, err error) {
	switch {
	case c.secure != nil:
		return c.secure.readLent()
	case c.raw == nil:
		return c.readLentPlain()
	}
	c.in.lending = true
	n, err = c.finishRead()
	b, c.in.borrowed = c.in.borrowed, nil
	if err != nil && b != nil {
		Return(b)
		b = nil
	}
	return b, n, err
}

// Each waits without a buffer, borrows one when there is something to read, and hands it to take: n bytes at its front, n > 0. So it goes on until take reports false: then Each returns nil. Otherwise it
// returns the error of reading.
//
// Between two calls of take the kernel is not asked whether something has come meanwhile, because it tells of that by itself as long as the wait is one. What it does not tell of again is an end of the stream that came
// together with what was read before, and what lies behind an urgent byte, where a read stops: a Look shows both. Within take the connection may be written to, looked at and interrupted. It must not be read from there, nor closed, since a
// Close, from wherever it comes, returns when no read is in progress.
func (c *Conn) Each(take func(b *Buffer, n int) (again bool)) error {
	if c.secure != nil || c.raw == nil {
		for {
			b, n, err := c.ReadLent()
			if err != nil || !take(b, n) {
				return err
			}
		}
	}
	c.in.lending, c.in.take = true, take
	c.in.n, c.in.err = 0, nil
	if c.in.each == nil {
		c.in.each = c.tryEach
	}
	err := c.raw.Read(c.in.each)
	over := c.in.take == nil
	c.in.take = nil
	switch {
	case over:
		return nil
	case err != nil:
		return plain(err)
	case c.in.err != nil:
		return c.in.err
	default:
		return io.EOF
	}
}

// errHalfAsked says that the kernel's buffer is full.
var errHalfAsked = errors.New("the question was not wholly written")

// Ask writes p, which must not be empty, and then does what ReadLent does, without asking the kernel in between whether the answer is there already. It is for connections on which the other side
// says nothing unless it is asked: if it does, that is read together with the answer. The error of writing is told apart, because there may be an answer all the same. Nobody else may write meanwhile.
func (c *Conn) Ask(p []byte) (b *Buffer, n int, wrote, err error) {
	if c.secure == nil && c.raw != nil {
		c.in.asks, c.out.n, c.out.err = p, 0, nil
		b, n, err = c.ReadLent()
		c.in.asks = nil
		if err != errHalfAsked {
			return b, n, c.out.err, err
		}
		p = p[c.out.n:]
	}
	_, wrote = c.Write(p)
	b, n, err = c.ReadLent()
	return b, n, wrote, err
}

// readPlain reads from what is no socket. An error that comes with bytes comes again without them.
func (c *Conn) readPlain(p []byte) (int, error) {
	n, err := c.net.Read(p)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

func (c *Conn) readLentPlain() (*Buffer, int, error) {
	if w, ok := c.net.(waiter); ok {
		if err := w.WaitRead(); err != nil {
			return nil, 0, err
		}
	}
	b := Borrow()
	n, err := c.readPlain(b[:])
	if err != nil {
		Return(b)
		return nil, 0, err
	}
	return b, n, nil
}

func (c *Conn) finishRead() (int, error) {
	if c.in.take != nil {
		panic("socket: a read within Each, which would wait for itself")
	}
	c.in.n, c.in.err = 0, nil
	err := c.raw.Read(c.in.try)
	c.in.p = nil
	switch {
	case err != nil:
		return 0, plain(err)
	case c.in.err != nil:
		return 0, c.in.err
	case c.in.n == 0:
		return 0, io.EOF
	default:
		return c.in.n, nil
	}
}

// Write writes all of p, or returns an error and how much was written.
func (c *Conn) Write(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case c.secure != nil:
		return c.secure.write(p)
	case c.raw == nil:
		return c.net.Write(p)
	}
	c.out.p, c.out.n, c.out.err = p, 0, nil
	err := c.raw.Write(c.out.try)
	c.out.p = nil
	switch {
	case err != nil:
		return c.out.n, plain(err)
	default:
		return c.out.n, c.out.err
	}
}

// Look tells, without waiting and without taking anything, whether the other side is still there. On platforms where that is not possible it says Quiet. One goroutine
// at a time may look.
func (c *Conn) Look() Presence {
	if c.secure != nil {
		return c.secure.look()
	}
	if c.raw == nil {
		if l, ok := c.net.(looker); ok {
			return l.Look()
		}
		return Quiet
	}
	if c.raw.Control(c.see.try) != nil {
		return Gone
	}
	return c.see.presence
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// Interrupt makes reads and writes fail with os.ErrDeadlineExceeded, those in progress and all later ones, until Resume. With TLS, a write that was in progress has left a part of a record behind, and
// nothing can be written after it any more; reads, and writes that were only begun while interrupted, are as good as never tried.
func (c *Conn) Interrupt() {
	if c.secure != nil {
		c.secure.interrupted.Store(true)
	}
	_ = c.net.SetDeadline(longAgo) // on a closed connection there is nothing to interrupt
}

// InterruptRead does so for reads only.
func (c *Conn) InterruptRead() { _ = c.net.SetReadDeadline(longAgo) }

// Resume undoes Interrupt.
func (c *Conn) Resume() {
	_ = c.net.SetDeadline(time.Time{})
	if c.secure != nil {
		c.secure.interrupted.Store(false)
	}
}

// Interrupted reports whether the error is that of an interrupted read or write.
func Interrupted(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// CloseWrite ends the stream in our direction.
func (c *Conn) CloseWrite() error {
	if c.secure != nil {
		return c.secure.closeWrite()
	}
	if half, ok := c.net.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.net.Close()
}

// Close closes both directions.
func (c *Conn) Close() error {
	if c.secure != nil {
		return c.secure.close()
	}
	return c.net.Close()
}

// Abort closes so that the other side sees a broken connection and not an orderly end.
func (c *Conn) Abort() {
	switch below := c.net.(type) {
	case aborter: // a socket under TLS is one
		below.Abort()
		return
	case *net.TCPConn:
		_ = below.SetLinger(0)
	}
	_ = c.net.Close()
}

// Waiting is how many bytes have arrived that can be passed on in the kernel. Where that is not known, and with TLS, there are none.
func (c *Conn) Waiting() int {
	if c.secure != nil || c.raw == nil || c.raw.Control(c.see.count) != nil {
		return 0
	}
	return c.see.waiting
}

// Pass moves limit bytes to another connection, in the kernel where both allow that, and waits for all of them or the end of the stream: fewer than limit without an error is
// the end. What is moved is passed on as it comes.
func (c *Conn) Pass(to *Conn, limit int) (n int, err error) {
	if limit == 0 {
		return 0, nil
	}
	if c.secure != nil || to.secure != nil {
		return c.copy(to, limit)
	}
	moved, err := io.Copy(to.net, &io.LimitedReader{R: c.net, N: int64(limit)})
	return int(moved), err
}

// copy is Pass by hand.
func (c *Conn) copy(to *Conn, limit int) (n int, err error) {
	b := Borrow()
	defer Return(b)
	for n < limit {
		read, err := c.Read(b[:min(limit-n, BufferSize)])
		if err != nil {
			if errors.Is(err, io.EOF) {
				return n, nil
			}
			return n, err
		}
		written, err := to.Write(b[:read])
		n += written
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// RemoteAddr is the other side's address.
func (c *Conn) RemoteAddr() net.Addr { return c.net.RemoteAddr() }

// LocalAddr is our own address.
func (c *Conn) LocalAddr() net.Addr { return c.net.LocalAddr() }

// SetDeadline is for users of a net.Conn; the data path calls Interrupt. With TLS nothing can be written any more after a write that took too long.
func (c *Conn) SetDeadline(t time.Time) error { return c.net.SetDeadline(t) }

// SetReadDeadline is SetDeadline for reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.net.SetReadDeadline(t) }

// SetWriteDeadline is SetDeadline for writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.net.SetWriteDeadline(t) }

// plain takes the allocation-heavy wrapping off the errors that occur in good order.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}
