package reports

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/journal"
)

// theatre writes the journal of a run that never was, with the events that a real one has, under a clock and a chance of its own.
type theatre struct {
	t                *testing.T
	dir              string
	now              time.Duration
	chance           *rand.Rand
	states, evidence *journal.Writer
	blocks           uint64
	keys             uint64
	windows          []journal.LoadWindow
	arms             map[string]*figures
}

// figures are what a version has done.
type figures struct{ requests, failed uint64 }

// traffic is what flows for a while.
type traffic struct {
	weight       float64 // of the canary, percent
	fault        float64 // share that a fault aborts
	canaryErrors float64
	canarySlower float64 // factor
}

const (
	beat     = 200 * time.Millisecond
	perBeat  = 60
	medianMs = 6.0
)

func newTheatre(t *testing.T, dir string) *theatre {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	th := &theatre{t: t, dir: dir, chance: rand.New(rand.NewPCG(1, 2)), arms: map[string]*figures{"prod": {}, "canary": {}}}
	clock := func() time.Duration { return th.now }
	var err error
	th.states, err = journal.Create(dir, journal.StatesFile, false, clock)
	require.NoError(t, err)
	th.evidence, err = journal.Create(dir, journal.EvidenceFile, false, clock)
	require.NoError(t, err)
	return th
}

func (th *theatre) close() {
	th.t.Helper()
	require.NoError(th.t, th.states.Close())
	require.NoError(th.t, th.evidence.Close())
}

// say records events, a millisecond after what was before.
func (th *theatre) say(events ...journal.Event) {
	th.t.Helper()
	for _, e := range events {
		th.now += time.Millisecond
		require.NoError(th.t, th.states.Append(e))
	}
}

var steps = []string{"setHeaderRoute testers", "pause 2s", "setWeight 5", "pause 4s", "setWeight 25", "pause 4s", "setWeight 50", "pause 4s"}

func started(rollout bool) journal.Started {
	s := journal.Started{
		Run: "r-20260102-030405", Scenario: "canary-promote", Description: "A good canary is promoted through a header route and three weights.",
		File: "scenarios/canary-promote.yaml", Source: "apiVersion: meshtest.dev/v1\nkind: Scenario\n", Seed: 42, Environment: "local", Version: "v0.1.0",
		Wall: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Plan: "seed 42\nload: users 300/s\n", CPUs: 2,
	}
	if rollout {
		s.Rollout = &journal.Rollout{Service: "middleware", Stable: "prod", Canary: "canary", From: "frontend", Judge: "requests", Alpha: 0.01, Steps: steps}
		s.Expect = []string{"roll-out: promoted"}
	}
	return s
}

// standUp plays a run until load begins.
func (th *theatre) standUp(s journal.Started) {
	th.say(s, journal.Phase{Name: "environment", State: journal.Begun})
	for i, name := range []string{"backend-prod", "frontend-prod", "middleware-canary", "middleware-prod"} {
		th.now += 50 * time.Millisecond
		th.say(journal.Process{Name: name, PID: 100 + i, Address: fmt.Sprintf("127.1.2.%d:8080", i+1), State: "started"})
	}
	th.now += 400 * time.Millisecond
	th.say(
		journal.Phase{Name: "environment", State: journal.Ended},
		journal.Config{Generation: "1", State: journal.Converged, Sidecars: 5, Change: "the first configuration"},
		journal.Phase{Name: "load", State: journal.Begun},
		journal.Load{Name: "users", Target: "frontend", Rate: "300/s", State: journal.Begun},
	)
}

// flow plays traffic for a while, a block of evidence at each beat.
func (th *theatre) flow(lasting time.Duration, f traffic) {
	th.t.Helper()
	for end := th.now + lasting; th.now < end; {
		start := th.now
		th.now += beat
		block := journal.Evidence{Instance: "frontend-prod-0", Seq: th.blocks, Start: start, End: th.now}
		felt := tally{}
		th.blocks++
		for _, version := range []string{"prod", "canary"} {
			share := f.weight / 100
			if version == "prod" {
				share = 1 - share
			}
			cell := th.cell(&block, version, share, f)
			if cell.Requests > 0 {
				block.Cells = append(block.Cells, cell)
				felt.add(cell.Requests, cell.Failed, cell.Latency)
			}
		}
		require.NoError(th.t, th.evidence.AppendFrom(&journal.Source{Name: block.Instance, At: block.End, Error: time.Millisecond}, block))
		window := journal.LoadWindow{Name: "users", Start: start, Length: beat, Requests: felt.Requests, Errors: felt.Failed}
		if felt.latency != nil {
			window.Latency = felt.latency.AppendSparse(nil)
		}
		th.windows = append(th.windows, window)
	}
}

func (th *theatre) cell(block *journal.Evidence, version string, share float64, f traffic) journal.Cell {
	cell := journal.Cell{From: "frontend", To: "middleware", Stream: "users", Route: "split", Version: version, Share: share}
	arm := th.arms[version]
	var latency hist.Histogram
	for range perBeat {
		if th.chance.Float64() >= share {
			continue
		}
		cell.Requests++
		took := medianMs * math.Exp(0.4*th.chance.NormFloat64())
		byFault := th.chance.Float64() < f.fault
		bad := version == "canary" && th.chance.Float64() < f.canaryErrors
		if version == "canary" && f.canarySlower > 0 {
			took *= f.canarySlower
		}
		d := time.Duration(took * float64(time.Millisecond)).Round(10 * time.Microsecond)
		if !byFault && !bad {
			latency.Record(d)
			continue
		}
		cell.Failed++
		th.keys++
		failure := journal.Failure{At: block.Start, From: cell.From, To: cell.To, Key: fmt.Sprintf("users-%d", th.keys), Version: version, Status: 500, Latency: d}
		if byFault {
			cell.ByFault++
			failure.Status, failure.Reason = 503, "fault"
		}
		block.Errors = append(block.Errors, failure)
	}
	cell.Attempts = cell.Requests
	cell.Latency = latency.AppendSparse(nil)
	arm.requests += cell.Requests
	arm.failed += cell.Failed
	return cell
}

// judge records a judgement.
func (th *theatre) judge(verdict, reason string) {
	canary, prod := th.arms["canary"], th.arms["prod"]
	value := func(f *figures) float64 { return 100 * float64(f.failed) / float64(max(f.requests, 1)) }
	th.say(journal.Judgement{
		Verdict: verdict, Reason: reason, CanaryRequests: canary.requests, CanaryFailed: canary.failed,
		Checks: []journal.Check{
			{Name: "request-success-rate", Verdict: verdict, Critical: true, Value: value(canary), Baseline: number(value(prod)), Threshold: 2, Unit: "%", Samples: canary.requests, Reason: reason},
			{Name: "middleware-p99-in-budget", Verdict: "good", Query: `histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{reporter="source"}[5s])))`,
				Value: 17.25, Threshold: 1, Samples: 9, Reason: "9 of 9 measurements hold"},
		},
	})
}

// step plays a step of the roll-out.
func (th *theatre) step(index int, lasting time.Duration, f traffic) {
	th.say(journal.Step{Index: index, Text: steps[index-1], State: journal.Begun, Weight: f.weight})
	for played := time.Duration(0); played < lasting; played += time.Second {
		th.flow(min(time.Second, lasting-played), f)
		th.judge("undecided", "the canary may still be worse by more than 2 %")
	}
	th.say(journal.Step{Index: index, State: journal.Ended, Weight: f.weight})
}

// wrapUp plays what comes after the load.
func (th *theatre) wrapUp(checks ...journal.SelfCheck) {
	var sum tally
	var all journal.Load
	for _, w := range th.windows {
		sum.add(w.Requests, w.Errors, w.Latency)
	}
	all = journal.Load{
		Name: "users", Target: "frontend", Rate: "300/s", State: journal.Ended, Scheduled: sum.Requests, Sent: sum.Requests, Completed: sum.Requests, Errors: sum.Failed,
		SlipP99: 180 * time.Microsecond, LatencyMax: 31 * time.Millisecond,
	}
	if sum.latency != nil {
		all.Latency = sum.latency.AppendSparse(nil)
	}
	th.say(all)
	for _, w := range th.windows {
		th.say(w)
	}
	th.say(journal.Phase{Name: "load", State: journal.Ended}, journal.Phase{Name: "drain", State: journal.Begun}, journal.Phase{Name: "drain", State: journal.Ended})
	th.say(journal.Cost{Sidecars: 5, CPU: 2 * time.Second, Requests: 40000, RSS: 61 << 20, PerThousand: 50 * time.Millisecond})
	for _, c := range checks {
		th.say(c)
	}
}

func (th *theatre) end(f journal.Finished) {
	th.say(journal.Phase{Name: "teardown", State: journal.Begun})
	th.now += 120 * time.Millisecond
	th.say(
		journal.Process{Name: "middleware-canary", State: "exited", Exit: "signal: terminated", CPU: 310 * time.Millisecond, RSS: 14 << 20},
		journal.Phase{Name: "teardown", State: journal.Ended},
	)
	f.Took = th.now
	th.say(f)
}

var sound = []journal.SelfCheck{
	{Name: "evidence", OK: true, Reason: "5 sidecars told everything"},
	{Name: "load", OK: true, Reason: "all requests were sent"},
	{Name: "split", OK: true, Reason: "the versions got what the weights say"},
}

// plays are the recorded runs under fixtures/journals.
var plays = map[string]func(*theatre){
	"promoted": func(th *theatre) {
		unavailable := journal.Fault{ID: "unavailable", What: "abort", Text: "answer 20 % with 503 of the requests from frontend to middleware", TTL: 10 * time.Second}
		th.standUp(started(true))
		th.flow(2*time.Second, traffic{})
		th.step(1, beat, traffic{})
		th.step(2, 2*time.Second, traffic{})
		th.step(3, beat, traffic{weight: 5})
		th.step(4, 4*time.Second, traffic{weight: 5})
		th.step(5, beat, traffic{weight: 25})
		unavailable.State = journal.FaultArmed
		th.say(unavailable)
		th.step(6, 4*time.Second, traffic{weight: 25, fault: 0.2})
		unavailable.State, unavailable.Matched, unavailable.Injected = journal.FaultHealed, 1200, 236
		th.say(unavailable)
		th.step(7, beat, traffic{weight: 50})
		th.step(8, 4*time.Second, traffic{weight: 50})
		th.judge("good", "the canary is not worse by more than 2 %")
		th.say(journal.Decision{Action: journal.Promote, Reason: "2 of 2 checks are good", CanaryRequests: th.arms["canary"].requests, CanaryFailed: th.arms["canary"].failed})
		th.say(journal.Config{Generation: "9", State: journal.Applied, Change: "middleware: 100 % to the canary", Sidecars: 1},
			journal.Config{Generation: "9", State: journal.Converged, Sidecars: 5, Change: "acknowledged 4.2 ms after it was applied"})
		th.flow(2*time.Second, traffic{weight: 100})
		th.wrapUp(sound...)
		th.say(journal.Expectation{Check: journal.Check{Name: "testers reach the canary", Verdict: "pass", Critical: true, Value: 81.5, Threshold: 60, Unit: "%", Samples: 400,
			Reason: "326 of 400 requests to middleware went to canary, 81.50 %"}})
		th.end(journal.Finished{Verdict: "pass", Reason: "the roll-out was promoted, as expected", Outcome: "promoted"})
	},
	"rolled-back": func(th *theatre) {
		th.standUp(started(true))
		th.flow(2*time.Second, traffic{})
		th.step(1, beat, traffic{})
		th.step(2, time.Second, traffic{})
		th.step(3, beat, traffic{weight: 5})
		th.step(4, 4*time.Second, traffic{weight: 5, canaryErrors: .1, canarySlower: 1.5})
		bad := traffic{weight: 25, canaryErrors: .1, canarySlower: 1.5}
		th.say(journal.Step{Index: 5, Text: steps[4], State: journal.Begun, Weight: 25})
		th.flow(beat, bad)
		th.say(journal.Step{Index: 5, State: journal.Ended, Weight: 25}, journal.Step{Index: 6, Text: steps[5], State: journal.Begun, Weight: 25})
		th.flow(1200*time.Millisecond, bad)
		th.judge("bad", "the canary fails more requests than the baseline (e-value 3.1e4 at alpha 0.01)")
		th.say(
			journal.Step{Index: 6, State: journal.Ended, Weight: 25, Error: "rolled back"},
			journal.Decision{Action: journal.RollBack, Reason: "request-success-rate: the canary fails more requests than the baseline", Check: "request-success-rate",
				CanaryRequests: th.arms["canary"].requests, CanaryFailed: th.arms["canary"].failed},
		)
		th.flow(1600*time.Millisecond, traffic{})
		th.wrapUp(sound...)
		th.end(journal.Finished{Verdict: "fail", ExitCode: 1, Reason: "request-success-rate: the canary fails more requests than the baseline", Outcome: "rolledBack"})
	},
	"killed": func(th *theatre) {
		th.standUp(started(true))
		th.flow(time.Second, traffic{})
		th.step(1, beat, traffic{})
		th.say(journal.Step{Index: 2, Text: steps[1], State: journal.Begun})
		th.say(journal.Fault{ID: "slow", What: "delay", Text: "delay 10 % by 50ms of the requests from frontend to middleware", State: journal.FaultArmed, TTL: 10 * time.Second})
		th.flow(1200*time.Millisecond, traffic{})
		th.judge("undecided", "the canary has had no request yet")
		th.say(journal.Note{Level: "warning", Text: "the machine is busy: 2 processors, load 7.1"})
	},
	"invalid": func(th *theatre) {
		th.standUp(started(true))
		th.flow(time.Second, traffic{})
		th.step(1, beat, traffic{})
		th.step(2, 800*time.Millisecond, traffic{})
		th.say(journal.Fault{ID: "nothing", What: "abort", Text: "answer 50 % with 500 of the requests from backend to nowhere", State: journal.FaultArmed, TTL: 10 * time.Second})
		th.step(3, 800*time.Millisecond, traffic{weight: 5})
		th.say(journal.Fault{ID: "nothing", What: "abort", State: journal.FaultHealed})
		th.wrapUp(append(sound[:2:2], journal.SelfCheck{Name: "fault nothing", Reason: "it matched 0 requests, at least 1 is needed: it had nothing to act on", Voids: "run"})...)
		th.end(journal.Finished{Verdict: "invalid", ExitCode: 4, Reason: "fault nothing: it matched 0 requests, at least 1 is needed: it had nothing to act on", Outcome: "none"})
	},
	"no-rollout": func(th *theatre) {
		s := started(false)
		s.Scenario, s.Description = "smoke", "Two seconds of load, nothing else."
		th.standUp(s)
		th.flow(2*time.Second, traffic{fault: .01})
		th.wrapUp(sound[:2]...)
		th.say(journal.Expectation{Check: journal.Check{Name: "nearly all requests succeed", Verdict: "pass", Critical: true, Value: 98.9, Threshold: 95, Unit: "%", Samples: 600, Reason: "593 of 600 requests succeeded, 98.83 %"}})
		th.end(journal.Finished{Verdict: "pass", Reason: "all expectations held", Outcome: "none"})
	},
}

// play records a run into a folder.
func play(t *testing.T, name, dir string) {
	t.Helper()
	th := newTheatre(t, dir)
	plays[name](th)
	th.close()
	if name == "killed" { // in the middle of a line
		path := filepath.Join(dir, journal.StatesFile)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(path, info.Size()-40))
	}
}
