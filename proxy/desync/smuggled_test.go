package desync

import "strings"

// evil is what an attacker wants an origin to see, and must never be seen.
var evil = get("/smuggled", "X-Evil: yes")

const fiveChunked = "5\r\nabcde\r\n0\r\n\r\n"

// smuggled are attempts to hide a request in another one: each comes behind a request that is carried, and with the hidden one behind it. The proxy refuses them and closes.
func smuggled() []sent {
	var list []sent
	add := func(name, rule, reason, text string) {
		list = append(list, sent{name: name, rule: rule, send: get("/first") + text + evil, seen: []string{"GET /first"}, status: 400, reason: reason})
	}
	bad := func(name, rule, reason string, l ...string) {
		add(name, rule, reason, post("/bad", l...)+fiveChunked)
	}
	// Two framings.
	add("cl.te", "9112 6.1: Content-Length with Transfer-Encoding ought to be handled as an error", "content_length_and_transfer_encoding", post("/bad", "Content-Length: 6", "Transfer-Encoding: chunked")+"0\r\n\r\nG")
	add("te.cl", "9112 6.1", "content_length_and_transfer_encoding", post("/bad", "Transfer-Encoding: chunked", "Content-Length: 4")+"5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n")
	add("te.0", "9112 6.1", "content_length_and_transfer_encoding", post("/bad", "Transfer-Encoding: chunked", "Content-Length: 0"))
	add("0.te", "9112 6.1", "content_length_and_transfer_encoding", post("/bad", "Content-Length: 0", "Transfer-Encoding: chunked")+"0\r\n\r\n")
	add("cl.0-get", "9112 6.3: two lengths", "content_length_duplicate", get("/bad", "Content-Length: 0", "Content-Length: 44"))
	add("cl.cl", "9112 6.3: different lengths are an unrecoverable error", "content_length_duplicate", post("/bad", "Content-Length: 5", "Content-Length: 0")+"abcde")
	add("cl.cl-list", "9112 6.3", "content_length_invalid", post("/bad", "Content-Length: 5, 0")+"abcde")
	add("cl-plus", "9110 8.6: 1*DIGIT", "content_length_invalid", post("/bad", "Content-Length: +5")+"abcde")
	add("cl-hex", "9110 8.6", "content_length_invalid", post("/bad", "Content-Length: 0x5")+"abcde")
	add("cl-wrap", "9110 8.6: prevent integer overflow", "content_length_invalid", post("/bad", "Content-Length: 18446744073709551621")+"abcde")
	add("cl-space", "9112 5.1: no whitespace before the colon", "space_before_colon", post("/bad", "Content-Length : 5")+"abcde")
	add("cl-fold", "9112 5.2", "obs_fold", post("/bad", "Content-Length:", " 5")+"abcde")
	add("cl-underscore", "CGI reads _ and - alike", "header_underscore", post("/bad", "Content_Length: 5")+"abcde")
	// Transfer-Encoding that one of two recipients does not read.
	bad("te-space", "9112 5.1", "space_before_colon", "Transfer-Encoding : chunked")
	bad("te-tab", "9112 5.1", "space_before_colon", "Transfer-Encoding\t: chunked")
	bad("te-fold", "9112 5.2", "obs_fold", "Transfer-Encoding:", " chunked")
	bad("te-fold-name", "9112 5.2", "obs_fold", "X: y", " Transfer-Encoding: chunked")
	bad("te-lf", "9112 2.2: a bare LF", "bare_lf", "X: y\nTransfer-Encoding: chunked")
	bad("te-cr", "9112 2.2: a bare CR", "bare_cr", "X: y\rTransfer-Encoding: chunked")
	bad("te-cr-end", "9112 2.2", "bare_cr", "Transfer-Encoding: chunked\r")
	bad("te-nul", "9110 5.5", "control_character", "Transfer-Encoding: chunked\x00")
	bad("te-vt", "9110 5.5", "control_character", "Transfer-Encoding:\x0bchunked")
	bad("te-quoted", "9112 7: transfer-coding = token", "transfer_encoding_invalid", `Transfer-Encoding: "chunked"`)
	bad("te-comma", "9112 6.1", "transfer_encoding_invalid", "Transfer-Encoding: ,chunked")
	bad("te-x", "9112 7", "transfer_encoding_invalid", "Transfer-Encoding: xchunked")
	bad("te-identity", "9112 7: identity is no coding", "transfer_encoding_invalid", "Transfer-Encoding: identity")
	bad("te-not-last", "9112 6.3: chunked is not the final coding", "transfer_encoding_invalid", "Transfer-Encoding: chunked, identity")
	bad("te-twice", "9112 6.1: not applied more than once", "transfer_encoding_duplicate", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked")
	bad("te-two-lines", "9112 6.1", "transfer_encoding_duplicate", "Transfer-Encoding: identity", "Transfer-Encoding: chunked")
	bad("te-underscore", "CGI reads _ and - alike", "header_underscore", "Transfer_Encoding: chunked")
	add("te-1.0", "9112 6.1: faulty framing in HTTP/1.0", "transfer_encoding_http_1_0", lines("POST /bad HTTP/1.0", "Host: a", "Transfer-Encoding: chunked")+fiveChunked)
	add("te-trace", "9110 9.3.8: no content in TRACE", "body_not_allowed", lines("TRACE /bad HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")+fiveChunked)
	// Lines that one of two recipients ends elsewhere.
	add("lf-head", "9112 2.2", "bare_lf", "GET /bad HTTP/1.1\nHost: a\n\n")
	add("lf-end", "9112 2.2", "bare_lf", "GET /bad HTTP/1.1\r\nHost: a\r\n\n")
	add("crcrlf-end", "9112 2.2", "bare_cr", "GET /bad HTTP/1.1\r\nHost: a\r\n\r\r\n")
	add("field-without-colon", "9112 5", "header_without_colon", get("/bad", "GET /smuggled HTTP/1.1"))
	add("leading-space-field", "9112 2.2", "leading_whitespace", "GET /bad HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n")
	add("request-line-spaces", "9112 3: lenient parsing of whitespace can be exploited", "request_line_whitespace", "GET /bad  HTTP/1.1\r\nHost: a\r\n\r\n")
	add("request-line-in-target", "9112 3.2: no whitespace in the target", "request_line_whitespace", "GET /bad HTTP/1.1 /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
	add("0.9", "9112 2.3: an answer of HTTP/0.9 has no end", "http_0_9", "GET /bad\r\n\r\n")
	add("two-hosts", "9112 3.2", "host_duplicate", get("/bad", "Host: b"))
	add("no-host", "9112 3.2", "host_missing", "GET /bad HTTP/1.1\r\n\r\n")
	add("absolute-other-host", "9112 3.2.2", "authority_mismatch", get("http://b/bad"))
	add("two-empty-lines", "9112 2.2: at least one is ignored; here one", "leading_empty_line", "\r\n\r\n"+get("/bad"))
	add("body-longer", "9112 6.3: what is behind the body is a request", "method_invalid", post("/good", "Content-Length: 5")+"abcde\x80")
	list[len(list)-1].seen = append(list[len(list)-1].seen, `POST /good "abcde"`)
	list = append(list,
		sent{name: "h2c", rule: "9113 3.1: Upgrade: h2c is no longer used; whoever forwards it opens a tunnel", send: get("/first", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA") + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			seen: []string{"GET /first"}, status: 505, reason: "http2_preface"},
		sent{name: "te-unknown", rule: "9112 6.1: a coding that is not understood is 501", send: get("/first") + post("/bad", "Transfer-Encoding: gzip, chunked") + fiveChunked + evil,
			seen: []string{"GET /first"}, status: 501, reason: "transfer_encoding_unsupported"},
		sent{name: "expect-obfuscated", rule: "9110 10.1.1: 417", send: get("/first") + post("/bad", "Content-Length: 5", "Expect: y 100-continue") + "abcde" + evil,
			seen: []string{"GET /first"}, status: 417, reason: "expectation_unsupported"},
		sent{name: "connect", rule: "9110 9.3.6: a tunnel nobody offers", send: get("/first") + lines("CONNECT a:80 HTTP/1.1", "Host: a:80", "Connection: close") + evil, seen: []string{"GET /first"}, status: 405, reason: "connect_not_supported"},
	)
	return append(list, smuggledInChunks()...)
}

// smuggledInChunks are bodies whose end two recipients could see in different places. Something of the request may have been passed on by then, but never a whole one.
func smuggledInChunks() []sent {
	var list []sent
	add := func(name, rule, reason, body string) {
		list = append(list, sent{
			name: "chunk-" + name, rule: rule, send: get("/first") + post("/bad", "Transfer-Encoding: chunked") + body + evil, seen: []string{"GET /first"}, status: 400, reason: reason, inBody: true,
		})
	}
	const size = "9112 7.1: chunk-size = 1*HEXDIG"
	add("lf-size", "9112 2.2, 7.1: CVE-2025-22871", "bare_lf", "5\nabcde\r\n0\r\n\r\n")
	add("lf-extension", "9112 7.1.1: TERM.EXT, the line ends in an extension", "bare_lf", "5;\nabcde\r\n0\r\n\r\n")
	add("lf-extension-hidden", "9112 7.1.1: EXT.TERM", "bare_lf", "5;a\n1\r\nabcde\r\n0\r\n\r\n")
	add("cr-extension", "9112 2.2", "bare_cr", "5;a\rb\r\nabcde\r\n0\r\n\r\n")
	add("quoted-crlf", "9110 5.6.4: no CRLF in a quoted string", "bare_cr", "5;a=\"\r\n0\r\n\r\n\"\r\nabcde\r\n0\r\n\r\n")
	list[len(list)-1].reason = "chunk_extension_invalid"
	add("spill", "9112 7.1: data longer than its size", "chunk_terminator", "5\r\nabcdefgh\r\n0\r\n\r\n")
	add("one-spill", "9112 7.1: CRLF, not any two bytes", "chunk_terminator", "5\r\nabcdeXX0\r\n\r\n")
	add("lf-data", "9112 7.1", "bare_lf", "5\r\nabcde\n0\r\n\r\n")
	add("cr-data", "9112 7.1", "bare_cr", "5\r\nabcde\r0\r\n\r\n")
	add("lf-last", "9112 7.1", "bare_lf", "5\r\nabcde\r\n0\n\r\n")
	add("lf-end", "9112 7.1", "bare_lf", "5\r\nabcde\r\n0\r\n\n")
	add("negative", size, "chunk_size_invalid", "-5\r\nabcde\r\n0\r\n\r\n")
	add("hex-prefix", size, "chunk_size_invalid", "0x5\r\nabcde\r\n0\r\n\r\n")
	add("underscore", size, "chunk_size_invalid", "0_5\r\nabcde\r\n0\r\n\r\n")
	add("leading-space", size, "chunk_size_invalid", " 5\r\nabcde\r\n0\r\n\r\n")
	add("trailing-space", "9112 7.1.1", "chunk_size_invalid", "5 \r\nabcde\r\n0\r\n\r\n")
	add("wrap-64", "9112 7.1: prevent overflow", "chunk_size_overflow", "10000000000000005\r\nabcde\r\n0\r\n\r\n")
	add("sign-bit", "9112 7.1", "chunk_size_overflow", "8000000000000005\r\nabcde\r\n0\r\n\r\n")
	add("empty", size, "chunk_size_invalid", "\r\nabcde\r\n0\r\n\r\n")
	add("comma", size, "chunk_size_invalid", "5,5\r\nabcde\r\n0\r\n\r\n")
	add("trailer-length", "9110 6.5.1: framing is not for trailers", "trailer_forbidden", "5\r\nabcde\r\n0\r\nContent-Length: 200\r\n\r\n")
	add("trailer-encoding", "9110 6.5.1", "trailer_forbidden", "5\r\nabcde\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")
	add("trailer-host", "9110 6.5.1: routing is not for trailers", "trailer_forbidden", "5\r\nabcde\r\n0\r\nHost: b\r\n\r\n")
	add("trailer-request", "9112 7.1.2: a request line is no trailer", "header_without_colon", "5\r\nabcde\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
	add("trailer-fold", "9112 5.2", "obs_fold", "5\r\nabcde\r\n0\r\nX: a\r\n b\r\n\r\n")
	add("trailer-lf", "9112 2.2", "bare_lf", "5\r\nabcde\r\n0\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n")
	add("no-last", "9112 7.1: the request behind is no chunk", "chunk_size_invalid", "5\r\nabcde\r\n")
	add("extension-flood", "9112 7.1.1: limit the extensions; CVE-2023-39326", "chunk_extension_too_large", strings.Repeat("1;"+strings.Repeat("x", 1000)+"\r\na\r\n", 20)+"0\r\n\r\n")
	return list
}
