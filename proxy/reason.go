package proxy

import "meshtest.dev/meshtest/proxy/ratelimit"

// Reasons are what [mesh.HeaderReason] says on answers that the sidecar itself made: stable names, for programs. A request that breaks HTTP has the codec's reason
// (http1.Reasons), and an injected fault has the filter's.
const (
	ReasonNoRoute         = "no_route"                     // 404 NR: no rule of the host takes the request
	ReasonUnknownHost     = "unknown_host"                 // 502 NC: nothing is known by that authority, and only what is known may be reached
	ReasonLoop            = "loop"                         // 502 NC: where it was going, under whatever name, is this sidecar itself
	ReasonNoDestination   = "no_destination"               // 503 NC: the rule leads to a host or subset that does not exist
	ReasonNoHealthy       = "no_healthy_upstream"          // 503 UH: no endpoint of the destination is healthy
	ReasonConnectFailure  = "connect_failure"              // 503 UF: the endpoint refused the connection
	ReasonConnectTimeout  = "connect_timeout"              // 503 UF: the endpoint did not answer in time
	ReasonHandshake       = "tls_handshake_failure"        // 503 UF: the endpoint was reached, and TLS was not agreed on
	ReasonCertificate     = "tls_certificate_refused"      // 503 UF: so because of a certificate
	ReasonManyConnections = "upstream_cx_overflow"         // 503 UO: the destination has as many connections as its policy allows
	ReasonManyPending     = "upstream_rq_pending_overflow" // 503 UO: as many requests wait for a connection as may
	ReasonManyRequests    = "upstream_rq_overflow"         // 503 UO: as many requests are in flight as may be
	ReasonRefused         = "upstream_refused_stream"      // 503 UC: HTTP/2 refused the stream, on another connection too
	ReasonReset           = "upstream_reset"               // 503 UC: the connection ended before an answer
	ReasonBadResponse     = "upstream_protocol"            // 502 UPE: the answer was not HTTP
	ReasonTimeout         = "request_timeout"              // 504 UT: the route's timeout, retries included
	ReasonTryTimeout      = "per_try_timeout"              // 504 UT: the last attempt took longer than one may
	ReasonStreamTimeout   = "stream_timeout"               // 504 UT: nothing moved for too long
	ReasonHeaderTimeout   = "header_timeout"               // 408 DT: the head took too long to arrive
	ReasonTooMany         = "too_many_connections"         // 503 OM: the sidecar carries as many connections as it may
	ReasonRedirect        = "redirect"                     // 30x: the route says so
	ReasonRefusedByRoute  = "refused_by_route"             // 500 or what the arm says: the rule's split leads to what does not exist, or must not be reached
	ReasonPreflight       = "cors_preflight"               // 200: the route's CORS policy answers for the service
	ReasonDirectResponse  = "direct_response"              // the route says so
	ReasonConnect         = "connect_not_supported"        // 405: CONNECT to a listener that is no proxy
	ReasonScheme          = "scheme_not_supported"         // 400: an https target through the http_proxy listener
	ReasonRateLimited     = ratelimit.Reason               // 429 or what the limit says, RL: the workload takes no more requests of this kind at the moment
	ReasonInternal        = "internal"                     // 500: a mistake of ours
	reasonCallerGone      = "caller_gone"                  // no answer, DC: only in evidence
	reasonUpstreamCut     = "upstream_truncated"           // no whole answer, UC: only in evidence
	reasonShutdown        = "shutdown"                     // no whole answer: only in evidence
	reasonRequestCut      = "request_truncated"            // counter only
	reasonHandshake       = "tls_handshake"                // counter only: of a caller
	reasonDuration        = "max_duration"                 // no whole tunnel: only in the access log
	reasonIdle            = "idle"                         // counter only
	reasonNotRedirected   = "not_redirected"               // counter only: somebody connected to the listener for captured traffic itself, and carrying that on would come back to it
	reasonUnknownAddress  = "unknown_address"              // counter only: TCP to where nothing is known, and only what is known may be reached
)
