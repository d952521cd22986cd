package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/kube/apply"
	"meshtest.dev/meshtest/env/kube/crds"
	"meshtest.dev/meshtest/env/kube/ledger"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// logicalNamespace is where the scenario says its services are.
func logicalNamespace(d env.Deployment) string {
	if edge := d.Snapshot.Inbound[env.Edge]; edge != nil {
		return edge.Workload.Namespace
	}
	for _, w := range d.Workloads {
		return w.Namespace
	}
	return mesh.DefaultNamespace
}

// overlayOf is the configuration that only the run knows: the control plane finds out the rest by itself. The gateway's listeners get ports.
func overlayOf(s *mesh.Snapshot) *mesh.Snapshot {
	overlay := s.Clone()
	if edge := overlay.Inbound[env.Edge]; edge != nil {
		bound := *edge
		bound.Outbound = nil
		for i, out := range edge.Outbound {
			out.Bind = fmt.Sprintf("0.0.0.0:%d", entryPort(i))
			bound.Outbound = append(bound.Outbound, out)
		}
		overlay.Inbound[env.Edge] = &bound
	}
	return overlay
}

// realNamespace is where the applications go. In a cluster of the run's own that is where the scenario says; elsewhere somebody else may be there.
func (m *Mesh) realNamespace() string {
	logical := logicalNamespace(m.deployment)
	switch {
	case m.env.Namespace != "":
		return m.env.Namespace
	case m.ownCluster:
		return logical
	default:
		return logical + "-" + m.deployment.Run
	}
}

// makeNamespaces claims a namespace for the applications and one for the run's own programs.
func (m *Mesh) makeNamespaces(ctx context.Context) error {
	m.namespace = m.realNamespace()
	m.applications = applications(m.deployment, m.namespace)
	m.system.applications = map[string]string{m.namespace: logicalNamespace(m.deployment)}
	m.system.expires = expiry()
	var err error
	m.system.credentials, err = newCredentials(m.deployment.Run, []string{m.system.controlHost(), names.Control + "." + m.system.namespace}, time.Now())
	if err != nil {
		return err
	}
	if err := m.create(ctx, m.system.systemNamespace()); err != nil {
		return err
	}
	return m.claimNamespace(ctx)
}

// place is where heal finds what the run has made.
func (m *Mesh) place() ledger.Place {
	if m.cluster != nil {
		return ledger.Place{Cluster: m.cluster.Name()}
	}
	return resolved(m.env.Kubeconfig, m.env.Context)
}

// create applies an object that must not outlive the run: it is noted first, and its removal is remembered. What stands in a namespace that the run has made goes with it.
func (m *Mesh) create(ctx context.Context, object runtime.Object) error {
	u, err := apply.Convert(object)
	if err != nil {
		return err
	}
	entry := ledger.Entry{Kind: ledger.CreatedObject, Place: m.place(), APIVersion: u[0].GetAPIVersion(), ObjectKind: u[0].GetKind(), Namespace: u[0].GetNamespace(), Name: u[0].GetName()}
	if err := m.ledger.Note(entry); err != nil {
		return err
	}
	m.undo = append(m.undo, func(ctx context.Context) error {
		if err := deleteOurs(ctx, m.applier, m.deployment.Run, u[0]); err != nil {
			return err
		}
		return m.ledger.Done(entry)
	})
	return m.applier.Apply(ctx, u...)
}

// claimNamespace makes the applications' namespace, or takes one that is there and that no living run uses.
func (m *Mesh) claimNamespace(ctx context.Context) error {
	labels := map[string]string{names.LabelRun: m.deployment.Run, names.LabelInject: names.Enabled}
	there, err := m.client.CoreV1().Namespaces().Get(ctx, m.namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		labels["pod-security.kubernetes.io/audit"] = "restricted"
		return m.create(ctx, &corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: m.namespace, Labels: labels, Annotations: map[string]string{names.AnnotationExpires: m.system.expires}},
		})
	}
	if err != nil {
		return fmt.Errorf("looking for namespace %s: %w", m.namespace, err)
	}
	if run := there.Labels[names.LabelRun]; run != "" && !expired(there) {
		return fmt.Errorf("namespace %s is in use by run %s: choose another one with --namespace, or wait", m.namespace, run)
	}
	m.shared = true
	return m.label(ctx, labels)
}

// label marks a namespace that was there before as the run's, and takes the marks off in the end.
func (m *Mesh) label(ctx context.Context, labels map[string]string) error {
	entry := ledger.Entry{Kind: ledger.LabelledNamespace, Place: m.place(), Name: m.namespace}
	if err := m.ledger.Note(entry); err != nil {
		return err
	}
	m.undo = append(m.undo, func(ctx context.Context) error {
		if err := unlabelOurs(ctx, m.client, m.deployment.Run, m.namespace); err != nil {
			return err
		}
		return m.ledger.Done(entry)
	})
	return relabel(ctx, m.client, m.namespace, labels, m.system.expires)
}

// installSystem gives the control plane what it may do and what it knows, and the cluster the words that it lacks.
func (m *Mesh) installSystem(ctx context.Context) error {
	if m.ownCluster || m.env.Install {
		definitions, err := crds.Objects()
		if err != nil {
			return err
		}
		if err := m.applier.Apply(ctx, definitions...); err != nil {
			return fmt.Errorf("installing the definitions of Istio's objects: %w", err)
		}
	}
	for _, object := range m.system.clusterRole() {
		if err := m.create(ctx, object); err != nil {
			return err
		}
	}
	return m.apply(ctx, m.system.access())
}

// apply applies objects that stand in the run's own namespaces. In a namespace that stays they are removed one by one.
func (m *Mesh) apply(ctx context.Context, objects []runtime.Object) error {
	u, err := apply.Convert(objects...)
	if err != nil {
		return err
	}
	return m.applyAll(ctx, u)
}

func (m *Mesh) applyAll(ctx context.Context, objects []*unstructured.Unstructured) error {
	if m.shared {
		for _, o := range objects {
			if o.GetNamespace() != m.namespace {
				continue
			}
			labels, there, err := m.applier.Labels(ctx, o)
			if err != nil {
				return err
			}
			if there && labels[names.LabelRun] != m.deployment.Run {
				return fmt.Errorf("%s %s is in namespace %s already, and not of this run: choose another namespace", o.GetKind(), o.GetName(), m.namespace)
			}
			entry := ledger.Entry{Kind: ledger.CreatedObject, Place: m.place(), APIVersion: o.GetAPIVersion(), ObjectKind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
			if err := m.ledger.Note(entry); err != nil {
				return err
			}
			m.undo = append(m.undo, func(ctx context.Context) error { return deleteOurs(ctx, m.applier, m.deployment.Run, o) })
		}
	}
	return m.applier.Apply(ctx, objects...)
}

// startControl starts the mesh's own programs, gives the control plane the run's configuration, and has pods injected from then on.
func (m *Mesh) startControl(ctx context.Context) error {
	m.logs = &logs{client: m.client, dir: m.deployment.Logs, kept: map[string]bool{}}
	if err := m.followPods(ctx); err != nil {
		return err
	}
	if err := m.apply(ctx, m.system.programs()); err != nil {
		return err
	}
	if err := m.awaitSystem(ctx, names.Control); err != nil {
		return err
	}
	var err error
	if m.configuration, err = wire.NewConfiguration(m.dialControl, m.system.owner); err != nil {
		return err
	}
	if _, err = m.configuration.Apply(ctx, wire.Change{Whole: true, Set: m.overlay}); err != nil {
		return err
	}
	if err := m.create(ctx, m.system.webhook()); err != nil {
		return err
	}
	m.spawn(m.renew)
	if err := m.awaitInjection(ctx); err != nil {
		return err
	}
	m.gateway, err = m.client.CoreV1().Services(m.system.namespace).Get(ctx, names.Gateway, metav1.GetOptions{})
	return err
}

// awaitInjection has the API server pretend to make a pod, until that has a sidecar: the nodes' network learns of a new Service a little later than the Service is there, and until then the
// webhook refuses every pod.
func (m *Mesh) awaitInjection(ctx context.Context) error {
	defer m.watch.Waiting("pods to get sidecars")()
	ctx, cancel := context.WithTimeoutCause(ctx, systemTimeout, fmt.Errorf("the injection webhook did not answer within %s", systemTimeout))
	defer cancel()
	probe := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "meshtest-probe-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "probe", Image: m.system.images.fixture, SecurityContext: restricted()}}},
	}
	for {
		made, err := m.client.CoreV1().Pods(m.namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		switch {
		case err == nil && hasSidecar(made):
			return nil
		case err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "webhook"):
			return nil // whatever refuses it came after the webhook, and says more when there is a workload
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// followPods begins to follow the pods of the run.
func (m *Mesh) followPods(ctx context.Context) error {
	type begun struct {
		pods *pods
		err  error
	}
	ready := make(chan begun, 1)
	m.spawn(func(life context.Context) {
		var informing sync.WaitGroup
		defer informing.Wait()
		followed, err := followPods(life, m.client, m.namespaces(), &informing, m.heard)
		ready <- begun{followed, err}
	})
	select {
	case b := <-ready:
		m.pods = b.pods
		return b.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// awaitSystem returns when a program of our own is ready.
func (m *Mesh) awaitSystem(ctx context.Context, name string) error {
	defer m.watch.Waiting(name + " to be ready")()
	ctx, cancel := context.WithTimeoutCause(ctx, systemTimeout, fmt.Errorf("%s was not ready within %s", name, systemTimeout))
	defer cancel()
	return m.applier.Rollout(ctx, m.system.namespace, name)
}

// startApplications applies every workload, and returns when all are ready, the gateway and the load agent too.
func (m *Mesh) startApplications(ctx context.Context) error {
	objects, err := m.applicationObjects()
	if err != nil {
		return err
	}
	if err := m.applyAll(ctx, objects); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	waitFor := []string{names.Gateway}
	if m.system.images.load != "" {
		waitFor = append(waitFor, names.Load)
	}
	for _, name := range waitFor {
		g.Go(func() error { return m.awaitSystem(ctx, name) })
	}
	for _, a := range m.applications {
		g.Go(func() error { return m.awaitApplication(ctx, a) })
	}
	return g.Wait()
}

// awaitApplication returns when all instances of an application are ready. That they do not become it is the application's fault, unless the cluster refused to start them.
func (m *Mesh) awaitApplication(ctx context.Context, a application) error {
	defer m.watch.Waiting(a.Name + " to be ready")()
	limited, cancel := context.WithTimeout(ctx, a.Readiness.Timeout)
	defer cancel()
	err := m.applier.Rollout(limited, m.namespace, a.deploymentName())
	var stuck *apply.StuckError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &stuck) && stuck.Application():
		return &env.NotReady{Workload: a.Workload.Workload, Reason: stuck.Reason, Log: append(stuck.Events, stuck.Log...)}
	case ctx.Err() == nil && limited.Err() != nil:
		return &env.NotReady{Workload: a.Workload.Workload, Reason: fmt.Sprintf("waited %s: %v", a.Readiness.Timeout, err)}
	default:
		return err
	}
}

// applicationObjects are those of every workload: made by us for fixtures and images, the author's own for manifests.
func (m *Mesh) applicationObjects() ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	manifests := map[string]*manifest{}
	for i := range m.applications {
		a := &m.applications[i]
		if a.Program.Manifest == "" {
			objects, err := a.objects(m.deployment.Run, m.system.images)
			if err != nil {
				return nil, err
			}
			u, err := apply.Convert(objects...)
			if err != nil {
				return nil, err
			}
			all = append(all, u...)
			continue
		}
		f, err := m.manifest(manifests, a)
		if err != nil {
			return nil, err
		}
		if err := f.claim(a); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(manifests)) {
		all = append(all, manifests[name].objects...)
	}
	return unique(all), nil
}

// unique drops objects that stand there twice: versions of one service share its Service and its account.
func unique(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	seen := map[string]bool{}
	return slices.DeleteFunc(objects, func(u *unstructured.Unstructured) bool {
		key := u.GetKind() + "/" + u.GetNamespace() + "/" + u.GetName()
		again := seen[key]
		seen[key] = true
		return again
	})
}
