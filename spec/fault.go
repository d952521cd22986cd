package spec

import "time"

// EdgeName is the name of the edge, the gateway through which load enters, wherever a caller is named.
const EdgeName = "edge"

// Fault is something that goes wrong on purpose: to requests between a caller and a service (abort, delay), or to what carries the mesh (podKill, nodeDrain, controlKill or
// scale, of which one alone is set).
type Fault struct {
	// Name, a DNS label.
	Name string `yaml:"name" spec:"required,name"`
	// Caller, whose sidecar executes an abort or delay: a service, or edge.
	From string `yaml:"from"`
	// Service that is called.
	To string `yaml:"to"`
	// Only requests that go to this version of it.
	Version string `yaml:"version"`
	// Only requests that satisfy all of this.
	Match *HTTPMatch `yaml:"match"`
	// Answers requests instead of the service.
	Abort *Abort `yaml:"abort"`
	// Holds requests back before they are sent on.
	Delay *Delay `yaml:"delay"`
	// Deletes pods of a service as the window opens. Whoever owns them starts others.
	PodKill *PodKill `yaml:"podKill"`
	// Drains nodes that a service's pods are on as the window opens, and lets pods onto them again as it closes.
	NodeDrain *NodeDrain `yaml:"nodeDrain"`
	// Deletes the control plane's pods as the window opens. They come back by themselves.
	ControlKill *ControlKill `yaml:"controlKill"`
	// Sets a number of replicas as the window opens, and sets it back as it closes.
	Scale *Scale `yaml:"scale"`
	// Only the first n matching requests of each sidecar, instead of a percentage.
	First uint64 `yaml:"first" spec:"positive"`
	// Every nth matching request of each sidecar, instead of a percentage.
	Every uint64 `yaml:"every" spec:"positive"`
	// Most faulted requests at a time in a sidecar. Default: no limit.
	MaxActive uint32 `yaml:"maxActive"`
	// Where the fault acts: attempt (below retries and timeouts, which the mesh can recover from; the default) or request (above them, as the caller's
	// application sees it).
	At string `yaml:"at" spec:"enum=request|attempt"`
	// When. Default: during the whole load.
	Window *Window `yaml:"window"`
	// Time to live of the lease that holds the fault, 1s to 30s: it ends by itself so long after the run is gone. Default: 10s.
	Lease time.Duration `yaml:"lease" spec:"positive"`
	// Fewer matched requests than this make the run invalid. Default: 1.
	MinMatched uint64 `yaml:"minMatched"`
}

// HTTPMatch are conditions on a request, all of which must hold, in the words of Istio's HTTPMatchRequest.
type HTTPMatch struct {
	// The path, without the query.
	URI *StringMatch `yaml:"uri"`
	// Compare the path without regard to case.
	IgnoreURICase bool `yaml:"ignoreUriCase"`
	// The method.
	Method *StringMatch `yaml:"method"`
	// The authority (Host).
	Authority *StringMatch `yaml:"authority"`
	// Headers by name; an empty condition asks only that the header is there.
	Headers map[string]StringMatch `yaml:"headers"`
	// Headers of which none may match.
	WithoutHeaders map[string]StringMatch `yaml:"withoutHeaders"`
	// Query parameters by name.
	QueryParams map[string]StringMatch `yaml:"queryParams"`
}

// Abort answers a share of requests instead of the service.
type Abort struct {
	// HTTP status of the answer.
	HTTPStatus int `yaml:"httpStatus" spec:"required,min=200,max=599"`
	// Share of the requests.
	Percentage *Percentage `yaml:"percentage"`
}

// Delay holds a share of requests back.
type Delay struct {
	// How long.
	FixedDelay time.Duration `yaml:"fixedDelay" spec:"required,positive"`
	// Share of the requests.
	Percentage *Percentage `yaml:"percentage"`
}

// Window says when a fault is there: during a step of the roll-out, or from start for duration.
type Window struct {
	// Number of the roll-out step (the first is 1) that it lasts for: from the step's beginning until the next setWeight or setHeaderRoute after it, or the end.
	Step int `yaml:"step" spec:"min=1,max=10000"`
	// Start, since the load began.
	Start time.Duration `yaml:"start"`
	// How long. Default: until the load ends.
	Duration time.Duration `yaml:"duration" spec:"positive"`
}

// PodKill deletes pods of a service.
type PodKill struct {
	// Service whose pods are deleted.
	Service string `yaml:"service" spec:"required"`
	// Only pods of this version.
	Version string `yaml:"version"`
	// How many, chosen by the seed. Default: 1.
	Count int `yaml:"count" spec:"min=1,max=64"`
	// How long they get to end by themselves. Default: 0s, which kills them at once.
	GracePeriod time.Duration `yaml:"gracePeriod"`
}

// NodeDrain evicts what is on a node, and keeps it free.
type NodeDrain struct {
	// Service whose pods are on the nodes.
	Service string `yaml:"service" spec:"required"`
	// Only nodes with pods of this version.
	Version string `yaml:"version"`
	// How many nodes, chosen by the seed. Default: 1.
	Count int `yaml:"count" spec:"min=1,max=64"`
}

// ControlKill deletes the control plane's pods.
type ControlKill struct{}

// Scale sets the number of replicas of a service.
type Scale struct {
	// Service that is scaled.
	Service string `yaml:"service" spec:"required"`
	// Only this version.
	Version string `yaml:"version"`
	// Number of replicas of each version while the window is open.
	Replicas int `yaml:"replicas" spec:"required,min=0,max=64"`
}

// Words of the faults, as a scenario names them.
const (
	FaultAbort       = "abort"
	FaultDelay       = "delay"
	FaultPodKill     = "podKill"
	FaultNodeDrain   = "nodeDrain"
	FaultControlKill = "controlKill"
	FaultScale       = "scale"
)

// disruptions are the words of the faults that are not about requests.
var disruptions = []string{FaultPodKill, FaultNodeDrain, FaultControlKill, FaultScale}

// Disruption is the word of what the fault does to what carries the mesh; empty for a fault of requests.
func (f Fault) Disruption() string {
	switch {
	case f.PodKill != nil:
		return FaultPodKill
	case f.NodeDrain != nil:
		return FaultNodeDrain
	case f.ControlKill != nil:
		return FaultControlKill
	case f.Scale != nil:
		return FaultScale
	default:
		return ""
	}
}

// Target is the service and the version that a disruption is about; both are empty for one of the control plane.
func (f Fault) Target() (service, version string) {
	switch {
	case f.PodKill != nil:
		return f.PodKill.Service, f.PodKill.Version
	case f.NodeDrain != nil:
		return f.NodeDrain.Service, f.NodeDrain.Version
	case f.Scale != nil:
		return f.Scale.Service, f.Scale.Version
	default:
		return "", ""
	}
}
