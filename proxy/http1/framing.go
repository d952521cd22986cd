package http1

import (
	"bytes"
	"math"
)

// frameRequest decides the framing of a request's body (RFC 9112, 6.3).
func (h *Head) frameRequest() fault {
	chunked, length, f := h.readFraming()
	if f != ok {
		return f
	}
	switch {
	case !chunked && length <= 0:
		h.Body = Body{}
	case h.Method == CONNECT || h.Method == TRACE: // RFC 9110, 9.3.6 and 9.3.8: no content
		return faultBodyNotAllowed
	case chunked:
		h.Body = Body{Kind: BodyChunked}
	default:
		h.Body = Body{Kind: BodyLength, Length: length}
	}
	return ok
}

// frameResponse decides the framing of a response's body, which depends on the request too (RFC 9112, 6.3).
func (h *Head) frameResponse(req Exchange) fault {
	chunked, length, f := h.readFraming()
	if f != ok {
		return f
	}
	bodyless := h.Status < 200 || h.Status == 204
	switch {
	case bodyless && (chunked || length > 0): // RFC 9112, 6.1 and RFC 9110, 8.6: neither field may be sent; whoever does has a body in mind
		return faultBodyNotAllowed
	case h.Status == 101:
		h.drop(ContentLength)
		h.Body = Body{Kind: BodyTunnel}
	case bodyless:
		h.drop(ContentLength)
	case req.Method == CONNECT && h.Status < 300: // RFC 9110, 9.3.6: framing in a 2xx to CONNECT is ignored
		h.drop(ContentLength)
		h.Body = Body{Kind: BodyTunnel}
	case req.Method == HEAD || h.Status == 304: // the fields describe a body that is not sent
		h.Body = Body{}
	case chunked:
		h.Body = Body{Kind: BodyChunked}
	case length > 0:
		h.Body = Body{Kind: BodyLength, Length: length}
	case length < 0:
		h.Body = Body{Kind: BodyUntilClose}
	}
	return ok
}

// readFraming judges Content-Length and Transfer-Encoding themselves; length is -1 when there is none.
func (h *Head) readFraming() (chunked bool, length int64, f fault) {
	hasLength, hasEncoding := h.Has(ContentLength), h.Has(TransferEncoding)
	switch {
	case !hasLength && !hasEncoding:
		return false, -1, ok
	case hasLength && hasEncoding:
		return false, 0, faultLengthAndEncoding
	case hasEncoding && h.twice.has(TransferEncoding):
		return false, 0, faultTransferEncodingDuplicate
	case hasEncoding && h.Version == HTTP10:
		return false, 0, faultTransferEncodingHTTP10
	case hasEncoding:
		return true, -1, judgeTransferEncoding(h.Get(TransferEncoding))
	case h.twice.has(ContentLength):
		return false, 0, faultContentLengthDuplicate
	}
	length, f = parseLength(h.Get(ContentLength))
	return false, length, f
}

// judgeTransferEncoding accepts exactly "chunked". A well-formed list of other codings that ends in chunked could be framed but not understood: that is 501
// (RFC 9112, 6.1); anything else cannot be framed: 400.
func judgeTransferEncoding(v []byte) fault {
	if EqualFold(v, "chunked") {
		return ok
	}
	codings, chunked, last := 0, 0, false
	for rest := v; rest != nil; codings++ {
		var coding []byte
		if coding, rest = element(rest); !isToken(coding) {
			return faultTransferEncodingInvalid
		}
		if last = EqualFold(coding, "chunked"); last {
			chunked++
		}
	}
	if codings > 1 && chunked == 1 && last {
		return faultTransferEncodingUnsupported
	}
	return faultTransferEncodingInvalid
}

// parseLength reads a canonical decimal below 2^63.
func parseLength(s []byte) (int64, fault) {
	if len(s) == 0 || len(s) > 19 || len(s) > 1 && s[0] == '0' {
		return 0, faultContentLengthInvalid
	}
	var n uint64
	for _, c := range s {
		if c-'0' > 9 {
			return 0, faultContentLengthInvalid
		}
		n = n*10 + uint64(c-'0')
	}
	if n > math.MaxInt64 {
		return 0, faultContentLengthInvalid
	}
	return int64(n), ok
}

// connectionOptions are those that the codec acts on.
type connectionOptions struct{ close, keepAlive, upgrade bool }

// readConnection reads all Connection lines, and marks the fields that they name as ending here (RFC 9110, 7.6.1). Known names cannot be named away: what routes,
// authorises, traces or frames a request is not the sender's to remove from it (CVE-2022-31813).
func (h *Head) readConnection() (o connectionOptions, f fault) {
	count := 0
	for i := h.Index(Connection); i >= 0; i = h.Next(i) {
		for rest := h.Value(i); rest != nil; {
			var option []byte
			if option, rest = element(rest); len(option) == 0 {
				continue // RFC 9110, 5.6.1.2: empty elements are ignored
			}
			if count++; count > maxConnectionOptions || !isToken(option) {
				return o, faultConnectionInvalid
			}
			switch {
			case EqualFold(option, "close"):
				o.close = true
			case EqualFold(option, "keep-alive"):
				o.keepAlive = true
			case EqualFold(option, "upgrade"):
				o.upgrade = true
			default:
				h.dropNamed(option)
			}
		}
	}
	return o, ok
}

func (h *Head) dropNamed(option []byte) {
	if recognise(option) != Unknown {
		return
	}
	for i := range h.fields {
		if f := &h.fields[i]; f.ID == Unknown && EqualFold(h.Name(i), option) {
			f.flags |= fieldDropped
		}
	}
}

// acceptsTrailers reports whether TE lists trailers (RFC 9110, 10.1.4).
func (h *Head) acceptsTrailers() bool {
	for i := h.Index(TE); i >= 0; i = h.Next(i) {
		for rest := h.Value(i); rest != nil; {
			var coding []byte
			if coding, rest = element(rest); EqualFold(coding, "trailers") {
				return true
			}
		}
	}
	return false
}

// offersUpgrade reports whether there is one Upgrade line with a list of protocols (RFC 9110, 7.8). One that lists h2c is none: it would open a second HTTP
// connection that nobody here reads.
func (h *Head) offersUpgrade() bool {
	if !h.Has(Upgrade) || h.twice.has(Upgrade) {
		return false
	}
	for rest := h.Get(Upgrade); rest != nil; {
		var protocol []byte
		protocol, rest = element(rest)
		name, version, hasVersion := bytes.Cut(protocol, []byte("/"))
		if !isToken(name) || hasVersion && !isToken(version) || EqualFold(name, "h2c") {
			return false
		}
	}
	return true
}
