package telemetry

import (
	"cmp"
	"net/netip"
	"strconv"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/jsontext"
)

// ProtocolNameTCP is the Protocol of a TCP connection's [Access].
const ProtocolNameTCP = "TCP"

// Access is one request for the log, or one connection of TCP: that has no method, path, authority, status or user agent. Strings are only read during the call, and empty ones are logged as null.
// Fields are logged under the names that Istio gives them, and what Istio does not log under Envoy's, or ours: attempts, version, generation.
type Access struct {
	Start        time.Time // wall time of the first byte
	Method       string
	Path         string // with the query, as sent
	Protocol     string // HTTP/1.1, HTTP/2 or ProtocolNameTCP
	Status       int    // response_code; 0: none
	GRPCStatus   string // grpc_status_number; empty: no gRPC, or none came
	Flags        string // response_flags; empty: "-"
	Reason       string // response_code_details, of x-meshtest-reason; empty: "via_upstream" when a status came, as in Envoy
	Termination  string // connection_termination_details: why a connection of TCP ended that could have gone on, or did not begin
	Unreached    error  // upstream_transport_failure_reason: why the last attempt found no connection
	Received     int64  // bytes of the request's body
	Sent         int64  // bytes of the response's body
	Duration     time.Duration
	UpstreamTime time.Duration // upstream_service_time: from the request's sending to the answer's head; below 0: there was none
	ForwardedFor string
	UserAgent    string
	Key          string // request_id
	Authority    string
	Upstream     string         // upstream_host: the address that was asked last
	UpstreamFrom netip.AddrPort // upstream_local_address: our end of that connection
	Cluster      string         // upstream_cluster, as Istio names clusters: outbound|PORT|SUBSET|HOST, inbound|PORT||
	Route        string         // route_name
	ServerName   string         // requested_server_name, of TLS
	Downstream   netip.AddrPort
	Local        netip.AddrPort // where the caller connected to
	TraceID      string
	Attempts     int
	Version      string // of the destination
	Generation   mesh.Generation
}

// append writes the line. Times are RFC 3339 in UTC, durations milliseconds.
func (a *Access) append(b []byte) []byte {
	b = append(b, `{"start_time":"`...)
	b = a.Start.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	b = appendText(b, "method", a.Method)
	b = appendText(b, "path", a.Path)
	b = appendText(b, "protocol", a.Protocol)
	b = jsontext.AppendInt(b, "response_code", int64(a.Status))
	b = appendText(b, "grpc_status_number", a.GRPCStatus)
	b = appendText(b, "response_flags", cmp.Or(a.Flags, "-"))
	b = appendText(b, "response_code_details", a.details())
	b = appendText(b, "connection_termination_details", a.Termination)
	b = appendText(b, "upstream_transport_failure_reason", a.failure())
	b = jsontext.AppendInt(b, "bytes_received", a.Received)
	b = jsontext.AppendInt(b, "bytes_sent", a.Sent)
	b = appendMillis(b, "duration", a.Duration)
	b = appendMillis(b, "upstream_service_time", a.UpstreamTime)
	b = appendText(b, "x_forwarded_for", a.ForwardedFor)
	b = appendText(b, "user_agent", a.UserAgent)
	b = appendText(b, "request_id", a.Key)
	b = appendText(b, "authority", a.Authority)
	b = appendText(b, "upstream_host", a.Upstream)
	b = appendText(b, "upstream_cluster", a.Cluster)
	b = appendAddr(b, "upstream_local_address", a.UpstreamFrom)
	b = appendText(b, "route_name", a.Route)
	b = appendText(b, "requested_server_name", a.ServerName)
	b = appendAddr(b, "downstream_remote_address", a.Downstream)
	b = appendAddr(b, "downstream_local_address", a.Local)
	b = appendText(b, "trace_id", a.TraceID)
	b = jsontext.AppendInt(b, "attempts", int64(a.Attempts))
	b = appendText(b, "version", a.Version)
	b = append(b, `,"generation":"`...)
	b = strconv.AppendUint(b, a.Generation.Epoch, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, a.Generation.Counter, 10)
	return append(b, "\"}\n"...)
}

func (a *Access) details() string {
	if a.Reason == "" && a.Status != 0 {
		return "via_upstream"
	}
	return a.Reason
}

func (a *Access) failure() string {
	if a.Unreached == nil {
		return ""
	}
	return a.Unreached.Error()
}

// appendText writes a string, null when it is empty.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return appendNull(b, name)
	}
	return jsontext.AppendText(b, name, value)
}

// appendMillis writes milliseconds, null when they are below 0.
func appendMillis(b []byte, name string, d time.Duration) []byte {
	if d < 0 {
		return appendNull(b, name)
	}
	return strconv.AppendFloat(jsontext.AppendName(b, name), float64(d.Microseconds())/1000, 'f', -1, 64)
}

func appendAddr(b []byte, name string, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return appendNull(b, name)
	}
	return append(a.AppendTo(append(jsontext.AppendName(b, name), '"')), '"')
}

func appendNull(b []byte, name string) []byte { return append(jsontext.AppendName(b, name), "null"...) }
