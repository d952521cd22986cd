package http2

import (
	"errors"
	"net"
	"time"

	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/proxy/http1"
)

// outbound is the message that is sent on a stream, and how far it has got.
type outbound struct {
	phase   phase
	ended   bool  // all was sent
	stopped bool  // a deadline has passed
	err     error // nothing more can be sent
	window  int64 // what the peer lets us send

	// The line of those who wait for the connection; see output.go.
	queued, turn, needsWindow bool
	after                     *Stream
	waiting                   time.Duration // for a window since; 0: it is not
	seen                      uint64        // what had moved then
}

// phase is where the message that is written has got to.
type phase uint8

const (
	atHead phase = iota // of it, or of another interim one
	atBody
	atEnd
)

var (
	errBeyond    = errors.New("something is written behind the end of the message")
	errNoUpgrade = errors.New("the answer to an upgrade is neither 101 nor a refusal")
)

// Write takes HTTP/1.1, and sends what is whole of it: heads at once, payload as windows allow. It returns when everything was queued, which is bounded, and not when it was written.
func (st *Stream) Write(p []byte) (n int, err error) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := st.mayWrite(); err != nil {
		return 0, err
	}
	st.writing = true
	for n < len(p) && err == nil {
		k := 0
		switch st.send.phase {
		case atHead:
			k, err = st.writeHead(p[n:])
		case atBody:
			k, err = st.writeBody(p[n:])
		default:
			err = errBeyond
		}
		n += k
	}
	if err != nil && st.send.err == nil && !st.send.ended {
		st.send.err = err // nobody knows any more where the message is
		if st.id == 0 && c.client && st.recv.err == nil {
			st.recv.err = err // nor will anybody answer it
			st.readable.Signal()
		}
	}
	st.writing = false
	st.release()
	c.kick()
	return n, err
}

// mayWrite reports why nothing can be written, if so. The lock is held.
func (st *Stream) mayWrite() error {
	switch {
	case st.send.stopped:
		return interrupted
	case st.closed:
		return net.ErrClosed
	case st.send.err != nil:
		return st.send.err
	case st.c.dead != nil && !st.send.ended:
		return st.c.dead
	}
	return nil
}

// writeHead takes bytes of a head, and sends it when it is whole. The lock is held, and given up meanwhile.
func (st *Stream) writeHead(p []byte) (n int, err error) {
	s, c := st.scratch, st.c
	had := len(s.partial)
	whole := p
	if had > 0 {
		s.partial = append(s.partial, p...)
		whole = s.partial
	}
	c.mu.Unlock()
	if c.client {
		n, err = http1.ParseRequest(whole, &s.head, c.ours)
	} else {
		n, err = http1.ParseResponse(whole, &s.head, http1.Exchange{Method: st.method, Upgrade: st.upgrade}, c.ours)
	}
	c.mu.Lock()
	switch {
	case err == http1.ErrNeedMore:
		if had == 0 {
			s.partial = append(s.partial, p...)
		}
		return len(p), nil
	case err != nil:
		return 0, err
	}
	s.partial = s.partial[:0]
	if err := st.await(false); err != nil {
		return 0, err
	}
	if c.client {
		err = st.sendRequest(&s.head)
	} else {
		err = st.sendResponse(&s.head)
	}
	return n - had, err
}

// sendRequest sends the head of a request. Its stream gets its number now, because numbers must come in order. The lock is held.
func (st *Stream) sendRequest(h *http1.Head) error {
	c := st.c
	if err := c.side.(*Client).number(st); err != nil {
		return err
	}
	st.method = h.Method
	st.upgrade = h.Upgrade && c.peer.connects && isWebSocket(h)
	body := h.Body
	if h.Method == http1.CONNECT || st.upgrade {
		body = http1.Body{Kind: http1.BodyTunnel}
	}
	if st.upgrade {
		st.acceptance = acceptanceOf(h.Lookup(webSocketKey))
	}
	st.scratch.body.Reset(body, http1.Request, c.lim)
	c.enc.request(h, c.side.(*Client).scheme, st.upgrade)
	st.sendBlock(st.scratch.body.Done())
	return nil
}

// sendResponse sends the head of an answer, or of an interim one. The lock is held.
func (st *Stream) sendResponse(h *http1.Head) error {
	c := st.c
	if st.upgrade && h.Status >= 200 && h.Status < 300 {
		return errNoUpgrade // in HTTP/2 this would be a success
	}
	c.enc.response(h, st.upgrade)
	if h.Status < 200 && h.Status != 101 {
		c.out.set(c.enc.appendTo(c.out.bytes(), st.id, false, c.peer.maxFrame))
		return nil
	}
	st.scratch.body.Reset(h.Body, http1.Response, c.lim)
	st.sendBlock(st.scratch.body.Done())
	return nil
}

// sendBlock sends the final head that was encoded, or trailers. The lock is held.
func (st *Stream) sendBlock(last bool) {
	c := st.c
	c.meter.progress++
	c.out.set(c.enc.appendTo(c.out.bytes(), st.id, last, c.peer.maxFrame))
	st.send.phase = atBody
	if last {
		st.sent()
	}
}

// sendData sends a frame of payload. The lock is held.
func (st *Stream) sendData(p []byte, last bool) {
	c := st.c
	c.meter.progress++
	if len(p) > 0 {
		c.moved++
	}
	c.out.set(appendData(c.out.bytes(), st.id, p, last))
	c.allowed -= int64(len(p))
	st.send.window -= int64(len(p))
	if last {
		st.sent()
	}
}

// sent notes that all was sent. The lock is held.
func (st *Stream) sent() {
	st.send.phase, st.send.ended = atEnd, true
	st.whole()
}

// writeBody takes bytes of a body, and sends its payload. What is found payload waits until it is known whether more comes behind it, so that the last of it ends the stream. The lock is held, and given up
// while it waits.
func (st *Stream) writeBody(p []byte) (n int, err error) {
	body := &st.scratch.body
	var payload []byte
	for n < len(p) && !body.Done() {
		skip, size, err := body.Payload(p[n:])
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
	trailers := body.Trailers()
	if err := st.data(payload, body.Done() && trailers == nil); err != nil || trailers == nil {
		return n, err
	}
	if err := st.await(false); err != nil {
		return n, err
	}
	if st.c.enc.trailers(trailers); len(st.c.enc.block()) == 0 { // none of them may be sent
		st.sendData(nil, true)
		return n, nil
	}
	st.sendBlock(true)
	return n, nil
}

// data sends payload as windows allow, and ends the stream if it is the last. The lock is held, and given up while it waits.
func (st *Stream) data(p []byte, last bool) error {
	for len(p) > 0 {
		if err := st.await(true); err != nil {
			return err
		}
		n := int(min(int64(len(p)), int64(st.c.peer.maxFrame), st.send.window, st.c.allowed))
		st.sendData(p[:n], last && n == len(p))
		p = p[n:]
	}
	if last && !st.send.ended {
		st.sendData(nil, true)
	}
	return nil
}

// await waits until the stream has room in the queue, and with payload a window of at least a byte on the stream and on the connection. The lock is held, and given up meanwhile.
func (st *Stream) await(payload bool) error {
	c, out := st.c, &st.send
	defer func() {
		out.waiting = 0
		st.passTurn()
	}()
	out.needsWindow = payload
	for {
		if err := st.mayWrite(); err != nil {
			return err
		}
		switch {
		case payload && out.window <= 0:
			st.passTurn() // others can use it
			st.waitForWindow()
		case payload && (c.allowed <= 0 || c.out.first != nil && !out.turn), c.out.len() >= maxQueued:
			out.turn = false
			c.out.wait(st)
			c.kick()
			if payload && c.allowed <= 0 {
				st.waitForWindow()
			} else {
				st.writable.Wait()
			}
			c.out.leave(st) // in case that something else woke us
		default:
			return nil
		}
	}
}

// passTurn gives the turn to the next one in the line. The lock is held.
func (st *Stream) passTurn() {
	if st.send.turn {
		st.send.turn = false
		st.c.next()
	}
}

// waitForWindow waits for a signal, as a stream that the peer may be stalling. The lock is held, and given up meanwhile.
func (st *Stream) waitForWindow() {
	c := st.c
	c.kick()
	if st.send.waiting == 0 {
		st.send.waiting, st.send.seen = max(c.now(), 1), c.moved
		c.arm(st.send.waiting + c.times.stall)
	}
	st.writable.Wait()
}

// fewWaiting is how many streams may wait for a peer whose Patience is not limited to Stall: they hold little, and whoever pauses a few answers means no harm.
const fewWaiting = 8

// stallLimit is how long the peer may let us wait at the moment. The lock is held.
func (c *conn) stallLimit() time.Duration {
	waiting := 0
	for _, st := range c.streams {
		if st.send.waiting != 0 || st.send.queued {
			waiting++
		}
	}
	if waiting > fewWaiting {
		return c.times.stall
	}
	return c.times.patience
}

// stall resets streams whose peer has given no window for too long, and says when the next one may be due (0: never). A caller who has taken nothing else meanwhile is not slow on one stream but
// on all: his connection ends. An upstream's takes no more streams when it is its window that is missing. The lock is held.
func (c *conn) stall(now, limit time.Duration) (next time.Duration) {
	for _, st := range c.streams {
		switch due := st.send.waiting + limit; {
		case st.send.waiting == 0:
		case now < due:
			due = min(due, now+c.times.stall) // the limit may shrink
			if next == 0 || due < next {
				next = due
			}
		case !c.client && st.send.seen == c.moved:
			c.leave(calm(ReasonSlowRead))
			return 0
		default:
			if upstream, is := c.side.(*Client); is && c.allowed <= 0 {
				upstream.retired = true
			}
			st.send.waiting = 0
			c.tell(ReasonStalled)
			st.fail(&ResetError{Code: http2.ErrCodeCancel})
			c.reset(st, http2.ErrCodeCancel)
		}
	}
	return next
}
