package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
	"k8s.io/client-go/rest"

	"meshtest.dev/meshtest/internal/testport"
)

// both runs a test over each way of reaching the API server.
func both(t *testing.T, test func(t *testing.T, s *apiServer)) {
	for name, sockets := range map[string]bool{"websocket": true, "spdy": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newAPIServer(t, sockets))
		})
	}
}

func dial(t *testing.T, f *Forwarder, port int) net.Conn {
	t.Helper()
	c, err := f.Dial("shop", "web", port)(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func echo(c net.Conn) {
	defer c.Close()
	_, _ = io.Copy(c, c)
}

// TestAForwardedConnectionIsAConnection is Go's own suite for what net.Conn promises.
func TestAForwardedConnectionIsAConnection(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		f := s.forwarder(t)
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				return nil, nil, nil, err
			}
			defer l.Close()
			if c1, err = f.Dial("shop", "web", port(l.Addr().String()))(context.Background()); err != nil {
				return nil, nil, nil, err
			}
			c2, err = l.Accept()
			return c1, c2, func() { c1.Close(); c2.Close() }, err
		})
	})
}

func TestManyConnectionsShareOne(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		f, at := s.forwarder(t), listen(t, echo)
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				c, err := f.Dial("shop", "web", at)(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				sent := bytes.Repeat([]byte{byte(i)}, 100_000)
				go func() { _, _ = c.Write(sent) }()
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(sent, got) {
					t.Errorf("connection %d: %v", i, err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, s.upgrades.Load())
	})
}

func TestWhatIsWrittenBeforeCloseArrives(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		got := make(chan []byte, 1)
		at := listen(t, func(c net.Conn) {
			defer c.Close()
			all := make([]byte, 1_000_000)
			n, _ := io.ReadFull(c, all)
			got <- all[:n]
		})
		c := dial(t, s.forwarder(t), at)
		sent := bytes.Repeat([]byte("meshtest"), 125_000)
		_, err := c.Write(sent)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.True(t, bytes.Equal(sent, <-got))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestTheFarSideEnds(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		at := listen(t, func(c net.Conn) {
			_, _ = c.Write([]byte("bye"))
			c.Close()
		})
		c := dial(t, s.forwarder(t), at)
		got, err := io.ReadAll(c)
		require.NoError(t, err, "an end that the application wanted is EOF")
		require.Equal(t, "bye", string(got))
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, syscall.EPIPE)
	})
}

func TestAClosedHalf(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		at := listen(t, func(c net.Conn) {
			defer c.Close()
			line := make([]byte, 5)
			_, _ = io.ReadFull(c, line)
			_, _ = c.Write(append([]byte("you said "), line...))
		})
		c := dial(t, s.forwarder(t), at)
		_, err := c.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "you said hello", string(got))
	})
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		at := port(testport.Refusing(t))
		f := s.forwarder(t)
		_, err := io.ReadAll(dial(t, f, at))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.ErrorContains(t, err, fmt.Sprintf("port %d of pod web in namespace shop: nobody listens there", at))

		c := dial(t, f, listen(t, echo)) // what went wrong on one port is no matter of others
		_, err = c.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
		require.EqualValues(t, 1, s.upgrades.Load())
	})
}

func TestNoSuchPod(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t, true)
	_, err := s.forwarder(t).Dial("shop", "nobody", 80)(t.Context())
	require.EqualError(t, err, `reaching port 80 of pod nobody in namespace shop: asking the API server: pods "nobody" not found`)
}

func TestNoAPIServer(t *testing.T) {
	t.Parallel()
	f, err := New(&rest.Config{Host: "http://" + testport.Refusing(t)})
	require.NoError(t, err)
	t.Cleanup(f.Close)
	_, err = f.Dial("shop", "web", 80)(t.Context())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NotErrorIs(t, err, errBroken)
}

func TestOlderServersAreAskedInTheirWords(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t, false)
	dial(t, s.forwarder(t), listen(t, echo))
	require.EqualValues(t, 1, s.refusals.Load())
	require.EqualValues(t, 1, s.upgrades.Load())
}

func TestABrokenWay(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		f, at := s.forwarder(t), listen(t, echo)
		c := dial(t, f, at)
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
		s.breakAll()
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.False(t, errors.Is(err, io.EOF), "who reads to the end has not got everything")
		require.ErrorContains(t, err, "the connection to the API server broke")

		c = dial(t, f, at) // another one is made
		_, err = c.Write([]byte("y"))
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
		require.EqualValues(t, 2, s.upgrades.Load())
	})
}

func TestAPodThatWasMadeAgain(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		f, at := s.forwarder(t), listen(t, echo)
		dial(t, f, at).Close()
		s.sandbox.Add(1)
		_, err := io.ReadAll(dial(t, f, at))
		require.ErrorContains(t, err, "not forwarded: error forwarding port 80 to pod 1234")
		c := dial(t, f, at)
		_, err = c.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
		require.EqualValues(t, 2, s.upgrades.Load())
	})
}

// TestAReaderThatStops fills every buffer on the way, and sees that other ports of the pod go on as long as there is room, and that closing frees the way.
func TestAReaderThatStops(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		f := s.forwarder(t)
		endless := listen(t, func(c net.Conn) {
			defer c.Close()
			for block := make([]byte, 32<<10); ; {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		})
		c := dial(t, f, endless)
		_, err := io.ReadFull(c, make([]byte, 10<<20))
		require.NoError(t, err)
		require.NoError(t, c.Close())

		other := dial(t, f, listen(t, echo))
		_, err = other.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, other.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.ReadFull(other, make([]byte, 1))
		require.NoError(t, err)
	})
}

func TestAWriterWaits(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		deaf := make(chan net.Conn, 1)
		at := listen(t, func(c net.Conn) { deaf <- c })
		c := dial(t, s.forwarder(t), at)
		defer func() { (<-deaf).Close() }()
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				return
			}
		}
	})
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, len(body))
		}))
		t.Cleanup(app.Close)
		way := s.forwarder(t).Dial("shop", "web", port(app.Listener.Addr().String()))
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return way(ctx) }}}
		for range 20 {
			response, err := client.Post("http://pod/x", "text/plain", bytes.NewReader(make([]byte, 70_000)))
			require.NoError(t, err)
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, "POST /x 70000", string(body))
		}
	})
}

func TestADialThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t, true)
	s.handshake = make(chan struct{})
	f := s.forwarder(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() {
		_, err := f.Dial("shop", "web", 80)(ctx)
		done <- err
	}()
	cause := errors.New("enough")
	cancel(cause)
	require.ErrorIs(t, <-done, cause)
	close(s.handshake)
}

func TestClosing(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *apiServer) {
		f, at := s.forwarder(t), listen(t, echo)
		c := dial(t, f, at)
		f.Close()
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, io.EOF)
		_, err = f.Dial("shop", "web", at)(t.Context())
		require.ErrorIs(t, err, net.ErrClosed)
		f.Close() // again
	})
}

func TestClosingWhileTheServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t, true)
	s.handshake = make(chan struct{})
	t.Cleanup(func() { close(s.handshake) })
	f := s.forwarder(t)
	done := make(chan error)
	go func() {
		_, err := f.Dial("shop", "web", 80)(t.Context())
		done <- err
	}()
	f.Close()
	require.Error(t, <-done)
}
