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

// Expectation is one check on the whole run: exactly one of successRate, trafficShare, latency, attempts, or a query with a condition.
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
