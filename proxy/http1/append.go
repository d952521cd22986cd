package http1

import "strconv"

// LastChunk ends a chunked body without trailers; Continue is the interim response that lets a client send its body.
const (
	LastChunk = "0\r\n\r\n"
	Continue  = "HTTP/1.1 100 Continue\r\n\r\n"
)

// noEdits is what a nil *Edits means.
var noEdits = new(Edits)

// AppendRequest appends the head of a request as it goes to the next hop; e may be nil. The request line is written anew, in origin-form (authority-form with
// CONNECT) with the normalised path; header lines are copied as they came and in their order, but without those that end here (RFC 9110, 7.6.1) or that e deletes, and
// with untidy whitespace around the value made one space; then come the additions and the framing. Lines that Connection names are left out only
// when their name is not a known one. A request without any authority (HTTP/1.0) gets an empty Host, unless e sets one, as it should.
func AppendRequest(dst []byte, h *Head, e *Edits) []byte {
	if e == nil {
		e = noEdits
	}
	dst = append(dst, h.MethodName()...)
	dst = append(dst, ' ')
	dst = appendTarget(dst, h, e)
	dst = append(dst, " HTTP/1.1\r\n"...)
	skip := knownSet{}
	switch {
	case e.hasHost:
		dst = appendField(dst, "Host", e.HostOf(h))
		skip.add(Host)
	case !h.Has(Host): // HTTP/1.0
		dst = appendField(dst, "Host", h.Host())
	}
	dst = appendFields(dst, h, e, skip)
	return appendEnd(dst, h, e, Request)
}

func appendTarget(dst []byte, h *Head, e *Edits) []byte {
	switch {
	case h.Form == AuthorityForm:
		return append(dst, h.Target()...)
	case e.hasPath:
		dst = append(dst, e.buf[e.path.off:e.path.end]...)
	default:
		dst = append(dst, h.Path()...)
	}
	if h.hasQuery {
		dst = append(dst, '?')
		dst = append(dst, h.Query()...)
	}
	return dst
}

// AppendResponse appends the head of a response as it goes to the next hop; e may be nil. The rules are those of AppendRequest. A body that ends with the
// connection is announced with "Connection: close"; a 101 needs Edits.KeepUpgrade to stay one. What an HTTP/1.0 client can read is for the caller to see to, with
// SetBody and Close.
func AppendResponse(dst []byte, h *Head, e *Edits) []byte {
	if e == nil {
		e = noEdits
	}
	dst = appendStatusLine(dst, h.Status, h.Reason())
	dst = appendFields(dst, h, e, knownSet{})
	return appendEnd(dst, h, e, Response)
}

// appendFields copies the lines that go on, each run of untouched ones at once.
func appendFields(dst []byte, h *Head, e *Edits, skip knownSet) []byte {
	if e.hasBody {
		skip.add(ContentLength)
	}
	plain := e.deleted == knownSet{} && len(e.names) == 0 && len(e.indexes) == 0
	run := h.fieldStart
	for i := range h.fields {
		f := &h.fields[i]
		gone := f.flags&fieldDropped != 0 || skip.has(f.ID) || !plain && e.deletes(h, i)
		if !gone && f.flags&fieldUntidy == 0 {
			continue
		}
		dst = append(dst, h.buf[run:f.NameOff]...)
		if !gone {
			dst = appendField(dst, h.Name(i), h.Value(i))
		}
		run = h.endOf(i)
	}
	return append(dst, h.buf[run:h.fieldEnd]...)
}

// endOf gives the first byte behind header line i.
func (h *Head) endOf(i int) int {
	if i+1 < len(h.fields) {
		return int(h.fields[i+1].NameOff)
	}
	return h.fieldEnd
}

// appendEnd writes the additions, the framing, what Connection has to say, and the empty line.
func appendEnd(dst []byte, h *Head, e *Edits, side Side) []byte {
	for i := range e.added {
		if a := &e.added[i]; !a.dead {
			dst = append(dst, e.buf[a.line.off:a.line.end]...)
		}
	}
	body := h.Body
	if e.hasBody {
		body = e.body
		dst = appendNewLength(dst, body, h.Status, side)
	}
	if body.Kind == BodyChunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case h.Upgrade && e.KeepUpgrade:
		dst = append(dst, "Connection: Upgrade\r\n"...)
		dst = appendField(dst, "Upgrade", h.Get(Upgrade))
	case e.Close || body.Kind == BodyUntilClose:
		dst = append(dst, "Connection: close\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// appendNewLength writes the Content-Length of a body that replaces another one. An empty body is announced where it is not the default.
func appendNewLength(dst []byte, b Body, status int, side Side) []byte {
	mayHave := side == Request || status >= 200 && status != 204
	if b.Kind == BodyLength || b.Kind == BodyNone && side == Response && mayHave {
		dst = appendLength(dst, b.Length)
	}
	return dst
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

func appendField[N, V string | []byte](dst []byte, name N, value V) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

func appendStatusLine[R string | []byte](dst []byte, status int, reason R) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reason...)
	return append(dst, "\r\n"...)
}

// AppendChunkSize appends the line that begins a chunk of n bytes, n > 0; CRLF must follow the data. LastChunk ends the body.
func AppendChunkSize(dst []byte, n int) []byte {
	dst = strconv.AppendInt(dst, int64(n), 16)
	return append(dst, "\r\n"...)
}
