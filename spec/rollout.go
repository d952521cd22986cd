package spec

import "time"

// Units that a roll-out can be judged by.
const (
	JudgeRequests = "requests" // one logical request, after retries
	JudgeAttempts = "attempts" // every attempt, retries included
)

// Names of the built-in checks, Flagger's.
const (
	CheckSuccessRate = "request-success-rate"
	CheckDuration    = "request-duration"
)

// What a check compares the canary with.
const (
	CompareBaseline  = "baseline"  // the stable version on the same edge at the same time
	CompareThreshold = "threshold" // fixed bounds
)

// Rollout is the progressive roll-out of one version of a service, judged all the time on what callers see.
type Rollout struct {
	// Service that is rolled out.
	Service string `yaml:"service" spec:"required"`
	// Version that serves now.
	Stable string `yaml:"stable" spec:"required"`
	// Version that is to replace it.
	Canary string `yaml:"canary" spec:"required"`
	// Caller whose view is judged: a service, or edge. Default: the only caller of the service; with several callers it must be said.
	From string `yaml:"from"`
	// Unit that is judged: requests (one logical request, after retries; the default) or attempts.
	Judge string `yaml:"judge" spec:"enum=requests|attempts"`
	// How long everything stays on stable before the first step, to learn what normal is. Default: 3s.
	Warmup time.Duration `yaml:"warmup"`
	// Steps, one after the other, in the words of Argo Rollouts. After the last one the canary is promoted if the evidence allows it.
	Steps []Step `yaml:"steps" spec:"required"`
	// How the canary is judged.
	Analysis Analysis `yaml:"analysis"`
}

// Step is one step of a roll-out. Exactly one field is set.
type Step struct {
	// Share of the requests that go to the canary, in percent, 0 to 100.
	SetWeight *int `yaml:"setWeight" spec:"min=0,max=100"`
	// Sends requests with certain headers to the canary, whatever the weight. An empty match removes the route of that name.
	SetHeaderRoute *HeaderRoute `yaml:"setHeaderRoute"`
	// Holds the step for some time. Without a duration the roll-out stays paused there, and the run ends with the outcome paused.
	Pause *Pause `yaml:"pause"`
	// Holds the step until there is enough evidence.
	Analysis *Hold `yaml:"analysis"`
}

// HeaderRoute is a route of its own for requests with certain headers.
type HeaderRoute struct {
	// Name of the route.
	Name string `yaml:"name" spec:"required,name"`
	// Conditions, all of which must hold. Empty: the route of that name is removed.
	Match []HeaderMatch `yaml:"match"`
}

// HeaderMatch is a condition on one header.
type HeaderMatch struct {
	// Name of the header.
	HeaderName string `yaml:"headerName" spec:"required"`
	// Condition on its value.
	HeaderValue StringMatch `yaml:"headerValue" spec:"required"`
}

// StringMatch is one test of a string. Exactly one field is set.
type StringMatch struct {
	// The whole string.
	Exact *string `yaml:"exact"`
	// Its beginning.
	Prefix *string `yaml:"prefix"`
	// A regular expression (RE2) that matches the whole string.
	Regex *string `yaml:"regex"`
}

// Pause holds a step.
type Pause struct {
	// How long. Without it the roll-out stays paused here.
	Duration time.Duration `yaml:"duration" spec:"positive"`
}

// Hold keeps a step until the canary has had enough requests.
type Hold struct {
	// Number of judged requests that the canary must have had since the roll-out began.
	MinRequests int `yaml:"minRequests" spec:"required,min=1,max=100000000"`
	// Longest time to wait for them. Default: 60s.
	Timeout time.Duration `yaml:"timeout" spec:"positive"`
}

// Analysis says how a canary is judged.
type Analysis struct {
	// Chance of rolling a good canary back, over all checks and looks together. Default: 0.01.
	Alpha float64 `yaml:"alpha" spec:"min=0.000001,max=0.5"`
	// Promotion needs evidence of confidence 1 - beta. Default: 0.05.
	Beta float64 `yaml:"beta" spec:"min=0.000001,max=0.5"`
	// How often the judge looks. Errors are looked at as they arrive. Default: 200ms.
	Interval time.Duration `yaml:"interval" spec:"positive"`
	// Checks. Default: request-success-rate with maxDegradation 1% and request-duration with maxDegradation 30%, both against the baseline.
	Checks []Check `yaml:"checks"`
}

// Check is one thing that is judged: a built-in one by name (request-success-rate, request-duration), or a PromQL query with a condition under any other name.
type Check struct {
	// Name: request-success-rate, request-duration, or any other for a check with a query.
	Name string `yaml:"name" spec:"required"`
	// Compares with the stable version at the same time (baseline, the default) or with fixed bounds (threshold).
	Compare string `yaml:"compare" spec:"enum=baseline|threshold"`
	// Promote only when the canary is shown to be at most this much worse than the baseline: percentage points of errors (default 1%), or percent of a latency
	// quantile (default 30%).
	MaxDegradation *Percent `yaml:"maxDegradation"`
	// For request-duration: rolled back only when a quantile is shown to be slower than the baseline's by more than this many percent. It must be below maxDegradation. Default:
	// 10%, or a third of maxDegradation if that is less.
	Tolerance *Percent `yaml:"tolerance"`
	// Bounds for compare: threshold, as in Flagger: the success rate in percent, or a duration.
	ThresholdRange *ThresholdRange `yaml:"thresholdRange"`
	// Latency quantile for compare: threshold. Default: 0.99.
	Quantile float64 `yaml:"quantile" spec:"min=0.01,max=0.9999"`
	// Latency quantiles that can roll the canary back. Default: 0.5, 0.9, 0.99.
	Quantiles []float64 `yaml:"quantiles" spec:"min=0.01,max=0.9999"`
	// Latency quantile that must be shown to be good enough before promotion. Default: 0.9.
	PromoteOn float64 `yaml:"promoteOn" spec:"min=0.01,max=0.9999"`
	// Whether the check decides (true, the default) or is only reported.
	Critical *bool `yaml:"critical"`
	// PromQL query; its result is a scalar or a single sample.
	Query string `yaml:"query"`
	// Condition on the result that must hold, such as result < 500. Also known: asInt, asFloat, isNaN, default.
	Condition string `yaml:"condition"`
	// How often the query runs. Default: 2s.
	Interval time.Duration `yaml:"interval" spec:"positive"`
	// Number of failures that are tolerated; one more is bad. Default: 0.
	FailureLimit int `yaml:"failureLimit" spec:"min=0,max=1000000"`
	// What a query without data means. Default: inconclusive.
	OnNoData string `yaml:"onNoData" spec:"enum=inconclusive|fail|pass"`
	// Which change is worse: increase (the default), decrease, or either.
	Direction string `yaml:"direction" spec:"enum=increase|decrease|either"`
}

// ThresholdRange holds inclusive bounds; at least one is set.
type ThresholdRange struct {
	// Smallest good value.
	Min *Bound `yaml:"min"`
	// Largest good value.
	Max *Bound `yaml:"max"`
}

// IsCritical reports whether the check decides.
func (c Check) IsCritical() bool { return c.Critical == nil || *c.Critical }

// IsBuiltIn reports whether the check is judged from the edge's evidence, without a query.
func (c Check) IsBuiltIn() bool { return c.Name == CheckSuccessRate || c.Name == CheckDuration }
