package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/analyzer"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/rollout"
	"meshtest.dev/meshtest/spec"
)

// patience is how long the last step is held for the evidence that a promotion needs.
const patience = 10 * time.Second

// judged is what was recorded last of the judgement, so that only news are recorded.
type judged struct {
	at      time.Duration
	verdict analyzer.Verdict
}

// judgementEvery is how often an unchanged judgement is recorded.
const judgementEvery = 500 * time.Millisecond

func (c *conductor) prepareRollout() error {
	r := c.Plan.Rollout
	config := rollout.Config{WarmUp: r.Warmup, Patience: patience}
	for _, step := range r.Steps {
		config.Steps = append(config.Steps, machineStep(step.Text, step.Step))
	}
	c.machine = rollout.New(config)
	c.splits.routes = r.Split.Routes(c.Plan.Snapshot.Routes[mesh.HostPort(r.Host, r.Port)])
	c.edge = &analyzer.Edge{Edge: r.Edge, Stable: r.Stable, Canary: r.Canary, Unit: analyzer.Unit(r.Judge), Routes: slices.Clone(c.splits.routes)}
	for _, step := range r.Steps {
		if h := step.Step.SetHeaderRoute; h != nil {
			c.edge.Routes = append(c.edge.Routes, h.Name)
		}
	}
	panel, err := newPanel(r.Analysis)
	if err != nil {
		return err
	}
	c.panel = panel
	c.split.done = true
	return nil
}

// machineStep is a step of the author's in the machine's words.
func machineStep(text string, s spec.Step) rollout.Step {
	out := rollout.Step{Text: text}
	switch {
	case s.SetWeight != nil:
		weight := float64(*s.SetWeight)
		out.Weight = &weight
	case s.SetHeaderRoute != nil:
		out.Header = &rollout.HeaderRoute{Name: s.SetHeaderRoute.Name}
		for _, m := range s.SetHeaderRoute.Match {
			out.Header.Match = append(out.Header.Match, rollout.HeaderMatch{
				Name: strings.ToLower(m.HeaderName), Exact: m.HeaderValue.Exact, Prefix: m.HeaderValue.Prefix, Regex: m.HeaderValue.Regex,
			})
		}
	case s.Analysis != nil:
		out.Analysis = &rollout.Analysis{MinRequests: uint64(s.Analysis.MinRequests), Timeout: s.Analysis.Timeout}
	case s.Pause != nil:
		out.Pause = &rollout.Pause{For: s.Pause.Duration}
	}
	return out
}

// newPanel makes the checks. The family's alpha is shared evenly among the checks that compare and decide.
func newPanel(a spec.Analysis) (*analyzer.Panel, error) {
	sharing := 0
	for _, check := range a.Checks {
		if check.IsBuiltIn() && check.IsCritical() {
			sharing++
		}
	}
	alpha := a.Alpha / float64(max(sharing, 1))
	panel := &analyzer.Panel{}
	var errs []error
	for _, check := range a.Checks {
		if !check.IsBuiltIn() {
			condition, err := spec.CompileCondition(check.Condition)
			if err != nil {
				errs = append(errs, fmt.Errorf("check %s: %w", check.Name, err))
				continue
			}
			panel.Queries = append(panel.Queries, &analyzer.Query{
				Name: check.Name, Critical: check.IsCritical(), Text: check.Query, Condition: check.Condition, Interval: check.Interval,
				FailureLimit: check.FailureLimit, OnNoData: analyzer.OnNoData(check.OnNoData), Holds: condition.Holds,
			})
			continue
		}
		judge, err := newJudge(check, alpha, a.Beta)
		errs = append(errs, err)
		panel.Judges = append(panel.Judges, judge)
	}
	return panel, errors.Join(errs...)
}

func newJudge(c spec.Check, alpha, beta float64) (analyzer.Judge, error) {
	limit := c.Compare == spec.CompareThreshold
	switch {
	case c.Name == spec.CheckSuccessRate && limit:
		return analyzer.NewErrorLimit(c.Name, c.IsCritical(), alpha, beta, 1-c.ThresholdRange.Min.Percent.Share())
	case c.Name == spec.CheckSuccessRate:
		return analyzer.NewErrorRate(c.Name, c.IsCritical(), alpha, beta, c.MaxDegradation.Share())
	case limit:
		return analyzer.NewDurationLimit(c.Name, c.IsCritical(), alpha, beta, c.Quantile, c.ThresholdRange.Max.Duration)
	default:
		return analyzer.NewDuration(c.Name, c.IsCritical(), alpha, beta, analyzer.Latencies{
			Quantiles: c.Quantiles, Tolerance: c.Tolerance.Share(), PromoteOn: c.PromoteOn, Margin: c.MaxDegradation.Share(),
		})
	}
}

func (c *conductor) advanceRollout(ctx context.Context) {
	judgement := c.panel.Judgement()
	c.recordJudgement(judgement, false)
	// An effect can make the next one possible, so step until nothing happens.
	for {
		effects := c.machine.Step(rollout.Input{Now: c.rec.now(), Judgement: judgement, Converged: c.split.done})
		for _, e := range effects {
			c.carryOut(ctx, e)
		}
		if len(effects) == 0 || c.machine.Done() {
			return
		}
	}
}

// carryOut does what the roll-out asks for.
func (c *conductor) carryOut(ctx context.Context, e rollout.Effect) {
	switch e := e.(type) {
	case rollout.Enter:
		c.step = e.Index
		c.rec.record(journal.Step{Index: e.Index, Text: c.stepText(e.Index), State: journal.Begun, Weight: c.machine.Split().Weight})
	case rollout.Leave:
		c.rec.record(journal.Step{Index: e.Index, State: journal.Ended, Weight: c.machine.Split().Weight, Error: e.Cut})
	case rollout.Decide:
		c.decided = e
		c.step = len(c.Plan.Rollout.Steps) + 1
		c.recordJudgement(e.Judgement, true)
		c.rec.record(journal.Decision{
			Action: action(e.Outcome), Reason: e.Reason, CanaryRequests: e.Judgement.CanaryRequests, CanaryFailed: e.Judgement.CanaryFailed,
		})
	case rollout.Route:
		c.route(ctx, e.Split)
	}
}

func (c *conductor) stepText(index int) string { return c.Plan.Rollout.Steps[index-1].Text }

func action(o rollout.Outcome) string {
	switch o {
	case rollout.Promoted:
		return journal.Promote
	case rollout.RolledBack:
		return journal.RollBack
	default:
		return journal.Pause
	}
}

func headerMatch(conditions []rollout.HeaderMatch) mesh.Match {
	m := mesh.Match{Headers: map[string]mesh.HeaderTest{}}
	for _, h := range conditions {
		m.Headers[h.Name] = mesh.HeaderTest{Value: &mesh.StringMatch{Exact: h.Exact, Prefix: h.Prefix, Regex: h.Regex}}
	}
	return m
}

func (c *conductor) recordJudgement(j analyzer.Judgement, now bool) {
	at := c.rec.now()
	if !now && j.Verdict == c.judged.verdict && at < c.judged.at+judgementEvery {
		return
	}
	c.judged = judged{at: at, verdict: j.Verdict}
	event := journal.Judgement{Verdict: string(j.Verdict), Reason: j.Reason, CanaryRequests: j.CanaryRequests, CanaryFailed: j.CanaryFailed}
	for _, check := range j.Checks {
		event.Checks = append(event.Checks, c.journalCheck(check))
	}
	c.rec.record(event)
}

func (c *conductor) journalCheck(check analyzer.Check) journal.Check {
	out := journal.Check{
		Name: check.Name, Verdict: string(check.Verdict), Critical: check.Critical, Query: check.Query, Value: check.Value, Threshold: check.Threshold,
		Unit: check.Unit, Samples: check.Samples, Evidence: check.Evidence, Needed: check.Needed, Reason: check.Reason,
	}
	if check.Verdict != analyzer.NoData && c.compares(check.Name) {
		out.Baseline = &check.Baseline
	}
	return out
}

// compares reports whether a check compares the canary with the baseline.
func (c *conductor) compares(check string) bool {
	return slices.ContainsFunc(c.Plan.Rollout.Analysis.Checks, func(k spec.Check) bool {
		return k.Name == check && k.IsBuiltIn() && k.Compare == spec.CompareBaseline
	})
}
