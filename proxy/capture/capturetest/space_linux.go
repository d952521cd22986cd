package capturetest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Space is a network namespace with its loopback interface up, and a user and group who act in it.
type Space struct {
	fd       int
	uid, gid int
}

// New makes a namespace that lives as long as the test. It skips the test where that takes more rights than there are.
func New(t testing.TB) Space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces take root")
	}
	s := Space{}
	err := elsewhere(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if s.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		return up("lo")
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("network namespaces take more rights than root has here")
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(s.fd) })
	return s
}

// elsewhere runs f on a thread of its own, which ends with it.
func elsewhere(f func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread is of no use to others afterwards
		ended <- f()
	}()
	return <-ended
}

// As is the same namespace for another user and group: sockets that are opened there belong to them.
func (s Space) As(uid, gid int) Space { return Space{s.fd, uid, gid} }

// In runs f in the namespace, and returns its error. What f opens stays there: connections, listeners, and processes, which keep this process's user. Whatever f starts as a goroutine is not there.
func (s Space) In(f func() error) error {
	return elsewhere(func() error {
		if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering the namespace: %w", err)
		}
		if s.uid != 0 || s.gid != 0 {
			if err := errors.Join(unix.Setfsgid(s.gid), unix.Setfsuid(s.uid)); err != nil {
				return fmt.Errorf("becoming %d:%d: %w", s.uid, s.gid, err)
			}
		}
		return f()
	})
}

// Join lays a wire between two namespaces, whose ends have the addresses.
func Join(t testing.TB, a, b Space, addressesOfA, addressesOfB []netip.Prefix) {
	t.Helper()
	require.NoError(t, a.In(func() error {
		wire := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(b.fd)}
		if err := netlink.LinkAdd(wire); err != nil {
			return fmt.Errorf("adding a wire: %w", err)
		}
		return nil
	}))
	for s, addresses := range map[Space][]netip.Prefix{a: addressesOfA, b: addressesOfB} {
		require.NoError(t, s.In(func() error { return up("eth0", addresses...) }))
	}
}

// up makes an interface usable.
func up(name string, addresses ...netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range addresses {
		parsed, err := netlink.ParseAddr(p.String())
		if err != nil {
			return err
		}
		if p.Addr().Is6() {
			parsed.Flags = unix.IFA_F_NODAD // it is nobody else's
		}
		if err := netlink.AddrAdd(link, parsed); err != nil {
			return fmt.Errorf("adding %s to %s: %w", p, name, err)
		}
	}
	return netlink.LinkSetUp(link)
}
