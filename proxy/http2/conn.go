package http2

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/proxy/http1"
)

// Transport is the connection itself. A [socket.Conn] is one.
type Transport interface {
	io.ReadWriteCloser
	// Abort closes so that the other side sees a broken connection. Like Close it ends reads and writes in progress.
	Abort()
}

// Sizes of RFC 9113, in bytes.
const (
	initialWindow = 65_535 // of streams and connections, until somebody says otherwise (6.9.2)
	maxWindow     = 1<<31 - 1
	maxFrame      = 16 << 10 // the least that everybody must take (4.2), and the most that we take and send
	maxStreamID   = 1<<31 - 1
)

// tableSize bounds HPACK's dynamic tables, both ways: the size that everybody begins with.
const tableSize = 4 << 10

// conn is what both sides of a connection have in common: frames, windows and streams.
type conn struct {
	tr     Transport
	side   side
	client bool
	lim    *http1.Limits // of what the peer sends
	ours   *http1.Limits // of what the core writes, which has judged it, and adds fields of its own
	tell   func(reason string)
	now    func() time.Duration
	times  times
	sizes  sizes

	// The reader's alone.
	in      input
	framer  *http2.Framer
	dec     *hpack.Decoder
	block   block
	settled bool // the peer's first SETTINGS came

	jobs sync.WaitGroup // writers, and streams that are served

	mu      sync.Mutex
	streams map[uint32]*Stream
	past    past
	dead    error // why nothing goes any more
	meter   meter
	watch   watch

	// What arrives.
	window    int   // what the peer may still send
	taken     int   // what was read of that, and the peer was not told
	newWindow int64 // of a stream that begins
	acked     bool  // our SETTINGS

	// What is sent.
	out      output
	enc      encoder
	allowed  int64  // what the peer lets us send
	moved    uint64 // frames of payload that were sent, and streams that ended well
	peer     peerSettings
	goAway   bool // the peer takes no more streams, or wants no more
	draining bool // we take no more streams, once those on their way are there
}

// side is what a server and a client do differently.
type side interface {
	// blockCame takes the header block that was decoded.
	blockCame(id uint32, ended bool) error
	// idle reports whether a stream was never opened. The lock is held.
	idle(id uint32) bool
	// over notes that a stream has given its place free. The lock is held.
	over(st *Stream)
	// resetCame judges a reset by the peer. The lock is held.
	resetCame(st *Stream) error
	// due does what is due, and says when there is more to do (0: never). The lock is held.
	due(now time.Duration) time.Duration
}

// sizes are windows, in bytes.
type sizes struct{ stream, conn int }

// peerSettings are what the peer allows.
type peerSettings struct {
	maxFrame   int
	window     int64 // of a stream that begins
	maxStreams uint32
	connects   bool // extended CONNECT (RFC 8441)
}

var (
	errClosed = errors.New("the HTTP/2 connection is closed")
	// ErrRefused says that the peer did not process anything of the request: it can be sent elsewhere (RFC 9113, 8.7).
	ErrRefused = errors.New("the HTTP/2 stream was refused")
	// ErrReset is what every [ResetError] is.
	ErrReset = errors.New("the HTTP/2 stream was reset")
)

// ResetError says that the peer reset the stream, or that we did because of him.
type ResetError struct {
	Code http2.ErrCode
	Ours bool // we did, because what he sent breaks RFC 9113, 8, or our limits
}

func (e *ResetError) Error() string { return "the HTTP/2 stream was reset: " + e.Code.String() }

// Is makes it an ErrReset.
func (e *ResetError) Is(target error) bool { return target == ErrReset }

func (c *conn) init(tr Transport, s side, o *common) {
	o.withDefaults()
	c.tr, c.side, c.lim, c.tell, c.now, c.times, c.sizes = tr, s, o.limits, o.tell, o.now, o.times, o.sizes
	c.ours = wider(o.limits)
	c.in.from, c.in.late = tr, c.late
	c.framer = http2.NewFramer(nil, &c.in)
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.dec = hpack.NewDecoder(tableSize, c.block.emit)
	c.block.lim, c.block.dec = o.limits, c.dec
	c.streams = map[uint32]*Stream{}
	c.window, c.newWindow, c.allowed = initialWindow, initialWindow, initialWindow
	c.peer = peerSettings{maxFrame: maxFrame, window: initialWindow, maxStreams: defaultMaxStreams}
	c.enc.init()
	c.out.flushed.L = &c.mu
	c.watch.lastFrame = max(c.now(), 1)
}

// wider gives limits that bound what is within others and has been added to.
func wider(l *http1.Limits) *http1.Limits {
	w := *l
	w.HeaderBytes, w.Headers, w.TargetBytes = 4*w.HeaderBytes, 4*w.Headers, 4*w.TargetBytes
	return &w
}

// greet sends our SETTINGS, and widens the connection's window. The lock is held.
func (c *conn) greet(all ...http2.Setting) {
	c.watch.greeted = max(c.now(), 1)
	c.arm(c.watch.greeted + c.times.settings)
	if c.times.ping > 0 {
		c.arm(c.watch.lastFrame + c.times.ping)
	}
	b := appendSettings(c.out.bytes(), append(all,
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.sizes.stream)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.lim.HeaderBytes)})...)
	if more := c.sizes.conn - initialWindow; more > 0 {
		b = appendWindowUpdate(b, 0, more)
		c.window += more
	}
	c.out.set(b)
}

// carry reads until the connection ends, and returns when nothing of it is left.
func (c *conn) carry(begin func() error) {
	err := begin()
	if err == nil {
		err = c.readFrames()
	}
	c.mu.Lock()
	c.leave(err)
	c.mu.Unlock()
	c.swallow()
	c.mu.Lock()
	for c.out.flushing {
		c.out.flushed.Wait()
	}
	c.watch.stop()
	c.mu.Unlock()
	_ = c.tr.Close() // all has been said
	c.in.release()
}

// lingerBytes is how much a peer may still send who was told that the connection ends.
const lingerBytes = 256 << 10

// swallow reads what the peer sends until he has seen that the connection ends: a reset because of unread bytes could overtake the GOAWAY that says why.
func (c *conn) swallow() {
	for left := lingerBytes; left > 0 && c.in.fill() == nil; {
		left -= len(c.in.b)
	}
}

// leave ends the connection because of an error: streams fail, and the peer is told why if that makes sense. The lock is held.
func (c *conn) leave(err error) {
	if c.dead != nil {
		return
	}
	var wrong *connectionError
	if errors.As(err, &wrong) {
		if wrong.reason != "" {
			c.tell(wrong.reason)
		}
		c.out.set(appendGoAway(c.out.bytes(), c.lastTaken(), wrong.code, wrong.text))
	} // else the peer has gone
	c.die(err)
	c.part()
}

// part ends our direction when all has been written, and closes the connection if the peer does not do so soon. The lock is held.
func (c *conn) part() {
	c.out.last = true
	c.watch.leaveBy = c.now() + lingerTime
	c.arm(c.watch.leaveBy)
	c.kick()
}

// die ends everything for everybody. The lock is held.
func (c *conn) die(why error) {
	if errors.Is(why, io.EOF) || why == nil {
		why = errClosed // an end of the connection is not one of a message
	}
	c.dead, c.goAway = why, true
	for id, st := range c.streams {
		st.fail(why)
		delete(c.streams, id)
	}
}

// lastTaken is the last stream of the peer that was processed.
func (c *conn) lastTaken() uint32 {
	if s, ok := c.side.(*Server); ok {
		return s.last
	}
	return 0
}

// abort ends the connection at once.
func (c *conn) abort() {
	c.mu.Lock()
	if c.dead == nil {
		c.die(errClosed)
	}
	c.mu.Unlock()
	c.tr.Abort()
}

// forget takes a stream out of the connection. Frames for it may still be on their way if it was reset here. The lock is held.
func (c *conn) forget(st *Stream, reset bool) {
	if st.id != 0 && c.streams[st.id] == st {
		delete(c.streams, st.id)
		c.past.add(st.id, reset)
	}
}

// reset resets a stream and forgets it. The lock is held.
func (c *conn) reset(st *Stream, code http2.ErrCode) {
	if st.id != 0 && c.streams[st.id] == st {
		c.forget(st, true)
		c.out.set(appendReset(c.out.bytes(), st.id, code))
		c.kick()
	}
	c.free(st)
}

// refuse resets a stream because of what the peer did. The lock is held.
func (c *conn) refuse(st *Stream, code http2.ErrCode, reason string) error {
	c.tell(reason)
	st.fail(&ResetError{Code: code, Ours: true})
	c.reset(st, code)
	return c.meter.spend(kindRefused, c.now())
}

// turnAway resets a stream that was never made. The lock is held.
func (c *conn) turnAway(id uint32, code http2.ErrCode, reason string) error {
	c.tell(reason)
	c.past.add(id, true)
	c.out.set(appendReset(c.out.bytes(), id, code))
	c.kick()
	return c.meter.spend(kindRefused, c.now())
}

// free gives the place of a stream free, where that does not wait for its server. The lock is held.
func (c *conn) free(st *Stream) {
	if c.client {
		c.side.over(st)
	}
}

// past remembers streams that are over, as far as it matters: frames for one that was reset here are on their way, frames for one that the peer has ended are a mistake.
type past [128]struct {
	id    uint32
	reset bool
}

func (p *past) add(id uint32, reset bool) {
	slot := &p[id>>1%uint32(len(p))]
	slot.id, slot.reset = id, reset
}

// closed notes that the peer has ended a stream that was over already: nothing of it is on its way any more.
func (p *past) closed(id uint32) {
	if slot := &p[id>>1%uint32(len(p))]; slot.id == id {
		slot.reset = false
	}
}

// find reports whether a stream is remembered, and whether it was reset here.
func (p *past) find(id uint32) (known, reset bool) {
	slot := &p[id>>1%uint32(len(p))]
	return slot.id == id, slot.id == id && slot.reset
}
