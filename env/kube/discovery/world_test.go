package discovery

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The namespaces of these tests: applications are in shop-1, which the mesh calls shop, and in other; the mesh itself is in meshtest-1.
const (
	real    = "shop-1"
	logical = "shop"
	other   = "other"
	system  = "meshtest-1"
	keyed   = "key"
)

func state(objects ...any) State {
	s := State{Namespaces: map[string]string{real: logical, other: other}, System: system, Key: keyed}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			s.Services = append(s.Services, o)
		case *discoveryv1.EndpointSlice:
			s.Slices = append(s.Slices, o)
		case *corev1.Pod:
			s.Pods = append(s.Pods, o)
		case *unstructured.Unstructured:
			if o.GroupVersionKind().Group == gatewayAPI {
				s.GatewayAPI = append(s.GatewayAPI, o)
			} else {
				s.Istio = append(s.Istio, o)
			}
		default:
			panic(fmt.Sprintf("%T", o))
		}
	}
	return s
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: real} }

// newService selects the pods with its name as app, and has one port.
func newService(name string, number int, edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}, Selector: map[string]string{"app": name},
		Ports: []corev1.ServicePort{{Name: "http", Port: int32(number), TargetPort: intstr.FromInt(8080)}},
	}}
	for _, e := range edit {
		e(s)
	}
	return s
}

// newPod is one of an application, ready and with a sidecar.
func newPod(name, app, version, ip string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: meta(name),
		Spec: corev1.PodSpec{
			ServiceAccountName: app,
			InitContainers:     []corev1.Container{{Name: names.ContainerCapture}, {Name: names.ContainerSidecar}},
			Containers:         []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 9090}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
	p.UID = types.UID(name)
	p.Labels = map[string]string{"app": app, "version": version}
	for _, e := range edit {
		e(p)
	}
	return p
}

func withoutSidecar(p *corev1.Pod) { p.Spec.InitContainers = nil }

// newSlice has pods at one port of a service, all ready.
func newSlice(service string, port int32, pods ...*corev1.Pod) *discoveryv1.EndpointSlice {
	name := "http"
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta(service + "-abc"), AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	for _, p := range pods {
		s.Namespace = p.Namespace
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.Status.PodIP}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: p.Name, Namespace: p.Namespace, UID: p.UID},
		})
	}
	return s
}

// newObject reads an object of Istio's that was made at the given second.
func newObject(t testing.TB, second int64, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &u.Object))
	if u.GetNamespace() == "" {
		u.SetNamespace(real)
	}
	u.SetCreationTimestamp(metav1.NewTime(time.Unix(second, 0)))
	u.SetResourceVersion("7")
	u.SetGeneration(1)
	return u
}

func hostOf(name string) string { return mesh.FQDN(name, logical) }

// said is an overlay.
func said(resources ...any) *mesh.Snapshot {
	s := mesh.NewSnapshot()
	for _, r := range resources {
		switch r := r.(type) {
		case *mesh.Service:
			s.Services[r.Host] = r
		case *mesh.Endpoints:
			s.Endpoints[mesh.HostPort(r.Host, r.Port)] = r
		case *mesh.RouteTable:
			s.Routes[mesh.HostPort(r.Host, r.Port)] = r
		case *mesh.Inbound:
			s.Inbound[r.Workload.Instance] = r
		default:
			panic(fmt.Sprintf("%T", r))
		}
	}
	return s
}

func saidService(name string, port int, versions ...string) *mesh.Service {
	s := &mesh.Service{Host: hostOf(name), Ports: []mesh.Port{{Number: port, Protocol: mesh.HTTP}}}
	for _, v := range versions {
		s.Subsets = append(s.Subsets, mesh.Subset{Name: v, Labels: mesh.Labels{mesh.LabelVersion: v}})
	}
	return s
}

func saidRoutes(name string, port int, split ...mesh.Destination) *mesh.RouteTable {
	return &mesh.RouteTable{Host: hostOf(name), Port: port, Routes: []mesh.Route{{Name: "said", Split: split}}}
}

func to(name string, port int, subset string, weight uint32) mesh.Destination {
	return mesh.Destination{Host: hostOf(name), Port: port, Subset: subset, Weight: weight}
}

func saidEdge(seed uint64, outbound ...mesh.OutboundPort) *mesh.Inbound {
	return &mesh.Inbound{Workload: mesh.Workload{Name: "edge", Namespace: logical, Instance: "edge"}, Seed: seed, Trusted: true, Outbound: outbound}
}
