package reports

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"meshtest.dev/meshtest/journal"
)

// Kinds that the teller asks for by name.
var (
	kindStarted  = journal.Started{}.Kind()
	kindEvidence = journal.Evidence{}.Kind()
)

// Verdicts of a run.
const (
	verdictPass         = "pass"
	verdictFail         = "fail"
	verdictInconclusive = "inconclusive"
	verdictInvalid      = "invalid"
	verdictAborted      = "aborted"
)

// exitUnusable is the exit code of a run that is invalid or aborted.
const exitUnusable = 4

// outcomeNone is the outcome of a roll-out that was not decided, and of a run without one.
const outcomeNone = "none"

// longestRun bounds the times that are believed, so that a forged journal cannot make arithmetic overflow.
const longestRun = 1000 * time.Hour

// teller makes the story, entry by entry.
type teller struct{ *Story }

func (t *teller) hearStates(log *journal.Log) {
	t.Damage = append(t.Damage, log.Damage...)
	for i, e := range log.Entries {
		if e.Kind == kindStarted && i > 0 {
			t.damaged(fmt.Errorf("entry %d: a second run begins", e.Seq))
			continue
		}
		t.hear(e)
	}
	if log.Cut && !t.Killed {
		t.damaged(errors.New("the last line was not finished, though the run was"))
	}
}

func (t *teller) hearEvidence(log *journal.Log) {
	if log == nil {
		t.Gaps = append(t.Gaps, "evidence.ndjson is missing: the charts of the judged edge and the failed requests are empty")
		return
	}
	for _, err := range log.Damage {
		t.damaged(fmt.Errorf("evidence: %w", err))
	}
	if log.Cut && !t.Killed {
		t.damaged(errors.New("evidence: the last line was not finished, though the run was"))
	}
	for _, e := range log.Entries {
		if e.Kind == kindEvidence {
			t.hear(e)
		}
	}
}

func (t *teller) damaged(err error) { t.Damage = append(t.Damage, err) }

// hear takes one entry in. An event that cannot be read is damage; one of a kind that is not known is of a newer minor version and is passed over.
func (t *teller) hear(e journal.Entry) {
	at := min(max(e.At, 0), longestRun)
	t.Took = max(t.Took, at)
	if err := t.tell(at, e); err != nil {
		t.damaged(err)
	}
}

func (t *teller) tell(at time.Duration, e journal.Entry) error {
	switch e.Kind {
	case kindStarted:
		return take(e, t.started)
	case journal.Phase{}.Kind():
		return take(e, func(p journal.Phase) { t.phase(at, p) })
	case journal.Process{}.Kind():
		return take(e, t.process)
	case journal.Config{}.Kind():
		return take(e, func(c journal.Config) { t.Configs = append(t.Configs, Timed[journal.Config]{at, c}) })
	case journal.Load{}.Kind():
		return take(e, t.load)
	case journal.LoadWindow{}.Kind():
		return take(e, func(w journal.LoadWindow) { t.LoadWindows = append(t.LoadWindows, w) })
	case journal.Step{}.Kind():
		return take(e, func(s journal.Step) { t.step(at, s) })
	case journal.Judgement{}.Kind():
		return take(e, func(j journal.Judgement) { t.Judgements = append(t.Judgements, Timed[journal.Judgement]{at, j}) })
	case journal.Decision{}.Kind():
		return take(e, func(d journal.Decision) { t.Decision = &Timed[journal.Decision]{at, d} })
	case journal.Fault{}.Kind():
		return take(e, func(f journal.Fault) { t.fault(at, f) })
	case journal.SelfCheck{}.Kind():
		return take(e, func(c journal.SelfCheck) { t.SelfChecks = append(t.SelfChecks, c) })
	case journal.Expectation{}.Kind():
		return take(e, func(c journal.Expectation) { t.Expectations = append(t.Expectations, c) })
	case journal.Cost{}.Kind():
		return take(e, func(c journal.Cost) { t.Cost = &c })
	case journal.Traces{}.Kind():
		return take(e, func(r journal.Traces) { t.Traces = &r })
	case journal.Connections{}.Kind():
		return take(e, func(c journal.Connections) { t.Connections = append(t.Connections, c) })
	case journal.Note{}.Kind():
		return take(e, func(n journal.Note) { t.Notes = append(t.Notes, Timed[journal.Note]{at, n}) })
	case journal.Finished{}.Kind():
		return take(e, t.finished)
	case kindEvidence:
		return take(e, func(ev journal.Evidence) { t.Evidence = append(t.Evidence, ev) })
	default:
		return nil
	}
}

func take[T journal.Event](e journal.Entry, hear func(T)) error {
	var data T
	if err := e.Decode(&data); err != nil {
		return err
	}
	hear(data)
	return nil
}

func (t *teller) started(s journal.Started) {
	t.Started = s
	if s.Rollout == nil {
		return
	}
	for i, text := range s.Rollout.Steps {
		t.Steps = append(t.Steps, StepSpan{Index: i + 1, Text: text})
	}
}

func (t *teller) finished(f journal.Finished) {
	t.Finished, t.Killed = f, false
	if !slices.Contains([]string{verdictPass, verdictFail, verdictInconclusive, verdictInvalid, verdictAborted}, f.Verdict) {
		t.damaged(fmt.Errorf("%q is no verdict", f.Verdict))
	}
}

func (t *teller) phase(at time.Duration, p journal.Phase) {
	switch p.State {
	case journal.Begun:
		t.Phases = append(t.Phases, Span{Window: Window{Start: at, Open: true}, Name: p.Name, Note: p.Note})
	case journal.Ended, journal.Failed:
		t.phaseEnded(at, p)
	}
}

func (t *teller) phaseEnded(at time.Duration, p journal.Phase) {
	for i := len(t.Phases) - 1; i >= 0; i-- {
		if span := &t.Phases[i]; span.Name == p.Name && span.Open {
			span.end(at)
			span.Error = p.Error
			if p.Note != "" {
				span.Note = p.Note
			}
			return
		}
	}
}

func (w *Window) end(at time.Duration) { w.End, w.Open = max(at, w.Start), false }

func (t *teller) process(p journal.Process) {
	i := slices.IndexFunc(t.Processes, func(q journal.Process) bool { return q.Name == p.Name })
	if i < 0 {
		t.Processes = append(t.Processes, p)
		return
	}
	if p.Address == "" {
		p.Address = t.Processes[i].Address
	}
	if p.PID == 0 {
		p.PID = t.Processes[i].PID
	}
	t.Processes[i] = p
}

func (t *teller) load(l journal.Load) {
	i := slices.IndexFunc(t.Loads, func(m journal.Load) bool { return m.Name == l.Name })
	if i < 0 {
		t.Loads = append(t.Loads, l)
		return
	}
	t.Loads[i] = l
}

func (t *teller) step(at time.Duration, s journal.Step) {
	i := slices.IndexFunc(t.Steps, func(span StepSpan) bool { return span.Index == s.Index })
	if i < 0 {
		t.Steps = append(t.Steps, StepSpan{Index: s.Index})
		i = len(t.Steps) - 1
	}
	span := &t.Steps[i]
	if s.Text != "" {
		span.Text = s.Text
	}
	switch s.State {
	case journal.Begun:
		span.Window, span.Reached, span.Weight = Window{Start: at, Open: true}, true, s.Weight
	case journal.Ended, journal.Failed:
		span.end(at)
		span.Cut = s.Error
	}
}

func (t *teller) fault(at time.Duration, f journal.Fault) {
	i := slices.IndexFunc(t.Faults, func(span FaultSpan) bool { return span.ID == f.ID })
	if i < 0 {
		t.Faults = append(t.Faults, FaultSpan{ID: f.ID, What: f.What, Text: f.Text})
		i = len(t.Faults) - 1
	}
	span := &t.Faults[i]
	if f.State != journal.FaultHit {
		span.State = f.State
	}
	for _, name := range f.Hit {
		if !slices.Contains(span.Hit, name) {
			span.Hit = append(span.Hit, name)
		}
	}
	span.TTL = max(span.TTL, f.TTL)
	span.Matched, span.Injected, span.Residue = max(span.Matched, f.Matched), max(span.Injected, f.Injected), f.Residue
	switch f.State {
	case journal.FaultArmed:
		span.Windows = append(span.Windows, Window{Start: at, Open: true})
	case journal.FaultHealed, journal.FaultLapsed:
		span.Lapsed = span.Lapsed || f.State == journal.FaultLapsed
		if n := len(span.Windows); n > 0 && span.Windows[n-1].Open {
			span.Windows[n-1].end(at)
		}
	}
}

// close ends with the journal what never ended, and gives a run that cannot be believed or never ended its verdict.
func (t *teller) close() {
	running := ""
	for i := range t.Phases {
		if t.Phases[i].Open {
			running = t.Phases[i].Name
			t.Phases[i].End = t.Took
		}
	}
	for i := range t.Steps {
		if t.Steps[i].Open {
			t.Steps[i].End = t.Took
		}
	}
	for i := range t.Faults {
		for j := range t.Faults[i].Windows {
			if w := &t.Faults[i].Windows[j]; w.Open {
				w.End = t.Took
			}
		}
	}
	switch {
	case len(t.Damage) > 0:
		t.conclude(verdictInvalid, fmt.Sprintf("the journal is damaged and cannot be believed: %v", t.Damage[0]))
	case t.Killed && t.Started.Run == "":
		t.conclude(verdictAborted, "the journal is empty: the run was killed as it began")
	case t.Killed:
		t.conclude(verdictAborted, fmt.Sprintf("the journal ends after %.1f s%s without an end of the run: it was killed, or the machine went down", t.Took.Seconds(), during(running)))
	}
}

func during(phase string) string {
	if phase == "" {
		return ""
	}
	return fmt.Sprintf(", in the phase %q,", phase)
}

func (t *teller) conclude(verdict, reason string) {
	outcome := t.Finished.Outcome
	if outcome == "" {
		outcome = t.decided()
	}
	t.Finished = journal.Finished{Verdict: verdict, ExitCode: exitUnusable, Reason: reason, Outcome: outcome, Took: t.Took}
}

// decided is the roll-out's outcome, as far as its decision tells.
func (t *teller) decided() string {
	if t.Decision == nil {
		return outcomeNone
	}
	switch t.Decision.Data.Action {
	case journal.Promote:
		return "promoted"
	case journal.RollBack:
		return "rolledBack"
	case journal.Pause:
		return "paused"
	default:
		return outcomeNone
	}
}
