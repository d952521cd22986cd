package http1

// BodyKind says how the end of a message is found.
type BodyKind uint8

// The kinds of body (RFC 9112, 6.3).
const (
	BodyNone       BodyKind = iota // no byte follows the head; a Content-Length of 0 included
	BodyLength                     // exactly Body.Length bytes, more than 0
	BodyChunked                    // chunked transfer coding
	BodyUntilClose                 // everything until the peer closes; responses only
	BodyTunnel                     // the connection is no longer HTTP: 101, or 2xx to CONNECT
)

// String gives the kind's name.
func (k BodyKind) String() string {
	return [...]string{"none", "content-length", "chunked", "until-close", "tunnel"}[k]
}

// Body is the framing of a message, decided once by the parser.
type Body struct {
	Kind   BodyKind
	Length int64 // bytes; only for BodyLength
}

// Within reports whether a body is known to end within so many bytes.
func (b Body) Within(n int) bool {
	return b.Kind == BodyNone || b.Kind == BodyLength && b.Length <= int64(n)
}

// BodyScanner follows a body through windows of bytes as they arrive. It copies no payload. The zero value is a body of kind BodyNone.
type BodyScanner struct {
	body  Body
	left  int64 // bytes of a BodyLength not yet seen
	done  bool
	total int64
	side  Side
	chunk Chunked
	watch Watcher
}

// Watcher is told of payload as it passes, without framing, window by window. It must not keep the bytes.
type Watcher interface{ Scan(payload []byte) }

// Reset starts a new body with the framing that the parser decided.
func (s *BodyScanner) Reset(b Body, side Side, lim *Limits) {
	s.body, s.left, s.side, s.total, s.watch = b, b.Length, side, 0, nil
	s.done = b.Kind == BodyNone || b.Kind == BodyLength && b.Length == 0
	if b.Kind == BodyChunked {
		s.chunk.Reset(side, lim)
	}
}

// Watch tells w of the payload that Scan and Payload see from here on, until Reset. What an error takes back, it may have seen.
func (s *BodyScanner) Watch(w Watcher) { s.watch, s.chunk.watch = w, w }

// Scan validates the front of window and says what to do with it: forward the first fwd bytes to the next hop as they are, drop the drop bytes after them
// (a chunk extension), and call again with the rest until the window is used up or Done. Bytes of the window behind the end of the message
// are not touched: they are the next message. On an error nothing of the window may be forwarded, and both connections must be closed.
func (s *BodyScanner) Scan(window []byte) (fwd, drop int, err error) {
	switch {
	case s.done:
		return 0, 0, nil
	case s.body.Kind == BodyLength:
		fwd = int(min(s.left, int64(len(window))))
		s.left -= int64(fwd)
		s.total += int64(fwd)
		s.done = s.left == 0
		s.saw(window[:fwd])
		return fwd, 0, nil
	case s.body.Kind == BodyChunked:
		fwd, drop, err = s.chunk.Relay(window)
		s.done = s.chunk.Done()
		return fwd, drop, err
	default:
		s.total += int64(len(window))
		s.saw(window)
		return len(window), 0, nil
	}
}

func (s *BodyScanner) saw(payload []byte) {
	if s.watch != nil {
		s.watch.Scan(payload)
	}
}

// Payload validates the front of window and finds payload in it: skip skip bytes of framing, and the next n bytes are payload. Call again behind them, until
// the window is used up or Done. Scan and Payload must not be mixed within one body.
func (s *BodyScanner) Payload(window []byte) (skip, n int, err error) {
	if s.body.Kind == BodyChunked && !s.done {
		skip, n, err = s.chunk.Payload(window)
		s.done = s.chunk.Done()
		return skip, n, err
	}
	n, _, err = s.Scan(window)
	return 0, n, err
}

// Done reports whether the message has ended. A body of kind BodyUntilClose or BodyTunnel ends only with its connection.
func (s *BodyScanner) Done() bool { return s.done }

// Remaining gives the bytes that must still come, for a body of kind BodyLength; -1 for one whose length is not known ahead and that has not ended.
// A caller may splice that many bytes past the scanner and tell it with Skip.
func (s *BodyScanner) Remaining() int64 {
	switch {
	case s.done:
		return 0
	case s.body.Kind == BodyLength:
		return s.left
	default:
		return -1
	}
}

// Skip tells the scanner that n bytes of a body of kind BodyLength, at most Remaining, were carried without it.
func (s *BodyScanner) Skip(n int64) {
	n = min(n, s.left)
	s.left -= n
	s.total += n
	s.done = s.left == 0
}

// PayloadBytes counts the bytes of payload so far, without framing.
func (s *BodyScanner) PayloadBytes() int64 {
	if s.body.Kind == BodyChunked {
		return s.chunk.PayloadBytes()
	}
	return s.total
}

// Trailers gives the trailers of a chunked body that is Done; nil when there are none. They live until Reset.
func (s *BodyScanner) Trailers() *Head {
	if s.body.Kind != BodyChunked || !s.done || s.chunk.trailers.Len() == 0 {
		return nil
	}
	return &s.chunk.trailers
}

// EOF judges the end of the connection at this point: nil when the message is complete, or when closing is what ends it; else
// ErrTruncated or ErrResponseTruncated, and what was forwarded must not look complete to the next hop.
func (s *BodyScanner) EOF() error {
	switch {
	case s.done:
		return nil
	case s.body.Kind == BodyUntilClose, s.body.Kind == BodyTunnel:
		s.done = true
		return nil
	default:
		return s.side.refuse(faultTruncated)
	}
}
