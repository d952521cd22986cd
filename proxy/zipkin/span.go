package zipkin

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"meshtest.dev/meshtest/proxy/jsontext"
)

// TraceID identifies a trace: 128 bits, or 64 when the first half is 0. It is never all 0.
type TraceID struct{ High, Low uint64 }

// ID identifies a span within its trace. It is never 0.
type ID uint64

// ParseTraceID reads 16 or 32 hexadecimal digits, as B3 and W3C headers have them.
func ParseTraceID(text []byte) (id TraceID, ok bool) {
	var raw [16]byte
	switch len(text) {
	case 16, 32:
		_, err := hex.Decode(raw[16-len(text)/2:], text)
		id = TraceID{binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])}
		return id, err == nil && id != TraceID{}
	default:
		return TraceID{}, false
	}
}

// String gives 32 hexadecimal digits.
func (t TraceID) String() string { return string(appendHex(appendHex(nil, t.High), t.Low)) }

// ParseID reads 16 hexadecimal digits.
func ParseID(text []byte) (id ID, ok bool) {
	var raw [8]byte
	if len(text) != 16 {
		return 0, false
	}
	_, err := hex.Decode(raw[:], text)
	id = ID(binary.BigEndian.Uint64(raw[:]))
	return id, err == nil && id != 0
}

// Kind is the side of a request that a span is about.
type Kind uint8

// Kinds. The other ones of Zipkin are of messaging.
const (
	Client Kind = iota + 1 // from sending the request to having the answer
	Server                 // from having the request to having sent the answer
)

// Endpoint is one end of a request.
type Endpoint struct {
	Service string // of the workload, such as web.default
	Addr    netip.AddrPort
}

// Annotation is something that happened during a span.
type Annotation struct {
	At    time.Time
	Value string
}

// Span is one operation of a trace. Tags have Envoy's names, so that what reads Envoy's spans reads these.
type Span struct {
	Trace    TraceID
	ID       ID
	Parent   ID // 0: none
	Kind     Kind
	Name     string
	Start    time.Time // wall time
	Duration time.Duration
	Remote   Endpoint // the other end
	Shared   bool     // a server's span that has the id of the client's
	Debug    bool     // to be kept whatever the sampling says

	Method     string // tag http.method
	Path       string // http.path; without the query, which may hold secrets; cut to 256 bytes
	Status     int    // http.status_code; 0: there was none
	GRPCStatus string // grpc.status_code; empty: no gRPC
	Flags      string // response_flags
	Cluster    string // upstream_cluster
	RequestID  string // guid:x-request-id
	Reason     string // meshtest.reason: why the mesh itself answered
	Error      string // error: "true", or what went wrong; empty: nothing
	Attempt    int    // from 1, of an attempt's span; beyond 1 retry.count tells how many went before

	Annotations []Annotation // at most 8 are kept
}

// Bounds of a span.
const (
	maxText        = 256 // of any text, in bytes: Envoy's max_path_tag_length
	maxAnnotations = 8
)

// valid reports whether Zipkin would take the span.
func (s *Span) valid() bool {
	return s.Trace != TraceID{} && s.ID != 0 && (s.Kind == Client || s.Kind == Server) && s.Start.UnixMicro() > 0
}

// texts calls do with each text of the span.
func (s *Span) texts(do func(*string)) {
	do(&s.Name)
	do(&s.Remote.Service)
	do(&s.Method)
	do(&s.Path)
	do(&s.GRPCStatus)
	do(&s.Flags)
	do(&s.Cluster)
	do(&s.RequestID)
	do(&s.Reason)
	do(&s.Error)
}

// append appends the span as Zipkin's JSON (zipkin-api, zipkin2-api.yaml). Names are in lower case there.
func (s *Span) append(b []byte, local Endpoint) []byte {
	b = append(b, `{"traceId":"`...)
	if s.Trace.High != 0 {
		b = appendHex(b, s.Trace.High)
	}
	b = appendHex(b, s.Trace.Low)
	b = append(b, `","id":"`...)
	b = appendHex(b, uint64(s.ID))
	b = append(b, '"')
	if s.Parent != 0 && s.Parent != s.ID {
		b = append(b, `,"parentId":"`...)
		b = appendHex(b, uint64(s.Parent))
		b = append(b, '"')
	}
	if s.Kind == Client {
		b = append(b, `,"kind":"CLIENT"`...)
	} else {
		b = append(b, `,"kind":"SERVER"`...)
	}
	if s.Name != "" {
		b = jsontext.AppendText(b, "name", strings.ToLower(s.Name))
	}
	b = jsontext.AppendInt(b, "timestamp", s.Start.UnixMicro())
	b = jsontext.AppendInt(b, "duration", max(s.Duration.Microseconds(), 1))
	b = appendEndpoint(b, "localEndpoint", local)
	b = appendEndpoint(b, "remoteEndpoint", s.Remote)
	if s.Debug {
		b = append(b, `,"debug":true`...)
	}
	if s.Shared {
		b = append(b, `,"shared":true`...)
	}
	b = s.appendAnnotations(b)
	return append(s.appendTags(b), '}')
}

func (s *Span) appendAnnotations(b []byte) []byte {
	for i, a := range s.Annotations {
		if i == 0 {
			b = append(b, `,"annotations":[`...)
		} else {
			b = append(b, ',')
		}
		b = jsontext.AppendInt(append(b, '{'), "timestamp", a.At.UnixMicro())
		b = append(jsontext.AppendText(b, "value", a.Value), '}')
	}
	if len(s.Annotations) > 0 {
		b = append(b, ']')
	}
	return b
}

func (s *Span) appendTags(b []byte) []byte {
	b = append(b, `,"tags":{"component":"proxy"`...)
	tag := func(name, value string) {
		if value != "" {
			b = jsontext.AppendText(b, name, value)
		}
	}
	number := func(name string, n int) {
		if n > 0 {
			b = append(jsontext.AppendName(b, name), '"')
			b = append(strconv.AppendInt(b, int64(n), 10), '"')
		}
	}
	tag("http.method", s.Method)
	tag("http.path", s.Path)
	number("http.status_code", s.Status)
	tag("grpc.status_code", s.GRPCStatus)
	tag("response_flags", s.Flags)
	tag("upstream_cluster", s.Cluster)
	tag("guid:x-request-id", s.RequestID)
	tag("meshtest.reason", s.Reason)
	tag("error", s.Error)
	number("retry.count", s.Attempt-1)
	return append(b, '}')
}

// appendEndpoint appends an end of which something is known.
func appendEndpoint(b []byte, name string, e Endpoint) []byte {
	addr := e.Addr.Addr().Unmap()
	if e.Service == "" && !addr.IsValid() {
		return b
	}
	b = append(jsontext.AppendName(b, name), '{')
	if e.Service != "" {
		b = jsontext.AppendText(b, "serviceName", strings.ToLower(e.Service))
	}
	if addr.IsValid() {
		key := "ipv6"
		if addr.Is4() {
			key = "ipv4"
		}
		b = append(jsontext.AppendName(b, key), '"')
		b = append(addr.WithZone("").AppendTo(b), '"')
	}
	if p := e.Addr.Port(); p != 0 {
		b = jsontext.AppendInt(b, "port", int64(p))
	}
	return append(b, '}')
}

// appendHex appends 16 digits.
func appendHex(b []byte, n uint64) []byte {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], n)
	return hex.AppendEncode(b, raw[:])
}
