package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// Delete deletes the objects in the reverse of the order in which they are applied, and returns when all are gone, and the pods of those that start pods with them. What is not there is
// deleted.
func (a *Applier) Delete(ctx context.Context, objects ...*unstructured.Unstructured) error {
	return a.deleteAll(ctx, metav1.DeletePropagationForeground, objects)
}

// propagation is how what an object owns is deleted. To wait for that makes sense only where it is pods: the garbage collector has to know the object's kind for it, which takes it half a
// minute for a new one.
func propagation(u *unstructured.Unstructured, how metav1.DeletionPropagation) metav1.DeletionPropagation {
	if rank(u) != ranks["Pod"] {
		return metav1.DeletePropagationBackground
	}
	return how
}

// DeleteBackground is Delete, but what the objects own goes by itself later.
func (a *Applier) DeleteBackground(ctx context.Context, objects ...*unstructured.Unstructured) error {
	return a.deleteAll(ctx, metav1.DeletePropagationBackground, objects)
}

func (a *Applier) deleteAll(ctx context.Context, how metav1.DeletionPropagation, objects []*unstructured.Unstructured) error {
	var errs []error
	for _, group := range slices.Backward(inOrder(objects)) {
		errs = append(errs, each(ctx, group, func(ctx context.Context, u *unstructured.Unstructured) error { return a.delete(ctx, how, u) }))
	}
	return errors.Join(errs...)
}

func (a *Applier) delete(ctx context.Context, how metav1.DeletionPropagation, u *unstructured.Unstructured) error {
	in, err := a.resource(u)
	if unknown := (*unknownKindError)(nil); errors.As(err, &unknown) {
		return nil
	}
	if err != nil {
		return err
	}
	how = propagation(u, how)
	options := metav1.DeleteOptions{PropagationPolicy: &how}
	if u.GetUID() != "" {
		options.Preconditions = metav1.NewUIDPreconditions(string(u.GetUID()))
	}
	err = in.Delete(ctx, u.GetName(), options)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err) && u.GetUID() != "" && !terminating(u, err):
		return nil // there is another one of that name now
	case apierrors.IsConflict(err): // a namespace that is going already says so
	case err != nil:
		return fmt.Errorf("deleting %w", refused(u, err))
	}
	if err := gone(ctx, in, u.GetName()); err != nil {
		return fmt.Errorf("waiting until %s is gone: %w", describe(u), err)
	}
	return nil
}

// terminating reports whether a conflict says no more than that the object is going.
func terminating(u *unstructured.Unstructured, err error) bool {
	return u.GetKind() == "Namespace" && !strings.Contains(err.Error(), "Precondition failed")
}

// gone waits until an object is not there any more, or another one of its name is.
func gone(ctx context.Context, in dynamic.ResourceInterface, name string) error {
	var uid types.UID
	var last *unstructured.Unstructured
	for {
		now, err := in.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return stays(cause(ctx, err), last)
		}
		if uid != "" && now.GetUID() != uid {
			return nil
		}
		uid, last = now.GetUID(), now
		options := named(name)
		options.ResourceVersion = now.GetResourceVersion()
		w, err := in.Watch(ctx, options)
		if err != nil {
			return stays(cause(ctx, err), last)
		}
		deleted, err := until(ctx, w, func(e watch.Event) (bool, error) {
			if u, ok := e.Object.(*unstructured.Unstructured); ok {
				last = u
			}
			return e.Type == watch.Deleted, nil
		})
		if err != nil {
			return stays(err, last)
		}
		if deleted {
			return nil
		}
	}
}

// stays adds to an error why an object does not go, as far as it says.
func stays(err error, u *unstructured.Unstructured) error {
	if u == nil {
		return err
	}
	var reasons []string
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && u.GetKind() == "Namespace" && c["status"] == "True" {
			reasons = append(reasons, fmt.Sprint(c["message"]))
		}
	}
	if finalizers := u.GetFinalizers(); len(finalizers) > 0 {
		reasons = append(reasons, "it waits for "+strings.Join(finalizers, ", "))
	}
	if len(reasons) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(reasons, "; "))
}

// DeleteLabelled deletes all objects of the kinds that a label selector selects, in one namespace or, when that is empty, in the whole cluster, and returns what it deleted when all of it
// is gone. Kinds that the cluster does not know have no objects.
func (a *Applier) DeleteLabelled(ctx context.Context, namespace, selector string, kinds ...schema.GroupVersionKind) (deleted []*unstructured.Unstructured, err error) {
	var errs []error
	for _, kind := range kinds {
		found, err := a.labelled(ctx, namespace, selector, kind)
		deleted = append(deleted, found...)
		errs = append(errs, err)
	}
	return deleted, errors.Join(append(errs, a.Delete(ctx, deleted...))...)
}

func (a *Applier) labelled(ctx context.Context, namespace, selector string, kind schema.GroupVersionKind) ([]*unstructured.Unstructured, error) {
	model := &unstructured.Unstructured{}
	model.SetGroupVersionKind(kind)
	model.SetNamespace(namespace)
	in, err := a.resource(model)
	if unknown := (*unknownKindError)(nil); errors.As(err, &unknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := in.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("listing objects of kind %s: %s: %w", kind.Kind, sentence(err), err)
	}
	var all []*unstructured.Unstructured
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	return all, nil
}
