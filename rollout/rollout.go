// Package rollout acts on the judgement: it is the state machine that moves traffic to the canary step by step, promotes it, or rolls it
// back. It decides purely: inputs go in with their time, effects come out, and whoever runs it carries them out.
package rollout

import (
	"fmt"
	"time"

	"meshtest.dev/meshtest/analyzer"
)

// Outcome is how a roll-out ended.
type Outcome string

// Outcomes.
const (
	None       Outcome = "none" // not over, or never begun
	Promoted   Outcome = "promoted"
	RolledBack Outcome = "rolledBack"
	Paused     Outcome = "paused" // it stopped where a human, or more evidence, is needed
)

// Config is what the author declared.
type Config struct {
	WarmUp time.Duration // all on stable, before the first step
	Steps  []Step
	// Patience is how long the last step is held when the evidence that a promotion needs is not there yet.
	Patience time.Duration
}

// Step is one step; exactly one of its parts is set.
type Step struct {
	Text     string // in words
	Weight   *float64
	Header   *HeaderRoute
	Pause    *Pause
	Analysis *Analysis
}

// HeaderRoute sends requests that satisfy Match to the canary, before any weight; an empty Match removes the route of that name.
type HeaderRoute struct {
	Name  string
	Match []HeaderMatch
}

// HeaderMatch is a condition on one header; exactly one of the values is set. All conditions of a route must hold.
type HeaderMatch struct {
	Name                 string
	Exact, Prefix, Regex *string
}

// Pause holds a step for a time; 0 means until a human goes on, which ends a run as paused.
type Pause struct{ For time.Duration }

// Analysis holds a step until the canary has had so many requests, at most for Timeout.
type Analysis struct {
	MinRequests uint64
	Timeout     time.Duration
}

// Split is where the traffic of the service goes: what a roll-out wants of the mesh.
type Split struct {
	Weight  float64 // percent to the canary
	Headers []HeaderRoute
}

// Input is what the machine learns.
type Input struct {
	Now       time.Duration // on the run's clock, never going back
	Judgement analyzer.Judgement
	Converged bool // every sidecar has acknowledged the last split
}

// Effect is what has to be done; the types below are all there are.
type Effect interface{ effect() }

// Route asks for a split; Input.Converged must be false until every sidecar has acknowledged it.
type Route struct{ Split Split }

// Enter and Leave mark a step for the record; steps count from 1.
type (
	Enter struct{ Index int }
	Leave struct {
		Index int
		Cut   string // why it ended early; empty when it did not
	}
)

// Decide is the decision, made once, before the split that carries it out.
type Decide struct {
	Outcome   Outcome
	Reason    string
	Judgement analyzer.Judgement
}

// Finish says that the decision has been carried out.
type Finish struct{ Outcome Outcome }

func (Route) effect()  {}
func (Enter) effect()  {}
func (Leave) effect()  {}
func (Decide) effect() {}
func (Finish) effect() {}

type phase int

const (
	idle phase = iota
	warmUp
	stepping
	holding  // after the last step, for the evidence that a promotion needs
	settling // the decision is made, its split is on its way
	finished
)

// Machine is one roll-out.
type Machine struct {
	config  Config
	phase   phase
	since   time.Duration // when the phase or step began to count
	counts  bool          // since is set: the split that the step asked for is everywhere
	step    int           // index into Steps
	split   Split
	outcome Outcome
}

// New returns a machine that has not begun.
func New(config Config) *Machine { return &Machine{config: config, outcome: None} }

// Outcome is the outcome so far: set when the decision is made.
func (m *Machine) Outcome() Outcome { return m.outcome }

// Done reports whether the decision has been carried out.
func (m *Machine) Done() bool { return m.phase == finished }

// Split is the split that the machine asked for last.
func (m *Machine) Split() Split { return m.split }

// Deadline is when the machine has something to do by itself, for whoever waits; ok is false when only an input can move it.
func (m *Machine) Deadline() (at time.Duration, ok bool) {
	if !m.counts {
		return 0, false
	}
	switch m.phase {
	case warmUp:
		return m.since + m.config.WarmUp, true
	case holding:
		return m.since + m.config.Patience, true
	case stepping:
		switch step := m.config.Steps[m.step]; {
		case step.Pause != nil:
			return m.since + step.Pause.For, true
		case step.Analysis != nil:
			return m.since + step.Analysis.Timeout, true
		}
	}
	return 0, false
}

// Step takes one input and returns the effects, in order.
func (m *Machine) Step(in Input) []Effect {
	switch m.phase {
	case idle:
		m.begin(warmUp)
		m.split = Split{}
		return []Effect{Route{m.split}}
	case finished:
		return nil
	case settling:
		if !in.Converged {
			return nil
		}
		m.phase = finished
		return []Effect{Finish{m.outcome}}
	}
	if in.Judgement.Verdict == analyzer.Bad {
		return m.rollBack(in)
	}
	if !in.Converged {
		return nil
	}
	if !m.counts {
		m.since, m.counts = in.Now, true
	}
	return m.advance(in)
}

// advance goes as far as the time and the judgement allow.
func (m *Machine) advance(in Input) []Effect {
	var effects []Effect
	for {
		switch m.phase {
		case warmUp:
			if in.Now < m.since+m.config.WarmUp {
				return effects
			}
			m.begin(stepping)
			m.step = -1 // next enters the first
		case stepping:
			done, stop := m.stepDone(in)
			if stop != "" {
				return append(effects, m.pause(in, stop)...)
			}
			if !done {
				return effects
			}
			effects = append(effects, Leave{Index: m.step + 1})
		case holding:
			if in.Judgement.Verdict == analyzer.Good {
				return append(effects, m.promote(in)...)
			}
			if in.Now < m.since+m.config.Patience {
				return effects
			}
			return append(effects, m.pause(in, "not enough evidence to promote: "+in.Judgement.Reason)...)
		}
		entered, wait := m.next(in)
		effects = append(effects, entered...)
		if wait {
			return effects
		}
	}
}

// next enters the step after the current one, or the hold after the last; wait is true when a new split must converge first.
func (m *Machine) next(in Input) (effects []Effect, wait bool) {
	m.step++
	if m.step >= len(m.config.Steps) {
		m.begin(holding)
		m.since, m.counts = in.Now, true
		return nil, false
	}
	m.since, m.counts = in.Now, true
	effects = append(effects, Enter{Index: m.step + 1})
	switch step := m.config.Steps[m.step]; {
	case step.Weight != nil:
		m.split.Weight = *step.Weight
	case step.Header != nil:
		m.split.Headers = withHeader(m.split.Headers, *step.Header)
	default:
		return effects, false
	}
	m.counts = false
	return append(effects, Route{m.split}), true
}

// stepDone reports whether the current step is over; stop says why the roll-out must pause instead.
func (m *Machine) stepDone(in Input) (done bool, stop string) {
	switch step := m.config.Steps[m.step]; {
	case step.Pause != nil && step.Pause.For == 0:
		return false, fmt.Sprintf("step %d waits for a human", m.step+1)
	case step.Pause != nil:
		return in.Now >= m.since+step.Pause.For, ""
	case step.Analysis != nil && in.Judgement.CanaryRequests >= step.Analysis.MinRequests:
		return true, ""
	case step.Analysis != nil && in.Now >= m.since+step.Analysis.Timeout:
		return false, fmt.Sprintf("step %d: the canary had %d of %d requests after %s",
			m.step+1, in.Judgement.CanaryRequests, step.Analysis.MinRequests, step.Analysis.Timeout)
	case step.Analysis != nil:
		return false, ""
	default:
		return true, "" // a new split is done when it has converged
	}
}

func (m *Machine) begin(p phase) { m.phase, m.counts = p, false }

func (m *Machine) promote(in Input) []Effect {
	return m.decide(in, Promoted, in.Judgement.Reason, &Split{Weight: 100})
}

func (m *Machine) rollBack(in Input) []Effect {
	var effects []Effect
	if m.phase == stepping {
		effects = append(effects, Leave{Index: m.step + 1, Cut: in.Judgement.Reason})
	}
	return append(effects, m.decide(in, RolledBack, in.Judgement.Reason, &Split{})...)
}

// pause leaves the split as it is: whoever takes over decides.
func (m *Machine) pause(in Input, reason string) []Effect {
	return m.decide(in, Paused, reason, nil)
}

func (m *Machine) decide(in Input, outcome Outcome, reason string, split *Split) []Effect {
	m.outcome = outcome
	effects := []Effect{Decide{Outcome: outcome, Reason: reason, Judgement: in.Judgement}}
	if split == nil {
		m.phase = finished
		return append(effects, Finish{outcome})
	}
	m.begin(settling)
	m.split = *split
	return append(effects, Route{m.split})
}

// withHeader returns the routes with one replaced, added at the end, or, when it matches nothing, removed.
func withHeader(routes []HeaderRoute, route HeaderRoute) []HeaderRoute {
	var out []HeaderRoute
	replaced := false
	for _, r := range routes {
		switch {
		case r.Name != route.Name:
			out = append(out, r)
		case len(route.Match) > 0:
			out = append(out, route)
			replaced = true
		}
	}
	if !replaced && len(route.Match) > 0 {
		out = append(out, route)
	}
	return out
}
