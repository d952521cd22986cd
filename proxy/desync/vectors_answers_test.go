package desync

import (
	"strings"

	"meshtest.dev/meshtest/proxy/http1/vectors"
)

// leaked is an answer that nobody asked for: whoever gets it has got bytes of another exchange. It has 59 bytes.
const leaked = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Saw: leaked\r\n\r\nleaked"

// answers are those of HTTP/1.1 that could be read in two ways, or are not all that is said.
func answers() []said {
	ok := func(l ...string) string { return lines(append([]string{"HTTP/1.1 200 OK"}, l...)...) }
	okay := ok("Content-Length: 2") + "ok"
	var list []said
	fine := func(name, rule, say string, kept bool) {
		list = append(list, said{name: name, rule: rule, say: say, status: 200, body: "ok", kept: kept})
	}
	late := func(name, rule, method, say, late string, status int, body string) {
		list = append(list, said{name: name, rule: rule, method: method, say: say, late: late, status: status, body: body})
	}
	bad := func(name, rule, say string) {
		list = append(list, said{name: name, rule: rule, say: say + leaked, status: 502})
	}
	cut := func(name, rule, say string) {
		list = append(list, said{name: name, rule: rule, say: say, hangup: true})
	}
	const beyond = "9112 6.3: what is behind an answer belongs to none"
	fine("plain", "9112 6.3", okay, true)
	fine("answer-behind", beyond, okay+leaked, false)
	fine("half-answer-behind", beyond, okay+leaked[:20], false)
	fine("crlf-behind", beyond, okay+"\r\n", false)
	fine("byte-behind", beyond, okay+"x", false)
	fine("interim-behind", beyond, okay+"HTTP/1.1 100 Continue\r\n\r\n", false)
	late("answer-later", "9112 9.2: an answer that nobody asked for must not be taken for the next one's", "", okay, leaked, 200, "ok")
	late("half-answer-later", beyond, "", okay, leaked[:20], 200, "ok")
	late("crlf-later", beyond, "", okay, "\r\n", 200, "ok")
	late("interim-later", beyond, "", okay, "HTTP/1.1 100 Continue\r\n\r\n", 200, "ok")
	late("408-later", "9110 15.5.9: a server may send 408 on an idle connection and close", "", okay, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 200, "ok")
	// Answers without a body that have one.
	none := func(name, rule, method, say string, status int, kept bool) {
		list = append(list, said{name: name, rule: rule, method: method, say: say, status: status, kept: kept})
	}
	const head = "9110 9.3.2: no content in the answer to HEAD"
	none("head", head, "HEAD", ok("Content-Length: 57"), 200, true)
	none("head-chunked", head, "HEAD", ok("Transfer-Encoding: chunked"), 200, true)
	none("head-neither", head, "HEAD", ok(), 200, true)
	none("head-with-body", head, "HEAD", ok("Content-Length: 6")+"leaked", 200, false)
	none("head-with-answer", head, "HEAD", ok("Content-Length: 57")+leaked, 200, false)
	none("head-with-chunks", head, "HEAD", ok("Transfer-Encoding: chunked")+fiveChunked, 200, false)
	late("head-with-body-later", head, "HEAD", ok("Content-Length: 6"), "leaked", 200, "")
	late("head-with-answer-later", head, "HEAD", ok("Content-Length: 57"), leaked, 200, "")
	late("head-with-chunks-later", head, "HEAD", ok("Transfer-Encoding: chunked"), fiveChunked, 200, "")
	const noBody = "9112 6.3: 204 and 304 end with their head"
	none("204", noBody, "", lines("HTTP/1.1 204 No Content"), 204, true)
	none("204-zero", noBody, "", lines("HTTP/1.1 204 No Content", "Content-Length: 0"), 204, true)
	none("204-with-answer", noBody, "", lines("HTTP/1.1 204 No Content")+leaked, 204, false)
	late("204-with-answer-later", noBody, "", lines("HTTP/1.1 204 No Content"), leaked, 204, "")
	none("304", noBody, "", lines("HTTP/1.1 304 Not Modified", "Content-Length: 57"), 304, true)
	none("304-with-answer", noBody, "", lines("HTTP/1.1 304 Not Modified", "Content-Length: 57")+leaked, 304, false)
	none("304-with-chunks", noBody, "", lines("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked")+fiveChunked, 304, false)
	late("304-with-answer-later", noBody, "", lines("HTTP/1.1 304 Not Modified", "Content-Length: 57"), leaked, 304, "")
	none("empty", "9112 6.3", "", ok("Content-Length: 0"), 200, true)
	none("empty-with-answer", beyond, "", ok("Content-Length: 0")+leaked, 200, false)
	bad("204-length", "9110 8.6: no Content-Length in 204", lines("HTTP/1.1 204 No Content", "Content-Length: 57"))
	bad("204-chunked", "9112 6.1: no Transfer-Encoding in 204", lines("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked")+"0\r\n\r\n")
	// Two framings.
	bad("length-and-encoding", "9112 6.3: might be response splitting", ok("Content-Length: 2", "Transfer-Encoding: chunked")+"0\r\n\r\n")
	bad("encoding-and-length", "9112 6.3", ok("Transfer-Encoding: chunked", "Content-Length: 2")+"0\r\n\r\n")
	bad("lengths-differ", "9112 6.3: a proxy must close and send 502", ok("Content-Length: 2", "Content-Length: 59")+"ok")
	bad("lengths-same", "9112 6.3", ok("Content-Length: 2", "Content-Length: 2")+"ok")
	bad("length-list", "9112 6.3", ok("Content-Length: 2, 59")+"ok")
	bad("length-plus", "9110 8.6", ok("Content-Length: +2")+"ok")
	bad("length-wrap", "9110 8.6", ok("Content-Length: 18446744073709551618")+"ok")
	bad("length-space", "9112 5.1", ok("Content-Length : 2")+"ok")
	bad("length-fold", "9112 5.2", ok("Content-Length:", " 2")+"ok")
	bad("encoding-twice", "9112 6.1", ok("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")+"0\r\n\r\n")
	bad("encoding-list", "9112 6.1", ok("Transfer-Encoding: gzip, chunked")+"0\r\n\r\n")
	bad("encoding-unknown", "9112 6.3: here not read until close", ok("Transfer-Encoding: xchunked")+"0\r\n\r\n")
	bad("encoding-cr", "9112 2.2", ok("Transfer-Encoding: chunked\r")+"0\r\n\r\n")
	bad("encoding-1.0", "9112 6.1", lines("HTTP/1.0 200 OK", "Transfer-Encoding: chunked")+"0\r\n\r\n")
	// Heads that end elsewhere.
	bad("lf", "9112 2.2", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
	bad("lf-end", "9112 2.2", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok")
	bad("crcrlf-end", "9112 2.2", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\r\nok")
	bad("lf-field", "9112 2.2: response splitting", ok("X: y\nContent-Length: 59", "Content-Length: 2")+"ok")
	bad("cr-field", "9112 2.2", ok("X: y\rContent-Length: 59", "Content-Length: 2")+"ok")
	bad("nul-field", "9110 5.5", ok("X: y\x00", "Content-Length: 2")+"ok")
	bad("fold", "9112 5.2", ok("X: y", " z", "Content-Length: 2")+"ok")
	bad("no-colon", "9112 5", ok("HTTP/1.1 200 OK", "Content-Length: 2")+"ok")
	bad("crlf-before", "9112 2.2: only before requests", "\r\n"+okay)
	bad("0.9", "9112 2.3: an answer of HTTP/0.9", "hello\r\n")
	bad("two-digits", "9112 4: 3DIGIT", lines("HTTP/1.1 20 OK", "Content-Length: 2")+"ok")
	bad("http2", "9110 2.5", lines("HTTP/2.0 200 OK", "Content-Length: 2")+"ok")
	bad("frames", "9113 3.4: SETTINGS of HTTP/2", "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	// Interim answers.
	const interim = "9110 15.2: an interim answer ends with its head"
	fine("100", interim, "HTTP/1.1 100 Continue\r\n\r\n"+okay, true)
	fine("103", "8297 2", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+okay, true)
	fine("many-interim", interim, strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 30)+okay, true)
	bad("interim-flood", "9110 15.2: here at most 32", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 33)+okay)
	bad("100-length", "9110 8.6", lines("HTTP/1.1 100 Continue", "Content-Length: 2")+"ok")
	bad("103-chunked", "9112 6.1", lines("HTTP/1.1 103 Early Hints", "Transfer-Encoding: chunked")+"0\r\n\r\n")
	bad("101", "9110 7.8: unasked", lines("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"))
	// Chunks.
	chunked := ok("Transfer-Encoding: chunked")
	fine("chunks", "9112 7.1", chunked+"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", true)
	fine("chunk-extension", "9112 7.1.1: ends here", chunked+"2;a=\"HTTP/1.1 200 OK\"\r\nok\r\n0\r\n\r\n", true)
	fine("chunk-trailers", "9112 7.1.2", chunked+"2\r\nok\r\n0\r\nX-End: y\r\n\r\n", true)
	fine("chunks-with-answer", beyond, chunked+"2\r\nok\r\n0\r\n\r\n"+leaked, false)
	fine("trailers-with-answer", beyond, chunked+"2\r\nok\r\n0\r\nX-End: y\r\n\r\n"+leaked, false)
	late("chunks-with-answer-later", beyond, "", chunked+"2\r\nok\r\n0\r\n\r\n", leaked, 200, "ok")
	for name, rest := range map[string]string{
		"lf-size": "2\nok\r\n0\r\n\r\n", "lf-data": "2\r\nok\n0\r\n\r\n", "lf-last": "2\r\nok\r\n0\n\r\n", "lf-end": "2\r\nok\r\n0\r\n\n", "lf-extension": "2;\nok\r\n0\r\n\r\n", "spill": "2\r\nokay\r\n0\r\n\r\n",
		"wrap": "10000000000000002\r\nok\r\n0\r\n\r\n", "negative": "-2\r\nok\r\n0\r\n\r\n", "hex-prefix": "0x2\r\nok\r\n0\r\n\r\n", "space": "2 \r\nok\r\n0\r\n\r\n", "trailer-length": "2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n",
		"trailer-encoding": "2\r\nok\r\n0\r\nTransfer-Encoding: x\r\n\r\n", "trailer-status": "2\r\nok\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n", "trailer-fold": "2\r\nok\r\n0\r\nX: y\r\n z\r\n\r\n", "no-last": "2\r\nok\r\n",
	} {
		list = append(list, said{name: "chunk-" + name, rule: "9112 7.1", say: chunked + rest + leaked})
	}
	// Ends.
	cut("cut-length", "9112 8: incomplete", ok("Content-Length: 20")+"ok")
	cut("cut-chunk", "9112 8", chunked+"5\r\nok")
	cut("cut-chunks", "9112 8: no last chunk", chunked+"2\r\nok\r\n")
	cut("cut-last-chunk", "9112 8", chunked+"2\r\nok\r\n0\r\n")
	cut("cut-trailers", "9112 8", chunked+"2\r\nok\r\n0\r\nX: y\r\n")
	list = append(list,
		said{name: "cut-head", rule: "9112 8", say: "HTTP/1.1 200 OK\r\nContent-Le", hangup: true, status: 503},
		said{name: "nothing", rule: "9112 8", hangup: true, status: 503},
		said{name: "until-close", rule: "9112 6.3: neither field, until close; all of it is body", say: ok() + leaked, hangup: true, status: 200, body: leaked},
		said{name: "until-close-1.0", rule: "9112 6.3", say: lines("HTTP/1.0 200 OK") + leaked, hangup: true, status: 200, body: leaked},
		said{name: "answer-as-body", rule: "9112 6.3: a body is opaque", say: ok("Content-Length: 59") + leaked, status: 200, body: leaked, kept: true},
		said{name: "answer-as-body-of-error", rule: "9112 6.3", say: lines("HTTP/1.1 500 Oops", "Transfer-Encoding: chunked") + "3b\r\n" + leaked + "\r\n0\r\n\r\n", status: 500, body: leaked, kept: true},
		said{name: "205-length", rule: "9110 15.3.6", say: lines("HTTP/1.1 205 Reset Content", "Content-Length: 0"), status: 205, kept: true},
	)
	fine("1.0", "9112 9.3: does not persist", lines("HTTP/1.0 200 OK", "Content-Length: 2")+"ok"+leaked, false)
	fine("1.0-keep-alive", "9112 9.3", lines("HTTP/1.0 200 OK", "Content-Length: 2", "Connection: keep-alive")+"ok", true)
	fine("close", "9112 9.6: behind close nothing is an answer", ok("Content-Length: 2", "Connection: close")+"ok"+leaked, false)
	return list
}

// codecAnswers gives the vectors of the codec that break HTTP, with an answer behind that must not be taken for one.
func codecAnswers() []said {
	var list []said
	for _, v := range vectors.Responses() {
		if v.Reason != "" && !v.Upgrade && v.Method != "CONNECT" {
			list = append(list, said{name: v.Name, rule: v.Rule, method: v.Method, say: v.In + leaked, status: 502})
		}
	}
	for _, v := range vectors.ChunkedBodies() {
		if v.Reason != "" && len(v.In) < 8<<10 {
			list = append(list, said{name: "chunked/" + v.Name, rule: v.Rule, say: v.AsResponse(), hangup: true})
		}
	}
	return list
}
