// Package kube is the environment of a cluster: every application is a Deployment, every sidecar a container beside it, and the control plane a program of the
// cluster. The cluster is one that the run makes with kind and removes again, or one that is there.
//
// The run itself stays outside. It reaches the control plane, every sidecar and the load agent through the API server's port-forward, which works wherever kubectl does; so it is the only
// holder of leases, here as on one machine, and an outage of the control plane touches neither leases nor evidence. Everything of the mesh stands in a namespace of the run, the
// applications in another one; what belongs to no namespace carries the run's name and says when it may be swept. What the run makes it writes into a ledger first, so
// that [Heal] can undo it when the run was killed.
package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/env/kube/apply"
	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/forward"
	"meshtest.dev/meshtest/env/kube/ledger"
)

// Names of the environment, by where its cluster comes from.
const (
	Kind       = "kind"
	Kubernetes = "kubernetes"
)

// Bounds of what a run waits for.
const (
	systemTimeout   = 90 * time.Second // for the control plane, the gateway and the load agent to be ready
	convergeTimeout = 30 * time.Second // for every sidecar to have the whole configuration
	downTimeout     = 90 * time.Second
	lastNews        = 5 * time.Second // for the end of pods that are gone to be heard
)

// Options say which cluster, and how the mesh stands in it.
type Options struct {
	Kind       bool            // a cluster that kind makes, or one that it made: Cluster.Name
	Cluster    cluster.Options // Kind: how to make it
	Reuse      bool            // Kind: the cluster named Cluster.Name stays, and is used when it is there
	Kubeconfig string          // not Kind: file; empty: as kubectl finds it
	Context    string          // not Kind: empty: the current one

	Namespace string     // for the applications; empty: the scenario's own in a cluster made for the run, else one named after the run
	Registry  string     // where to push the mesh's images, such as registry.example.com/meshtest; empty: into the nodes of a kind cluster
	Install   bool       // install the definitions of Istio's objects into a cluster that is there
	Outside   bool       // load comes from the run's own process through a port of a node, not from inside the cluster
	Binaries  Binaries   // the zero value: those beside the running program
	Log       slog.Level // of sidecars and control plane
}

// Environment stands meshes up in a cluster.
type Environment struct {
	Options
	autopsy autopsy // of the last mesh that could not stand
}

// Name is "kind" or "kubernetes".
func (e *Environment) Name() string {
	if e.Kind {
		return Kind
	}
	return Kubernetes
}

// Capabilities are what a cluster can do.
func (e *Environment) Capabilities() capability.Set {
	return capability.Of(capability.Fixture, capability.Image, capability.Manifest, capability.HTTP, capability.TCP, capability.External, capability.PrivilegedPorts,
		capability.FaultAbort, capability.FaultDelay, capability.PodKill, capability.NodeDrain, capability.ControlKill, capability.Scale)
}

// Preflight removes what dead runs of this machine have left, finds the programs, and asks whether there is anything to make a cluster with.
func (e *Environment) Preflight(ctx context.Context) error {
	healing, cancel := context.WithTimeout(ctx, systemTimeout)
	defer cancel()
	_, _ = Heal(healing) // what cannot be reached now stays in its ledger, and is no reason not to run elsewhere; `meshtest heal` says what it is
	if err := e.findBinaries(); err != nil {
		return err
	}
	if e.Kind {
		return cluster.Preflight(ctx)
	}
	return nil
}

// Up stands the mesh up. When it fails, nothing is left.
func (e *Environment) Up(ctx context.Context, d env.Deployment, watch env.Watcher) (env.Mesh, error) {
	m, err := e.up(ctx, d, watch)
	if err != nil {
		return nil, fmt.Errorf("standing up the %s environment: %w", e.Name(), err)
	}
	return m, nil
}

func (e *Environment) up(ctx context.Context, d env.Deployment, watch env.Watcher) (_ *Mesh, err error) {
	m := newMesh(e, d, watch)
	defer func() {
		if err != nil {
			e.autopsy.take(ctx, m)
			down, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
			defer cancel()
			err = errors.Join(err, m.Down(down))
		}
	}()
	if m.ledger, err = ledger.Open(d.Run); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{
		m.openCluster, m.connect, m.mayDo, m.bringImages, m.makeNamespaces, m.installSystem, m.startControl, m.startApplications, m.converge,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// openCluster makes a cluster or finds the one that is there.
func (m *Mesh) openCluster(ctx context.Context) (err error) {
	if !m.env.Kind {
		m.config, err = existing(m.env.Kubeconfig, m.env.Context)
		return err
	}
	options := m.env.Cluster
	if options.Name == "" {
		options.Name = "meshtest-" + m.deployment.Run
	}
	if m.env.Reuse {
		if m.cluster, err = cluster.Find(ctx, options.Name); err == nil {
			return m.useKept(ctx)
		}
		if !errors.Is(err, cluster.ErrNotFound) {
			return err
		}
	} else if err := m.ledger.Note(ledger.Entry{Kind: ledger.CreatedCluster, Name: options.Name}); err != nil {
		return err
	}
	defer m.watch.Waiting("the kind cluster " + options.Name)()
	if m.cluster, err = cluster.Create(ctx, options); err != nil {
		return err
	}
	if m.env.Reuse {
		if err := m.cluster.Touch(ctx); err != nil {
			return err
		}
		return m.useKept(ctx)
	}
	m.ownCluster = true
	m.config, err = m.cluster.RestConfig()
	return err
}

// useKept uses a cluster that stays, and notes in it that it was used: one that nobody uses any more is swept one day.
func (m *Mesh) useKept(ctx context.Context) (err error) {
	if m.config, err = m.cluster.RestConfig(); err != nil {
		return err
	}
	if _, ours, err := m.cluster.Used(ctx); err != nil || !ours { // somebody else's stays without a mark, so that nobody sweeps it
		return err
	}
	return m.cluster.Touch(ctx)
}

// connect makes the clients.
func (m *Mesh) connect(context.Context) (err error) {
	klog.SetLogger(logr.Discard()) // the clients' libraries talk into the narration otherwise; their errors reach us anyway
	m.config = tuned(m.config)
	if m.client, err = newClient(m.config); err != nil {
		return err
	}
	if m.applier, err = apply.New(m.config); err != nil {
		return err
	}
	m.forward, err = forward.New(m.config)
	return err
}

// secret is a token that nobody can guess.
func secret() string { return rand.Text() }
