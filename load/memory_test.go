package load_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/load"
)

// A memoryServer is an HTTP server without a network, so that its time can be the bubble's of a synctest.
type memoryServer struct {
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
}

func serve(t *testing.T, h http.HandlerFunc) *memoryServer {
	t.Helper()
	m := &memoryServer{server: &http.Server{Handler: h}, conns: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- m.server.Serve(m) }()
	t.Cleanup(func() {
		require.NoError(t, m.server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return m
}

func (m *memoryServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case m.conns <- server:
		return client, nil
	case <-m.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memoryServer) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, errors.New("closed")
	}
}

func (m *memoryServer) Close() error   { close(m.closed); return nil }
func (m *memoryServer) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func constant(t *testing.T, rate float64) load.Curve {
	t.Helper()
	c, err := load.Constant(rate)
	require.NoError(t, err)
	return c
}

// collect returns a sink and the records that it got; they may be read when Run has returned.
func collect() (sink func(load.Record), records *[]load.Record) {
	records = new([]load.Record)
	return func(r load.Record) { *records = append(*records, r) }, records
}
