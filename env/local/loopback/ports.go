//go:build unix

package loopback

import (
	"net/netip"
	"os"
	"syscall"
)

// portRange is ports [next, end) that are claimed and not handed out.
type portRange struct{ next, end uint16 }

// bindable tries the place without listening there, so that nothing can connect meanwhile. An unspecified address stands for all of them.
func bindable(at netip.AddrPort) error {
	family, sa := socketAddress(at)
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	// As a listener does: connections in TIME_WAIT do not count, another listener does.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("bind", syscall.Bind(fd, sa))
}

func socketAddress(at netip.AddrPort) (family int, sa syscall.Sockaddr) {
	if at.Addr().Is6() {
		return syscall.AF_INET6, &syscall.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
	}
	return syscall.AF_INET, &syscall.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
}

// free reports whether a program could listen on the port on all addresses, of both families where the machine has IPv6.
func free(port uint16) bool {
	all := func(a netip.Addr) bool { return bindable(netip.AddrPortFrom(a, port)) == nil }
	return all(netip.IPv4Unspecified()) && (all(netip.IPv6Unspecified()) || !hasIPv6())
}

func hasIPv6() bool { return bindable(netip.AddrPortFrom(netip.IPv6Unspecified(), 0)) == nil }
