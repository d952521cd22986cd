package journal

import "time"

// Kind names what an entry records.
type Kind string

// Event is the data of an entry. The types of this file are all there are.
type Event interface{ Kind() Kind }

// Started opens every journal.
type Started struct {
	Run         string    `json:"run"`
	Scenario    string    `json:"scenario"`
	Description string    `json:"description,omitempty"`
	File        string    `json:"file,omitempty"`   // as the user named it
	Sets        []string  `json:"sets,omitempty"`   // overrides of the scenario, PATH=VALUE, credentials redacted
	Source      string    `json:"source,omitempty"` // the scenario's text, credentials redacted
	Seed        uint64    `json:"seed"`
	Environment string    `json:"environment"`
	Version     string    `json:"version"` // of meshtest
	Wall        time.Time `json:"wall"`
	Plan        string    `json:"plan,omitempty"` // as explain prints it
	Rollout     *Rollout  `json:"rollout,omitempty"`
	Expect      []string  `json:"expect,omitempty"` // in words
	CPUs        int       `json:"cpus,omitempty"`
}

// Rollout names what is rolled out and who is judged.
type Rollout struct {
	Service string   `json:"service"`
	Stable  string   `json:"stable"`
	Canary  string   `json:"canary"`
	From    string   `json:"from"`  // caller side of the judged edge
	Judge   string   `json:"judge"` // requests or attempts
	Alpha   float64  `json:"alpha"`
	Steps   []string `json:"steps"` // in words
}

// Phase marks the beginning or the end of a part of the run.
type Phase struct {
	Name  string `json:"name"` // environment, load, drain, teardown; setup: NAME and teardown: NAME of what the scenario runs around it
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	Note  string `json:"note,omitempty"`
}

// States of a phase, a step and a process.
const (
	Begun  = "begun"
	Ended  = "ended"
	Failed = "failed"
)

// Process tells of a process or container of the environment.
type Process struct {
	Name    string        `json:"name"`
	PID     int           `json:"pid,omitempty"`
	Address string        `json:"address,omitempty"`
	State   string        `json:"state"` // started, ready, exited
	Exit    string        `json:"exit,omitempty"`
	CPU     time.Duration `json:"cpu,omitempty"`    // used in its whole life
	RSS     int64         `json:"maxRSS,omitempty"` // bytes, largest
}

// Config tells of one generation of configuration at one sidecar or, without an instance, of the whole mesh.
type Config struct {
	Generation string `json:"generation"`
	Instance   string `json:"instance,omitempty"`
	State      string `json:"state"` // applied, acked, nacked, converged
	Error      string `json:"error,omitempty"`
	Change     string `json:"change,omitempty"` // in words
	Sidecars   int    `json:"sidecars,omitempty"`
}

// States of a configuration.
const (
	Applied   = "applied"
	Acked     = "acked"
	Nacked    = "nacked"
	Converged = "converged"
)

// Load tells of one stream of load: at its beginning without counts, at its end with all of them.
type Load struct {
	Name       string            `json:"name"`
	Target     string            `json:"target"`
	Rate       string            `json:"rate"` // in words
	State      string            `json:"state"`
	Scheduled  uint64            `json:"scheduled"`
	Sent       uint64            `json:"sent"`
	Completed  uint64            `json:"completed"`
	Errors     uint64            `json:"errors"`
	ByStatus   map[int]uint64    `json:"byStatus,omitempty"`
	ByError    map[string]uint64 `json:"byError,omitempty"`
	SlipP99    time.Duration     `json:"slipP99"`
	Latency    []uint64          `json:"latency,omitempty"` // from intended time, successes: sparse histogram
	LatencyMax time.Duration     `json:"latencyMax"`
}

// LoadWindow is what users felt in a window of a stream: results by intended time.
type LoadWindow struct {
	Name     string        `json:"name"`
	Start    time.Duration `json:"start"` // of the run
	Length   time.Duration `json:"length"`
	Requests uint64        `json:"requests"`
	Errors   uint64        `json:"errors"`
	Latency  []uint64      `json:"latency,omitempty"` // successes: sparse histogram
}

// Step tells of a step of the roll-out.
type Step struct {
	Index  int     `json:"index"` // from 1
	Text   string  `json:"text"`
	State  string  `json:"state"`
	Weight float64 `json:"weight"` // of the canary, percent, while the step lasts
	Error  string  `json:"error,omitempty"`
}

// Judgement is what the analyzer thinks at a moment.
type Judgement struct {
	Verdict        string  `json:"verdict"` // good, bad, undecided, noData
	Reason         string  `json:"reason"`
	Checks         []Check `json:"checks"`
	CanaryRequests uint64  `json:"canaryRequests"`
	CanaryFailed   uint64  `json:"canaryFailed"`
}

// Check is one check of a judgement or of the expectations.
type Check struct {
	Name      string   `json:"name"`
	Verdict   string   `json:"verdict"` // good, bad, undecided, noData; of an expectation pass, fail, inconclusive
	Critical  bool     `json:"critical"`
	Query     string   `json:"query,omitempty"`
	Value     float64  `json:"value"`
	Baseline  *float64 `json:"baseline,omitempty"` // nil: nothing is compared
	Threshold float64  `json:"threshold"`
	Unit      string   `json:"unit,omitempty"`
	Samples   uint64   `json:"samples"`
	Evidence  float64  `json:"evidence,omitempty"` // log10 of the e-value against the canary
	Needed    uint64   `json:"needed,omitempty"`   // forecast: further canary requests until it can be decided
	Reason    string   `json:"reason"`
}

// Decision is what the roll-out did about it.
type Decision struct {
	Action         string `json:"action"` // promote, rollBack, pause, advance
	Reason         string `json:"reason"`
	Check          string `json:"check,omitempty"`
	CanaryRequests uint64 `json:"canaryRequests"`
	CanaryFailed   uint64 `json:"canaryFailed"`
	Generation     string `json:"generation,omitempty"` // of the configuration that carries it out
}

// Actions of a roll-out.
const (
	Promote  = "promote"
	RollBack = "rollBack"
	Pause    = "pause"
)

// Fault tells of a fault: of requests, which is a lease, or of what carries the mesh.
type Fault struct {
	ID       string        `json:"id"`
	What     string        `json:"what"` // kind: abort, delay, abort+delay, podKill, nodeDrain, controlKill, scale
	Text     string        `json:"text"` // in words
	State    string        `json:"state"`
	TTL      time.Duration `json:"ttl,omitempty"`
	Matched  uint64        `json:"matched"` // requests, or pods, nodes and workloads
	Injected uint64        `json:"injected"`
	Residue  uint64        `json:"residue"` // still in effect after the end
	Executor string        `json:"executor,omitempty"`
	Hit      []string      `json:"hit,omitempty"` // names of the pods, nodes and workloads
}

// States of a fault.
const (
	FaultArmed      = "armed"
	FaultHit        = "hit" // what carries the mesh is broken now: Hit says where
	FaultHealed     = "healed"
	FaultLapsed     = "lapsed"
	FaultNotReached = "notReached" // its window never opened
)

// SelfCheck is a check of the run itself: evidence before verdict.
type SelfCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason"`
	Voids  string `json:"voids,omitempty"` // what it voids when it is not OK: run, latency
}

// Expectation is one line of the scenario's expect.
type Expectation struct {
	Check
}

// Cost is what the mesh itself used while load ran.
type Cost struct {
	Sidecars    int           `json:"sidecars"`
	CPU         time.Duration `json:"cpu"`
	Requests    uint64        `json:"requests"` // that passed a sidecar, counted at each
	RSS         int64         `json:"rss"`      // bytes, of all sidecars
	PerThousand time.Duration `json:"perThousand"`
}

// Traces is what the traces of a run tell, at the end of its load.
type Traces struct {
	Sampling float64  `json:"sampling"` // share of the traces that were to be recorded, 0 to 1
	Traces   int      `json:"traces"`
	Spans    int      `json:"spans"`
	Lost     uint64   `json:"lost,omitempty"`    // spans that sidecars dropped because too many waited
	FanOuts  []FanOut `json:"fanOuts,omitempty"` // of workloads that call several others for one request
	Examples []Trace  `json:"examples,omitempty"`
}

// FanOut is how the calls of a workload lie in time, over all traced requests in which it made at least two.
type FanOut struct {
	Workload string        `json:"workload"`
	Requests int           `json:"requests"`
	Serial   int           `json:"serial"`   // of them, with all calls one after the other
	Parallel int           `json:"parallel"` // with all at the same time; of the rest, some were
	Calls    int           `json:"calls"`    // sum, as are the following
	Busy     time.Duration `json:"busy"`     // at least one call was under way
	Longest  time.Duration `json:"longest"`  // the longest call: all at the same time would have taken so long
}

// Trace is one request's way through the mesh.
type Trace struct {
	ID     string        `json:"id"` // 32 hexadecimal digits
	Stream string        `json:"stream"`
	Key    string        `json:"key"`
	Why    string        `json:"why"`   // typical, slowest: of its stream
	Start  time.Duration `json:"start"` // of the run
	Took   time.Duration `json:"took"`
	Spans  []Span        `json:"spans"`         // parents before their children
	Cut    bool          `json:"cut,omitempty"` // there are more spans
}

// Why a trace was chosen.
const (
	TypicalTrace = "typical" // it took the median
	SlowestTrace = "slowest"
)

// Span is one side of a request, or of an attempt, as a sidecar tells it.
type Span struct {
	Parent   int           `json:"parent"` // index among the trace's spans; -1: none
	Kind     string        `json:"kind"`   // CLIENT, SERVER
	Workload string        `json:"workload"`
	Remote   string        `json:"remote,omitempty"` // the other end
	Start    time.Duration `json:"start"`            // since the trace began
	Took     time.Duration `json:"took"`
	Status   string        `json:"status,omitempty"`
	Retry    string        `json:"retry,omitempty"`  // attempts that went before
	Reason   string        `json:"reason,omitempty"` // why the mesh itself answered
	Failed   bool          `json:"failed,omitempty"`
}

// Connections tells of the connections of TCP from one service to another, at the end of a run: of these there is no evidence of requests.
type Connections struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Opened   uint64 `json:"opened"`
	Received uint64 `json:"received"` // bytes, by the caller's sidecar from the caller
	Sent     uint64 `json:"sent"`     // bytes, to the caller
}

// Note is a line for the reader.
type Note struct {
	Level string `json:"level"` // info, warning, error
	Text  string `json:"text"`
}

// Finished closes a journal; a journal without it is of a run that was killed.
type Finished struct {
	Verdict  string        `json:"verdict"` // pass, fail, inconclusive, invalid, aborted
	ExitCode int           `json:"exitCode"`
	Reason   string        `json:"reason"`
	Outcome  string        `json:"outcome"` // promoted, rolledBack, paused, none
	Took     time.Duration `json:"took"`
}

// Evidence is one block of counts of the judged edges, in evidence.ndjson.
type Evidence struct {
	Instance string        `json:"instance"`
	Seq      uint64        `json:"seq"`
	Start    time.Duration `json:"start"` // of the run
	End      time.Duration `json:"end"`
	Cells    []Cell        `json:"cells,omitempty"`
	Errors   []Failure     `json:"errors,omitempty"`
}

// Cell counts requests of one kind.
type Cell struct {
	From     string   `json:"from"`
	To       string   `json:"to"`
	Stream   string   `json:"stream,omitempty"`
	Route    string   `json:"route,omitempty"`
	Version  string   `json:"version"`
	Share    float64  `json:"share,omitempty"`
	Requests uint64   `json:"requests"`
	Failed   uint64   `json:"failed,omitempty"`
	ByFault  uint64   `json:"byFault,omitempty"`
	ByMesh   uint64   `json:"byMesh,omitempty"`
	Attempts uint64   `json:"attempts,omitempty"`
	Latency  []uint64 `json:"latency,omitempty"` // of successes: sparse histogram
}

// Failure is one failed request.
type Failure struct {
	At      time.Duration `json:"at"` // of the run
	From    string        `json:"from"`
	To      string        `json:"to"`
	Key     string        `json:"key"`
	Version string        `json:"version"`
	Status  int           `json:"status"`
	Reason  string        `json:"reason,omitempty"`
	Latency time.Duration `json:"latency"`
}

// Kinds of the events, as they stand in the file.
func (Started) Kind() Kind     { return "run.started" }
func (Phase) Kind() Kind       { return "phase" }
func (Process) Kind() Kind     { return "process" }
func (Config) Kind() Kind      { return "config" }
func (Load) Kind() Kind        { return "load" }
func (LoadWindow) Kind() Kind  { return "load.window" }
func (Step) Kind() Kind        { return "step" }
func (Judgement) Kind() Kind   { return "judgement" }
func (Decision) Kind() Kind    { return "decision" }
func (Fault) Kind() Kind       { return "fault" }
func (SelfCheck) Kind() Kind   { return "selfcheck" }
func (Expectation) Kind() Kind { return "expectation" }
func (Cost) Kind() Kind        { return "cost" }
func (Traces) Kind() Kind      { return "traces" }
func (Connections) Kind() Kind { return "connections" }
func (Note) Kind() Kind        { return "note" }
func (Finished) Kind() Kind    { return "run.finished" }
func (Evidence) Kind() Kind    { return "evidence" }
