package mesh

import "time"

// Service is one host that callers can name, with its ports, its subsets and how it is to be called.
type Service struct {
	Host  string `json:"host"` // fully qualified
	Ports []Port `json:"ports"`
	// Addresses are the virtual IPs of the service (Kubernetes' cluster IPs): how captured traffic names it when it carries no authority.
	Addresses []string      `json:"addresses,omitempty"`
	Subsets   []Subset      `json:"subsets,omitempty"`
	Traffic   TrafficPolicy `json:"traffic"`
	External  bool          `json:"external,omitempty"` // outside the mesh: no sidecar answers there
}

// Port is a port of a service.
type Port struct {
	Name     string   `json:"name,omitempty"`
	Number   int      `json:"number"`
	Protocol Protocol `json:"protocol"`
}

// Subset is a named part of a service's endpoints, chosen by labels (DestinationRule's subsets).
type Subset struct {
	Name    string         `json:"name"`
	Labels  Labels         `json:"labels"`
	Traffic *TrafficPolicy `json:"traffic,omitempty"` // overrides the service's as a whole
}

// TrafficPolicy says how connections to the endpoints are made (DestinationRule's trafficPolicy).
type TrafficPolicy struct {
	Balancer       Balancer      `json:"balancer,omitempty"`       // empty: LeastRequest, Istio's default
	ConnectTimeout time.Duration `json:"connectTimeout,omitempty"` // 0: DefaultConnectTimeout
}

// Balancer names a load balancing algorithm, in Istio's words.
type Balancer string

// Balancers.
const (
	LeastRequest Balancer = "LEAST_REQUEST" // two random choices, the one with fewer requests in flight
	RoundRobin   Balancer = "ROUND_ROBIN"
	Random       Balancer = "RANDOM"
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
	Capture  *Capture       `json:"capture,omitempty"`  // nil: nothing is redirected to the sidecar
	Tokens   Tokens         `json:"tokens,omitzero"`
}

// Capture says where traffic arrives that the kernel redirects to the sidecar, which finds out where it was going by SO_ORIGINAL_DST.
type Capture struct {
	Inbound  string  `json:"inbound"`  // IP:port of the listener for traffic to the workload
	Outbound string  `json:"outbound"` // IP:port of the listener for traffic from the workload
	Unknown  Unknown `json:"unknown,omitempty"`
}

// Unknown says what becomes of outbound traffic to what the mesh does not know. Istio's word for it is outboundTrafficPolicy.
type Unknown string

// Treatments of unknown destinations.
const (
	PassThrough  Unknown = "ALLOW_ANY"     // it goes where it was going; also what "" means
	RegistryOnly Unknown = "REGISTRY_ONLY" // it is refused
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

// OutboundPort takes the workload's traffic to one port of an upstream, whatever authority the request carries.
type OutboundPort struct {
	Bind     string   `json:"bind"` // IP:port
	Host     string   `json:"host"` // fully qualified upstream
	Port     int      `json:"port"`
	Protocol Protocol `json:"protocol"`
}
