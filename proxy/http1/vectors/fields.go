package vectors

import (
	"fmt"
	"strings"
)

func hosts() []Request {
	with := func(value string) string { return "GET / HTTP/1.1\r\nHost:" + value + "\r\n\r\n" }
	accepted := func(name, rule, value string) Request {
		return Request{Name: "host/" + name, Rule: rule, In: with(" " + value), Want: Accepted{Host: value}}
	}
	invalid := func(name, rule, value string) Request {
		return Request{Name: "host/" + name, Rule: rule, In: with(" " + value), Status: 400, Reason: "host_invalid"}
	}
	return []Request{
		accepted("name", "9110 7.2: Host = uri-host [ \":\" port ]", "b.example"),
		accepted("port", "9110 7.2", "b.example:8080"),
		accepted("longest-port", "9110 7.2", "b:65535"),
		accepted("ipv4", "9110 7.2", "127.0.0.1:80"),
		accepted("ipv6", "3986 3.2.2: IP-literal", "[2001:db8::1]:80"),
		accepted("ipv6-mapped", "3986 3.2.2", "[::ffff:1.2.3.4]"),
		accepted("underscore", "3986 2.3: unreserved", "my_service"),
		accepted("trailing-dot", "a fully qualified name", "b.example."),
		accepted("upper-case", "3986 3.2.2: case-insensitive", "B.Example"),
		{Name: "host/no-space", Rule: "9112 5: OWS is optional", In: with("b"), Want: Accepted{Host: "b"}},
		{Name: "host/tabs-around", Rule: "9112 5.1: OWS is excluded from the value", In: with("\tb \t"), Want: Accepted{Host: "b"}},
		{Name: "host/lower-case-name", Rule: "9110 5.1: names are case-insensitive", In: "GET / HTTP/1.1\r\nhOST: b\r\n\r\n", Want: Accepted{Host: "b"}},
		{Name: "host/last", Rule: "9110 5.3: the order of different fields does not matter", In: "GET / HTTP/1.1\r\nX: y\r\nHost: b\r\n\r\n", Want: Accepted{Host: "b"}},
		{Name: "host/missing", Rule: "9112 3.2: MUST respond 400 to a 1.1 request that lacks Host", In: "GET / HTTP/1.1\r\n\r\n", Status: 400, Reason: "host_missing"},
		{Name: "host/duplicate-same", Rule: "9112 3.2: MUST respond 400 to more than one Host", In: get("Host: a"), Status: 400, Reason: "host_duplicate"},
		{Name: "host/duplicate-different", Rule: "9112 3.2", In: get("Host: b"), Status: 400, Reason: "host_duplicate"},
		{Name: "host/duplicate-http10", Rule: "9112 3.2: any request message", In: lines("GET / HTTP/1.0", "Host: a", "Host: b"), Status: 400, Reason: "host_duplicate"},
		{Name: "host/duplicate-cases", Rule: "9112 3.2, 9110 5.1", In: get("X: y", "HOST: b"), Status: 400, Reason: "host_duplicate"},
		{Name: "host/duplicate-space-before-colon", Rule: "9112 5.1", In: get("Host : b"), Status: 400, Reason: "space_before_colon"},
		invalid("empty", "9110 4.2.1: an http URI with an empty host MUST be rejected", ""),
		invalid("list", "9112 3.2: an invalid value is 400", "a, b"),
		invalid("comma", "9112 3.2", "a,b"),
		invalid("two-names", "9112 3.2", "a b"),
		invalid("userinfo", "9110 7.2: no userinfo", "u@a"),
		invalid("userinfo-password", "9110 7.2", "u:p@a"),
		invalid("path", "9110 7.2", "a/x"),
		invalid("query", "9110 7.2", "a?x"),
		invalid("fragment", "9110 7.2", "a#x"),
		invalid("scheme", "9110 7.2", "http://a"),
		invalid("empty-port", "here a port has digits", "a:"),
		invalid("only-port", "9110 4.2.1", ":80"),
		invalid("port-0", "6335 6: port 0 is reserved", "a:0"),
		invalid("port-leading-zero", "a canonical port", "a:080"),
		invalid("port-letters", "3986 3.2.3: port = *DIGIT", "a:8o"),
		invalid("port-sign", "3986 3.2.3", "a:+80"),
		invalid("port-65536", "9110 4.2: a TCP port", "a:65536"),
		invalid("port-huge", "9110 4.2", "a:18446744073709551696"),
		invalid("two-ports", "3986 3.2", "a:80:81"),
		invalid("bare-ipv6", "3986 3.2.2: an IPv6 address stands in brackets", "::1"),
		invalid("ipv6-open", "3986 3.2.2", "[::1"),
		invalid("ipv6-garbage", "3986 3.2.2", "[zz]"),
		invalid("ipv6-ipv4", "3986 3.2.2: IP-literal is IPv6 or later", "[1.2.3.4]"),
		invalid("ipv6-tail", "3986 3.2.2", "[::1]x:80"),
		invalid("ipv6-zone", "6874 is for local use", "[fe80::1%25eth0]"),
		invalid("percent", "here a host is not percent-encoded", "%61"),
		invalid("backslash", "3986 3.2.2", "a\\b"),
		invalid("non-ascii", "3986 2", "\xc3\xa9"),
		invalid("quote", "3986 3.2.2", "a'b"),
		invalid("asterisk", "here no sub-delims", "*"),
	}
}

func fieldLines() []Request {
	raw := func(line string) string { return "GET / HTTP/1.1\r\nHost: a\r\n" + line + "\r\n\r\n" }
	reject := func(name, rule, in string, status int, reason string) Request {
		return Request{Name: "field/" + name, Rule: rule, In: in, Status: status, Reason: reason}
	}
	many := func(n int) string {
		var b strings.Builder
		b.WriteString("GET / HTTP/1.1\r\nHost: a\r\n")
		for i := range n - 1 {
			fmt.Fprintf(&b, "X-%d: v\r\n", i)
		}
		return b.String() + "\r\n"
	}
	block := func(n int) string { // a head of n bytes
		const head, tail = "GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n"
		return head + strings.Repeat("v", n-len(head)-len(tail)) + tail
	}
	list := []Request{
		{Name: "field/empty-value", Rule: "9110 5.5: field-value = *field-content", In: raw("X:")},
		{Name: "field/obs-text", Rule: "9110 5.5: obs-text is opaque", In: raw("X: \xe9\xff")},
		{Name: "field/tab-in-value", Rule: "9110 5.5: field-content holds SP and HTAB", In: raw("X: a\tb")},
		{Name: "field/colon-in-value", Rule: "9112 5: the first colon separates", In: raw("X:: a:b:")},
		{Name: "field/all-token-characters", Rule: "9110 5.1: field-name = token", In: raw("X!#$%&'*+-.^_`|~09: v")},
		{Name: "field/duplicates-kept", Rule: "9110 5.3: fields may recur", In: raw("X: 1\r\nX: 2")},
		reject("space-before-colon", "9112 5.1: MUST be rejected with 400", raw("X : v"), 400, "space_before_colon"),
		reject("tab-before-colon", "9112 5.1", raw("X\t: v"), 400, "space_before_colon"),
		reject("spaces-before-colon", "9112 5.1", raw("X \t : v"), 400, "space_before_colon"),
		reject("obs-fold-space", "9112 5.2: MUST be rejected or replaced; here rejected", raw("X: a\r\n b"), 400, "obs_fold"),
		reject("obs-fold-tab", "9112 5.2", raw("X: a\r\n\tb"), 400, "obs_fold"),
		reject("obs-fold-empty", "9112 5.2", raw("X: a\r\n "), 400, "obs_fold"),
		reject("obs-fold-header", "9112 5.2", raw("X: a\r\n Content-Length: 5"), 400, "obs_fold"),
		reject("obs-fold-name", "9112 5.2", raw("X\r\n : v"), 400, "header_without_colon"),
		reject("leading-space", "9112 2.2: whitespace before the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "leading_whitespace"),
		reject("leading-tab", "9112 2.2", "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", 400, "leading_whitespace"),
		reject("leading-blank", "9112 2.2", "GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", 400, "leading_whitespace"),
		reject("no-colon", "9112 5: field-line = field-name \":\"", raw("Garbage"), 400, "header_without_colon"),
		reject("no-colon-words", "9112 5", raw("Some garbage here"), 400, "header_without_colon"),
		reject("second-request-line", "9112 5: request hidden in the header block", raw("GET /evil HTTP/1.1"), 400, "header_without_colon"),
		reject("empty-name", "9110 5.1: token = 1*tchar", raw(": v"), 400, "header_name_empty"),
		reject("only-colon", "9110 5.1", raw(":"), 400, "header_name_empty"),
		reject("space-in-name", "9110 5.1", raw("X Y: v"), 400, "header_name_invalid"),
		reject("non-ascii-name", "9110 5.1", raw("X\xc3\xa9: v"), 400, "header_name_invalid"),
		reject("slash-in-name", "9110 5.1", raw("X/Y: v"), 400, "header_name_invalid"),
		reject("paren-in-name", "9110 5.1", raw("X(Y): v"), 400, "header_name_invalid"),
		reject("bracket-in-name", "9110 5.1", raw("X[0]: v"), 400, "header_name_invalid"),
		reject("quote-in-name", "9110 5.1", raw("\"X\": v"), 400, "header_name_invalid"),
		reject("nbsp-before-colon", "9110 5.1", raw("X\xa0: v"), 400, "header_name_invalid"),
		reject("nul-in-name", "9110 5.1", raw("X\x00Y: v"), 400, "control_character"),
		reject("vt-before-colon", "9110 5.1", raw("X\x0b: v"), 400, "control_character"),
		reject("cr-in-name", "9112 2.2", raw("X\rY: v"), 400, "bare_cr"),
		reject("cr-before-colon", "9112 2.2", raw("X\r: v"), 400, "bare_cr"),
		reject("lf-in-name", "9112 2.2", raw("X\nY: v"), 400, "bare_lf"),
		reject("nul-in-value", "9110 5.5: CR, LF and NUL are dangerous: reject or replace; here reject", raw("X: a\x00b"), 400, "control_character"),
		reject("bel-in-value", "9110 5.5: other controls too", raw("X: a\x07b"), 400, "control_character"),
		reject("vt-in-value", "9110 5.5", raw("X: \x0bv"), 400, "control_character"),
		reject("del-in-value", "9110 5.5", raw("X: a\x7f"), 400, "control_character"),
		reject("del-in-long-value", "9110 5.5", raw("X: 0123456\x7f89abcdef"), 400, "control_character"),
		reject("esc-in-long-value", "9110 5.5", raw("X: \t\t\t\t0123456789abcd\x1bf"), 400, "control_character"),
		reject("cr-in-value", "9110 5.5", raw("X: a\rb"), 400, "bare_cr"),
		reject("cr-at-end-of-value", "9112 2.2", raw("X: a\r"), 400, "bare_cr"),
		reject("cr-smuggled-header", "9112 2.2", raw("X: a\rContent-Length: 5"), 400, "bare_cr"),
		reject("lf-in-value", "9112 2.2", raw("X: a\nContent-Length: 5"), 400, "bare_lf"),
		reject("lf-ends-header", "9112 2.2", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400, "bare_lf"),
		reject("lf-ends-head", "9112 2.2", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "bare_lf"),
		reject("lflf-ends-head", "9112 2.2", "GET / HTTP/1.1\r\nHost: a\n\n", 400, "bare_lf"),
		reject("crcrlf-ends-head", "9112 2.2", "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", 400, "bare_cr"),
		reject("crx-ends-head", "9112 2.2", "GET / HTTP/1.1\r\nHost: a\r\n\rX\r\n\r\n", 400, "bare_cr"),
		{Name: "field/most", Rule: "limit: 100 lines", In: many(100)},
		reject("too-many", "6585 5: 431", many(101), 431, "too_many_headers"),
		{Name: "field/largest-block", Rule: "limit: 32 KiB", In: block(32 << 10)},
		reject("too-large-block", "6585 5: 431", block(32<<10+1), 431, "header_too_large"),
		reject("never-ends", "6585 5: before the line ends", strings.TrimRight(block(40<<10), "\r\n"), 431, "header_too_large"),
		{Name: "field/limit-excludes-body", Rule: "limit: the head alone", In: post("Content-Length: 5") + "abcde" + strings.Repeat("x", 40<<10),
			Want: Accepted{Method: "POST", Body: "content-length", Length: 5, Rest: "abcde" + strings.Repeat("x", 40<<10)}},
	}
	for _, name := range []string{"Content_Length", "Transfer_Encoding", "X_Forwarded_For", "x_request_id", "X_Meshtest_Route", "Host_"} {
		v := reject("underscore-"+name, "CGI reads _ and - alike: a header that nobody judged", raw(name+": 1"), 400, "header_underscore")
		if name == "Host_" { // no known name behind it
			v.Status, v.Reason = 0, ""
		}
		list = append(list, v)
	}
	return list
}
