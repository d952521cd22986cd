package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http1/vectors"
)

// line is a header line as a model sees it: the name in lower case, and the value.
type line struct{ name, value string }

func linesOf(h *http1.Head) (all []line) {
	for i := range h.Len() {
		all = append(all, line{strings.ToLower(string(h.Name(i))), string(h.Value(i))})
	}
	return all
}

// endToEnd is the model of what goes on to the next hop: an independent reading of RFC 9110, 7.6.1.
func endToEnd(h *http1.Head, dropped ...string) (kept []line) {
	drop := map[string]bool{
		"connection": true, "keep-alive": true, "proxy-connection": true, "proxy-authenticate": true, "proxy-authorization": true, "te": true, "transfer-encoding": true,
		"upgrade": true, "http2-settings": true,
	}
	for _, name := range dropped {
		drop[name] = true
	}
	for _, l := range linesOf(h) {
		if l.name != "connection" {
			continue
		}
		for option := range strings.SplitSeq(l.value, ",") {
			if name := strings.ToLower(strings.Trim(option, " \t")); http1.KnownOf(name) == http1.Unknown {
				drop[name] = true
			}
		}
	}
	for _, l := range linesOf(h) {
		if !drop[l.name] {
			kept = append(kept, l)
		}
	}
	return kept
}

// outcome is everything that a parser said, as text.
func outcome(h *http1.Head, n int, err error) string {
	if err != nil {
		return "refused"
	}
	return strconv.Itoa(n) + dump(h)
}

// requireSameInPieces compares reading at once with reading in pieces. A refusal may come earlier in pieces, and for another of the message's faults.
func requireSameInPieces(t *testing.T, in string, parse func(in string, step int) (*http1.Head, int, error)) (*http1.Head, int, error) {
	t.Helper()
	h, n, err := parse(in, max(len(in), 1))
	for _, step := range []int{1, 5} {
		h2, m, err2 := parse(in, step)
		require.Equal(t, errors.Is(err, http1.ErrNeedMore), errors.Is(err2, http1.ErrNeedMore))
		require.Equal(t, outcome(h, n, err), outcome(h2, m, err2))
	}
	return h, n, err
}

func FuzzRequest(f *testing.F) {
	for _, v := range vectors.Requests() {
		if len(v.In) < 1000 {
			f.Add(v.In)
		}
	}
	f.Fuzz(checkRequest)
}

// checkRequest holds for any bytes: pieces do not matter, and what is accepted is written so that we and net/http read the same request from it.
func checkRequest(t *testing.T, in string) {
	if len(in) > 4096 {
		return
	}
	h, n, err := requireSameInPieces(t, in, parseRequest)
	if err != nil {
		return
	}
	out := string(http1.AppendRequest(nil, h, nil))
	again, m, err := parseRequest(out, len(out))
	if len(h.Host()) == 0 {
		requireRefused(t, err, 400, "host_invalid") // an HTTP/1.0 request without Host: the caller has to set one
		return
	}
	require.NoError(t, err, "%q", out)
	require.Equal(t, len(out), m)
	require.Equal(t, out, string(http1.AppendRequest(nil, again, nil)), "what was written is a fixed point")
	require.Equal(t, h.MethodName(), again.MethodName())
	require.Equal(t, string(h.Path()), string(again.Path()))
	require.Equal(t, h.Query(), again.Query())
	require.Equal(t, h.HasQuery(), again.HasQuery())
	require.Equal(t, h.Body, again.Body)
	require.Equal(t, h.Expect100, again.Expect100)
	requireSameLines(t, h, again)
	requireNetHTTPRequest(t, again, out, in[n:])
}

func requireSameLines(t *testing.T, h, again *http1.Head) {
	t.Helper()
	dropped := []string{"host"} // its place may change when the target had the authority
	if h.Status == 0 && !h.Expect100 {
		dropped = append(dropped, "expect")
	}
	if h.Body.Kind == http1.BodyTunnel || h.Status != 0 && (h.Status < 200 || h.Status == 204) {
		dropped = append(dropped, "content-length")
	}
	require.Equal(t, endToEnd(h, dropped...), endToEnd(again, dropped...))
}

// requireNetHTTPRequest lets net/http read what goes upstream, body included, and compares its understanding with ours.
func requireNetHTTPRequest(t *testing.T, h *http1.Head, out, body string) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(out + body)))
	if err != nil {
		require.True(t, netHTTPIsStricter(h, err), "net/http: %v\n%q", err, out)
		return
	}
	require.Equal(t, string(h.MethodName()), req.Method)
	require.Equal(t, string(h.Target()), req.RequestURI)
	require.Equal(t, string(h.Host()), req.Host)
	require.Equal(t, h.Body.Kind == http1.BodyChunked, len(req.TransferEncoding) == 1)
	if h.Body.Kind != http1.BodyChunked {
		require.Equal(t, h.Body.Length, req.ContentLength)
	}
	requireNetHTTPHeader(t, h, req.Header, "host", "transfer-encoding", "connection", "trailer")
	requireNetHTTPBody(t, h.Body, req.Body, body)
}

// netHTTPIsStricter names the differences: net/http parses the target as a URL, which fails on what only browsers send; it reads Trailer, where it
// forbids framing fields; and it takes CONNECT's target apart.
func netHTTPIsStricter(h *http1.Head, err error) bool {
	text := err.Error()
	return strings.Contains(text, "parse \"") || h.Has(http1.Trailer) && strings.Contains(text, "bad trailer key")
}

func requireNetHTTPHeader(t *testing.T, h *http1.Head, header http.Header, except ...string) {
	t.Helper()
	want, got := map[string][]string{}, map[string][]string{}
	for _, l := range linesOf(h) {
		want[l.name] = append(want[l.name], l.value)
	}
	for name, values := range header {
		name = strings.ToLower(name)
		got[name] = append(got[name], values...)
	}
	if _, pragma := want["pragma"]; pragma { // net/http adds Cache-Control to an old Pragma
		except = append(except, "cache-control")
	}
	for _, name := range except {
		delete(want, name)
		delete(got, name)
	}
	require.Equal(t, want, got)
}

// requireNetHTTPBody reads the body with both. Where we accept it, net/http must see the same payload.
func requireNetHTTPBody(t *testing.T, b http1.Body, theirs io.Reader, in string) {
	t.Helper()
	var s http1.BodyScanner
	s.Reset(b, http1.Request, http1.DefaultLimits())
	var payload []byte
	w := []byte(in)
	for len(w) > 0 && !s.Done() {
		skip, n, err := s.Payload(w)
		if err != nil {
			return
		}
		payload = append(payload, w[skip:skip+n]...)
		w = w[skip+n:]
	}
	if s.EOF() != nil {
		return
	}
	if trailers := s.Trailers(); trailers != nil && trailers.Len() > 0 {
		return // net/http reads only trailers that were announced
	}
	read, err := io.ReadAll(theirs)
	require.NoError(t, err)
	require.Equal(t, string(payload), string(read))
}

func FuzzResponse(f *testing.F) {
	for _, v := range vectors.Responses() {
		if len(v.In) < 1000 {
			f.Add(v.In, byte(methods[v.Method]), v.Upgrade)
		}
	}
	f.Fuzz(checkResponse)
}

// checkResponse holds for any bytes, as checkRequest does.
func checkResponse(t *testing.T, in string, method byte, upgrade bool) {
	if len(in) > 4096 {
		return
	}
	req := http1.Exchange{Method: http1.Method(method) % (http1.PATCH + 1), Upgrade: upgrade}
	h, n, err := requireSameInPieces(t, in, func(in string, step int) (*http1.Head, int, error) { return parseResponse(in, step, req) })
	if err != nil {
		return
	}
	edits := &http1.Edits{KeepUpgrade: true}
	out := string(http1.AppendResponse(nil, h, edits))
	again, m, err := parseResponse(out, len(out), req)
	require.NoError(t, err, "%q", out)
	require.Equal(t, len(out), m)
	require.Equal(t, out, string(http1.AppendResponse(nil, again, edits)), "what was written is a fixed point")
	require.Equal(t, h.Status, again.Status)
	require.Equal(t, h.Reason(), again.Reason())
	require.Equal(t, h.Body, again.Body)
	requireSameLines(t, h, again)
	requireNetHTTPResponse(t, again, req, out, in[n:])
}

func requireNetHTTPResponse(t *testing.T, h *http1.Head, req http1.Exchange, out, body string) {
	t.Helper()
	name := map[http1.Method]string{http1.HEAD: "HEAD", http1.CONNECT: "CONNECT"}[req.Method]
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(out+body)), &http.Request{Method: name})
	if err != nil {
		require.True(t, netHTTPIsStricter(h, err), "net/http: %v\n%q", err, out)
		return
	}
	require.Equal(t, h.Status, resp.StatusCode)
	requireNetHTTPHeader(t, h, resp.Header, "transfer-encoding", "connection", "trailer")
	switch {
	case h.Body.Kind == http1.BodyTunnel || h.Status < 200:
		return // net/http leaves those to its transport
	case h.Body.Kind == http1.BodyChunked:
		require.Len(t, resp.TransferEncoding, 1)
	case h.Body.Kind == http1.BodyUntilClose:
		require.EqualValues(t, -1, resp.ContentLength)
	case req.Method != http1.HEAD && h.Status != 304:
		require.Equal(t, h.Body.Length, resp.ContentLength)
	}
	requireNetHTTPBody(t, h.Body, resp.Body, body)
}

func FuzzChunked(f *testing.F) {
	for _, v := range vectors.ChunkedBodies() {
		if len(v.In) < 1000 {
			f.Add(v.In, byte(3))
		}
	}
	f.Fuzz(checkChunked)
}

// checkChunked holds for any bytes: relaying and decoding judge alike, windows do not matter, and net/http decodes the same payload from what came and from what goes on.
func checkChunked(t *testing.T, in string, step byte) {
	whole, forwarded, rest, err := relay(in, max(len(in), 1))
	_, payload, rest2, err2 := decode(in, max(len(in), 1))
	require.Equal(t, err, err2, "relaying and decoding judge alike")
	_, forwarded3, rest3, err3 := relay(in, 1+int(step))
	_, payload4, _, err4 := decode(in, 1+int(step))
	require.Equal(t, err == nil, err3 == nil)
	require.Equal(t, err3, err4)
	if err != nil {
		return
	}
	require.Equal(t, []string{forwarded, payload, rest, rest}, []string{forwarded3, payload4, rest2, rest3})

	_, forwardedAgain, _, err := relay(forwarded, len(forwarded))
	require.NoError(t, err)
	require.Equal(t, forwarded, forwardedAgain, "what was forwarded is a fixed point")
	for _, coded := range []string{in, forwarded} {
		read, err := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(coded)))
		if err != nil {
			require.ErrorContains(t, err, "chunked line", "%q", coded) // net/http limits a line to 4 KiB, and the overhead of tiny chunks
			continue
		}
		require.Equal(t, payload, string(read))
	}
	require.EqualValues(t, len(payload), whole.PayloadBytes())
}

func FuzzHeaderIndex(f *testing.F) {
	f.Add("X: y\r\nx: z\r\nCookie: a", "x", uint8(1))
	f.Add("X-Meshtest-A:1\r\nX-Forwarded-For: \t b\t \r\nConnection: q\r\nQ: r", "X-Forwarded-For", uint8(0))
	f.Add("a:\r\nB:  \r\nc: \xff", "b", uint8(3))
	f.Fuzz(func(t *testing.T, block, name string, index uint8) {
		in := "GET / HTTP/1.1\r\nHost: a\r\n" + block + "\r\n\r\n"
		h, n, err := parseRequest(in, len(in))
		if err != nil {
			return
		}
		requireSoundIndex(t, h, in[:n])
		requireLookup(t, h, name)
		requireEdits(t, h, name, int(index))
	})
}

// requireSoundIndex checks the index against the bytes: in order, inside, tokens, trimmed, without controls.
func requireSoundIndex(t *testing.T, h *http1.Head, in string) {
	t.Helper()
	require.Equal(t, in, string(h.Bytes()))
	end := uint32(0)
	for i := range h.Len() {
		f := h.Field(i)
		require.GreaterOrEqual(t, f.NameOff, end)
		require.Greater(t, f.NameLen, uint32(0))
		require.Equal(t, byte(':'), in[f.NameOff+f.NameLen])
		require.Greater(t, f.ValOff, f.NameOff+f.NameLen)
		end = f.ValOff + f.ValLen
		require.Less(t, int(end), len(in))
		value := string(h.Value(i))
		require.Equal(t, strings.Trim(value, " \t"), value)
		require.Equal(t, -1, strings.IndexFunc(value, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }))
		require.Equal(t, http1.KnownOf(string(h.Name(i))), f.ID)
	}
}

// requireLookup compares Find and Next with a walk over all lines.
func requireLookup(t *testing.T, h *http1.Head, name string) {
	t.Helper()
	var want, got []int
	for i := range h.Len() {
		if strings.EqualFold(string(h.Name(i)), name) && isASCII(name) {
			want = append(want, i)
		}
	}
	for i := h.Find(name); i >= 0; i = h.Next(i) {
		if strings.EqualFold(string(h.Name(i)), name) { // Next of a family gives its other names too
			got = append(got, i)
		}
	}
	require.Equal(t, want, got)
}

func isASCII(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0 }

// requireEdits compares what edits write with the same edits on a list of lines.
func requireEdits(t *testing.T, h *http1.Head, name string, index int) {
	t.Helper()
	var e http1.Edits
	e.DeleteIndex(index)
	deleted := e.Delete(name)
	set := e.Set("X-Set", "1")
	require.True(t, set)
	var want []line
	for i, l := range linesOf(h) {
		atIndex := i == index && l.name != "host" && l.name != "content-length"
		if atIndex || l.name == "x-set" || deleted && l.name == strings.ToLower(name) {
			continue
		}
		want = append(want, line{l.name, l.value})
	}
	out := http1.AppendRequest(nil, h, &e)
	again, _, err := parseRequest(string(out), len(out))
	require.NoError(t, err, "%q", out)
	kept := map[line]int{}
	for _, l := range endToEnd(h, "expect") {
		kept[l]++
	}
	var expected []line
	for _, l := range want {
		if kept[l] > 0 {
			expected = append(expected, l)
		}
	}
	expected = append(expected, line{"x-set", "1"})
	require.Equal(t, expected, endToEnd(again, "expect"))
	require.True(t, bytes.HasPrefix(out, []byte("GET / HTTP/1.1\r\n")))
}
