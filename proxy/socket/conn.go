package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Conn is one end of a stream connection. At most one goroutine reads and one writes at a time; Interrupt, Look and Close may be called by any other.
type Conn struct {
	net net.Conn
	raw syscall.RawConn // nil: the plain way

	in  operation
	out operation
	see look
}

// operation is a read or a write in progress. Its function is made once, so that a call allocates nothing.
type operation struct {
	p        []byte
	n        int
	err      error
	lending  bool    // p is borrowed only while there is something to read
	borrowed *Buffer // of a lending read that succeeded
	try      func(fd uintptr) bool
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
}

// New takes over a connection.
func New(c net.Conn) *Conn {
	conn := &Conn{net: c}
	if sc, ok := c.(syscall.Conn); ok && rawSupported {
		if raw, err := sc.SyscallConn(); err == nil {
			conn.raw = raw
			conn.in.try = conn.tryRead
			conn.out.try = conn.tryWrite
			conn.see.try = conn.tryLook
		}
	}
	return conn
}

// Read reads what there is, and waits for the first byte. At the end of the stream it returns io.EOF.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.raw == nil {
		return c.net.Read(p)
	}
	c.in.p, c.in.lending = p, false
	return c.finishRead()
}

// ReadLent waits without a buffer, and borrows one when there is something to read: n bytes at its front, n > 0. On an error nothing is borrowed.
func (c *Conn) ReadLent() (b *Buffer, n int, err error) {
	if c.raw == nil {
		b = Borrow()
		if n, err = c.net.Read(b[:]); err != nil {
			Return(b)
			return nil, 0, err
		}
		return b, n, nil
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

func (c *Conn) finishRead() (int, error) {
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
	if len(p) == 0 {
		return 0, nil
	}
	if c.raw == nil {
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
	if c.raw == nil {
		return Quiet
	}
	if c.raw.Control(c.see.try) != nil {
		return Gone
	}
	return c.see.presence
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// Interrupt makes reads and writes fail with os.ErrDeadlineExceeded, those in progress and all later ones, until Resume.
func (c *Conn) Interrupt() { _ = c.net.SetDeadline(longAgo) } // on a closed connection there is nothing to interrupt

// InterruptRead does so for reads only.
func (c *Conn) InterruptRead() { _ = c.net.SetReadDeadline(longAgo) }

// Resume undoes Interrupt.
func (c *Conn) Resume() { _ = c.net.SetDeadline(time.Time{}) }

// Interrupted reports whether the error is that of an interrupted read or write.
func Interrupted(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// CloseWrite ends the stream in our direction.
func (c *Conn) CloseWrite() error {
	if half, ok := c.net.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.net.Close()
}

// Close closes both directions.
func (c *Conn) Close() error { return c.net.Close() }

// Abort closes so that the other side sees a broken connection and not an orderly end.
func (c *Conn) Abort() {
	if tcp, ok := c.net.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.net.Close()
}

// Pass moves up to limit bytes to another connection, in the kernel where both allow that, and waits for all of them or the end of the stream: fewer than limit without an error is
// the end. What is moved is passed on as it comes.
func (c *Conn) Pass(to *Conn, limit int64) (n int64, err error) {
	return io.Copy(to.net, &io.LimitedReader{R: c.net, N: limit})
}

// RemoteAddr is the other side's address.
func (c *Conn) RemoteAddr() net.Addr { return c.net.RemoteAddr() }

// plain takes the allocation-heavy wrapping off the errors that occur in good order.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}
