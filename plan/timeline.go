package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"meshtest.dev/meshtest/spec"
)

// timeline lists what happens when, by the expected clock, which begins with the load. Times after a step that waits for evidence are estimates.
func (b *builder) timeline() {
	p := b.plan
	estimateFrom := time.Duration(-1) // first moment that depends on an estimate
	add := func(at time.Duration, format string, args ...any) {
		p.Timeline = append(p.Timeline, Event{At: at, About: estimateFrom >= 0 && at >= estimateFrom, Text: fmt.Sprintf(format, args...)})
	}
	for _, s := range p.Streams {
		add(0, "load %s begins: %s to %s", s.Name, s.Shape, s.Target)
	}
	if r := p.Rollout; r != nil {
		if r.Warmup > 0 {
			add(0, "warm-up: everything to %s for %s", r.Stable, r.Warmup)
		}
		for _, s := range r.Steps {
			add(s.Start, "step %d: %s", s.Number, s.Text)
			if s.Step.Analysis != nil && estimateFrom < 0 {
				estimateFrom = s.End
			}
		}
		add(r.Duration, "%s", ending(r))
	}
	for _, f := range p.Faults {
		add(f.Window.Start, "fault %s begins", f.ID)
		if end := f.Window.End; end > 0 {
			add(end, "fault %s ends", f.ID)
		} else {
			add(b.length, "fault %s ends with the load", f.ID)
		}
	}
	for _, d := range p.Disruptions {
		add(d.Window.Start, "fault %s: %s", d.ID, d.What())
		if end := d.Window.End; end > 0 && d.heals() {
			add(end, "fault %s is undone", d.ID)
		} else if d.heals() {
			add(b.length, "fault %s is undone as the load ends", d.ID)
		}
	}
	for _, s := range p.Streams {
		add(s.Duration, "load %s ends", s.Name)
	}
	slices.SortStableFunc(p.Timeline, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
}

// ending says what happens after the last step.
func ending(r *Rollout) string {
	if n := len(r.Steps); n > 0 {
		if last := r.Steps[n-1].Step.Pause; last != nil && last.Duration == 0 {
			return "the roll-out stays paused, and the run ends"
		}
	}
	if r.Expected == spec.OutcomeRolledBack {
		return fmt.Sprintf("last moment for the expected roll-back: everything to %s as soon as the evidence is against %s", r.Stable, r.Canary)
	}
	return fmt.Sprintf("promotion of %s if the evidence allows it; everything to %s at any time before, as soon as the evidence is against it", r.Canary, r.Stable)
}
