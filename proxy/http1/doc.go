// Package http1 carries HTTP/1.1 for the proxy: a strict codec after RFC 9110 and RFC 9112 that judges every message once, and allocates nothing once warm.
//
// A header block stays the bytes that came from the wire, plus an index of them (Head): nothing is copied into maps or strings, and what no one edits is
// forwarded verbatim. ParseRequest and ParseResponse fill a Head from a growing buffer and decide the framing of the body (Head.Body) once; BodyScanner then says
// which bytes of each window belong to the message, so that bodies pass through uncopied; AppendRequest and AppendResponse write the head for the
// next hop. What the package accepts has one meaning for every recipient; what could have two is refused with a *ProtocolError.
//
// The life of one exchange:
//
//	n, err := http1.ParseRequest(in, &req, lim)           // ErrNeedMore: read more into the same buffer and call again
//	body.Reset(req.Body, http1.Request, lim)
//	edits.Reset(); edits.Set("x-request-id", id)
//	out = http1.AppendRequest(out[:0], &req, &edits)
//	fwd, drop, err := body.Scan(in[n:])                   // forward fwd bytes, drop drop bytes, until body.Done()
//	n, err = http1.ParseResponse(up, &resp, http1.ExchangeOf(&req), lim)
//	out = http1.AppendResponse(out[:0], &resp, &edits)
//
// # What is stricter than the RFCs, on purpose
//
//   - Only CRLF ends a line; a bare CR, a bare LF, NUL and other controls (HTAB inside a value excepted) are refused everywhere; obs-fold too.
//   - Content-Length occurs once and is a canonical decimal: repeated equal values, lists and leading zeros are refused.
//   - Transfer-Encoding occurs once and is exactly "chunked".
//   - HTTP versions are 1.0 and 1.1; any other well-formed version is answered 505, minor versions above 1 included.
//   - A host is a DNS-like name or an IP literal: no sub-delimiters, no percent-encoding, no userinfo; a port is 1 to 65535 without leading zeros.
//     The authority of an absolute-form target must equal Host (RFC 9112, 3.2.2 would replace Host).
//   - A name that is a known one (see Known) with underscores for dashes is refused: recipients that fold the two would read a header that nobody here judged.
//   - Chunk extensions are checked and dropped, never forwarded; whitespace directly after a chunk size is refused.
//   - A trailer that is a known header is refused, except those of gRPC.
//   - A connection with an HTTP/1.0 client is never kept (RFC 9112, 9.3 asks that of proxies).
//
// # What is laxer, on purpose
//
//   - One empty line before a request line is skipped (RFC 9112, 2.2).
//   - A target may hold any visible ASCII except '#', since browsers send [ ] and | unescaped; in a path the backslash is refused.
//   - A status line may end after the status code; it is written back with the space that the grammar wants.
//   - A 204 may carry "Content-Length: 0"; it is dropped.
package http1
