package http2

import (
	"io"
	"math"
	"net"
	"strconv"
)

// bodyKind is how a body goes on in HTTP/1.1.
type bodyKind uint8

const (
	noBody bodyKind = iota
	rawBody
	chunkedBody
	tunnelBody
)

// inbound is the message that arrives on a stream, and how far it was read as HTTP/1.1. First comes the text in the scratch (heads, then the framing of chunks), then payload.
type inbound struct {
	kind    bodyKind
	headed  bool  // the final head is in the text
	ended   bool  // all has arrived
	closed  bool  // the end of a chunked body is in the text
	stopped bool  // a deadline has passed
	err     error // nothing more comes, and what has come does not count
	off     int   // of the text
	chunk   int   // bytes of payload left of the chunk that is read
	left    int64 // bytes of payload that must still come, by Content-Length; below 0: any number
	payload pipe
	window  int64 // what the peer may still send
	taken   int   // what was read of that, and the peer was not told
	tail    []byte
}

// wanted reports whether payload still has a reader.
func (r *inbound) wanted() bool { return r.err == nil }

// fits takes n bytes of payload off those that must come. They do not fit when there is no head yet, or they are too many, or too few at the end.
func (r *inbound) fits(n int, last bool) bool {
	if !r.headed || r.kind == noBody && n > 0 {
		return false
	}
	if r.left < 0 {
		return true
	}
	r.left -= int64(n)
	return r.left >= 0 && (!last || r.left == 0)
}

// Read reads what has arrived, as HTTP/1.1, and waits for the first byte.
func (st *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := st.awaitInput(); err != nil {
		return 0, err
	}
	n, payload := st.recv.read(st.scratch, p)
	c.credit(payload)
	st.credit(payload)
	return n, nil
}

// WaitRead waits until a Read would not have to, and returns nil then.
func (st *Stream) WaitRead() error {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	return st.awaitInput()
}

// awaitInput waits until there is something to read. The lock is held, and given up meanwhile.
func (st *Stream) awaitInput() error {
	for r := &st.recv; ; st.readable.Wait() {
		switch {
		case r.stopped:
			return interrupted
		case st.closed:
			return net.ErrClosed
		case r.err != nil:
			return r.err
		case r.ready(st.scratch):
			return nil
		case r.ended:
			return io.EOF
		}
	}
}

// The last byte of a message is held back until the stream has ended: only then it is sure that the message is whole. So an answer that looks whole is, and no peer sees its stream reset for being a moment
// late with END_STREAM.

// text gives what can be read of the text.
func (r *inbound) text(s *scratch) []byte {
	end := len(s.text)
	if r.kind == noBody && r.headed && !r.ended && end > r.off {
		end--
	}
	return s.text[r.off:end]
}

// ripe gives how much can be read of the payload.
func (r *inbound) ripe() int {
	n := r.payload.len()
	if r.kind == rawBody && r.left == 0 && !r.ended {
		n--
	}
	return n
}

// ready reports whether there is something to read.
func (r *inbound) ready(s *scratch) bool {
	return s != nil && (len(r.text(s)) > 0 || r.ripe() > 0 || r.ended && r.kind == chunkedBody && !r.closed)
}

// read fills p as far as it can, and tells how much of that is payload.
func (r *inbound) read(s *scratch, p []byte) (n, payload int) {
	for n < len(p) {
		if text := r.text(s); len(text) > 0 {
			k := copy(p[n:], text)
			n += k
			r.off += k
			continue
		}
		if r.off == len(s.text) {
			s.text, r.off = s.text[:0], 0
		}
		if r.kind == chunkedBody && r.chunk == 0 {
			if !r.beginChunk(s, len(p)-n) {
				return n, payload
			}
			continue
		}
		k := r.ripe()
		if r.kind == chunkedBody {
			k = r.chunk
		}
		if k = r.payload.read(p[n:min(len(p), n+k)]); k == 0 {
			return n, payload
		}
		n += k
		payload += k
		if r.kind == chunkedBody {
			if r.chunk -= k; r.chunk == 0 {
				s.text = append(s.text, "\r\n"...)
			}
		}
	}
	return n, payload
}

// chunkRoom is what the framing of a chunk needs at most that fits into a buffer: size, CRLF, CRLF.
const chunkRoom = 8 + 2 + 2

// beginChunk announces what has arrived as a chunk that fits into the room, if that is worth it; or ends the body. It reports false when there is nothing to announce.
func (r *inbound) beginChunk(s *scratch, room int) bool {
	size := min(r.payload.len(), math.MaxInt32)
	switch {
	case size > 0:
		if room > 4*chunkRoom {
			size = min(size, room-chunkRoom)
		}
		r.chunk = size
		s.text = strconv.AppendInt(s.text, int64(size), 16)
		s.text = append(s.text, "\r\n"...)
		return true
	case r.ended && !r.closed:
		r.closed = true
		s.text = append(s.text, "0\r\n"...)
		s.text = append(s.text, r.tail...)
		s.text = append(s.text, "\r\n"...)
		return true
	default:
		return false
	}
}

// credit tells the peer, now and then, that bytes were taken that he sent. The lock is held.
func (st *Stream) credit(n int) {
	r, c := &st.recv, st.c
	if r.taken += n; n == 0 || r.ended || r.err != nil || c.dead != nil || 2*r.taken < c.sizes.stream {
		return
	}
	c.out.set(appendWindowUpdate(c.out.bytes(), st.id, r.taken))
	r.window += int64(r.taken)
	r.taken = 0
	c.kick()
}

// received notes that all has arrived. The lock is held.
func (st *Stream) received() {
	if st.recv.err != nil {
		return
	}
	st.recv.ended = true
	st.readable.Signal()
	st.whole()
}

// receivedTrailers takes the fields behind a body, which they end. It reports false when they are malformed. The lock is held.
func (st *Stream) receivedTrailers(b *block) bool {
	r := &st.recv
	if !b.validTrailers() || !r.fits(0, true) {
		return false
	}
	if r.kind == chunkedBody {
		r.tail = b.appendTrailers(nil)
	}
	st.received()
	return true
}
