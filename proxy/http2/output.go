package http2

import (
	"sync"
	"time"
)

// maxQueued is how many bytes may wait to be written before whoever has more to send has to wait. Control frames do not wait; they are counted.
const maxQueued = 64 << 10

// output is what waits to be written. Nobody who has something to send writes himself: he could not leave when his deadline passes while the peer's end takes nothing, and what others add meanwhile
// goes with the next write, frames of many streams at once. A goroutine lives for as long as there is something to write.
type output struct {
	queue    *queue // nil: nothing waits
	flushing bool   // the goroutine lives
	began    time.Duration
	writing  bool      // since began
	control  int       // answers to the peer's control frames in the queue
	last     bool      // nothing comes behind the queue: our direction ends
	hangUp   bool      // and the other one with it
	flushed  sync.Cond // the goroutine has gone

	// Streams that wait for their turn to send.
	first, tail *Stream
}

// queue is memory for frames. Without any to send a connection has none.
type queue struct{ b []byte }

var queues = sync.Pool{New: func() any { return &queue{b: make([]byte, 0, 4<<10)} }}

// maxKept is the size of memory beyond which it is not kept.
const maxKept = 2 * maxQueued

func (q *queue) release() {
	if q.b = q.b[:0]; cap(q.b) <= maxKept {
		queues.Put(q)
	}
}

// bytes are what waits; append to them, and give them back with set.
func (o *output) bytes() []byte {
	if o.queue == nil {
		o.queue = queues.Get().(*queue)
	}
	return o.queue.b
}

func (o *output) set(b []byte) { o.queue.b = b }

func (o *output) len() int {
	if o.queue == nil {
		return 0
	}
	return len(o.queue.b)
}

// kick makes sure that what waits is written. The lock is held.
func (c *conn) kick() {
	if o := &c.out; !o.flushing && (o.len() > 0 || o.last) {
		o.flushing = true
		c.jobs.Go(c.flush)
	}
}

// flush writes until nothing waits any more.
func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	for o.len() > 0 {
		q := o.queue
		o.queue, o.control = nil, 0
		o.began, o.writing = c.now(), true
		c.arm(o.began + c.times.stall)
		c.mu.Unlock()
		_, err := c.tr.Write(q.b)
		q.release()
		c.mu.Lock()
		o.writing = false
		if err != nil {
			if c.dead == nil {
				c.die(err)
			}
			c.tr.Abort() // the reader learns of it
			break
		}
		c.next()
	}
	if o.last {
		o.last = false
		hangUp := o.hangUp
		c.mu.Unlock()
		c.endDirection(hangUp)
		c.mu.Lock()
	}
	if o.queue != nil {
		o.queue.release()
		o.queue = nil
	}
	o.flushing = false
	o.flushed.Broadcast()
}

// endDirection says that nothing more is written, and nothing read any more either if we hang up.
func (c *conn) endDirection(hangUp bool) {
	half, ok := c.tr.(interface{ CloseWrite() error })
	if hangUp || !ok || half.CloseWrite() != nil {
		_ = c.tr.Close()
	}
}

// Streams that have more to send than the connection takes at once take turns, a frame each.

// wait puts a stream behind the others. The lock is held.
func (o *output) wait(st *Stream) {
	st.send.queued, st.send.after = true, nil
	if o.tail == nil {
		o.first = st
	} else {
		o.tail.send.after = st
	}
	o.tail = st
}

// leave takes a stream out of the line. The lock is held.
func (o *output) leave(st *Stream) {
	if !st.send.queued {
		return
	}
	var before *Stream
	for at := o.first; at != st; at = at.send.after {
		before = at
	}
	if before == nil {
		o.first = st.send.after
	} else {
		before.send.after = st.send.after
	}
	if o.tail == st {
		o.tail = before
	}
	st.send.queued, st.send.after = false, nil
}

// next gives the first stream in the line its turn that can do anything with it. The lock is held.
func (c *conn) next() {
	if c.out.len() >= maxQueued {
		return
	}
	st := c.out.first
	for st != nil && st.send.needsWindow && c.allowed <= 0 {
		st = st.send.after
	}
	if st != nil {
		c.out.leave(st)
		st.send.turn = true
		st.writable.Signal()
	}
}
