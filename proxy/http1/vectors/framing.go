package vectors

func lengths() []Request {
	with := func(value string) string { return post("Content-Length:"+value) + "abcde" }
	invalid := func(name, rule, value string) Request {
		return Request{Name: "length/" + name, Rule: rule, In: with(" " + value), Status: 400, Reason: "content_length_invalid"}
	}
	five := Accepted{Method: "POST", Body: "content-length", Length: 5, Rest: "abcde"}
	return []Request{
		{Name: "length/plain", Rule: "9110 8.6: Content-Length = 1*DIGIT", In: with(" 5"), Want: five},
		{Name: "length/no-space", Rule: "9112 5", In: with("5"), Want: five},
		{Name: "length/ows", Rule: "9112 5.1: OWS is excluded from the value", In: with(" \t5\t "), Want: five},
		{Name: "length/upper-case-name", Rule: "9110 5.1", In: post("CONTENT-LENGTH: 5") + "abcde", Want: five},
		{Name: "length/zero", Rule: "9110 8.6", In: post("Content-Length: 0"), Want: Accepted{Method: "POST"}},
		{Name: "length/none", Rule: "9112 6.3: a request without either field has no body", In: post(), Want: Accepted{Method: "POST"}},
		{Name: "length/largest", Rule: "9110 8.6: a recipient MUST anticipate large numerals", In: post("Content-Length: 9223372036854775807"),
			Want: Accepted{Method: "POST", Body: "content-length", Length: 9223372036854775807}},
		{Name: "length/get", Rule: "9110 9.3.1: a body of GET is framed like any other", In: get("Content-Length: 5") + "abcde",
			Want: Accepted{Body: "content-length", Length: 5, Rest: "abcde"}},
		{Name: "length/head", Rule: "9110 9.3.2", In: lines("HEAD / HTTP/1.1", "Host: a", "Content-Length: 5") + "abcde",
			Want: Accepted{Method: "HEAD", Body: "content-length", Length: 5, Rest: "abcde"}},
		{Name: "length/delete", Rule: "9110 9.3.5", In: lines("DELETE / HTTP/1.1", "Host: a", "Content-Length: 5") + "abcde",
			Want: Accepted{Method: "DELETE", Body: "content-length", Length: 5, Rest: "abcde"}},
		{Name: "length/options", Rule: "9110 9.3.7", In: lines("OPTIONS / HTTP/1.1", "Host: a", "Content-Length: 5") + "abcde",
			Want: Accepted{Method: "OPTIONS", Body: "content-length", Length: 5, Rest: "abcde"}},
		{Name: "length/http10", Rule: "9112 6.3", In: lines("POST / HTTP/1.0", "Host: a", "Content-Length: 5") + "abcde",
			Want: Accepted{Method: "POST", Body: "content-length", Length: 5, Rest: "abcde", Close: true}},
		{Name: "length/trace", Rule: "9110 9.3.8: a client MUST NOT send content in TRACE", In: lines("TRACE / HTTP/1.1", "Host: a", "Content-Length: 5") + "abcde", Status: 400, Reason: "body_not_allowed"},
		{Name: "length/connect", Rule: "9110 9.3.6: CONNECT has no content", In: lines("CONNECT a:1 HTTP/1.1", "Host: a:1", "Content-Length: 5") + "abcde", Status: 400, Reason: "body_not_allowed"},
		{Name: "length/connect-zero", Rule: "9110 9.3.6", In: lines("CONNECT a:1 HTTP/1.1", "Host: a:1", "Content-Length: 0"), Want: Accepted{Method: "CONNECT", Path: "-", Host: "a:1"}},
		{Name: "length/duplicate-same", Rule: "9112 6.3 allows to merge equal ones; here 400", In: post("Content-Length: 5", "Content-Length: 5") + "abcde", Status: 400, Reason: "content_length_duplicate"},
		{Name: "length/duplicate-different", Rule: "9112 6.3: unrecoverable error", In: post("Content-Length: 5", "Content-Length: 6") + "abcde", Status: 400, Reason: "content_length_duplicate"},
		{Name: "length/duplicate-triple", Rule: "9112 6.3", In: post("Content-Length: 5", "X: y", "content-length: 5", "Content-Length: 5") + "abcde", Status: 400, Reason: "content_length_duplicate"},
		{Name: "length/duplicate-empty", Rule: "9112 6.3", In: post("Content-Length:", "Content-Length: 5") + "abcde", Status: 400, Reason: "content_length_duplicate"},
		invalid("list-same", "9110 8.6 allows to merge \"42, 42\"; here 400", "5, 5"),
		invalid("list-different", "9112 6.3", "5, 6"),
		invalid("list-empty-element", "9112 6.3", "5,"),
		invalid("empty", "9110 8.6: 1*DIGIT", ""),
		invalid("plus", "9110 8.6", "+5"),
		invalid("minus", "9110 8.6", "-5"),
		invalid("minus-zero", "9110 8.6", "-0"),
		invalid("leading-zero", "read as octal by some", "010"),
		invalid("zeros", "a canonical decimal", "00"),
		invalid("zero-five", "a canonical decimal", "05"),
		invalid("hex", "9110 8.6", "0x5"),
		invalid("octal", "9110 8.6", "0o5"),
		invalid("underscore", "9110 8.6", "1_0"),
		invalid("space-inside", "9110 8.6", "1 0"),
		invalid("tab-inside", "9110 8.6", "1\t0"),
		invalid("letters-behind", "9110 8.6", "5abc"),
		invalid("letters", "9110 8.6", "abc"),
		invalid("fraction", "9110 8.6", "5.0"),
		invalid("exponent", "9110 8.6", "1e1"),
		invalid("quoted", "9110 8.6", "\"5\""),
		invalid("semicolon", "9110 8.6", "5;a"),
		invalid("2^63", "9110 8.6: prevent integer overflow", "9223372036854775808"),
		invalid("2^64", "9110 8.6", "18446744073709551616"),
		invalid("2^64+5", "9110 8.6", "18446744073709551621"),
		invalid("very-long", "9110 8.6", "100000000000000000000000000000000000000005"),
		invalid("non-ascii-digit", "9110 8.6", "\xef\xbc\x95"),
		{Name: "length/nul", Rule: "9110 5.5", In: with(" 5\x00"), Status: 400, Reason: "control_character"},
		{Name: "length/vt", Rule: "9110 5.5", In: with(" \x0b5"), Status: 400, Reason: "control_character"},
		{Name: "length/space-before-colon", Rule: "9112 5.1", In: post("Content-Length : 5") + "abcde", Status: 400, Reason: "space_before_colon"},
		{Name: "length/obs-fold", Rule: "9112 5.2", In: post("Content-Length:\r\n 5") + "abcde", Status: 400, Reason: "obs_fold"},
		{Name: "length/pipelined-body-and-request", Rule: "9112 6.3: the body ends where it says", In: with(" 5") + get(),
			Want: Accepted{Method: "POST", Body: "content-length", Length: 5, Rest: "abcde" + get()}},
	}
}

func encodings() []Request {
	const body = "5\r\nabcde\r\n0\r\n\r\n"
	with := func(line string) string { return post(line) + body }
	chunked := Accepted{Method: "POST", Body: "chunked", Rest: body}
	list := []Request{
		{Name: "encoding/chunked", Rule: "9112 6.1, 7.1", In: with("Transfer-Encoding: chunked"), Want: chunked},
		{Name: "encoding/case", Rule: "9112 7: coding names are case-insensitive", In: with("transfer-ENCODING: CHUNKed"), Want: chunked},
		{Name: "encoding/no-space", Rule: "9112 5", In: with("Transfer-Encoding:chunked"), Want: chunked},
		{Name: "encoding/ows", Rule: "9112 5.1", In: with("Transfer-Encoding: \t chunked \t"), Want: chunked},
		{Name: "encoding/get", Rule: "9110 9.3.1", In: get("Transfer-Encoding: chunked") + body, Want: Accepted{Body: "chunked", Rest: body}},
		{Name: "encoding/http10", Rule: "9112 6.1: MUST be treated as faulty framing", In: lines("POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked") + body, Status: 400, Reason: "transfer_encoding_http_1_0"},
		{Name: "encoding/with-length", Rule: "9112 6.1: MAY reject; CL.TE", In: post("Content-Length: 5", "Transfer-Encoding: chunked") + body, Status: 400, Reason: "content_length_and_transfer_encoding"},
		{Name: "encoding/before-length", Rule: "9112 6.1: TE.CL", In: post("Transfer-Encoding: chunked", "Content-Length: 5") + body, Status: 400, Reason: "content_length_and_transfer_encoding"},
		{Name: "encoding/with-length-zero", Rule: "9112 6.1: TE.0", In: post("Transfer-Encoding: chunked", "Content-Length: 0") + body, Status: 400, Reason: "content_length_and_transfer_encoding"},
		{Name: "encoding/with-bad-length", Rule: "9112 6.1", In: post("Content-Length: x", "Transfer-Encoding: chunked") + body, Status: 400, Reason: "content_length_and_transfer_encoding"},
		{Name: "encoding/identity-with-length", Rule: "9112 6.1", In: post("Content-Length: 5", "Transfer-Encoding: identity") + "abcde", Status: 400, Reason: "content_length_and_transfer_encoding"},
		{Name: "encoding/with-length-and-close", Rule: "9112 6.1", In: post("Connection: close", "Content-Length: 5", "Transfer-Encoding: chunked") + body, Status: 400, Reason: "content_length_and_transfer_encoding"},
		{Name: "encoding/twice", Rule: "9112 7.1: chunked MUST NOT be applied more than once", In: post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + body, Status: 400, Reason: "transfer_encoding_duplicate"},
		{Name: "encoding/twice-identity", Rule: "TE.TE", In: post("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + body, Status: 400, Reason: "transfer_encoding_duplicate"},
		{Name: "encoding/twice-cases", Rule: "TE.TE", In: post("Transfer-Encoding: cow", "transfer-encoding: chunked") + body, Status: 400, Reason: "transfer_encoding_duplicate"},
		{Name: "encoding/gzip-chunked", Rule: "9112 6.1: a coding that is not understood SHOULD be 501", In: with("Transfer-Encoding: gzip, chunked"), Status: 501, Reason: "transfer_encoding_unsupported"},
		{Name: "encoding/identity-chunked", Rule: "9112 7: identity is no coding any more", In: with("Transfer-Encoding: identity, chunked"), Status: 501, Reason: "transfer_encoding_unsupported"},
		{Name: "encoding/trace", Rule: "9110 9.3.8", In: lines("TRACE / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked") + body, Status: 400, Reason: "body_not_allowed"},
		{Name: "encoding/connect", Rule: "9110 9.3.6", In: lines("CONNECT a:1 HTTP/1.1", "Host: a:1", "Transfer-Encoding: chunked") + body, Status: 400, Reason: "body_not_allowed"},
		{Name: "encoding/space-before-colon", Rule: "9112 5.1", In: with("Transfer-Encoding : chunked"), Status: 400, Reason: "space_before_colon"},
		{Name: "encoding/tab-before-colon", Rule: "9112 5.1", In: with("Transfer-Encoding\t: chunked"), Status: 400, Reason: "space_before_colon"},
		{Name: "encoding/obs-fold", Rule: "9112 5.2", In: with("Transfer-Encoding:\r\n chunked"), Status: 400, Reason: "obs_fold"},
		{Name: "encoding/obs-fold-tail", Rule: "9112 5.2", In: with("Transfer-Encoding: chunked\r\n , identity"), Status: 400, Reason: "obs_fold"},
		{Name: "encoding/hidden-behind-cr", Rule: "9112 2.2", In: with("X: y\rTransfer-Encoding: chunked"), Status: 400, Reason: "bare_cr"},
		{Name: "encoding/hidden-behind-lf", Rule: "9112 2.2", In: with("X: y\nTransfer-Encoding: chunked"), Status: 400, Reason: "bare_lf"},
		{Name: "encoding/leading-space-in-name", Rule: "9112 5.2", In: with(" Transfer-Encoding: chunked"), Status: 400, Reason: "obs_fold"},
		{Name: "encoding/cr-in-name", Rule: "9112 2.2", In: with("Transfer\r-Encoding: chunked"), Status: 400, Reason: "bare_cr"},
		{Name: "encoding/vt", Rule: "9110 5.5", In: with("Transfer-Encoding: \x0bchunked"), Status: 400, Reason: "control_character"},
		{Name: "encoding/ff", Rule: "9110 5.5", In: with("Transfer-Encoding: \x0cchunked"), Status: 400, Reason: "control_character"},
		{Name: "encoding/nul", Rule: "9110 5.5", In: with("Transfer-Encoding: chunked\x00"), Status: 400, Reason: "control_character"},
		{Name: "encoding/cr", Rule: "9112 2.2", In: with("Transfer-Encoding: chunked\r"), Status: 400, Reason: "bare_cr"},
	}
	for _, value := range []string{
		"", "identity", "gzip", "xchunked", "chunkedx", "chunk", "chunked, chunked", "chunked,chunked", "chunked, gzip", "chunked, identity", ",chunked", "chunked,", ",", "chunked;a=b",
		"chunked ;", "\"chunked\"", "'chunked'", "chunked chunked", "x chunked", "chunked x", "\xa0chunked", "chunked\xff", "chu\xc5\xbfnked", "chunked, gzip, chunked", "gzip,", ": chunked", "=chunked", "(chunked)",
	} {
		list = append(list, Request{Name: "encoding/value:" + value, Rule: "9112 6.3: not chunked as the final coding is 400", In: with("Transfer-Encoding: " + value), Status: 400, Reason: "transfer_encoding_invalid"})
	}
	return list
}

func connections() []Request {
	const upgrade = "Upgrade: websocket"
	return []Request{
		{Name: "connection/close", Rule: "9112 9.6", In: get("Connection: close"), Want: Accepted{Close: true}},
		{Name: "connection/close-in-list", Rule: "9110 7.6.1: options are case-insensitive and listed", In: get("Connection: x, CLOSE"), Want: Accepted{Close: true}},
		{Name: "connection/close-second-line", Rule: "9110 5.3", In: get("Connection: keep-alive", "Connection: close"), Want: Accepted{Close: true}},
		{Name: "connection/keep-alive", Rule: "9112 9.3: 1.1 persists anyway", In: get("Connection: keep-alive")},
		{Name: "connection/empty-elements", Rule: "9110 5.6.1.2: empty elements are ignored", In: get("Connection: , ,")},
		{Name: "connection/not-token", Rule: "9110 7.6.1: connection-option = token", In: get("Connection: a b"), Status: 400, Reason: "connection_invalid"},
		{Name: "connection/quoted", Rule: "9110 7.6.1", In: get("Connection: \"close\""), Status: 400, Reason: "connection_invalid"},
		{Name: "connection/too-many", Rule: "limit: 16 options", In: get("Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"), Status: 400, Reason: "connection_invalid"},
		{Name: "connection/names-host", Rule: "9110 7.6.1: not for fields meant for all; it is ignored", In: get("Connection: host, content-length")},
		{Name: "expect/100", Rule: "9110 10.1.1", In: post("Content-Length: 5", "Expect: 100-continue"), Want: Accepted{Method: "POST", Body: "content-length", Length: 5, Expect: true}},
		{Name: "expect/case", Rule: "9110 10.1.1: case-insensitive", In: post("Transfer-Encoding: chunked", "Expect: 100-Continue"), Want: Accepted{Method: "POST", Body: "chunked", Expect: true}},
		{Name: "expect/no-body", Rule: "9110 10.1.1: without content it means nothing", In: get("Expect: 100-continue")},
		{Name: "expect/http10", Rule: "9110 10.1.1: MUST be ignored in HTTP/1.0", In: lines("POST / HTTP/1.0", "Host: a", "Content-Length: 5", "Expect: 100-continue"),
			Want: Accepted{Method: "POST", Body: "content-length", Length: 5, Close: true}},
		{Name: "expect/other", Rule: "9110 10.1.1: 417", In: post("Content-Length: 5", "Expect: the-best"), Status: 417, Reason: "expectation_unsupported"},
		{Name: "expect/obfuscated", Rule: "9110 10.1.1", In: post("Content-Length: 5", "Expect: y 100-continue"), Status: 417, Reason: "expectation_unsupported"},
		{Name: "expect/parameter", Rule: "9110 10.1.1", In: post("Content-Length: 5", "Expect: 100-continue;a"), Status: 417, Reason: "expectation_unsupported"},
		{Name: "expect/empty", Rule: "9110 10.1.1", In: post("Content-Length: 5", "Expect:"), Status: 417, Reason: "expectation_unsupported"},
		{Name: "expect/twice", Rule: "9110 10.1.1", In: post("Content-Length: 5", "Expect: 100-continue", "Expect: 100-continue"), Status: 417, Reason: "expectation_unsupported"},
		{Name: "upgrade/websocket", Rule: "9110 7.8", In: get("Connection: Upgrade", upgrade), Want: Accepted{Upgrade: true}},
		{Name: "upgrade/versioned-list", Rule: "9110 7.8: protocol = protocol-name [\"/\" protocol-version]", In: get("Connection: upgrade", "Upgrade: foo/2, websocket"), Want: Accepted{Upgrade: true}},
		{Name: "upgrade/no-connection-option", Rule: "9110 7.8: MUST also send the connection option", In: get(upgrade)},
		{Name: "upgrade/no-header", Rule: "9110 7.8", In: get("Connection: upgrade")},
		{Name: "upgrade/twice", Rule: "here one line", In: get("Connection: upgrade", upgrade, upgrade)},
		{Name: "upgrade/invalid", Rule: "9110 7.8", In: get("Connection: upgrade", "Upgrade: a b")},
		{Name: "upgrade/h2c", Rule: "9113 3.1: h2c by Upgrade is deprecated; h2c smuggling", In: get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")},
		{Name: "upgrade/post", Rule: "here only GET", In: post("Connection: upgrade", upgrade), Want: Accepted{Method: "POST"}},
		{Name: "upgrade/with-body", Rule: "here without a body", In: get("Connection: upgrade", upgrade, "Content-Length: 5") + "abcde", Want: Accepted{Body: "content-length", Length: 5, Rest: "abcde"}},
		{Name: "upgrade/http10", Rule: "9110 7.8: a server MUST ignore it in HTTP/1.0", In: lines("GET / HTTP/1.0", "Host: a", "Connection: upgrade", upgrade), Want: Accepted{Close: true}},
	}
}
