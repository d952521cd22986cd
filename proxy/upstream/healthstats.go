package upstream

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// DestinationHealth is what is known of the endpoints of one destination.
type DestinationHealth struct {
	Destination string            `json:"destination"` // NAME, NAME/SUBSET, and the labels of its endpoints in braces
	Usable      int               `json:"usable"`      // endpoints that get requests
	Healthy     int               `json:"healthy"`     // endpoints that nothing speaks against; in panic others are usable too
	Panic       bool              `json:"panic,omitempty"`
	Ejected     int               `json:"ejected"`             // now
	Ejections   map[string]uint64 `json:"ejections,omitempty"` // ever, by Envoy's name of the reason
	Overflows   uint64            `json:"overflows,omitempty"` // ejections that did not happen, because too many were out already
	Endpoints   []EndpointHealth  `json:"endpoints"`
}

// EndpointHealth is what is known of one endpoint.
type EndpointHealth struct {
	Address    string        `json:"address"`
	Health     mesh.Health   `json:"health,omitempty"`     // as the control plane knows it
	Check      string        `json:"check,omitempty"`      // pending, passed or failed; empty: nobody asks
	CheckError string        `json:"checkError,omitempty"` // of the last answer
	Ejected    bool          `json:"ejected,omitempty"`
	EjectedFor time.Duration `json:"ejectedFor,omitempty"` // nanoseconds from now
	Ejections  int           `json:"ejections,omitempty"`  // ever
}

// Health tells what is known of the endpoints of the destinations in force (see Follow) that have outlier detection or health checks, by name.
func (ps *Pools) Health() []DestinationHealth {
	var all []DestinationHealth
	for _, g := range ps.health.watched() {
		all = append(all, g.Health())
	}
	slices.SortFunc(all, func(a, b DestinationHealth) int { return cmp.Compare(a.Destination, b.Destination) })
	return all
}

// watched are the groups in force about whose endpoints something can become known.
func (h *health) watched() []*Group {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Group
	for r := range maps.Values(h.rosters) {
		r.mu.Lock()
		for _, g := range r.groups {
			if g.outlier != nil || g.check != nil {
				all = append(all, g)
			}
		}
		r.mu.Unlock()
	}
	return all
}

// Health tells what is known of the group's endpoints.
func (g *Group) Health() DestinationHealth {
	s := g.selection()
	r := g.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	now := g.opts.Now()
	h := DestinationHealth{
		Destination: r.name, Usable: len(s.usable), Panic: s.panics, Ejections: map[string]uint64{}, Overflows: r.count.overflows.Load(), Endpoints: make([]EndpointHealth, len(g.Endpoints)),
	}
	for kind := range r.count.ejections {
		if n := r.count.ejections[kind].Load(); n > 0 {
			h.Ejections[Ejection(kind).String()] = n
		}
	}
	for i, e := range g.Endpoints {
		h.Endpoints[i] = e.health(now)
		if g.usable(e) {
			h.Healthy++
		}
		if h.Endpoints[i].Ejected {
			h.Ejected++
		}
	}
	return h
}

// health tells what is known of an endpoint. The caller holds the roster's lock.
func (e *Endpoint) health(now time.Duration) EndpointHealth {
	m := e.state
	h := EndpointHealth{Address: mesh.HostPort(e.Address, e.Port), Health: e.Health, Ejections: m.ejection.total}
	if e.group.check != nil {
		h.Check = m.verdict.String()
		if m.checkErr != nil {
			h.CheckError = m.checkErr.Error()
		}
	}
	if e.group.outlier != nil && m.ejection.active && now < m.ejection.until {
		h.Ejected, h.EjectedFor = true, m.ejection.until-now
	}
	return h
}

// HealthTotals are counts of what happened to the endpoints of all destinations, ever.
type HealthTotals struct {
	Ejections [numEjections]uint64 // by Ejection
	Overflows uint64               // ejections that did not happen, because too many were out already
	Checks    uint64               // health checks made
	Passed    uint64
	Failed    uint64
}

// HealthTotals tells the counts so far.
func (ps *Pools) HealthTotals() HealthTotals {
	h := &ps.health
	t := HealthTotals{Overflows: h.total.overflows.Load(), Checks: h.checks.attempts.Load(), Passed: h.checks.successes.Load(), Failed: h.checks.failures.Load()}
	for kind := range t.Ejections {
		t.Ejections[kind] = h.total.ejections[kind].Load()
	}
	return t
}

// Ejected is how many endpoints are out of use now, of all destinations.
func (ps *Pools) Ejected() int {
	n := 0
	for _, g := range ps.health.watched() {
		n += g.Health().Ejected
	}
	return n
}
