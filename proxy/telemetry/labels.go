package telemetry

import (
	"cmp"
	"strconv"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// Reporter says from which end of an edge a metric is told.
type Reporter string

// Reporters, in Istio's words.
const (
	Source      Reporter = "source"
	Destination Reporter = "destination"
)

// Protocols, as the label request_protocol has them.
const (
	ProtocolHTTP = "http"
	ProtocolGRPC = "grpc"
	ProtocolTCP  = "tcp"
)

// Security is the label connection_security_policy: what the destination's sidecar saw. A source always reports unknown, as in Istio.
type Security string

// Security policies.
const (
	MutualTLS Security = "mutual_tls"
	Plaintext Security = "none"
)

// Unknown is the value of a label about which nothing is known.
const Unknown = "unknown"

// latest is the canonical revision of whoever does not say which one he is.
const latest = "latest"

// Peer is one end of an edge, as labels tell it. An empty field is reported as unknown.
type Peer struct {
	Workload          string // NAME-VERSION
	Namespace         string // logical
	Principal         string // SPIFFE ID that was proven by mutual TLS
	App               string
	Version           string
	CanonicalService  string
	CanonicalRevision string
	Cluster           string
}

// PeerOf is a workload of the mesh. Its principal stays empty: set it when the peer has proven it.
func PeerOf(w mesh.Workload) Peer { return peer(w.Name, w.Namespace, w.Labels) }

// PeerOfEndpoint is the workload behind an endpoint of a host. Its principal stays empty: set it when the peer has proven it.
func PeerOfEndpoint(host string, e *mesh.Endpoint) Peer {
	_, namespace, _ := mesh.ShortName(host)
	p := peer(e.Workload, namespace, e.Labels)
	p.Cluster = e.Cluster
	return p
}

// peer derives the canonical service and revision as Istio does (pkg/model/xds metadata): labels of Istio, of Kubernetes, the short ones, then the workload's name and "latest".
func peer(workload, namespace string, labels mesh.Labels) Peer {
	p := Peer{Workload: workload, Namespace: namespace, App: labels[mesh.LabelApp], Version: labels[mesh.LabelVersion]}
	if workload == "" {
		return p
	}
	p.CanonicalService = cmp.Or(labels["service.istio.io/canonical-name"], labels["app.kubernetes.io/name"], p.App, workload)
	p.CanonicalRevision = cmp.Or(labels["service.istio.io/canonical-revision"], labels["app.kubernetes.io/version"], p.Version, latest)
	return p
}

// Traffic is one kind of traffic: everything that labels tell and that does not change from request to request.
type Traffic struct {
	Reporter    Reporter
	Source      Peer
	Destination Peer
	Host        string   // fully qualified host that was called; destination_service and its parts come from it
	Protocol    string   // http, grpc or tcp; empty: http, or tcp for connections
	Security    Security // empty: unknown
}

// label is one label of an exposed series.
type label struct{ name, value string }

// labels lists Istio's standard labels in their order, without those that differ from request to request.
func (t *Traffic) labels() []label {
	s, d := &t.Source, &t.Destination
	service, namespace := t.Host, d.Namespace
	if name, ns, ok := mesh.ShortName(t.Host); ok {
		service, namespace = name, ns
	}
	return []label{
		{"reporter", string(t.Reporter)},
		{"source_workload", s.Workload},
		{"source_canonical_service", s.CanonicalService},
		{"source_canonical_revision", s.CanonicalRevision},
		{"source_workload_namespace", s.Namespace},
		{"source_principal", s.Principal},
		{"source_app", s.App},
		{"source_version", s.Version},
		{"source_cluster", s.Cluster},
		{"destination_workload", d.Workload},
		{"destination_workload_namespace", d.Namespace},
		{"destination_principal", d.Principal},
		{"destination_app", d.App},
		{"destination_version", d.Version},
		{"destination_service", t.Host},
		{"destination_canonical_service", d.CanonicalService},
		{"destination_canonical_revision", d.CanonicalRevision},
		{"destination_service_name", service},
		{"destination_service_namespace", namespace},
		{"destination_cluster", d.Cluster},
		{"request_protocol", t.Protocol},
		{"connection_security_policy", string(t.Security)},
	}
}

// render writes the labels that all series of the traffic have.
func (t *Traffic) render() string { return renderLabels(t.labels()) }

// appendLabel writes name="value", with the three escapes of the text format. What is not UTF-8 would cost the whole exposition, and is replaced.
func appendLabel(b []byte, name, value string) []byte {
	value = strings.ToValidUTF8(value, "\ufffd")
	b = append(b, name...)
	b = append(b, '=', '"')
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\', '"':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// variable writes the labels that differ from request to request.
func (k outcomeKey) variable(flags func(uint32) string, grpc bool) string {
	b := appendLabel(nil, "response_code", strconv.Itoa(int(k.code)))
	status := ""
	if grpc && k.grpc >= 0 {
		status = strconv.Itoa(int(k.grpc))
	}
	b = append(b, ',')
	b = appendLabel(b, "grpc_response_status", status)
	b = append(b, ',')
	b = appendLabel(b, "response_flags", flags(k.flags))
	return string(b)
}
