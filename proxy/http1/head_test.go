package http1_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http1/vectors"
)

// dump writes everything that parsing found.
func dump(h *http1.Head) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q %d %v %d %d %q\n", h.Method, h.MethodName(), h.Form, h.HTTPS, h.Version, h.Status, h.Reason())
	fmt.Fprintf(&b, "%q %q %q %q %v %q\n", h.Target(), h.RawPath(), h.Path(), h.Query(), h.HasQuery(), h.Host())
	fmt.Fprintf(&b, "%+v %v %v %v %v\n", h.Body, h.KeepAlive, h.Expect100, h.Upgrade, h.TETrailers)
	for i := range h.Len() {
		fmt.Fprintf(&b, "%q=%q %+v next %d\n", h.Name(i), h.Value(i), h.Field(i), h.Next(i))
	}
	return b.String()
}

func TestSplitAtEveryByte(t *testing.T) {
	t.Parallel()
	lim := http1.DefaultLimits()
	for _, v := range vectors.Requests() {
		if v.Status != 0 || len(v.In) > 2000 {
			continue
		}
		whole, n, err := parseRequest(v.In, len(v.In))
		require.NoError(t, err)
		for cut := range n {
			h := new(http1.Head)
			_, err := http1.ParseRequest([]byte(v.In[:cut]), h, lim)
			require.ErrorIs(t, err, http1.ErrNeedMore, "%s cut at %d", v.Name, cut)
			m, err := http1.ParseRequest([]byte(v.In), h, lim)
			require.NoError(t, err, "%s cut at %d", v.Name, cut)
			require.Equal(t, n, m)
			require.Equal(t, dump(whole), dump(h), "%s cut at %d", v.Name, cut)
		}
	}
	for _, v := range vectors.Responses() {
		if v.Reason != "" {
			continue
		}
		req := http1.Exchange{Method: methods[v.Method], Upgrade: v.Upgrade}
		whole, n, err := parseResponse(v.In, len(v.In), req)
		require.NoError(t, err)
		for cut := range n {
			h := new(http1.Head)
			_, err := http1.ParseResponse([]byte(v.In[:cut]), h, req, lim)
			require.ErrorIs(t, err, http1.ErrNeedMore, "%s cut at %d", v.Name, cut)
			_, err = http1.ParseResponse([]byte(v.In), h, req, lim)
			require.NoError(t, err, "%s cut at %d", v.Name, cut)
			require.Equal(t, dump(whole), dump(h), "%s cut at %d", v.Name, cut)
		}
	}
}

// TestReuse parses every vector into one and the same Head: nothing of one message, complete or refused, may be seen in the next.
func TestReuse(t *testing.T) {
	t.Parallel()
	h, lim := new(http1.Head), http1.DefaultLimits()
	for _, v := range vectors.Requests() {
		fresh := new(http1.Head)
		n, err := http1.ParseRequest([]byte(v.In), h, lim)
		m, err2 := http1.ParseRequest([]byte(v.In), fresh, lim)
		require.Equal(t, err2, err, v.Name)
		require.Equal(t, m, n, v.Name)
		if err == nil {
			require.Equal(t, dump(fresh), dump(h), v.Name)
		}
		if err == http1.ErrNeedMore {
			h.Reset()
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	h := mustRequest(t, crlf("GET / HTTP/1.1\nHost: a\nX-Request-ID: 7\nX-Dev-User: me\nx-dev-USER: you\nX-Meshtest-A: 1\nX-Meshtest-B: 2\nX-Meshtest-Reason: r\nEmpty:\nCookie: c\nCookie: d\n\n"))
	require.Equal(t, "7", string(h.Get(http1.XRequestID)))
	require.Equal(t, "7", string(h.Lookup("x-request-id")))
	require.Equal(t, "me", string(h.Lookup("x-dev-user")))
	require.Equal(t, "2", string(h.Lookup("x-meshtest-b")), "a name of a family, not just the family")
	require.Equal(t, "1", string(h.Get(http1.XMeshtestOther)))
	require.Equal(t, "r", string(h.Get(http1.XMeshtestReason)))
	require.NotNil(t, h.Lookup("empty"))
	require.Empty(t, h.Lookup("empty"))
	require.Nil(t, h.Lookup("absent"))
	require.Nil(t, h.Get(http1.Authorization))
	require.Nil(t, h.Lookup("authorization"))
	require.Nil(t, h.Lookup("no token"))
	require.Equal(t, -1, h.Find(""))

	first := h.Find("X-DEV-USER")
	require.Equal(t, 2, first)
	require.Equal(t, 3, h.Next(first))
	require.Equal(t, -1, h.Next(3))
	require.Equal(t, h.Index(http1.Cookie)+1, h.Next(h.Index(http1.Cookie)))
	require.Equal(t, h.Find("x-meshtest-b"), h.Next(h.Index(http1.XMeshtestOther)))
}

func TestKnownNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for id := http1.Host; id.String() != "x-meshtest-*"; id++ {
		name := id.String()
		require.NotEmpty(t, name, "known name %d", id)
		require.False(t, seen[name], name)
		seen[name] = true
		example := strings.ReplaceAll(name, "*", "anything")
		require.Equal(t, id, http1.KnownOf(example))
		require.Equal(t, id, http1.KnownOf(strings.ToUpper(example)))
		if !strings.HasSuffix(name, "*") {
			require.NotEqual(t, id, http1.KnownOf(name+"x"))
		}
	}
	for _, other := range []string{"", "x", "x-", "hos", "hosts", "x-meshtest-", "x-forwarded-", "x-b3-other", "not a token", "content_length"} {
		require.Equal(t, http1.Unknown, http1.KnownOf(other), other)
	}
}

func TestRebind(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/plain", "/a/../b", "/%41"} {
		in := []byte(crlf("GET " + path + "?q HTTP/1.1\nHost: a\nX: y\n\nrest"))
		h := mustRequest(t, string(in))
		want := dump(h)
		moved := append([]byte(nil), h.Bytes()...)
		h.Rebind(moved)
		require.Equal(t, want, dump(h))
		require.Equal(t, moved, h.Bytes())
	}
}

func TestSplitHostPort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		host string
		port uint16
	}{"a": {"a", 0}, "a:80": {"a", 80}, "[::1]": {"[::1]", 0}, "[::1]:65535": {"[::1]", 65535}, "": {"", 0}, "a:0": {"a", 0}} {
		host, port := http1.SplitHostPort([]byte(in))
		require.Equal(t, want.host, string(host), in)
		require.Equal(t, want.port, port, in)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	requests, responses := http1.Reasons(http1.Request), http1.Reasons(http1.Response)
	require.Len(t, requests, http1.NumReasons)
	seen := map[string]bool{}
	for i, r := range requests {
		require.Regexp(t, `^[a-z0-9]+(_[a-z0-9]+)*$`, r.Reason)
		require.False(t, seen[r.Reason], r.Reason)
		seen[r.Reason] = true
		require.NotEmpty(t, r.Text)
		require.Equal(t, i, r.Index)
		require.Contains(t, []int{400, 414, 417, 431, 501, 505}, r.Status)
		require.Equal(t, r.Reason, responses[i].Reason)
		require.Equal(t, 502, responses[i].Status)
		require.Contains(t, r.Error(), r.Reason)
	}
	_, _, err := parseRequest("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 100)
	require.Same(t, http1.ErrHTTP2Preface, err)
}

// seen is payload as a watcher saw it.
type seen []byte

func (s *seen) Scan(payload []byte) { *s = append(*s, payload...) }

func TestBodyScanner(t *testing.T) {
	t.Parallel()
	lim := http1.DefaultLimits()
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		var s http1.BodyScanner
		s.Reset(http1.Body{}, http1.Request, lim)
		require.True(t, s.Done())
		require.Zero(t, s.Remaining())
		fwd, drop, err := s.Scan([]byte("next"))
		require.NoError(t, err)
		require.Zero(t, fwd+drop)
		require.NoError(t, s.EOF())
	})
	t.Run("length", func(t *testing.T) {
		t.Parallel()
		var s http1.BodyScanner
		s.Reset(http1.Body{Kind: http1.BodyLength, Length: 5}, http1.Request, lim)
		fwd, _, err := s.Scan([]byte("abc"))
		require.NoError(t, err)
		require.Equal(t, 3, fwd)
		require.EqualValues(t, 2, s.Remaining())
		require.Same(t, http1.ErrTruncated, s.EOF())
		skip, n, err := s.Payload([]byte("denext"))
		require.NoError(t, err)
		require.Equal(t, []int{0, 2}, []int{skip, n})
		require.True(t, s.Done())
		require.NoError(t, s.EOF())
		require.EqualValues(t, 5, s.PayloadBytes())
		require.Nil(t, s.Trailers())
	})
	t.Run("watched", func(t *testing.T) {
		t.Parallel()
		var s http1.BodyScanner
		for _, test := range []struct {
			body http1.Body
			in   string
		}{
			{http1.Body{Kind: http1.BodyLength, Length: 5}, "hello"},
			{http1.Body{Kind: http1.BodyUntilClose}, "hello"},
			{http1.Body{Kind: http1.BodyChunked}, "2;why=not\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n"},
		} {
			for _, step := range []int{1, 2, 3, 100} {
				var scanned, payload seen
				s.Reset(test.body, http1.Request, lim)
				s.Watch(&scanned)
				for _, w := range windows(test.in, step) {
					for len(w) > 0 {
						fwd, drop, err := s.Scan(w)
						require.NoError(t, err)
						w = w[fwd+drop:]
					}
				}
				require.EqualValues(t, "hello", scanned)
				s.Reset(test.body, http1.Request, lim)
				s.Watch(&payload)
				for _, w := range windows(test.in, step) {
					for len(w) > 0 {
						skip, n, err := s.Payload(w)
						require.NoError(t, err)
						w = w[skip+n:]
					}
				}
				require.EqualValues(t, "hello", payload)
				s.Reset(test.body, http1.Request, lim)
				_, _, err := s.Scan([]byte(test.in))
				require.NoError(t, err)
				require.EqualValues(t, "hello", payload, "a watcher is one body's")
			}
		}
	})
	t.Run("skip", func(t *testing.T) {
		t.Parallel()
		var s http1.BodyScanner
		s.Reset(http1.Body{Kind: http1.BodyLength, Length: 5}, http1.Response, lim)
		s.Skip(4)
		require.Same(t, http1.ErrResponseTruncated, s.EOF())
		s.Skip(4)
		require.True(t, s.Done())
		require.EqualValues(t, 5, s.PayloadBytes())
	})
	t.Run("until close", func(t *testing.T) {
		t.Parallel()
		var s http1.BodyScanner
		s.Reset(http1.Body{Kind: http1.BodyUntilClose}, http1.Response, lim)
		fwd, _, err := s.Scan([]byte("abc"))
		require.NoError(t, err)
		require.Equal(t, 3, fwd)
		require.EqualValues(t, -1, s.Remaining())
		require.False(t, s.Done())
		require.NoError(t, s.EOF())
		require.True(t, s.Done())
	})
	t.Run("response chunk error is 502", func(t *testing.T) {
		t.Parallel()
		var s http1.BodyScanner
		s.Reset(http1.Body{Kind: http1.BodyChunked}, http1.Response, lim)
		_, _, err := s.Scan([]byte("0x5\r\n"))
		requireRefused(t, err, 502, "chunk_size_invalid")
	})
	t.Run("reuse after trailers", func(t *testing.T) {
		t.Parallel()
		var s http1.BodyScanner
		for range 3 {
			s.Reset(http1.Body{Kind: http1.BodyChunked}, http1.Response, lim)
			in := []byte("0\r\nX: y\r\n\r\n")
			fwd, _, err := s.Scan(in)
			require.NoError(t, err)
			require.Equal(t, len(in), fwd)
			require.Equal(t, 1, s.Trailers().Len())
			require.Equal(t, "y", string(s.Trailers().Lookup("x")))
		}
	})
}

func TestMethods(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]http1.Method{
		"GET": http1.GET, "HEAD": http1.HEAD, "POST": http1.POST, "PUT": http1.PUT, "DELETE": http1.DELETE, "OPTIONS": http1.OPTIONS, "TRACE": http1.TRACE,
		"PATCH": http1.PATCH, "BREW": http1.MethodOther, "Get": http1.MethodOther,
	} {
		require.Equal(t, want, mustRequest(t, name+crlf(" / HTTP/1.1\nHost: a\n\n")).Method, name)
	}
	require.Equal(t, http1.CONNECT, mustRequest(t, crlf("CONNECT a:1 HTTP/1.1\nHost: a:1\n\n")).Method)
}

func TestTETrailers(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"trailers": true, "Trailers": true, "deflate;q=0.5, trailers": true, "": false, "trailer": false, "deflate": false} {
		require.Equal(t, want, mustRequest(t, crlf("GET / HTTP/1.1\nHost: a\nTE: "+value+"\n\n")).TETrailers, value)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	in := []byte(crlf("GET /abc/../d HTTP/1.1\nHost: a\nX: y\n\n"))
	tests := []struct {
		name   string
		change func(*http1.Limits)
		reason string
	}{
		{"exact block", func(l *http1.Limits) { l.HeaderBytes = len(in) }, ""},
		{"block", func(l *http1.Limits) { l.HeaderBytes = len(in) - 1 }, "header_too_large"},
		{"exact lines", func(l *http1.Limits) { l.Headers = 2 }, ""},
		{"lines", func(l *http1.Limits) { l.Headers = 1 }, "too_many_headers"},
		{"exact target", func(l *http1.Limits) { l.TargetBytes = 9 }, ""},
		{"target", func(l *http1.Limits) { l.TargetBytes = 8 }, "target_too_long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lim := http1.DefaultLimits()
			tt.change(lim)
			for step := 1; step <= len(in); step++ {
				h := new(http1.Head)
				_, err := feed(string(in), step, func(b []byte) (int, error) { return http1.ParseRequest(b, h, lim) })
				if tt.reason == "" {
					require.NoError(t, err)
					continue
				}
				var refusal *http1.ProtocolError
				require.ErrorAs(t, err, &refusal)
				require.Equal(t, tt.reason, refusal.Reason)
			}
		})
	}
	lim := http1.DefaultLimits()
	lim.Path = http1.PathNone
	h := new(http1.Head)
	_, err := http1.ParseRequest(in, h, lim)
	require.NoError(t, err)
	require.Equal(t, "/abc/../d", string(h.Path()))
}
