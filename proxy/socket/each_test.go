package socket

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// each collects what Each hands out on another goroutine; within is called within each take, and says whether to wait for more.
type each struct {
	got bytes.Buffer
	err error
	end chan struct{}
}

func newEach(c *Conn, within func(n int) (again bool)) *each {
	e := &each{end: make(chan struct{})}
	go func() {
		defer close(e.end)
		e.err = c.Each(func(b *Buffer, n int) bool {
			e.got.Write(b[:n])
			Return(b)
			return within(n)
		})
	}()
	return e
}

func (e *each) wait(t *testing.T) {
	t.Helper()
	select {
	case <-e.end:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for ever")
	}
}

// What comes while it is busy with what came before is handed out without another event: the wait has never ended.
func TestEachMissesNothing(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	within, goOn := make(chan int), make(chan bool)
	e := newEach(c, func(n int) bool { within <- n; return <-goOn })
	for _, word := range []string{"one", "two", "three"} {
		_, err := far.Write([]byte(word))
		require.NoError(t, err)
		if word != "one" {
			require.Eventually(t, func() bool { return c.Waiting() == len(word) }, 30*time.Second, time.Millisecond)
			goOn <- true
		}
		require.Equal(t, len(word), <-within)
	}
	goOn <- false
	e.wait(t)
	require.NoError(t, e.err)
	require.Equal(t, "onetwothree", e.got.String())

	_, err := far.Write([]byte("four"))
	require.NoError(t, err)
	b, n, err := c.ReadLent()
	require.NoError(t, err, "it reads like any other afterwards")
	require.Equal(t, "four", string(b[:n]))
	Return(b)
}

// What does not fit into a buffer is read without another event, too.
func TestEachReadsOnBehindAFullBuffer(t *testing.T) {
	t.Parallel()
	c, far := pair(t)
	const total = 3*BufferSize + 1
	go func() { _, _ = far.Write(make([]byte, total)) }()
	require.Eventually(t, func() bool { return c.Waiting() == total }, 30*time.Second, time.Millisecond)
	left := total
	e := newEach(c, func(n int) bool { left -= n; return left > 0 })
	e.wait(t)
	require.NoError(t, e.err)
	require.Equal(t, total, e.got.Len())
}

// Many at once, in pieces that come before, while and after somebody waits.
func TestEachUnderLoad(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for range 50 {
		c, far := pair(t)
		want := strings.Repeat("0123456789", 2000)
		all.Go(func() {
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+len(rest)%97)
				if _, err := io.WriteString(far, rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
		})
		left := len(want)
		e := newEach(c, func(n int) bool {
			for range n % 3 {
				runtime.Gosched()
			}
			left -= n
			return left > 0
		})
		all.Go(func() {
			<-e.end
			if e.err != nil || e.got.String() != want {
				t.Errorf("%d bytes arrived of %d: %v", e.got.Len(), len(want), e.err)
			}
		})
	}
	all.Wait()
}

func TestEachEnds(t *testing.T) {
	t.Parallel()
	always := func(int) bool { return true }

	c, far := pair(t)
	e := newEach(c, always)
	require.NoError(t, far.Close())
	e.wait(t)
	require.ErrorIs(t, e.err, io.EOF)

	c, far = pair(t)
	_, err := far.Write([]byte("the last word"))
	require.NoError(t, err)
	require.NoError(t, far.CloseWrite())
	require.Eventually(t, func() bool { return c.Waiting() == len("the last word") }, 30*time.Second, time.Millisecond)
	e = newEach(c, always)
	require.Eventually(t, func() bool { return c.Look() == Gone }, 30*time.Second, time.Millisecond, "a look shows an end that came with what was read")
	c.Interrupt()
	e.wait(t)
	require.True(t, Interrupted(e.err) || e.err == io.EOF, "%v: it is told of the end if it had to wait for it", e.err)
	require.Equal(t, "the last word", e.got.String())

	c, far = pair(t)
	within := make(chan struct{})
	e = newEach(c, func(int) bool { c.Interrupt(); c.Resume(); close(within); return true })
	_, err = far.Write([]byte("x"))
	require.NoError(t, err)
	<-within
	require.NoError(t, far.CloseWrite())
	e.wait(t)
	require.ErrorIs(t, e.err, io.EOF, "what was undone is undone")
}

// Whoever reads within would wait for himself.
func TestEachIsNotReadWithin(t *testing.T) {
	t.Parallel()
	if !rawSupported {
		t.Skip("here it may be")
	}
	c, far := pair(t)
	_, err := far.Write([]byte("x"))
	require.NoError(t, err)
	require.Panics(t, func() {
		_ = c.Each(func(b *Buffer, _ int) bool {
			Return(b)
			_, _ = c.Read(make([]byte, 1))
			return true
		})
	})
	c.Abort() // nothing is held
}

func TestEachOfWhatIsNoSocket(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	e := newEach(New(near), func(int) bool { return true })
	for _, word := range []string{"one", "two"} {
		_, err := far.Write([]byte(word))
		require.NoError(t, err)
	}
	require.NoError(t, far.Close())
	e.wait(t)
	require.ErrorIs(t, e.err, io.EOF)
	require.Equal(t, "onetwo", e.got.String())
}
