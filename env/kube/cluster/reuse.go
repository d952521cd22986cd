package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshtest.dev/meshtest/env/kube/names"
)

// The mark of a cluster that is kept for several runs: a ConfigMap in it. A cluster without one is not ours to sweep.
const (
	mark    = "meshtest"
	keyUsed = "used" // RFC 3339
)

// asking is how long a cluster may take to say when it was used.
const asking = 10 * time.Second

// Touch marks the cluster as one that is kept for several runs, and that has just been used.
func (c *Cluster) Touch(ctx context.Context) error {
	client, err := c.client()
	if err == nil {
		err = touch(ctx, client, time.Now())
	}
	if err != nil {
		return fmt.Errorf("marking the kind cluster %s: %w", c.name, err)
	}
	return nil
}

func touch(ctx context.Context, client kubernetes.Interface, now time.Time) error {
	in := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: mark, Labels: map[string]string{names.Domain + "/cluster": "kept"}},
		Data:       map[string]string{keyUsed: now.UTC().Format(time.RFC3339)},
	}
	_, err := in.Update(ctx, m, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = in.Create(ctx, m, metav1.CreateOptions{})
	}
	if apierrors.IsAlreadyExists(err) {
		return nil // somebody else has used it just now, too
	}
	return err
}

// Used is when the cluster was last marked as used; ok is false when it never was.
func (c *Cluster) Used(ctx context.Context) (at time.Time, ok bool, err error) {
	client, err := c.client()
	if err == nil {
		at, ok, err = used(ctx, client)
	}
	if err != nil {
		return at, false, fmt.Errorf("asking the kind cluster %s when it was used: %w", c.name, err)
	}
	return at, ok, nil
}

func used(ctx context.Context, client kubernetes.Interface) (time.Time, bool, error) {
	m, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, mark, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, err
	}
	at, err := time.Parse(time.RFC3339, m.Data[keyUsed])
	return at, err == nil, err
}

// Stale returns the clusters that are kept for several runs and that none has used for longer than that. Those that do not answer are left out, and reported as the error.
func Stale(ctx context.Context, olderThan time.Duration) ([]*Cluster, error) {
	p, err := provider(ctx, logger{})
	if err != nil {
		return nil, err
	}
	all, err := list(p)
	if err != nil {
		return nil, err
	}
	var stale []*Cluster
	var errs []error
	for _, name := range all {
		c := &Cluster{name: name, provider: p}
		is, err := c.stale(ctx, time.Now().Add(-olderThan))
		errs = append(errs, err)
		if is {
			stale = append(stale, c)
		}
	}
	return stale, errors.Join(errs...)
}

func (c *Cluster) stale(ctx context.Context, before time.Time) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, asking, fmt.Errorf("no answer within %s", asking))
	defer cancel()
	at, marked, err := c.Used(ctx)
	return err == nil && marked && at.Before(before), err
}
