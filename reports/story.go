// Package reports shows: it reads a run's journal and renders it as HTML, JUnit XML, JSON and Markdown. Every report is a function of the journal
// alone, so an old one can be rendered again, and a run that was killed still has a report, which says so.
package reports

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"meshtest.dev/meshtest/journal"
)

// Story is a run as its journal tells it: states at their ends, decisions in order, counts in windows. Times are since the run began.
type Story struct {
	Started      journal.Started  // zero in a journal that was damaged or cut before it
	Finished     journal.Finished // of a damaged journal invalid, of a run without an end aborted, each with the reason
	Killed       bool             // the journal has no end
	Damage       []error          // what is not as it was written; any of it makes the run invalid
	Gaps         []string         // what is missing for the charts, and takes nothing from the verdict
	Took         time.Duration    // until the last entry
	Phases       []Span
	Steps        []StepSpan // declared ones that were not reached included
	Faults       []FaultSpan
	Decision     *Timed[journal.Decision] // the last one; nil: none
	Judgements   []Timed[journal.Judgement]
	SelfChecks   []journal.SelfCheck
	Expectations []journal.Expectation
	Loads        []journal.Load // at their ends; of a killed run at their beginnings
	LoadWindows  []journal.LoadWindow
	Processes    []journal.Process // as last heard of
	Configs      []Timed[journal.Config]
	Notes        []Timed[journal.Note]
	Cost         *journal.Cost   // nil: it was not measured
	Traces       *journal.Traces // nil: none were recorded
	Connections  []journal.Connections
	Evidence     []journal.Evidence
}

// Timed is an event with its time.
type Timed[T any] struct {
	At   time.Duration
	Data T
}

// Window is a stretch of time; one that never ended ends with the journal.
type Window struct {
	Start, End time.Duration
	Open       bool // it never ended
}

// Span is a phase of the run.
type Span struct {
	Window
	Name  string
	Error string
	Note  string
}

// StepSpan is a step of the roll-out.
type StepSpan struct {
	Window
	Index   int // from 1
	Text    string
	Weight  float64 // of the canary while the step lasts, percent
	Reached bool
	Cut     string // why it ended early
}

// FaultSpan is one fault over all its windows.
type FaultSpan struct {
	ID, What, Text string
	TTL            time.Duration // of its lease: at most so long did it outlive a run that died
	Windows        []Window      // none: it was not reached
	Matched        uint64
	Injected       uint64
	Residue        uint64   // effects still there after the end
	Hit            []string // pods, nodes and workloads
	State          string   // journal.FaultArmed, FaultHealed or FaultLapsed, as last heard of
	Lapsed         bool     // its lease lapsed at some time
}

// Open reads a run's folder, or the journal in it. Missing evidence is a gap of the story, not an error.
func Open(path string) (*Story, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	if info.IsDir() {
		path = filepath.Join(path, journal.StatesFile)
	}
	states, err := readLog(path)
	if err != nil {
		return nil, err
	}
	if len(states.Entries) == 0 && filepath.Base(path) != journal.StatesFile {
		return nil, fmt.Errorf("%s holds no line of a journal", path)
	}
	evidence, err := readLog(filepath.Join(filepath.Dir(path), journal.EvidenceFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return Tell(states, evidence)
}

func readLog(path string) (*journal.Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	defer f.Close()
	log, err := journal.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return log, nil
}

// Tell makes a story of the two logs; evidence may be nil. It fails only when states are not those of a run. An empty log is one: the run was killed
// before it could say anything.
func Tell(states, evidence *journal.Log) (*Story, error) {
	if err := ofARun(states); err != nil {
		return nil, err
	}
	t := teller{Story: &Story{Killed: true}}
	t.hearStates(states)
	t.hearEvidence(evidence)
	t.close()
	return t.Story, nil
}

func ofARun(states *journal.Log) error {
	if len(states.Entries) == 0 || len(states.Damage) > 0 || states.Entries[0].Kind == kindStarted {
		return nil
	}
	return fmt.Errorf("the journal begins with %q and not with %q: give the run's folder or its %s", states.Entries[0].Kind, kindStarted, journal.StatesFile)
}

// judgementAtDecision is what the analyzer said when the roll-out was decided or, without a decision, what it said last; nil: nothing.
func (s *Story) judgementAtDecision() *journal.Judgement {
	var last *journal.Judgement
	for i := range s.Judgements {
		if s.Decision != nil && last != nil && s.Judgements[i].At > s.Decision.At {
			break
		}
		last = &s.Judgements[i].Data
	}
	return last
}

// firstCanaryTraffic is when the canary first got a request, as far as evidence tells; otherwise when the first step began.
func (s *Story) firstCanaryTraffic() time.Duration {
	first, found := time.Duration(0), false
	for _, e := range s.Evidence {
		if at := s.within(e.Start); s.toVersion(e, s.Started.Rollout.Canary) && (!found || at < first) {
			first, found = at, true
		}
	}
	if found {
		return first
	}
	for _, step := range s.Steps {
		if step.Reached {
			return step.Start
		}
	}
	return 0
}

// toVersion reports whether a block has requests of the judged edge to a version.
func (s *Story) toVersion(e journal.Evidence, version string) bool {
	for _, c := range e.Cells {
		if s.judged(c.From, c.To) && c.Version == version && c.Requests > 0 {
			return true
		}
	}
	return false
}

// judged reports whether an edge is the one that the roll-out is judged on.
func (s *Story) judged(from, to string) bool {
	r := s.Started.Rollout
	return r != nil && r.From == from && r.Service == to
}

// within brings a time that came from outside into the run.
func (s *Story) within(at time.Duration) time.Duration { return min(max(at, 0), s.Took) }
