package http2

import (
	"errors"
	"io"

	"golang.org/x/net/http2"
)

// readFrames takes frames until the connection ends, and says why it does.
func (c *conn) readFrames() error {
	for {
		c.onTime()
		fh, err := c.framer.ReadFrameHeader()
		if err == nil {
			err = c.frame(fh)
		}
		if err != nil {
			return wrongFrame(err)
		}
	}
}

// A frame that has begun, or a header block in its several frames, has to be whole soon: nobody needs the time who does not want to hold the connection. Payload is another matter; its streams have
// timeouts of their own. late is when the rest of one has to be waited for.
func (c *conn) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch.partial = max(c.now(), 1)
	c.arm(c.watch.partial + c.times.header)
}

// onTime is when it is there, or needs not be.
func (c *conn) onTime() {
	if c.in.rest() {
		c.mu.Lock()
		c.watch.partial = 0
		c.mu.Unlock()
	}
}

// wrongFrame says what a mistake in a frame means. Those that RFC 9113 calls mistakes in a stream end the connection too (5.4.1 allows that): no honest peer makes one, and whoever may end a stream of ours for
// nothing may do so again and again.
func wrongFrame(err error) error {
	var ours *connectionError
	var connection http2.ConnectionError
	var stream http2.StreamError
	code := http2.ErrCodeNo
	switch {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &connection):
		code = http2.ErrCode(connection)
	case errors.As(err, &stream):
		code = stream.Code
	case errors.Is(err, http2.ErrFrameTooLarge):
		code = http2.ErrCodeFrameSize
	case errors.Is(err, io.ErrUnexpectedEOF): // a frame that is shorter than its fields
		code = http2.ErrCodeFrameSize
	default:
		return err
	}
	switch code {
	case http2.ErrCodeFrameSize:
		return &connectionError{code, ReasonFrameSize, "a frame of the wrong size"}
	case http2.ErrCodeFlowControl:
		return flowControl("a window beyond the largest one")
	default:
		return &connectionError{code, ReasonProtocol, "a frame that is not allowed"}
	}
}

// frame takes one frame, of which the header is there.
func (c *conn) frame(fh http2.FrameHeader) error {
	if !c.settled && (fh.Type != http2.FrameSettings || fh.Flags.Has(http2.FlagSettingsAck)) {
		return protocol("the first frame is not SETTINGS")
	}
	c.settled = true
	if c.times.ping > 0 {
		c.mu.Lock()
		c.watch.lastFrame, c.watch.pinged = max(c.now(), 1), 0
		c.mu.Unlock()
	}
	if fh.Type == http2.FrameData {
		return c.dataCame(fh)
	}
	f, err := c.framer.ReadFrameForHeader(fh)
	if err != nil {
		return err
	}
	if h, ok := f.(*http2.HeadersFrame); ok {
		return c.headersCame(h)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return c.dead
	}
	switch f := f.(type) {
	case *http2.WindowUpdateFrame:
		return c.windowCame(f)
	case *http2.RSTStreamFrame:
		return c.resetCame(f)
	case *http2.SettingsFrame:
		return c.settingsCame(f)
	case *http2.PingFrame:
		return c.pingCame(f)
	case *http2.GoAwayFrame:
		c.goAwayCame(f)
		return c.meter.spend(kindStray, c.now())
	case *http2.PriorityFrame, *http2.PriorityUpdateFrame: // RFC 9113, 5.3.2: they have no meaning here
		return c.priorityCame(f)
	case *http2.PushPromiseFrame:
		return protocol("PUSH_PROMISE, which nobody may send us")
	default:
		return c.meter.spend(kindStray, c.now()) // RFC 9113, 4.1: unknown ones are ignored
	}
}

// dataCame passes payload to its stream as it arrives.
func (c *conn) dataCame(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return protocol("DATA without a stream")
	}
	size, padding := int(fh.Length), 0
	if fh.Flags.Has(http2.FlagDataPadded) {
		var one [1]byte
		if size == 0 {
			return &connectionError{http2.ErrCodeFrameSize, ReasonFrameSize, "padding without its length"}
		}
		if _, err := io.ReadFull(&c.in, one[:]); err != nil {
			return err
		}
		if padding = int(one[0]) + 1; padding > size {
			return protocol("more padding than frame")
		}
	}
	c.onTime()
	c.mu.Lock()
	st, err := c.admit(fh.StreamID, size, size-padding, fh.Flags.Has(http2.FlagDataEndStream))
	for left := size - padding; left > 0 && err == nil; {
		if len(c.in.b) == 0 {
			c.mu.Unlock()
			err = c.in.fill()
			c.mu.Lock()
			continue
		}
		n := min(left, len(c.in.b))
		if st != nil && st.recv.wanted() {
			st.recv.payload.write(c.in.b[:n])
			st.readable.Signal()
		} else {
			c.credit(n)
		}
		c.in.b = c.in.b[n:]
		left -= n
	}
	if err == nil && st != nil && fh.Flags.Has(http2.FlagDataEndStream) {
		st.received()
	}
	c.mu.Unlock()
	if err != nil || padding <= 1 {
		return err
	}
	return c.in.drop(padding - 1)
}

// admit judges a frame of DATA before its payload is there. No stream means that nobody wants it. The lock is held.
func (c *conn) admit(id uint32, size, payload int, ended bool) (*Stream, error) {
	st := c.streams[id]
	switch {
	case c.dead != nil:
		return nil, c.dead
	case c.side.idle(id):
		return nil, protocol("DATA on a stream that was never opened")
	case st != nil && st.recv.ended:
		return nil, closedStream("DATA behind the end of its stream")
	case st == nil:
		if _, reset := c.past.find(id); !reset && !c.client {
			return nil, closedStream("DATA on a stream that is over")
		}
	}
	if c.window -= size; c.window < 0 {
		return nil, flowControl("more DATA than the connection's window")
	}
	if payload > 0 || ended {
		c.meter.progress++
	} else if err := c.meter.spend(kindEmpty, c.now()); err != nil {
		return nil, err
	}
	c.credit(size - payload)
	if st == nil {
		return nil, nil
	}
	if st.recv.window -= int64(size); st.recv.window < 0 {
		return nil, flowControl("more DATA than the stream's window")
	}
	st.credit(size - payload)
	if !st.recv.fits(payload, ended) {
		return nil, c.refuse(st, http2.ErrCodeProtocol, ReasonMalformed)
	}
	return st, nil
}

// credit tells the peer, now and then, that bytes were taken that he sent. The lock is held.
func (c *conn) credit(n int) {
	if c.taken += n; n > 0 && c.dead == nil && 2*c.taken >= c.sizes.conn {
		c.out.set(appendWindowUpdate(c.out.bytes(), 0, c.taken))
		c.window += c.taken
		c.taken = 0
		c.kick()
	}
}

// headersCame decodes a header block with all its frames.
func (c *conn) headersCame(f *http2.HeadersFrame) error {
	defer c.block.trim()
	id, ended := f.StreamID, f.StreamEnded()
	c.block.reset()
	c.block.selfish = f.HasPriority() && f.Priority.StreamDep == id
	fragment, last := f.HeaderBlockFragment(), f.HeadersEnded()
	for {
		if err := c.block.add(fragment); err != nil {
			return err
		}
		if last {
			break
		}
		next, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		more, ok := next.(*http2.ContinuationFrame)
		if !ok { // the Framer does not let that happen
			return protocol("a header block with something else in it")
		}
		fragment, last = more.HeaderBlockFragment(), more.HeadersEnded()
	}
	if c.dec.Close() != nil {
		return &connectionError{http2.ErrCodeCompression, ReasonCompression, "a header block that is cut off"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return c.dead
	}
	return c.side.blockCame(id, ended)
}

// windowCame takes a WINDOW_UPDATE. The lock is held.
func (c *conn) windowCame(f *http2.WindowUpdateFrame) error {
	if err := c.meter.spend(kindWindowUpdate, c.now()); err != nil {
		return err
	}
	if f.StreamID == 0 {
		if c.allowed += int64(f.Increment); c.allowed > maxWindow {
			return flowControl("a window beyond the largest one")
		}
		c.next()
		return nil
	}
	if c.side.idle(f.StreamID) {
		return protocol("WINDOW_UPDATE on a stream that was never opened")
	}
	st := c.streams[f.StreamID]
	if st == nil {
		return nil // RFC 9113, 5.1: it was on its way
	}
	if st.send.window += int64(f.Increment); st.send.window > maxWindow {
		return flowControl("a window beyond the largest one")
	}
	st.writable.Signal()
	return nil
}

// resetCame ends a stream that the peer does not want any more. The lock is held.
func (c *conn) resetCame(f *http2.RSTStreamFrame) error {
	if c.side.idle(f.StreamID) {
		return protocol("RST_STREAM on a stream that was never opened")
	}
	st := c.streams[f.StreamID]
	if st == nil {
		c.past.closed(f.StreamID)
		return c.meter.spend(kindStray, c.now())
	}
	err := error(&ResetError{Code: f.ErrCode})
	if f.ErrCode == http2.ErrCodeRefusedStream && c.client {
		err = ErrRefused
	}
	early := !st.send.ended
	st.fail(err)
	c.forget(st, false)
	c.free(st)
	if early {
		return c.side.resetCame(st)
	}
	return nil
}

// settingsCame obeys the peer's settings. The lock is held.
func (c *conn) settingsCame(f *http2.SettingsFrame) error {
	if err := c.meter.spend(kindSettings, c.now()); err != nil {
		return err
	}
	if f.IsAck() {
		c.settingsAcked()
		return nil
	}
	window := c.peer.window
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			window = int64(s.Val)
		case http2.SettingMaxFrameSize:
			c.peer.maxFrame = int(min(s.Val, maxFrame))
		case http2.SettingMaxConcurrentStreams:
			c.peer.maxStreams = s.Val
		case http2.SettingHeaderTableSize:
			c.enc.resize(s.Val)
		case http2.SettingEnableConnectProtocol:
			c.peer.connects = s.Val == 1
		case http2.SettingEnablePush:
			if c.client && s.Val != 0 { // RFC 9113, 6.5.2
				return protocol("a server that wants to be pushed to")
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.resizeWindows(window); err != nil {
		return err
	}
	return c.answer(appendSettingsAck(c.out.bytes()))
}

// resizeWindows changes the windows of all streams by what the initial one has changed (RFC 9113, 6.9.2). The lock is held.
func (c *conn) resizeWindows(window int64) error {
	grown := window - c.peer.window
	if c.peer.window = window; grown == 0 {
		return nil
	}
	for _, st := range c.streams {
		if st.send.window += grown; st.send.window > maxWindow {
			return flowControl("a window beyond the largest one")
		}
		st.writable.Signal()
	}
	return nil
}

// settingsAcked is when our settings hold. The lock is held.
func (c *conn) settingsAcked() {
	if c.acked {
		return
	}
	c.acked = true
	grown := int64(c.sizes.stream) - c.newWindow
	c.newWindow += grown
	for _, st := range c.streams {
		st.recv.window += grown
	}
}

// pingCame answers a PING, or takes the answer to ours. The lock is held.
func (c *conn) pingCame(f *http2.PingFrame) error {
	if err := c.meter.spend(kindPing, c.now()); err != nil {
		return err
	}
	if f.IsAck() {
		if s, ok := c.side.(*Server); ok && f.Data == drainPing {
			s.drained()
		}
		return nil
	}
	return c.answer(appendPing(c.out.bytes(), f.Data, http2.FlagPingAck))
}

// answer sends the answer to a control frame, unless the peer does not read the answers. The lock is held.
func (c *conn) answer(b []byte) error {
	c.out.set(b)
	if c.out.control++; c.out.control > maxControl {
		return calm(ReasonUnread)
	}
	c.kick()
	return nil
}

// goAwayCame notes that the peer takes, or wants, no more streams; those of ours that it has not processed are refused. The lock is held.
func (c *conn) goAwayCame(f *http2.GoAwayFrame) {
	c.goAway = true
	if !c.client {
		c.arm(c.now())
		return
	}
	for id, st := range c.streams {
		if id > f.LastStreamID {
			st.fail(ErrRefused)
			c.forget(st, false)
			c.free(st)
		}
	}
	c.arm(c.now())
}

// priorityCame ignores a priority, unless it makes no sense. The lock is held.
func (c *conn) priorityCame(f http2.Frame) error {
	if p, ok := f.(*http2.PriorityFrame); ok && p.StreamDep == p.StreamID {
		return protocol("a stream that depends on itself")
	}
	return c.meter.spend(kindPriority, c.now())
}
