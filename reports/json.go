package reports

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"meshtest.dev/meshtest/journal"
)

// SchemaVersion of report.json. A new minor adds fields; a new major changes or removes them.
const SchemaVersion = "1.2"

// Report is report.json. Its JSON Schema is published as fixtures/schema/report.v1.schema.json and says what each field means.
type Report struct {
	SchemaVersion string      `json:"schemaVersion"`
	Run           string      `json:"run"`
	Scenario      string      `json:"scenario"`
	Description   string      `json:"description"`
	Seed          uint64      `json:"seed"`
	Sets          []string    `json:"sets"`
	Environment   string      `json:"environment"`
	Version       string      `json:"version"`
	StartedAt     *time.Time  `json:"startedAt"`
	DurationMs    int64       `json:"durationMs"`
	Verdict       string      `json:"verdict"`
	ExitCode      int         `json:"exitCode"`
	Reason        string      `json:"reason"`
	Rollout       Rollout     `json:"rollout"`
	Checks        []Check     `json:"checks"`
	SelfChecks    []SelfCheck `json:"selfChecks"`
	Faults        []Fault     `json:"faults"`
	Load          []Load      `json:"load"`
	Mesh          Mesh        `json:"mesh"`
	Graph         []GraphEdge `json:"graph"`
	Traces        *Traces     `json:"traces"`
	NotReached    []string    `json:"notReached"`
}

// Rollout is the roll-out; of a run without one, only its outcome "none".
type Rollout struct {
	Outcome        string    `json:"outcome"`
	Service        string    `json:"service"`
	From           string    `json:"from"`
	Stable         string    `json:"stable"`
	Canary         string    `json:"canary"`
	DecidedAfterMs *int64    `json:"decidedAfterMs"`
	CanaryRequests uint64    `json:"canaryRequests"`
	CanaryFailed   uint64    `json:"canaryFailed"`
	Steps          []Step    `json:"steps"`
	Versions       []Version `json:"versions"`
}

// States of a step.
const (
	StepDone       = "done"
	StepCut        = "cut"
	StepNotReached = "notReached"
)

// Step is a step of the roll-out. Times are since the run began, and null when it was not reached.
type Step struct {
	Index   int      `json:"index"`
	Text    string   `json:"text"`
	State   string   `json:"state"`
	Weight  *float64 `json:"weight"`
	StartMs *int64   `json:"startMs"`
	EndMs   *int64   `json:"endMs"`
	Reason  string   `json:"reason"`
}

// Version is what the judged edge saw of a version until the decision.
type Version struct {
	Version   string  `json:"version"`
	Role      string  `json:"role"` // baseline, canary
	Requests  uint64  `json:"requests"`
	Failed    uint64  `json:"failed"`
	LatencyMs Latency `json:"latencyMs"`
}

// Kinds of a check.
const (
	KindAnalysis    = "analysis"
	KindExpectation = "expectation"
)

// Check is a check of the analysis, or an expectation.
type Check struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Verdict   string   `json:"verdict"`
	Critical  bool     `json:"critical"`
	Query     string   `json:"query"`
	Value     *float64 `json:"value"`
	Baseline  *float64 `json:"baseline"`
	Threshold *float64 `json:"threshold"`
	Unit      string   `json:"unit"`
	Samples   uint64   `json:"samples"`
	Needed    uint64   `json:"needed"`
	Reason    string   `json:"reason"`
}

// SelfCheck is a check of the run itself.
type SelfCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason"`
}

// Fault accounts for a fault.
type Fault struct {
	ID       string   `json:"id"`
	Kind     string   `json:"kind"`
	Text     string   `json:"text"`
	State    string   `json:"state"` // armed, healed, lapsed, notReached
	Matched  uint64   `json:"matched"`
	Injected uint64   `json:"injected"`
	Healed   bool     `json:"healed"`
	Residue  uint64   `json:"residue"`
	Hit      []string `json:"hit"`
}

// What is what the fault does in words, and which pods, nodes and workloads it hit.
func (f Fault) What() string {
	if len(f.Hit) == 0 {
		return f.Text
	}
	return f.Text + "; hit " + strings.Join(f.Hit, ", ")
}

// Load is what one stream of load did and felt.
type Load struct {
	Name      string  `json:"name"`
	Target    string  `json:"target"`
	Rate      string  `json:"rate"`
	Ended     bool    `json:"ended"`
	Scheduled uint64  `json:"scheduled"`
	Sent      uint64  `json:"sent"`
	Completed uint64  `json:"completed"`
	Errors    uint64  `json:"errors"`
	SlipP99Ms float64 `json:"slipP99Ms"`
	LatencyMs Latency `json:"latencyMs"`
}

// Latency of successes in milliseconds; null where there was none.
type Latency struct {
	P50 *float64 `json:"p50"`
	P90 *float64 `json:"p90"`
	P99 *float64 `json:"p99"`
	Max *float64 `json:"max"`
}

// Mesh is what the mesh itself did and cost.
type Mesh struct {
	Sidecars           int      `json:"sidecars"`
	Converged          bool     `json:"converged"`
	CPUMsPer1kRequests *float64 `json:"cpuMsPer1kRequests"`
	RSSMiB             *float64 `json:"rssMiB"`
}

// GraphEdge is the traffic of one protocol from one service to another, as their sidecars told it: requests, or of TCP the bytes of answers.
type GraphEdge struct {
	From     string   `json:"from"`
	To       string   `json:"to"`
	Protocol string   `json:"protocol"`
	Requests *float64 `json:"requests"`
	Failed   *float64 `json:"failed"`
	P95Ms    *float64 `json:"p95Ms"`
	Bytes    *float64 `json:"bytes"`
}

// Traces is what the traces of the run told; null when none were recorded.
type Traces struct {
	Sampling float64  `json:"sampling"`
	Traces   int      `json:"traces"`
	Spans    int      `json:"spans"`
	Lost     uint64   `json:"lost"`
	FanOuts  []FanOut `json:"fanOuts"`
}

// SamplingPercent is the sampling in percent.
func (t *Traces) SamplingPercent() float64 { return 100 * t.Sampling }

// FanOut is how a workload that calls several others for one request calls them: means over the traced requests.
type FanOut struct {
	Workload  string  `json:"workload"`
	Requests  int     `json:"requests"`
	Serial    int     `json:"serial"`
	Parallel  int     `json:"parallel"`
	Calls     float64 `json:"calls"`
	BusyMs    float64 `json:"busyMs"`
	LongestMs float64 `json:"longestMs"`
}

// NewReport makes the report of a story.
func NewReport(s *Story) Report {
	return Report{
		SchemaVersion: SchemaVersion,
		Run:           s.Started.Run, Scenario: s.Started.Scenario, Description: s.Started.Description,
		Seed: s.Started.Seed, Sets: append([]string{}, s.Started.Sets...), Environment: s.Started.Environment, Version: s.Started.Version,
		StartedAt: startedAt(s), DurationMs: s.Took.Milliseconds(),
		Verdict: s.Finished.Verdict, ExitCode: s.Finished.ExitCode, Reason: s.Finished.Reason,
		Rollout: newRollout(s), Checks: newChecks(s), SelfChecks: newSelfChecks(s), Faults: newFaults(s), Load: newLoads(s), Mesh: newMesh(s), Graph: newGraph(s), Traces: newTraces(s),
		NotReached: notReached(s),
	}
}

// WriteJSON writes report.json.
func WriteJSON(w io.Writer, s *Story) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(NewReport(s))
}

func startedAt(s *Story) *time.Time {
	if s.Started.Wall.IsZero() {
		return nil
	}
	wall := s.Started.Wall.UTC()
	return &wall
}

func newRollout(s *Story) Rollout {
	r := Rollout{Outcome: s.Finished.Outcome, Steps: []Step{}, Versions: []Version{}}
	if r.Outcome == "" {
		r.Outcome = outcomeNone
	}
	declared := s.Started.Rollout
	if declared == nil {
		return r
	}
	r.Service, r.From, r.Stable, r.Canary = declared.Service, declared.From, declared.Stable, declared.Canary
	if d := s.Decision; d != nil {
		r.CanaryRequests, r.CanaryFailed = d.Data.CanaryRequests, d.Data.CanaryFailed
		r.DecidedAfterMs = ms(max(d.At-s.firstCanaryTraffic(), 0))
	} else if j := s.judgementAtDecision(); j != nil {
		r.CanaryRequests, r.CanaryFailed = j.CanaryRequests, j.CanaryFailed
	}
	for _, step := range s.Steps {
		r.Steps = append(r.Steps, newStep(step))
	}
	for _, v := range []Version{{Version: declared.Stable, Role: "baseline"}, {Version: declared.Canary, Role: "canary"}} {
		sum := s.arm(v.Version, s.until())
		v.Requests, v.Failed, v.LatencyMs = sum.Requests, sum.Failed, newLatency(sum, nil)
		r.Versions = append(r.Versions, v)
	}
	return r
}

func newStep(s StepSpan) Step {
	step := Step{Index: s.Index, Text: s.Text, State: StepNotReached, Reason: s.Cut}
	if !s.Reached {
		return step
	}
	step.Weight, step.StartMs, step.EndMs = &s.Weight, ms(s.Start), ms(s.End)
	step.State = StepDone
	if s.Open {
		step.State, step.Reason = StepCut, "the run ended within it"
	}
	if s.Cut != "" {
		step.State = StepCut
	}
	return step
}

func ms(d time.Duration) *int64 {
	v := d.Milliseconds()
	return &v
}

// newLatency takes the largest latency from the histogram when it is not known.
func newLatency(t tally, largest *float64) Latency {
	if largest == nil {
		largest = number(t.quantileMs(1))
	}
	return Latency{number(t.quantileMs(.5)), number(t.quantileMs(.9)), number(t.quantileMs(.99)), largest}
}

// number is null for what could not be measured.
func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func newChecks(s *Story) []Check {
	checks := []Check{}
	if j := s.judgementAtDecision(); j != nil {
		for _, c := range j.Checks {
			checks = append(checks, newCheck(KindAnalysis, c))
		}
	}
	for _, e := range s.Expectations {
		checks = append(checks, newCheck(KindExpectation, e.Check))
	}
	return checks
}

func newCheck(kind string, c journal.Check) Check {
	check := Check{
		Name: c.Name, Kind: kind, Verdict: c.Verdict, Critical: c.Critical, Query: c.Query, Threshold: &c.Threshold,
		Unit: c.Unit, Samples: c.Samples, Needed: c.Needed, Reason: c.Reason,
	}
	if open := c.Verdict == "noData" || c.Samples == 0 && (c.Verdict == "undecided" || c.Verdict == verdictInconclusive); !open {
		check.Value = &c.Value
	}
	check.Baseline = c.Baseline
	return check
}

func newSelfChecks(s *Story) []SelfCheck {
	checks := []SelfCheck{}
	for _, c := range s.SelfChecks {
		checks = append(checks, SelfCheck{c.Name, c.OK, c.Reason})
	}
	return checks
}

func newFaults(s *Story) []Fault {
	faults := []Fault{}
	for _, f := range s.Faults {
		state := f.State
		switch {
		case len(f.Windows) == 0:
			state = journal.FaultNotReached
		case f.Lapsed:
			state = journal.FaultLapsed
		}
		faults = append(faults, Fault{
			ID: f.ID, Kind: f.What, Text: f.Text, State: state, Matched: f.Matched, Injected: f.Injected,
			Healed: f.State == journal.FaultHealed, Residue: f.Residue, Hit: append([]string{}, f.Hit...),
		})
	}
	return faults
}

func newLoads(s *Story) []Load {
	loads := []Load{}
	for _, l := range s.Loads {
		var sum tally
		sum.add(l.Completed, l.Errors, l.Latency)
		var largest *float64
		if l.LatencyMax > 0 {
			largest = number(milliseconds(l.LatencyMax))
		}
		loads = append(loads, Load{
			Name: l.Name, Target: l.Target, Rate: l.Rate, Ended: l.State == journal.Ended,
			Scheduled: l.Scheduled, Sent: l.Sent, Completed: l.Completed, Errors: l.Errors,
			SlipP99Ms: milliseconds(max(l.SlipP99, 0)), LatencyMs: newLatency(sum, largest),
		})
	}
	return loads
}

func newMesh(s *Story) Mesh {
	m := Mesh{}
	if s.Cost != nil {
		m.Sidecars = s.Cost.Sidecars
		m.CPUMsPer1kRequests = number(milliseconds(s.Cost.PerThousand))
		m.RSSMiB = number(float64(s.Cost.RSS) / (1 << 20))
	}
	for _, c := range s.Configs {
		switch c.Data.State {
		case journal.Converged:
			m.Converged = true
			m.Sidecars = max(m.Sidecars, c.Data.Sidecars)
		case journal.Applied, journal.Nacked:
			m.Converged = false
		}
	}
	return m
}

func notReached(s *Story) []string {
	names := []string{}
	for _, step := range s.Steps {
		if !step.Reached {
			names = append(names, fmt.Sprintf("step %d", step.Index))
		}
	}
	for _, f := range s.Faults {
		if len(f.Windows) == 0 {
			names = append(names, "fault "+f.ID)
		}
	}
	return names
}
