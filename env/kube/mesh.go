package kube

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/kube/apply"
	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/forward"
	"meshtest.dev/meshtest/env/kube/ledger"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// Mesh is a mesh in a cluster.
type Mesh struct {
	env          *Environment
	deployment   env.Deployment
	watch        env.Watcher
	applications []application

	ledger     *ledger.Ledger
	cluster    *cluster.Cluster // nil: not one of kind's
	ownCluster bool             // made for this run
	config     *rest.Config
	client     kubernetes.Interface
	applier    *apply.Applier
	forward    *forward.Forwarder

	namespace     string // of the applications, real
	shared        bool   // it was there before, and stays
	system        system
	overlay       *mesh.Snapshot
	configuration *wire.Configuration
	gateway       *corev1.Service

	pods    *pods
	logs    *logs
	members *members

	spawn    func(func(context.Context)) // something that lives as long as the mesh
	stop     func()                      // ends all that and waits for it
	undo     []func(context.Context) error
	failed   chan error
	ending   chan struct{} // closed when Down begins: ends of containers are no failures from then on
	downOnce sync.Once
	downErr  error
}

func newMesh(e *Environment, d env.Deployment, watch env.Watcher) *Mesh {
	m := &Mesh{env: e, deployment: d, watch: watch, failed: make(chan error, 1), ending: make(chan struct{}), members: newMembers()}
	life, end := context.WithCancel(context.Background())
	var living sync.WaitGroup
	m.spawn = func(do func(context.Context)) { living.Go(func() { do(life) }) }
	m.stop = func() { end(); living.Wait() }
	m.overlay = overlayOf(d.Snapshot)
	m.system = system{
		run: d.Run, namespace: names.SystemNamespace(d.Run), owner: secret(), key: secret(), load: secret(), logLevel: e.Log.String(),
	}
	if edge := m.overlay.Inbound[env.Edge]; edge != nil {
		m.system.entries = edge.Outbound
	}
	return m
}

// namespaces are the real ones that the run uses.
func (m *Mesh) namespaces() []string { return []string{m.system.namespace, m.namespace} }

// dialControl opens a connection to the control plane that leads, through the API server.
func (m *Mesh) dialControl(ctx context.Context) (net.Conn, error) {
	leading, _ := m.pods.list(func(p *corev1.Pod) bool { return hasRole(names.RoleControl)(p) && isReady(p) })
	if len(leading) == 0 {
		return nil, errors.New("no control plane is ready")
	}
	roots := func() (*x509.CertPool, error) { return m.system.credentials.roots(), nil }
	return wire.Secure(m.forward.Dial(m.system.namespace, leading[0].Name, names.PortControl), m.system.controlHost(), roots)(ctx)
}

// Configure sets route tables.
func (m *Mesh) Configure(ctx context.Context, routes ...*mesh.RouteTable) (wire.Applied, error) {
	set := mesh.NewSnapshot()
	for _, table := range routes {
		set.Routes[mesh.HostPort(table.Host, table.Port)] = table
	}
	return m.configuration.Apply(ctx, wire.Change{Set: set})
}

// Progress tells what sidecars acknowledge until ctx ends.
func (m *Mesh) Progress(ctx context.Context, each func(wire.Progress)) error {
	return m.configuration.Watch(ctx, each)
}

// Sidecars are those that carry traffic now.
func (m *Mesh) Sidecars() []env.Sidecar { return m.members.list() }

// Follow tells of sidecars as their pods come and go.
func (m *Mesh) Follow(ctx context.Context, each func(env.Member)) error {
	return m.members.follow(ctx, each)
}

// Entry is the gateway's port for a service: inside the cluster, or at a node when load comes from outside.
func (m *Mesh) Entry(host string, port int) (string, bool) {
	i := slices.IndexFunc(m.system.entries, func(o mesh.OutboundPort) bool { return o.Host == host && o.Port == port })
	if i < 0 {
		return "", false
	}
	if !m.env.Outside {
		return net.JoinHostPort(m.gateway.Spec.ClusterIP, strconv.Itoa(entryPort(i))), true
	}
	node, err := m.nodeAddress()
	if err != nil {
		return "", false
	}
	return net.JoinHostPort(node, strconv.Itoa(int(m.gateway.Spec.Ports[i].NodePort))), true
}

// nodeAddress is an address of a node, which the test process can reach in a kind cluster of this machine.
func (m *Mesh) nodeAddress() (string, error) {
	pods, _ := m.pods.list(hasRole(names.RoleGateway))
	for _, p := range pods {
		if p.Status.HostIP != "" {
			return p.Status.HostIP, nil
		}
	}
	return "", errors.New("the gateway runs on no node")
}

// LoadAgent is the load agent of the cluster.
func (m *Mesh) LoadAgent() (wire.Dial, string, bool) {
	if m.env.Outside {
		return nil, "", false
	}
	return func(ctx context.Context) (net.Conn, error) {
		running, _ := m.pods.list(func(p *corev1.Pod) bool { return hasRole(names.RoleLoad)(p) && isReady(p) })
		if len(running) == 0 {
			return nil, errors.New("no load agent is ready")
		}
		return m.forward.Dial(m.system.namespace, running[0].Name, names.PortLoad)(ctx)
	}, m.system.load, true
}

// Token is what load shows to the gateway.
func (m *Mesh) Token() string { return wire.EdgeToken(m.system.key) }

// Failed delivers the first end of a sidecar or of the control plane that no pod's end explains. A pod may go: that is what Follow tells.
func (m *Mesh) Failed() <-chan error { return m.failed }

// heard takes in what became of a pod.
func (m *Mesh) heard(before, now *corev1.Pod) {
	if now == nil {
		m.tellProcess(before, env.ProcessExited, "its pod is gone")
		m.members.leave(before, "its pod is gone")
		return
	}
	if before == nil || isReady(before) != isReady(now) {
		state := env.ProcessStarted
		if isReady(now) {
			state = env.ProcessReady
		}
		m.tellProcess(now, state, "")
	}
	for _, container := range m.logs.started(now) {
		m.spawn(func(ctx context.Context) { m.logs.keep(ctx, now, container) })
	}
	if !hasSidecar(now) {
		return
	}
	switch {
	case finished(now):
		m.members.leave(now, "its pod has ended: "+now.Status.Reason)
	case carries(now) && now.DeletionTimestamp == nil:
		m.members.join(now, m.sidecar(now))
	}
	m.noticeCrash(before, now)
}

// noticeCrash fails the run when one of the mesh's own programs ended although its pod goes on.
func (m *Mesh) noticeCrash(before, now *corev1.Pod) {
	if before == nil || now.DeletionTimestamp != nil {
		return
	}
	was, is := sidecarStatus(before), sidecarStatus(now)
	if was == nil || is == nil || is.RestartCount <= was.RestartCount {
		return
	}
	how := "it was started again"
	if ended := is.LastTerminationState.Terminated; ended != nil {
		how = fmt.Sprintf("exit code %d (%s)", ended.ExitCode, ended.Reason)
	}
	m.fail(fmt.Errorf("the sidecar of %s ended: %s", now.Name, how))
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

func (m *Mesh) tellProcess(p *corev1.Pod, state env.ProcessState, exit string) {
	m.watch.Process(env.Process{Name: p.Name, Address: p.Status.PodIP, State: state, Exit: exit, Log: logFile(m.deployment.Logs, p, mainContainer(p))})
}

// sidecar is how the run reaches the sidecar of a pod.
func (m *Mesh) sidecar(p *corev1.Pod) env.Sidecar {
	instance := instanceOf(p)
	return env.Sidecar{
		Workload: m.workload(p),
		Process:  p.Name,
		Direct:   wire.NewDirect(m.forward.Dial(p.Namespace, p.Name, names.PortDirect), wire.DirectToken(m.system.key, instance)),
		Metrics:  env.MetricsTarget{Dial: m.forward.Dial(p.Namespace, p.Name, names.PortMetrics), URL: "http://sidecar/metrics"},
	}
}

// workload is whom the sidecar of a pod stands beside, in the scenario's words.
func (m *Mesh) workload(p *corev1.Pod) mesh.Workload {
	if hasRole(names.RoleGateway)(p) {
		w := m.overlay.Inbound[env.Edge].Workload
		w.Instance = instanceOf(p)
		return w
	}
	service, version := p.Labels[mesh.LabelApp], p.Labels[mesh.LabelVersion]
	for _, a := range m.applications {
		if a.Service == service && a.Version == version {
			w := a.Workload.Workload
			w.Instance = instanceOf(p)
			return w
		}
	}
	return mesh.Workload{Name: mesh.WorkloadName(service, version), Namespace: m.system.applications[p.Namespace], Service: service, Version: version, Instance: instanceOf(p), Labels: p.Labels}
}

// Down removes everything that the run has made, and returns when nothing is left.
func (m *Mesh) Down(ctx context.Context) error {
	m.downOnce.Do(func() {
		close(m.ending)
		var errs []error
		if m.configuration != nil {
			errs = append(errs, m.configuration.Close())
		}
		if m.ownCluster {
			m.stop()
			errs = append(errs, m.cluster.Delete(ctx))
			m.awaitNoPods(ctx)
		} else {
			errs = append(errs, m.undoAll(ctx))
			m.awaitNoPods(ctx)
			m.stop()
		}
		if m.forward != nil {
			m.forward.Close()
		}
		if m.ledger != nil {
			errs = append(errs, m.closeLedger(errors.Join(errs...) == nil))
		}
		if err := errors.Join(errs...); err != nil {
			m.downErr = fmt.Errorf("taking the mesh out of the cluster: %w", err)
		}
	})
	return m.downErr
}

// awaitNoPods waits until we, too, have heard that the pods are gone, and tells of those of which we have not: their cluster is gone with them.
func (m *Mesh) awaitNoPods(ctx context.Context) {
	if m.pods == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastNews)
	defer cancel()
	all := func(*corev1.Pod) bool { return true }
	left, _ := m.pods.await(ctx, all, func(left []*corev1.Pod) bool { return len(left) == 0 || m.ownCluster })
	for _, p := range left {
		m.tellProcess(p, env.ProcessExited, "its cluster is gone")
	}
}

// undoAll takes back what was done to the cluster, all at once: nothing of it needs the rest to go.
func (m *Mesh) undoAll(ctx context.Context) error {
	errs := make([]error, len(m.undo))
	var g errgroup.Group
	for i, undo := range m.undo {
		g.Go(func() error { errs[i] = undo(ctx); return nil })
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// closeLedger forgets the ledger when there is nothing left to undo; otherwise the next heal reads it.
func (m *Mesh) closeLedger(clean bool) error {
	if clean {
		return m.ledger.Remove()
	}
	return m.ledger.Close()
}

func mainContainer(p *corev1.Pod) string {
	if len(p.Spec.Containers) == 0 {
		return ""
	}
	return p.Spec.Containers[0].Name
}
