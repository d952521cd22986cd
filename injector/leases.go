package injector

import (
	"fmt"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// Leases is what one executor knows about the leases that it was given. Time is the executor's own boot-time clock, which no correction of the wall clock moves and which
// goes on while the machine sleeps; it must not go backwards between calls. Leases is not safe for concurrent use.
type Leases struct {
	byFault map[string]*lease
}

type lease struct {
	last     mesh.Lease
	state    mesh.LeaseState
	deadline time.Duration // when held
}

// NewLeases returns an executor's leases: none.
func NewLeases() *Leases { return &Leases{byFault: map[string]*lease{}} }

// Take carries out a lease message that arrives now, and reports whether it did: a message that is not newer than the last one for the fault changes nothing. Its time to live is
// cut to [mesh.MaxLeaseTTL]; 0 releases.
//
// A lapse is final within the holder's epoch, so that it cannot be overlooked: renewals that come too late change nothing. A released fault may be leased again.
func (t *Leases) Take(now time.Duration, l mesh.Lease) (bool, error) {
	if l.TTL < 0 {
		return false, fmt.Errorf("lease of fault %s: a time to live of %v", l.Fault, l.TTL)
	}
	t.Expire(now)
	have := t.byFault[l.Fault]
	switch {
	case have == nil || have.last.Run != l.Run && have.state != mesh.LeaseHeld:
		have = &lease{state: mesh.LeaseReleased}
		t.byFault[l.Fault] = have
	case have.last.Run != l.Run:
		return false, fmt.Errorf("lease of fault %s for run %s: run %s holds it", l.Fault, l.Run, have.last.Run)
	case !l.Newer(have.last):
		return false, nil
	case have.state == mesh.LeaseLapsed && l.Epoch == have.last.Epoch:
		return false, nil
	}
	have.last = l
	have.state = mesh.LeaseReleased
	if l.TTL > 0 {
		have.state, have.deadline = mesh.LeaseHeld, now+min(l.TTL, mesh.MaxLeaseTTL)
	}
	return true, nil
}

// Expire ends the leases whose time is over, and returns their faults in no particular order.
func (t *Leases) Expire(now time.Duration) []string {
	var lapsed []string
	for fault, l := range t.byFault {
		if l.state == mesh.LeaseHeld && now >= l.deadline {
			l.state = mesh.LeaseLapsed
			lapsed = append(lapsed, fault)
		}
	}
	return lapsed
}

// Next returns when the next lease ends unless it is renewed; ok is false when none is held.
func (t *Leases) Next() (deadline time.Duration, ok bool) {
	for _, l := range t.byFault {
		if l.state == mesh.LeaseHeld && (!ok || l.deadline < deadline) {
			deadline, ok = l.deadline, true
		}
	}
	return deadline, ok
}

// State returns where the lease of a fault is in its life; ok is false when there never was one.
func (t *Leases) State(fault string) (state mesh.LeaseState, ok bool) {
	l := t.byFault[fault]
	if l == nil {
		return "", false
	}
	return l.state, true
}
