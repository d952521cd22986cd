package http2

import (
	"cmp"
	"errors"
	"io"
	"time"

	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/proxy/http1"
)

// ClientOptions are what a client is made with. The zero value of a field means its default.
type ClientOptions struct {
	Limits      *http1.Limits // of heads; default http1.DefaultLimits
	MaxStreams  uint32        // at once, beside what the peer allows; default: what he allows
	MaxRequests uint32        // on the connection; default: as many as there are numbers
	Stall       time.Duration // for the peer to take anything of what is written; default 30 s
}

// Client is a connection to an upstream.
type Client struct {
	mux
	opts   ClientOptions
	next   uint32 // number of the next stream
	active uint32 // streams that were opened and are not over
	opened uint32
	ended  chan struct{}
	timer  *time.Timer
}

// Errors of Open.
var (
	ErrFull      = errors.New("the HTTP/2 connection has no room for another stream")
	ErrGoingAway = errors.New("the HTTP/2 connection takes no more streams")
)

// NewClient takes over a connection and greets the peer. Close, or the peer, ends it.
func NewClient(tr Transport, o ClientOptions) *Client {
	if o.Limits == nil {
		o.Limits = http1.DefaultLimits()
	}
	o.MaxStreams = cmp.Or(o.MaxStreams, 1<<31-1)
	o.MaxRequests = cmp.Or(o.MaxRequests, 1<<30-1)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	c := &Client{opts: o, next: 1, ended: make(chan struct{})}
	c.client, c.owner = true, c
	c.init(tr, o.Limits, nil)
	c.readFrom(nil)
	c.mu.Lock()
	c.buf = append(c.buf, http2.ClientPreface...)
	_ = c.out.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(o.Limits.HeaderBytes)},
	)
	_ = c.out.WriteWindowUpdate(0, connWindow-initialWindow)
	c.timer = time.AfterFunc(watchInterval, c.watch)
	c.mu.Unlock() // the first request goes with it
	go c.run()
	return c
}

// Open begins a stream. It is numbered when the head of its request is written.
func (c *Client) Open() (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.refuse || c.opened >= c.opts.MaxRequests:
		return nil, ErrGoingAway
	case c.active >= min(c.opts.MaxStreams, c.peer.maxStreams):
		return nil, ErrFull
	}
	c.opened++
	c.active++
	st := c.newStream(0)
	st.done = func() {
		if c.active--; c.refuse && c.active == 0 {
			c.timer.Reset(0)
		}
		if st.id != 0 {
			delete(c.streams, st.id)
		}
	}
	return st, nil
}

// number gives a stream its number, just before its head is written. The lock is held.
func (st *Stream) number() error {
	c := st.m.owner
	if c.refuse {
		return ErrRefused // nothing of it was sent
	}
	st.id = c.next
	c.next += 2
	st.window = c.peer.window
	c.streams[st.id] = st
	return nil
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
	return !c.refuse && c.opened < c.opts.MaxRequests
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.ended }

// Close ends the connection and all of its streams, and returns when nothing of it is left.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.dead == nil {
		c.goAway(0, http2.ErrCodeNo, "")
	}
	c.die(errClosed)
	c.mu.Unlock()
	err := c.tr.Close()
	<-c.ended
	return err
}

// Retire takes no more streams, and ends the connection when the last one is over.
func (c *Client) Retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = true
	c.timer.Reset(0)
}

// run reads until the connection ends.
func (c *Client) run() {
	defer close(c.ended)
	err := c.read()
	c.mu.Lock()
	var connection http2.ConnectionError
	switch {
	case c.dead != nil:
	case errors.As(err, &connection):
		c.goAway(0, http2.ErrCode(connection), "")
	case errors.Is(err, http2.ErrFrameTooLarge):
		c.goAway(0, http2.ErrCodeFrameSize, "")
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	c.die(err)
	c.timer.Stop()
	c.mu.Unlock()
	_ = c.tr.Close()
}

func (c *Client) read() error {
	for settled := false; ; {
		f, err := c.framer.ReadFrame()
		if err == nil && !settled {
			if _, settled = f.(*http2.SettingsFrame); !settled {
				return http2.ConnectionError(http2.ErrCodeProtocol)
			}
		}
		if err == nil {
			err = c.handle(f)
		}
		var stream http2.StreamError
		switch {
		case err == nil:
		case errors.As(err, &stream):
			c.mu.Lock()
			if st := c.streams[stream.StreamID]; st != nil {
				st.fail(stream)
			}
			c.reset(stream.StreamID, stream.Code)
			c.mu.Unlock()
		default:
			return err
		}
	}
}

func (c *Client) handle(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		if err := c.answering(f.StreamID); err != nil {
			return err
		}
		return c.take(f)
	case *http2.HeadersFrame:
		id, ended := f.StreamID, f.StreamEnded()
		if err := c.readBlock(f); err != nil {
			return err
		}
		return c.headersCame(id, ended)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if err := c.settings(f); err != nil {
			return err
		}
		return c.answerControl(func() { _ = c.out.WriteSettingsAck() })
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return c.answerControl(func() { _ = c.out.WritePing(true, f.Data) })
	case *http2.WindowUpdateFrame:
		return c.widen(f)
	case *http2.RSTStreamFrame:
		c.resetCame(f)
	case *http2.GoAwayFrame:
		c.goAwayCame(f)
	case *http2.PushPromiseFrame, *http2.ContinuationFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

func (c *Client) answerControl(write func()) error {
	if c.control++; c.control > maxControlBacklog {
		return errAttack(ReasonBacklog)
	}
	write()
	c.flush()
	return nil
}

// answering reports an error when nothing was asked on the stream, or its answer has no head yet.
func (c *Client) answering(id uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id >= c.next || id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if st := c.streams[id]; st != nil && !st.began && st.recvErr == nil {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	return nil
}

// headersCame takes the head of an answer, an interim one, or trailers.
func (c *Client) headersCame(id uint32, ended bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id >= c.next || id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	st := c.streams[id]
	malformed := http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	switch {
	case st == nil || st.recvErr != nil:
		return nil
	case st.recvEnd:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	case st.began && !ended, c.fields.tooLarge:
		return malformed
	case st.began:
		if err := st.receiveTrailers(&c.fields); err != nil {
			return err
		}
		st.settle()
		return nil
	}
	out, kind, length, interim, ok := c.fields.appendResponse(st.in, ended, st.method == http1.HEAD)
	if !ok {
		return malformed
	}
	st.in = out
	if !interim {
		st.kind, st.expect, st.began, st.recvEnd = kind, length, true, ended
		st.settle()
	}
	st.rd.Signal()
	return nil
}

// settle forgets a stream that is over on both sides. What has arrived can still be read. The lock is held.
func (st *Stream) settle() {
	if st.recvEnd && st.sentEnd {
		st.forget()
	}
}

func (c *Client) resetCame(f *http2.RSTStreamFrame) {
	st := c.streams[f.StreamID]
	switch {
	case st == nil:
	case f.ErrCode == http2.ErrCodeNo && st.recvEnd: // the answer is whole, and the rest of the request is not wanted
		st.sendErr = ErrReset
		st.wr.Broadcast()
	case f.ErrCode == http2.ErrCodeRefusedStream:
		st.fail(ErrRefused)
	default:
		st.fail(ErrReset)
	}
}

// goAwayCame takes no more streams, and fails those that were not processed. The lock is held.
func (c *Client) goAwayCame(f *http2.GoAwayFrame) {
	c.refuse = true
	for id, st := range c.streams {
		if id > f.LastStreamID {
			st.fail(ErrRefused)
		}
	}
	c.timer.Reset(0)
}

// watch ends the connection when the peer takes nothing any more, or nobody needs it.
func (c *Client) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead != nil:
		return
	case c.flushing && c.clock()-c.flushBegan > c.opts.Stall, c.refuse && c.active == 0:
		c.die(errClosed)
		_ = c.tr.Close()
		return
	}
	c.timer.Reset(watchInterval)
}
