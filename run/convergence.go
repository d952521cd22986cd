package run

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/rollout"
)

// convergence is the split that the run asked for last, on its way to the control plane and from there to the sidecars.
type convergence struct {
	since    time.Duration
	asking   bool           // the control plane has not answered yet
	next     *rollout.Split // what is asked for after that answer; nil: nothing
	failure  error          // why the control plane would not take it
	refused  error          // why a sidecar would not
	done     bool
	sidecars int // that had something to acknowledge

	generation mesh.Generation
	missing    map[string]bool      // instances that have not acknowledged it
	acked      map[string]progress  // newest acknowledgement of each instance
	everyone   progress             // newest generation that every connected sidecar has
	pending    []mesh.EvidenceBlock // heard while it was not known which generation stands for what
}

// progress is a generation with when it was heard of.
type progress struct {
	generation mesh.Generation
	at         time.Duration
}

// reaches reports whether the progress includes a generation. One of a later life of the control plane includes all earlier ones: it takes nothing that it does not keep.
func (p progress) reaches(g mesh.Generation) bool { return p.generation.Compare(g) >= 0 }

// forget stops waiting for an instance that is not there.
func (v *convergence) forget(instance string) {
	delete(v.missing, instance)
	delete(v.acked, instance)
}

// route asks the mesh for a split. The control plane may take its time, or be away, and nothing else waits for it.
func (c *conductor) route(ctx context.Context, s rollout.Split) {
	c.split.done, c.split.since = false, c.rec.now()
	if c.split.asking {
		c.split.next = &s
		return
	}
	c.ask(ctx, s)
}

func (c *conductor) ask(ctx context.Context, s rollout.Split) {
	c.split.asking, c.split.next = true, nil
	table := c.tableOf(s)
	c.configuring.Go(func() {
		applied, err := c.mesh.Configure(ctx, table)
		c.tell(ctx, func() { c.answered(ctx, s, applied, err) })
	})
}

// tableOf is the route table of the roll-out's service with a split.
func (c *conductor) tableOf(s rollout.Split) *mesh.RouteTable {
	r := c.Plan.Rollout
	table := r.Split.WithoutHeaderRoutes(c.Plan.Snapshot.Routes[mesh.HostPort(r.Host, r.Port)])
	table = r.Split.WithWeights(table, int(s.Weight))
	for _, h := range s.Headers {
		table = r.Split.WithHeaderRoute(table, h.Name, []mesh.Match{headerMatch(h.Match)})
	}
	return table
}

// answered takes in what the control plane made of a split.
func (c *conductor) answered(ctx context.Context, s rollout.Split, applied wire.Applied, err error) {
	c.split.asking = false
	if err != nil {
		c.split.failure = err
		return
	}
	c.splits.asked = append(c.splits.asked, asked{applied.Generation, s.Weight / 100})
	pending := c.split.pending
	c.split.pending = nil
	for _, b := range pending {
		if err := c.watchSplit(b); err != nil {
			c.split.failure = err
			return
		}
	}
	c.split.generation, c.split.missing, c.split.sidecars = applied.Generation, map[string]bool{}, len(applied.Affected)
	for _, instance := range applied.Affected {
		c.split.missing[instance] = true
	}
	if len(applied.Affected) > 0 { // otherwise nothing changed
		c.rec.record(journal.Config{
			Generation: applied.Generation.String(), State: journal.Applied, Change: splitText(c.Plan.Rollout.Service, s), Sidecars: len(applied.Affected),
		})
	}
	if c.split.next != nil {
		c.ask(ctx, *c.split.next)
		return
	}
	// Acknowledgements can be quicker than the answer.
	for _, instance := range applied.Affected {
		if told := c.split.acked[instance]; told.reaches(applied.Generation) {
			c.acknowledged(instance, told)
		}
	}
	if c.split.everyone.reaches(applied.Generation) {
		clear(c.split.missing)
	}
	c.converge(c.rec.now())
}

func splitText(service string, s rollout.Split) string {
	text := fmt.Sprintf("%s: %g %% to the canary", service, s.Weight)
	for _, h := range s.Headers {
		text += ", header route " + h.Name
	}
	return text
}

// hearProgress turns acknowledgements into events.
func (c *conductor) hearProgress(ctx context.Context) func(wire.Progress) {
	return func(p wire.Progress) { at := c.rec.now(); c.tell(ctx, func() { c.progress(at, p) }) }
}

func (c *conductor) progress(at time.Duration, p wire.Progress) {
	told := progress{p.Generation, at}
	waiting := c.machine != nil && !c.split.done && !c.split.asking
	switch p.State {
	case wire.Nacked:
		c.rec.record(journal.Config{Generation: p.Generation.String(), Instance: p.Instance, State: journal.Nacked, Error: p.Error})
		c.split.refused = fmt.Errorf("%s refused generation %s: %s", p.Instance, p.Generation, p.Error)
	case wire.Acked:
		if c.split.acked[p.Instance].reaches(p.Generation) {
			return
		}
		c.split.acked[p.Instance] = told
		if waiting && c.split.missing[p.Instance] && told.reaches(c.split.generation) {
			c.acknowledged(p.Instance, told)
			c.converge(at)
		}
	case wire.Converged:
		c.split.everyone = told
		if waiting && told.reaches(c.split.generation) {
			clear(c.split.missing)
			c.converge(at)
		}
	}
}

func (c *conductor) acknowledged(instance string, told progress) {
	delete(c.split.missing, instance)
	c.rec.record(journal.Config{Generation: told.generation.String(), Instance: instance, State: journal.Acked})
}

// converge notes that everybody has the split, if that is so.
func (c *conductor) converge(at time.Duration) {
	if c.split.done || c.split.asking || len(c.split.missing) > 0 {
		return
	}
	c.split.done = true
	if c.split.sidecars == 0 {
		return // nothing changed
	}
	c.rec.record(journal.Config{
		Generation: c.split.generation.String(), State: journal.Converged, Sidecars: len(c.there),
		Change: fmt.Sprintf("acknowledged %.1f ms after it was applied", milliseconds(at-c.split.since)),
	})
}

// selfCheckError is a self-check that cannot wait until the end.
type selfCheckError struct{ name, reason string }

func (e selfCheckError) Error() string { return e.name + ": " + e.reason }

func (c *conductor) checkConvergence() error {
	switch {
	case c.split.failure != nil:
		return c.split.failure
	case c.split.refused != nil:
		return selfCheckError{"convergence", c.split.refused.Error()}
	case c.split.done || c.machine == nil || c.rec.now() < c.split.since+c.limit.Converge:
		return nil
	case c.split.asking:
		return selfCheckError{"convergence", fmt.Sprintf("the control plane took no configuration within %s", c.limit.Converge)}
	}
	maps.DeleteFunc(c.split.missing, func(instance string, _ bool) bool { return c.there[instance] == nil }) // who is not there cannot answer
	if len(c.split.missing) == 0 {
		c.converge(c.rec.now())
		return nil
	}
	return selfCheckError{"convergence", fmt.Sprintf("%s never acknowledged generation %s (waited %s)", strings.Join(sortedNames(c.split.missing), ", "), c.split.generation, c.limit.Converge)}
}

func sortedNames(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
