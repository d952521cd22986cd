package discovery

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// TestWhateverIsThereIsSound: no mixture of objects, however wrong or half gone, and of what an owner may say makes a configuration that the control plane would refuse.
func TestWhateverIsThereIsSound(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		var objects []any
		for range r.IntN(12) {
			objects = append(objects, someObject(t, r))
		}
		s := state(objects...)
		if r.IntN(4) == 0 {
			s.Namespaces[other] = logical
		}
		build(t, s, someOverlay(r))
	}
}

func some[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func someObject(t *testing.T, r *rand.Rand) any {
	namespace, name := some(r, real, other, system, "kube-system"), some(r, "web", "reviews", "db")
	address := some(r, "10.0.0.1", "10.0.0.2", "fd00::1", "x", "")
	switch r.IntN(4) {
	case 0:
		return newService(name, some(r, 80, 81), func(s *corev1.Service) {
			s.Namespace, s.Spec.ClusterIPs = namespace, []string{address}
			s.Spec.Ports[0].Name, s.Spec.Ports[0].TargetPort = some(r, "http", "tcp", ""), some(r, intstr.FromInt(8080), intstr.FromString("web"), intstr.FromString("gone"))
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "more", Port: int32(some(r, 82, 83)), Protocol: some(r, corev1.ProtocolTCP, corev1.ProtocolUDP)})
			s.Spec.Selector = some(r, s.Spec.Selector, nil)
		})
	case 1:
		return newPod(fmt.Sprint(name, r.IntN(2)), name, some(r, "v1", "v2", ""), address, func(p *corev1.Pod) {
			p.Namespace, p.Status.Phase = namespace, some(r, corev1.PodPending, corev1.PodRunning, corev1.PodFailed)
			p.Labels[names.LabelRole] = some(r, "", names.RoleGateway)
			p.DeletionTimestamp = some(r, nil, &metav1.Time{})
			if r.IntN(3) == 0 {
				withoutSidecar(p)
			}
		})
	case 2:
		s := newSlice(name, 8080)
		s.Namespace, s.AddressType = namespace, some(r, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
		s.Ports[0].Name = some(r, s.Ports[0].Name, nil)
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{address}, TargetRef: some(r, nil, &corev1.ObjectReference{Kind: "Pod", Name: name + "0"})}, {}}
		return s
	default:
		o := newObject(t, r.Int64N(3), some(r, reviewsRule, reviewsSplit, bookGateway, bookEntry, bad(reviewsRule), bad(bookGateway)))
		o.SetNamespace(namespace)
		o.SetName(some(r, o.GetName(), "x"))
		return o
	}
}

func someOverlay(r *rand.Rand) *mesh.Snapshot {
	if r.IntN(5) == 0 {
		return nil
	}
	var resources []any
	for range r.IntN(6) {
		name, port := some(r, "web", "reviews", "later"), some(r, 80, 81)
		resources = append(resources, some[any](r, saidService(name, port, some(r, "v1", "v3"), "v7"), &mesh.Endpoints{Host: hostOf(name), Port: port},
			saidRoutes(name, port, to(some(r, name, "gone"), port, some(r, "", "v1", "v9"), r.Uint32N(2))),
			saidEdge(r.Uint64(), mesh.OutboundPort{Host: hostOf(name), Port: port}, mesh.OutboundPort{Host: "books.shop.gateway", Port: 8080})))
	}
	return said(resources...)
}
