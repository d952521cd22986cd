package discovery

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// findInbound says to every sidecar where it listens.
func (b *builder) findInbound() {
	template := b.gatewayTemplate()
	for _, p := range sorted(b.state.Pods) {
		if !hasSidecar(p) || finished(p) {
			continue
		}
		var in *mesh.Inbound
		switch _, application := b.state.Namespaces[p.Namespace]; {
		case application:
			in = b.application(p)
		case p.Namespace == b.state.System && p.Labels[names.LabelRole] == names.RoleGateway && template != nil:
			in = b.gateway(p, *template)
		}
		if in != nil {
			b.out.Inbound[in.Workload.Instance] = in
		}
	}
}

// application is what the sidecar beside an application listens on; nil while its pod has no address.
func (b *builder) application(p *corev1.Pod) *mesh.Inbound {
	if p.Status.PodIP == "" {
		return nil
	}
	if _, err := netip.ParseAddr(p.Status.PodIP); err != nil {
		b.problem(describe("Pod", p), fmt.Sprintf("%q is no address", p.Status.PodIP))
		return nil
	}
	logical := b.state.Namespaces[p.Namespace]
	selecting := b.selecting(p)
	w := mesh.Workload{
		Name: workloadName(p), Namespace: logical, Service: p.Labels[mesh.LabelApp], Version: p.Labels[mesh.LabelVersion],
		Instance: Instance(p.Name, p.Namespace), Identity: b.identity(p), Labels: p.Labels,
	}
	if len(selecting) > 0 {
		w.Service = selecting[0].Name
	}
	return &mesh.Inbound{
		Workload: w, Seed: b.seed(), Listen: b.listen(p, selecting), Unknown: b.unknown(), Limits: b.limits(w), Sampling: b.sampling(),
		Capture: &mesh.Capture{Inbound: anyAddress(names.PortInbound), Outbound: anyAddress(names.PortOutbound)},
		Tokens:  b.directToken(w.Instance),
	}
}

func anyAddress(port int) string { return ":" + strconv.Itoa(port) }

// selecting are the services that lead to a pod: the one that is named like its application first, because that is what it is known as.
func (b *builder) selecting(p *corev1.Pod) []*service {
	var all []*service
	for _, s := range b.services[p.Namespace] {
		if s.selector.Matches(labels.Set(p.Labels)) {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(s, t *service) int {
		switch app := p.Labels[mesh.LabelApp]; {
		case s.Name == t.Name:
			return 0
		case s.Name == app:
			return -1
		case t.Name == app:
			return 1
		default:
			return 0
		}
	})
	return all
}

// listen is a port for each port of the application that a service leads to. Traffic comes there by its capture, so of two services that lead to one port, the first gives its name.
func (b *builder) listen(p *corev1.Pod, selecting []*service) (all []mesh.InboundPort) {
	taken := map[int]bool{}
	for _, s := range selecting {
		for _, port := range s.ports {
			target, ok := targetOf(p, port)
			if !ok || taken[target] {
				continue
			}
			taken[target] = true
			all = append(all, mesh.InboundPort{
				App: net.JoinHostPort(p.Status.PodIP, strconv.Itoa(target)), Port: int(port.Port), Protocol: b.protocol(s.host, int(port.Port)),
			})
		}
	}
	return all
}

// targetOf is the port of a pod that a service's port leads to. A name that no container has leads nowhere, as in Kubernetes.
func targetOf(p *corev1.Pod, port corev1.ServicePort) (int, bool) {
	target := port.TargetPort
	switch {
	case target.Type == intstr.Int && target.IntVal == 0:
		return int(port.Port), true
	case target.Type == intstr.Int:
		return int(target.IntVal), true
	}
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} { // an init container that goes on may listen, too
		for _, c := range containers {
			for _, have := range c.Ports {
				if have.Name == target.StrVal && cmp.Or(have.Protocol, corev1.ProtocolTCP) == corev1.ProtocolTCP {
					return int(have.ContainerPort), true
				}
			}
		}
	}
	return 0, false
}

// protocol is that of a port of a service, by what the owner says and what was discovered.
func (b *builder) protocol(host string, port int) mesh.Protocol {
	for _, p := range b.out.Services[host].Ports {
		if p.Number == port {
			return p.Protocol
		}
	}
	return mesh.TCP
}

// gatewayTemplate is what every gateway listens on; nil when the owner has no edge. It leads only to what is there.
func (b *builder) gatewayTemplate() *mesh.Inbound {
	said := b.overlay.Inbound[env.Edge]
	if said == nil {
		return nil
	}
	template := *said
	template.Outbound = nil
	for _, out := range said.Outbound {
		if b.out.Services[out.Host] == nil {
			b.mistake("inbound "+env.Edge, "no such upstream: "+out.Host)
			continue
		}
		template.Outbound = append(template.Outbound, out)
	}
	return &template
}

func (b *builder) gateway(p *corev1.Pod, template mesh.Inbound) *mesh.Inbound {
	template.Workload.Instance = Instance(p.Name, p.Namespace)
	template.Trusted = true
	template.Tokens = b.directToken(template.Workload.Instance)
	if b.state.Key != "" {
		template.Tokens.Edge = wire.TokenDigest(wire.EdgeToken(b.state.Key))
	}
	return &template
}

func (b *builder) directToken(instance string) mesh.Tokens {
	if b.state.Key == "" {
		return mesh.Tokens{}
	}
	return mesh.Tokens{Direct: wire.TokenDigest(wire.DirectToken(b.state.Key, instance))}
}

// seed is that of the run; the owner gives every instance the same.
func (b *builder) seed() uint64 {
	for _, instance := range slices.Sorted(maps.Keys(b.overlay.Inbound)) {
		return b.overlay.Inbound[instance].Seed
	}
	return 0
}

// sampling is the share of traces of which spans are recorded; the owner gives every instance the same.
func (b *builder) sampling() *float64 {
	for _, instance := range slices.Sorted(maps.Keys(b.overlay.Inbound)) {
		return b.overlay.Inbound[instance].Sampling
	}
	return nil
}

func (b *builder) identity(p *corev1.Pod) string {
	return mesh.SPIFFE(TrustDomain, b.state.Namespaces[p.Namespace], cmp.Or(p.Spec.ServiceAccountName, "default"))
}

// workloadName is the version of a service that a pod is of, by its labels; else whatever keeps it running, else the pod itself.
func workloadName(p *corev1.Pod) string {
	app, version := p.Labels[mesh.LabelApp], p.Labels[mesh.LabelVersion]
	if app != "" && version != "" {
		return mesh.WorkloadName(app, version)
	}
	owner := metav1.GetControllerOf(p)
	if owner == nil {
		return p.Name
	}
	if hash := p.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; owner.Kind == "ReplicaSet" && hash != "" {
		return strings.TrimSuffix(owner.Name, "-"+hash) // of a Deployment
	}
	return owner.Name
}
