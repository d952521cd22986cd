package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

// disruptionRun is one fault of what carries the mesh over the whole run.
type disruptionRun struct {
	plan.Disruption
	armed   bool // its window is open
	ever    bool
	asking  bool // the environment has not said yet what it hit
	undoing bool
	over    bool
	began   time.Duration
	ended   time.Duration
	hit     []string
	undo    func(context.Context) error // nil: nothing to undo
	failure error                       // why it could not be done
	left    error                       // why it could not be undone
}

// event is what the journal says of the disruption now.
func (d *disruptionRun) event(state string) journal.Fault {
	e := journal.Fault{ID: d.ID, What: d.Kind, Text: d.What(), State: state, Matched: uint64(len(d.hit)), Injected: uint64(len(d.hit)), Hit: d.hit}
	if d.left != nil {
		e.Residue = uint64(max(len(d.hit), 1))
	}
	return e
}

// disturbs reports whether the disruption can change what callers see: sidecars need no control plane to carry what they know.
func (d *disruptionRun) disturbs() bool { return d.Kind != spec.FaultControlKill }

// touches reports whether the disruption can have taken a sidecar away.
func (d *disruptionRun) touches(m *member) bool {
	ofService := m.Workload.Service == d.Service && (d.Version == "" || m.Workload.Version == d.Version)
	switch d.Kind {
	case spec.FaultPodKill:
		return ofService && slices.ContainsFunc(d.hit, func(name string) bool {
			return m.instance() == name || strings.HasPrefix(m.instance(), name+".") // POD of POD.NAMESPACE
		})
	case spec.FaultNodeDrain:
		return true // a node carries whatever it carries
	case spec.FaultScale:
		return ofService
	default:
		return false
	}
}

// moveDisruptions breaks what carries the mesh, and undoes that, as windows say.
func (c *conductor) moveDisruptions(ctx context.Context, since time.Duration) error {
	for _, d := range c.disruptions {
		switch wanted := opens(d.Window, since, c.step); {
		case d.failure != nil:
			return selfCheckError{"fault " + d.ID, d.failure.Error()}
		case wanted && !d.ever:
			c.disrupt(ctx, d)
		case !wanted && d.armed:
			c.endDisruption(ctx, d)
		}
	}
	return nil
}

func (c *conductor) disrupt(ctx context.Context, d *disruptionRun) {
	d.armed, d.ever, d.began = true, true, c.rec.now()
	c.rec.record(d.event(journal.FaultArmed))
	mesh, ok := c.mesh.(env.Disruptor)
	if !ok {
		d.failure = fmt.Errorf("the environment %s has no way to %s", c.Environment.Name(), d.What())
		return
	}
	order := env.Disruption{Fault: d.ID, Service: d.Service, Version: d.Version, Count: d.Count, Seed: c.Plan.Seed}
	switch d.Kind {
	case spec.FaultPodKill:
		order.KillPods, order.Grace = true, d.Grace
	case spec.FaultNodeDrain:
		order.DrainNodes = true
	case spec.FaultControlKill:
		order.KillControl = true
	case spec.FaultScale:
		order.Scale = d.Replicas
	}
	d.asking = true
	c.settling.Go(func() {
		hit, undo, err := mesh.Disrupt(ctx, order)
		c.events <- func() { c.disrupted(ctx, d, hit, undo, err) }
	})
}

// disrupted takes in what was hit.
func (c *conductor) disrupted(ctx context.Context, d *disruptionRun, hit []string, undo func(context.Context) error, err error) {
	d.asking, d.hit, d.undo = false, hit, undo
	switch {
	case err != nil:
		d.failure = err
	case len(hit) == 0:
		d.failure = errors.New("it hit nothing: there was nothing to " + d.What())
	}
	if len(hit) > 0 {
		c.rec.record(d.event(journal.FaultHit))
	}
	if !d.armed { // its window has closed meanwhile
		c.endDisruption(ctx, d)
	}
}

// endDisruption undoes a disruption without waiting for that, so that nothing else is held up.
func (c *conductor) endDisruption(ctx context.Context, d *disruptionRun) {
	d.armed, d.ended = false, c.rec.now()
	switch {
	case d.asking || d.undoing || d.over:
		return // it is undone when it is known what was hit
	case d.undo == nil:
		c.undone(d, nil)
		return
	}
	d.undoing = true
	c.settling.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limit.Heal)
		defer cancel()
		err := d.undo(ctx)
		c.events <- func() { c.undone(d, err) }
	})
}

func (c *conductor) undone(d *disruptionRun, err error) {
	d.undoing, d.over, d.left = false, true, err
	if err != nil {
		c.note("warning", fmt.Sprintf("fault %s could not be undone: %v; `meshtest heal` tries again", d.ID, err))
	}
	state := journal.FaultHealed
	if err != nil {
		state = journal.FaultHit
	}
	c.rec.record(d.event(state))
}

// undoing reports whether a disruption is still being carried out or undone.
func (c *conductor) undoing() bool {
	return slices.ContainsFunc(c.disruptions, func(d *disruptionRun) bool { return d.asking || d.undoing })
}

// checkDisruption: the disruption hit something, and is over.
func (c *conductor) checkDisruption(d *disruptionRun) (string, bool) {
	switch {
	case d.failure != nil:
		return d.failure.Error(), false
	case len(d.hit) == 0:
		return "it hit nothing", false
	case d.left != nil:
		return fmt.Sprintf("it could not be undone: %v", d.left), false
	case !d.over:
		return "it is not known to be over", false
	default:
		return "hit " + strings.Join(d.hit, ", ") + ", over", true
	}
}
