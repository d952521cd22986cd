package desync

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tap carries connections to an origin and records them.
type tap struct {
	at    string
	l     net.Listener
	all   sync.WaitGroup
	mu    sync.Mutex
	conns []*tapped
}

// tapped is the record of one connection.
type tapped struct {
	up, down bytes.Buffer // to the origin, and from there
}

// newTap listens in front of an origin.
func newTap(t *testing.T, origin string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &tap{at: l.Addr().String(), l: l}
	p.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			one := &tapped{}
			p.mu.Lock()
			p.conns = append(p.conns, one)
			p.mu.Unlock()
			p.all.Go(func() { one.carry(c, origin) })
		}
	})
	return p
}

func (p *tapped) carry(near net.Conn, origin string) {
	defer near.Close()
	far, err := net.DialTimeout("unix", origin, patience)
	if err != nil {
		return
	}
	defer far.Close()
	deadline := time.Now().Add(2 * patience)
	_ = near.SetDeadline(deadline)
	_ = far.SetDeadline(deadline)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, io.TeeReader(far, &p.down))
		_ = near.(*net.TCPConn).CloseWrite()
	})
	if _, err := io.Copy(far, io.TeeReader(near, &p.up)); err != nil && !errors.Is(err, io.EOF) {
		_ = far.Close() // cut off, and not ended
	} else {
		_ = far.(*net.UnixConn).CloseWrite()
	}
	back.Wait()
}

// records waits until all connections have ended, and gives what they carried.
func (p *tap) records(t *testing.T) []*tapped {
	t.Helper()
	p.l.Close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		p.all.Wait()
	}()
	select {
	case <-gone:
	case <-time.After(patience):
		require.Fail(t, "a connection to the origin has not ended")
	}
	return slices.Clone(p.conns)
}
