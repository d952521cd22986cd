//go:build !linux

package capture

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// expressions are for a kernel that can redirect.
type expressions = struct{}

func (interfaceMatch) expressions() expressions { return expressions{} }
func (tcpMatch) expressions() expressions       { return expressions{} }
func (ownerMatch) expressions() expressions     { return expressions{} }
func (portMatch) expressions() expressions      { return expressions{} }
func (addressMatch) expressions() expressions   { return expressions{} }
func (classMatch) expressions() expressions     { return expressions{} }
func (socketMatch) expressions() expressions    { return expressions{} }

var errUnsupported = errors.New("traffic can be redirected to a sidecar only on Linux")

// Install returns an error: traffic can be redirected only on Linux.
func Install(context.Context, Rules) error { return errUnsupported }

// Remove returns an error: traffic can be redirected only on Linux.
func Remove() error { return errUnsupported }

// OriginalDst returns an error: no connection was redirected.
func OriginalDst(net.Conn) (netip.AddrPort, error) { return netip.AddrPort{}, errUnsupported }

// Dial connects to the application beside the sidecar.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}
