//go:build linux

package loopback

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// claimant makes the test binary a process that claims a block for the run it names, prints it with some ports, and keeps it until its input ends.
const claimant = "LOOPBACK_TEST_CLAIM"

func TestMain(m *testing.M) {
	if run := os.Getenv(claimant); run != "" {
		claimAndHold(run)
	}
	os.Exit(m.Run())
}

func claimAndHold(run string) {
	b, err := Claim(run)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	line := []any{b}
	for range slabSize + 10 {
		port, err := b.Port()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		line = append(line, port)
	}
	fmt.Println(line...)
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func claim(t *testing.T, run string) *Block {
	b, err := Claim(run)
	require.NoError(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

func TestClaimsOfOneRunIDNeverMeet(t *testing.T) {
	t.Parallel()
	const claimants, ports = 20, 5
	var mu sync.Mutex
	blocks, seen := map[string]bool{}, map[uint16]bool{}
	var wg sync.WaitGroup
	for range claimants {
		wg.Go(func() {
			b, err := Claim(t.Name())
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { b.Close() })
			for range ports {
				port, err := b.Port()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				blocks[b.String()], seen[port] = true, true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, blocks, claimants)
	require.Len(t, seen, claimants*ports)
}

func TestClaimsOfSeveralProcessesNeverMeet(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	const processes = 6
	var outputs []*bufio.Reader
	var inputs []io.Closer
	for range processes {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), claimant+"=processes")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			in.Close()
			require.NoError(t, cmd.Wait())
		})
		inputs = append(inputs, in)
		outputs = append(outputs, bufio.NewReader(out))
	}
	for _, out := range outputs {
		line, err := out.ReadString('\n')
		require.NoError(t, err, line)
		for _, word := range strings.Fields(line) {
			require.False(t, seen[word], "%s was claimed twice", word)
			seen[word] = true
		}
	}
	require.Len(t, seen, processes*(1+slabSize+10))
	for _, in := range inputs {
		in.Close()
	}
}

// Not in parallel: what another test forks has a copy of the files until it executes its own program, and would hold the claim.
func TestClaimLivesAsLongAsItsFiles(t *testing.T) {
	const run = "the life of a claim"
	first, err := Claim(run)
	require.NoError(t, err)

	// A process with a copy of the files, as the supervisor is.
	holder := exec.Command("cat")
	holder.ExtraFiles = first.Files()
	in, err := holder.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())

	require.NoError(t, first.Close())
	require.NotEqual(t, first.String(), claim(t, run).String(), "a copy of the files holds the claim")

	in.Close()
	require.NoError(t, holder.Wait())
	require.Equal(t, first.String(), claim(t, run).String(), "nobody holds it any more")
}

func TestAddr(t *testing.T) {
	t.Parallel()
	b := claim(t, t.Name())
	prefix := netip.MustParsePrefix(b.String())
	seen := map[netip.Addr]bool{}
	for i := 1; i <= Hosts; i++ {
		a := b.Addr(i)
		require.True(t, prefix.Contains(a) && a.IsLoopback(), a)
		require.NotEqual(t, byte(0), a.As4()[1])
		seen[a] = true
	}
	require.Len(t, seen, Hosts)
	for _, i := range []int{-1, 0, Hosts + 1} {
		require.Panics(t, func() { b.Addr(i) }, i)
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	b := claim(t, t.Name())
	want, err := b.Port()
	require.NoError(t, err)

	first, err := b.Endpoint(1, want)
	require.NoError(t, err)
	require.Equal(t, netip.AddrPortFrom(b.Addr(1), want), first)
	other, err := b.Endpoint(2, want)
	require.NoError(t, err)
	require.Equal(t, netip.AddrPortFrom(b.Addr(2), want), other, "the same port on another address")

	listeners := []net.Listener{}
	for name, ask := range map[string]uint16{"handed out before": want, "no wish": 0, "again no wish": 0} {
		at, err := b.Endpoint(1, ask)
		require.NoError(t, err, name)
		require.Equal(t, b.Addr(1), at.Addr(), name)
		require.NotEqual(t, want, at.Port(), name)
		require.NotZero(t, at.Port(), name)
		l, err := net.Listen("tcp", at.String())
		require.NoError(t, err, name)
		listeners = append(listeners, l)
	}
	for _, l := range listeners {
		require.NoError(t, l.Close())
	}
}

func TestEndpointAvoidsAPortThatIsTakenOnAllAddresses(t *testing.T) {
	t.Parallel()
	b := claim(t, t.Name())
	port, err := b.Port()
	require.NoError(t, err)
	everywhere, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
	require.NoError(t, err)
	defer everywhere.Close()
	at, err := b.Endpoint(1, port)
	require.NoError(t, err)
	require.NotEqual(t, port, at.Port())
}

func TestPortsSkipWhatIsInUse(t *testing.T) {
	t.Parallel()
	b := claim(t, t.Name())
	next, err := b.Port() // free everywhere
	require.NoError(t, err)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", next))
	require.NoError(t, err)
	defer l.Close()
	b.mu.Lock()
	b.ports.next = next // its turn again
	b.mu.Unlock()
	got, err := b.Port()
	require.NoError(t, err)
	require.NotEqual(t, next, got, "a program listens there on one address")

	for range 3 * slabSize { // three ranges and more
		port, err := b.Port()
		require.NoError(t, err)
		require.GreaterOrEqual(t, int(port), slabBase)
		require.Less(t, int(port), firstEphemeral())
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	require.Greater(t, len(b.Files()), 3)
}
