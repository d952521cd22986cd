package proxy

import (
	"fmt"
	"net"
	"strconv"
	"sync"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/upstream"
)

// records are the recorders of evidence for one destination of one rule, by version. Where the split names the version there is one; where it is the endpoint's there are as many as
// the endpoints have versions.
type records struct {
	evidence *telemetry.Evidence
	cell     telemetry.Cell

	mu        sync.RWMutex
	byVersion map[string]*telemetry.Recorder
}

func (s *Server) newRecords(edge mesh.Edge, route string, share float64) *records {
	return &records{
		evidence: s.opts.Evidence, cell: telemetry.Cell{Edge: edge, Route: route, Share: share},
	}
}

// of gives the recorder of a version; nil when no evidence is kept. The version is of the configuration, so it may be kept.
func (r *records) of(version string) *telemetry.Recorder {
	if r.evidence == nil {
		return nil
	}
	r.mu.RLock()
	had := r.byVersion[version]
	r.mu.RUnlock()
	if had != nil {
		return had
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if had := r.byVersion[version]; had != nil {
		return had
	}
	cell := r.cell
	cell.Version = version
	made := r.evidence.Recorder(cell)
	if r.byVersion == nil {
		r.byVersion = map[string]*telemetry.Recorder{}
	}
	r.byVersion[version] = made
	return made
}

// kindOf is which of the kinds of requests it is that metrics tell apart by a label.
func kindOf(grpc bool) (index int, protocol string) {
	if grpc {
		return 1, telemetry.ProtocolGRPC
	}
	return 0, telemetry.ProtocolHTTP
}

// requestsTo gives the metrics of the requests from this workload to an endpoint of a host; e may be nil.
func (s *Server) requestsTo(g *group, host string, caller *mesh.Workload, e *upstream.Endpoint, grpc bool) telemetry.Requests {
	kind, protocol := kindOf(grpc)
	slot := &g.nobody[kind]
	if e != nil {
		slot = &g.metrics[e.Index][kind]
	}
	if had := slot.Load(); had != nil {
		return *had
	}
	t := telemetry.Traffic{Reporter: telemetry.Source, Source: telemetry.PeerOf(*caller), Host: host, Protocol: protocol}
	if e != nil {
		t.Destination = telemetry.PeerOfEndpoint(host, &e.Endpoint)
	}
	made := s.opts.Metrics.Requests(t)
	slot.Store(&made)
	return made
}

// newReceivers resolves the metrics of the requests to this workload, by kind.
func (s *Server) newReceivers(host string, own *mesh.Workload) (r [numKinds]*telemetry.Receiver) {
	for _, grpc := range []bool{false, true} {
		kind, protocol := kindOf(grpc)
		r[kind] = s.opts.Metrics.Receiver(telemetry.Traffic{
			Reporter: telemetry.Destination, Destination: telemetry.PeerOf(*own), Host: host, Protocol: protocol, Security: telemetry.Plaintext,
		})
	}
	return r
}

// appEndpoint is the application that a sidecar stands beside, as an endpoint.
func appEndpoint(w mesh.Workload, address string) (mesh.Endpoint, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return mesh.Endpoint{}, fmt.Errorf("address of the application: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return mesh.Endpoint{}, fmt.Errorf("address of the application: %q has no port", address)
	}
	return mesh.Endpoint{Address: host, Port: int(port), Workload: w.Name, Instance: w.Instance, Identity: w.Identity, Labels: w.Labels}, nil
}
