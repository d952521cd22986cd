package wire

import (
	"net"
	"sync"
)

// conns is a listener that can hang up on everybody it accepted. gRPC itself waits, when it stops, for peers that connected and never said anything.
type conns struct {
	net.Listener

	mu      sync.Mutex
	open    map[net.Conn]bool
	stopped bool
}

func trackConns(l net.Listener) *conns { return &conns{Listener: l, open: map[net.Conn]bool{}} }

// Accept accepts a connection, until hangUp.
func (c *conns) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c.open[conn] = true
	return tracked{conn, c}, nil
}

// hangUp closes all connections, now and from now on.
func (c *conns) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for conn := range c.open {
		_ = conn.Close()
	}
}

type tracked struct {
	net.Conn
	conns *conns
}

// Close closes the connection and forgets it.
func (t tracked) Close() error {
	t.conns.mu.Lock()
	delete(t.conns.open, t.Conn)
	t.conns.mu.Unlock()
	return t.Conn.Close()
}
