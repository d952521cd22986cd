package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"meshtest.dev/meshtest/env/kube/names"
)

// pods follows the pods of some namespaces, and tells how each is now.
type pods struct {
	mu      sync.Mutex
	now     map[string]*corev1.Pod // by instance
	changed chan struct{}          // closed and replaced at every change
	heard   func(before, now *corev1.Pod)
}

// instanceOf is how the mesh calls what runs in a pod.
func instanceOf(p *corev1.Pod) string { return p.Name + "." + p.Namespace }

// followPods returns when all pods that are there are known. It goes on until ctx ends, and joined tells when nothing of it is left. Each change is told to heard, one after the other; a pod
// that is new or gone has no before or no now.
func followPods(ctx context.Context, client kubernetes.Interface, namespaces []string, joined *sync.WaitGroup, heard func(before, now *corev1.Pod)) (*pods, error) {
	p := &pods{now: map[string]*corev1.Pod{}, changed: make(chan struct{}), heard: heard}
	for _, namespace := range namespaces {
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace), informers.WithTransform(lean))
		informer := factory.Core().V1().Pods().Informer()
		handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { p.set(o.(*corev1.Pod)) },
			UpdateFunc: func(_, o any) { p.set(o.(*corev1.Pod)) },
			DeleteFunc: func(o any) {
				if gone, unseen := o.(cache.DeletedFinalStateUnknown); unseen {
					o = gone.Obj
				}
				if pod, ok := o.(*corev1.Pod); ok {
					p.remove(pod)
				}
			},
		})
		if err != nil {
			return nil, fmt.Errorf("following pods of %s: %w", namespace, err)
		}
		joined.Go(func() { informer.RunWithContext(ctx) })
		if !cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
			return nil, fmt.Errorf("following pods of %s: %w", namespace, context.Cause(ctx))
		}
	}
	return p, nil
}

// lean drops what nobody here reads and what is the larger half of an object.
func lean(o any) (any, error) {
	if pod, ok := o.(*corev1.Pod); ok {
		pod.ManagedFields = nil
	}
	return o, nil
}

func (p *pods) set(pod *corev1.Pod) {
	p.mu.Lock()
	before := p.now[instanceOf(pod)]
	if before != nil && before.UID != pod.UID {
		before = nil
	}
	p.now[instanceOf(pod)] = pod
	p.tell()
	p.mu.Unlock()
	p.heard(before, pod)
}

func (p *pods) remove(pod *corev1.Pod) {
	p.mu.Lock()
	before := p.now[instanceOf(pod)]
	if before != nil && before.UID == pod.UID {
		delete(p.now, instanceOf(pod))
	}
	p.tell()
	p.mu.Unlock()
	p.heard(pod, nil)
}

func (p *pods) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// list returns the pods that satisfy the condition, by name, and a channel that is closed when something has changed since.
func (p *pods) list(is func(*corev1.Pod) bool) ([]*corev1.Pod, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []*corev1.Pod
	for _, pod := range p.now {
		if is(pod) {
			found = append(found, pod)
		}
	}
	slices.SortFunc(found, func(a, b *corev1.Pod) int { return cmp.Compare(instanceOf(a), instanceOf(b)) })
	return found, p.changed
}

// await returns the first pods for which enough is true.
func (p *pods) await(ctx context.Context, is func(*corev1.Pod) bool, enough func([]*corev1.Pod) bool) ([]*corev1.Pod, error) {
	for {
		found, changed := p.list(is)
		if enough(found) {
			return found, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return found, context.Cause(ctx)
		}
	}
}

// hasSidecar reports whether the mesh's proxy runs in the pod, beside an application or as a gateway.
func hasSidecar(p *corev1.Pod) bool {
	is := func(c corev1.Container) bool { return c.Name == names.ContainerSidecar }
	return slices.ContainsFunc(p.Spec.InitContainers, is) || slices.ContainsFunc(p.Spec.Containers, is)
}

// sidecarStatus is how the pod's sidecar is; nil when it was not started yet.
func sidecarStatus(p *corev1.Pod) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == names.ContainerSidecar {
				return &list[i]
			}
		}
	}
	return nil
}

// carries reports whether the pod's sidecar is up and configured.
func carries(p *corev1.Pod) bool {
	status := sidecarStatus(p)
	return status != nil && status.Ready && p.Status.PodIP != "" && !finished(p)
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func isReady(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func hasRole(role string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Labels[names.LabelRole] == role }
}

// ownerKind is the kind of what made the pod and will make another one, such as ReplicaSet; empty when nothing will.
func ownerKind(p *corev1.Pod) string {
	if owner := metav1.GetControllerOf(p); owner != nil {
		return owner.Kind
	}
	return ""
}
