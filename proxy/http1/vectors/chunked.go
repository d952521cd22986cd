package vectors

import (
	"fmt"
	"strings"
)

// ChunkedBodies gives all vectors of the chunked coding.
func ChunkedBodies() []Chunked {
	one := func(size string) string { return size + "\r\nabcde\r\n0\r\n\r\n" }
	good := func(name, rule, size string) Chunked {
		c := Chunked{Name: "size/" + name, Rule: rule, In: one(size), Payload: "abcde"}
		if i := strings.IndexByte(size, ';'); i >= 0 {
			c.Name, c.Relayed = "extension/"+name, one(size[:i])
		}
		return c
	}
	bad := func(name, rule, size, reason string) Chunked {
		return Chunked{Name: "size/" + name, Rule: rule, In: one(size), Reason: reason}
	}
	badExtension := func(name, extension string) Chunked {
		return Chunked{Name: "extension/" + name, Rule: "9112 7.1.1: chunk-ext = *( BWS \";\" BWS chunk-ext-name [ BWS \"=\" BWS chunk-ext-val ] )", In: one("5" + extension), Reason: "chunk_extension_invalid"}
	}
	trailer := func(name, line, reason string) Chunked {
		return Chunked{Name: "trailer/" + name, Rule: "9110 6.5.1, 9112 7.1.2", In: "5\r\nabcde\r\n0\r\n" + line + "\r\n\r\n", Reason: reason}
	}
	ext := ";" + strings.Repeat("x", 8191) // 8 KiB
	list := []Chunked{
		good("plain", "9112 7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF", "5"),
		good("leading-zeros", "9112 7.1: chunk-size = 1*HEXDIG", "005"),
		good("sixteen-digits", "limit: 16 digits", "0000000000000005"),
		{Name: "size/upper-case", Rule: "9112 7.1: HEXDIG is case-insensitive", In: "A\r\n0123456789\r\n0\r\n\r\n", Payload: "0123456789"},
		{Name: "size/lower-case", Rule: "9112 7.1", In: "a\r\n0123456789\r\n0\r\n\r\n", Payload: "0123456789"},
		{Name: "size/two-digits", Rule: "9112 7.1", In: "1f\r\n" + strings.Repeat("y", 31) + "\r\n0\r\n\r\n", Payload: strings.Repeat("y", 31)},
		{Name: "chunk/empty-body", Rule: "9112 7.1: last-chunk = 1*(\"0\")", In: "0\r\n\r\n"},
		{Name: "chunk/last-with-zeros", Rule: "9112 7.1", In: "1\r\na\r\n000\r\n\r\n", Payload: "a"},
		{Name: "chunk/three", Rule: "9112 7.1", In: "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", Payload: "abcdef"},
		{Name: "chunk/crlf-in-data", Rule: "9112 7.1: data is opaque", In: "8\r\n\r\n0\r\n\r\na\r\n0\r\n\r\n", Payload: "\r\n0\r\n\r\na"},
		{Name: "chunk/pipelined", Rule: "9112 7.1: the body ends with the last CRLF", In: one("5") + "GET / HTTP/1.1\r\n", Payload: "abcde", Rest: "GET / HTTP/1.1\r\n"},
		bad("empty", "9112 7.1: 1*HEXDIG", "", "chunk_size_invalid"),
		bad("leading-space", "9112 7.1", " 5", "chunk_size_invalid"),
		bad("leading-tab", "9112 7.1", "\t5", "chunk_size_invalid"),
		bad("trailing-space", "9112 7.1.1: BWS only before an extension; here not even there", "5 ", "chunk_size_invalid"),
		bad("trailing-tab", "9112 7.1", "5\t", "chunk_size_invalid"),
		bad("space-before-extension", "9112 7.1.1: BWS is bad; here refused", "5 ;a", "chunk_size_invalid"),
		bad("hex-prefix", "9112 7.1", "0x5", "chunk_size_invalid"),
		bad("plus", "9112 7.1", "+5", "chunk_size_invalid"),
		bad("minus", "9112 7.1", "-5", "chunk_size_invalid"),
		bad("minus-zero", "9112 7.1", "-0", "chunk_size_invalid"),
		bad("underscore", "9112 7.1", "0_5", "chunk_size_invalid"),
		bad("letters-behind", "9112 7.1", "5junk", "chunk_size_invalid"),
		bad("not-hex", "9112 7.1", "g", "chunk_size_invalid"),
		bad("nul", "9112 7.1", "5\x00", "chunk_size_invalid"),
		bad("comma", "9112 7.1", "5,5", "chunk_size_invalid"),
		bad("quoted", "9112 7.1", "\"5\"", "chunk_size_invalid"),
		bad("non-ascii", "9112 7.1", "\xef\xbc\x95", "chunk_size_invalid"),
		bad("seventeen-digits", "9112 7.1: prevent integer overflow", "00000000000000005", "chunk_size_overflow"),
		bad("2^63", "9112 7.1", "8000000000000000", "chunk_size_overflow"),
		bad("2^64-1", "9112 7.1", "ffffffffffffffff", "chunk_size_overflow"),
		bad("2^64+5", "9112 7.1", "10000000000000005", "chunk_size_overflow"),
		bad("2^32-like", "9112 7.1: the data ends the vector early", "100000005", "truncated"),
		{Name: "line/bare-lf-size", Rule: "9112 2.2, CVE-2025-22871", In: "5\nabcde\r\n0\r\n\r\n", Reason: "bare_lf"},
		{Name: "line/bare-cr-size", Rule: "9112 2.2", In: "5\rabcde\r\n0\r\n\r\n", Reason: "bare_cr"},
		{Name: "line/crx-size", Rule: "9112 2.2", In: "5\rX\nabcde\r\n0\r\n\r\n", Reason: "bare_cr"},
		{Name: "line/crcrlf-size", Rule: "9112 2.2", In: "5\r\r\nabcde\r\n0\r\n\r\n", Reason: "bare_cr"},
		{Name: "line/bare-lf-data", Rule: "9112 7.1: CRLF behind the data", In: "5\r\nabcde\n0\r\n\r\n", Reason: "bare_lf"},
		{Name: "line/bare-cr-data", Rule: "9112 7.1", In: "5\r\nabcde\r0\r\n\r\n", Reason: "bare_cr"},
		{Name: "line/no-crlf-data", Rule: "9112 7.1", In: "5\r\nabcde0\r\n\r\n", Reason: "chunk_terminator"},
		{Name: "line/spill", Rule: "9112 7.1: data longer than its size", In: "5\r\nabcdefgh\r\n0\r\n\r\n", Reason: "chunk_terminator"},
		{Name: "line/data-too-short", Rule: "9112 7.1: the size wins over what looks like an end", In: "7\r\nabcde\r\n0\r\n\r\n", Reason: "chunk_terminator"},
		{Name: "line/data-swallows-last-chunk", Rule: "9112 7.1", In: "8\r\nabcde\r\n0\r\n\r\n", Reason: "chunk_size_invalid"},
		{Name: "line/two-any-bytes", Rule: "9112 7.1: exactly CRLF, not any two bytes", In: "5\r\nabcdeXX0\r\n\r\n", Reason: "chunk_terminator"},
		{Name: "line/bare-lf-last", Rule: "9112 2.2", In: "5\r\nabcde\r\n0\n\r\n", Reason: "bare_lf"},
		{Name: "line/bare-lf-end", Rule: "9112 2.2", In: "5\r\nabcde\r\n0\r\n\n", Reason: "bare_lf"},
		{Name: "line/bare-cr-end", Rule: "9112 2.2", In: "5\r\nabcde\r\n0\r\n\rX", Reason: "bare_cr"},
		{Name: "truncated/size", Rule: "9112 8: incomplete", In: "5", Reason: "truncated"},
		{Name: "truncated/data", Rule: "9112 8", In: "5\r\nabc", Reason: "truncated"},
		{Name: "truncated/no-last-chunk", Rule: "9112 8: without the zero-sized chunk it is incomplete", In: "5\r\nabcde\r\n", Reason: "truncated"},
		{Name: "truncated/no-last-crlf", Rule: "9112 8", In: "5\r\nabcde\r\n0\r\n", Reason: "truncated"},
		{Name: "truncated/trailer", Rule: "9112 8", In: "5\r\nabcde\r\n0\r\nX: y\r\n", Reason: "truncated"},
		good("name", "9112 7.1.1: an unknown extension MUST be ignored", "5;a"),
		good("value", "9112 7.1.1", "5;a=b"),
		good("several", "9112 7.1.1", "5;a;b=c;d"),
		good("quoted", "9112 7.1.1: chunk-ext-val = token / quoted-string", "5;a=\"b c\""),
		good("quoted-pair", "9110 5.6.4", "5;a=\"b\\\"c;\\\\\";d"),
		good("quoted-text", "9110 5.6.4: qdtext holds HTAB and obs-text", "5;a=\"\t;=\xe9\""),
		good("quoted-empty", "9110 5.6.4", "5;a=\"\""),
		good("whitespace", "9112 7.1.1: BWS", "5; a = b ; c"),
		{Name: "extension/on-last-chunk", Rule: "9112 7.1: last-chunk has extensions too", In: "1\r\na\r\n0;x=y\r\n\r\n", Payload: "a", Relayed: "1\r\na\r\n0\r\n\r\n"},
		{Name: "extension/looks-like-chunk", Rule: "9110 5.6.4: a quoted string hides nothing", In: one("5;a=\"0;b\""), Payload: "abcde", Relayed: one("5")},
		badExtension("bare", ";"),
		badExtension("bare-twice", ";;a"),
		badExtension("bare-at-end", ";a;"),
		badExtension("only-space", "; "),
		badExtension("no-name", ";=b"),
		badExtension("no-value", ";a="),
		badExtension("no-value-before-next", ";a=;b"),
		badExtension("trailing-space", ";a "),
		badExtension("trailing-space-value", ";a=b "),
		badExtension("two-values", ";a=b=c"),
		badExtension("two-words", ";a b"),
		badExtension("name-not-token", ";a/b"),
		badExtension("nul", ";a\x00"),
		badExtension("quoted-nul", ";a=\"\x00\""),
		badExtension("quoted-del", ";a=\"\x7f\""),
		badExtension("open-quote", ";a=\"b"),
		badExtension("behind-quote", ";a=\"b\"c"),
		badExtension("escaped-control", ";a=\"\\\x01\""),
		badExtension("quoted-cr", ";a=\"\rb\""),
		badExtension("non-ascii-name", ";\xe9"),
		{Name: "extension/cr", Rule: "9112 2.2", In: "5;a\rb\r\nabcde\r\n0\r\n\r\n", Reason: "bare_cr"},
		{Name: "extension/bare-lf", Rule: "9112 2.2: the TERM.EXT discrepancy", In: "5;a\nabcde\r\n0\r\n\r\n", Reason: "bare_lf"},
		{Name: "extension/bare-lf-first", Rule: "9112 2.2", In: "5;\nabcde\r\n0\r\n\r\n", Reason: "bare_lf"},
		{Name: "extension/quoted-lf", Rule: "9112 2.2", In: "5;a=\"\n\"\r\nabcde\r\n0\r\n\r\n", Reason: "bare_lf"},
		{Name: "extension/at-limit", Rule: "9112 7.1.1: SHOULD limit the total; 16 KiB", In: "1" + ext + "\r\na\r\n1" + ext + "\r\nb\r\n0\r\n\r\n", Payload: "ab", Relayed: "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"},
		{Name: "extension/over-limit", Rule: "9112 7.1.1, CVE-2023-39326", In: "1" + ext + "\r\na\r\n1" + ext + "x\r\nb\r\n0\r\n\r\n", Reason: "chunk_extension_too_large"},
		{Name: "extension/64-KiB", Rule: "9112 7.1.1", In: one("5;" + strings.Repeat("x", 64<<10)), Reason: "chunk_extension_too_large"},
		{Name: "trailer/one", Rule: "9112 7.1.2", In: "5\r\nabcde\r\n0\r\nX-Checksum: 1\r\n\r\n", Payload: "abcde", Trailers: 1},
		{Name: "trailer/two", Rule: "9112 7.1.2", In: "0\r\nX-A: 1\r\nX-B:2\r\n\r\nrest", Trailers: 2, Rest: "rest"},
		{Name: "trailer/grpc", Rule: "gRPC over HTTP: status and message are trailers", In: "0\r\ngrpc-status: 0\r\nGrpc-Message: ok\r\n\r\n", Trailers: 2},
		trailer("obs-fold", "X: a\r\n b", "obs_fold"),
		trailer("leading-space", " X: a", "leading_whitespace"),
		trailer("space-before-colon", "X : a", "space_before_colon"),
		trailer("no-colon", "X", "header_without_colon"),
		trailer("request-line", "GET /admin HTTP/1.1", "header_without_colon"),
		trailer("empty-name", ": a", "header_name_empty"),
		trailer("nul", "X: a\x00", "control_character"),
		trailer("bare-cr", "X: a\rb", "bare_cr"),
		trailer("bare-lf", "X: a\nY: b", "bare_lf"),
		trailer("underscores", "Content_Length: 5", "header_underscore"),
	}
	limited := func(line, reason string) Chunked {
		v := trailer(reason, line, reason)
		v.Status = 431
		return v
	}
	list = append(list, limited("X: "+strings.Repeat("v", 33<<10), "header_too_large"), limited(strings.Repeat("X: v\r\n", 100)+"X: v", "too_many_headers"))
	for _, name := range []string{
		"Content-Length", "Transfer-Encoding", "Host", "Authorization", "Content-Type", "Content-Encoding", "Content-Range", "Trailer", "Connection", "Upgrade", "TE", "Expect",
		"Cookie", "Set-Cookie", "WWW-Authenticate", "Proxy-Authorization", "Cache-Control", "Max-Forwards", "Range", "If-Match", "X-Forwarded-For", "X-Forwarded-Anything",
		"X-Request-Id", "Traceparent", "X-Meshtest-Route", "X-Envoy-Fault-Abort-Request", "grpc-timeout",
	} {
		list = append(list, trailer("forbidden-"+name, fmt.Sprintf("%s: 1", name), "trailer_forbidden"))
	}
	return list
}
