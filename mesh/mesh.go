// Package mesh holds the shared words of the story: what a service, an endpoint, a route, a fault and a piece of
// evidence are. Everybody speaks them and nobody acts here: the package is data and pure functions, standard library only.
//
// A [Snapshot] is the one intermediate representation between what users write (Istio's and the Gateway API's
// objects, compiled by mesh/istio and its siblings) and what sidecars do. It stays close to the users' objects, so that a
// change of one weight is a change of one small resource.
package mesh

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// ClusterDomain is the suffix of every fully qualified service name, as in Kubernetes.
const ClusterDomain = "svc.cluster.local"

// DefaultNamespace is where a scenario's services live unless it says otherwise.
const DefaultNamespace = "default"

// FQDN returns the fully qualified host of a service: name.namespace.svc.cluster.local.
func FQDN(name, namespace string) string { return name + "." + namespace + "." + ClusterDomain }

// Resolve qualifies a host as a document in the namespace would: a name without a dot is a service of that
// namespace, NAME.NAMESPACE.svc is completed, and anything else is taken as it is.
func Resolve(host, namespace string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	switch parts := strings.Split(host, "."); {
	case len(parts) == 1:
		return FQDN(host, namespace)
	case len(parts) == 3 && parts[2] == "svc":
		return FQDN(parts[0], parts[1])
	default:
		return host
	}
}

// Meanings are the hosts that a document in the namespace can mean by a name, the likeliest first: what [Resolve] makes of it, and of NAME.NAMESPACE, unless something outside the mesh is called so,
// that service.
func Meanings(name, namespace string) []string {
	hosts := []string{Resolve(name, namespace)}
	if short, other, ok := strings.Cut(strings.ToLower(name), "."); ok {
		hosts = append(hosts, FQDN(short, other))
	}
	return hosts
}

// ShortName returns the service's name and namespace out of a host that FQDN made; ok is false for any other host.
func ShortName(host string) (name, namespace string, ok bool) {
	rest, found := strings.CutSuffix(host, "."+ClusterDomain)
	if !found {
		return host, "", false
	}
	name, namespace, ok = strings.Cut(rest, ".")
	return name, namespace, ok
}

// Aliases are the authorities under which a caller in the given namespace may name the host: the short name in its own
// namespace, name.namespace, name.namespace.svc and the full name. A host outside the mesh has only its own name.
func Aliases(host, callerNamespace string) []string {
	name, namespace, ok := ShortName(host)
	if !ok {
		return []string{host}
	}
	short := len(name) + len(".") + len(namespace)
	aliases := []string{host, host[:short+len(".svc")], host[:short]} // no strings of their own: there are thousands of hosts
	if namespace == callerNamespace {
		aliases = append(aliases, name)
	}
	return aliases
}

// HostPort names a port of a service; it is the resource name of [Endpoints] and [RouteTable]: "host:port".
func HostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// WorkloadName is the name of one version of a service: NAME-VERSION.
func WorkloadName(service, version string) string { return service + "-" + version }

// Edge is one caller-to-callee relation of the service graph, by short service names qualified with their namespace when it is not
// the default one. Evidence, faults and chance are keyed by edges, so that they mean the same in every environment.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// String returns "from->to". The form is part of the published chance vectors and must not change.
func (e Edge) String() string { return e.From + "->" + e.To }

// LogicalName is the name by which an edge, a label or a report refers to a host: the short name, with ".namespace" appended outside
// the default namespace, and the host itself when it is not of the mesh.
func LogicalName(host string) string {
	name, namespace, ok := ShortName(host)
	switch {
	case !ok:
		return host
	case namespace == DefaultNamespace:
		return name
	default:
		return name + "." + namespace
	}
}

// Protocol says how the bytes of a port are understood.
type Protocol string

// Protocols, by Kubernetes' appProtocol words.
const (
	HTTP  Protocol = "http"
	HTTP2 Protocol = "http2" // without TLS, by prior knowledge
	GRPC  Protocol = "grpc"  // HTTP/2 too
	TLS   Protocol = "tls"   // carried as it is, by its server name
	TCP   Protocol = "tcp"
)

// IsHTTP reports whether requests are understood. The empty protocol is HTTP.
func (p Protocol) IsHTTP() bool { return p == "" || p == HTTP || p.IsHTTP2() }

// IsHTTP2 reports whether HTTP/2 is spoken.
func (p Protocol) IsHTTP2() bool { return p == HTTP2 || p == GRPC }

// Labels are the labels of a workload; App and Version are the ones the mesh itself reads.
type Labels map[string]string

// Well-known label names.
const (
	LabelApp     = "app"
	LabelVersion = "version"
)

// Match reports whether every wanted label is present with that value.
func (l Labels) Match(want Labels) bool {
	for k, v := range want {
		if got, ok := l[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Workload identifies one instance that a sidecar stands beside.
type Workload struct {
	Name      string `json:"name"`      // NAME-VERSION, or a role such as "edge"
	Namespace string `json:"namespace"` // logical
	Service   string `json:"service"`   // short name of the service that it belongs to; empty for an edge
	Version   string `json:"version"`
	Instance  string `json:"instance"` // unique in the run: NAME-VERSION-N, or POD.NAMESPACE in a cluster
	Identity  string `json:"identity"` // SPIFFE ID
	Labels    Labels `json:"labels,omitempty"`
}

// SPIFFE returns the identity of a service account: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT.
func SPIFFE(trustDomain, namespace, account string) string {
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", trustDomain, namespace, account)
}
