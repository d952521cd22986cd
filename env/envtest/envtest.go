// Package envtest is the contract of an environment as tests: every implementation passes them.
package envtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/mesh"
)

// patience bounds what the contract waits for.
const patience = 2 * time.Minute

// Contract runs the tests. Each gets an environment of its own from make.
func Contract(t *testing.T, make func(t *testing.T) env.Environment) {
	t.Run("a request goes through the mesh", func(t *testing.T) { carries(t, make(t)) })
	t.Run("a route changes when it is acknowledged", func(t *testing.T) { reroutes(t, make(t)) })
	t.Run("an application that ends is not ready", func(t *testing.T) { notReady(t, make(t)) })
	t.Run("an end before it stands leaves nothing", func(t *testing.T) { cancelled(t, make(t)) })
	t.Run("down twice is as good as once", func(t *testing.T) { downTwice(t, make(t)) })
}

// watcher records what an environment tells.
type watcher struct {
	mu     sync.Mutex
	states map[string]env.ProcessState
}

func (w *watcher) Process(p env.Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states[p.Name] = p.State
}

func (w *watcher) Waiting(string) func() { return func() {} }

// living are the processes that have not ended.
func (w *watcher) living() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for name, state := range w.states {
		if state != env.ProcessExited {
			names = append(names, name)
		}
	}
	return names
}

const host = "app.default.svc.cluster.local"

// deployment is one service in two versions.
func deployment(t *testing.T, program env.Program) env.Deployment {
	s := mesh.NewSnapshot()
	s.Services[host] = &mesh.Service{
		Host: host, Ports: []mesh.Port{{Number: 8080, Protocol: mesh.HTTP}},
		Subsets: []mesh.Subset{{Name: "v1", Labels: mesh.Labels{"version": "v1"}}, {Name: "v2", Labels: mesh.Labels{"version": "v2"}}},
	}
	endpoints := &mesh.Endpoints{Host: host, Port: 8080}
	s.Endpoints[mesh.HostPort(host, 8080)] = endpoints
	s.Routes[mesh.HostPort(host, 8080)] = table("v1")
	s.Inbound[env.Edge] = &mesh.Inbound{
		Workload: mesh.Workload{Name: env.Edge, Namespace: "default", Instance: env.Edge}, Trusted: true,
		Outbound: []mesh.OutboundPort{{Host: host, Port: 8080, Protocol: mesh.HTTP}},
	}
	d := env.Deployment{Run: fmt.Sprintf("t-%x", time.Now().UnixNano()), Dir: t.TempDir(), Logs: t.TempDir(), Snapshot: s}
	for _, version := range []string{"v1", "v2"} {
		w := mesh.Workload{
			Name: "app-" + version, Namespace: "default", Service: "app", Version: version, Instance: "app-" + version + "-1",
			Labels: mesh.Labels{"app": "app", "version": version},
		}
		endpoints.Endpoints = append(endpoints.Endpoints, mesh.Endpoint{Workload: w.Name, Instance: w.Instance, Labels: w.Labels})
		s.Inbound[w.Instance] = &mesh.Inbound{Workload: w, Listen: []mesh.InboundPort{{Port: 8080, Protocol: mesh.HTTP}}}
		d.Workloads = append(d.Workloads, env.Workload{
			Workload: w, Host: host, Port: 8080, Protocol: mesh.HTTP, Program: program, Readiness: env.Readiness{Timeout: patience},
			Resolve: func(env.Addresses) (env.Start, error) {
				return env.Start{Command: program.Command, Env: map[string]string{"SERVICE_NAME": "app", "SERVICE_VERSION": version}}, nil
			},
		})
	}
	return d
}

func table(subset string) *mesh.RouteTable {
	return &mesh.RouteTable{Host: host, Port: 8080, Routes: []mesh.Route{{
		Name: "all", Split: []mesh.Destination{{Host: host, Port: 8080, Subset: subset, Weight: 1}},
	}}}
}

func up(t *testing.T, e env.Environment, d env.Deployment) (env.Mesh, *watcher) {
	t.Helper()
	w := &watcher{states: map[string]env.ProcessState{}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := e.Up(ctx, d, w)
	require.NoError(t, err)
	t.Cleanup(func() { down(t, m) })
	return m, w
}

func down(t *testing.T, m env.Mesh) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, m.Down(ctx))
}

// get asks the service through the edge.
func get(t *testing.T, m env.Mesh) (int, string) {
	t.Helper()
	return ask(t, m, "contract-1")
}

// Assignment is which version answers which of n requests, by their keys, when the split sends three of ten to v2. It depends on nothing but the seed, so every environment gives the same.
func Assignment(t *testing.T, e env.Environment, seed uint64, n int) map[string]string {
	d := deployment(t, env.Program{Fixture: "chain"})
	for name, in := range d.Snapshot.Inbound {
		seeded := *in
		seeded.Seed = seed
		d.Snapshot.Inbound[name] = &seeded
	}
	split := table("v1")
	split.Routes[0].Split[0].Weight = 7
	split.Routes[0].Split = append(split.Routes[0].Split, mesh.Destination{Host: host, Port: 8080, Subset: "v2", Weight: 3})
	d.Snapshot.Routes[mesh.HostPort(host, 8080)] = split
	m, _ := up(t, e, d)
	answered := map[string]string{}
	for i := range n {
		key := fmt.Sprintf("users-%d", i+1)
		status, body := ask(t, m, key)
		require.Equal(t, http.StatusOK, status)
		for _, version := range []string{"v1", "v2"} {
			if strings.Contains(body, "app-"+version) {
				answered[key] = version
			}
		}
	}
	down(t, m)
	require.Len(t, answered, n)
	return answered
}

func ask(t *testing.T, m env.Mesh, key string) (int, string) {
	t.Helper()
	address, ok := m.Entry(host, 8080)
	require.True(t, ok)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://app:8080/", nil)
	require.NoError(t, err)
	request.Header.Set(mesh.HeaderToken, m.Token())
	request.Header.Set(mesh.HeaderRequestID, key)
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func carries(t *testing.T, e env.Environment) {
	m, w := up(t, e, deployment(t, env.Program{Fixture: "chain"}))
	status, body := get(t, m)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "app-v1")
	_, ok := m.Entry("nobody.default.svc.cluster.local", 80)
	require.False(t, ok)
	require.Len(t, m.Sidecars(), 3)
	usage := m.Usage()
	for _, s := range m.Sidecars() {
		require.Contains(t, usage, s.Process)
		require.Contains(t, w.living(), s.Process)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	heard := errors.New("heard")
	err := m.Sidecars()[0].Direct.Evidence(ctx, 0, func(mesh.EvidenceBlock) error { return heard })
	require.ErrorIs(t, err, heard, "a sidecar tells its evidence")
	down(t, m)
	require.Empty(t, w.living())
}

func reroutes(t *testing.T, e env.Environment) {
	m, _ := up(t, e, deployment(t, env.Program{Fixture: "chain"}))
	applied, err := m.Configure(t.Context(), table("v2"))
	require.NoError(t, err)
	edge := slices.IndexFunc(m.Sidecars(), func(s env.Sidecar) bool { return s.Workload.Name == env.Edge })
	require.Contains(t, applied.Affected, m.Sidecars()[edge].Workload.Instance)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	converged := false
	require.NoError(t, m.Progress(ctx, func(p wire.Progress) {
		if p.State == wire.Converged && p.Generation.Compare(applied.Generation) >= 0 {
			converged = true
			cancel()
		}
	}))
	require.True(t, converged)
	_, body := get(t, m)
	require.Contains(t, body, "app-v2", "an acknowledged route serves the next request")

	_, err = m.Configure(t.Context(), table("v9"))
	var refused *wire.RefusedError
	require.ErrorAs(t, err, &refused, "an unsound route is refused")
}

func notReady(t *testing.T, e env.Environment) {
	w := &watcher{states: map[string]env.ProcessState{}}
	program, says := env.Program{Command: []string{"sh", "-c", "echo because of me; exit 7"}}, []string{"exit code 7", "because of me"}
	if !e.Capabilities().Has(capability.Command) {
		program, says = env.Program{Image: "localhost/nobody/made-this:1"}, []string{"localhost/nobody/made-this:1", "cannot be pulled"}
	}
	_, err := e.Up(t.Context(), deployment(t, program), w)
	var bad *env.NotReady
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "app", bad.Workload.Service)
	for _, text := range says {
		require.ErrorContains(t, err, text)
	}
	require.Empty(t, w.living())
}

func cancelled(t *testing.T, e env.Environment) {
	w := &watcher{states: map[string]env.ProcessState{}}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("changed my mind")
	cancel(cause)
	_, err := e.Up(ctx, deployment(t, env.Program{Fixture: "chain"}), w)
	require.Error(t, err)
	require.Empty(t, w.living())
}

func downTwice(t *testing.T, e env.Environment) {
	m, w := up(t, e, deployment(t, env.Program{Fixture: "chain"}))
	down(t, m)
	down(t, m)
	require.Empty(t, w.living())
	select {
	case err := <-m.Failed():
		t.Fatalf("an end that was asked for is no failure: %v", err)
	default:
	}
}
