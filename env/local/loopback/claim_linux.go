package loopback

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
)

// Port ranges of a run: slabSize ports each, from slabBase up to the range from which the kernel takes the local ports of connections, where any
// connection of any program could sit on a port that was handed out.
const (
	slabSize = 64
	slabBase = 10240
)

func (b *Block) claim() error {
	const second, third = 253, 254 // 127.1.1 to 127.253.254: 127.0 is where the machine's own services live
	for probe := range uint32(second * third) {
		n := (b.start + probe) % (second * third)
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{127, byte(1 + n/third), byte(1 + n%third), 0}), 24)
		claim, err := lock("net/" + prefix.String())
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return err
		}
		b.prefix = prefix
		if err := bindable(netip.AddrPortFrom(b.Addr(1), 0)); err != nil {
			claim.Close()
			return fmt.Errorf("this machine does not answer on %v: %w", prefix, err)
		}
		b.claims = append(b.claims, claim)
		return b.claimPorts()
	}
	return fmt.Errorf("127.0.0.0/8: %w", ErrExhausted)
}

func (b *Block) nextPort() (uint16, error) {
	for {
		for b.ports.next < b.ports.end {
			port := b.ports.next
			b.ports.next++
			if free(port) {
				return port, nil
			}
		}
		if err := b.claimPorts(); err != nil {
			return 0, err
		}
	}
}

// claimPorts claims another range of ports.
func (b *Block) claimPorts() error {
	slabs := uint32(firstEphemeral()-slabBase) / slabSize
	for probe := range slabs {
		n := (b.start + probe) % slabs
		claim, err := lock(fmt.Sprintf("ports/%d", n))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return err
		}
		b.claims = append(b.claims, claim)
		b.ports = portRange{next: uint16(slabBase + n*slabSize), end: uint16(slabBase + (n+1)*slabSize)}
		return nil
	}
	return fmt.Errorf("ports %d to %d: %w", slabBase, firstEphemeral()-1, ErrExhausted)
}

// firstEphemeral is the lowest port that the kernel gives to connections. A machine that is tuned to give away almost all of them leaves no room below;
// then the kernel's default stands, and only the check of each port protects it.
func firstEphemeral() int {
	const kernelDefault = 32768
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return kernelDefault
	}
	var low, high int
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil || low < slabBase+16*slabSize || low > 1<<16 {
		return kernelDefault
	}
	return low
}

// lock binds the name in the abstract namespace. EADDRINUSE says that somebody has it.
func lock(name string) (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a lock: %w", os.NewSyscallError("socket", err))
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: "@meshtest/" + name}); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("locking %s: %w", name, os.NewSyscallError("bind", err))
	}
	return os.NewFile(uintptr(fd), "meshtest/"+name), nil
}
