package forward

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
)

func TestABufferKeepsWhatWasWrittenBeforeTheEnd(t *testing.T) {
	t.Parallel()
	b := newBuffer()
	_, err := b.Write([]byte("abc"))
	require.NoError(t, err)
	b.end(io.EOF, syscall.EPIPE)
	b.end(net.ErrClosed, net.ErrClosed) // the first one counts
	_, err = b.Write([]byte("d"))
	require.ErrorIs(t, err, syscall.EPIPE)
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, "abc", string(got))
}

func TestABufferIsBounded(t *testing.T) {
	testbubble.Test(t, func(t *testing.T) {
		b := newBuffer()
		done := make(chan int)
		go func() {
			n, _ := b.Write(make([]byte, 3*capacity))
			done <- n
		}()
		synctest.Wait()
		require.Equal(t, capacity, b.data.Len())
		_, err := io.ReadFull(b, make([]byte, 3*capacity))
		require.NoError(t, err)
		require.Equal(t, 3*capacity, <-done)
	})
}

func TestDeadlinesOfABuffer(t *testing.T) {
	testbubble.Test(t, func(t *testing.T) {
		b := newBuffer()
		start := time.Now()
		require.NoError(t, b.set(&b.read, start.Add(time.Hour)))
		require.NoError(t, b.set(&b.read, start.Add(time.Second))) // moved
		_, err := b.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))

		require.NoError(t, b.set(&b.read, time.Time{}))
		_, err = b.Write([]byte("x"))
		require.NoError(t, err)
		_, err = b.Read(make([]byte, 1))
		require.NoError(t, err)

		require.NoError(t, b.set(&b.write, time.Now().Add(time.Second)))
		n, err := b.Write(make([]byte, capacity+1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, capacity, n)
		require.NoError(t, b.set(&b.write, time.Now().Add(-time.Second)))
		n, err = b.Write([]byte("x"))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Zero(t, n)
	})
}

func TestADroppedBufferTakesEverything(t *testing.T) {
	t.Parallel()
	b := newBuffer()
	b.drop()
	n, err := b.Write(make([]byte, 3*capacity))
	require.NoError(t, err)
	require.Equal(t, 3*capacity, n)
	_, err = b.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
}
