package socket

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/socket/certtest"
)

// agreement is how the two ends of a test speak TLS.
func agreement(t testing.TB, version uint16) (client, server *tls.Config) {
	t.Helper()
	ca := certtest.NewAuthority(t)
	server = &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "backend").Certificate}, MaxVersion: version}
	return &tls.Config{RootCAs: ca.Pool, ServerName: "backend", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}, server // a client that keeps none is sent no tickets
}

// sockets are the two ends of a connection.
func sockets(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// agree makes the handshake of both ends.
func agree(t testing.TB, c *Conn, far *tls.Conn) {
	t.Helper()
	failed := make(chan error, 1)
	go func() { failed <- far.Handshake() }()
	require.NoError(t, c.Handshake(t.Context()))
	require.NoError(t, <-failed)
}

// securePair is a client connection, and the plain crypto/tls server at its other end, or the other way around.
func securePair(t testing.TB, version uint16, server bool) (*Conn, *tls.Conn) {
	t.Helper()
	clientConfig, serverConfig := agreement(t, version)
	near, far := sockets(t)
	if server {
		c, other := Server(near, serverConfig), tls.Client(far, clientConfig)
		agree(t, c, other)
		return c, other
	}
	c, other := Client(near, clientConfig), tls.Server(far, serverConfig)
	agree(t, c, other)
	return c, other
}

// eachSecure runs a test with both versions, as client and as server.
func eachSecure(t *testing.T, test func(t *testing.T, c *Conn, far *tls.Conn)) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		for role, server := range map[string]bool{"client": false, "server": true} {
			t.Run(role+" "+name, func(t *testing.T) {
				t.Parallel()
				c, far := securePair(t, version, server)
				test(t, c, far)
			})
		}
	}
}

func TestSecureReadsAndWrites(t *testing.T) {
	t.Parallel()
	eachSecure(t, func(t *testing.T, c *Conn, far *tls.Conn) {
		require.True(t, c.TLS().HandshakeComplete)
		_, err := c.Write([]byte("hello"))
		require.NoError(t, err)
		buf := make([]byte, 5)
		_, err = io.ReadFull(far, buf)
		require.NoError(t, err)
		require.Equal(t, "hello", string(buf))
		_, err = far.Write([]byte("world"))
		require.NoError(t, err)
		b, n, err := c.ReadLent()
		require.NoError(t, err)
		require.Equal(t, "world", string(b[:n]))
		Return(b)
		require.NoError(t, far.CloseWrite())
		_, _, err = c.ReadLent()
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, c.CloseWrite())
		_, err = far.Read(buf)
		require.ErrorIs(t, err, io.EOF)
	})
}

// TestSecureNothingIsLost writes records of all sizes, and cuts the stream below into pieces that have nothing to do with them.
func TestSecureNothingIsLost(t *testing.T) {
	t.Parallel()
	clientConfig, serverConfig := agreement(t, 0)
	want := []byte(strings.Repeat("0123456789", 20000))
	for _, piece := range []int{1, 3, 7, 1000, 16 << 10} {
		var all sync.WaitGroup
		near, far := sockets(t)
		sender := tls.Server(&choppy{far, piece}, serverConfig)
		c := Client(near, clientConfig)
		agree(t, c, sender)
		all.Go(func() {
			for rest, i := want, 0; len(rest) > 0; i++ {
				n := min(len(rest), 1+i*i*i%40000)
				if _, err := sender.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
			_ = sender.Close()
		})
		var got bytes.Buffer
		for i := 0; ; i++ {
			if i%3 == 1 {
				c.Look() // takes nothing
			}
			if i%2 == 0 {
				b, n, err := c.ReadLent()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				got.Write(b[:n])
				Return(b)
				continue
			}
			small := make([]byte, 13)
			n, err := c.Read(small)
			got.Write(small[:n])
			if err == io.EOF {
				break
			}
		}
		all.Wait()
		require.True(t, bytes.Equal(want, got.Bytes()), "%d bytes arrived of %d", got.Len(), len(want))
		require.Nil(t, c.secure.records.ahead, "what waits holds no buffer")
	}
}

// choppy writes in pieces.
type choppy struct {
	net.Conn
	piece int
}

func (c *choppy) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k, err := c.Conn.Write(p[:min(len(p), c.piece)])
		n += k
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

func TestSecureLook(t *testing.T) {
	t.Parallel()
	if !rawSupported {
		t.Skip("there is no looking on this platform")
	}
	eachSecure(t, func(t *testing.T, c *Conn, far *tls.Conn) {
		see := func(want Presence) {
			t.Helper()
			require.Eventually(t, func() bool { return c.Look() == want }, 30*time.Second, time.Millisecond)
		}
		see(Quiet)
		_, err := far.Write([]byte("xyz"))
		require.NoError(t, err)
		see(Ready)
		see(Ready)
		got := make([]byte, 3)
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, "xyz", string(got), "looking takes nothing")
		see(Quiet)
		require.NoError(t, far.CloseWrite(), "a goodbye, and the connection stays")
		see(Gone)
		_, err = c.Read(got)
		require.ErrorIs(t, err, io.EOF)
	})
}

// TestSecureLookAtTickets: a server of TLS 1.3 sends session tickets behind the handshake, so that there is something in the socket and nothing to read.
func TestSecureLookAtTickets(t *testing.T) {
	t.Parallel()
	if !rawSupported {
		t.Skip("there is no looking on this platform")
	}
	c, _ := securePair(t, tls.VersionTLS13, false)
	require.Eventually(t, func() bool { return c.secure.records.ahead != nil || c.secure.records.Look() == Ready }, 30*time.Second, time.Millisecond)
	require.Equal(t, Quiet, c.Look())
	require.Equal(t, Quiet, c.secure.records.Look(), "they were taken in")
	require.False(t, c.Held())
}

func TestSecureLookSeesTheEndWithoutGoodbye(t *testing.T) {
	t.Parallel()
	eachSecure(t, func(t *testing.T, c *Conn, far *tls.Conn) {
		require.NoError(t, far.NetConn().Close())
		require.Eventually(t, func() bool { return c.Look() == Gone }, 30*time.Second, time.Millisecond)
	})
}

// TestSecureLookBesideARead looks while somebody reads, as the alarm does.
func TestSecureLookBesideARead(t *testing.T) {
	t.Parallel()
	c, far := securePair(t, 0, false)
	done := make(chan string)
	go func() {
		b, n, err := c.ReadLent()
		if err != nil {
			done <- err.Error()
			return
		}
		done <- string(b[:n])
	}()
	for range 100 {
		require.Equal(t, Quiet, c.Look())
	}
	_, err := far.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello", <-done)
}

func TestSecureInterrupt(t *testing.T) {
	t.Parallel()
	eachSecure(t, func(t *testing.T, c *Conn, far *tls.Conn) {
		failed := make(chan error)
		go func() {
			_, _, err := c.ReadLent()
			failed <- err
		}()
		c.Interrupt()
		require.True(t, Interrupted(<-failed))
		_, err := c.Write([]byte("x"))
		require.True(t, Interrupted(err))
		c.Resume()
		_, err = c.Write([]byte("y"))
		require.NoError(t, err, "what was only begun does no harm")
		got := make([]byte, 1)
		_, err = far.Read(got)
		require.NoError(t, err)
		require.Equal(t, "y", string(got))
		_, err = far.Write([]byte("z"))
		require.NoError(t, err)
		n, err := c.Read(got)
		require.NoError(t, err)
		require.Equal(t, "z", string(got[:n]))
	})
}

// TestSecureInterruptInTheMiddleOfARecord interrupts a read that has a part of a record, and goes on.
func TestSecureInterruptInTheMiddleOfARecord(t *testing.T) {
	t.Parallel()
	clientConfig, serverConfig := agreement(t, 0)
	near, far := sockets(t)
	held := &holding{Conn: far}
	sender := tls.Server(held, serverConfig)
	c := Client(near, clientConfig)
	agree(t, c, sender)
	require.Eventually(t, func() bool { return c.Look() == Quiet }, 30*time.Second, time.Millisecond)
	held.hold.Store(true)
	_, err := sender.Write([]byte("hello"))
	require.NoError(t, err)
	rest := held.kept
	_, err = far.Write(rest[:9])
	require.NoError(t, err)
	failed := make(chan error)
	go func() {
		_, _, err := c.ReadLent()
		failed <- err
	}()
	c.Interrupt()
	require.True(t, Interrupted(<-failed))
	c.Resume()
	_, err = far.Write(rest[9:])
	require.NoError(t, err)
	b, n, err := c.ReadLent()
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	Return(b)

	_, err = far.Write([]byte{23, 3, 3, 0, 100, 1})
	require.NoError(t, err)
	require.NoError(t, far.Close())
	_, _, err = c.ReadLent()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a stream that ends inside a record")
}

func TestSecureInterruptedWriteInProgress(t *testing.T) {
	t.Parallel()
	if !rawSupported {
		t.Skip("there is no looking on this platform")
	}
	c, far := securePair(t, 0, false)
	failed := make(chan error)
	go func() {
		_, err := c.Write(make([]byte, 64<<20)) // nobody reads
		failed <- err
	}()
	below := New(far.NetConn())
	require.Eventually(t, func() bool { return below.Look() == Ready }, 30*time.Second, time.Millisecond)
	c.Interrupt()
	err := <-failed
	require.True(t, Interrupted(err), "%v", err)
	c.Resume()
	_, err = c.Write([]byte("x"))
	require.Error(t, err, "there is half a record before it")
	require.NoError(t, c.Close(), "closing does not wait for who does not read")
}

func TestSecureAbort(t *testing.T) {
	t.Parallel()
	eachSecure(t, func(t *testing.T, c *Conn, far *tls.Conn) {
		c.Abort()
		_, err := far.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, io.EOF)
	})
}

func TestSecurePass(t *testing.T) {
	t.Parallel()
	from, source := securePair(t, 0, false)
	to, sink := securePair(t, 0, true)
	big := bytes.Repeat([]byte("0123456789"), 100000)
	var all sync.WaitGroup
	all.Go(func() {
		_, _ = source.Write(big)
		_ = source.CloseWrite()
	})
	all.Go(func() {
		n, err := from.Pass(to, len(big)+1)
		if err != nil || n != len(big) {
			t.Errorf("passed %d: %v", n, err)
		}
		_ = to.CloseWrite()
	})
	got, err := io.ReadAll(sink)
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, got))
	all.Wait()
}

func TestHandshakeFailures(t *testing.T) {
	t.Parallel()
	clientConfig, _ := agreement(t, 0)

	near, _ := sockets(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, Client(near, clientConfig).Handshake(ctx), context.DeadlineExceeded, "who says nothing is not waited for")

	near, far := sockets(t)
	_, err := far.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	require.NoError(t, err)
	var wrong tls.RecordHeaderError
	require.ErrorAs(t, Client(near, clientConfig).Handshake(t.Context()), &wrong)

	_, serverConfig := agreement(t, 0) // of another authority
	near, far = sockets(t)
	other := tls.Server(far, serverConfig)
	go func() { _ = other.Handshake() }()
	var refused *tls.CertificateVerificationError
	require.ErrorAs(t, Client(near, clientConfig).Handshake(t.Context()), &refused)

	near, _ = sockets(t)
	c := Client(near, clientConfig)
	failed := make(chan error)
	go func() { failed <- c.Handshake(context.Background()) }()
	c.Interrupt()
	require.Error(t, <-failed)
	c.Resume()
	require.Error(t, c.Handshake(t.Context()), "a handshake that failed has failed")
}

func TestSecureConnectionsThatAreNoSockets(t *testing.T) {
	t.Parallel()
	clientConfig, serverConfig := agreement(t, 0)
	near, far := net.Pipe()
	c, other := Client(near, clientConfig), tls.Server(far, serverConfig)
	go func() {
		_, _ = other.Write([]byte("hello"))
		_, _ = io.Copy(io.Discard, other)
		_ = other.Close()
	}()
	b, n, err := c.ReadLent()
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	Return(b)
	require.Equal(t, Quiet, c.Look())
	require.NoError(t, c.Close())
}

// holding keeps what is written, when told to.
type holding struct {
	net.Conn
	hold atomic.Bool
	kept []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if h.hold.Load() {
		h.kept = append(h.kept, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// BenchmarkSecureExchange is a request and an answer of 1 KiB, without what the other end costs in allocations: it is of this type too.
func BenchmarkSecureExchange(b *testing.B) {
	clientConfig, serverConfig := agreement(b, 0)
	for _, config := range []*tls.Config{clientConfig, serverConfig} {
		config.DynamicRecordSizingDisabled = true
	}
	near, far := sockets(b)
	c, other := Client(near, clientConfig), Server(far, serverConfig)
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer := make([]byte, 1024)
		for {
			lent, _, err := other.ReadLent()
			if err != nil {
				return
			}
			Return(lent)
			if _, err := other.Write(answer); err != nil {
				return
			}
		}
	}()
	request := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		lent, _, err := c.ReadLent()
		if err != nil {
			b.Fatal(err)
		}
		Return(lent)
	}
	_ = c.Close()
	<-done
}
