package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
)

// quiet is how long changes of the cluster are collected after one that was passed on at once: a rollout of a hundred pods makes hundreds of them within a second, and what a sidecar can
// tell apart is not much finer.
const quiet = 20 * time.Millisecond

// Plane is the configuration of a cluster: what is discovered, with what the owner says laid over it, given to one control plane.
type Plane struct {
	informers *Informers
	log       *slog.Logger
	server    *control.Server
	replaced  chan struct{} // holds a token when somebody else has taken over

	mu       sync.Mutex
	rules    *Rules
	problems []Problem // that are known
}

// NewPlane makes a control plane with the configuration as it is now; the informers must be synced. Of the options, Epoch and Apply are the plane's own business.
func NewPlane(o control.Options, informers *Informers, rules *Rules) (*Plane, error) {
	p := &Plane{informers: informers, log: o.Log, rules: rules, replaced: make(chan struct{}, 1)}
	o.Epoch, o.Apply = rules.Epoch(), p.Apply
	p.server = control.New(o)
	if err := p.rebuild(); err != nil {
		return nil, err
	}
	return p, nil
}

// Server is the control plane that serves the configuration.
func (p *Plane) Server() *control.Server { return p.server }

// Run keeps the configuration current until ctx ends, and returns nil then. The error is [control.ErrReplaced] when somebody else has taken over.
func (p *Plane) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.replaced:
			return control.ErrReplaced
		case <-p.informers.Changed():
		}
		if err := p.rebuild(); err != nil {
			p.log.Error("the configuration stays as it is", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(quiet):
		}
	}
}

// Problems is how many pieces are left out now.
func (p *Plane) Problems() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.problems)
}

// rebuild composes what is there now.
func (p *Plane) rebuild() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	composed, problems := Build(p.informers.State(), p.rules.Overlay())
	if _, err := p.server.Change(wire.Change{Whole: true, Set: composed}); err != nil {
		return fmt.Errorf("composing the configuration: %w", err)
	}
	p.report(problems)
	return nil
}

// report logs the problems that are new, and those that are no more.
func (p *Plane) report(problems []Problem) {
	for _, now := range problems {
		if !slices.Contains(p.problems, now) {
			p.log.Warn("left out", "what", now.Object, "reason", now.Reason)
		}
	}
	for _, before := range p.problems {
		if !slices.Contains(problems, before) {
			p.log.Info("no longer left out", "what", before.Object, "reason", before.Reason)
		}
	}
	p.problems = problems
}

var errPartial = errors.New("the owner has said nothing yet: the first change has to be whole")

// Apply carries out what the owner asks for, all or nothing: it is kept first, and then told to sidecars. Mistakes of the owner are a [wire.RefusedError]; what others have done wrong in the cluster
// keeps nobody from anything. The generation has the change, and whatever was discovered with it.
func (p *Plane) Apply(ctx context.Context, change wire.Change) (wire.Applied, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.rules.Overlay()
	if before == nil && !change.Whole {
		return wire.Applied{}, errPartial
	}
	if change.Set == nil {
		change.Set = mesh.NewSnapshot()
	}
	if mistakes := wire.Misnamed(change.Set); len(mistakes) > 0 {
		return wire.Applied{}, &wire.RefusedError{Mistakes: mistakes}
	}
	overlay := changed(before, change)
	state := p.informers.State()
	composed, problems := Build(state, overlay)
	if !change.Whole { // what was right when it was said, and is not any more because of what has happened in the cluster, is not this change's fault
		_, had := Build(state, before)
		if mistakes := mistakes(problems, had); len(mistakes) > 0 {
			return wire.Applied{}, &wire.RefusedError{Mistakes: mistakes}
		}
	} else if mistakes := mistakes(problems, nil); len(mistakes) > 0 {
		return wire.Applied{}, &wire.RefusedError{Mistakes: mistakes}
	}
	if err := p.rules.Save(ctx, overlay); err != nil {
		if errors.Is(err, control.ErrReplaced) {
			p.stepDown()
		}
		return wire.Applied{}, err
	}
	p.report(problems)
	return p.server.Change(wire.Change{Whole: true, Set: composed})
}

func (p *Plane) stepDown() {
	select {
	case p.replaced <- struct{}{}:
	default:
	}
}

// changed is an overlay after a change.
func changed(overlay *mesh.Snapshot, change wire.Change) *mesh.Snapshot {
	if change.Whole || overlay == nil {
		overlay = mesh.NewSnapshot()
	}
	overlay = overlay.Apply(mesh.Update{Set: change.Set})
	for kind, names := range change.Remove {
		overlay = overlay.Apply(mesh.Update{Kind: kind, Removed: names})
	}
	return overlay
}

// mistakes are the owner's problems that there were not before.
func mistakes(problems, before []Problem) (all []string) {
	for _, p := range problems {
		if p.Overlay && !slices.Contains(before, p) {
			all = append(all, p.Error())
		}
	}
	return all
}
