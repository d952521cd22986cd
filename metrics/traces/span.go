// Package traces remembers what sidecars tell of single requests: spans, in Zipkin's format, version 2. A [Collector] takes them like Zipkin itself and answers Zipkin's queries; [Assemble] makes
// trees of them, in which retries are seen as attempts of one call and parallel calls beside serial ones.
package traces

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Kind is the side of an operation that a span is about.
type Kind string

// Kinds.
const (
	Client   Kind = "CLIENT"
	Server   Kind = "SERVER"
	Producer Kind = "PRODUCER"
	Consumer Kind = "CONSUMER"
)

// Span is one operation of a trace, as Zipkin's API has it (zipkin-api, zipkin2-api.yaml).
type Span struct {
	TraceID        string            `json:"traceId"` // 16 or 32 hexadecimal digits
	ID             string            `json:"id"`      // 16
	ParentID       string            `json:"parentId,omitempty"`
	Name           string            `json:"name,omitempty"`
	Kind           Kind              `json:"kind,omitempty"`
	Timestamp      int64             `json:"timestamp,omitempty"` // microseconds since 1970
	Duration       int64             `json:"duration,omitempty"`  // microseconds
	Debug          bool              `json:"debug,omitempty"`
	Shared         bool              `json:"shared,omitempty"` // a server's span that has the id of the client's
	LocalEndpoint  *Endpoint         `json:"localEndpoint,omitempty"`
	RemoteEndpoint *Endpoint         `json:"remoteEndpoint,omitempty"`
	Annotations    []Annotation      `json:"annotations,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
}

// Endpoint is one end of an operation.
type Endpoint struct {
	ServiceName string `json:"serviceName,omitempty"`
	IPv4        string `json:"ipv4,omitempty"`
	IPv6        string `json:"ipv6,omitempty"`
	Port        int    `json:"port,omitempty"`
}

// Annotation is something that happened at a moment.
type Annotation struct {
	Timestamp int64  `json:"timestamp"`
	Value     string `json:"value"`
}

// Names of tags that have a meaning here. They are Envoy's.
const (
	TagRetryCount = "retry.count" // attempts that went before this one; absent: none
	TagError      = "error"       // its presence says that the operation failed
	TagStatus     = "http.status_code"
	TagRequestID  = "guid:x-request-id"
)

// Start is when the operation began, since 1970.
func (s *Span) Start() time.Duration { return time.Duration(s.Timestamp) * time.Microsecond }

// End is when it ended.
func (s *Span) End() time.Duration { return s.Start() + s.Took() }

// Took is how long the operation took.
func (s *Span) Took() time.Duration { return time.Duration(s.Duration) * time.Microsecond }

// Failed reports whether the operation failed.
func (s *Span) Failed() bool { _, failed := s.Tags[TagError]; return failed }

// Service is the name of the service that tells the span; empty when that is not known.
func (s *Span) Service() string { return s.LocalEndpoint.name() }

// Remote is the name of the service at the other end; empty when that is not known.
func (s *Span) Remote() string { return s.RemoteEndpoint.name() }

func (e *Endpoint) name() string {
	if e == nil {
		return ""
	}
	return e.ServiceName
}

// Decode reads a list of spans and is strict: what Zipkin's API does not name, or what is not of the form that it demands, is an error that says which span and why. Names have to be in lower case.
func Decode(text []byte) ([]Span, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var spans []Span
	if err := dec.Decode(&spans); err != nil {
		return nil, fmt.Errorf("reading spans: %w", err)
	}
	if dec.More() {
		return nil, errors.New("reading spans: there is something behind the list")
	}
	for i := range spans {
		if err := spans[i].validate(); err != nil {
			return nil, fmt.Errorf("span %d: %w", i, err)
		}
	}
	return spans, nil
}

var (
	traceID = regexp.MustCompile(`^([0-9a-f]{16}){1,2}$`)
	spanID  = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

func isZero(id string) bool { return strings.Trim(id, "0") == "" }

func (s *Span) validate() error {
	switch {
	case !traceID.MatchString(s.TraceID) || isZero(s.TraceID):
		return fmt.Errorf("traceId %q is not 16 or 32 hexadecimal digits in lower case, of which one is not 0", s.TraceID)
	case !spanID.MatchString(s.ID) || isZero(s.ID):
		return fmt.Errorf("id %q is not 16 hexadecimal digits in lower case, of which one is not 0", s.ID)
	case s.ParentID != "" && (!spanID.MatchString(s.ParentID) || isZero(s.ParentID)):
		return fmt.Errorf("parentId %q is not 16 hexadecimal digits in lower case, of which one is not 0", s.ParentID)
	case s.ParentID == s.ID:
		return errors.New("the span is its own parent")
	case !slices.Contains([]Kind{"", Client, Server, Producer, Consumer}, s.Kind):
		return fmt.Errorf("kind %q is not known", s.Kind)
	case s.Timestamp < 0 || s.Duration < 0:
		return errors.New("timestamp or duration is negative")
	case s.Shared && s.Kind != Server:
		return errors.New("shared is said of a span that is no server's")
	case s.Name != strings.ToLower(s.Name):
		return fmt.Errorf("name %q is not in lower case", s.Name)
	}
	for _, a := range s.Annotations {
		if a.Timestamp <= 0 {
			return fmt.Errorf("annotation %q has no timestamp", a.Value)
		}
	}
	if err := s.LocalEndpoint.validate(); err != nil {
		return fmt.Errorf("localEndpoint: %w", err)
	}
	if err := s.RemoteEndpoint.validate(); err != nil {
		return fmt.Errorf("remoteEndpoint: %w", err)
	}
	return nil
}

func (e *Endpoint) validate() error {
	if e == nil {
		return nil
	}
	v4, err4 := netip.ParseAddr(e.IPv4)
	v6, err6 := netip.ParseAddr(e.IPv6)
	switch {
	case e.ServiceName != strings.ToLower(e.ServiceName):
		return fmt.Errorf("serviceName %q is not in lower case", e.ServiceName)
	case e.IPv4 != "" && (err4 != nil || !v4.Is4()):
		return fmt.Errorf("ipv4 %q is none", e.IPv4)
	case e.IPv6 != "" && (err6 != nil || !v6.Is6() || v6.Is4In6() || v6.Zone() != ""):
		return fmt.Errorf("ipv6 %q is none", e.IPv6)
	case e.Port < 0 || e.Port > 65535:
		return fmt.Errorf("port %d is none", e.Port)
	default:
		return nil
	}
}
