package http1_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http1/vectors"
)

// feed gives in to parse in pieces of at most step bytes, as a connection would, until it is done, refused, or in is used up.
func feed(in string, step int, parse func([]byte) (int, error)) (n int, err error) {
	all := []byte(in)
	for end := min(step, len(in)); ; end = min(end+step, len(in)) {
		window := all[:end:end]
		if len(in) < 2048 {
			window = slices.Clone(window) // the buffer may move between calls
		}
		n, err = parse(window)
		if err != http1.ErrNeedMore || end == len(in) {
			return n, err
		}
	}
}

// steps are the sizes of the pieces in which each vector is read: all at once, byte by byte, and something between.
func steps(in string) []int { return []int{max(len(in), 1), 1, 2, 3, 7, 64} }

func parseRequest(in string, step int) (*http1.Head, int, error) {
	h, lim := new(http1.Head), http1.DefaultLimits()
	n, err := feed(in, step, func(b []byte) (int, error) { return http1.ParseRequest(b, h, lim) })
	return h, n, err
}

func parseResponse(in string, step int, req http1.Exchange) (*http1.Head, int, error) {
	h, lim := new(http1.Head), http1.DefaultLimits()
	n, err := feed(in, step, func(b []byte) (int, error) { return http1.ParseResponse(b, h, req, lim) })
	return h, n, err
}

func requireRefused(t *testing.T, err error, status int, reason string) {
	t.Helper()
	var refusal *http1.ProtocolError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, reason, refusal.Reason)
	require.Equal(t, status, refusal.Status)
}

func TestVectorsAreManyAndDistinct(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	check := func(name, rule, in string) {
		require.False(t, seen[name], "two vectors are called %s", name)
		require.NotEmpty(t, rule, name)
		seen[name] = true
	}
	for _, v := range vectors.Requests() {
		check("request:"+v.Name, v.Rule, v.In)
	}
	for _, v := range vectors.Responses() {
		check("response:"+v.Name, v.Rule, v.In)
	}
	for _, v := range vectors.ChunkedBodies() {
		check("chunked:"+v.Name, v.Rule, v.In)
	}
	require.GreaterOrEqual(t, len(vectors.Requests()), 150)
	require.GreaterOrEqual(t, len(vectors.Responses()), 40)
	require.GreaterOrEqual(t, len(vectors.ChunkedBodies()), 40)
}

func TestRequestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Requests() {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			for _, step := range steps(v.In) {
				h, n, err := parseRequest(v.In, step)
				if v.Status != 0 {
					requireRefused(t, err, v.Status, v.Reason)
					continue
				}
				require.NoError(t, err)
				requireAccepted(t, v.Want, h, v.In[n:])
			}
		})
	}
}

func requireAccepted(t *testing.T, want vectors.Accepted, h *http1.Head, rest string) {
	t.Helper()
	got := vectors.Accepted{
		Method: string(h.MethodName()), Path: string(h.Path()), Query: string(h.Query()), Host: string(h.Host()),
		Body: h.Body.Kind.String(), Length: h.Body.Length, Close: !h.KeepAlive, Expect: h.Expect100, Upgrade: h.Upgrade, Rest: rest,
	}
	fill := func(s *string, standard string) {
		switch *s {
		case "":
			*s = standard
		case "-":
			*s = ""
		}
	}
	fill(&want.Method, "GET")
	fill(&want.Path, "/")
	fill(&want.Host, "a")
	fill(&want.Body, "none")
	require.Equal(t, want, got)
}

// methods maps the names that vectors use.
var methods = map[string]http1.Method{"": http1.GET, "HEAD": http1.HEAD, "CONNECT": http1.CONNECT}

func TestResponseVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Responses() {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			method, known := methods[v.Method]
			require.True(t, known)
			for _, step := range steps(v.In) {
				h, _, err := parseResponse(v.In, step, http1.Exchange{Method: method, Upgrade: v.Upgrade})
				if v.Reason != "" {
					requireRefused(t, err, 502, v.Reason)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, v.Status, h.Status)
				require.Equal(t, cmp.Or(v.Body, "none"), h.Body.Kind.String())
				require.Equal(t, v.Length, h.Body.Length)
				require.Equal(t, !v.Close, h.KeepAlive)
			}
		})
	}
}

// windows cuts in into pieces of at most step bytes.
func windows(in string, step int) (list [][]byte) {
	for len(in) > 0 {
		n := min(step, len(in))
		list = append(list, []byte(in[:n]))
		in = in[n:]
	}
	return list
}

// relay sends in through Scan; forwarded is what the next hop would see, rest what was not touched.
func relay(in string, step int) (s *http1.BodyScanner, forwarded, rest string, err error) {
	s = new(http1.BodyScanner)
	s.Reset(http1.Body{Kind: http1.BodyChunked}, http1.Request, http1.DefaultLimits())
	for _, w := range windows(in, step) {
		for len(w) > 0 && !s.Done() {
			fwd, drop, err := s.Scan(w)
			if err != nil {
				return s, forwarded, "", err
			}
			forwarded += string(w[:fwd])
			w = w[fwd+drop:]
		}
		rest += string(w)
	}
	return s, forwarded, rest, s.EOF()
}

// decode sends in through Payload.
func decode(in string, step int) (s *http1.BodyScanner, payload, rest string, err error) {
	s = new(http1.BodyScanner)
	s.Reset(http1.Body{Kind: http1.BodyChunked}, http1.Request, http1.DefaultLimits())
	for _, w := range windows(in, step) {
		for len(w) > 0 && !s.Done() {
			skip, n, err := s.Payload(w)
			if err != nil {
				return s, payload, "", err
			}
			payload += string(w[skip : skip+n])
			w = w[skip+n:]
		}
		rest += string(w)
	}
	return s, payload, rest, s.EOF()
}

func TestChunkedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.ChunkedBodies() {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			for _, step := range steps(v.In) {
				relayed, forwarded, rest, err := relay(v.In, step)
				decoded, payload, rest2, err2 := decode(v.In, step)
				if v.Reason != "" {
					status := cmp.Or(v.Status, 400)
					requireRefused(t, err, status, v.Reason)
					requireRefused(t, err2, status, v.Reason)
					continue
				}
				require.NoError(t, err)
				require.NoError(t, err2)
				want := v.Relayed
				if want == "" {
					want = strings.TrimSuffix(v.In, v.Rest)
				}
				require.Equal(t, want, forwarded)
				require.Equal(t, v.Payload, payload)
				require.Equal(t, v.Rest, rest)
				require.Equal(t, v.Rest, rest2)
				require.EqualValues(t, len(v.Payload), relayed.PayloadBytes())
				require.EqualValues(t, len(v.Payload), decoded.PayloadBytes())
				if v.Trailers == 0 {
					require.Nil(t, relayed.Trailers())
				} else {
					require.Equal(t, v.Trailers, relayed.Trailers().Len())
					require.Equal(t, v.Trailers, decoded.Trailers().Len())
				}
			}
		})
	}
}

func TestPathVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Paths() {
		t.Run(v.In, func(t *testing.T) {
			t.Parallel()
			for level, want := range v.Want {
				level := http1.PathNormalization(level)
				got, err := http1.NormalizePath(nil, []byte(v.In), level)
				if v.Reason != "" {
					requireRefused(t, err, 400, v.Reason)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, want, string(got), "level %d", level)
				again, err := http1.NormalizePath(nil, got, level)
				require.NoError(t, err)
				require.Equal(t, want, string(again), "a second time, level %d", level)
				in := []byte(v.In)
				inPlace, err := http1.NormalizePath(in[:0], in, level)
				require.NoError(t, err)
				require.Equal(t, want, string(inPlace), "in place, level %d", level)
			}
		})
	}
}

// requireNormal checks what normalisation promises for any path.
func requireNormal(t *testing.T, in string, level http1.PathNormalization) {
	t.Helper()
	got, err := http1.NormalizePath(nil, []byte(in), level)
	if err != nil {
		return
	}
	path := string(got)
	again, err := http1.NormalizePath(nil, got, level)
	require.NoError(t, err, "%q", path)
	require.Equal(t, path, string(again), "a fixed point")
	require.Equal(t, byte('/'), path[0])
	require.LessOrEqual(t, len(path), len(in))
	if level == http1.PathNone {
		require.Equal(t, in, path)
		return
	}
	for segment := range strings.SplitSeq(path, "/") {
		require.NotEqual(t, ".", segment, "%q", path)
		require.NotEqual(t, "..", segment, "%q", path)
	}
	if level >= http1.PathMergeSlashes {
		require.NotContains(t, path, "//")
	}
	if level == http1.PathDecodeAndMergeSlashes {
		require.NotContains(t, path, "%2F")
		require.NotContains(t, path, "%5C")
	}
}
