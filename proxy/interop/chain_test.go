package interop

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// port is the service port of the service under test.
const port = 50051

// chain is the way of a call: a caller's sidecar, and that of the workload he calls.
type chain struct {
	address  string // that the caller dials
	out, in  sidecar
	endpoint string // of the inbound sidecar
}

// newChain puts two sidecars before an application.
func newChain(t *testing.T, app string) *chain {
	t.Helper()
	c := &chain{address: testport.Loopback(t), endpoint: testport.Loopback(t)}
	server := workload("server")
	c.in = start(t, server, func(s *mesh.Snapshot, in *mesh.Inbound) {
		in.Listen = []mesh.InboundPort{{Bind: c.endpoint, App: app, Port: port, Protocol: mesh.GRPC}}
	})
	c.out = start(t, workload("client"), func(s *mesh.Snapshot, in *mesh.Inbound) {
		host := mesh.FQDN("server", mesh.DefaultNamespace)
		s.Services[host] = &mesh.Service{Host: host, Ports: []mesh.Port{{Number: port, Protocol: mesh.GRPC}}}
		at, text, err := net.SplitHostPort(c.endpoint)
		require.NoError(t, err)
		number, err := strconv.Atoi(text)
		require.NoError(t, err)
		s.Endpoints[mesh.HostPort(host, port)] = &mesh.Endpoints{Host: host, Port: port, Endpoints: []mesh.Endpoint{
			{Address: at, Port: number, Workload: server.Name, Instance: server.Instance, Labels: server.Labels},
		}}
		in.Outbound = []mesh.OutboundPort{{Bind: c.address, Host: host, Port: port, Protocol: mesh.GRPC}}
	})
	return c
}

// sidecar is a server and what it tells.
type sidecar struct {
	*proxy.Server
	metrics *telemetry.Metrics
}

func workload(service string) mesh.Workload {
	name := mesh.WorkloadName(service, "v1")
	return mesh.Workload{
		Name: name, Namespace: mesh.DefaultNamespace, Service: service, Version: "v1", Instance: name + "-0",
		Labels: mesh.Labels{mesh.LabelApp: service, mesh.LabelVersion: "v1"},
	}
}

// start runs the sidecar of a workload until the test ends.
func start(t *testing.T, w mesh.Workload, configure func(*mesh.Snapshot, *mesh.Inbound)) sidecar {
	t.Helper()
	metrics := telemetry.NewMetrics(proxy.MetricsOptions())
	srv := proxy.New(proxy.Options{Workload: w, Metrics: metrics, Timeouts: proxy.Timeouts{Drain: time.Second}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	snapshot, in := mesh.NewSnapshot(), &mesh.Inbound{Workload: w, Seed: 1}
	configure(snapshot, in)
	snapshot.Inbound[w.Instance] = in
	require.NoError(t, srv.Apply(mesh.Update{Generation: mesh.Generation{Epoch: 1, Counter: 1}, Kind: mesh.KindInbound, Set: snapshot}))
	return sidecar{srv, metrics}
}
