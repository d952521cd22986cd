package http2

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/proxy/http1"
)

// tape is a connection whose other end has said already all that it will say.
type tape struct {
	in   *bytes.Reader
	from chan struct{} // closed when that may be read

	mu   sync.Mutex
	out  bytes.Buffer
	shut bool
}

func newTape(in []byte) *tape { return &tape{in: bytes.NewReader(in), from: make(chan struct{})} }

func (t *tape) Read(p []byte) (int, error) {
	<-t.from
	return t.in.Read(p)
}

func (t *tape) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return 0, io.ErrClosedPipe
	}
	return t.out.Write(p)
}

func (t *tape) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shut = true
	return nil
}

func (t *tape) Abort() { _ = t.Close() }

// A script is frames: a byte each for type, flags, stream and length, and the payload. So a mutation of one frame leaves the others what they are.
func frames(script []byte) []byte {
	var out []byte
	for len(script) >= 4 {
		kind, flags, id, n := script[0], script[1], script[2], int(script[3])
		script = script[4:]
		n = min(n, len(script))
		out = append(appendFrame(out, n, http2.FrameType(kind%12), http2.Flags(flags), uint32(id%16)), script[:n]...)
		script = script[n:]
	}
	return out
}

// entry is one frame of a script.
func entry(kind http2.FrameType, flags http2.Flags, id byte, payload []byte) []byte {
	return append([]byte{byte(kind), byte(flags), id, byte(len(payload))}, payload...)
}

func script(entries ...[]byte) []byte { return bytes.Join(entries, nil) }

func hpackOf(fields ...string) []byte {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return buf.Bytes()
}

const (
	whole = http2.FlagHeadersEndHeaders
	last  = http2.FlagHeadersEndStream // of DATA too
)

// requireFrames reads what was sent as x/net does, and returns the frames; header blocks with their fields. Those are valid.
func requireFrames(t *testing.T, sent []byte) (all []http2.Frame) {
	t.Helper()
	fr := http2.NewFramer(nil, bytes.NewReader(sent))
	fr.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	fr.SetReuseFrames()
	fr.MaxHeaderListSize = 1 << 20
	for {
		f, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err, "we sent a frame that x/net does not take: %q", sent)
		if data, is := f.(*http2.DataFrame); is { // it is good until the next one is read
			all = append(all, &sentData{data.FrameHeader, bytes.Clone(data.Data())})
			continue
		}
		all = append(all, f)
	}
}

type sentData struct {
	http2.FrameHeader
	payload []byte
}

// requireOneMessage reads what a stream gives. What http1 takes for a message is one, and nothing comes behind it. It returns the head as far as there was a whole one.
func requireOneMessage(t *testing.T, r io.Reader, parse func([]byte, *http1.Head) (int, error), response bool) *http1.Head {
	in, err := io.ReadAll(io.LimitReader(r, 1<<22))
	for {
		h := &http1.Head{}
		n, bad := parse(in, h)
		if bad != nil {
			return nil // of no use to the core, which says so
		}
		in = in[n:]
		if response && h.Status < 200 && h.Status != 101 {
			continue
		}
		if h.Body.Kind == http1.BodyTunnel || h.Body.Kind == http1.BodyUntilClose || h.Upgrade || h.Method == http1.CONNECT {
			return h
		}
		var scan http1.BodyScanner
		kind := http1.Request
		if response {
			kind = http1.Response
		}
		scan.Reset(h.Body, kind, http1.DefaultLimits())
		for len(in) > 0 && !scan.Done() {
			skip, size, bad := scan.Payload(in)
			require.NoError(t, bad, "framing that we made")
			in = in[skip+size:]
		}
		if err == nil {
			require.True(t, scan.Done(), "a message that is not whole looks whole")
		}
		require.Empty(t, in, "bytes behind the end of a message")
		return h
	}
}

func parseRequestHead(in []byte, h *http1.Head) (int, error) {
	return http1.ParseRequest(in, h, http1.DefaultLimits())
}

// FuzzServerSession: whatever frames a caller sends, the server ends, each stream is one message of HTTP/1.1 at most, and what it sends is HTTP/2.
func FuzzServerSession(f *testing.F) {
	get := hpackOf(":method", "GET", ":scheme", "http", ":path", "/a?b", ":authority", "x", "cookie", "a=b", "cookie", "c=d")
	post := hpackOf(":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x", "content-length", "5")
	chunked := hpackOf(":method", "PUT", ":scheme", "http", ":path", "/", ":authority", "x", "trailer", "t")
	for _, seed := range [][]byte{
		script(entry(http2.FrameHeaders, whole|last, 1, get), entry(http2.FrameHeaders, whole|last, 3, get)),
		script(entry(http2.FrameHeaders, whole, 1, post), entry(http2.FrameData, last, 1, []byte("hello"))),
		script(entry(http2.FrameHeaders, whole, 1, post), entry(http2.FrameData, last, 1, []byte("hello, too long"))),
		script(entry(http2.FrameHeaders, whole, 1, chunked), entry(http2.FrameData, 0, 1, []byte("0\r\n\r\nGET / HTTP/1.1")), entry(http2.FrameHeaders, whole|last, 1, hpackOf("t", "1"))),
		script(entry(http2.FrameHeaders, last, 1, get[:5]), entry(http2.FrameContinuation, whole, 1, get[5:])),
		script(entry(http2.FrameHeaders, whole, 1, post), entry(http2.FrameRSTStream, 0, 1, []byte{0, 0, 0, 8}), entry(http2.FrameData, last, 1, []byte("hello"))),
		script(entry(http2.FrameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 0}), entry(http2.FrameHeaders, whole|last, 1, get), entry(http2.FrameWindowUpdate, 0, 1, []byte{0, 0, 1, 0}), entry(http2.FramePing, 0, 0, make([]byte, 8))),
		script(entry(http2.FrameHeaders, whole, 1, hpackOf(":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "x")), entry(http2.FrameData, last, 1, []byte("raw"))),
		script(entry(http2.FrameHeaders, whole, 1, hpackOf(":method", "CONNECT", ":authority", "x:1")), entry(http2.FrameData, http2.FlagDataPadded, 1, []byte("\x02raw..")), entry(http2.FrameGoAway, 0, 0, make([]byte, 8))),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 16<<10 {
			return
		}
		said := append([]byte(http2.ClientPreface), appendSettingsAck(appendSettings(nil))...)
		c := newTape(append(said, frames(in)...))
		close(c.from)
		s := NewServer(c, ServerOptions{Serve: func(st *Stream) {
			h := requireOneMessage(t, st, parseRequestHead, false)
			if h == nil {
				_, _ = st.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
				return
			}
			_, _ = st.Write([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nt: 1\r\n\r\n"))
		}})
		s.Run(nil)
		require.Empty(t, s.streams)
		requireFrames(t, c.out.Bytes())
	})
}

// FuzzClientSession: whatever frames an upstream sends, each answer is one message of HTTP/1.1 at most, and the client ends.
func FuzzClientSession(f *testing.F) {
	settings := entry(http2.FrameSettings, 0, 0, nil)
	ok := hpackOf(":status", "200", "x", "y")
	for _, seed := range [][]byte{
		script(settings, entry(http2.FrameHeaders, whole|last, 1, ok), entry(http2.FrameHeaders, whole, 3, ok), entry(http2.FrameData, last, 3, []byte("hello")), entry(http2.FrameHeaders, whole|last, 5, ok)),
		script(settings, entry(http2.FrameHeaders, whole, 1, hpackOf(":status", "103", "link", "a")), entry(http2.FrameHeaders, whole, 1, hpackOf(":status", "200", "content-length", "3")), entry(http2.FrameData, last, 1, []byte("hello"))),
		script(settings, entry(http2.FrameHeaders, whole, 1, ok), entry(http2.FrameData, 0, 1, []byte("0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")), entry(http2.FrameHeaders, whole|last, 1, hpackOf("t", "1"))),
		script(settings, entry(http2.FrameGoAway, 0, 0, []byte{0, 0, 0, 1, 0, 0, 0, 0}), entry(http2.FrameHeaders, whole|last, 1, ok)),
		script(settings, entry(http2.FrameRSTStream, 0, 1, []byte{0, 0, 0, 7}), entry(http2.FrameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 1, 0, 3, 0, 0, 0, 1})),
		script(settings, entry(http2.FrameHeaders, whole|last, 5, hpackOf(":status", "304", "content-length", "9")), entry(http2.FrameHeaders, whole|last, 3, hpackOf(":status", "204"))),
	} {
		f.Add(seed)
	}
	requests := []struct{ text, method string }{
		{"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "GET"},
		{"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: 1\r\n\r\n", "POST"},
		{"HEAD /c HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD"},
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 16<<10 {
			return
		}
		c := newTape(frames(in))
		client := NewClient(c, ClientOptions{})
		var open []*Stream
		for _, r := range requests {
			st, err := client.Open()
			require.NoError(t, err)
			_, err = st.Write([]byte(r.text))
			require.NoError(t, err)
			open = append(open, st)
		}
		close(c.from)
		for i, st := range open {
			requireOneMessage(t, st, func(in []byte, h *http1.Head) (int, error) {
				return http1.ParseResponse(in, h, http1.Exchange{Method: methodOf(requests[i].method)}, http1.DefaultLimits())
			}, true)
			_ = st.Close()
		}
		<-client.Done()
		require.Zero(t, client.Active())
		require.Empty(t, client.streams)
		requireFrames(t, bytes.TrimPrefix(c.out.Bytes(), []byte(http2.ClientPreface)))
	})
}

// FuzzRequestTranslation: a request of HTTP/2 that goes on in HTTP/1.1 is the same one, alone, and is the same again when it goes on in HTTP/2.
func FuzzRequestTranslation(f *testing.F) {
	f.Add("GET", "http", "x", "/a?b=c", "name", "value", "", true)
	f.Add("POST", "https", "x:80", "/", "content-length", "3", "te: trailers", false)
	f.Add("CONNECT", "", "x:443", "", "host", "x:443", "", false)
	f.Add("OPTIONS", "http", "x", "*", "host", "X", "cookie: a=b", true)
	f.Add("GET ", "http", "x\r\ny: z", "/ HTTP/1.1\r\n\r\n", "transfer-encoding", "chunked", "connection: close", true)
	f.Add("GET", "http", "x", "/", "X-Upper", " v", "x:y", false)
	f.Fuzz(func(t *testing.T, method, scheme, authority, path, name, value, more string, ended bool) {
		lim := http1.DefaultLimits()
		b := &block{lim: lim}
		b.dec = hpack.NewDecoder(tableSize, b.emit)
		b.reset()
		fields := [][2]string{{":method", method}, {":scheme", scheme}, {":authority", authority}, {":path", path}, {name, value}}
		if key, rest, two := strings.Cut(more, ": "); two {
			fields = append(fields, [2]string{key, rest})
		}
		for _, field := range fields {
			if field[1] != "" || !strings.HasPrefix(field[0], ":") {
				b.emit(hpack.HeaderField{Name: field[0], Value: field[1]})
			}
		}
		if b.tooLarge {
			return
		}
		text, m, ok := b.appendRequest(nil, ended, false)
		if !ok {
			return
		}
		var h http1.Head
		n, err := http1.ParseRequest(text, &h, lim)
		if err != nil {
			require.NotErrorIs(t, err, http1.ErrNeedMore, "%q", text)
			return // the core answers it as it does with HTTP/1.1
		}
		require.Equal(t, len(text), n, "more than one head: %q", text)
		require.Equal(t, method, string(h.MethodName()))
		require.Equal(t, m.kind == noBody || m.kind == tunnelBody, h.Body.Kind == http1.BodyNone || h.Body.Kind == http1.BodyLength && h.Body.Length == 0, "%q", text)
		if method != "CONNECT" {
			require.Equal(t, path, string(h.Target()))
		}

		var e encoder
		e.init()
		e.request(&h, scheme, false)
		again := map[string]string{}
		_, err = hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { again[f.Name] = f.Value }).Write(e.block())
		require.NoError(t, err)
		require.Equal(t, method, again[":method"])
		require.Equal(t, string(h.Host()), again[":authority"])
		if method != "CONNECT" {
			require.Equal(t, path, again[":path"])
			require.Equal(t, scheme, again[":scheme"])
		}
		for name := range again {
			require.True(t, strings.HasPrefix(name, ":") || validName(name), "%q", name)
		}
	})
}

// FuzzResponseTranslation: bytes of HTTP/1.1 that are an answer become that answer in HTTP/2, and others an error; what is not whole does not look whole.
func FuzzResponseTranslation(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\ngrpc-status: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nlong",
		"HTTP/1.1 204 No Content\r\nConnection: x\r\nX: y\r\n\r\nextra",
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
	} {
		f.Add([]byte(seed), uint8(0), false)
		f.Add([]byte(seed), uint8(3), true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, step uint8, head bool) {
		if len(answer) > 16<<10 {
			return
		}
		name := "GET"
		if head {
			name = "HEAD"
		}
		method := methodOf(name)
		said := append([]byte(http2.ClientPreface), appendSettingsAck(appendSettings(nil))...)
		said = append(said, frames(entry(http2.FrameHeaders, whole|last, 1, hpackOf(":method", name, ":scheme", "http", ":path", "/", ":authority", "x")))...)
		c := newTape(said)
		ended := make(chan struct{})
		s := NewServer(waiting{c, ended}, ServerOptions{Serve: func(st *Stream) {
			defer close(ended)
			defer st.Close()
			for rest := answer; len(rest) > 0; {
				n := min(len(rest), max(int(step), 1))
				if step == 0 {
					n = len(rest)
				}
				if _, err := st.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		}})
		close(c.from)
		s.Run(nil)
		requireSameAnswer(t, answer, method, requireFrames(t, c.out.Bytes()))
	})
}

// waiting is a tape that does not end before something else has.
type waiting struct {
	*tape
	until chan struct{}
}

func (h waiting) Read(p []byte) (int, error) {
	n, err := h.tape.Read(p)
	if err == io.EOF {
		<-h.until
	}
	return n, err
}

// requireSameAnswer compares what was sent with what http1 reads in an answer.
func requireSameAnswer(t *testing.T, answer []byte, method http1.Method, sent []http2.Frame) {
	t.Helper()
	var status string
	var body []byte
	complete, reset := false, false
	for _, f := range sent {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			require.False(t, complete, "HEADERS behind the end")
			if s := f.PseudoValue("status"); s != "" {
				status = s
			}
			complete = f.StreamEnded()
		case *sentData:
			require.False(t, complete, "DATA behind the end")
			body = append(body, f.payload...)
			complete = f.Flags.Has(http2.FlagDataEndStream)
		case *http2.RSTStreamFrame:
			reset = true
		}
	}
	require.NotEqual(t, complete, reset, "an answer either ends or is reset")
	in := answer
	for {
		var h http1.Head
		n, err := http1.ParseResponse(in, &h, http1.Exchange{Method: method}, http1.DefaultLimits())
		if err != nil {
			require.False(t, complete)
			require.Empty(t, body)
			return
		}
		require.NotEmpty(t, status)
		if in = in[n:]; h.Status < 200 {
			continue
		}
		require.Equal(t, statusTexts[h.Status], status)
		want, done := payloadOf(h.Body, in)
		require.Equal(t, done, complete)
		require.True(t, bytes.HasPrefix(want, body), "%q is not the beginning of %q", body, want)
		if complete {
			require.Equal(t, string(want), string(body))
		}
		return
	}
}

// payloadOf is the payload of a body that begins with the bytes, up to its end or a mistake; done, if they hold it all.
func payloadOf(b http1.Body, in []byte) (payload []byte, done bool) {
	var scan http1.BodyScanner
	scan.Reset(b, http1.Response, http1.DefaultLimits())
	for len(in) > 0 && !scan.Done() {
		skip, size, err := scan.Payload(in)
		if err != nil {
			return payload, false
		}
		payload = append(payload, in[skip:skip+size]...)
		in = in[skip+size:]
	}
	return payload, scan.Done() || scan.EOF() == nil
}
