package discovery

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/istio"
)

// build checks what holds of every snapshot.
func build(t testing.TB, s State, overlay *mesh.Snapshot) (*mesh.Snapshot, []Problem) {
	t.Helper()
	snapshot, problems := Build(s, overlay)
	require.Empty(t, snapshot.Validate())
	require.Empty(t, wire.Misnamed(snapshot))
	return snapshot, problems
}

// built is build without problems.
func built(t testing.TB, s State, overlay *mesh.Snapshot) *mesh.Snapshot {
	t.Helper()
	snapshot, problems := build(t, s, overlay)
	require.Empty(t, problems)
	return snapshot
}

// TestBuild is one application, whole.
func TestBuild(t *testing.T) {
	t.Parallel()
	pod := newPod("web-v1-x", "web", "v1", "10.0.0.1")
	got := built(t, state(newService("web", 80), newSlice("web", 8080, pod), pod), nil)
	identity := "spiffe://cluster.local/ns/shop/sa/web"
	require.Equal(t, &mesh.Snapshot{
		Services: map[string]*mesh.Service{hostOf("web"): {
			Host: hostOf("web"), Ports: []mesh.Port{{Name: "http", Number: 80, Protocol: mesh.HTTP}}, Addresses: []string{"10.96.0.1"},
		}},
		Endpoints: map[string]*mesh.Endpoints{hostOf("web") + ":80": {Host: hostOf("web"), Port: 80, Endpoints: []mesh.Endpoint{{
			Address: "10.0.0.1", Port: 8080, Workload: "web-v1", Instance: "web-v1-x.shop-1", Identity: identity, Labels: mesh.Labels{"app": "web", "version": "v1"},
		}}}},
		Routes: map[string]*mesh.RouteTable{hostOf("web") + ":80": {Host: hostOf("web"), Port: 80, Routes: []mesh.Route{{
			Name: "default", Split: []mesh.Destination{{Host: hostOf("web"), Port: 80, Weight: 100}}, Retry: mesh.DefaultRetry(),
		}}}},
		Inbound: map[string]*mesh.Inbound{"web-v1-x.shop-1": {
			Workload: mesh.Workload{
				Name: "web-v1", Namespace: "shop", Service: "web", Version: "v1", Instance: "web-v1-x.shop-1", Identity: identity,
				Labels: mesh.Labels{"app": "web", "version": "v1"},
			},
			Listen:  []mesh.InboundPort{{App: "10.0.0.1:8080", Port: 80, Protocol: mesh.HTTP}},
			Capture: &mesh.Capture{Inbound: ":15006", Outbound: ":15001"},
			Tokens:  mesh.Tokens{Direct: wire.TokenDigest(wire.DirectToken(keyed, "web-v1-x.shop-1"))},
		}},
	}, got)
}

func TestProtocols(t *testing.T) {
	t.Parallel()
	word := func(s string) *string { return &s }
	for _, test := range []struct {
		name string
		app  *string
		want mesh.Protocol
	}{
		{"http", nil, mesh.HTTP}, {"HTTP-web", nil, mesh.HTTP}, {"http-", nil, mesh.HTTP}, {"httpx", nil, mesh.TCP}, {"", nil, mesh.TCP}, {"web", nil, mesh.TCP},
		{"tcp", nil, mesh.TCP}, {"https", nil, mesh.TLS}, {"http2", nil, mesh.HTTP2}, {"grpc-api", nil, mesh.GRPC}, {"redis", nil, mesh.TCP},
		{"tls-db", nil, mesh.TLS}, {"grpc-web", nil, mesh.HTTP}, {"GRPC-Web-api", nil, mesh.HTTP}, {"web", word("kubernetes.io/wss"), mesh.TLS}, {"web", word("HTTPS"), mesh.TLS},
		{"web", word("http"), mesh.HTTP}, {"http", word("tcp"), mesh.TCP}, {"web", word("kubernetes.io/ws"), mesh.HTTP}, {"http", word("kubernetes.io/h2c"), mesh.HTTP2},
		{"http", word("example.com/own"), mesh.TCP},
	} {
		require.Equal(t, test.want, protocolOf(corev1.ServicePort{Name: test.name, AppProtocol: test.app}), test)
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	port := func(name string, number int32, protocol corev1.Protocol) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Port: number, Protocol: protocol}
	}
	for name, test := range map[string]struct {
		edit func(*corev1.Service)
		want *mesh.Service // without its host
	}{
		"several ports": {func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{port("http-a", 80, corev1.ProtocolTCP), port("tcp-b", 81, ""), port("dns", 53, corev1.ProtocolUDP)}
		}, &mesh.Service{Addresses: []string{"10.96.0.1"}, Ports: []mesh.Port{{Name: "http-a", Number: 80, Protocol: mesh.HTTP}, {Name: "tcp-b", Number: 81, Protocol: mesh.TCP}}}},
		"headless": {func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		},
			&mesh.Service{Ports: []mesh.Port{{Name: "http", Number: 80, Protocol: mesh.HTTP}}}},
		"two families": {func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"} },
			&mesh.Service{Addresses: []string{"10.96.0.1", "fd00::1"}, Ports: []mesh.Port{{Name: "http", Number: 80, Protocol: mesh.HTTP}}}},
		"only UDP":      {func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }, nil},
		"an alias":      {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }, nil},
		"somebody else": {func(s *corev1.Service) { s.Namespace = "kube-system" }, nil},
	} {
		got := built(t, state(newService("web", 80, test.edit)), nil)
		if test.want == nil {
			require.Empty(t, got.Services, name)
			continue
		}
		test.want.Host = hostOf("web")
		require.Equal(t, test.want, got.Services[hostOf("web")], name)
		require.Len(t, got.Endpoints, len(test.want.Ports), name)
		require.Len(t, got.Routes, len(test.want.Ports), name)
		for _, p := range test.want.Ports {
			retry := got.Routes[mesh.HostPort(hostOf("web"), p.Number)].Routes[0].Retry
			require.Equal(t, p.Protocol == mesh.HTTP, retry != nil, name)
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	elsewhere := func(s *corev1.Service) { s.Namespace = other }
	got := built(t, state(newService("web", 80), newService("web", 81, elsewhere)), nil)
	require.Equal(t, 80, got.Services["web.shop.svc.cluster.local"].Ports[0].Number)
	require.Equal(t, 81, got.Services["web.other.svc.cluster.local"].Ports[0].Number)

	both := state(newService("web", 80), newService("web", 81, elsewhere))
	both.Namespaces[other] = logical
	got, problems := build(t, both, nil)
	require.Equal(t, 81, got.Services[hostOf("web")].Ports[0].Number)
	require.Equal(t, []Problem{{Object: "Service shop-1/web", Reason: "another namespace has the same logical name, and a service of the same name"}}, problems)
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	a, b := newPod("a", "web", "v1", "10.0.0.9"), newPod("b", "web", "v2", "10.0.0.10")
	pods := []*corev1.Pod{a, b}
	for name, test := range map[string]struct {
		edit    func(*discoveryv1.EndpointSlice)
		service func(*corev1.Service)
		pods    []*corev1.Pod // nil: both
		want    []string
	}{
		"both, by their addresses": {want: []string{"10.0.0.9:8080", "10.0.0.10:8080"}},
		"ready":                    {edit: func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Ready = &yes }, want: []string{"10.0.0.9:8080", "10.0.0.10:8080"}},
		"not ready":                {edit: func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Ready = &no }, want: []string{"10.0.0.10:8080"}},
		"terminating":              {edit: func(s *discoveryv1.EndpointSlice) { s.Endpoints[1].Conditions.Terminating = &yes }, want: []string{"10.0.0.9:8080"}},
		"a pod that is not known":  {pods: []*corev1.Pod{b}, want: []string{"10.0.0.10:8080"}},
		"another pod of the name":  {edit: func(s *discoveryv1.EndpointSlice) { s.Endpoints[1].TargetRef.UID = "before" }, want: []string{"10.0.0.9:8080"}},
		"a pod that is going": {pods: []*corev1.Pod{a, newPod("b", "web", "v2", "10.0.0.10", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} })},
			want: []string{"10.0.0.9:8080"}},
		"in two slices":  {edit: func(s *discoveryv1.EndpointSlice) { s.Endpoints = append(s.Endpoints, s.Endpoints...) }, want: []string{"10.0.0.9:8080", "10.0.0.10:8080"}},
		"another port":   {edit: func(s *discoveryv1.EndpointSlice) { *s.Ports[0].Name = "https" }, want: nil},
		"no port":        {edit: func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = nil }, want: nil},
		"of names":       {edit: func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN }, want: nil},
		"IPv6 only":      {edit: func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }, want: nil},
		"nobody's slice": {edit: func(s *discoveryv1.EndpointSlice) { s.Labels = nil }, want: nil},
		"IPv6 preferred": {edit: func(s *discoveryv1.EndpointSlice) {
			s.AddressType = discoveryv1.AddressTypeIPv6
			s.Endpoints[0].Addresses, s.Endpoints[1].Addresses = []string{"fd00::2"}, []string{"fd00::1"}
		}, service: func(s *corev1.Service) {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		}, want: []string{"[fd00::1]:8080", "[fd00::2]:8080"}},
		"a named port": {edit: func(s *discoveryv1.EndpointSlice) { *s.Ports[0].Port = 9090 }, want: []string{"10.0.0.9:9090", "10.0.0.10:9090"}},
	} {
		slice, service := newSlice("web", 8080, pods...), newService("web", 80)
		if test.edit != nil {
			test.edit(slice)
		}
		if test.service != nil {
			test.service(service)
		}
		s := state(service, slice)
		s.Pods = pods
		if test.pods != nil {
			s.Pods = test.pods
		}
		var got []string
		for _, e := range built(t, s, nil).Endpoints[hostOf("web")+":80"].Endpoints {
			got = append(got, mesh.HostPort(e.Address, e.Port))
		}
		require.Equal(t, test.want, got, name)
	}
}

func TestWhoIsOutsideTheMesh(t *testing.T) {
	t.Parallel()
	in, out := newPod("in", "web", "v1", "10.0.0.1"), newPod("out", "web", "v1", "10.0.0.2", withoutSidecar)
	for name, test := range map[string]struct {
		pods     []*corev1.Pod
		external bool
		inbound  int
	}{
		"all have sidecars": {[]*corev1.Pod{in}, false, 1},
		"some":              {[]*corev1.Pod{in, out}, false, 1},
		"none":              {[]*corev1.Pod{out}, true, 0},
		"nobody is there":   {nil, false, 0},
	} {
		s := state(newService("web", 80), newSlice("web", 8080, test.pods...))
		s.Pods = test.pods
		got := built(t, s, nil)
		require.Equal(t, test.external, got.Services[hostOf("web")].External, name)
		require.Len(t, got.Inbound, test.inbound, name)
		require.Len(t, got.Endpoints[hostOf("web")+":80"].Endpoints, len(test.pods), name)
	}
	ordinary := newPod("old", "web", "v1", "10.0.0.3", func(p *corev1.Pod) {
		p.Spec.InitContainers, p.Spec.Containers = nil, append(p.Spec.Containers, corev1.Container{Name: names.ContainerSidecar})
	})
	require.Len(t, built(t, state(ordinary), nil).Inbound, 1, "before Kubernetes 1.29, the sidecar is an ordinary container")

	manual := newSlice("db", 5432)
	manual.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.7"}}}
	got := built(t, state(newService("db", 80, func(s *corev1.Service) { s.Spec.Selector = nil }), manual, in), nil)
	require.Equal(t, []mesh.Endpoint{{Address: "192.0.2.7", Port: 5432, Workload: "db", Instance: "192.0.2.7"}}, got.Endpoints[hostOf("db")+":80"].Endpoints)
	require.True(t, got.Services[hostOf("db")].External, "an address that somebody wrote down")
	require.Empty(t, got.Inbound["in.shop-1"].Listen, "a service without a selector selects nobody")
}

func TestListen(t *testing.T) {
	t.Parallel()
	target := func(port intstr.IntOrString) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = port }
	}
	selects := func(app string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} }
	}
	for name, test := range map[string]struct {
		services []any
		service  string // that the pod counts as
		want     []mesh.InboundPort
	}{
		"the same port":   {[]any{newService("web", 80, target(intstr.IntOrString{}))}, "web", []mesh.InboundPort{{App: "10.0.0.1:80", Port: 80, Protocol: mesh.HTTP}}},
		"a named port":    {[]any{newService("web", 80, target(intstr.FromString("web")))}, "web", []mesh.InboundPort{{App: "10.0.0.1:9090", Port: 80, Protocol: mesh.HTTP}}},
		"an unknown name": {[]any{newService("web", 80, target(intstr.FromString("metrics")))}, "web", nil},
		"several ports": {[]any{newService("web", 80, func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "tcp-admin", Port: 81, TargetPort: intstr.FromInt(9000)}, corev1.ServicePort{Name: "http-again", Port: 82, TargetPort: intstr.FromInt(8080)})
		})}, "web", []mesh.InboundPort{{App: "10.0.0.1:8080", Port: 80, Protocol: mesh.HTTP}, {App: "10.0.0.1:9000", Port: 81, Protocol: mesh.TCP}}},
		"its own service first": {[]any{newService("all", 90, selects("web")), newService("web", 80)}, "web", []mesh.InboundPort{{App: "10.0.0.1:8080", Port: 80, Protocol: mesh.HTTP}}},
		"only another one":      {[]any{newService("all", 90, selects("web"))}, "all", []mesh.InboundPort{{App: "10.0.0.1:8080", Port: 90, Protocol: mesh.HTTP}}},
		"none":                  {nil, "web", nil},
		"a service of another":  {[]any{newService("db", 80)}, "web", nil},
		"a service elsewhere":   {[]any{newService("web", 80, func(s *corev1.Service) { s.Namespace = other })}, "web", nil},
	} {
		in := built(t, state(append(test.services, newPod("web-v1-x", "web", "v1", "10.0.0.1"))...), nil).Inbound["web-v1-x.shop-1"]
		require.Equal(t, test.want, in.Listen, name)
		require.Equal(t, test.service, in.Workload.Service, name)
	}
	got := built(t, state(newService("web", 80), newPod("p", "web", "v1", "fd00::1")), nil)
	require.Equal(t, "[fd00::1]:8080", got.Inbound["p.shop-1"].Listen[0].App)
}

func TestWhichPodsHaveListeners(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		edit func(*corev1.Pod)
		want bool
	}{
		"running":             {func(*corev1.Pod) {}, true},
		"going":               {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, true},
		"done":                {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, false},
		"evicted":             {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, false},
		"without an address":  {func(p *corev1.Pod) { p.Status.PodIP = "" }, false},
		"opted out":           {withoutSidecar, false},
		"of somebody else":    {func(p *corev1.Pod) { p.Namespace = "kube-system" }, false},
		"of the mesh's own":   {func(p *corev1.Pod) { p.Namespace = system }, false},
		"its template absent": {func(p *corev1.Pod) { p.Namespace, p.Labels[names.LabelRole] = system, names.RoleGateway }, false},
	} {
		require.Equal(t, test.want, len(built(t, state(newPod("p", "web", "v1", "10.0.0.1", test.edit)), nil).Inbound) == 1, name)
	}
}

func TestWorkloadNames(t *testing.T) {
	t.Parallel()
	owned := func(kind, name string, labels map[string]string) *corev1.Pod {
		controller := true
		p := &corev1.Pod{ObjectMeta: meta("the-pod")}
		p.Labels = labels
		if kind != "" {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, Controller: &controller}}
		}
		return p
	}
	require.Equal(t, "web-v1", workloadName(owned("ReplicaSet", "x-123", map[string]string{"app": "web", "version": "v1", "pod-template-hash": "123"})))
	require.Equal(t, "x", workloadName(owned("ReplicaSet", "x-123", map[string]string{"app": "web", "pod-template-hash": "123"})))
	require.Equal(t, "x-123", workloadName(owned("ReplicaSet", "x-123", nil)))
	require.Equal(t, "db", workloadName(owned("StatefulSet", "db", map[string]string{"version": "v1"})))
	require.Equal(t, "the-pod", workloadName(owned("", "", nil)))
}

func TestGateways(t *testing.T) {
	t.Parallel()
	gateway := newPod("gw-1", "edge", "", "10.0.0.5", func(p *corev1.Pod) { p.Namespace, p.Labels[names.LabelRole] = system, names.RoleGateway })
	template := saidEdge(42, mesh.OutboundPort{Bind: "0.0.0.0:20000", Host: hostOf("web"), Port: 80, Protocol: mesh.HTTP},
		mesh.OutboundPort{Bind: "0.0.0.0:20001", Host: hostOf("gone"), Port: 80, Protocol: mesh.HTTP})
	got, problems := build(t, state(newService("web", 80), gateway, newPod("web-1", "web", "v1", "10.0.0.1")), said(template))
	require.Equal(t, []Problem{{Object: "inbound edge", Reason: "no such upstream: gone.shop.svc.cluster.local", Overlay: true}}, problems)
	instance := "gw-1." + system
	require.Equal(t, &mesh.Inbound{
		Workload: mesh.Workload{Name: "edge", Namespace: logical, Instance: instance}, Seed: 42, Trusted: true, Outbound: template.Outbound[:1],
		Tokens: mesh.Tokens{Direct: wire.TokenDigest(wire.DirectToken(keyed, instance)), Edge: wire.TokenDigest(wire.EdgeToken(keyed))},
	}, got.Inbound[instance])
	require.EqualValues(t, 42, got.Inbound["web-1.shop-1"].Seed)
	require.NotContains(t, got.Inbound, "edge")
	require.Equal(t, "edge", template.Workload.Instance, "what the owner said is not touched")
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	pod := newPod("web-v1-x", "web", "v1", "10.0.0.1")
	unnamed := newService("web", 80, func(s *corev1.Service) { s.Spec.Ports[0].Name = "" })
	slice := newSlice("web", 8080, pod)
	slice.Ports[0].Name = nil
	web, later := saidService("web", 80, "v1", "v2"), saidService("later", 81, "v1")
	web.Traffic.Balancer, web.Addresses = mesh.RoundRobin, []string{"192.0.2.1"}
	later.External = true
	routes := saidRoutes("web", 80, to("web", 80, "v1", 9), to("later", 81, "v1", 1))
	template := &mesh.Endpoints{Host: hostOf("web"), Port: 80, Endpoints: []mesh.Endpoint{{Instance: "web-v1-0", Workload: "web-v1"}}}
	got := built(t, state(unnamed, slice, pod), said(web, later, routes, template, &mesh.Endpoints{Host: hostOf("later"), Port: 82}, &mesh.Inbound{Workload: mesh.Workload{Instance: "web-v1-0"}, Seed: 7}))

	require.Equal(t, &mesh.Service{
		Host: hostOf("web"), Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}, Addresses: []string{"10.96.0.1"}, Subsets: web.Subsets, Traffic: web.Traffic,
	}, got.Services[hostOf("web")])
	require.Equal(t, later, got.Services[hostOf("later")], "a service that is still to come")
	require.Equal(t, routes, got.Routes[hostOf("web")+":80"])
	require.Equal(t, "default", got.Routes[hostOf("later")+":81"].Routes[0].Name)
	require.Len(t, got.Endpoints[hostOf("web")+":80"].Endpoints, 1)
	require.Equal(t, "10.0.0.1", got.Endpoints[hostOf("web")+":80"].Endpoints[0].Address)
	require.Equal(t, &mesh.Endpoints{Host: hostOf("later"), Port: 81}, got.Endpoints[hostOf("later")+":81"])
	require.Equal(t, &mesh.Endpoints{Host: hostOf("later"), Port: 82}, got.Endpoints[hostOf("later")+":82"])
	require.Equal(t, mesh.HTTP, got.Inbound["web-v1-x.shop-1"].Listen[0].Protocol, "the sidecar at the other end goes by it, too")
	require.EqualValues(t, 7, got.Inbound["web-v1-x.shop-1"].Seed)
	require.Len(t, got.Inbound, 1)
}

const (
	reviewsRule = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {loadBalancer: {simple: RANDOM}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}}]`
	reviewsSplit = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, annotations: {a: b}}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews, subset: v1}, weight: 90}, {destination: {host: reviews, subset: v3}, weight: 10}]}]
status: {observedGeneration: 1}`
	bookGateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: books}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]`
	bookEntry = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: entry}
spec:
  hosts: ['*']
  gateways: [books]
  http: [{match: [{uri: {prefix: /reviews}}], route: [{destination: {host: reviews}}]}]`
)

func TestIstio(t *testing.T) {
	t.Parallel()
	objects := []any{newService("reviews", 80), newObject(t, 1, reviewsRule), newObject(t, 2, reviewsSplit), newObject(t, 3, bookGateway), newObject(t, 4, bookEntry)}
	got := built(t, state(objects...), nil)
	require.Equal(t, mesh.Random, got.Services[hostOf("reviews")].Traffic.Balancer)
	require.Equal(t, []string{"10.96.0.1"}, got.Services[hostOf("reviews")].Addresses)
	table := got.Routes[hostOf("reviews")+":80"]
	require.Equal(t, []mesh.Destination{to("reviews", 80, "v1", 90), to("reviews", 80, "v3", 10)}, table.Routes[0].Split)
	require.Equal(t, "VirtualService shop/reviews", table.Routes[0].Origin)
	gateway := istio.GatewayHost("books", logical)
	require.Equal(t, 8080, got.Services[gateway].Ports[0].Number)
	require.Equal(t, hostOf("reviews"), got.Routes[mesh.HostPort(gateway, 8080)].Routes[0].Split[0].Host)
	require.NotContains(t, got.Endpoints, mesh.HostPort(gateway, 8080), "nobody answers there")

	own := saidRoutes("reviews", 80, to("reviews", 80, "v9", 1))
	over := saidService("reviews", 80, "v9", "v3")
	over.Subsets[1].Traffic = &mesh.TrafficPolicy{Balancer: mesh.Random}
	over.Traffic.Balancer = mesh.RoundRobin
	got, problems := build(t, state(objects...), said(over, own, saidEdge(1, mesh.OutboundPort{Host: gateway, Port: 8080, Protocol: mesh.HTTP})))
	require.Empty(t, problems)
	require.Equal(t, own, got.Routes[hostOf("reviews")+":80"])
	require.Equal(t, mesh.RoundRobin, got.Services[hostOf("reviews")].Traffic.Balancer)
	require.Equal(t, []mesh.Subset{over.Subsets[0], over.Subsets[1], {Name: "v1", Labels: mesh.Labels{"version": "v1"}}}, got.Services[hostOf("reviews")].Subsets)
}

func TestIstioMayUseWhatTheOwnerSays(t *testing.T) {
	t.Parallel()
	got := built(t, state(newService("reviews", 80), newObject(t, 1, reviewsSplit)), said(saidService("reviews", 80, "v1", "v3")))
	require.Equal(t, "VirtualService shop/reviews", got.Routes[hostOf("reviews")+":80"].Routes[0].Origin)
}

func TestBadObjectsAreLeftOut(t *testing.T) {
	t.Parallel()
	service, pod := newService("reviews", 80), newPod("p", "reviews", "v1", "10.0.0.1")
	unknown := func(text string) string { return text + "\n  fault: {}" }
	badSlice := newSlice("reviews", 8080, pod)
	badSlice.Endpoints = append(badSlice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"here"}})
	second := newObject(t, 9, reviewsRule)
	second.SetName("again")
	empty := newObject(t, 1, reviewsRule)
	delete(empty.Object, "spec")
	for name, test := range map[string]struct {
		objects []any
		overlay *mesh.Snapshot
		want    []string
		sound   func(*testing.T, *mesh.Snapshot)
	}{
		"a rule that is wrong takes along what depends on it": {[]any{newObject(t, 1, unknown(reviewsRule)), newObject(t, 2, reviewsSplit)}, nil, []string{
			`DestinationRule shop-1/reviews: spec.fault: unknown field "fault"`, `VirtualService shop-1/reviews: spec.http[0].route[0].destination.subset: reviews.shop has no subset "v1"`,
			`VirtualService shop-1/reviews: spec.http[0].route[1].destination.subset: reviews.shop has no subset "v3"`,
		}, func(t *testing.T, s *mesh.Snapshot) {
			require.Equal(t, "default", s.Routes[hostOf("reviews")+":80"].Routes[0].Name)
		}},
		"of two rules the older counts": {[]any{second, newObject(t, 1, reviewsRule), newObject(t, 2, reviewsSplit)}, nil,
			[]string{"DestinationRule shop-1/again: spec.host: DestinationRule shop/reviews is about reviews.shop already (DestinationRule shop-1/reviews:1)"},
			func(t *testing.T, s *mesh.Snapshot) {
				require.Len(t, s.Routes[hostOf("reviews")+":80"].Routes[0].Split, 2)
			}},
		"of two rules the wrong one does not count": {[]any{second, newObject(t, 1, unknown(reviewsRule)), newObject(t, 2, reviewsSplit)}, nil,
			[]string{`DestinationRule shop-1/reviews: spec.fault: unknown field "fault"`},
			func(t *testing.T, s *mesh.Snapshot) {
				require.Len(t, s.Routes[hostOf("reviews")+":80"].Routes[0].Split, 2)
			}},
		"a subset that the owner means otherwise": {[]any{newObject(t, 1, reviewsRule)}, said(&mesh.Service{Host: hostOf("reviews"), Subsets: []mesh.Subset{{Name: "v3", Labels: mesh.Labels{"version": "v4"}}}}),
			[]string{`DestinationRule shop-1/reviews: spec.subsets: the subset "v3" does not select the version "v4"`},
			func(t *testing.T, s *mesh.Snapshot) {
				require.Equal(t, "v4", s.Services[hostOf("reviews")].Subsets[0].Labels["version"])
			}},
		"nothing in it":                    {[]any{empty}, nil, []string{`DestinationRule shop-1/reviews: the field "spec" is missing`}, nil},
		"a gateway that is not there":      {[]any{newObject(t, 1, bookEntry)}, nil, []string{"VirtualService shop-1/entry: spec.gateways[0]: no such gateway: shop/books"}, nil},
		"an address in a slice":            {[]any{badSlice}, nil, []string{`EndpointSlice shop-1/reviews-abc: "here" is no address`}, nil},
		"an address of a service":          {[]any{newService("odd", 80, func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"x"} })}, nil, []string{`Service shop-1/odd: "x" is no address`}, nil},
		"an address of a pod":              {[]any{newPod("q", "reviews", "v1", "x")}, nil, []string{`Pod shop-1/q: "x" is no address`}, nil},
		"an overlay that names no subset":  {nil, said(saidRoutes("reviews", 80, to("reviews", 80, "v9", 1))), []string{`routes reviews.shop.svc.cluster.local:80: route 0 (said): service reviews.shop.svc.cluster.local has no subset "v9"`}, nil},
		"an overlay that names no service": {nil, said(saidRoutes("reviews", 80, to("gone", 80, "", 1)), &mesh.Endpoints{Host: "x", Port: 1}), []string{"endpoints x:1: no such service: x", "routes reviews.shop.svc.cluster.local:80: route 0 (said): no such service: gone.shop.svc.cluster.local"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, problems := build(t, state(append(slices.Clone(test.objects), service, pod)...), test.overlay)
			var texts []string
			for _, p := range problems {
				texts = append(texts, p.Error())
				require.Equal(t, test.overlay != nil && test.objects == nil, p.Overlay)
			}
			require.Equal(t, test.want, texts)
			require.Contains(t, got.Inbound, "p.shop-1", "the rest stands")
			require.Contains(t, got.Routes, hostOf("reviews")+":80")
			if test.sound != nil {
				test.sound(t, got)
			}
		})
	}
}

// TestBuildIsAFunction: the order of the objects means nothing, and nothing that goes in is changed.
func TestBuildIsAFunction(t *testing.T) {
	t.Parallel()
	a, b := newPod("a", "reviews", "v1", "10.0.0.1"), newPod("b", "reviews", "v3", "10.0.0.2")
	objects := []any{
		newService("reviews", 80), newService("web", 80), a, b, newSlice("reviews", 8080, a, b), newObject(t, 1, reviewsRule), newObject(t, 1, reviewsSplit), newObject(t, 1, bookGateway),
		newObject(t, 1, bookEntry),
	}
	overlay := said(saidService("reviews", 80, "v2"), saidEdge(1, mesh.OutboundPort{Host: hostOf("reviews"), Port: 80}))
	first, problems := build(t, state(objects...), overlay)
	slices.Reverse(objects)
	second, again := build(t, state(objects...), overlay)
	require.Equal(t, problems, again)
	one, err := wire.Encode(first)
	require.NoError(t, err)
	two, err := wire.Encode(second)
	require.NoError(t, err)
	require.Equal(t, string(one), string(two), "as bytes: sidecars compare digests")
}
