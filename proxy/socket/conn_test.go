package socket

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a connection, and the plain other end of it.
func pair(t *testing.T) (*Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { near.Close(); far.Close() })
	return New(near), far.(*net.TCPConn)
}

func TestReadsAndWrites(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	n, err := c.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, 5, n)
	buf := make([]byte, 5)
	_, err = io.ReadFull(far, buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf))
	_, err = far.Write([]byte("world"))
	require.NoError(t, err)
	n, err = c.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "world", string(buf[:n]))

	n, err = c.Write(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = c.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestReadLent(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	go func() { _, _ = far.Write([]byte("hello")) }()
	b, n, err := c.ReadLent()
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	Return(b)
	require.NoError(t, far.CloseWrite())
	b, n, err = c.ReadLent()
	require.ErrorIs(t, err, io.EOF)
	require.Nil(t, b)
	require.Zero(t, n)
}

// TestNothingIsLost writes in pieces that arrive before, while and after somebody waits: with an edge-triggered poller a wait that does not try first loses wake-ups.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for range 50 {
		c, far := pair(t)
		want := []byte(strings.Repeat("0123456789", 2000))
		all.Go(func() {
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+len(rest)%97)
				if _, err := far.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
			_ = far.CloseWrite()
		})
		all.Go(func() {
			var got bytes.Buffer
			for i := 0; ; i++ {
				if i%2 == 0 {
					b, n, err := c.ReadLent()
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Error(err)
						return
					}
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
			if !bytes.Equal(want, got.Bytes()) {
				t.Errorf("%d bytes arrived of %d", got.Len(), len(want))
			}
		})
	}
	all.Wait()
}

// TestAsk asks many at once for answers that come at once, late, in pieces, and behind something that nobody asked for.
func TestAsk(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for i := range 20 {
		c, far := pair(t)
		all.Go(func() {
			in := make([]byte, 100)
			for round := range 100 {
				if _, err := io.ReadFull(far, in[:5]); err != nil {
					t.Error(err)
					return
				}
				if (round+i)%3 == 0 {
					runtime.Gosched()
				}
				if _, err := far.Write([]byte("an answer")); err != nil {
					t.Error(err)
					return
				}
			}
			_ = far.CloseWrite()
		})
		all.Go(func() {
			for range 100 {
				b, n, wrote, err := c.Ask([]byte("what?"))
				if err != nil || wrote != nil || string(b[:n]) != "an answer" {
					t.Error(wrote, err)
					return
				}
				Return(b)
			}
			b, _, err := c.ReadLent()
			if err != io.EOF || b != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	c, far := pair(t)
	_, err := far.Write([]byte("unasked, "))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.Look() == Ready }, 30*time.Second, time.Millisecond)
	go func() {
		_, _ = io.ReadFull(far, make([]byte, 5))
		_, _ = far.Write([]byte("asked"))
	}()
	b, n, wrote, err := c.Ask([]byte("what?"))
	require.NoError(t, wrote)
	require.NoError(t, err)
	got := string(b[:n])
	Return(b)
	for len(got) < len("unasked, asked") { // what was there may be read before the rest
		b, n, err := c.ReadLent()
		require.NoError(t, err)
		got += string(b[:n])
		Return(b)
	}
	require.Equal(t, "unasked, asked", got)
}

func TestAskMoreThanTheKernelTakes(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	big := bytes.Repeat([]byte("x"), 32<<20)
	go func() {
		_, _ = io.CopyN(io.Discard, far, int64(len(big)))
		_, _ = far.Write([]byte("enough"))
	}()
	b, n, wrote, err := c.Ask(big)
	require.NoError(t, wrote)
	require.NoError(t, err)
	require.Equal(t, "enough", string(b[:n]))
	Return(b)
}

// Whoever was interrupted before has written nothing; whom nobody hears learns so, and still reads what was said.
func TestAskInVain(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	c.Interrupt()
	_, _, _, err := c.Ask([]byte("what?"))
	require.True(t, Interrupted(err))
	c.Resume()
	require.NoError(t, c.CloseWrite())
	_, err = far.Write([]byte("too late"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.Look() == Ready }, 30*time.Second, time.Millisecond)
	b, n, wrote, err := c.Ask([]byte("what?"))
	require.ErrorIs(t, wrote, syscall.EPIPE)
	require.NoError(t, err)
	require.Equal(t, "too late", string(b[:n]))
	Return(b)
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestWritesMoreThanTheKernelTakes(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	big := bytes.Repeat([]byte("x"), 32<<20)
	var all sync.WaitGroup
	all.Go(func() {
		n, err := c.Write(big)
		if err != nil || n != len(big) {
			t.Errorf("wrote %d: %v", n, err)
		}
		_ = c.CloseWrite()
	})
	n, err := io.Copy(io.Discard, far)
	require.NoError(t, err)
	require.EqualValues(t, len(big), n)
	all.Wait()
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	failed := make(chan error)
	go func() {
		_, _, err := c.ReadLent()
		failed <- err
	}()
	c.Interrupt()
	err := <-failed
	require.True(t, Interrupted(err), "%v", err)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = c.Read(make([]byte, 1))
	require.True(t, Interrupted(err), "later ones too")
	_, err = c.Write([]byte("x"))
	require.True(t, Interrupted(err))
	c.Resume()
	_, err = far.Write([]byte("y"))
	require.NoError(t, err)
	n, err := c.Read(make([]byte, 1))
	require.NoError(t, err)
	require.Equal(t, 1, n)

	c.InterruptRead()
	_, err = c.Write([]byte("x"))
	require.NoError(t, err, "only reads are interrupted")
}

func TestLook(t *testing.T) {
	t.Parallel()
	if !rawSupported {
		t.Skip("there is no looking on this platform")
	}
	c, far := pair(t)
	see := func(want Presence) {
		t.Helper()
		require.Eventually(t, func() bool { return c.Look() == want }, 30*time.Second, time.Millisecond)
	}
	see(Quiet)
	_, err := far.Write([]byte("x"))
	require.NoError(t, err)
	see(Ready)
	n, err := c.Read(make([]byte, 10))
	require.NoError(t, err)
	require.Equal(t, 1, n, "looking takes nothing")
	see(Quiet)
	require.NoError(t, far.Close())
	see(Gone)
	require.NoError(t, c.Close())
	see(Gone)
}

func TestAbort(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	c.Abort()
	_, err := far.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF)
}

func TestConnectionsThatAreNoSockets(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	c := New(near)
	go func() { _, _ = far.Write([]byte("hello")) }()
	b, n, err := c.ReadLent()
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	Return(b)
	require.Equal(t, Quiet, c.Look())
	require.NoError(t, c.CloseWrite())
}

// part is a connection that is a part of another one.
type part struct {
	net.Conn
	waited, aborted bool
}

func (p *part) Look() Presence  { return Ready }
func (p *part) Abort()          { p.aborted = true }
func (p *part) WaitRead() error { p.waited = true; return nil }

func TestConnectionsThatKnowByThemselves(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	defer near.Close()
	p := &part{Conn: near}
	c := New(p)
	require.Same(t, c, New(c))
	require.Equal(t, Ready, c.Look())
	go func() { _, _ = far.Write([]byte("hello")) }()
	b, n, err := c.ReadLent()
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	Return(b)
	require.True(t, p.waited)
	c.Interrupt()
	_, err = c.Read(make([]byte, 1))
	require.True(t, Interrupted(err))
	c.Abort()
	require.True(t, p.aborted)
}

func TestReadingAllocatesNothing(t *testing.T) {
	c, far := pair(t)
	message := []byte("hello")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := far.Write(message); err != nil {
			t.Fatal(err)
		}
		b, _, err := c.ReadLent()
		if err != nil {
			t.Fatal(err)
		}
		Return(b)
	}))
}
