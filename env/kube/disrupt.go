package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/kube/ledger"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// Disrupt breaks what the mesh stands on.
func (m *Mesh) Disrupt(ctx context.Context, d env.Disruption) (hit []string, heal func(context.Context) error, err error) {
	switch {
	case d.KillControl:
		hit, err = m.killControl(ctx)
	case d.KillPods:
		hit, err = m.killPods(ctx, d)
	case d.DrainNodes:
		hit, heal, err = m.drainNodes(ctx, d)
	case d.Scale != nil:
		hit, heal, err = m.scale(ctx, d)
	default:
		err = errors.New("it says nothing to do")
	}
	if err != nil {
		err = fmt.Errorf("fault %s: %w", d.Fault, err)
	}
	return hit, heal, err
}

func (m *Mesh) killControl(ctx context.Context) ([]string, error) {
	victims, _ := m.pods.list(hasRole(names.RoleControl))
	return m.deletePods(ctx, victims, 0)
}

func (m *Mesh) killPods(ctx context.Context, d env.Disruption) ([]string, error) {
	victims := choose(m.podsOf(d), d.Count, d.Seed)
	return m.deletePods(ctx, victims, int64(d.Grace.Seconds()))
}

func (m *Mesh) deletePods(ctx context.Context, victims []*corev1.Pod, grace int64) (hit []string, err error) {
	for _, p := range victims {
		options := metav1.DeleteOptions{GracePeriodSeconds: &grace, Preconditions: metav1.NewUIDPreconditions(string(p.UID))}
		if err := m.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, options); err != nil {
			return hit, fmt.Errorf("deleting pod %s: %w", p.Name, err)
		}
		hit = append(hit, p.Name)
	}
	return hit, nil
}

// podsOf are the living pods that a disruption is about.
func (m *Mesh) podsOf(d env.Disruption) []*corev1.Pod {
	found, _ := m.pods.list(func(p *corev1.Pod) bool {
		return p.Labels[names.LabelRole] == "" && p.Labels[mesh.LabelApp] == d.Service && (d.Version == "" || p.Labels[mesh.LabelVersion] == d.Version) &&
			p.DeletionTimestamp == nil && !finished(p)
	})
	return found
}

// choose picks count of the items by seed.
func choose[T any](items []T, count int, seed uint64) []T {
	items = slices.Clone(items)
	chance := rand.New(rand.NewPCG(seed, uint64(len(items))))
	chance.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	return items[:min(max(count, 1), len(items))]
}

// drainNodes cordons nodes and evicts the run's applications from them, as `kubectl drain` does with everything. The gateway and the load agent stay: they measure. Healing uncordons.
func (m *Mesh) drainNodes(ctx context.Context, d env.Disruption) (hit []string, heal func(context.Context) error, err error) {
	var nodes []string
	for _, p := range m.podsOf(d) {
		if !slices.Contains(nodes, p.Spec.NodeName) && p.Spec.NodeName != "" {
			nodes = append(nodes, p.Spec.NodeName)
		}
	}
	slices.Sort(nodes)
	if d.Count > 0 || len(nodes) > 1 {
		nodes = choose(nodes, d.Count, d.Seed)
	}
	var cordoned []string
	heal = func(ctx context.Context) error {
		var errs []error
		for _, node := range cordoned {
			err := m.cordon(ctx, node, false)
			if err == nil {
				err = m.ledger.Done(ledger.Entry{Kind: ledger.CordonedNode, Place: m.place(), Name: node})
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	for _, node := range nodes {
		was, err := m.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return hit, heal, fmt.Errorf("looking at node %s: %w", node, err)
		}
		if !was.Spec.Unschedulable {
			if err := m.ledger.Note(ledger.Entry{Kind: ledger.CordonedNode, Place: m.place(), Name: node}); err != nil {
				return hit, heal, err
			}
			cordoned = append(cordoned, node)
			if err := m.cordon(ctx, node, true); err != nil {
				return hit, heal, err
			}
		}
		hit = append(hit, node)
		if err := m.evictFrom(ctx, node); err != nil {
			return hit, heal, err
		}
	}
	return hit, heal, nil
}

func (m *Mesh) cordon(ctx context.Context, node string, is bool) error {
	return cordon(ctx, m.client, node, is)
}

// evictFrom evicts the run's pods. One that a disruption budget protects stays, which is what budgets are for.
func (m *Mesh) evictFrom(ctx context.Context, node string) error {
	on, _ := m.pods.list(func(p *corev1.Pod) bool {
		return p.Spec.NodeName == node && p.DeletionTimestamp == nil && ownerKind(p) != "DaemonSet" && ownerKind(p) != "" && p.Labels[names.LabelRole] == ""
	})
	for _, p := range on {
		eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace}}
		err := m.client.CoreV1().Pods(p.Namespace).EvictV1(ctx, eviction)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsTooManyRequests(err) {
			return fmt.Errorf("evicting pod %s from node %s: %w", p.Name, node, err)
		}
	}
	return nil
}

// scale sets the number of a workload's replicas. Only the API server can undo that, so what it was is written down first.
func (m *Mesh) scale(ctx context.Context, d env.Disruption) (hit []string, heal func(context.Context) error, err error) {
	selector := []string{mesh.LabelApp + "=" + d.Service}
	if d.Version != "" {
		selector = append(selector, mesh.LabelVersion+"="+d.Version)
	}
	was := map[string]int32{}
	heal = func(ctx context.Context) error {
		var errs []error
		for name, replicas := range was {
			err := setReplicas(ctx, m.client, m.namespace, name, replicas)
			if err == nil {
				err = m.ledger.Done(ledger.Entry{Kind: ledger.ScaledDeployment, Place: m.place(), Namespace: m.namespace, Name: name, Replicas: replicas})
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	list, err := m.client.AppsV1().Deployments(m.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("listing deployments: %w", err)
	}
	for _, d2 := range list.Items {
		labels := d2.Spec.Template.Labels
		if labels[mesh.LabelApp] != d.Service || (d.Version != "" && labels[mesh.LabelVersion] != d.Version) {
			continue
		}
		replicas := int32(1)
		if d2.Spec.Replicas != nil {
			replicas = *d2.Spec.Replicas
		}
		if err := m.ledger.Note(ledger.Entry{Kind: ledger.ScaledDeployment, Place: m.place(), Namespace: m.namespace, Name: d2.Name, Replicas: replicas}); err != nil {
			return hit, heal, err
		}
		was[d2.Name] = replicas
		if err := setReplicas(ctx, m.client, m.namespace, d2.Name, int32(*d.Scale)); err != nil {
			return hit, heal, err
		}
		hit = append(hit, d2.Name)
	}
	if len(hit) == 0 {
		return nil, heal, fmt.Errorf("no deployment has pods with %s", strings.Join(selector, ", "))
	}
	return hit, heal, nil
}
