package http1

// Chunked reads the chunked transfer coding (RFC 9112, 7.1) from windows of bytes, strictly, and copies no payload. BodyScanner uses it; it is of use alone too.
type Chunked struct {
	state     chunkState
	side      Side
	lim       *Limits
	digits    int   // of the size that is being read
	left      int64 // bytes of the chunk that are still to come
	payload   int64
	extension int // bytes of extensions so far
	watch     Watcher

	block    []byte // the trailers, as they arrived
	trailers Head   // their index
}

// chunkState says what the next byte must be.
type chunkState uint8

const (
	chunkSizeFirst chunkState = iota // the first digit
	chunkSize                        // a digit, ';' or CR
	chunkSizeCR                      // the CR behind the extensions
	chunkSizeLF                      // the LF of the size line
	chunkDataCR                      // the CR behind the data
	chunkDataLF                      // the LF behind the data
	chunkData
	chunkTrailers
	chunkDone
	// The extensions: *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ), but no BWS before the first.
	extSemicolon
	extBeforeName
	extName
	extAfterName
	extBeforeValue
	extValue
	extAfterValue
	extQuoted
	extEscaped
	extQuotedEnd
)

// Reset starts a new body.
func (c *Chunked) Reset(side Side, lim *Limits) {
	c.trailers.Reset()
	*c = Chunked{side: side, lim: lim, block: c.block[:0], trailers: c.trailers}
	c.trailers.beginFields(0)
}

// Done reports whether the last chunk and the trailers behind it have been read.
func (c *Chunked) Done() bool { return c.state == chunkDone }

// PayloadBytes counts the bytes of payload so far.
func (c *Chunked) PayloadBytes() int64 { return c.payload }

// Relay validates the front of window: the first fwd bytes may be forwarded as they are, the drop bytes behind them are an extension, which is not. See
// BodyScanner.Scan.
func (c *Chunked) Relay(window []byte) (fwd, drop int, err error) {
	for fwd < len(window) && c.state != chunkDone {
		n, f := 0, ok
		switch {
		case c.state == chunkData:
			n = c.takeData(window[fwd:])
		case c.state >= extSemicolon:
			if drop, f = c.takeExtension(window[fwd:]); f == ok {
				return fwd, drop, nil
			}
		default:
			n, f = c.takeFraming(window[fwd:])
		}
		if f != ok {
			return 0, 0, c.side.refuse(f)
		}
		fwd += n
	}
	return fwd, 0, nil
}

// Payload validates the front of window: skip bytes of framing come first, then n bytes of payload. See BodyScanner.Payload.
func (c *Chunked) Payload(window []byte) (skip, n int, err error) {
	for skip < len(window) && c.state != chunkDone {
		took, f := 0, ok
		switch {
		case c.state == chunkData:
			return skip, c.takeData(window[skip:]), nil
		case c.state >= extSemicolon:
			took, f = c.takeExtension(window[skip:])
		default:
			took, f = c.takeFraming(window[skip:])
		}
		if f != ok {
			return 0, 0, c.side.refuse(f)
		}
		skip += took
	}
	return skip, 0, nil
}

func (c *Chunked) takeData(w []byte) int {
	n := int(min(c.left, int64(len(w))))
	c.left -= int64(n)
	c.payload += int64(n)
	if c.watch != nil {
		c.watch.Scan(w[:n])
	}
	if c.left == 0 {
		c.state = chunkDataCR
	}
	return n
}

// takeFraming reads size lines and line ends, up to data, an extension, or the end of the window; or trailers.
func (c *Chunked) takeFraming(w []byte) (n int, f fault) {
	if c.state == chunkTrailers {
		return c.takeTrailers(w)
	}
	for n < len(w) && c.state < chunkData {
		if c.state == chunkSize && w[n] == ';' {
			c.state = extSemicolon
			return n, ok
		}
		if f := c.framingByte(w[n]); f != ok {
			return n, f
		}
		n++
	}
	return n, ok
}

func (c *Chunked) framingByte(b byte) fault {
	switch c.state {
	case chunkSizeFirst, chunkSize:
		return c.sizeByte(b)
	case chunkSizeCR:
		c.state = chunkSizeLF
		return expect(b, '\r', faultChunkExtension)
	case chunkSizeLF:
		c.state = chunkData
		if c.left == 0 {
			c.state = chunkTrailers
		}
		return expect(b, '\n', faultBareCR)
	case chunkDataCR:
		c.state = chunkDataLF
		return expect(b, '\r', faultChunkTerminator)
	default: // chunkDataLF
		c.state = chunkSizeFirst
		c.digits = 0
		return expect(b, '\n', faultBareCR)
	}
}

// expect compares the byte with the one that must be there.
func expect(b, want byte, otherwise fault) fault {
	if b == want {
		return ok
	}
	return lineFault(b, otherwise)
}

// lineFault calls an LF that stands for CRLF by its name.
func lineFault(b byte, otherwise fault) fault {
	if b == '\n' {
		return faultBareLF
	}
	return otherwise
}

func (c *Chunked) sizeByte(b byte) fault {
	if charClass[b]&classHex == 0 {
		if c.state == chunkSize {
			c.state = chunkSizeLF
			return expect(b, '\r', faultChunkSize)
		}
		return faultChunkSize
	}
	if c.digits++; c.digits > 16 || c.left > 1<<59-1 { // another digit would need a 64th bit
		return faultChunkTooLarge
	}
	c.left = c.left<<4 | int64(unhex(b))
	c.state = chunkSize
	return ok
}

// takeExtension reads extensions up to the CR behind them, which is framing again.
func (c *Chunked) takeExtension(w []byte) (n int, f fault) {
	for ; n < len(w); n++ {
		if w[n] == '\r' && (c.state == extName || c.state == extValue || c.state == extQuotedEnd) {
			c.state = chunkSizeCR
			return n, ok
		}
		if c.extension++; c.extension > c.lim.ExtensionBytes {
			return n, faultChunkExtensionTooLarge
		}
		next, valid := c.state.afterExtensionByte(w[n])
		if !valid {
			return n, lineFault(w[n], faultChunkExtension)
		}
		c.state = next
	}
	return n, ok
}

// afterExtensionByte is the grammar of chunk-ext (RFC 9112, 7.1.1) as a state machine.
func (s chunkState) afterExtensionByte(b byte) (next chunkState, valid bool) {
	token, space := charClass[b]&classToken != 0, isSpace(b)
	switch s {
	case extSemicolon:
		return extBeforeName, b == ';'
	case extBeforeName:
		if space {
			return extBeforeName, true
		}
		return extName, token
	case extName:
		if token {
			return extName, true
		}
		return afterExtensionPart(b, extAfterName, true)
	case extAfterName:
		return afterExtensionPart(b, extAfterName, true)
	case extBeforeValue:
		switch {
		case space:
			return extBeforeValue, true
		case b == '"':
			return extQuoted, true
		}
		return extValue, token
	case extValue:
		if token {
			return extValue, true
		}
		return afterExtensionPart(b, extAfterValue, false)
	case extQuoted:
		switch b {
		case '"':
			return extQuotedEnd, true
		case '\\':
			return extEscaped, true
		}
		return extQuoted, !isControl(b)
	case extEscaped:
		return extQuoted, !isControl(b)
	default: // extAfterValue, extQuotedEnd
		return afterExtensionPart(b, extAfterValue, false)
	}
}

// afterExtensionPart reads what may follow a name (then a value may come) or a value: whitespace, '=' or ';'.
func afterExtensionPart(b byte, here chunkState, valueMayFollow bool) (next chunkState, valid bool) {
	switch {
	case isSpace(b):
		return here, true
	case b == ';':
		return extBeforeName, true
	default:
		return extBeforeValue, b == '=' && valueMayFollow
	}
}

// takeTrailers reads the trailers and the empty line behind them by the rules for headers. They are copied, up to the limit, because a line may be spread over windows.
func (c *Chunked) takeTrailers(w []byte) (n int, f fault) {
	had, h := len(c.block), &c.trailers
	c.block = append(c.block, w[:min(len(w), c.lim.HeaderBytes+1-had)]...)
	h.buf = c.block
	known := h.Len()
	f = h.readFields(c.lim)
	for _, field := range h.fields[known:] {
		if field.ID != Unknown && !trailerOK.has(field.ID) {
			return 0, faultTrailerForbidden
		}
	}
	switch f {
	case ok:
		c.state = chunkDone
		return len(h.buf) - had, ok
	case needMore:
		return len(c.block) - had, ok
	default:
		return 0, f
	}
}
