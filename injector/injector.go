// Package injector breaks things on purpose: it decides which requests a fault hits, for how long a fault may be in force, and accounts for what was done.
//
// It decides and counts, and acts on nothing: time and chance come in, effects go out. Executors live where the traffic or the processes are: package injector/filter inside
// the sidecar, others in the environments.
package injector

import (
	"errors"
	"fmt"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// Effect is what a fault does to one request or attempt: first the delay, then the abort. The zero value lets it pass.
type Effect struct {
	Delay time.Duration
	Abort int // HTTP status to answer with; 0: none
}

// IsZero reports whether nothing happens.
func (e Effect) IsZero() bool { return e == Effect{} }

// MaxDelay bounds the delay of a fault, so that a slip of the unit is noticed (Istio asks only for more than 1 ms).
const MaxDelay = 5 * time.Minute

// Validate returns everything that keeps a fault from being executed, joined; nil when it can be.
func Validate(f mesh.Fault) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if f.ID == "" {
		wrong("it has no id")
	}
	if f.From == "" || f.To == "" {
		wrong("it needs both ends of an edge, from and to")
	}
	if f.At != mesh.AtRequest && f.At != mesh.AtAttempt {
		wrong("at is %q, not %q or %q", f.At, mesh.AtRequest, mesh.AtAttempt)
	}
	if f.Delay == nil && f.Abort == nil {
		wrong("it neither delays nor aborts")
	}
	if d := f.Delay; d != nil && (d.Fixed <= 0 || d.Fixed > MaxDelay) {
		wrong("a delay of %v is not above 0 and up to %v", d.Fixed, MaxDelay)
	}
	if a := f.Abort; a != nil && (a.Status < 200 || a.Status > 599) {
		wrong("an abort with status %d is not in 200 to 599", a.Status)
	}
	for what, share := range shares(f) {
		if !(share >= 0 && share <= 1) {
			wrong("a %s share of %v is not in 0 to 1", what, share)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("fault %q cannot be executed: %w", f.ID, errors.Join(errs...))
}

func shares(f mesh.Fault) map[string]float64 {
	shares := map[string]float64{}
	if f.Delay != nil {
		shares["delay"] = f.Delay.Share
	}
	if f.Abort != nil {
		shares["abort"] = f.Abort.Share
	}
	return shares
}

// Decide is what a fault does to one request, in a run with the given seed. The attempt counts from 1; a fault at the request ignores it and draws with 0. The ordinal is
// the position, from 1, of the request (or attempt) among those that this executor asked the fault about: it decides First and Every, and nothing else does.
//
// Delay and abort are drawn independently of each other and of every other fault, as in gRPC's A33: by [mesh.Chance] of the fault's id with ":delay" or ":abort" appended, its edge,
// the request key and the attempt.
func Decide(f mesh.Fault, seed uint64, key string, attempt uint32, ordinal uint64) Effect {
	return NewDecider(f).Decide(seed, key, attempt, ordinal)
}

// Decider decides for one fault, with all names built beforehand, so that a decision allocates nothing.
type Decider struct {
	fault                  mesh.Fault
	edge, delayID, abortID string
}

// NewDecider prepares the decisions of a fault.
func NewDecider(f mesh.Fault) *Decider {
	return &Decider{fault: f, edge: mesh.Edge{From: f.From, To: f.To}.String(), delayID: f.ID + ":delay", abortID: f.ID + ":abort"}
}

// Fault is the fault that is decided.
func (d *Decider) Fault() *mesh.Fault { return &d.fault }

// Decide is the function Decide for this fault.
func (d *Decider) Decide(seed uint64, key string, attempt uint32, ordinal uint64) Effect {
	f := &d.fault
	if f.First > 0 && ordinal > f.First || f.Every > 0 && ordinal%f.Every != 0 {
		return Effect{}
	}
	if f.At == mesh.AtRequest {
		attempt = 0
	}
	acts := func(id string, share float64) bool {
		return f.Every > 0 || mesh.Chance(seed, mesh.PurposeFault, id, d.edge, key, attempt).Below(share)
	}
	var e Effect
	if f.Delay != nil && acts(d.delayID, f.Delay.Share) {
		e.Delay = f.Delay.Fixed
	}
	if f.Abort != nil && acts(d.abortID, f.Abort.Share) {
		e.Abort = f.Abort.Status
	}
	return e
}
