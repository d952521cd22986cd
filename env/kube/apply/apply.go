// Package apply brings objects into a cluster and out of it again: manifests become objects with their places in the file, objects are applied by the server under
// our own name, and what is deleted is waited for.
package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// Manager is the name under which fields are applied.
const Manager = "meshtest"

// Applier applies objects to one cluster. It is safe for concurrent use.
type Applier struct {
	dynamic dynamic.Interface
	client  kubernetes.Interface
	mapper  meta.ResettableRESTMapper
}

// New prepares an applier; it asks the cluster nothing yet.
func New(config *rest.Config) (*Applier, error) {
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	return newApplier(d, c, c.Discovery()), nil
}

func newApplier(d dynamic.Interface, c kubernetes.Interface, discover discovery.DiscoveryInterface) *Applier {
	return &Applier{dynamic: d, client: c, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discover))}
}

// Convert makes objects of Go types the objects that an API server takes.
func Convert(objects ...runtime.Object) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, o := range objects {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, fmt.Errorf("converting a %T: %w", o, err)
		}
		u := &unstructured.Unstructured{Object: content}
		unstructured.RemoveNestedField(u.Object, "status")
		unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
		unstructured.RemoveNestedField(u.Object, "spec", "template", "metadata", "creationTimestamp")
		all = append(all, u)
	}
	return all, nil
}

// ranks is the order in which kinds have to be there. What is not named comes last but for what starts containers.
var ranks = map[string]int{
	"Namespace": 0, "CustomResourceDefinition": 1, "ServiceAccount": 2, "ClusterRole": 2, "Role": 2, "ClusterRoleBinding": 3, "RoleBinding": 3,
	"ConfigMap": 4, "Secret": 4, "PersistentVolumeClaim": 4, "Lease": 4, "Service": 5,
	"Deployment": 8, "StatefulSet": 8, "DaemonSet": 8, "ReplicaSet": 8, "Job": 8, "CronJob": 8, "Pod": 8,
}

func rank(u *unstructured.Unstructured) int {
	if r, known := ranks[u.GetKind()]; known {
		return r
	}
	return 6
}

// inOrder groups objects by rank: what is of one rank may go at once.
func inOrder(objects []*unstructured.Unstructured) [][]*unstructured.Unstructured {
	sorted := slices.Clone(objects)
	slices.SortStableFunc(sorted, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	var groups [][]*unstructured.Unstructured
	for i, u := range sorted {
		if i == 0 || rank(u) != rank(sorted[i-1]) {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], u)
	}
	return groups
}

// atOnce is how many requests of one call are under way at a time.
const atOnce = 8

// Apply applies the objects on the server, in an order that works. All errors of one rank are reported, and nothing after it is applied.
func (a *Applier) Apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	for _, group := range inOrder(objects) {
		if err := each(ctx, group, a.apply); err != nil {
			return err
		}
		if group[0].GetKind() == "CustomResourceDefinition" {
			if err := each(ctx, group, a.established); err != nil {
				return err
			}
			a.mapper.Reset()
		}
	}
	return nil
}

// each does something to several objects at once, and returns all errors.
func each(ctx context.Context, objects []*unstructured.Unstructured, do func(context.Context, *unstructured.Unstructured) error) error {
	var mu sync.Mutex
	var errs []error
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, u := range objects {
		g.Go(func() error {
			if err := do(ctx, u); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

func (a *Applier) apply(ctx context.Context, u *unstructured.Unstructured) error {
	in, err := a.resource(u)
	if err != nil {
		return err
	}
	_, err = in.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: Manager, Force: false})
	if err != nil {
		return fmt.Errorf("applying %s: %w", describe(u), plain(err))
	}
	return nil
}

// resource finds where objects of a kind live.
func (a *Applier) resource(u *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := u.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("%s: the cluster knows no %s of %s", describe(u), kind.Kind, kind.GroupVersion())
	}
	if err != nil {
		return nil, fmt.Errorf("asking the cluster for its kinds: %w", err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return a.dynamic.Resource(mapping.Resource).Namespace(u.GetNamespace()), nil
	}
	return a.dynamic.Resource(mapping.Resource), nil
}

// Namespaced reports whether objects of the kind live in a namespace. A kind that is not known yet is taken to.
func (a *Applier) Namespaced(kind schema.GroupVersionKind) bool {
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	return err != nil || mapping.Scope.Name() == meta.RESTScopeNameNamespace
}

// established waits until the API server serves a new kind.
func (a *Applier) established(ctx context.Context, u *unstructured.Unstructured) error {
	in, err := a.resource(u)
	if err != nil {
		return err
	}
	return watchUntil(ctx, in, u.GetName(), func(e watch.Event) (bool, error) {
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return false, nil
		}
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
				return true, nil
			}
		}
		return false, nil
	})
}

// Delete deletes the objects in the reverse of the order in which they were applied, and returns when all are gone. What is not there is deleted.
func (a *Applier) Delete(ctx context.Context, objects ...*unstructured.Unstructured) error {
	var errs []error
	for _, group := range slices.Backward(inOrder(objects)) {
		errs = append(errs, each(ctx, group, a.delete))
	}
	return errors.Join(errs...)
}

func (a *Applier) delete(ctx context.Context, u *unstructured.Unstructured) error {
	in, err := a.resource(u)
	if err != nil {
		if strings.Contains(err.Error(), "the cluster knows no") {
			return nil
		}
		return err
	}
	foreground := metav1.DeletePropagationForeground
	err = in.Delete(ctx, u.GetName(), metav1.DeleteOptions{PropagationPolicy: &foreground})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting %s: %w", describe(u), plain(err))
	}
	if err := gone(ctx, in, u.GetName()); err != nil {
		return fmt.Errorf("waiting until %s is gone: %w", describe(u), err)
	}
	return nil
}

// gone waits until an object is not there any more.
func gone(ctx context.Context, in dynamic.ResourceInterface, name string) error {
	for {
		now, err := in.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		w, err := in.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String(), ResourceVersion: now.GetResourceVersion()})
		if err != nil {
			return err
		}
		deleted, err := until(ctx, w, func(e watch.Event) (bool, error) { return e.Type == watch.Deleted, nil })
		if deleted || err != nil {
			return err
		}
	}
}

// watchUntil follows one object, from what it is now, until something is so.
func watchUntil(ctx context.Context, in dynamic.ResourceInterface, name string, so func(watch.Event) (bool, error)) error {
	for {
		w, err := in.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
		if err != nil {
			return err
		}
		if is, err := until(ctx, w, so); is || err != nil {
			return err
		}
	}
}

// until reads a watch until something is so. A watch may end by itself: then nothing is known, and another one has to be begun.
func until(ctx context.Context, w watch.Interface, so func(watch.Event) (bool, error)) (bool, error) {
	defer w.Stop()
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open || e.Type == watch.Error {
				select {
				case <-time.After(100 * time.Millisecond): // whatever ended it might end the next one at once, too
					return false, nil
				case <-ctx.Done():
					return false, context.Cause(ctx)
				}
			}
			if is, err := so(e); is || err != nil {
				return is, err
			}
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

func describe(u *unstructured.Unstructured) string {
	name := u.GetKind() + " " + u.GetName()
	if u.GetNamespace() != "" {
		name += " in namespace " + u.GetNamespace()
	}
	return name
}

// plain is what the API server said, in one sentence.
func plain(err error) error {
	switch {
	case apierrors.IsConflict(err):
		return fmt.Errorf("somebody else manages it: %w", err)
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return fmt.Errorf("a quota of the namespace refuses it: %w", err)
	default:
		return err
	}
}
