package mesh

import "time"

// Service is one host that callers can name, with its ports, its subsets and how it is to be called.
type Service struct {
	Host  string `json:"host"` // fully qualified
	Ports []Port `json:"ports"`
	// Addresses are the virtual IPs of the service (Kubernetes' cluster IPs): how captured traffic names it when it carries no authority.
	Addresses  []string      `json:"addresses,omitempty"`
	Subsets    []Subset      `json:"subsets,omitempty"`
	Traffic    TrafficPolicy `json:"traffic"`
	External   bool          `json:"external,omitempty"` // outside the mesh: no sidecar answers there
	Resolution Resolution    `json:"resolution,omitempty"`
}

// Resolution says where the addresses of a service's endpoints come from (ServiceEntry's resolution).
type Resolution string

// Resolutions.
const (
	Static   Resolution = "STATIC" // what the endpoints say; also what "" means
	DNS      Resolution = "DNS"    // the endpoints' addresses are names, which are looked up when a connection is made
	Original Resolution = "NONE"   // where the connection was going anyway; else what the request's authority says. There are no endpoints
)

// Port is a port of a service.
type Port struct {
	Name     string   `json:"name,omitempty"`
	Number   int      `json:"number"`
	Protocol Protocol `json:"protocol"`
	// TLS is how a gateway's listeners for the port speak it; nil: they do not.
	TLS *ServerTLS `json:"tls,omitempty"`
}

// Subset is a named part of a service's endpoints, chosen by labels (DestinationRule's subsets).
type Subset struct {
	Name    string         `json:"name"`
	Labels  Labels         `json:"labels"`
	Traffic *TrafficPolicy `json:"traffic,omitempty"` // overrides the service's as a whole
}

// TrafficPolicy says how connections to the endpoints are made, and which of them are used (DestinationRule's trafficPolicy, and what has no word there).
type TrafficPolicy struct {
	Balancer       Balancer          `json:"balancer,omitempty"`       // empty: LeastRequest, Istio's default
	Hash           *HashPolicy       `json:"hash,omitempty"`           // of RingHash and Maglev
	Warmup         *Warmup           `json:"warmup,omitempty"`         // slow start; nil: none
	ConnectTimeout time.Duration     `json:"connectTimeout,omitempty"` // 0: DefaultConnectTimeout
	Pool           ConnectionPool    `json:"pool,omitzero"`
	Outlier        *OutlierDetection `json:"outlier,omitempty"`     // nil: nobody is ejected
	HealthCheck    *HealthCheck      `json:"healthCheck,omitempty"` // nil: nobody is asked
	TLS            *ClientTLS        `json:"tls,omitempty"`         // nil: plaintext
}

// Balancer names a load balancing algorithm, in Istio's words.
type Balancer string

// Balancers.
const (
	LeastRequest Balancer = "LEAST_REQUEST" // two random choices, the one with fewer requests in flight
	RoundRobin   Balancer = "ROUND_ROBIN"
	Random       Balancer = "RANDOM"
	RingHash     Balancer = "RING_HASH" // consistent hash on a ring of points
	Maglev       Balancer = "MAGLEV"    // consistent hash by a table (Eisenbud et al., NSDI 2016)
)

// HashPolicy says by what a consistent hash sends requests to endpoints; exactly one of Header, Cookie, Query and SourceIP is set. A request without it is balanced by its key.
type HashPolicy struct {
	Header      string      `json:"header,omitempty"` // lower case
	Cookie      *HashCookie `json:"cookie,omitempty"`
	Query       string      `json:"query,omitempty"` // name of a query parameter
	SourceIP    bool        `json:"sourceIP,omitempty"`
	MinRingSize int         `json:"minRingSize,omitempty"` // of RingHash; 0: 1024, as in Istio
	TableSize   int         `json:"tableSize,omitempty"`   // of Maglev, a prime; 0: 65537, as in Envoy
}

// HashCookie is the cookie by which requests are kept together. With a TTL, a request without the cookie is given one that stands for its endpoint's choice.
type HashCookie struct {
	Name    string        `json:"name"`
	Path    string        `json:"path,omitempty"`
	TTL     time.Duration `json:"ttl,omitempty"`     // 0: none is made, unless it is for the session
	Session bool          `json:"session,omitempty"` // a request without the cookie is given one that has no TTL (Istio's ttl: 0s)
}

// Warmup is slow start: a new endpoint's weight grows from MinPercent to the whole within Duration, by (age/Duration)^(1/Aggression) (Envoy's formula).
type Warmup struct {
	Duration   time.Duration `json:"duration"`
	MinPercent float64       `json:"minPercent,omitempty"` // 0: 10
	Aggression float64       `json:"aggression,omitempty"` // 0: 1, linear
}

// ConnectionPool limits what one sidecar does to one destination (a service, or a subset with a policy of its own). 0 is no limit, as in Istio.
type ConnectionPool struct {
	MaxConnections           int           `json:"maxConnections,omitempty"`           // to all endpoints of the destination
	MaxPending               int           `json:"maxPending,omitempty"`               // requests that wait for a connection (http1MaxPendingRequests)
	MaxRequests              int           `json:"maxRequests,omitempty"`              // in flight (http2MaxRequests; here for HTTP/1.1 too)
	MaxRetries               int           `json:"maxRetries,omitempty"`               // in flight
	MaxRequestsPerConnection int           `json:"maxRequestsPerConnection,omitempty"` // 1: no keep-alive
	MaxConcurrentStreams     int           `json:"maxConcurrentStreams,omitempty"`     // of one HTTP/2 connection
	IdleTimeout              time.Duration `json:"idleTimeout,omitempty"`              // of an unused connection; 0: the sidecar's
	MaxDuration              time.Duration `json:"maxDuration,omitempty"`              // of a connection (maxConnectionDuration)
	H2Upgrade                bool          `json:"h2Upgrade,omitempty"`                // speak HTTP/2 although the port says http (h2UpgradePolicy: UPGRADE)
}

// OutlierDetection takes endpoints out of use that fail again and again: passive health checks by what requests saw. 0 means the default, which is Istio's.
type OutlierDetection struct {
	Consecutive5xx           int           `json:"consecutive5xx,omitempty"`           // failures in a row: 5xx, resets and failed connections; 0: 5; below 0: off
	ConsecutiveGateway       int           `json:"consecutiveGateway,omitempty"`       // 502, 503, 504 and the same in a row; 0: off
	SplitLocalOrigin         bool          `json:"splitLocalOrigin,omitempty"`         // failed connections, resets and time-outs count by themselves
	ConsecutiveLocalFailures int           `json:"consecutiveLocalFailures,omitempty"` // with SplitLocalOrigin; 0: 5
	Interval                 time.Duration `json:"interval,omitempty"`                 // between looks whether an ejection is over; 0: 10 s
	BaseEjection             time.Duration `json:"baseEjection,omitempty"`             // times the number of ejections in a row; 0: 30 s
	MaxEjection              time.Duration `json:"maxEjection,omitempty"`              // bound of that; 0: 300 s or BaseEjection, whatever is more (Envoy)
	MaxEjectionPercent       int           `json:"maxEjectionPercent,omitempty"`       // of the destination's endpoints, but at least one may go; 0: 10
	MinHealthPercent         int           `json:"minHealthPercent,omitempty"`         // panic threshold: with fewer in use all are used, healthy or not; 0: off
}

// HealthCheck asks every endpoint periodically whether it lives. Exactly one of HTTP, TCP and GRPC is set. An endpoint is healthy by its first good answer, and unhealthy by its first bad one at the
// start; later it takes thresholds. A wrong HTTP status is enough at once, as in Envoy.
type HealthCheck struct {
	HTTP               *HTTPCheck    `json:"http,omitempty"`
	TCP                bool          `json:"tcp,omitempty"` // a connection can be made
	GRPC               *GRPCCheck    `json:"grpc,omitempty"`
	Port               int           `json:"port,omitempty"` // 0: the endpoint's own
	Interval           time.Duration `json:"interval"`
	Timeout            time.Duration `json:"timeout"`
	UnhealthyThreshold int           `json:"unhealthyThreshold"` // failures in a row
	HealthyThreshold   int           `json:"healthyThreshold"`   // good answers in a row
}

// HTTPCheck is a GET that must be answered with one of the statuses.
type HTTPCheck struct {
	Path     string            `json:"path"`
	Host     string            `json:"host,omitempty"` // empty: the service's
	Headers  map[string]string `json:"headers,omitempty"`
	Statuses []StatusRange     `json:"statuses,omitempty"` // none: 200
}

// StatusRange is First to Last, both of them in it.
type StatusRange struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// GRPCCheck is grpc.health.v1.Health/Check, which must be answered SERVING.
type GRPCCheck struct {
	Service string `json:"service,omitempty"` // empty: the server as a whole
}

// ClientTLS is how a sidecar speaks TLS to endpoints (DestinationRule's tls).
type ClientTLS struct {
	Mode       TLSMode  `json:"mode"`
	SNI        string   `json:"sni,omitempty"`      // empty: the authority of the first request, or else the service's host
	Names      []string `json:"names,omitempty"`    // subject alternative names, one of which the certificate must have; none: SNI
	Roots      string   `json:"roots,omitempty"`    // PEM; empty: the system's
	Insecure   bool     `json:"insecure,omitempty"` // any certificate is taken (insecureSkipVerify)
	Chain      string   `json:"chain,omitempty"`    // PEM, with MutualTLS: what we show
	PrivateKey string   `json:"key,omitempty"`      // PEM, with MutualTLS
	ALPN       []string `json:"alpn,omitempty"`     // empty: h2 or http/1.1, as the port's protocol says
}

// ServerTLS is how a listener speaks TLS (Gateway's tls).
type ServerTLS struct {
	Mode         TLSMode       `json:"mode"`                   // SIMPLE, MUTUAL, PASSTHROUGH
	Certificates []Certificate `json:"certificates,omitempty"` // the first is for callers who name none of the hosts
	Roots        string        `json:"roots,omitempty"`        // PEM, with MUTUAL: of the callers
	MinVersion   uint16        `json:"minVersion,omitempty"`   // crypto/tls' number; 0: TLS 1.2
}

// Certificate is shown to callers who name one of its hosts.
type Certificate struct {
	Hosts      []string `json:"hosts,omitempty"` // a.example.com or *.example.com; none: those in the certificate
	Chain      string   `json:"chain"`           // PEM
	PrivateKey string   `json:"key"`             // PEM
}

// TLSMode is one of Istio's.
type TLSMode string

// Modes.
const (
	SimpleTLS   TLSMode = "SIMPLE"
	MutualTLS   TLSMode = "MUTUAL"
	Passthrough TLSMode = "PASSTHROUGH" // of listeners: the bytes go on, by their server name
)

// DefaultConnectTimeout bounds a connection attempt to an endpoint when the policy says nothing (Istio's connectTimeout: 10 s).
const DefaultConnectTimeout = 10 * time.Second

// Endpoints are the addresses behind one port of a service; the resource's name is [HostPort] of both.
type Endpoints struct {
	Host      string     `json:"host"`
	Port      int        `json:"port"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is one address that answers for a service.
type Endpoint struct {
	Address  string `json:"address"` // IP or host
	Port     int    `json:"port"`
	Network  string `json:"network,omitempty"`
	Cluster  string `json:"cluster,omitempty"`
	Locality string `json:"locality,omitempty"`
	Identity string `json:"identity,omitempty"` // SPIFFE ID the endpoint must prove
	Workload string `json:"workload"`           // NAME-VERSION
	Instance string `json:"instance"`
	Labels   Labels `json:"labels,omitempty"`
	Weight   uint32 `json:"weight,omitempty"` // 0 means 1
	Health   Health `json:"health,omitempty"` // empty means healthy
}

// Health is an endpoint's state as the control plane knows it.
type Health string

// Health states.
const (
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
	Draining  Health = "draining" // finishes what it has, gets nothing new
)

// Version is the endpoint's version label.
func (e Endpoint) Version() string { return e.Labels[LabelVersion] }

// Inbound is what one sidecar listens on; the resource's name is the workload instance. A sidecar is ready when it has acknowledged
// this resource, because acknowledging means that every listener in it is bound.
type Inbound struct {
	Workload Workload       `json:"workload"`
	Seed     uint64         `json:"seed"`               // of every chance draw in the run
	Trusted  bool           `json:"trusted,omitempty"`  // an edge: strips the mesh's own headers unless the token is right
	Listen   []InboundPort  `json:"listen,omitempty"`   // traffic to this workload
	Outbound []OutboundPort `json:"outbound,omitempty"` // one listener per upstream
	Proxy    string         `json:"proxy,omitempty"`    // address of the listener that serves as http_proxy; empty: none
	Limits   []RateLimit    `json:"limits,omitempty"`   // of requests to the workload
	// UpstreamLimits are limits of requests that are routed to a host, by its fully qualified name: for a sidecar that stands before services which have none that could hold callers to them. Their matches see
	// a request as it came, before a route rewrites it.
	UpstreamLimits map[string][]RateLimit `json:"upstreamLimits,omitempty"`

	Unknown  Unknown  `json:"unknown,omitempty"` // traffic to what the mesh does not know, however it comes
	Capture  *Capture `json:"capture,omitempty"` // nil: nothing is redirected to the sidecar
	Tokens   Tokens   `json:"tokens,omitzero"`
	Sampling *float64 `json:"sampling,omitempty"` // share of the traces that begin here of which spans are recorded, 0 to 1; nil: 0.01, Istio's
}

// Capture says where traffic arrives that the kernel redirects to the sidecar, which finds out where it was going by SO_ORIGINAL_DST.
type Capture struct {
	Inbound  string `json:"inbound"`  // IP:port of the listener for traffic to the workload
	Outbound string `json:"outbound"` // IP:port of the listener for traffic from the workload
}

// Unknown says what becomes of outbound traffic to what the mesh does not know. Istio's word for it is outboundTrafficPolicy.
type Unknown string

// Treatments of unknown destinations.
const (
	PassThrough  Unknown = "ALLOW_ANY"     // it goes where it was going; also what "" means for captured traffic
	RegistryOnly Unknown = "REGISTRY_ONLY" // it is refused; also what "" means for an http_proxy
)

// Tokens are the hex SHA-256 digests of secrets that callers prove themselves with. A sidecar in a cluster learns them from the control plane; one that was started by the
// run knows the secrets already, and has none here.
type Tokens struct {
	Direct string `json:"direct,omitempty"` // of the run at the sidecar's direct listener
	Edge   string `json:"edge,omitempty"`   // of the run's load at an edge
}

// InboundPort takes traffic for the workload at Bind and hands it to the application at App.
type InboundPort struct {
	Bind     string   `json:"bind,omitempty"` // IP:port; empty: traffic to App's port comes by Capture
	App      string   `json:"app"`            // IP:port of the application itself
	Port     int      `json:"port"`           // service port, for labels
	Protocol Protocol `json:"protocol"`
}

// RateLimit is a token bucket for each value of its key, in each sidecar of the workload by itself (Envoy's local rate limit). One request takes one token; a request that finds none is answered.
type RateLimit struct {
	Name     string        `json:"name"`              // of counters and reasons
	Matches  []Match       `json:"matches,omitempty"` // none: every request
	Requests int           `json:"requests"`          // tokens that come back within Per
	Per      time.Duration `json:"per"`
	Burst    int           `json:"burst,omitempty"`   // tokens that a bucket holds; 0: Requests
	Caller   bool          `json:"caller,omitempty"`  // one bucket for each calling workload's service
	Header   string        `json:"header,omitempty"`  // one bucket for each value of it; lower case
	Status   int           `json:"status,omitempty"`  // of the answer; 0: 429
	Headers  bool          `json:"headers,omitempty"` // answers say how much is left, by x-ratelimit-limit, -remaining and -reset (seconds)
}

// OutboundPort takes the workload's traffic to one port of an upstream, whatever authority the request carries. Where only what is known may be reached, the upstream may be unknown: the traffic is refused.
type OutboundPort struct {
	Bind     string   `json:"bind"` // IP:port
	Host     string   `json:"host"` // fully qualified upstream
	Port     int      `json:"port"`
	Protocol Protocol `json:"protocol"`
}
