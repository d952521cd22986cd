package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"meshtest.dev/meshtest/env/kube/apply"
	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/ledger"
	"meshtest.dev/meshtest/env/kube/names"
)

// What a run makes outside its namespaces is nobody's garbage for as long as the run renews its expiry, and anybody's a while after.
const (
	expiryPeriod = 2 * time.Minute
	renewPeriod  = 30 * time.Second
)

func expiry() string { return time.Now().Add(expiryPeriod).UTC().Format(time.RFC3339) }

// expired reports whether an object of a run may be swept: its run has not renewed it. One that does not say is not ours to sweep.
func expired(o metav1.Object) bool {
	until, err := time.Parse(time.RFC3339, o.GetAnnotations()[names.AnnotationExpires])
	return err == nil && time.Now().After(until)
}

// renew says that the run lives, on everything of the run that a sweep could find, until ctx ends.
func (m *Mesh) renew(ctx context.Context) {
	ticker := time.NewTicker(renewPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = renewAll(ctx, m.client, m.deployment.Run, m.namespaces()) // the next one may succeed; the expiry is four periods away
		case <-ctx.Done():
			return
		}
	}
}

func renewAll(ctx context.Context, client kubernetes.Interface, run string, namespaces []string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, names.AnnotationExpires, expiry())
	name := names.SystemNamespace(run)
	var errs []error
	for _, namespace := range namespaces {
		_, err := client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{})
		errs = append(errs, err)
	}
	_, err := client.RbacV1().ClusterRoles().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	errs = append(errs, err)
	_, err = client.RbacV1().ClusterRoleBindings().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	errs = append(errs, err)
	_, err = client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return errors.Join(append(errs, err)...)
}

// Heal undoes what dead runs of this machine have left in clusters, and returns the runs. Living ones are not touched.
func Heal(ctx context.Context) (healed []string, err error) {
	dead, err := ledger.Dead()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, record := range dead {
		if err := heal(ctx, record); err != nil {
			errs = append(errs, fmt.Errorf("run %s: %w", record.Run, err))
			continue
		}
		healed = append(healed, record.Run)
	}
	return healed, errors.Join(errs...)
}

// heal undoes a run, last deed first. A cluster that was made for the run takes everything in it along.
func heal(ctx context.Context, record ledger.Record) error {
	for _, e := range record.Entries {
		if e.Kind == ledger.CreatedCluster {
			if err := deleteCluster(ctx, e.Name); err != nil {
				return err
			}
			return record.Remove()
		}
	}
	var errs []error
	for i := len(record.Entries) - 1; i >= 0; i-- {
		if err := undo(ctx, record.Run, record.Entries[i]); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return record.Remove()
}

func deleteCluster(ctx context.Context, name string) error {
	c, err := cluster.Find(ctx, name)
	if errors.Is(err, cluster.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Delete(ctx)
}

// undo undoes one deed in a cluster. A cluster that is gone has nothing to undo.
func undo(ctx context.Context, run string, e ledger.Entry) error {
	config, err := configOf(ctx, e.Place)
	if errors.Is(err, cluster.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	client, err := newClient(config)
	if err != nil {
		return err
	}
	switch e.Kind {
	case ledger.CreatedObject:
		applier, err := apply.New(config)
		if err != nil {
			return err
		}
		u := &unstructured.Unstructured{}
		u.SetAPIVersion(e.APIVersion)
		u.SetKind(e.ObjectKind)
		u.SetNamespace(e.Namespace)
		u.SetName(e.Name)
		return deleteOurs(ctx, applier, run, u)
	case ledger.LabelledNamespace:
		return unlabelOurs(ctx, client, run, e.Name)
	case ledger.ScaledDeployment:
		err = setReplicas(ctx, client, e.Namespace, e.Name, e.Replicas)
	case ledger.CordonedNode:
		err = cordon(ctx, client, e.Name, false)
	default:
		return fmt.Errorf("the ledger has %q, which this release does not know", e.Kind)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Sweep removes what runs of any machine have left in a cluster and have not renewed: objects that belong to no namespace, and the namespaces themselves.
func Sweep(ctx context.Context, kubeconfig, contextName string) (swept []string, err error) {
	config, err := existing(kubeconfig, contextName)
	if err != nil {
		return nil, err
	}
	client, err := newClient(config)
	if err != nil {
		return nil, err
	}
	applier, err := apply.New(config)
	if err != nil {
		return nil, err
	}
	return sweep(ctx, client, applier)
}

func sweep(ctx context.Context, client kubernetes.Interface, applier *apply.Applier) (swept []string, err error) {
	ours := metav1.ListOptions{LabelSelector: names.LabelRun}
	var stale []*unstructured.Unstructured
	collect := func(apiVersion, kind string, o metav1.Object) {
		if !expired(o) {
			return
		}
		u := &unstructured.Unstructured{}
		u.SetAPIVersion(apiVersion)
		u.SetKind(kind)
		u.SetName(o.GetName())
		stale = append(stale, u)
	}
	hooks, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, ours)
	if err != nil {
		return nil, fmt.Errorf("listing webhooks: %w", err)
	}
	for i := range hooks.Items {
		collect("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", &hooks.Items[i])
	}
	bindings, err := client.RbacV1().ClusterRoleBindings().List(ctx, ours)
	if err != nil {
		return nil, fmt.Errorf("listing cluster role bindings: %w", err)
	}
	for i := range bindings.Items {
		collect("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", &bindings.Items[i])
	}
	roles, err := client.RbacV1().ClusterRoles().List(ctx, ours)
	if err != nil {
		return nil, fmt.Errorf("listing cluster roles: %w", err)
	}
	for i := range roles.Items {
		collect("rbac.authorization.k8s.io/v1", "ClusterRole", &roles.Items[i])
	}
	namespaces, err := client.CoreV1().Namespaces().List(ctx, ours)
	if err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	for i := range namespaces.Items {
		ns := &namespaces.Items[i]
		if ns.Annotations[names.AnnotationAdopted] == "" {
			collect("v1", "Namespace", ns)
		} else if expired(ns) { // somebody's, who let a run use it
			if err := unlabel(ctx, client, ns.Name); err != nil {
				return swept, err
			}
			swept = append(swept, "labels of Namespace "+ns.Name)
		}
	}
	for _, u := range stale {
		swept = append(swept, u.GetKind()+" "+u.GetName())
	}
	return swept, applier.Delete(ctx, stale...)
}

// relabel marks a namespace that was there before.
func relabel(ctx context.Context, client kubernetes.Interface, namespace string, labels map[string]string, expires string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels": labels, "annotations": map[string]string{names.AnnotationExpires: expires, names.AnnotationAdopted: "true"},
	}})
	if err != nil {
		return err
	}
	if _, err := client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("labelling namespace %s: %w", namespace, err)
	}
	return nil
}

// unlabel takes a run's marks off a namespace.
func unlabel(ctx context.Context, client kubernetes.Interface, namespace string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:null,%q:null},"annotations":{%q:null,%q:null}}}`, names.LabelRun, names.LabelInject, names.AnnotationExpires, names.AnnotationAdopted)
	_, err := client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("taking the labels off namespace %s: %w", namespace, err)
	}
	return nil
}

func cordon(ctx context.Context, client kubernetes.Interface, node string, is bool) error {
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, is)
	if _, err := client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("marking node %s: %w", node, err)
	}
	return nil
}

func setReplicas(ctx context.Context, client kubernetes.Interface, namespace, deployment string, n int32) error {
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)
	if _, err := client.AppsV1().Deployments(namespace).Patch(ctx, deployment, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("scaling deployment %s: %w", deployment, err)
	}
	return nil
}

// deleteOurs deletes an object if it still is the run's: somebody else may have made one of that name since, or had it before.
func deleteOurs(ctx context.Context, applier *apply.Applier, run string, u *unstructured.Unstructured) error {
	labels, there, err := applier.Labels(ctx, u)
	if err != nil || !there || labels[names.LabelRun] != run {
		return err
	}
	return applier.Delete(ctx, u)
}

// unlabelOurs takes the marks off a namespace that the run still holds.
func unlabelOurs(ctx context.Context, client kubernetes.Interface, run, namespace string) error {
	ns, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && ns.Labels[names.LabelRun] != run) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at namespace %s: %w", namespace, err)
	}
	return unlabel(ctx, client, namespace)
}
