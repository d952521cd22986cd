package desync

import (
	"fmt"
	"strings"

	"golang.org/x/net/http2"
)

// answers2 are answers of HTTP/2 that would be something else, or two, if they were written down as HTTP/1.1 without judgement.
func answers2() []said2 {
	var list []said2
	ok := []string{":status", "200"}
	with := func(more ...string) []string { return append([]string{":status", "200"}, more...) }
	fine := func(name, rule string, fields []string, data ...string) {
		list = append(list, said2{name: name, rule: rule, status: 200, body: strings.Join(data, ""), say: says(fields, data...)})
	}
	bad := func(name, rule string, fields []string) {
		list = append(list, said2{name: name, rule: rule, status: 502, say: says(fields)})
	}
	cut := func(name, rule string, fields []string, data ...string) {
		list = append(list, said2{name: name, rule: rule, say: says(fields, data...)})
	}
	other := func(name, rule, method string, status int, body string, say func(*speaker, uint32)) {
		list = append(list, said2{name: name, rule: rule, method: method, status: status, body: body, say: say})
	}
	hidden := "\r\n\r\n" + leaked
	const value = "9113 8.2.1: CR, LF and NUL must not appear in a value"
	bad("crlf-in-value", value, with("x", "y"+hidden))
	bad("lf-in-value", value, with("x", "y\nset-cookie: a=b"))
	bad("cr-in-value", value, with("x", "y\rset-cookie: a=b"))
	bad("nul-in-value", value, with("x", "y\x00"))
	bad("space-at-end-of-value", "9113 8.2.1", with("x", "y "))
	const name = "9113 8.2.1: names"
	bad("crlf-in-name", name, with("x: y\r\nset-cookie", "a=b"))
	bad("colon-in-name", name, with("x:y", "z"))
	bad("space-in-name", name, with("x y", "z"))
	bad("capital-in-name", name, with("X", "y"))
	bad("empty-name", name, with("", "y"))
	const hop = "9113 8.2.2: fields of the connection"
	bad("transfer-encoding", hop, with("transfer-encoding", "chunked"))
	bad("connection", hop, with("connection", "close"))
	bad("keep-alive", hop, with("keep-alive", "timeout=5"))
	bad("upgrade", hop, with("upgrade", "websocket"))
	const pseudo = "9113 8.3.2: exactly one :status, before all other fields"
	bad("no-status", pseudo, []string{"x", "y"})
	bad("status-twice", pseudo, []string{":status", "200", ":status", "404"})
	bad("status-behind", pseudo, []string{"x", "y", ":status", "200"})
	bad("path", pseudo, with(":path", "/smuggled"))
	bad("pseudo-unknown", pseudo, with(":x", "y"))
	for label, status := range map[string]string{"phrase": "200 OK", "two": "20", "four": "2000", "099": "099", "600": "600", "letters": "2xx", "sign": "+20", "empty": "", "crlf": "200 OK" + hidden} {
		bad("status-"+label, "9110 15: three digits, 100 to 599", []string{":status", status})
	}
	bad("101", "9113 8.6: there is no 101", []string{":status", "101"})
	const claims = "9113 8.1.1: content-length is not the sum of the DATA frames"
	cut("length-too-short", claims, with("content-length", "2"), "ok"+leaked)
	cut("length-too-short-later", claims, with("content-length", "2"), "ok", leaked)
	cut("length-too-long", claims, with("content-length", "50"), "ok")
	bad("length-without-body", claims, with("content-length", "50"))
	cut("length-zero", claims, with("content-length", "0"), leaked)
	for label, v := range map[string]string{"plus": "+2", "list": "2, 2", "hex": "0x2", "leading-zero": "02", "wrap": "18446744073709551618", "empty": ""} {
		bad("length-"+label, "9110 8.6: 1*DIGIT", with("content-length", v))
	}
	bad("length-twice", "9112 6.3", with("content-length", "2", "content-length", "2"))
	fine("no-body", "9113 8.1", ok)
	fine("body", "9113 8.1", ok, "ok")
	fine("length", "9113 8.1.1", with("content-length", "2"), "o", "k")
	fine("empty-end", "9113 6.1", with("content-length", "2"), "ok", "")
	fine("answer-as-body", "9113 8.1: DATA is opaque", ok, leaked, leaked)
	fine("answer-as-body-with-length", "9113 8.1", with("content-length", fmt.Sprint(len(leaked))), leaked)
	fine("chunks-as-body", "9113 8.1: there are no chunks", ok, "2\r\nok\r\n0\r\n\r\n"+leaked)
	fine("long", "9113 6.1", ok, strings.Repeat("x", 16384), leaked)
	const none = "9110 6.4.1: no content"
	head := func(fields ...string) func(*speaker, uint32) { return says(fields) }
	other("head", none, "HEAD", 200, "", head(":status", "200", "content-length", "50"))
	other("head-with-body", none, "HEAD", 0, "", says(with("content-length", "59"), leaked))
	other("204", none, "", 204, "", head(":status", "204"))
	other("204-with-body", none, "", 0, "", says([]string{":status", "204"}, leaked))
	other("304", none, "", 304, "", head(":status", "304", "content-length", "50"))
	other("304-with-body", none, "", 0, "", says([]string{":status", "304", "content-length", "59"}, leaked))
	const interim = "9113 8.1: interim answers end with their head, and not the stream"
	other("interim", interim, "", 200, "ok", func(o *speaker, id uint32) {
		o.head(id, false, ":status", "103", "link", "</a>")
		o.head(id, false, ":status", "100")
		says(ok, "ok")(o, id)
	})
	other("interim-ends", interim, "", 502, "", head(":status", "103"))
	other("interim-with-length", interim, "", 502, "", func(o *speaker, id uint32) {
		o.head(id, false, ":status", "100", "content-length", "2")
		says(ok, "ok")(o, id)
	})
	other("interim-with-body", interim, "", 502, "", func(o *speaker, id uint32) {
		o.head(id, false, ":status", "100")
		o.data(id, leaked, false)
		says(ok, "ok")(o, id)
	})
	other("body-before-head", "9113 8.1", "", 502, "", func(o *speaker, id uint32) { o.data(id, leaked, true) })
	other("two-heads", "9113 8.1: one final head", "", 0, "", func(o *speaker, id uint32) {
		o.head(id, false, ok...)
		o.head(id, false, ":status", "404")
		o.data(id, leaked, true)
	})
	trailers := func(fields ...string) func(*speaker, uint32) {
		return func(o *speaker, id uint32) {
			o.head(id, false, ok...)
			o.data(id, "ok", false)
			o.head(id, true, fields...)
		}
	}
	other("trailers", "9113 8.1", "", 200, "ok", trailers("x-end", leaked[:15]))
	other("trailer-length", "9110 6.5.1: framing is left out", "", 200, "ok", trailers("content-length", "50"))
	other("trailer-status", "9113 8.1: no pseudo-fields", "", 0, "", trailers(":status", "404"))
	other("trailer-encoding", hop, "", 0, "", trailers("transfer-encoding", "chunked"))
	other("trailer-crlf", value, "", 0, "", trailers("x-end", "y"+hidden))
	other("trailer-capital", name, "", 0, "", trailers("X-End", "y"))
	other("trailer-too-soon", claims, "", 0, "", func(o *speaker, id uint32) {
		o.head(id, false, with("content-length", "50")...)
		o.data(id, "ok", false)
		o.head(id, true, "x-end", "y")
	})
	other("reset", "9113 8.1: an answer that is reset is incomplete", "", 0, "", func(o *speaker, id uint32) {
		o.head(id, false, ok...)
		o.data(id, "ok", false)
		_ = o.framer.WriteRSTStream(id, http2.ErrCodeInternal)
	})
	other("reset-no-error", "9113 8.1: NO_ERROR does not make it whole", "", 0, "", func(o *speaker, id uint32) {
		o.head(id, false, with("content-length", "50")...)
		o.data(id, "ok", false)
		_ = o.framer.WriteRSTStream(id, http2.ErrCodeNo)
	})
	return append(list, answersThatEndTheConnection()...)
}

// says sends a head and data, the last of which ends the stream.
func says(fields []string, data ...string) func(*speaker, uint32) {
	return func(o *speaker, id uint32) {
		o.head(id, len(data) == 0, fields...)
		for i, s := range data {
			o.data(id, s, i == len(data)-1)
		}
	}
}

// answersThatEndTheConnection are whole answers with frames behind that belong to no exchange.
func answersThatEndTheConnection() []said2 {
	okay := says([]string{":status", "200"}, "ok")
	var list []said2
	behind := func(name, rule string, then func(o *speaker, id uint32)) {
		list = append(list, said2{name: name, rule: rule, status: 200, body: "ok", dies: true, say: func(o *speaker, id uint32) {
			okay(o, id)
			then(o, id)
		}})
	}
	behind("head-of-next", "9113 5.1: HEADERS on an idle stream", func(o *speaker, id uint32) { o.head(id+2, true, ":status", "200", "x-saw", "leaked") })
	behind("body-of-next", "9113 5.1: DATA on an idle stream", func(o *speaker, id uint32) { o.data(id+2, leaked, true) })
	behind("pushed", "9113 8.4: push was not asked for", func(o *speaker, id uint32) {
		_ = o.framer.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true, BlockFragment: o.encode(request2("GET", "/probe"))})
	})
	behind("unasked", "9113 5.1.1: a server's own stream", func(o *speaker, _ uint32) { o.head(2, true, ":status", "200", "x-saw", "leaked") })
	behind("block-without-end", "9113 4.3: a block is not interrupted", func(o *speaker, id uint32) {
		_ = o.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id + 2, BlockFragment: []byte{0x88}})
		o.data(id+2, leaked, true)
	})
	behind("hpack", "7541 2.3.3: an index beyond the tables", func(o *speaker, id uint32) {
		_ = o.framer.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id+2, []byte("\xff\xff\xff\x7f"))
	})
	behind("answer-of-http1", "9113 4.1: bytes that are no frames", func(o *speaker, id uint32) {
		_ = o.framer.WriteRawFrame(http2.FrameType('H'), 0, 'T'<<8|'P', []byte(leaked))
	})
	list[len(list)-1].dies = false // a frame of an unknown type is ignored
	return list
}
