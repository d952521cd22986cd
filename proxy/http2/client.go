package http2

import (
	"cmp"
	"errors"
	"time"

	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/proxy/http1"
)

// ClientOptions are what a client is made with. The zero value of a field means its default.
type ClientOptions struct {
	Count func(reason string) // is told of every connection and stream that is ended because of the peer, by its Reason; must not wait

	Limits       *http1.Limits        // of heads; default http1.DefaultLimits
	Scheme       string               // http or https; default http
	MaxStreams   uint32               // at once, besides what the peer allows; default: what he allows
	MaxRequests  uint32               // on the connection; default: as many as there are numbers
	StreamWindow int                  // bytes that a peer may send on a stream before they are read; default 64 KiB
	ConnWindow   int                  // and on all streams together, at least 65,535; default 1 MiB
	Header       time.Duration        // for a whole header block; default 10 s
	Settings     time.Duration        // for the acknowledgement of our settings; default 10 s
	Stall        time.Duration        // for the peer to take anything of what is written, or to give a window to what waits; default 30 s
	Patience     time.Duration        // instead of Stall, while at most 8 streams wait: that holds little; default Stall
	Ping         time.Duration        // of silence before the peer is asked whether he is there; default never
	PingTimeout  time.Duration        // for him to say so; default 10 s
	Now          func() time.Duration // monotonic; default: since the call
}

// Client is a connection to an upstream.
type Client struct {
	conn
	opts   ClientOptions
	scheme string

	active  uint32 // streams that were opened and are not over
	opened  uint32
	nextID  uint32
	retired bool // takes no more streams
	ended   chan struct{}
}

// Errors of Open.
var (
	ErrFull      = errors.New("the HTTP/2 connection has no room for another stream")
	ErrGoingAway = errors.New("the HTTP/2 connection takes no more streams")
)

// NewClient takes over a connection and greets the peer. Close, or the peer, ends it.
func NewClient(tr Transport, o ClientOptions) *Client {
	o.MaxStreams = cmp.Or(o.MaxStreams, maxStreamID)
	o.MaxRequests = min(cmp.Or(o.MaxRequests, maxStreamID), maxStreamID/2)
	c := &Client{opts: o, scheme: cmp.Or(o.Scheme, "http"), nextID: 1, ended: make(chan struct{})}
	c.client = true
	c.init(tr, c, &common{
		limits: o.Limits, tell: o.Count, now: o.Now, sizes: sizes{o.StreamWindow, o.ConnWindow},
		times: times{header: o.Header, settings: o.Settings, stall: o.Stall, patience: o.Patience, ping: o.Ping, pingTimeout: o.PingTimeout},
	})
	c.meter.refused = 500
	c.out.set(append(c.out.bytes(), http2.ClientPreface...))
	c.greet(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	go func() {
		defer close(c.ended)
		c.carry(c.begin)
		c.jobs.Wait()
	}()
	return c
}

// begin sends the preface, unless a request has taken it along already.
func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kick()
	return nil
}

// Open begins a stream. It is numbered when the head of its request is written; until then it is not known to the peer.
func (c *Client) Open() (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.usable():
		return nil, ErrGoingAway
	case c.active >= min(c.opts.MaxStreams, c.peer.maxStreams):
		return nil, ErrFull
	}
	c.opened++
	c.active++
	st := c.newStream(0)
	st.placed = true
	return st, nil
}

// number gives a stream its number, just before its head is sent. The lock is held.
func (c *Client) number(st *Stream) error {
	if c.goAway {
		return ErrRefused // nothing of it was sent
	}
	st.id = c.nextID
	c.nextID += 2
	st.send.window, st.recv.window = c.peer.window, c.newWindow
	c.streams[st.id] = st
	return nil
}

func (c *Client) usable() bool {
	return !c.goAway && !c.retired && c.dead == nil && c.opened < c.opts.MaxRequests
}

// Active is the number of streams that are open.
func (c *Client) Active() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.active)
}

// Usable reports whether the connection may ever take another stream.
func (c *Client) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usable()
}

// Done is closed when the connection has ended, and nothing of it is left.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Retire takes no more streams, and ends the connection when the last one is over.
func (c *Client) Retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.arm(c.now())
}

// Close ends the connection and all of its streams, and returns when nothing of it is left. Streams that are still open are cut off.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.dead == nil {
		c.out.set(appendGoAway(c.out.bytes(), 0, http2.ErrCodeNo, ""))
		c.die(errClosed)
	}
	if !c.watch.stopped {
		c.out.last, c.out.hangUp = true, true
		c.watch.leaveBy = c.now() + closeTime
		c.arm(c.watch.leaveBy)
		c.kick()
	}
	c.mu.Unlock()
	<-c.ended
	return nil
}

// closeTime is how long Close waits for the upstream to take the GOAWAY.
const closeTime = 100 * time.Millisecond

func (c *Client) idle(id uint32) bool { return id >= c.nextID || id%2 == 0 }

// blockCame takes the head of an answer, an interim one, or trailers.
func (c *Client) blockCame(id uint32, ended bool) error {
	if c.idle(id) {
		return protocol("HEADERS on a stream that was never opened")
	}
	c.meter.progress++
	st := c.streams[id]
	switch {
	case st == nil:
		return nil // it was reset, and this was on its way
	case st.recv.ended:
		return closedStream("HEADERS behind the end of its stream")
	case c.block.tooLarge:
		return c.refuse(st, http2.ErrCodeProtocol, ReasonHeaders)
	case st.recv.headed:
		if !ended || !st.receivedTrailers(&c.block) {
			return c.refuse(st, http2.ErrCodeProtocol, ReasonMalformed)
		}
		return nil
	}
	return c.answerCame(st, ended)
}

// answerCame takes a head. The lock is held.
func (c *Client) answerCame(st *Stream, ended bool) error {
	text, status, m, ok := c.block.appendResponse(st.scratch.text, ended, st)
	if !ok {
		return c.refuse(st, http2.ErrCodeProtocol, ReasonMalformed)
	}
	st.scratch.text = text
	if status < 200 && status != 101 {
		if len(text)-st.recv.off > 2*c.lim.HeaderBytes {
			return c.refuse(st, http2.ErrCodeEnhanceYourCalm, ReasonInterim)
		}
		st.readable.Signal()
		return nil
	}
	st.recv.kind, st.recv.left, st.recv.headed = m.kind, m.left, true
	if ended {
		st.received()
	}
	st.readable.Signal()
	return nil
}

// over gives the place of a stream free. The lock is held.
func (c *Client) over(st *Stream) {
	if !st.placed {
		return
	}
	st.placed = false
	if c.active--; c.active == 0 && (c.goAway || c.retired) {
		c.arm(c.now())
	}
}

// resetCame allows an upstream to reset streams. The lock is held.
func (c *Client) resetCame(*Stream) error { return nil }

// due ends a connection that takes no more streams and has none. The lock is held.
func (c *Client) due(time.Duration) time.Duration {
	if c.active == 0 && (c.goAway || c.retired) {
		c.leave(&connectionError{code: http2.ErrCodeNo})
	}
	return 0
}
