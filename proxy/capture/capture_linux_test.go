package capture

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"meshtest.dev/meshtest/proxy/capture/capturetest"
)

func TestTheKernelDoesWhatTheTextSays(t *testing.T) {
	t.Parallel()
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("there is no nft to ask the kernel with")
	}
	pod := capturetest.New(t)
	for name, rules := range goldens {
		require.NoError(t, pod.In(func() error { return Install(t.Context(), rules) }), name)
		var listed []byte
		require.NoError(t, pod.In(func() (err error) {
			listed, err = exec.CommandContext(t.Context(), nft, "list", "ruleset").CombinedOutput()
			return err
		}), "%s: %s", name, listed)
		require.Equal(t, rules.String(), string(listed), name)
	}
}

// world is a pod and somebody outside, who are joined by a wire. Whoever listens says to whoever connects which listener he has reached, and where the kernel says that he was going.
type world struct {
	t            *testing.T
	pod, outside capturetest.Space
}

// Addresses of both, for IPv4 and IPv6. The outside has others of which one is excluded.
var (
	podAddress      = []string{"10.9.0.1", "fd09::1"}
	outsideAddress  = []string{"10.9.0.2", "fd09::2"}
	excludedAddress = []string{"10.9.7.2", "fd09:7::2"}
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, pod: capturetest.New(t), outside: capturetest.New(t)}
	capturetest.Join(t, w.pod, w.outside,
		prefixes("10.9.0.1/16", "fd09::1/16"), prefixes("10.9.0.2/16", "10.9.7.2/16", "fd09::2/16", "fd09:7::2/16"))
	for name, port := range map[string]int{"in": DefaultInboundPort, "out": DefaultOutboundPort, "app": 8080, "plain": 9090, "metrics": 15020} {
		w.listen(w.pod, name, port)
	}
	for name, port := range map[string]int{"web": 80, "database": 5432} {
		w.listen(w.outside, name, port)
	}
	return w
}

func (w *world) listen(s capturetest.Space, name string, port int) {
	w.t.Helper()
	var l net.Listener
	require.NoError(w.t, s.In(func() (err error) {
		l, err = net.Listen("tcp", ":"+strconv.Itoa(port))
		return err
	}))
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dst, err := OriginalDst(c)
			_, _ = fmt.Fprintln(c, name, netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port()), err)
			_ = c.Close()
		}
	})
	w.t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
}

type dialer func(ctx context.Context, address string) (net.Conn, error)

func plainly(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// reach connects, and returns the name of who answers. In the pod, it has to be known where the connection was going.
func (w *world) reach(from capturetest.Space, dial dialer, address string, port int) (name string) {
	w.t.Helper()
	to := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	var answer string
	require.NoError(w.t, from.In(func() error {
		c, err := dial(ctx, to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		answer, err = bufio.NewReader(c).ReadString('\n')
		return err
	}), to)
	name, rest, _ := strings.Cut(strings.TrimSpace(answer), " ")
	if name != "web" && name != "database" { // outside nothing is redirected, and so nothing is tracked
		require.Equal(w.t, to.String()+" <nil>", rest, "%s: what the kernel says", name)
	}
	return name
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.NoError(t, w.pod.In(func() error {
		return Install(t.Context(), Rules{
			ExcludeInboundPorts: []int{9090}, ExcludeOutboundPorts: []int{5432}, ExcludeOutboundCIDRs: prefixes("10.9.7.0/24", "fd09:7::/32"),
			ExcludeUIDs: []uint32{101}, ExcludeGIDs: []uint32{102},
		})
	}))
	sidecar, sidecarGroup := w.pod.As(DefaultOwner, DefaultOwner), w.pod.As(55, DefaultOwner)
	for family := range podAddress {
		pod, outside, excluded, loopback := podAddress[family], outsideAddress[family], excludedAddress[family], []string{"127.0.0.1", "::1"}[family]
		for _, test := range []struct {
			name    string
			from    capturetest.Space
			dial    dialer
			address string
			port    int
			reaches string
		}{
			{"what comes is captured", w.outside, plainly, pod, 8080, "in"},
			{"but not at an excluded port", w.outside, plainly, pod, 9090, "plain"},
			{"nor at the sidecar's own", w.outside, plainly, pod, 15020, "metrics"},
			{"nor at the listeners", w.outside, plainly, pod, 15006, "in"},
			{"of which there are two", w.outside, plainly, pod, 15001, "out"},
			{"what the application sends is captured", w.pod, plainly, outside, 80, "out"},
			{"wherever it goes", w.pod, plainly, outside, 7777, "out"},
			{"but not to an excluded port", w.pod, plainly, outside, 5432, "database"},
			{"nor to excluded addresses", w.pod, plainly, excluded, 80, "web"},
			{"nor to itself", w.pod, plainly, pod, 8080, "app"},
			{"nor by loopback", w.pod, plainly, loopback, 8080, "app"},
			{"nor by an excluded user", w.pod.As(101, 0), plainly, outside, 80, "web"},
			{"nor by an excluded group", w.pod.As(0, 102), plainly, outside, 80, "web"},
			{"another user is captured", w.pod.As(103, 103), plainly, outside, 80, "out"},
			{"the mark does not help the application", w.pod, Dial, outside, 80, "out"},
			{"what the sidecar sends is not captured", sidecar, plainly, outside, 80, "web"},
			{"nor is what its group sends", sidecarGroup, plainly, outside, 80, "web"},
			{"a service that calls itself comes back", sidecar, plainly, pod, 8080, "in"},
			{"as its group does", sidecarGroup, plainly, pod, 8080, "in"},
			{"but not at an excluded port", sidecar, plainly, pod, 9090, "plain"},
			{"the sidecar reaches the application", sidecar, Dial, pod, 8080, "app"},
			{"as its group does", sidecarGroup, Dial, pod, 8080, "app"},
			{"by loopback too", sidecar, plainly, loopback, 8080, "app"},
		} {
			require.Equal(t, test.reaches, w.reach(test.from, test.dial, test.address, test.port), "%s: %s", test.name, pod)
		}
	}
}

// A probe that only connects must not find the sidecar where it asks for the application.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, pod := range podAddress {
		require.NoError(t, w.pod.In(func() error { return Install(t.Context(), Rules{}) }))
		require.ErrorIs(t, w.outside.In(func() error {
			_, err := plainly(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(pod), 7777).String())
			return err
		}), unix.ECONNREFUSED)
		require.NoError(t, w.pod.In(func() error { return Install(t.Context(), Rules{Unheard: true}) }))
		require.Equal(t, "in", w.reach(w.outside, plainly, pod, 7777))
	}
}

func TestInstallReplacesAndRemoveRemoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := func(f func() error) { require.NoError(t, w.pod.In(f)) }
	web := func() string { return w.reach(w.pod, plainly, outsideAddress[0], 80) }
	in(Remove)
	require.Equal(t, "web", web())
	for range 2 {
		in(func() error { return Install(t.Context(), Rules{}) })
		require.Equal(t, "out", web())
	}
	in(func() error { return Install(t.Context(), Rules{ExcludeOutboundPorts: []int{80}}) })
	require.Equal(t, "web", web(), "nothing is left of the rules before")
	in(func() error { return Install(t.Context(), Rules{}) })
	require.Equal(t, "out", web())
	require.Error(t, w.pod.In(func() error { return Install(t.Context(), Rules{InboundPort: -1}) }))
	require.Equal(t, "out", web(), "what cannot be installed changes nothing")
	for range 2 {
		in(Remove)
		require.Equal(t, "web", web())
	}
}

func TestInstallTakesACapability(t *testing.T) {
	t.Parallel()
	pod := capturetest.New(t)
	for _, act := range []func() error{func() error { return Install(t.Context(), Rules{}) }, Remove} {
		err := pod.In(func() error {
			if err := drop(unix.CAP_NET_ADMIN); err != nil {
				t.Error(err)
			}
			return act()
		})
		require.ErrorContains(t, err, "NET_ADMIN")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, pod.In(func() error { return Install(ctx, Rules{}) }), context.Canceled)
}

// drop takes a capability from the calling thread.
func drop(capability int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[capability/32].Effective &^= 1 << (capability % 32)
	data[capability/32].Permitted &^= 1 << (capability % 32)
	return unix.Capset(&header, &data[0])
}

func TestErrorsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	require.NoError(t, explain(nil))
	require.ErrorContains(t, explain(unix.EPERM), "NET_ADMIN")
	for _, err := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.ENOENT, unix.EAFNOSUPPORT} {
		require.ErrorContains(t, explain(fmt.Errorf("x: %w", err)), "no nf_tables")
	}
	require.Equal(t, unix.EIO, explain(unix.EIO))
}

func TestOriginalDstOfWhatIsNoSocket(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_, err := OriginalDst(a)
	require.ErrorContains(t, err, "no socket")
}
