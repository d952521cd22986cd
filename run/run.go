// Package run conducts: it carries out a plan in an environment and owns every lifetime on the way. It stands the mesh up, drives the load, leases the
// faults, hears the evidence, moves the roll-out, checks itself, takes everything down in reverse and says what the verdict is.
//
// Whatever happens, the run ends, what it started is gone, and the journal says why. Evidence comes before the verdict: a run that could not see what it judged is invalid, never
// green.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/metrics"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/rollout"
)

// Options are what a run needs.
type Options struct {
	ID          string // unique on this machine
	Plan        *plan.Plan
	Environment env.Environment
	Dir         string // folder of the scenario
	Out         string // folder for journal and logs; it exists
	File        string // scenario as the user named it
	Source      string // its text
	Version     string // of meshtest
	// Observe hears every event of the journal as it is recorded. It must not block. May be nil.
	Observe func(at time.Duration, e journal.Event)
	// Waiting hears what the run waits for, until done is called. May be nil.
	Waiting func(what string) (done func())
	// Keep leaves the environment standing after the verdict until the context ends.
	Keep bool
	// Prometheus answers the scenario's queries. nil: the run asks what it has read from the sidecars itself, which it does in any case, to check itself.
	Prometheus Querier
	// Gateway shows the sidecars' metrics to a Prometheus outside for as long as they are there, also while the environment is kept. nil: nobody looks.
	Gateway *metrics.Gateway
	// Timeouts bound what the run waits for. Zero: as the environment needs it.
	Timeouts Timeouts

	sender loader // of the load; nil: what the mesh offers
}

// Result is how a run ended.
type Result struct {
	Verdict  Verdict
	ExitCode int
	Reason   string
	Outcome  rollout.Outcome
}

// Interrupt is the cause with which a caller cancels a run because of a signal.
type Interrupt struct {
	Signal string
	Code   int // exit code: 128 and the signal's number
}

func (i Interrupt) Error() string { return "interrupted by " + i.Signal }

// Run carries out the plan. An error means that not even a journal could be written; everything else is a result.
func Run(ctx context.Context, o Options) (Result, error) {
	rec, err := newRecorder(o)
	if err != nil {
		return Result{}, err
	}
	c := newConductor(o, rec)
	c.rec.record(c.started())
	result := c.conduct(ctx)
	c.rec.record(journal.Finished{
		Verdict: string(result.Verdict), ExitCode: result.ExitCode, Reason: result.Reason, Outcome: string(result.Outcome), Took: rec.now(),
	})
	if err := rec.close(); err != nil {
		return Result{Verdict: Invalid, ExitCode: Invalid.exitCode(), Reason: "the journal could not be written: " + err.Error(), Outcome: result.Outcome}, nil
	}
	return result, nil
}

func (c *conductor) started() journal.Started {
	s := journal.Started{
		Run: c.ID, Scenario: c.Plan.Name, Description: c.Plan.Description, File: c.File, Source: redact(c.Source), Sets: redactSets(c.Plan.Scenario.Sets()), Seed: c.Plan.Seed,
		Environment: c.Environment.Name(), Version: c.Version, Wall: time.Now().UTC(), Plan: redact(c.Plan.String()), CPUs: runtime.NumCPU(),
	}
	if r := c.Plan.Rollout; r != nil {
		s.Rollout = &journal.Rollout{
			Service: r.Service, Stable: r.Stable, Canary: r.Canary, From: r.Edge.From, Judge: r.Judge, Alpha: r.Analysis.Alpha,
		}
		for _, step := range r.Steps {
			s.Rollout.Steps = append(s.Rollout.Steps, step.Text)
		}
		s.Expect = append(s.Expect, "roll-out: "+r.Expected)
	}
	if e := c.Plan.Scenario.Expect; e != nil {
		for _, check := range e.Checks {
			s.Expect = append(s.Expect, check.Name)
		}
	}
	return s
}

// conduct is the story of a run. What began is ended on every path, in reverse.
func (c *conductor) conduct(ctx context.Context) Result {
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // of everything that watches, until the environment goes down
	defer end()
	err := c.stand(ctx)
	if err == nil {
		err = c.drive(ctx, life)
	}
	end()
	c.watching.Wait()
	if len(c.loads) > 0 {
		c.untold = c.connect(context.WithoutCancel(ctx))
	}
	result := c.conclude(ctx, err)
	if result.Verdict != Passed && !errors.As(err, new(Interrupt)) && ctx.Err() == nil {
		c.diagnose()
	}
	if c.Keep && c.mesh != nil {
		c.note("info", "the environment stays until it is interrupted")
		select {
		case <-ctx.Done():
		case <-c.mesh.Failed():
		}
	}
	if err := c.clearUp(); err != nil && result.Verdict != Aborted {
		return Result{Verdict: Invalid, ExitCode: Invalid.exitCode(), Reason: fmt.Sprintf("%v (the verdict was %s: %s)", err, result.Verdict, result.Reason), Outcome: result.Outcome}
	}
	return result
}

// stand returns when everything stands that load can be sent to.
func (c *conductor) stand(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	early, late := beforeJobs(c.Plan.Scenario.Setup)
	if err := c.setUp(ctx, early); err != nil {
		return err
	}
	if err := c.phase("environment", func() error { return c.standUp(ctx) }); err != nil {
		return err
	}
	return c.setUp(ctx, late)
}

// drive is what happens between a mesh that stands and one that may go.
func (c *conductor) drive(ctx, life context.Context) error {
	c.watch(life)
	if err := c.gather(ctx); err != nil {
		c.recordSelfCheck(err)
		return err
	}
	c.rec.record(journal.Config{Generation: "1", State: journal.Converged, Sidecars: len(c.there), Change: "the first configuration"})
	defer c.querying.Wait()
	driving, stop := context.WithTimeoutCause(ctx, c.Plan.Timeout, guardStop(fmt.Sprintf("the run took longer than its timeout of %s", c.Plan.Timeout)))
	defer stop()
	err := c.phase("load", func() error { return c.perform(driving) })
	c.healAll(context.WithoutCancel(ctx))
	if err == nil {
		err = c.phase("drain", func() error { return c.settle(ctx) })
	}
	if err == nil {
		c.takeLastSpans(ctx)
	}
	c.account()
	return err
}

// guardStop is the cause of a stop by a guard rail.
type guardStop string

func (g guardStop) Error() string { return string(g) }

func (c *conductor) standUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit.Up, fmt.Errorf("the environment did not stand within %s", c.limit.Up))
	defer cancel()
	m, err := c.Environment.Up(ctx, c.deployment(), c)
	if err != nil {
		return err
	}
	c.mesh = m
	return nil
}

// clearUp takes everything down, and runs what the scenario wants run at its end. An error says what makes the run invalid.
func (c *conductor) clearUp() error {
	early, late := afterJobs(c.Plan.Scenario.Teardown)
	errs := []error{c.tearDown(early)}
	if c.mesh != nil {
		err := c.phase("teardown", func() error {
			ctx, cancel := context.WithTimeoutCause(context.Background(), c.limit.Down, fmt.Errorf("it was not gone within %s", c.limit.Down))
			defer cancel()
			return c.mesh.Down(ctx)
		})
		if err != nil {
			c.diagnose()
		}
		errs = append(errs, err)
		c.mesh = nil
	}
	for _, m := range c.there {
		m.hide()
	}
	return errors.Join(append(errs, c.tearDown(late))...)
}

// phase records the beginning and the end of a part of the run.
func (c *conductor) phase(name string, do func() error) error {
	c.rec.record(journal.Phase{Name: name, State: journal.Begun})
	err := do()
	ended := journal.Phase{Name: name, State: journal.Ended}
	if err != nil {
		ended.State, ended.Error = journal.Failed, err.Error()
	}
	c.rec.record(ended)
	return err
}

func (c *conductor) note(level, text string) { c.rec.record(journal.Note{Level: level, Text: text}) }

// conclude checks everything and gives the verdict; err is what ended the run early.
func (c *conductor) conclude(ctx context.Context, err error) Result {
	outcome := rollout.None
	if c.machine != nil {
		outcome = c.machine.Outcome()
	}
	if cause := context.Cause(ctx); ctx.Err() != nil {
		err = cause
	}
	var interrupt Interrupt
	var guard guardStop
	var notReady *env.NotReady
	result := Result{Outcome: outcome}
	switch {
	case errors.As(err, &interrupt):
		result.Verdict, result.ExitCode, result.Reason = Aborted, interrupt.Code, interrupt.Error()
	case ctx.Err() != nil:
		result.Verdict, result.ExitCode, result.Reason = Aborted, Aborted.exitCode(), err.Error()
	case errors.As(err, &guard):
		result.Verdict, result.ExitCode, result.Reason = Aborted, Aborted.exitCode(), guard.Error()
	case errors.As(err, &notReady) && c.isCandidate(notReady.Workload.Service, notReady.Workload.Version):
		result.Verdict, result.ExitCode, result.Reason = Failed, Failed.exitCode(), "the candidate is bad: "+redact(notReady.Error())
	case err != nil:
		result.Verdict, result.ExitCode, result.Reason = Invalid, Invalid.exitCode(), err.Error()
	default:
		result.Verdict, result.Reason = c.judgeRun(outcome)
		result.ExitCode = result.Verdict.exitCode()
	}
	return result
}
