package forward

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// capacity is how many bytes wait in one direction of a connection before its writer has to.
const capacity = 256 << 10

// buffer is one direction of a connection: what is written is read later, and both sides have deadlines. Streams have none, and one that is not read holds up all that
// share its connection.
type buffer struct {
	mu      sync.Mutex
	changed sync.Cond
	data    bytes.Buffer
	after   error // what a reader gets after the data; nil: more may come
	reading error // what a reader gets at once
	writing error // what a writer gets at once
	dropped bool  // nobody will read: what is written is forgotten
	read    deadline
	write   deadline
}

func newBuffer() *buffer {
	b := &buffer{}
	b.changed.L = &b.mu
	return b
}

// Read waits for data, the end, or the read deadline.
func (b *buffer) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.reading != nil:
			return 0, b.reading
		case b.read.passed:
			return 0, os.ErrDeadlineExceeded
		case b.data.Len() > 0:
			b.changed.Broadcast()
			return b.data.Read(p)
		case b.after != nil:
			return 0, b.after
		case len(p) == 0:
			return 0, nil
		}
		b.changed.Wait()
	}
}

// Write waits until all of p is in the buffer, or for the write deadline.
func (b *buffer) Write(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.writing != nil:
			return n, b.writing
		case b.dropped:
			return n + len(p), nil
		case b.write.passed:
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		}
		if room := capacity - b.data.Len(); room > 0 {
			part := p[:min(room, len(p))]
			b.data.Write(part)
			b.changed.Broadcast()
			n, p = n+len(part), p[len(part):]
			continue
		}
		b.changed.Wait()
	}
}

// end says that nothing more is written: its reader gets the reason after what is there, its writer gets refusal. The first end counts.
func (b *buffer) end(reason, refusal error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.after == nil {
		b.after = reason
	}
	if b.writing == nil {
		b.writing = refusal
	}
	b.changed.Broadcast()
}

// stop ends both sides at once, and forgets what is there; it says how much that was.
func (b *buffer) stop(reason error) (lost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reading == nil {
		b.reading = reason
	}
	if b.writing == nil {
		b.writing = reason
	}
	lost = b.data.Len()
	b.data = bytes.Buffer{}
	b.release()
	return lost
}

// drop is the end of a reader. Writers do not notice.
func (b *buffer) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading, b.dropped = net.ErrClosed, true
	b.data = bytes.Buffer{}
	b.release()
}

// release stops the clocks and wakes everybody up.
func (b *buffer) release() {
	b.read.stop()
	b.write.stop()
	b.changed.Broadcast()
}

// deadline is a point in time after which one side of a buffer does not wait any more. It is guarded by the buffer.
type deadline struct {
	timer  *time.Timer
	passed bool
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// set moves a deadline of the buffer; the zero time is none.
func (b *buffer) set(d *deadline, to time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	d.stop()
	d.passed = !to.IsZero() && !to.After(time.Now())
	if !to.IsZero() && !d.passed {
		var timer *time.Timer
		timer = time.AfterFunc(time.Until(to), func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if d.timer == timer { // not moved meanwhile
				d.passed = true
				b.changed.Broadcast()
			}
		})
		d.timer = timer
	}
	b.changed.Broadcast()
	return nil
}

var _ io.ReadWriter = (*buffer)(nil)
