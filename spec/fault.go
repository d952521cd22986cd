package spec

import "time"

// EdgeName is the name of the edge, the gateway through which load enters, wherever a caller is named.
const EdgeName = "edge"

// Fault is something that goes wrong on purpose between a caller and a service.
type Fault struct {
	// Name, a DNS label.
	Name string `yaml:"name" spec:"required,name"`
	// Caller, whose sidecar executes the fault: a service, or edge.
	From string `yaml:"from" spec:"required"`
	// Service that is called.
	To string `yaml:"to" spec:"required"`
	// Only requests that go to this version of it.
	Version string `yaml:"version"`
	// Only requests that satisfy all of this.
	Match *HTTPMatch `yaml:"match"`
	// Answers requests instead of the service.
	Abort *Abort `yaml:"abort"`
	// Holds requests back before they are sent on.
	Delay *Delay `yaml:"delay"`
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
