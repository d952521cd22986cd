package capture

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// originalDst is SO_ORIGINAL_DST of IPv4 and IP6T_SO_ORIGINAL_DST of IPv6.
const originalDst = 80

// OriginalDst is where a connection that was accepted was going before it was redirected; for one that was not redirected it is the connection's own local address. The connection is a
// *net.TCPConn, or something else with a SyscallConn. The error says that the kernel does not track it.
func OriginalDst(c net.Conn) (netip.AddrPort, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("asking for the original destination of a %T: it is no socket", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("asking for the original destination: %w", err)
	}
	ask := originalDst6
	if local, ok := c.LocalAddr().(*net.TCPAddr); ok && local.IP.To4() != nil { // also when the listener takes both families
		ask = originalDst4
	}
	var dst netip.AddrPort
	if controlErr := raw.Control(func(fd uintptr) { dst, err = ask(int(fd)) }); controlErr != nil {
		err = controlErr
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("asking for the original destination: %w", err)
	}
	return dst, nil
}

func originalDst4(fd int) (netip.AddrPort, error) {
	raw, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, originalDst) // for its size: sockaddr_in is as long as the address in it
	if err != nil {
		return netip.AddrPort{}, err
	}
	in := raw.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(in[4:8])), binary.BigEndian.Uint16(in[2:4])), nil
}

func originalDst6(fd int) (netip.AddrPort, error) {
	raw, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, originalDst) // for the sockaddr_in6 in it
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr := netip.AddrFrom16(raw.Addr.Addr)
	if raw.Addr.Scope_id != 0 {
		addr = addr.WithZone(strconv.FormatUint(uint64(raw.Addr.Scope_id), 10))
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], raw.Addr.Port) // as it lay in memory
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port[:])), nil
}

// Dial connects to the application in the sidecar's own namespace, marked so that it is not redirected to the sidecar.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Control: mark}
	return d.DialContext(ctx, "tcp", address)
}

func mark(network, _ string, c syscall.RawConn) (err error) {
	level, option := unix.SOL_IP, unix.IP_TOS
	if network == "tcp6" {
		level, option = unix.SOL_IPV6, unix.IPV6_TCLASS
	}
	if controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, class<<2) }); controlErr != nil {
		return controlErr
	}
	return err
}
