package http1

import "strings"

// Known is the number of a header name that the proxy gives a meaning to, recognised while parsing; 0 is any other name.
type Known uint8

// The known names. Those that end in Other are families: every name with the prefix that has no number of its own.
const (
	Unknown Known = iota
	// Framing and connection management.
	Host
	ContentLength
	TransferEncoding
	Connection
	KeepAlive
	ProxyConnection
	ProxyAuthenticate
	ProxyAuthorization
	TE
	Trailer
	Upgrade
	HTTP2Settings
	Expect
	// Content, credentials and control data.
	ContentType
	ContentEncoding
	ContentRange
	ContentLocation
	Authorization
	WWWAuthenticate
	Cookie
	SetCookie
	UserAgent
	Server
	Date
	Via
	Location
	RetryAfter
	CacheControl
	Pragma
	MaxForwards
	Range
	IfMatch
	IfNoneMatch
	IfModifiedSince
	IfUnmodifiedSince
	IfRange
	Age
	Expires
	Vary
	// Identity and tracing of a request.
	XRequestID
	Traceparent
	Tracestate
	Baggage
	B3
	XB3TraceID
	XB3SpanID
	XB3ParentSpanID
	XB3Sampled
	XB3Flags
	// Where a request came from.
	Forwarded
	XRealIP
	XForwardedFor
	XForwardedProto
	XForwardedHost
	XForwardedPort
	XForwardedClientCert
	XForwardedOther // x-forwarded-*
	// gRPC.
	GRPCTimeout
	GRPCEncoding
	GRPCAcceptEncoding
	GRPCStatus
	GRPCMessage
	GRPCStatusDetailsBin
	// Envoy's request controls, and what it reports.
	XEnvoyMaxRetries
	XEnvoyRetryOn
	XEnvoyRetryGRPCOn
	XEnvoyRetriableStatusCodes
	XEnvoyRetriableHeaderNames
	XEnvoyHedgeOnPerTryTimeout
	XEnvoyUpstreamRqTimeoutMs
	XEnvoyUpstreamRqPerTryTimeoutMs
	XEnvoyExpectedRqTimeoutMs
	XEnvoyAttemptCount
	XEnvoyIsTimeoutRetry
	XEnvoyUpstreamServiceTime
	XEnvoyOverloaded
	XEnvoyFaultOther // x-envoy-fault-*
	XEnvoyOther      // x-envoy-*
	// The mesh's own.
	XMeshtestReason
	XMeshtestToken
	XMeshtestConfig
	XMeshtestPeer
	XMeshtestOther // x-meshtest-*
	numKnown
)

// String gives the name in lower case; that of a family is its prefix and "*"; "" for Unknown.
func (k Known) String() string { return knownNames[k] }

var knownNames = [numKnown]string{
	Host: "host", ContentLength: "content-length", TransferEncoding: "transfer-encoding", Connection: "connection", KeepAlive: "keep-alive",
	ProxyConnection: "proxy-connection", ProxyAuthenticate: "proxy-authenticate", ProxyAuthorization: "proxy-authorization", TE: "te",
	Trailer: "trailer", Upgrade: "upgrade", HTTP2Settings: "http2-settings", Expect: "expect",
	ContentType: "content-type", ContentEncoding: "content-encoding", ContentRange: "content-range", ContentLocation: "content-location",
	Authorization: "authorization", WWWAuthenticate: "www-authenticate", Cookie: "cookie", SetCookie: "set-cookie", UserAgent: "user-agent",
	Server: "server", Date: "date", Via: "via", Location: "location", RetryAfter: "retry-after", CacheControl: "cache-control", Pragma: "pragma",
	MaxForwards: "max-forwards", Range: "range", IfMatch: "if-match", IfNoneMatch: "if-none-match", IfModifiedSince: "if-modified-since",
	IfUnmodifiedSince: "if-unmodified-since", IfRange: "if-range", Age: "age", Expires: "expires", Vary: "vary",
	XRequestID: "x-request-id", Traceparent: "traceparent", Tracestate: "tracestate", Baggage: "baggage", B3: "b3", XB3TraceID: "x-b3-traceid",
	XB3SpanID: "x-b3-spanid", XB3ParentSpanID: "x-b3-parentspanid", XB3Sampled: "x-b3-sampled", XB3Flags: "x-b3-flags",
	Forwarded: "forwarded", XRealIP: "x-real-ip", XForwardedFor: "x-forwarded-for", XForwardedProto: "x-forwarded-proto",
	XForwardedHost: "x-forwarded-host", XForwardedPort: "x-forwarded-port", XForwardedClientCert: "x-forwarded-client-cert",
	XForwardedOther: "x-forwarded-*",
	GRPCTimeout:     "grpc-timeout", GRPCEncoding: "grpc-encoding", GRPCAcceptEncoding: "grpc-accept-encoding", GRPCStatus: "grpc-status",
	GRPCMessage: "grpc-message", GRPCStatusDetailsBin: "grpc-status-details-bin",
	XEnvoyMaxRetries: "x-envoy-max-retries", XEnvoyRetryOn: "x-envoy-retry-on", XEnvoyRetryGRPCOn: "x-envoy-retry-grpc-on",
	XEnvoyRetriableStatusCodes: "x-envoy-retriable-status-codes", XEnvoyRetriableHeaderNames: "x-envoy-retriable-header-names",
	XEnvoyHedgeOnPerTryTimeout: "x-envoy-hedge-on-per-try-timeout", XEnvoyUpstreamRqTimeoutMs: "x-envoy-upstream-rq-timeout-ms",
	XEnvoyUpstreamRqPerTryTimeoutMs: "x-envoy-upstream-rq-per-try-timeout-ms", XEnvoyExpectedRqTimeoutMs: "x-envoy-expected-rq-timeout-ms",
	XEnvoyAttemptCount: "x-envoy-attempt-count", XEnvoyIsTimeoutRetry: "x-envoy-is-timeout-retry",
	XEnvoyUpstreamServiceTime: "x-envoy-upstream-service-time", XEnvoyOverloaded: "x-envoy-overloaded",
	XEnvoyFaultOther: "x-envoy-fault-*", XEnvoyOther: "x-envoy-*",
	XMeshtestReason: "x-meshtest-reason", XMeshtestToken: "x-meshtest-token", XMeshtestConfig: "x-meshtest-config", XMeshtestPeer: "x-meshtest-peer",
	XMeshtestOther: "x-meshtest-*",
}

// families are tried in order on a name that has no number of its own.
var families = [...]struct {
	prefix string
	id     Known
}{
	{"x-forwarded-", XForwardedOther},
	{"x-envoy-fault-", XEnvoyFaultOther},
	{"x-envoy-", XEnvoyOther},
	{"x-meshtest-", XMeshtestOther},
}

// isFamily reports whether the number stands for a prefix.
func (k Known) isFamily() bool {
	return k == XForwardedOther || k == XEnvoyFaultOther || k == XEnvoyOther || k == XMeshtestOther
}

// KnownSet is a set of known names.
type KnownSet = knownSet

// SetOf makes a set.
func SetOf(ids ...Known) KnownSet { return setOf(ids...) }

// knownSet is a set of known names.
type knownSet [2]uint64

func setOf(ids ...Known) (s knownSet) {
	for _, id := range ids {
		s.add(id)
	}
	return s
}

func (s *knownSet) add(id Known)      { s[id>>6] |= 1 << (id & 63) }
func (s *knownSet) addAll(o knownSet) { s[0] |= o[0]; s[1] |= o[1] }
func (s *knownSet) has(id Known) bool { return s[id>>6]&(1<<(id&63)) != 0 }

var (
	// hopByHop fields end at this hop (RFC 9110, 7.6.1; the two of proxy authentication are meant for us or nobody behind us; HTTP2-Settings is RFC 7540's).
	hopByHop = setOf(TransferEncoding, Connection, KeepAlive, ProxyConnection, ProxyAuthenticate, ProxyAuthorization, TE, Upgrade, HTTP2Settings)
	// framing fields are written by this package alone; no Edits reach them.
	framing = setOf(ContentLength, TransferEncoding, Connection, KeepAlive, ProxyConnection, TE, Upgrade, HTTP2Settings)
	// trailerOK are the known fields that may be trailers; RFC 9110, 6.5.1 forbids the others, or the mesh judges them before the body ends.
	trailerOK = setOf(GRPCStatus, GRPCMessage, GRPCStatusDetailsBin)
)

// members are the names that a family's prefix covers, those with a number of their own included.
func (k Known) members() (s knownSet) {
	prefix := strings.TrimSuffix(k.String(), "*")
	for id, name := range knownNames {
		if strings.HasPrefix(name, prefix) {
			s.add(Known(id))
		}
	}
	return s
}

var familyMembers = [numKnown]knownSet{
	XForwardedOther: XForwardedOther.members(), XEnvoyFaultOther: XEnvoyFaultOther.members(), XEnvoyOther: XEnvoyOther.members(), XMeshtestOther: XMeshtestOther.members(),
}

// knownTable is an open hash table over knownNames, so that recognition costs one probe in the common case.
var knownTable = buildKnownTable()

const knownTableSize = 512

func buildKnownTable() (t [knownTableSize]Known) {
	for id := Host; id < numKnown; id++ {
		name := knownNames[id]
		if name[len(name)-1] == '*' {
			continue
		}
		slot := knownHash(name)
		for t[slot] != Unknown {
			slot = (slot + 1) % knownTableSize
		}
		t[slot] = id
	}
	return t
}

// knownHash mixes length and three letters of a name in any case. OR-ing 0x20 folds ASCII letters and keeps digits and the dash.
func knownHash[T string | []byte](name T) int {
	n := len(name)
	first, mid, last := uint32(name[0]|0x20), uint32(name[n/2]|0x20), uint32(name[n-1]|0x20)
	return int((uint32(n)*0x9E3779B1 ^ first*0x85EBCA6B ^ mid*0xC2B2AE35 ^ last*0x27D4EB2F) >> 23)
}

// recognise finds the number of a name, which must be a non-empty token.
func recognise[T string | []byte](name T) Known {
	for slot := knownHash(name); knownTable[slot] != Unknown; slot = (slot + 1) % knownTableSize {
		if id := knownTable[slot]; equalKnown(name, knownNames[id]) {
			return id
		}
	}
	if name[0]|0x20 != 'x' {
		return Unknown
	}
	for i := range families {
		if f := &families[i]; len(name) > len(f.prefix) && equalKnown(name[:len(f.prefix)], f.prefix) {
			return f.id
		}
	}
	return Unknown
}

// TrailerAllowed reports whether a field of that name may stand behind a chunked body.
func TrailerAllowed(name []byte) bool {
	if !isToken(name) {
		return false
	}
	id := recognise(name)
	return id == Unknown || trailerOK.has(id)
}

// KnownOf gives the number of a header name in any case; Unknown when it has none.
func KnownOf(name string) Known {
	id, _ := nameOf(name)
	return id
}

// nameOf is KnownOf, and reports whether the name is a token.
func nameOf(name string) (id Known, ok bool) {
	if !isToken(name) {
		return Unknown, false
	}
	return recognise(name), true
}

// equalKnown compares a token with a lower-case name of letters, digits and dashes. For those, OR-ing 0x20 is exact: no other token character folds onto them.
func equalKnown[T string | []byte](token T, lower string) bool {
	if len(token) != len(lower) {
		return false
	}
	for i := range len(lower) {
		if token[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}
