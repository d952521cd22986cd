package http1_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/http1"
)

// crlf writes line ends as they are on the wire.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func mustRequest(t testing.TB, in string) *http1.Head {
	t.Helper()
	h, _, err := parseRequest(in, len(in))
	require.NoError(t, err)
	return h
}

func TestAppendRequest(t *testing.T) {
	t.Parallel()
	const plain = "GET /x?q HTTP/1.1\nHost: a\nAccept: */*\nX-One: 1\nUser-Agent: u\n\n"
	tests := []struct {
		name, in, want string
		edit           func(t *testing.T, e *http1.Edits)
	}{
		{name: "verbatim", in: plain, want: plain},
		{name: "order, case and duplicates stay", in: "GET / HTTP/1.1\nx-B: 2\nHOST: a\nX-b: 1\n\n", want: "GET / HTTP/1.1\nx-B: 2\nHOST: a\nX-b: 1\n\n"},
		{name: "untidy whitespace", in: "GET / HTTP/1.1\nHost:a\nX:  \t1 \nY:\t2\nZ: 3\nEmpty:\n\n", want: "GET / HTTP/1.1\nHost:a\nX: 1\nY: 2\nZ: 3\nEmpty:\n\n"},
		{name: "version", in: "GET / HTTP/1.0\nHost: a\n\n", want: "GET / HTTP/1.1\nHost: a\n\n"},
		{name: "no host in 1.0", in: "GET / HTTP/1.0\nX: y\n\n", want: "GET / HTTP/1.1\nHost: \nX: y\n\n"},
		{name: "no host in 1.0, absolute target", in: "GET http://b/x HTTP/1.0\n\n", want: "GET /x HTTP/1.1\nHost: b\n\n"},
		{name: "absolute becomes origin", in: "GET http://a/x?y HTTP/1.1\nHost: a\n\n", want: "GET /x?y HTTP/1.1\nHost: a\n\n"},
		{name: "absolute without path", in: "GET http://a?y HTTP/1.1\nHost: a\n\n", want: "GET /?y HTTP/1.1\nHost: a\n\n"},
		{name: "empty query", in: "GET /? HTTP/1.1\nHost: a\n\n", want: "GET /? HTTP/1.1\nHost: a\n\n"},
		{name: "normalised path", in: "GET /a/../%62%2f?%61/.. HTTP/1.1\nHost: a\n\n", want: "GET /b%2F?%61/.. HTTP/1.1\nHost: a\n\n"},
		{name: "asterisk", in: "OPTIONS * HTTP/1.1\nHost: a\n\n", want: "OPTIONS * HTTP/1.1\nHost: a\n\n"},
		{name: "connect", in: "CONNECT b:1 HTTP/1.1\nHost: b:1\n\n", want: "CONNECT b:1 HTTP/1.1\nHost: b:1\n\n"},
		{
			name: "hop by hop", want: "GET / HTTP/1.1\nHost: a\nX: y\n\n",
			in: "GET / HTTP/1.1\nConnection: keep-alive, X-Hop\nHost: a\nKeep-Alive: 5\nProxy-Connection: keep-alive\nX-Hop: 1\nX: y\nx-hop: 2\nTE: trailers\nProxy-Authorization: b\nUpgrade: foo\n\n",
		},
		{
			name: "connection names known headers", want: "GET / HTTP/1.1\nHost: a\nX-Request-Id: 1\nX-Forwarded-For: 2\nAuthorization: 3\nX-Meshtest-Route: 4\ntraceparent: 5\n\n",
			in: "GET / HTTP/1.1\nHost: a\nConnection: x-request-id, x-forwarded-for, authorization, host, x-meshtest-route, traceparent\nX-Request-Id: 1\nX-Forwarded-For: 2\nAuthorization: 3\nX-Meshtest-Route: 4\ntraceparent: 5\n\n",
		},
		{name: "length stays", in: "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nX: y\n\n", want: "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nX: y\n\n"},
		{name: "untidy length", in: "POST / HTTP/1.1\nHost: a\nContent-Length: \t5\n\n", want: "POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\n"},
		{name: "chunked is written anew", in: "POST / HTTP/1.1\nTransfer-Encoding: \t CHUNKED\nHost: a\n\n", want: "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n"},
		{name: "expectation goes on", in: "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nExpect: 100-continue\n\n", want: "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nExpect: 100-continue\n\n"},
		{name: "idle expectation ends", in: "GET / HTTP/1.1\nHost: a\nExpect: 100-continue\n\n", want: "GET / HTTP/1.1\nHost: a\n\n"},
		{name: "upgrade not asked for", in: "GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n", want: "GET / HTTP/1.1\nHost: a\n\n"},
		{
			name: "upgrade", in: "GET / HTTP/1.1\nHost: a\nConnection: x, Upgrade\nX: y\nUpgrade: websocket\nSec-WebSocket-Key: k\n\n",
			want: "GET / HTTP/1.1\nHost: a\nSec-WebSocket-Key: k\nConnection: Upgrade\nUpgrade: websocket\n\n",
			edit: func(_ *testing.T, e *http1.Edits) { e.KeepUpgrade = true },
		},
		{
			name: "upgrade that is none", in: "GET / HTTP/1.1\nHost: a\nUpgrade: websocket\n\n", want: "GET / HTTP/1.1\nHost: a\n\n",
			edit: func(_ *testing.T, e *http1.Edits) { e.KeepUpgrade = true },
		},
		{
			name: "set, add, delete", in: plain, want: "GET /x?q HTTP/1.1\nHost: a\nX-One: 2\nX-One: 3\nX-New: n\n\n",
			edit: func(t *testing.T, e *http1.Edits) {
				require.True(t, e.Set("X-One", "0"))
				require.True(t, e.Set("X-One", "2"))
				require.True(t, e.AddBytes("X-One", []byte("3")))
				require.True(t, e.Delete("accept"))
				require.True(t, e.Delete("User-Agent"))
				require.True(t, e.SetBytes("X-New", []byte("n")))
			},
		},
		{
			name: "delete first and last", in: plain, want: "GET /x?q HTTP/1.1\nHost: a\nX-One: 1\n\n",
			edit: func(_ *testing.T, e *http1.Edits) { e.DeleteIndex(1); e.DeleteIndex(3) },
		},
		{
			name: "delete everything that can be", in: "POST / HTTP/1.1\nA: 1\nHost: a\nContent-Length: 1\nB: 2\n\n", want: "POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\n",
			edit: func(_ *testing.T, e *http1.Edits) {
				for i := range 4 {
					e.DeleteIndex(i)
				}
			},
		},
		{
			name: "delete a family", in: "GET / HTTP/1.1\nHost: a\nX-Meshtest-A: 1\nx-meshtest-b: 2\nX-Meshtest-Reason: r\nX-Envoy-Fault-Delay-Request: 1\nX-Envoy-Foo: 1\n\n",
			want: "GET / HTTP/1.1\nHost: a\nX-Envoy-Foo: 1\nx-meshtest-a: new\n\n",
			edit: func(t *testing.T, e *http1.Edits) {
				require.True(t, e.DeleteKnown(http1.XMeshtestOther))
				require.True(t, e.DeleteKnown(http1.XEnvoyFaultOther))
				require.True(t, e.Set("x-meshtest-a", "new"))
			},
		},
		{
			name: "delete one of a family", in: "GET / HTTP/1.1\nHost: a\nX-Meshtest-A: 1\nX-Meshtest-B: 2\n\n", want: "GET / HTTP/1.1\nHost: a\nX-Meshtest-B: 2\n\n",
			edit: func(t *testing.T, e *http1.Edits) { require.True(t, e.Delete("x-meshtest-a")) },
		},
		{
			name: "host", in: plain, want: "GET /x?q HTTP/1.1\nHost: c:1\nAccept: */*\nX-One: 1\nUser-Agent: u\n\n",
			edit: func(t *testing.T, e *http1.Edits) {
				require.True(t, e.Set("host", "b"))
				require.True(t, e.Add("host", "b"))
				require.True(t, e.SetHost([]byte("c:1")))
				require.False(t, e.Set("Host", "d e"))
			},
		},
		{
			name: "known names", in: "GET / HTTP/1.1\nHost: a\nX-B3-SpanId: old\n\n", want: "GET / HTTP/1.1\nHost: a\nx-b3-spanid: 1\nx-request-id: \x80b\n\n",
			edit: func(t *testing.T, e *http1.Edits) {
				require.True(t, e.DeleteKnown(http1.XB3SpanID))
				require.True(t, e.AddKnown(http1.XB3SpanID, "1"))
				require.True(t, e.AddKnownBytes(http1.XRequestID, []byte("\x80b")))
				for _, id := range []http1.Known{http1.Unknown, http1.Host, http1.ContentLength, http1.Connection, http1.XMeshtestOther} {
					require.False(t, e.AddKnown(id, "1"), id.String())
				}
				for _, value := range []string{"\r", "a\nb: c", "long enough for eight\x00", "12345678\x7f"} {
					require.False(t, e.AddKnown(http1.Date, value), value)
				}
			},
		},
		{
			name: "path", in: plain, want: "GET /new/path?q HTTP/1.1\nHost: a\nAccept: */*\nX-One: 1\nUser-Agent: u\n\n",
			edit: func(t *testing.T, e *http1.Edits) { require.True(t, e.SetPath([]byte("/new/path"))) },
		},
		{
			name: "close", in: "GET / HTTP/1.1\nHost: a\n\n", want: "GET / HTTP/1.1\nHost: a\nConnection: close\n\n",
			edit: func(_ *testing.T, e *http1.Edits) { e.Close = true },
		},
		{
			name: "body of another length", in: "POST / HTTP/1.1\nContent-Length: 5\nHost: a\n\n", want: "POST / HTTP/1.1\nHost: a\nContent-Length: 7\n\n",
			edit: func(_ *testing.T, e *http1.Edits) { e.SetBody(http1.Body{Kind: http1.BodyLength, Length: 7}) },
		},
		{
			name: "chunked becomes a length", in: "POST / HTTP/1.1\nTransfer-Encoding: chunked\nHost: a\n\n", want: "POST / HTTP/1.1\nHost: a\nContent-Length: 7\n\n",
			edit: func(_ *testing.T, e *http1.Edits) { e.SetBody(http1.Body{Kind: http1.BodyLength, Length: 7}) },
		},
		{
			name: "length becomes chunked", in: "POST / HTTP/1.1\nContent-Length: 5\nHost: a\n\n", want: "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n",
			edit: func(_ *testing.T, e *http1.Edits) { e.SetBody(http1.Body{Kind: http1.BodyChunked}) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var e *http1.Edits
			if tt.edit != nil {
				e = new(http1.Edits)
				for range 2 { // Reset leaves nothing behind
					e.Reset()
					tt.edit(t, e)
				}
			}
			h := mustRequest(t, crlf(tt.in))
			require.Equal(t, crlf(tt.want), string(http1.AppendRequest(nil, h, e)))
		})
	}
}

func TestAppendResponse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in, want string
		req            http1.Exchange
		edit           func(e *http1.Edits)
	}{
		{name: "verbatim", in: "HTTP/1.1 200 Fine\nContent-Length: 1\nSet-Cookie: a\nSet-Cookie: b\n\n", want: "HTTP/1.1 200 Fine\nContent-Length: 1\nSet-Cookie: a\nSet-Cookie: b\n\n"},
		{name: "version and space", in: "HTTP/1.0 204\n\n", want: "HTTP/1.1 204 \n\n"},
		{name: "hop by hop", in: "HTTP/1.1 200 OK\nConnection: keep-alive, X\nKeep-Alive: 5\nX: 1\nContent-Length: 0\nProxy-Authenticate: b\n\n", want: "HTTP/1.1 200 OK\nContent-Length: 0\n\n"},
		{name: "until close", in: "HTTP/1.1 200 OK\nX: 1\n\n", want: "HTTP/1.1 200 OK\nX: 1\nConnection: close\n\n"},
		{
			name: "until close, in chunks", in: "HTTP/1.1 200 OK\nX: 1\n\n", want: "HTTP/1.1 200 OK\nX: 1\nTransfer-Encoding: chunked\n\n",
			edit: func(e *http1.Edits) { e.SetBody(http1.Body{Kind: http1.BodyChunked}) },
		},
		{
			name: "chunks for an HTTP/1.0 client", in: "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", want: "HTTP/1.1 200 OK\nConnection: close\n\n",
			edit: func(e *http1.Edits) { e.SetBody(http1.Body{Kind: http1.BodyUntilClose}) },
		},
		{
			name: "an empty body instead", in: "HTTP/1.1 200 OK\nContent-Length: 7\n\n", want: "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
			edit: func(e *http1.Edits) { e.SetBody(http1.Body{}) },
		},
		{name: "204 with a length", in: "HTTP/1.1 204 No Content\nContent-Length: 0\n\n", want: "HTTP/1.1 204 No Content\n\n"},
		{name: "304", in: "HTTP/1.1 304 Not Modified\nContent-Length: 7\nETag: x\n\n", want: "HTTP/1.1 304 Not Modified\nContent-Length: 7\nETag: x\n\n"},
		{name: "head", req: http1.Exchange{Method: http1.HEAD}, in: "HTTP/1.1 200 OK\nContent-Length: 7\n\n", want: "HTTP/1.1 200 OK\nContent-Length: 7\n\n"},
		{name: "connect", req: http1.Exchange{Method: http1.CONNECT}, in: "HTTP/1.1 200 OK\nContent-Length: 7\nTransfer-Encoding2: x\n\n", want: "HTTP/1.1 200 OK\nTransfer-Encoding2: x\n\n"},
		{
			name: "upgrade", req: http1.Exchange{Method: http1.GET, Upgrade: true}, in: "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: websocket\nX: 1\n\n",
			want: "HTTP/1.1 101 Switching Protocols\nX: 1\nConnection: Upgrade\nUpgrade: websocket\n\n", edit: func(e *http1.Edits) { e.KeepUpgrade = true },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var e *http1.Edits
			if tt.edit != nil {
				e = new(http1.Edits)
				tt.edit(e)
			}
			in := crlf(tt.in)
			h, _, err := parseResponse(in, len(in), tt.req)
			require.NoError(t, err)
			require.Equal(t, crlf(tt.want), string(http1.AppendResponse(nil, h, e)))
		})
	}
}

func TestEditsRefuseWhatWouldSplitAMessage(t *testing.T) {
	t.Parallel()
	e := new(http1.Edits)
	for _, name := range []string{"", "a b", "a:", "a\r\nb", "é", "Content-Length", "transfer-encoding", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "HTTP2-Settings"} {
		require.False(t, e.Set(name, "v"), name)
		require.False(t, e.Add(name, "v"), name)
		require.False(t, e.Delete(name), name)
	}
	for _, value := range []string{"a\r\nX: y", "a\n", "\x00", "\x7f"} {
		require.False(t, e.Set("X", value), "%q", value)
		require.False(t, e.AddBytes("X", []byte(value)), "%q", value)
	}
	for _, path := range []string{"", "x", "/a b", "/a?b", "/a#b", "/a\\b", "/\r\n", "/é"} {
		require.False(t, e.SetPath([]byte(path)), "%q", path)
	}
	require.False(t, e.SetHost([]byte("a\r\nb")))
	require.False(t, e.Delete("Host"))
	require.False(t, e.DeleteKnown(http1.Host))
	require.False(t, e.DeleteKnown(http1.ContentLength))
	require.False(t, e.DeleteKnown(http1.Unknown))

	in := crlf("POST / HTTP/1.1\nHost: a\nContent-Length: 5\nX: y\n\n")
	require.Equal(t, in, string(http1.AppendRequest(nil, mustRequest(t, in), e)))
}

func TestClonesOfEditsAreTheirOwn(t *testing.T) {
	t.Parallel()
	in := crlf("GET / HTTP/1.1\nHost: a\nX: y\n\n")
	h := mustRequest(t, in)
	e := new(http1.Edits)
	require.Equal(t, "a", string(e.HostOf(h)))
	require.True(t, e.SetHost([]byte("b")))
	require.True(t, e.Add("added", "1"))
	require.True(t, e.DeleteKnown(http1.Date))
	clone := e.Clone()
	require.Equal(t, "b", string(clone.HostOf(h)))
	require.True(t, clone.Delete("added"))
	require.True(t, clone.Delete("x"))
	require.True(t, clone.SetHost([]byte("c")))
	require.True(t, e.Add("more", "2"))
	require.Equal(t, crlf("GET / HTTP/1.1\nHost: b\nX: y\nadded: 1\nmore: 2\n\n"), string(http1.AppendRequest(nil, h, e)))
	require.Equal(t, crlf("GET / HTTP/1.1\nHost: c\n\n"), string(http1.AppendRequest(nil, h, &clone)))
}

func TestAppendReply(t *testing.T) {
	t.Parallel()
	e := new(http1.Edits)
	require.True(t, e.Set("x-meshtest-reason", "no_route"))
	e.Close = true
	tests := []struct {
		name  string
		reply http1.Reply
		edits *http1.Edits
		want  string
	}{
		{"body", http1.Reply{Status: 503, ContentType: "text/plain", Body: []byte("no")}, e, "HTTP/1.1 503 Service Unavailable\nContent-Type: text/plain\nContent-Length: 2\nx-meshtest-reason: no_route\nConnection: close\n\nno"},
		{"to HEAD", http1.Reply{Status: 503, Body: []byte("no"), HeadOnly: true}, nil, "HTTP/1.1 503 Service Unavailable\nContent-Length: 2\n\n"},
		{"empty", http1.Reply{Status: 400}, nil, "HTTP/1.1 400 Bad Request\nContent-Length: 0\n\n"},
		{"no content", http1.Reply{Status: 204, Body: []byte("no")}, nil, "HTTP/1.1 204 No Content\n\n"},
		{"odd code", http1.Reply{Status: 599}, nil, "HTTP/1.1 599 \nContent-Length: 0\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, crlf(tt.want), string(http1.AppendReply(nil, &tt.reply, tt.edits)))
		})
	}
	require.Equal(t, "1f\r\n", string(http1.AppendChunkSize(nil, 31)))
}
