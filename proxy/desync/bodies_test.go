package desync

import (
	"fmt"
	"strings"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http1/vectors"
)

// bodies are requests that have one meaning, however odd: bodies that look like requests, requests close behind each other, and ends at every place.
func bodies() []sent {
	hidden := get("/smuggled")
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	seen := func(list ...string) []string { return list }
	with := func(head, body string) string { return fmt.Sprintf("%s %q", head, body) }
	length := func(s string, l ...string) string {
		return post("/one", append([]string{fmt.Sprintf("Content-Length: %d", len(s))}, l...)...) + s
	}
	const two = "GET /two"
	second := get("/two")
	chunkedHead := post("/one", "Transfer-Encoding: chunked")
	list := []sent{
		{name: "pipelined", rule: "9112 9.3.2", send: get("/one") + second + get("/three"), seen: seen("GET /one", two, "GET /three")},
		{name: "request-as-body", rule: "9112 6.3: a body is opaque", send: length(hidden) + second, seen: seen(with("POST /one", hidden), two)},
		{name: "request-as-body-of-get", rule: "9110 9.3.1: a body of GET is framed too; CL.0", send: get("/one", fmt.Sprintf("Content-Length: %d", len(hidden))) + hidden + second, seen: seen(with("GET /one", hidden), two)},
		{name: "request-as-body-of-head", rule: "9110 9.3.2", send: lines("HEAD /one HTTP/1.1", "Host: a", fmt.Sprintf("Content-Length: %d", len(hidden))) + hidden + second, seen: seen(with("HEAD /one", hidden), two)},
		{name: "request-as-body-of-delete", rule: "9110 9.3.5", send: lines("DELETE /one HTTP/1.1", "Host: a", fmt.Sprintf("Content-Length: %d", len(hidden))) + hidden + second, seen: seen(with("DELETE /one", hidden), two)},
		{name: "request-as-body-of-options", rule: "9110 9.3.7", send: lines("OPTIONS /one HTTP/1.1", "Host: a", fmt.Sprintf("Content-Length: %d", len(hidden))) + hidden + second, seen: seen(with("OPTIONS /one", hidden), two)},
		{name: "request-as-chunk", rule: "9112 7.1: chunk data is opaque", send: chunkedHead + chunk(hidden) + "0\r\n\r\n" + second, seen: seen(with("POST /one", hidden), two)},
		{name: "request-as-chunk-of-get", rule: "9110 9.3.1", send: get("/one", "Transfer-Encoding: chunked") + chunk(hidden) + "0\r\n\r\n" + second, seen: seen(with("GET /one", hidden), two)},
		{name: "last-chunk-as-chunk", rule: "9112 7.1", send: chunkedHead + chunk("0\r\n\r\n"+hidden) + "0\r\n\r\n" + second, seen: seen(with("POST /one", "0\r\n\r\n"+hidden), two)},
		{name: "request-in-extension", rule: "9112 7.1.1: extensions are dropped", send: chunkedHead + "5;a=\"GET /smuggled HTTP/1.1\"\r\nabcde\r\n0\r\n\r\n" + second, seen: seen(with("POST /one", "abcde"), two)},
		{name: "extension-on-last-chunk", rule: "9112 7.1.1", send: chunkedHead + "5\r\nabcde\r\n0;a=b\r\n\r\n" + second, seen: seen(with("POST /one", "abcde"), two)},
		{name: "request-in-trailer", rule: "9112 7.1.2: a trailer's value is opaque", send: chunkedHead + "5\r\nabcde\r\n0\r\nX-End: GET /smuggled HTTP/1.1\r\n\r\n" + second, seen: seen(with("POST /one", "abcde"), two)},
		{name: "chunk-sizes-with-zeros", rule: "9112 7.1", send: chunkedHead + "0005\r\nabcde\r\n000\r\n\r\n" + second, seen: seen(with("POST /one", "abcde"), two)},
		{name: "chunks-of-one", rule: "9112 7.1", send: chunkedHead + strings.Repeat("1\r\nx\r\n", 50) + "0\r\n\r\n" + second, seen: seen(with("POST /one", strings.Repeat("x", 50)), two)},
		{name: "empty-chunked", rule: "9112 7.1", send: chunkedHead + "0\r\n\r\n" + second, seen: seen("POST /one", two)},
		{name: "empty-length", rule: "9112 6.3", send: length("") + second, seen: seen("POST /one", two)},
		{name: "no-framing", rule: "9112 6.3: neither field, no body", send: post("/one") + second, seen: seen("POST /one", two)},
		{name: "crlf-behind-body", rule: "9112 2.2: old agents send CRLF behind a POST; one empty line is ignored", send: length("abcde") + "\r\n" + second, seen: seen(with("POST /one", "abcde"), two)},
		{name: "crlf-as-body", rule: "9112 6.3", send: length("\r\n\r\n") + second, seen: seen(with("POST /one", "\r\n\r\n"), two)},
		{name: "nul-as-body", rule: "9112 6: content is any bytes", send: length("\x00\xff\r\n") + second, seen: seen(with("POST /one", "\x00\xff\r\n"), two)},
		{name: "connection-names-length", rule: "9110 7.6.1: not for fields that frame; CVE-2022-31813", send: length("abcde", "Connection: content-length") + second, seen: seen(with("POST /one", "abcde"), two)},
		{name: "connection-names-encoding", rule: "9110 7.6.1", send: post("/one", "Connection: transfer-encoding", "Transfer-Encoding: chunked") + fiveChunked + second, seen: seen(with("POST /one", "abcde"), two)},
		{name: "connection-names-host", rule: "9110 7.6.1", send: get("/one", "Connection: host") + second, seen: seen("GET /one", two)},
		{name: "connection-names-another", rule: "9110 7.6.1: fields that it names end here", send: get("/one", "Connection: x-token", "X-Token: gone") + second, seen: seen("GET /one", two)},
		{name: "keep-alive-fields", rule: "9110 7.6.1: end here", send: get("/one", "Keep-Alive: timeout=1", "Proxy-Connection: keep-alive", "TE: trailers", "Connection: TE") + second, seen: seen("GET /one", two)},
		{name: "close-ends-pipeline", rule: "9112 9.6: behind close no request is processed", send: get("/one", "Connection: close") + hidden, seen: seen("GET /one"), closes: true},
		{name: "close-with-body-ends-pipeline", rule: "9112 9.6", send: length("abcde", "Connection: close") + hidden, seen: seen(with("POST /one", "abcde")), closes: true},
		{name: "1.0-ends-pipeline", rule: "9112 9.3: a proxy keeps no connection with HTTP/1.0", send: lines("GET /one HTTP/1.0", "Host: a", "Connection: keep-alive") + hidden, seen: seen("GET /one"), closes: true},
		{name: "1.0-with-length", rule: "9112 6.3", send: lines("POST /one HTTP/1.0", "Host: a", "Content-Length: 5") + "abcde" + hidden, seen: seen(with("POST /one", "abcde")), closes: true},
		{name: "1.0-body-without-length", rule: "9112 6.3: a request's body does not end with the connection", send: lines("POST /one HTTP/1.0", "Host: a") + hidden, seen: seen("POST /one"), closes: true},
		{name: "upgrade-is-not-taken", rule: "9110 7.8: an ignored Upgrade changes nothing", send: get("/one", "Connection: Upgrade", "Upgrade: foo") + second, seen: seen("GET /one", two)},
		{name: "expect-with-body", rule: "9110 10.1.1: a client need not wait", send: length("abcde", "Expect: 100-continue"), seen: seen(with("POST /one", "abcde"))},
		{name: "expect-without-body", rule: "9110 10.1.1: without content it means nothing", send: get("/one", "Expect: 100-continue") + second, seen: seen("GET /one", two)},
		{name: "absolute-form", rule: "9112 3.2.2", send: get("http://a/one?x") + second, seen: seen("GET /one?x", two)},
		{name: "dot-segments", rule: "3986 6.2.2.3", send: get("/x/../one") + second, seen: seen("GET /one", two)},
		{name: "encoded-crlf", rule: "3986 2.1: %0d%0a stays encoded", send: get("/one%0D%0AGET%20/smuggled") + second, seen: seen("GET /one%0D%0AGET%20/smuggled", two)},
		{name: "tokens", rule: "9110 9.1: the method is any token", send: "GE-T /one HTTP/1.1\r\nHost: a\r\n\r\n" + second, seen: seen("GE-T /one", two)},
		{name: "ows", rule: "9112 5.1: whitespace around a value is not part of it", send: "POST /one HTTP/1.1\r\nHost:\ta \r\nContent-Length: \t5 \t\r\n\r\nabcde" + second, seen: seen(with("POST /one", "abcde"), two)},
		{name: "asterisk-options", rule: "9112 3.2.4", send: lines("OPTIONS * HTTP/1.1", "Host: a"), seen: seen("OPTIONS *")},
		{name: "end-in-head", rule: "9112 8: an incomplete request is none", send: "GET /one HTTP/1.1\r\nHost: a\r\n", end: true},
		{name: "end-in-request-line", rule: "9112 8", send: "GET /on", end: true},
		{name: "end-behind-one", rule: "9112 8", send: get("/one") + "GET /tw", seen: seen("GET /one"), end: true},
		{name: "end-in-length", rule: "9112 8: an incomplete request may be left unanswered", send: post("/one", "Content-Length: 10") + "abcde", end: true, inBody: true},
		{name: "end-in-chunk", rule: "9112 8", send: chunkedHead + "5\r\nabc", end: true, inBody: true},
		{name: "end-in-chunk-size", rule: "9112 8", send: chunkedHead + "5\r\nabcde\r\n1", end: true, inBody: true},
		{name: "end-before-last-chunk", rule: "9112 8: without the last chunk it is incomplete", send: chunkedHead + "5\r\nabcde\r\n", end: true, inBody: true},
		{name: "end-in-trailers", rule: "9112 8", send: chunkedHead + "5\r\nabcde\r\n0\r\nX: y\r\n", end: true, inBody: true},
		{name: "length-swallows-request", rule: "9112 6.3: a body that is too long takes the next request", send: post("/one", fmt.Sprintf("Content-Length: %d", 5+len(hidden))) + "abcde" + hidden + second, seen: seen(with("POST /one", "abcde"+hidden), two)},
	}
	// Bodies that end at, before and behind the ends of buffers, with the next request close behind.
	for _, n := range []int{4095, 4096, 8191, 8192, 16383, 16384, 16385, 32767, 32768, 65535, 65536, 65537, 100_000} {
		body := strings.Repeat("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", n/40+1)[:n]
		list = append(list,
			sent{name: fmt.Sprintf("length-of-%d", n), rule: "9112 6.3", send: length(body) + second, seen: seen(with("POST /one", body), two)},
			sent{name: fmt.Sprintf("chunk-of-%d", n), rule: "9112 7.1", send: chunkedHead + chunk(body) + "0\r\n\r\n" + second, seen: seen(with("POST /one", body), two)},
		)
	}
	return list
}

// codec gives the vectors of the codec that can be sent over a socket and end. What it accepts and cannot be carried (CONNECT) or is longer than a test should be is left out.
func codec() []sent {
	var list []sent
	for _, v := range vectors.Requests() {
		switch {
		case v.Reason == http1.ErrHTTP2Preface.Reason, v.Want.Method == "CONNECT", v.Want.Length > 1<<16: // the first is spoken here
		case v.Status != 0:
			list = append(list, sent{name: v.Name, rule: v.Rule, send: v.In + evil, status: v.Status, reason: v.Reason})
		default:
			list = append(list, accepted(v))
		}
	}
	for _, v := range vectors.ChunkedBodies() {
		s := sent{name: "chunked/" + v.Name, rule: v.Rule, send: v.AsRequest("a"), status: v.Status, reason: v.Reason, inBody: v.Reason != ""}
		switch {
		case v.Reason == http1.ErrTruncated.Reason:
			s.status, s.reason, s.end = 0, "", true
		case v.Reason != "":
			s.send += evil
			s.status = max(s.status, 400)
		default:
			s.send = strings.TrimSuffix(s.send, v.Rest) + get("/two")
			s.seen = []string{message{method: "POST", target: "/", body: v.Payload}.String(), "GET /two"}
		}
		list = append(list, s)
	}
	return list
}

// accepted says what an origin has to see of a request that the codec accepts.
func accepted(v vectors.Request) sent {
	s := sent{name: v.Name, rule: v.Rule, send: v.In, closes: v.Want.Close}
	m := message{method: v.Want.Method, target: v.Want.Path}
	if m.method == "" {
		m.method = "GET"
	}
	if m.target == "" {
		m.target = "/"
	}
	if line, _, _ := strings.Cut(strings.TrimPrefix(v.In, "\r\n"), "\r\n"); strings.Contains(line, "?") {
		m.target += "?" + v.Want.Query
	}
	behind := v.Want.Rest
	switch v.Want.Body {
	case "content-length":
		missing := max(0, int(v.Want.Length)-len(behind))
		s.send += strings.Repeat("x", missing)
		behind += strings.Repeat("x", missing)
		m.body, behind = behind[:v.Want.Length], behind[v.Want.Length:]
	case "chunked":
		if behind == "" {
			behind = http1.LastChunk
			s.send += behind
		}
		body, rest, err := readChunks([]byte(behind))
		if err != nil {
			panic(err) // a mistake in the vector
		}
		m.body, behind = body, string(rest)
	}
	s.seen = []string{m.String()}
	switch {
	case strings.HasPrefix(behind, "GET / "):
		s.seen = append(s.seen, "GET /")
	case behind != "":
		s.status, s.reason = 501, "method_too_long"
	}
	return s
}
