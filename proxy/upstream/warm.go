package upstream

import (
	"maps"
	"slices"
	"time"
)

// gate is what is waited for once. It is under the lock of its owner; the zero value is not there yet, and nobody waits for it.
type gate struct {
	passed chan struct{} // closed when it is open
	isOpen bool
}

func (g *gate) open() {
	if g.passed != nil && !g.isOpen {
		g.isOpen = true
		close(g.passed)
	}
}

// begin lets others wait for the destination from the first time on that endpoints are asked. Those that were in use before there was a check are waited for by nobody. The caller holds the lock.
func (r *roster) begin() {
	asked := slices.ContainsFunc(r.groups, func(g *Group) bool { return g.check != nil && len(g.Endpoints) > 0 })
	if !asked || r.warm.passed != nil {
		return
	}
	r.warm.passed = make(chan struct{})
	for m := range maps.Values(r.members) {
		if m.verdict == passed {
			r.warm.open()
		}
	}
}

// Warm waits until each destination in force whose endpoints are asked has had one that passed, for as long as the limit at most: until then it answers nobody. A destination that needs longer is not waited for again.
func (ps *Pools) Warm(limit time.Duration) {
	cold := ps.health.cold()
	if len(cold) == 0 {
		return
	}
	over := time.NewTimer(limit)
	defer over.Stop()
	for _, passed := range cold {
		select {
		case <-passed:
		case <-over.C:
			ps.health.giveUp()
			return
		}
	}
}

// cold are the gates of the destinations that nobody has waited for long enough.
func (h *health) cold() []<-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []<-chan struct{}
	for r := range maps.Values(h.rosters) {
		r.mu.Lock()
		if r.warm.passed != nil && !r.warm.isOpen {
			all = append(all, r.warm.passed)
		}
		r.mu.Unlock()
	}
	return all
}

// giveUp opens all gates.
func (h *health) giveUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range maps.Values(h.rosters) {
		r.mu.Lock()
		r.warm.open()
		r.mu.Unlock()
	}
}
