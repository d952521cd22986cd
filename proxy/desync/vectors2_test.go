package desync

import (
	"fmt"
	"strings"

	"golang.org/x/net/http2"
)

// requests2 are requests of HTTP/2 that would be something else, or two, if they were written down as HTTP/1.1 without judgement; and odd ones that have one meaning.
func requests2() []sent2 {
	var list []sent2
	with := func(more ...string) []string { return request2("GET", "/one", more...) }
	body := func(more ...string) []string { return request2("POST", "/one", more...) }
	reset := func(name, rule string, fields []string) {
		list = append(list, sent2{name: name, rule: rule, fields: fields})
	}
	refused := func(name, rule string, status int, reason string, fields []string) {
		list = append(list, sent2{name: name, rule: rule, fields: fields, status: status, reason: reason})
	}
	seen := func(name, rule, seen string, fields []string, data ...string) {
		list = append(list, sent2{name: name, rule: rule, fields: fields, data: data, seen: seen})
	}
	const value = "9113 8.2.1: CR, LF and NUL must not appear in a value"
	hidden := "\r\n\r\n" + get("/smuggled")
	reset("crlf-in-value", value, with("x", "y"+hidden))
	reset("lf-in-value", value, with("x", "y\nX-Evil: yes"))
	reset("cr-in-value", value, with("x", "y\rX-Evil: yes"))
	reset("nul-in-value", value, with("x", "y\x00"))
	reset("del-in-value", "9110 5.5: other controls", with("x", "y\x7f"))
	reset("leading-space-in-value", "9113 8.2.1: no whitespace at the ends", with("x", " y"))
	reset("trailing-tab-in-value", "9113 8.2.1", with("x", "y\t"))
	const name = "9113 8.2.1: a name must not contain characters in 0x00-0x20, 0x41-0x5a, or 0x7f-0xff, nor a colon but a leading one"
	reset("crlf-in-name", name, with("x: y\r\nx-evil", "yes"))
	reset("lf-in-name", name, with("x\n", "y"))
	reset("nul-in-name", name, with("x\x00", "y"))
	reset("space-in-name", name, with("x y", "z"))
	reset("colon-in-name", name, with("transfer-encoding: chunked\r\nx", "y"))
	reset("colon-at-end-of-name", name, with("x:", "y"))
	reset("capital-in-name", name, with("X", "y"))
	reset("capital-transfer-encoding", name, body("Transfer-Encoding", "chunked"))
	reset("non-ascii-in-name", name, with("x\xe9", "y"))
	reset("empty-name", "9110 5.1: token", with("", "y"))
	reset("request-line-as-name", name, with("get /smuggled http/1.1", "y"))
	const hop = "9113 8.2.2: fields of the connection make a message malformed"
	reset("transfer-encoding", hop, body("transfer-encoding", "chunked"))
	reset("transfer-encoding-identity", hop, body("transfer-encoding", "identity"))
	reset("transfer-encoding-with-length", hop, body("transfer-encoding", "chunked", "content-length", "5"))
	reset("connection-close", hop, with("connection", "close"))
	reset("connection-names", hop, with("connection", "x-token"))
	reset("keep-alive", hop, with("keep-alive", "timeout=5"))
	reset("proxy-connection", hop, with("proxy-connection", "keep-alive"))
	reset("upgrade", hop, with("upgrade", "websocket"))
	reset("upgrade-h2c", hop, with("upgrade", "h2c", "http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"))
	reset("te-chunked", "9113 8.2.2: te has no value but trailers", with("te", "chunked"))
	reset("te-list", "9113 8.2.2", with("te", "trailers, chunked"))
	seen("te-trailers", "9113 8.2.2", "GET /one", with("te", "trailers"))
	seen("http2-settings", "9113 3.1: of no use, and ends here", "GET /one", with("http2-settings", "AAMAAABk"))
	const pseudo = "9113 8.3: undefined, repeated or misplaced pseudo-fields are malformed"
	reset("pseudo-unknown", pseudo, with(":x", "y"))
	head := func(f ...string) []string { return f }
	reset("pseudo-unknown-first", pseudo, append(head(":x", "y"), with()...))
	reset("pseudo-behind", pseudo, head(":method", "GET", ":scheme", "http", ":authority", "a", "x", "y", ":path", "/one"))
	reset("path-twice", pseudo, append(head(":path", "/smuggled"), with()...))
	reset("method-twice", pseudo, append(head(":method", "POST"), with()...))
	reset("authority-twice", pseudo, append(head(":authority", "b"), with()...))
	reset("scheme-twice", pseudo, append(head(":scheme", "http"), with()...))
	reset("status-in-request", pseudo, append(head(":status", "200"), with()...))
	reset("no-method", "9113 8.3.1: mandatory", head(":scheme", "http", ":authority", "a", ":path", "/one"))
	reset("no-path", "9113 8.3.1", head(":method", "GET", ":scheme", "http", ":authority", "a"))
	reset("no-scheme", "9113 8.3.1", head(":method", "GET", ":authority", "a", ":path", "/one"))
	reset("no-host", "9112 3.2", head(":method", "GET", ":scheme", "http", ":path", "/one"))
	reset("empty-path", "9113 8.3.1: must not be empty", request2("GET", ""))
	reset("space-in-path", "9113 8.3.1, 9112 3.2: it would end the target", request2("GET", "/one HTTP/1.1"))
	reset("crlf-in-path", value, request2("GET", "/one HTTP/1.1\r\nHost: a"+hidden))
	reset("tab-in-path", "9112 3.2", request2("GET", "/one\tx"))
	reset("nul-in-path", value, request2("GET", "/one\x00"))
	reset("non-ascii-path", "3986 2", request2("GET", "/\xc3\xa9"))
	reset("path-without-slash", "9113 8.3.1", request2("GET", "one"))
	reset("absolute-path", "9113 8.3.1: path and query only", request2("GET", "http://b/smuggled"))
	reset("asterisk-get", "9112 3.2.4", request2("GET", "*"))
	seen("asterisk-options", "9113 8.3.1: * for OPTIONS", "OPTIONS *", request2("OPTIONS", "*"))
	seen("double-slash", "9112 3.2.1: it is a path and no authority", "GET //b/one", request2("GET", "//b/one"))
	seen("encoded-crlf", "3986 2.1", "GET /one%0D%0Ax", request2("GET", "/one%0D%0Ax"))
	refused("fragment", "9112 3.2: a target has no fragment", 400, "fragment", request2("GET", "/one#x"))
	refused("encoded-nul", "no file is named by NUL", 400, "path_nul", request2("GET", "/one%00"))
	refused("backslash", "3986 3.3", 400, "path_backslash", request2("GET", `/one\..\x`))
	const token = "9110 9.1: method = token"
	reset("space-in-method", token, request2("GET /smuggled HTTP/1.1", "/one"))
	reset("crlf-in-method", token, request2("GET / HTTP/1.1\r\nHost: a"+hidden+"POST", "/one"))
	reset("colon-in-method", token, request2("GET:", "/one"))
	reset("empty-method", token, request2("", "/one"))
	reset("non-ascii-method", token, request2("G\xc9T", "/one"))
	refused("method-too-long", "9110 15.6.2: 501", 501, "method_too_long", request2(strings.Repeat("M", 33), "/one"))
	seen("method-token", token, "BREW /one", request2("BREW", "/one"))
	refused("connect", "9113 8.5: a tunnel nobody offers", 405, "connect_not_supported", head(":method", "CONNECT", ":authority", "a:80"))
	reset("connect-with-path", "9113 8.5: :scheme and :path must be omitted", head(":method", "CONNECT", ":scheme", "http", ":authority", "a:80", ":path", "/one"))
	reset("protocol-unknown", "8441 4: of no protocol that we know", head(":method", "CONNECT", ":protocol", "foo", ":scheme", "http", ":authority", "a", ":path", "/one"))
	reset("protocol-on-get", "8441 4: with CONNECT only", with(":protocol", "websocket"))
	host := func(authority string) []string {
		return head(":method", "GET", ":scheme", "http", ":authority", authority, ":path", "/one")
	}
	refused("authority-userinfo", "9113 8.3.1: no userinfo", 400, "host_invalid", host("u@a"))
	refused("authority-path", "3986 3.2", 400, "host_invalid", host("a/smuggled"))
	refused("authority-list", "9112 3.2", 400, "host_invalid", host("a,b"))
	refused("authority-port", "3986 3.2.3", 400, "host_invalid", host("a:8o"))
	reset("authority-space", "9112 3.2", host("a b"))
	reset("authority-crlf", value, host("a"+hidden))
	reset("authority-empty", "9113 8.3.1: http has a mandatory authority", host(""))
	reset("host-differs", "9113 8.3.1: Host differs from :authority", with("host", "b"))
	reset("host-port-differs", "9113 8.3.1", with("host", "a:80"))
	reset("host-twice", "9112 3.2", with("host", "a", "host", "a"))
	reset("host-list", "9112 3.2", with("host", "a, b"))
	seen("host-agrees", "9113 8.3.1", "GET /one", with("host", "a"))
	seen("host-alone", "9113 8.3.1: from HTTP/1.1", "GET /one", head(":method", "GET", ":scheme", "http", ":path", "/one", "host", "a"))
	reset("scheme-target", "9113 8.3.1: a scheme that holds a target", head(":method", "GET", ":scheme", "http://b/smuggled?", ":authority", "a", ":path", "/one"))
	reset("scheme-other", "9110 4.2", head(":method", "GET", ":scheme", "ftp", ":authority", "a", ":path", "/one"))
	refused("underscore-length", "CGI reads _ and - alike", 400, "header_underscore", with("content_length", "5"))
	refused("underscore-encoding", "CGI reads _ and - alike", 400, "header_underscore", with("transfer_encoding", "chunked"))
	refused("expect-other", "9110 10.1.1", 417, "expectation_unsupported", body("expect", "y 100-continue", "content-length", "0"))
	return append(list, bodies2()...)
}

// bodies2 are bodies of HTTP/2, whose ends are frames and whose lengths are claims.
func bodies2() []sent2 {
	var list []sent2
	body := func(more ...string) []string { return request2("POST", "/one", more...) }
	seen := func(name, rule, method, payload string, fields []string, data ...string) {
		list = append(list, sent2{name: name, rule: rule, fields: fields, data: data, seen: message{method: method, target: "/one", body: payload}.String()})
	}
	cut := func(name, rule string, fields []string, data ...string) {
		list = append(list, sent2{name: name, rule: rule, fields: fields, data: data, inBody: true})
	}
	const claims = "9113 8.1.1: content-length is not the sum of the DATA frames"
	cut("length-too-short", claims, body("content-length", "5"), "abcde"+evil)
	cut("length-too-short-later", claims, body("content-length", "5"), "abcde", evil)
	cut("length-too-long", claims, body("content-length", "50"), "abcde")
	cut("length-zero", claims, body("content-length", "0"), evil)
	cut("length-zero-get", claims, request2("GET", "/one", "content-length", "0"), evil)
	cut("length-and-end", claims, body("content-length", "5"))
	for name, value := range map[string]string{"plus": "+5", "minus": "-5", "leading-zero": "05", "hex": "0x5", "list": "5, 5", "empty": "", "space": "5 0", "wrap": "18446744073709551621", "letters": "5x"} {
		cut("length-"+name, "9110 8.6: 1*DIGIT", body("content-length", value), "abcde")
	}
	cut("length-twice", "9112 6.3", body("content-length", "5", "content-length", "5"), "abcde")
	cut("length-twice-different", "9112 6.3", body("content-length", "5", "content-length", "44"), "abcde")
	hidden := get("/smuggled")
	length := fmt.Sprint(len(hidden))
	seen("request-as-body", "9113 8.1: DATA is opaque; H2.0", "POST", hidden, body(), hidden)
	seen("request-as-body-with-length", "9113 8.1", "POST", hidden, body("content-length", length), hidden)
	seen("request-as-body-of-get", "9113 8.1: H2.0 by GET", "GET", hidden, request2("GET", "/one"), hidden)
	seen("request-as-body-of-head", "9113 8.1", "HEAD", hidden, request2("HEAD", "/one"), hidden)
	seen("request-as-body-of-delete", "9113 8.1", "DELETE", hidden, request2("DELETE", "/one", "content-length", length), hidden)
	seen("last-chunk-as-body", "9113 8.1: there are no chunks", "POST", "0\r\n\r\n"+hidden, body(), "0\r\n\r\n"+hidden)
	seen("chunk-as-body", "9113 8.1", "POST", fiveChunked+hidden, body(), fiveChunked, hidden)
	seen("many-frames", "9113 6.1", "POST", "abcde", body("content-length", "5"), "a", "b", "c", "d", "e")
	seen("empty-frames", "9113 6.1", "POST", "ab", body(), "", "a", "", "b", "")
	seen("empty-end", "9113 6.1: END_STREAM on an empty frame", "POST", "abcde", body("content-length", "5"), "abcde", "")
	seen("no-body", "9113 8.1", "POST", "", body())
	seen("empty-body", "9113 8.1", "POST", "", body(), "")
	seen("length-of-nothing", "9113 8.1.1", "POST", "", body("content-length", "0"), "")
	seen("cookie-crumbs", "9113 8.2.3: joined", "GET", "", request2("GET", "/one", "cookie", "a=b", "cookie", "c=d"))
	for _, n := range []int{16383, 16384, 16385, 65535} {
		payload := strings.Repeat("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", n/40+1)[:n]
		var data []string
		for rest := payload; rest != ""; {
			k := min(len(rest), 16384)
			data = append(data, rest[:k])
			rest = rest[k:]
		}
		seen(fmt.Sprintf("length-of-%d", n), "9113 6.1", "POST", payload, body("content-length", fmt.Sprint(n)), data...)
		seen(fmt.Sprintf("body-of-%d", n), "9113 6.1", "POST", payload, body(), data...)
	}
	return append(list, trailers2()...)
}

// trailers2 are fields behind a body.
func trailers2() []sent2 {
	var list []sent2
	body := request2("POST", "/one")
	fine := func(name, rule string, trailers ...string) {
		list = append(list, sent2{name: "trailer-" + name, rule: rule, fields: body, data: []string{"abcde"}, trailers: trailers, seen: `POST /one "abcde"`})
	}
	bad := func(name, rule string, trailers ...string) {
		list = append(list, sent2{name: "trailer-" + name, rule: rule, fields: body, data: []string{"abcde"}, trailers: trailers, inBody: true})
	}
	fine("one", "9113 8.1", "x-end", "y")
	fine("request-as-value", "9110 6.5: a value is opaque", "x-end", "GET /smuggled HTTP/1.1")
	fine("host", "9110 6.5.1: left out", "authorization", "x")
	fine("length", "9110 6.5.1: framing is left out", "content-length", "50")
	bad("encoding", "9113 8.2.2", "transfer-encoding", "chunked")
	bad("connection", "9113 8.2.2", "connection", "close")
	bad("pseudo", "9113 8.1: no pseudo-fields in trailers", ":path", "/smuggled")
	bad("status", "9113 8.1", ":status", "200")
	bad("crlf", "9113 8.2.1", "x-end", "y\r\n\r\n"+get("/smuggled"))
	bad("lf-in-name", "9113 8.2.1", "x\n", "y")
	bad("capital", "9113 8.2.1", "X-End", "y")
	bad("two-hosts", "9112 3.2", "host", "a", "host", "b")
	list = append(list,
		sent2{name: "trailer-too-soon", rule: "9113 8.1.1: less than content-length", fields: request2("POST", "/one", "content-length", "9"), data: []string{"abcde"}, trailers: []string{"x", "y"}, inBody: true},
		sent2{name: "trailer-behind-length", rule: "9112 7.1.2: there is no place for them, unless chunked", fields: request2("POST", "/one", "content-length", "5"), data: []string{"abcde"}, trailers: []string{"x", "y"}, seen: `POST /one "abcde"`},
		sent2{name: "trailer-announced", rule: "9110 6.6.2: Trailer", fields: request2("POST", "/one", "content-length", "5", "trailer", "x"), data: []string{"abcde"}, trailers: []string{"x", "y"}, seen: `POST /one "abcde"`},
		sent2{name: "trailer-without-body", rule: "9113 8.1", fields: body, trailers: []string{"x", "y"}, seen: "POST /one"},
	)
	return list
}

// badFrames are frames whose streams or order could be taken for another request.
func badFrames() []frames {
	good := request2("GET", "/smuggled")
	raw := func(kind http2.FrameType, flags http2.Flags, payload string) func(*caller2) {
		return func(c *caller2) { _ = c.framer.WriteRawFrame(kind, flags, c.open(), []byte(payload)) }
	}
	begun := func(then func(c *caller2, id uint32)) func(*caller2) {
		return func(c *caller2) {
			id := c.open()
			block := c.encode(good)
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:3], EndStream: true})
			then(c, id)
		}
	}
	return []frames{
		{"data-on-0", "9113 6.1: DATA must be on a stream", http2.ErrCodeProtocol, func(c *caller2) { _ = c.framer.WriteRawFrame(http2.FrameData, 1, 0, []byte("x")) }},
		{"headers-on-0", "9113 6.2", http2.ErrCodeProtocol, func(c *caller2) {
			_ = c.framer.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 0, c.encode(good))
		}},
		{"headers-on-even", "9113 5.1.1: a client's streams are odd", http2.ErrCodeProtocol, func(c *caller2) { c.head(2, good, true) }},
		{"headers-on-older", "9113 5.1.1: numbers grow", http2.ErrCodeProtocol, func(c *caller2) {
			c.head(9, request2("GET", "/probe"), false)
			c.head(7, good, true)
		}},
		{"headers-on-ended", "9113 5.1: half-closed (remote)", http2.ErrCodeStreamClosed, func(c *caller2) { c.head(1, good, true) }},
		{"data-on-idle", "9113 5.1: idle", http2.ErrCodeProtocol, func(c *caller2) { c.data(c.open(), "x", true) }},
		{"data-on-ended", "9113 5.1: half-closed (remote)", http2.ErrCodeStreamClosed, func(c *caller2) { c.data(1, evil, true) }},
		{"continuation-alone", "9113 6.10", http2.ErrCodeProtocol, func(c *caller2) { _ = c.framer.WriteContinuation(c.open(), true, c.encode(good)) }},
		{"continuation-on-another", "9113 6.10: of the same stream", http2.ErrCodeProtocol, begun(func(c *caller2, id uint32) { _ = c.framer.WriteContinuation(id+2, true, c.encode(good)) })},
		{"data-in-block", "9113 4.3: a block is not interrupted", http2.ErrCodeProtocol, begun(func(c *caller2, id uint32) { c.data(id, "x", true) })},
		{"headers-in-block", "9113 4.3", http2.ErrCodeProtocol, begun(func(c *caller2, id uint32) { c.head(id+2, good, true) })},
		{"ping-in-block", "9113 4.3", http2.ErrCodeProtocol, begun(func(c *caller2, _ uint32) { _ = c.framer.WritePing(false, [8]byte{}) })},
		{"unknown-in-block", "9113 4.3: not even extensions", http2.ErrCodeProtocol, begun(func(c *caller2, id uint32) { _ = c.framer.WriteRawFrame(0xbb, 0, id, nil) })},
		{"hpack-index", "7541 2.3.3: an index beyond the tables", http2.ErrCodeCompression, raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, "\xff\xff\xff\x7f")},
		{"hpack-cut", "7541 5.2: a string longer than its block", http2.ErrCodeCompression, raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, "\x00\x05ab")},
		{"hpack-size", "7541 6.3: a table beyond SETTINGS_HEADER_TABLE_SIZE", http2.ErrCodeCompression, raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, "\x3f\xff\xff\x03")},
		{"push-promise", "9113 8.4: a client cannot push", http2.ErrCodeProtocol, raw(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, "\x00\x00\x00\x02\x82")},
		{"padding", "9113 6.1: padding as long as the payload", http2.ErrCodeProtocol, func(c *caller2) {
			id := c.open()
			c.head(id, request2("POST", "/one"), false)
			_ = c.framer.WriteRawFrame(http2.FrameData, http2.FlagDataPadded|http2.FlagDataEndStream, id, []byte("\x09abc"))
		}},
		{"settings-length", "9113 6.5: a multiple of six", http2.ErrCodeFrameSize, func(c *caller2) { _ = c.framer.WriteRawFrame(http2.FrameSettings, 0, 0, []byte("abc")) }},
		{"too-large", "9113 4.2: SETTINGS_MAX_FRAME_SIZE", http2.ErrCodeFrameSize, func(c *caller2) {
			id := c.open()
			c.head(id, request2("POST", "/one"), false)
			c.data(id, strings.Repeat("x", 1<<14+1), true)
		}},
	}
}
