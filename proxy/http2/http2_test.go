package http2

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serving listens and carries each connection with the options; it returns the address.
func serving(t testing.TB, o ServerOptions) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []*Server
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := NewServer(socket.New(c), o)
			mu.Lock()
			open = append(open, s)
			mu.Unlock()
			all.Go(func() { s.Run(nil) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, s := range open {
			s.Abort()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// transport is Go's client by prior knowledge.
func transport(t testing.TB) *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// exchange is one request as an origin of HTTP/1.1 sees it.
type exchange struct {
	head     *http1.Head
	raw      string // of the head
	body     []byte
	trailers string
}

// readExchange reads a whole request.
func readExchange(c net.Conn) (x exchange, err error) {
	var in []byte
	x.head = &http1.Head{}
	lim := http1.DefaultLimits()
	buf := make([]byte, 4096)
	n := 0
	for {
		n, err = http1.ParseRequest(in, x.head, lim)
		if err != http1.ErrNeedMore {
			break
		}
		got, err := c.Read(buf)
		if err != nil {
			return x, err
		}
		in = append(in, buf[:got]...)
	}
	if err != nil {
		return x, err
	}
	x.raw = string(in[:n])
	rest := bytes.Clone(in[n:])
	var scan http1.BodyScanner
	scan.Reset(x.head.Body, http1.Request, lim)
	for !scan.Done() {
		for len(rest) > 0 && !scan.Done() {
			skip, size, err := scan.Payload(rest)
			if err != nil {
				return x, err
			}
			x.body = append(x.body, rest[skip:skip+size]...)
			rest = rest[skip+size:]
		}
		if scan.Done() {
			break
		}
		got, err := c.Read(buf)
		if err != nil {
			return x, err
		}
		rest = append(rest, buf[:got]...)
	}
	if tr := scan.Trailers(); tr != nil {
		for i := range tr.Len() {
			x.trailers += string(tr.Name(i)) + "=" + string(tr.Value(i)) + ";"
		}
	}
	return x, nil
}

// answering serves every stream with what the function says.
func answering(answer func(x exchange) string) ServerOptions {
	return ServerOptions{Serve: func(st *Stream) {
		x, err := readExchange(st)
		if err != nil {
			return
		}
		_, _ = st.Write([]byte(answer(x)))
	}}
}

func plain(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Mixed-Case: Yes\r\n\r\n%s", len(body), body)
}

func TestServerAnswersGo(t *testing.T) {
	t.Parallel()
	at := serving(t, answering(func(x exchange) string {
		return plain(strings.SplitN(x.raw, "\r\n", 2)[0] + "|" + string(x.head.Host()) + "|" + string(x.body) + "|" + x.trailers)
	}))
	client := &http.Client{Transport: transport(t)}
	for i := range 20 {
		resp, err := client.Get("http://" + at + fmt.Sprintf("/a?b=%d", i))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, "Yes", resp.Header.Get("x-mixed-case"))
		require.Equal(t, fmt.Sprintf("GET /a?b=%d HTTP/1.1|%s||", i, at), string(body))
	}
	big := strings.Repeat("0123456789", 50_000)
	resp, err := client.Post("http://"+at+"/", "text/plain", strings.NewReader(big))
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, "POST / HTTP/1.1|"+at+"|"+big+"|", string(body))

	req, err := http.NewRequest("PUT", "http://"+at+"/", io.MultiReader(strings.NewReader("unknown length")))
	require.NoError(t, err)
	req.Trailer = http.Header{"X-Sum": {"42"}}
	req.Header.Add("Cookie", "a=b")
	resp, err = client.Do(req)
	require.NoError(t, err)
	body, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, "PUT / HTTP/1.1|"+at+"|unknown length|x-sum=42;", string(body))
}

func TestServerSendsTrailersAndInterims(t *testing.T) {
	t.Parallel()
	at := serving(t, answering(func(x exchange) string {
		return "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\ngrpc-status: 0\r\n\r\n"
	}))
	client := &http.Client{Transport: transport(t)}
	resp, err := client.Get("http://" + at)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, "abcde", string(body))
	require.Equal(t, "0", resp.Trailer.Get("grpc-status"))
}

func TestServerResetsWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	at := serving(t, answering(func(x exchange) string { return "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc" }))
	client := &http.Client{Transport: transport(t)}
	resp, err := client.Get("http://" + at)
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	require.ErrorContains(t, err, "INTERNAL_ERROR")
	resp.Body.Close()
}

// upstream is Go's server by prior knowledge.
func upstream(t testing.TB, h http.HandlerFunc) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return l.Addr().String()
}

// dialing connects a client to an address.
func dialing(t testing.TB, address string, o ClientOptions) *Client {
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	client := NewClient(socket.New(c), o)
	t.Cleanup(func() { client.Close() })
	return client
}

// ask sends one request as HTTP/1.1 and reads the whole answer.
func ask(t testing.TB, c *Client, request string) string {
	st, err := c.Open()
	require.NoError(t, err)
	defer st.Close()
	_, err = st.Write([]byte(request))
	require.NoError(t, err)
	require.NoError(t, st.SetReadDeadline(time.Now().Add(30*time.Second)))
	b, err := io.ReadAll(st)
	require.NoError(t, err)
	return string(b)
}

func TestClientAsksGo(t *testing.T) {
	t.Parallel()
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			fmt.Fprintf(w, "%s %s", r.Method, body)
			w.Header().Set("X-Sum", "42")
		case "/empty":
		default:
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.Write(body)
		}
	})
	c := dialing(t, at, ClientOptions{})
	for range 5 {
		require.Contains(t, ask(t, c, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"), "\r\ncontent-length: 5\r\n\r\nhello")
	}
	answer := ask(t, c, "POST /trailers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	require.Contains(t, answer, "HTTP/1.1 200 OK\r\n")
	require.Contains(t, answer, "transfer-encoding: chunked\r\n\r\na\r\nPOST hello\r\n0\r\nx-sum: 42\r\n\r\n")
	require.Contains(t, ask(t, c, "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n"), "content-length: 0\r\n")
	head := ask(t, c, "HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
	require.True(t, strings.HasSuffix(head, "\r\n\r\n"), head)
	big := strings.Repeat("x", 3<<20)
	answer = ask(t, c, fmt.Sprintf("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(big), big))
	require.True(t, strings.HasSuffix(answer, "\r\n\r\n"+big))
	require.Zero(t, c.Active())
}
