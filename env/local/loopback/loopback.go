//go:build unix

// Package loopback stands up the addresses of a local run: a /24 of 127.0.0.0/8 and ports that no other run on this
// machine uses, claimed without a file that could be left behind.
//
// A claim is a Unix socket bound in Linux's abstract namespace, one name per /24 and one per range of ports. Binding a name
// twice fails, so two runs cannot hold the same one; the name is free again when the last descriptor of the socket is
// closed, by whatever death; and the abstract namespace belongs to the network namespace, exactly as 127.0.0.0/8 does.
// (A listener on a reserved TCP port would say the same, but any program that listens on that port on all addresses would
// make every claim fail.) Hand [Block.Files] to the supervisor and the claim lives as long as the processes that use it.
//
// Outside Linux only 127.0.0.1 answers and there is no abstract namespace: every address of a block is 127.0.0.1, and
// ports come from the kernel. [Block.Endpoint] hides the difference.
package loopback

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"sync"
)

// Hosts is the number of addresses that a block hands out: 127.a.b.1 to 127.a.b.250.
const Hosts = 250

// ErrExhausted says that every block or port range of this machine is claimed.
var ErrExhausted = errors.New("all are claimed by other runs")

// Block is the addresses and ports of one run. Its methods may be called from several goroutines.
type Block struct {
	prefix netip.Prefix // 127.a.b.0/24, or 127.0.0.1/32 where the machine has one address only
	start  uint32       // where the run's search for port ranges begins, so that two runs rarely meet

	mu     sync.Mutex
	claims []*os.File
	taken  map[netip.AddrPort]bool // endpoints handed out
	ports  portRange               // the claimed range that is in use
}

// Claim takes a block for the run. Which one follows from the run's id, then the next free one.
func Claim(runID string) (*Block, error) {
	hash := fnv.New32a()
	hash.Write([]byte(runID))
	b := &Block{start: hash.Sum32(), taken: map[netip.AddrPort]bool{}}
	if err := b.claim(); err != nil {
		return nil, fmt.Errorf("claiming loopback addresses for run %s: %w", runID, err)
	}
	return b, nil
}

// Addr is the i-th address of the block, 1 <= i <= [Hosts]; any other i panics. Where the machine has only
// 127.0.0.1 all are equal (see [Block.Shared]).
func (b *Block) Addr(i int) netip.Addr {
	if i < 1 || i > Hosts {
		panic(fmt.Sprintf("loopback: address %d of a block, which has 1 to %d", i, Hosts))
	}
	if b.Shared() {
		return b.prefix.Addr()
	}
	a := b.prefix.Addr().As4()
	a[3] = byte(i)
	return netip.AddrFrom4(a)
}

// Shared reports whether the block's addresses are all 127.0.0.1, shared with everything else on this machine, so that only
// ports tell endpoints apart.
func (b *Block) Shared() bool { return b.prefix.IsSingleIP() }

// Endpoint finds where something that would like to listen on Addr(i) and the port want can listen, and does not hand that place out
// again. It is Addr(i):want when that can be bound now, and otherwise Addr(i) with a port of [Block.Port]: when
// another program listens on want on all addresses, when want needs a privilege that this process lacks, when it was handed out before, on a
// shared block, or when want is 0.
func (b *Block) Endpoint(i int, want uint16) (netip.AddrPort, error) {
	at := netip.AddrPortFrom(b.Addr(i), want)
	if want != 0 && !b.Shared() && b.take(at) {
		if bindable(at) == nil {
			return at, nil
		}
	}
	port, err := b.Port()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("finding a port on %v: %w", at.Addr(), err)
	}
	at = netip.AddrPortFrom(b.Addr(i), port)
	b.take(at)
	return at, nil
}

func (b *Block) take(at netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken[at] {
		return false
	}
	b.taken[at] = true
	return true
}

// Port gives a port that was free on every address of this machine a moment ago, and that no other call on this machine is given while
// the claim lives: also a program that ignores HOST and listens on all addresses can have it.
func (b *Block) Port() (uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nextPort()
}

// Files are the sockets that hold the claim now. Whoever has a copy of them keeps the /24 and the ports claimed; ports that are asked
// for later can add another. They are not to be read, written or closed.
func (b *Block) Files() []*os.File {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*os.File(nil), b.claims...)
}

// String is the block as a prefix, such as 127.83.9.0/24.
func (b *Block) String() string { return b.prefix.String() }

// Close gives up this process's hold on the claim. It is free for others when every copy of its files is closed.
func (b *Block) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, f := range b.claims {
		errs = append(errs, f.Close())
	}
	b.claims = nil
	return errors.Join(errs...)
}
