package spec

import "time"

// Outcomes of a roll-out.
const (
	OutcomePromoted   = "promoted"
	OutcomeRolledBack = "rolledBack"
	OutcomePaused     = "paused"
	OutcomeNone       = "none"
)

// Expect is what must hold for the run to pass.
type Expect struct {
	// Outcome of the roll-out. Default: promoted with a roll-out, none without.
	Rollout string `yaml:"rollout" spec:"enum=promoted|rolledBack|paused|none"`
	// Checks on the whole run, all of which must hold.
	Checks []Expectation `yaml:"checks"`
}

// Expectation is one check on the whole run: exactly one of successRate, trafficShare, latency, attempts, fanOut, graph, or a query with a condition.
type Expectation struct {
	// Name of the check.
	Name string `yaml:"name" spec:"required"`
	// Share of a stream's requests that succeeded.
	SuccessRate *SuccessRate `yaml:"successRate"`
	// Share of the requests on an edge that went to a version.
	TrafficShare *TrafficShare `yaml:"trafficShare"`
	// A latency quantile of a stream.
	Latency *Latency `yaml:"latency"`
	// How often requests on an edge were sent, retries included.
	Attempts *Attempts `yaml:"attempts"`
	// How a service calls others, as traces show: one after the other, or at the same time.
	FanOut *FanOut `yaml:"fanOut"`
	// Who calls whom, as traffic has shown.
	Graph *Graph `yaml:"graph"`
	// PromQL query; its result is a scalar or a single sample.
	Query string `yaml:"query"`
	// Condition on the query's result.
	Condition string `yaml:"condition"`
}

// SuccessRate expects a share of successes among a stream's completed requests.
type SuccessRate struct {
	// The stream. Default: the only one.
	Load string `yaml:"load"`
	// Statuses that count as success. Default: everything below 500.
	Statuses []int `yaml:"statuses" spec:"min=100,max=599"`
	// The true rate must be compatible with this, by an interval of the given confidence; 0% and 100% are exact.
	Equals *Percent `yaml:"equals"`
	// Lowest good rate.
	Min *Percent `yaml:"min"`
	// Highest good rate.
	Max *Percent `yaml:"max"`
	// Confidence of the interval for equals. Default: 99.9%.
	Confidence Percent `yaml:"confidence"`
}

// TrafficShare expects a share of the requests on an edge to go to a version.
type TrafficShare struct {
	// Caller: a service, or edge. Default: all callers.
	From string `yaml:"from"`
	// Service that is called.
	To string `yaml:"to" spec:"required"`
	// Version whose share is asked.
	Version string `yaml:"version" spec:"required"`
	// Only requests of this stream. Default: all.
	Load string `yaml:"load"`
	// The true share must be compatible with this, by an interval of the given confidence; 0% and 100% are exact.
	Equals *Percent `yaml:"equals"`
	// Lowest good share.
	Min *Percent `yaml:"min"`
	// Highest good share.
	Max *Percent `yaml:"max"`
	// Confidence of the interval for equals. Default: 99.9%.
	Confidence Percent `yaml:"confidence"`
}

// Latency expects a quantile of a stream's latency, counted from the time a request was due, to be within bounds.
type Latency struct {
	// The stream. Default: the only one.
	Load string `yaml:"load"`
	// The quantile, such as 0.99.
	Quantile float64 `yaml:"quantile" spec:"required,min=0.01,max=0.9999"`
	// Smallest good value.
	Min time.Duration `yaml:"min" spec:"positive"`
	// Largest good value.
	Max time.Duration `yaml:"max" spec:"positive"`
}

// Attempts expects how often requests on an edge were sent to the service that is called, on the average: 1 without retries, less when some were answered without being sent.
type Attempts struct {
	// Caller: a service, or edge. Default: all callers.
	From string `yaml:"from"`
	// Service that is called.
	To string `yaml:"to" spec:"required"`
	// Only requests to this version. Default: all.
	Version string `yaml:"version"`
	// Only requests of this stream. Default: all.
	Load string `yaml:"load"`
	// Smallest good mean, such as 1.2.
	Min *float64 `yaml:"min" spec:"min=0"`
	// Largest good mean.
	Max *float64 `yaml:"max" spec:"min=0"`
}

// Shapes of a fan-out.
const (
	FanOutSerial   = "serial"
	FanOutParallel = "parallel"
)

// FanOut expects how a service calls others while it serves a request, as traces show. Retries of a call are not counted as calls.
type FanOut struct {
	// Service that calls.
	Service string `yaml:"service" spec:"required"`
	// Only requests that this version serves. Default: all.
	Version string `yaml:"version"`
	// Only requests of this stream. Default: all.
	Load string `yaml:"load"`
	// serial: one after the other. parallel: all at the same time. Two calls are at the same time when they overlap by more than a tenth of the shorter.
	Shape string `yaml:"shape" spec:"required,enum=serial|parallel"`
	// Number of calls for each request. Default: any, but at least two.
	Calls int `yaml:"calls" spec:"min=2"`
	// Smallest share of the requests of which this holds. Default: 95%.
	Min *Percent `yaml:"min" spec:"min=0,max=100"`
}

// Graph expects who calls whom, as traffic has shown: these call those, and nobody else calls anybody. A call that the mesh refused counts.
type Graph struct {
	// Only what this service, or edge, depends on: whom it calls, whom those call, and so on. Default: the whole graph.
	Of string `yaml:"of"`
	// Callers, each a service or edge, and whom they call: services, external services, or hosts outside the mesh.
	Calls map[string][]string `yaml:"calls" spec:"required"`
}
