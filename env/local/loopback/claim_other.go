//go:build unix && !linux

package loopback

import (
	"fmt"
	"net"
	"net/netip"
)

func (b *Block) claim() error {
	b.prefix = netip.MustParsePrefix("127.0.0.1/32")
	return nil
}

// nextPort lets the kernel choose and holds nothing: unlike on Linux, another program can take the port before it is used.
func (b *Block) nextPort() (uint16, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, fmt.Errorf("asking for a port: %w", err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		l.Close()
		if !b.taken[at] && free(at.Port()) {
			b.taken[at] = true
			return at.Port(), nil
		}
	}
}
