package forward

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	chunk    = 32 << 10              // bytes of one frame
	maxText  = 4 << 10               // bytes of what the far side says went wrong
	lastWord = time.Second           // how long the end of a connection waits for its reason
	settle   = 50 * time.Millisecond // how long an end without a reason may turn out to be the end of the link, whose streams can go first
	linger   = 3 * time.Second       // how long a closed connection may take to send what was written; runtimes take a second to notice an end
)

// conn is a forwarded connection.
type conn struct {
	far     address
	in, out *buffer
	once    sync.Once
	closed  chan struct{} // by its user
	sending atomic.Bool   // something is on its way into the stream
}

var _ net.Conn = (*conn)(nil)

func newConn(far address) *conn {
	return &conn{far: far, in: newBuffer(), out: newBuffer(), closed: make(chan struct{})}
}

func (c *conn) Read(p []byte) (int, error)         { return c.in.Read(p) }
func (c *conn) Write(p []byte) (int, error)        { return c.out.Write(p) }
func (c *conn) LocalAddr() net.Addr                { return address{} }
func (c *conn) RemoteAddr() net.Addr               { return c.far }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.in.set(&c.in.read, t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.out.set(&c.out.write, t) }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite sends what was written, and then the end.
func (c *conn) CloseWrite() error {
	c.out.end(io.EOF, net.ErrClosed)
	return nil
}

// Close returns at once; what was written is still sent, for a while.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.in.drop()
		c.out.end(io.EOF, net.ErrClosed)
	})
	return nil
}

// run carries the connection over its streams until it is over, and returns when nothing of it is left. The link is suspect, which is told before its user sees the end, when the far side
// ended before it had got everything, did not end, or failed.
func (c *conn) run(l *link, p pair, suspect func()) {
	var helpers sync.WaitGroup
	told, sent, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var text string
	helpers.Go(func() {
		defer close(told)
		said, _ := io.ReadAll(io.LimitReader(p.failure, maxText))
		text = strings.TrimSpace(string(said))
		_, _ = io.Copy(io.Discard, p.failure) // what is not read would hold up others
	})
	helpers.Go(func() {
		defer close(sent)
		c.send(p)
	})
	helpers.Go(func() {
		if c.outlast(l, p, sent, over) {
			suspect()
		}
	})
	_, _ = io.Copy(c.in, p.data) // the buffer takes everything until its reader is gone, and then forgets it
	reason := c.reason(l, told, func() string { return text })
	if c.out.stop(refusal(reason)) > 0 || c.sending.Load() || errors.Is(reason, errFailed) {
		suspect()
	}
	c.in.end(reason, reason)
	close(over)
	p.reset(l.conn)
	helpers.Wait()
}

// errFailed says that the far side could not carry the connection, for another reason than that nobody listens: a pod of that name may be another one by now, and the link leads
// to the one that was.
var errFailed = errors.New("not forwarded")

// send sends what is written, and the end.
func (c *conn) send(p pair) {
	buffer := make([]byte, chunk)
	for {
		n, err := c.out.Read(buffer)
		if n > 0 {
			c.sending.Store(true)
			_, err := p.data.Write(buffer[:n])
			c.sending.Store(false)
			if err != nil {
				_ = p.data.Reset() // which ends the reading side, where the reason is found
				return
			}
		}
		if errors.Is(err, io.EOF) {
			_ = p.data.Close()
		}
		if err != nil {
			return
		}
	}
}

// outlast lets a closed connection finish, but not for ever; it reports whether it was too long. One that cannot even send holds up all that share its link, which is then of no use.
func (c *conn) outlast(l *link, p pair, sent, over <-chan struct{}) bool {
	select {
	case <-c.closed:
	case <-over:
		return false
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-over:
		return false
	case <-timer.C:
	}
	select {
	case <-sent:
	default:
		l.cut()
	}
	_ = p.data.Reset()
	return true
}

// reason is why the far side sends nothing more.
func (c *conn) reason(l *link, told <-chan struct{}, text func() string) error {
	if l.broken() {
		return l.broke(c.far)
	}
	timer := time.NewTimer(lastWord)
	defer timer.Stop()
	select {
	case <-told:
	case <-c.closed:
		return net.ErrClosed
	case <-timer.C:
		return io.EOF // a runtime that does not say
	}
	switch said := text(); {
	case said == "":
		timer.Reset(settle)
		select {
		case <-l.closed():
			return l.broke(c.far)
		case <-timer.C:
			return io.EOF
		}
	case strings.Contains(said, "connection refused"):
		return fmt.Errorf("%s: nobody listens there: %w", c.far, syscall.ECONNREFUSED)
	default:
		return fmt.Errorf("%s: %w: %s", c.far, errFailed, said)
	}
}

// refusal is what a writer gets after the far side has ended.
func refusal(reason error) error {
	if errors.Is(reason, io.EOF) {
		return syscall.EPIPE
	}
	return reason
}
