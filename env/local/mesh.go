//go:build unix

package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/local/loopback"
	"meshtest.dev/meshtest/env/local/supervisor"
	"meshtest.dev/meshtest/mesh"
)

// Mesh is a mesh of processes.
type Mesh struct {
	deployment env.Deployment
	plan       *layout
	block      *loopback.Block
	supervisor *supervisor.Supervisor
	watch      env.Watcher

	key     string // from which control and run derive the sidecars' tokens
	owner   string // token of whoever owns the configuration
	direct  string // token of the run at the sidecars
	edge    string // token of the load at the edge
	control string // socket
	config  *wire.Configuration

	mu        sync.Mutex
	processes map[string]*supervisor.Process
	watchers  sync.WaitGroup
	failed    chan error
	downOnce  sync.Once
	downErr   error
	ending    chan struct{} // closed when Down begins: ends of processes are no failures from then on
}

func newMesh(d env.Deployment, block *loopback.Block, sup *supervisor.Supervisor, plan *layout, watch env.Watcher) *Mesh {
	return &Mesh{
		deployment: d, plan: plan, block: block, supervisor: sup, watch: watch,
		key: rand.Text(), owner: rand.Text(), direct: rand.Text(), edge: rand.Text(),
		processes: map[string]*supervisor.Process{},
		failed:    make(chan error, 1), ending: make(chan struct{}),
	}
}

func (m *Mesh) prepare() error {
	var err error
	if m.control, err = m.supervisor.Socket("control"); err != nil {
		return err
	}
	m.config, err = wire.NewConfiguration(wire.Unix(m.control), m.owner)
	return err
}

// configureAll applies the first configuration and waits until every sidecar has acknowledged it: then all listeners are bound.
func (m *Mesh) configureAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, convergeTimeout, errSlow)
	defer cancel()
	applied, err := m.config.Apply(ctx, wire.Change{Whole: true, Set: m.plan.snapshot})
	if errors.Is(context.Cause(ctx), errSlow) {
		return fmt.Errorf("the control plane took no configuration within %s: it was stopped, or the machine stands", convergeTimeout)
	}
	if err != nil {
		return err
	}
	missing := map[string]bool{}
	for _, in := range m.plan.instances {
		if in.sidecar {
			missing[in.name] = true
		}
	}
	what := fmt.Sprintf("%d sidecars to acknowledge generation %s", len(missing), applied.Generation)
	defer m.watch.Waiting(what)()
	var refused error
	err = m.config.Watch(ctx, func(p wire.Progress) {
		switch {
		case p.State == wire.Acked && p.Generation.Compare(applied.Generation) >= 0:
			delete(missing, p.Instance)
		case p.State == wire.Nacked && refused == nil:
			refused = fmt.Errorf("%s refused its configuration: %s", p.Instance, p.Error)
		}
		if len(missing) == 0 || refused != nil {
			cancel()
		}
	})
	switch {
	case refused != nil:
		return refused
	case len(missing) == 0:
		return nil
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSlow):
		return context.Cause(ctx)
	case err != nil:
		return err
	default:
		return fmt.Errorf("convergence: %s never acknowledged generation %s (waited %s)",
			strings.Join(slices.Sorted(maps.Keys(missing)), ", "), applied.Generation, convergeTimeout)
	}
}

// errSlow is the cause of a wait that was too long.
var errSlow = errors.New("too slow")

// Configure sets route tables.
func (m *Mesh) Configure(ctx context.Context, routes ...*mesh.RouteTable) (wire.Applied, error) {
	set := mesh.NewSnapshot()
	for _, table := range routes {
		set.Routes[mesh.HostPort(table.Host, table.Port)] = table
	}
	return m.config.Apply(ctx, wire.Change{Set: set})
}

// Progress tells what sidecars acknowledge until ctx ends.
func (m *Mesh) Progress(ctx context.Context, each func(wire.Progress)) error {
	return m.config.Watch(ctx, each)
}

// Sidecars are all sidecars, the edge's included.
func (m *Mesh) Sidecars() []env.Sidecar {
	var all []env.Sidecar
	for _, in := range m.plan.instances {
		if !in.sidecar {
			continue
		}
		all = append(all, env.Sidecar{
			Workload: in.inbound.Workload,
			Process:  sidecarName(in.name),
			Direct:   wire.NewDirect(wire.Unix(m.socket(directSocket, in)), m.direct),
			Metrics:  env.MetricsTarget{Dial: wire.Unix(m.socket(adminSocket, in)), URL: "http://sidecar/metrics"},
		})
	}
	return all
}

// Follow tells of all sidecars: processes do not come and go here.
func (m *Mesh) Follow(ctx context.Context, each func(env.Member)) error {
	for _, s := range m.Sidecars() {
		each(env.Member{Sidecar: s})
	}
	<-ctx.Done()
	return nil
}

// Entry is the edge's listener for a service.
func (m *Mesh) Entry(host string, port int) (string, bool) {
	edge := m.plan.find(env.Edge)
	if edge == nil || edge.inbound == nil {
		return "", false
	}
	i := slices.IndexFunc(edge.inbound.Outbound, func(o mesh.OutboundPort) bool { return o.Host == host && o.Port == port })
	if i < 0 {
		return "", false
	}
	return edge.inbound.Outbound[i].Bind, true
}

// Token is what load shows to the edge.
func (m *Mesh) Token() string { return m.edge }

// Failed delivers the first end of a sidecar, of the control plane or of the supervisor that nobody asked for. An application may end: that is what is tested.
func (m *Mesh) Failed() <-chan error { return m.failed }

// Usage is what each living process has used.
func (m *Mesh) Usage() map[string]env.Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	usage := map[string]env.Usage{}
	for name, p := range m.processes {
		if u, err := processUsage(p.PID); err == nil {
			usage[name] = u
		}
	}
	return usage
}

// Down ends every process and returns when none is left and the runtime directory is gone.
func (m *Mesh) Down(ctx context.Context) error {
	m.downOnce.Do(func() {
		close(m.ending)
		var errs []error
		if m.config != nil {
			errs = append(errs, m.config.Close())
		}
		errs = append(errs, m.supervisor.Stop(ctx, stopGrace), m.block.Close())
		m.watchers.Wait()
		if err := errors.Join(errs...); err != nil {
			m.downErr = fmt.Errorf("taking the local environment down: %w", err)
		}
	})
	return m.downErr
}

func (m *Mesh) fail(err error) {
	select {
	case <-m.ending:
	default:
		select {
		case m.failed <- err:
		default:
		}
	}
}
