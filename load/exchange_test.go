package load_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/loadtest"
)

// ten requests, quickly.
func ten(t *testing.T) load.Stream {
	t.Helper()
	return load.Stream{Name: "users", Pacer: constant(t, 500), Duration: 20 * time.Millisecond, Timeout: time.Minute, Grace: time.Minute}
}

func run(t *testing.T, s load.Stream) (*load.Result, []load.Record) {
	t.Helper()
	sink, records := collect()
	got, err := load.Run(t.Context(), s, sink)
	require.NoError(t, err)
	require.EqualValues(t, 10, got.Sent)
	require.Len(t, *records, 10)
	return got, *records
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []*http.Request
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen, bodies = append(seen, r), append(bodies, string(body))
		w.Header().Set("X-Meshtest-Reason", "fault")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, strings.Repeat("x", 100_000))
	}))
	defer server.Close()
	for name, tc := range map[string]struct {
		method string
		body   string
	}{
		"get": {"", ""}, "head": {"HEAD", ""}, "post": {"POST", ""}, "post with a body": {"POST", "hello"}, "get with a body": {"GET", "hello"}, "delete": {"DELETE", ""},
	} {
		seen, bodies = nil, nil
		s := ten(t)
		s.Method, s.Body, s.URL = tc.method, []byte(tc.body), server.URL+"/buy?item=1"
		s.Headers = http.Header{"x-dev-user": {"tester"}, "Host": {"shop.example"}, "X-Request-Id": {"mine"}}
		s.Capture = []string{"X-Meshtest-Reason", "X-Other"}
		s.Expect = []load.StatusRange{{200, 200}, {418, 418}}
		got, records := run(t, s)
		require.EqualValues(t, 10, got.OK.Count(), name)
		require.Equal(t, map[int]uint64{418: 10}, got.Statuses, name)
		for _, r := range records {
			require.Equal(t, map[string]string{"X-Meshtest-Reason": "fault"}, r.Captured)
			if tc.method != "HEAD" {
				require.EqualValues(t, 100_000, r.BytesIn)
			}
		}
		ids := map[string]bool{}
		mu.Lock()
		for i, r := range seen {
			ids[r.Header.Get("X-Request-Id")] = true
			require.Len(t, r.Header.Values("X-Request-Id"), 1)
			require.Equal(t, "tester", r.Header.Get("X-Dev-User"))
			require.Equal(t, "meshtest", r.Header.Get("User-Agent"))
			require.Equal(t, "shop.example", r.Host)
			require.Equal(t, "/buy?item=1", r.RequestURI)
			require.Equal(t, tc.body, bodies[i])
			require.EqualValues(t, len(tc.body), r.ContentLength, name)
			require.Empty(t, r.TransferEncoding, name)
			require.Equal(t, "HTTP/1.1", r.Proto)
			require.Empty(t, r.Header.Get("Accept-Encoding"))
			for header := range r.Header {
				require.NotContains(t, header, "Vegeta")
			}
		}
		mu.Unlock()
		for i := range uint64(10) {
			require.Contains(t, ids, load.RequestID("users", i))
		}
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 100_000)) })
		dials := 0
		s := ten(t)
		s.URL = "http://shop"
		s.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			require.Equal(t, "shop:80", address)
			return server.dial(ctx, network, address)
		}
		run(t, s)
		require.Equal(t, 1, dials)
	})
}

// raw serves connections with a function of its own, each until that returns.
func raw(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer conn.Close(); handle(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return "http://" + listener.Addr().String()
}

// rawInMemory is raw without a network.
func rawInMemory(t *testing.T, handle func(net.Conn)) load.DialFunc {
	t.Helper()
	listener := loadtest.NewListener()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer conn.Close(); handle(conn) })
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return listener.Dial(ctx) }
}

// request reads the head of one request.
func request(c *net.TCPConn) (*http.Request, error) { return http.ReadRequest(bufio.NewReader(c)) }

func TestClasses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		url    string
		change func(*load.Stream)
		class  load.Class
		status int
		text   string
	}{
		"refused":                  {url: "http://" + testport.Refusing(t), class: load.Refused, text: "connection refused"},
		"reset":                    {url: raw(t, func(c *net.TCPConn) { request(c); c.SetLinger(0) }), class: load.Reset, text: "reset"},
		"closed without an answer": {url: raw(t, func(c *net.TCPConn) { request(c) }), class: load.EOF, text: "EOF"},
		"closed within the answer": {url: raw(t, func(c *net.TCPConn) {
			request(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		}), class: load.EOF, status: 200, text: "unexpected EOF"},
		"no HTTP": {url: raw(t, func(c *net.TCPConn) { request(c); io.WriteString(c, "what?\r\n\r\n") }), class: load.Other, text: "malformed"},
		"too long": {url: raw(t, func(c *net.TCPConn) {
			request(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat("x", 1000))
		}), change: func(s *load.Stream) { s.MaxBody = 999 }, class: load.Oversize, status: 200, text: "longer"},
		"cannot connect": {url: "http://shop", change: func(s *load.Stream) {
			s.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, fmt.Errorf("no route") }
		}, class: load.Other, text: "no route"},
		"unexpected status": {url: raw(t, func(c *net.TCPConn) {
			request(c)
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}), class: load.None, status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ten(t)
			s.URL = tc.url
			if tc.change != nil {
				tc.change(&s)
			}
			got, records := run(t, s)
			for _, r := range records {
				require.Equal(t, tc.class, r.Class, r.Error)
				require.Equal(t, tc.status, r.Status)
				require.False(t, r.OK)
				require.Contains(t, r.Error, tc.text)
				require.GreaterOrEqual(t, r.Done, r.Sent)
			}
			require.EqualValues(t, 10, got.Completed)
			require.EqualValues(t, 10, got.Bad())
			require.Equal(t, 1.0, got.ErrorRate())
			require.Zero(t, got.OK.Count())
			require.EqualValues(t, 10, got.Failed.Count())
			if tc.class != load.None {
				require.Equal(t, map[load.Class]uint64{tc.class: 10}, got.Errors)
				require.Contains(t, got.Examples[tc.class], tc.text)
			}
		})
	}
}

// Where in the answer time runs out is a matter of the bubble's time only.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sent   string // of the answer
		status int
	}{
		"before the answer": {"", 0}, "within the answer": {"half", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				server := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if tc.sent != "" {
						w.Header().Set("Content-Length", "10")
						io.WriteString(w, tc.sent)
						w.(http.Flusher).Flush()
					}
					<-r.Context().Done()
				})
				s := ten(t)
				s.URL, s.Dial, s.Timeout = "http://shop", server.dial, 50*time.Millisecond
				got, records := run(t, s)
				for _, r := range records {
					require.Equal(t, load.Timeout, r.Class, r.Error)
					require.Equal(t, tc.status, r.Status)
					require.False(t, r.OK)
					require.Contains(t, r.Error, "deadline")
					require.Equal(t, 50*time.Millisecond, r.Done-r.Sent)
				}
				require.EqualValues(t, 10, got.Bad())
				require.EqualValues(t, 10, got.TimedOut.Count())
				require.Zero(t, got.Failed.Count())
				require.Equal(t, map[load.Class]uint64{load.Timeout: 10}, got.Errors)
				require.Contains(t, got.Examples[load.Timeout], "deadline")
			})
		})
	}
}

// A kept connection that breaks under a request is a failure to report, and the request is not sent a second time.
func TestARequestIsSentOnce(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) { // whether a connection is kept is also a matter of time, which net/http gives its writer
				var mu sync.Mutex
				seen := map[string]int{}
				s := ten(t)
				s.Method, s.MaxInFlight = method, 1
				s.Headers = http.Header{"Idempotency-Key": {"1"}}
				s.URL, s.Dial = "http://shop", rawInMemory(t, func(c net.Conn) {
					in := bufio.NewReader(c)
					for answered := false; ; answered = true {
						r, err := http.ReadRequest(in)
						if err != nil {
							return
						}
						mu.Lock()
						seen[r.Header.Get("X-Request-Id")]++
						mu.Unlock()
						if answered {
							return // the second request on a connection finds it broken
						}
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				})
				got, _ := run(t, s)
				require.EqualValues(t, 5, got.OK.Count())
				require.EqualValues(t, 5, got.Failed.Count())
				mu.Lock()
				defer mu.Unlock()
				require.Len(t, seen, 10)
				for id, times := range seen {
					require.Equal(t, 1, times, id)
				}
			})
		})
	}
}

// dying is a connection that can be written to twice at most: one request, as it happens.
type dying struct {
	net.Conn
	left int
}

func (d *dying) Write(b []byte) (int, error) {
	if d.left--; d.left < 0 {
		return 0, syscall.EPIPE
	}
	return d.Conn.Write(b)
}

// A kept connection that is found closed before anything was written is replaced: the server has seen nothing.
func TestAStaleConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ method, body string }{{"GET", ""}, {"POST", ""}, {"POST", "hello"}} {
		testbubble.Test(t, func(t *testing.T) {
			seen := map[string]int{}
			var mu sync.Mutex
			server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				seen[r.Header.Get("X-Request-Id")]++
			})
			s := ten(t)
			s.URL, s.Method, s.Body = "http://shop", tc.method, []byte(tc.body)
			s.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := server.dial(ctx, network, address)
				return &dying{Conn: conn, left: 1}, err
			}
			got, records := run(t, s)
			require.EqualValues(t, 10, got.OK.Count())
			require.EqualValues(t, 9, got.Reconnects)
			require.Zero(t, records[0].Reconnects)
			mu.Lock()
			defer mu.Unlock()
			require.Len(t, seen, 10)
		})
	}
}

// When the server is gone, the replacement fails, once.
func TestAStaleConnectionIsNotReplacedForever(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		server := serve(t, func(http.ResponseWriter, *http.Request) {})
		dials := 0
		s := ten(t)
		s.URL = "http://shop"
		s.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials++; dials > 1 {
				return nil, syscall.ECONNREFUSED
			}
			conn, err := server.dial(ctx, network, address)
			return &dying{Conn: conn, left: 1}, err
		}
		got, _ := run(t, s)
		require.EqualValues(t, 1, got.OK.Count())
		require.Equal(t, map[load.Class]uint64{load.Refused: 9}, got.Errors)
		require.Equal(t, 10, dials)
	})
}

func TestRedirectsAreAnswers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusFound))
	defer server.Close()
	s := ten(t)
	s.URL = server.URL
	got, _ := run(t, s)
	require.Equal(t, map[int]uint64{302: 10}, got.Statuses)
	require.EqualValues(t, 10, got.OK.Count())
}

func TestDialTo(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	tcp := httptest.NewServer(handler)
	defer tcp.Close()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	unix := httptest.NewUnstartedServer(handler)
	unix.Listener.Close()
	unix.Listener = listener
	unix.Start()
	defer unix.Close()
	for _, dial := range []load.DialFunc{load.DialUnix(path), load.DialTo(tcp.Listener.Addr().String())} {
		s := ten(t)
		s.URL, s.Dial = "http://shop.example:8080/", dial
		got, records := run(t, s)
		require.EqualValues(t, 10, got.OK.Count())
		require.EqualValues(t, len("shop.example:8080"), records[0].BytesIn)
	}
}

func TestNoProxyFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	testbubble.Test(t, func(t *testing.T) {
		server := serve(t, func(http.ResponseWriter, *http.Request) {})
		s := ten(t)
		s.URL = "http://shop.example"
		s.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			require.Equal(t, "shop.example:80", address)
			return server.dial(ctx, network, address)
		}
		got, _ := run(t, s)
		require.EqualValues(t, 10, got.OK.Count())
	})
}
