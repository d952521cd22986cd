// Package apply brings objects into a cluster and out of it again: manifests become objects with their places in the file, objects are applied by the server under
// our own name in an order that works, what has to become ready is watched until it is or until it never can be, and what is deleted is waited for.
package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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

// ranks is the order in which kinds have to be there. What is not named comes after what pods need, and before what starts pods. A webhook comes last of all: from then on it
// has a say in everything.
var ranks = map[string]int{
	"Namespace": 0, "CustomResourceDefinition": 1, "PriorityClass": 2, "StorageClass": 2, "ResourceQuota": 2, "LimitRange": 2, "ServiceAccount": 2, "ClusterRole": 2, "Role": 2,
	"ClusterRoleBinding": 3, "RoleBinding": 3, "ConfigMap": 4, "Secret": 4, "PersistentVolume": 4, "PersistentVolumeClaim": 4, "Lease": 4, "Service": 5,
	"Deployment": 8, "StatefulSet": 8, "DaemonSet": 8, "ReplicaSet": 8, "Job": 8, "CronJob": 8, "Pod": 8,
	"MutatingWebhookConfiguration": 9, "ValidatingWebhookConfiguration": 9,
}

const definition = "CustomResourceDefinition"

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
	return slices.Collect(chunks(sorted))
}

func chunks(sorted []*unstructured.Unstructured) func(func([]*unstructured.Unstructured) bool) {
	return func(yield func([]*unstructured.Unstructured) bool) {
		for len(sorted) > 0 {
			n := 1
			for n < len(sorted) && rank(sorted[n]) == rank(sorted[0]) {
				n++
			}
			if !yield(sorted[:n:n]) {
				return
			}
			sorted = sorted[n:]
		}
	}
}

// atOnce is how many requests of one call are under way at a time.
const atOnce = 8

// Apply applies the objects on the server, in an order that works, and waits for new kinds to be served. Fields that somebody else manages are not taken over. All errors of one
// rank are reported, each a *RefusedError when the cluster refused the object, and nothing after them is applied.
func (a *Applier) Apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	for _, group := range inOrder(objects) {
		if err := each(ctx, group, a.apply); err != nil {
			return err
		}
		if group[0].GetKind() == definition {
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
	if _, err := in.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: Manager}); err != nil {
		return fmt.Errorf("applying %w", refused(u, err))
	}
	return nil
}

// unknownKindError says that a cluster does not have a kind of object.
type unknownKindError struct {
	object string
	kind   schema.GroupVersionKind
}

func (e *unknownKindError) Error() string {
	return fmt.Sprintf("%s: the cluster knows no %s of %s", e.object, e.kind.Kind, e.kind.GroupVersion())
}

// Labels are those that an object of that kind and name has in the cluster; there is false when there is none.
func (a *Applier) Labels(ctx context.Context, u *unstructured.Unstructured) (labels map[string]string, there bool, err error) {
	in, err := a.resource(u)
	if unknown := (*unknownKindError)(nil); errors.As(err, &unknown) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	now, err := in.Get(ctx, u.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("looking at %s: %w", describe(u), err)
	}
	return now.GetLabels(), true, nil
}

// resource finds where objects of a kind live.
func (a *Applier) resource(u *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := u.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return nil, &unknownKindError{describe(u), kind}
	}
	if err != nil {
		return nil, fmt.Errorf("asking the cluster for its kinds: %s: %w", sentence(err), err)
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

// Into puts objects into a namespace. Those that live in none are left alone; one that says another namespace is an error, because it means a place that the caller does not own. So is a
// Namespace itself.
func (a *Applier) Into(namespace string, objects ...*unstructured.Unstructured) error {
	var errs []error
	for _, u := range objects {
		switch said := u.GetNamespace(); {
		case u.GetKind() == "Namespace":
			errs = append(errs, fmt.Errorf("%s: everything goes into namespace %s", describe(u), namespace))
		case !a.Namespaced(u.GroupVersionKind()):
			u.SetNamespace("")
		case said != "" && said != namespace:
			errs = append(errs, fmt.Errorf("%s: everything goes into namespace %s", describe(u), namespace))
		default:
			u.SetNamespace(namespace)
		}
	}
	return errors.Join(errs...)
}

// established waits until the API server serves a new kind.
func (a *Applier) established(ctx context.Context, u *unstructured.Unstructured) error {
	in, err := a.resource(u)
	if err != nil {
		return err
	}
	err = follow(ctx, in, u.GetName(), func(e watch.Event) (bool, error) {
		now, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return false, nil
		}
		if e.Type == watch.Deleted {
			return false, errors.New("somebody has deleted it")
		}
		if c := condition(now, "NamesAccepted"); c["status"] == "False" {
			return false, fmt.Errorf("its names are taken: %v", c["message"])
		}
		return condition(now, "Established")["status"] == "True", nil
	})
	if err != nil {
		return fmt.Errorf("waiting until %s is served: %w", describe(u), err)
	}
	return nil
}

// condition is one of an object's status.
func condition(u *unstructured.Unstructured, kind string) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind {
			return c
		}
	}
	return nil
}
