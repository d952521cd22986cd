package desync

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
)

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// sidecar is a proxy with one upstream, for one vector.
type sidecar struct {
	at   string // where it listens for callers
	stop func() // ends it with all of its connections, and returns when they are gone
}

// newSidecar starts a proxy before an origin that speaks a protocol.
func newSidecar(t *testing.T, origin string, protocol mesh.Protocol) *sidecar {
	t.Helper()
	workload := mesh.Workload{Name: "caller-v1", Namespace: mesh.DefaultNamespace, Service: "caller", Version: "v1", Instance: "caller-v1-0"}
	srv := proxy.New(proxy.Options{Workload: workload, Timeouts: proxy.Timeouts{Drain: time.Second}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	s := &sidecar{stop: sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})}
	t.Cleanup(s.stop)

	address, portText, err := net.SplitHostPort(origin)
	require.NoError(t, err)
	port, err := strconv.Atoi(portText)
	require.NoError(t, err)
	host := mesh.FQDN("origin", mesh.DefaultNamespace)
	set := mesh.NewSnapshot()
	set.Services[host] = &mesh.Service{Host: host, Ports: []mesh.Port{{Number: 80, Protocol: protocol}}}
	set.Endpoints[mesh.HostPort(host, 80)] = &mesh.Endpoints{Host: host, Port: 80, Endpoints: []mesh.Endpoint{{Address: address, Port: port, Workload: "origin-v1"}}}
	for try := uint64(1); ; try++ {
		s.at = testport.Loopback(t)
		set.Inbound[workload.Instance] = &mesh.Inbound{Workload: workload, Seed: 1, Outbound: []mesh.OutboundPort{{Bind: s.at, Host: host, Port: 80, Protocol: mesh.HTTP}}}
		if err = srv.Apply(mesh.Update{Generation: mesh.Generation{Epoch: 1, Counter: try}, Kind: mesh.KindInbound, Set: set.Clone()}); err == nil {
			return s
		}
		require.Less(t, try, uint64(10), "%v", err) // somebody else may have taken the port meanwhile
	}
}
