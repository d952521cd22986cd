package discovery

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// State is what is there: the objects of the run's namespaces, in any order. Nobody changes them.
type State struct {
	Namespaces map[string]string // those of applications: logical names by real ones
	System     string            // real name of the mesh's own namespace, where the gateways are
	Key        string            // from which the tokens of sidecars and gateways are derived; empty: they get none

	Services []*corev1.Service
	Slices   []*discoveryv1.EndpointSlice
	Pods     []*corev1.Pod
	Istio    []*unstructured.Unstructured // VirtualServices, DestinationRules, Gateways, ServiceEntries

	GatewayAPI []*unstructured.Unstructured // Gateways, HTTPRoutes, GRPCRoutes, ReferenceGrants
	Labels     map[string]mesh.Labels       // of namespaces, by their real names; those of a Namespace that could not be read are missing
}

// key names an object in its namespace.
type key struct{ namespace, name string }

func keyOf(o metav1.Object) key { return key{o.GetNamespace(), o.GetName()} }

// describe names an object in a problem.
func describe(kind string, o metav1.Object) string {
	return kind + " " + o.GetNamespace() + "/" + o.GetName()
}

// sorted are objects in the order of their namespaces and names, so that the same objects always mean the same.
func sorted[T metav1.Object](objects []T) []T {
	return slices.SortedFunc(slices.Values(objects), func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

// Instance is how the mesh calls what runs in a pod.
func Instance(pod, namespace string) string { return pod + "." + namespace }

// hasSidecar reports whether a sidecar runs in the pod, beside an application or as a gateway.
func hasSidecar(p *corev1.Pod) bool {
	is := func(c corev1.Container) bool { return c.Name == names.ContainerSidecar }
	return slices.ContainsFunc(p.Spec.InitContainers, is) || slices.ContainsFunc(p.Spec.Containers, is)
}

// finished reports whether nothing will run in the pod any more.
func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// realNamespaces are those of applications, in order.
func (s State) realNamespaces() []string { return slices.Sorted(maps.Keys(s.Namespaces)) }
