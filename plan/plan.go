// Package plan decides what will happen: a scenario, a seed and the capabilities of an environment become a [Plan] that can be printed, refused or carried out. It
// is pure: no clock, no chance, no files; the same inputs give the same plan.
package plan

import (
	"time"

	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// TrustDomain is the trust domain of every identity, Istio's default.
const TrustDomain = "cluster.local"

// EdgeInstance names the edge's instance: the gateway through which load enters.
const EdgeInstance = spec.EdgeName

// Options are what a plan depends on besides the scenario.
type Options struct {
	Environment  string         // local, kind or kubernetes; empty: the scenario's first
	Seed         uint64         // of every chance draw; the scenario's own seed has to be chosen by the caller
	Capabilities capability.Set // of the environment; nil: not checked
}

// Plan is what will happen.
type Plan struct {
	Name        string                   `json:"name"`
	Description string                   `json:"description,omitempty"`
	Environment string                   `json:"environment"`
	Namespace   string                   `json:"namespace"`
	Seed        uint64                   `json:"seed"`
	Timeout     time.Duration            `json:"timeout"`
	Workloads   []Workload               `json:"workloads"` // sorted by name; services first, then external ones
	Edges       []Edge                   `json:"edges"`     // sorted; every call that the scenario declares
	Streams     []Stream                 `json:"streams"`   // as written
	Rollout     *Rollout                 `json:"rollout,omitempty"`
	Faults      []Fault                  `json:"faults,omitempty"`      // of requests, as written
	Disruptions []Disruption             `json:"disruptions,omitempty"` // of what carries the mesh, as written
	Timeline    []Event                  `json:"timeline"`              // by time since the load began
	Needs       []capability.Requirement `json:"needs"`
	Warnings    spec.Diagnostics         `json:"warnings,omitempty"`

	// Snapshot is the mesh's first configuration, less what only an environment knows: the address and port of every endpoint, and the Bind, App and Proxy of every
	// Inbound. It has one Inbound for each instance with a sidecar and one, trusted, named EdgeInstance.
	Snapshot *mesh.Snapshot `json:"-"`

	// Scenario is where the plan comes from.
	Scenario *spec.Scenario `json:"-"`
}

// Workload is one version of a service, or a service outside the mesh.
type Workload struct {
	Name      string            `json:"name"`              // NAME-VERSION; NAME when external
	Service   string            `json:"service"`           // short name
	Version   string            `json:"version,omitempty"` // empty when external
	External  bool              `json:"external,omitempty"`
	Host      string            `json:"host"` // fully qualified
	Port      int               `json:"port"`
	Protocol  mesh.Protocol     `json:"protocol"`
	Identity  string            `json:"identity,omitempty"` // SPIFFE ID; empty when external
	Labels    mesh.Labels       `json:"labels"`
	Instances []string          `json:"instances"` // NAME-VERSION-1, ...
	Upstreams []Upstream        `json:"upstreams,omitempty"`
	Run       spec.Run          `json:"-"`
	Calls     []string          `json:"-"` // besides those that Env and Run refer to
	Env       map[string]string `json:"-"` // values still hold their ${...} references: spec.Expand
	Readiness spec.Readiness    `json:"-"`
}

// Upstream is a service that a workload calls through its sidecar.
type Upstream struct {
	Name     string        `json:"name"` // as in ${service.NAME.url} or ${external.NAME.url}
	Host     string        `json:"host"` // fully qualified
	Port     int           `json:"port"`
	Protocol mesh.Protocol `json:"protocol"`
	External bool          `json:"external,omitempty"`
}

// Edge is one call of the static graph.
type Edge struct {
	mesh.Edge
	Streams []string `json:"streams,omitempty"` // load that can flow through it
	Judged  bool     `json:"judged,omitempty"`
}

// Stream is one stream of load.
type Stream struct {
	Name   string `json:"name"`
	Target string `json:"target"` // short name of the service, or the gateway in words
	Host   string `json:"host"`   // that the edge leads to: the service's, or that of a Gateway
	Port   int    `json:"port"`
	// Authority is what requests name: the service as the edge knows it, or the host that the gateway chooses by.
	Authority string        `json:"-"`
	Shape     string        `json:"shape"`    // in words, such as "200/s, evenly spaced"
	Duration  time.Duration `json:"duration"` // expected
	UntilEnd  bool          `json:"untilEnd"` // lasts until the roll-out has ended, so the duration is an estimate
	Requests  int           `json:"requests"` // expected in that time
	Load      spec.Stream   `json:"-"`
}

// Rollout is the roll-out of the plan.
type Rollout struct {
	Service  string        `json:"service"`
	Host     string        `json:"host"`
	Port     int           `json:"port"`
	Split    Split         `json:"split"` // how its route table is edited
	Stable   string        `json:"stable"`
	Canary   string        `json:"canary"`
	Edge     mesh.Edge     `json:"edge"`  // whose caller-side evidence is judged
	Judge    string        `json:"judge"` // spec.JudgeRequests or spec.JudgeAttempts
	Warmup   time.Duration `json:"warmup"`
	Steps    []Step        `json:"steps"`
	Expected string        `json:"expected"` // outcome that makes the run pass
	Duration time.Duration `json:"duration"` // expected, warm-up included, when nothing ends it early
	Requests int           `json:"requests"` // expected to the canary by weight, in all
	Power    []Power       `json:"power,omitempty"`
	Analysis spec.Analysis `json:"-"`
}

// Step is one step of the roll-out with its expected time.
type Step struct {
	Number int           `json:"number"` // from 1
	Start  time.Duration `json:"start"`  // since the load began
	End    time.Duration `json:"end"`
	Weight int           `json:"weight"` // of the canary, in percent, when the step has begun
	Text   string        `json:"text"`
	// Matches of a step that sets a header route, for Split.WithHeaderRoute; empty when the step removes it.
	Matches []mesh.Match `json:"matches,omitempty"`
	Step    spec.Step    `json:"-"`
}

// Power says whether a check can get the evidence that promotion needs. Needed is a lower bound: with fewer requests even a canary without a single failure
// cannot be promoted.
type Power struct {
	Check  string `json:"check"`
	Needed int    `json:"needed"`
	Have   int    `json:"have"`
	Enough bool   `json:"enough"`
}

// Fault is one fault with when it is held and what it is expected to hit.
type Fault struct {
	mesh.Fault
	Lease      time.Duration `json:"lease"`
	MinMatched uint64        `json:"minMatched"`
	Window     Window        `json:"window"`
	Blast      Blast         `json:"blast"`
}

// Disruption is a fault of what carries the mesh: it begins as its window opens, and what does not heal by itself is undone as it closes.
type Disruption struct {
	ID       string        `json:"id"`
	Kind     string        `json:"kind"`               // spec.FaultPodKill and so on
	Service  string        `json:"service,omitempty"`  // short name
	Version  string        `json:"version,omitempty"`  // empty: all
	Count    int           `json:"count,omitempty"`    // of pods or nodes
	Grace    time.Duration `json:"grace,omitempty"`    // of killed pods
	Replicas *int          `json:"replicas,omitempty"` // of a scaled version
	Window   Window        `json:"window"`
	Reach    Reach         `json:"reach"`
}

// Reach is what a disruption can take away at most, if every caller calls each of its upstreams once for each request.
type Reach struct {
	Instances int     `json:"instances"` // that can go
	Of        int     `json:"of"`        // that there are
	Share     float64 `json:"share"`     // of the requests that users send meanwhile, those that would pass these instances; 0 to 1
}

// Window is when a fault is held. With steps it is held from the moment the roll-out enters FromStep until it enters UntilStep or ends; otherwise from Start
// until End, both since the load began (End 0: until the load ends).
type Window struct {
	FromStep  int           `json:"fromStep,omitempty"`
	UntilStep int           `json:"untilStep,omitempty"` // one more than the number of steps: until the roll-out ends
	Start     time.Duration `json:"start"`               // expected, when by steps
	End       time.Duration `json:"end,omitempty"`       // expected, when by steps
}

// BySteps reports whether the window follows the roll-out's steps.
func (w Window) BySteps() bool { return w.FromStep > 0 }

// Blast is what a fault is expected to hit, if every caller calls each of its upstreams once for each request.
type Blast struct {
	Matched  float64 `json:"matched"`  // requests on the edge that the fault asks about
	Affected float64 `json:"affected"` // of them, aborted or delayed
	Share    float64 `json:"share"`    // affected requests as a share of all requests that users send during the whole load, 0 to 1
	Peak     float64 `json:"peak"`     // the same during the window alone
}

// Event is a point of the timeline.
type Event struct {
	At    time.Duration `json:"at"`    // since the load began
	About bool          `json:"about"` // the time is an estimate
	Text  string        `json:"text"`
}
