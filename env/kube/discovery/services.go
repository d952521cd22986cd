package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"meshtest.dev/meshtest/mesh"
)

// service is a Service, and what it is in the mesh.
type service struct {
	*corev1.Service
	host     string
	ports    []corev1.ServicePort // those that the mesh carries
	selector labels.Selector      // of pods; nothing when it selects none
}

// findServices finds every Service that has something to carry.
func (b *builder) findServices() {
	for _, o := range sorted(b.state.Services) {
		logical, ours := b.state.Namespaces[o.Namespace]
		if !ours || o.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		s := &service{Service: o, host: mesh.FQDN(o.Name, logical), ports: carried(o), selector: labels.Nothing()}
		if len(s.ports) == 0 {
			continue
		}
		if len(o.Spec.Selector) > 0 {
			s.selector = labels.SelectorFromSet(o.Spec.Selector)
		}
		if b.out.Services[s.host] != nil {
			b.problem(describe("Service", o), "another namespace has the same logical name, and a service of the same name")
			continue
		}
		b.services[o.Namespace] = append(b.services[o.Namespace], s)
		b.out.Services[s.host] = &mesh.Service{Host: s.host, Ports: portsOf(s.ports), Addresses: b.addresses(o)}
	}
}

// carried are the ports of a Service that the mesh can carry: those of TCP.
func carried(o *corev1.Service) []corev1.ServicePort {
	return slices.DeleteFunc(slices.Clone(o.Spec.Ports), func(p corev1.ServicePort) bool {
		return cmp.Or(p.Protocol, corev1.ProtocolTCP) != corev1.ProtocolTCP
	})
}

func portsOf(ports []corev1.ServicePort) (all []mesh.Port) {
	for _, p := range ports {
		all = append(all, mesh.Port{Name: p.Name, Number: int(p.Port), Protocol: protocolOf(p)})
	}
	return all
}

// protocols are the words that say how the bytes of a port are understood, Kubernetes' own among them. As in Istio, gRPC-Web is HTTP, and TLS that the application itself speaks is carried as it is.
var protocols = map[string]mesh.Protocol{
	"http": mesh.HTTP, "http2": mesh.HTTP2, "grpc": mesh.GRPC, "grpc-web": mesh.HTTP, "https": mesh.TLS, "tls": mesh.TLS,
	"kubernetes.io/ws": mesh.HTTP, "kubernetes.io/wss": mesh.TLS, "kubernetes.io/h2c": mesh.HTTP2,
}

// protocolOf says how the bytes of a port are understood, by Istio's rule: by appProtocol, else by the port's name up to its first hyphen. What is not known is carried as bytes.
func protocolOf(p corev1.ServicePort) mesh.Protocol {
	word := strings.ToLower(p.Name)
	if p.AppProtocol != nil {
		word = strings.ToLower(*p.AppProtocol)
	}
	if web := "grpc-web"; strings.HasPrefix(word, web) {
		word = web
	}
	if protocols[word] == "" {
		word, _, _ = strings.Cut(word, "-")
	}
	return cmp.Or(protocols[word], mesh.TCP)
}

// addresses are the virtual IPs of a Service; a headless one has none.
func (b *builder) addresses(o *corev1.Service) (all []string) {
	given := o.Spec.ClusterIPs
	if len(given) == 0 {
		given = []string{o.Spec.ClusterIP}
	}
	for _, text := range given {
		if text == "" || text == corev1.ClusterIPNone {
			continue
		}
		if _, err := netip.ParseAddr(text); err != nil {
			b.problem(describe("Service", o), fmt.Sprintf("%q is no address", text))
			continue
		}
		all = append(all, text)
	}
	return all
}
