package upstream

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// health is what is known of the endpoints of all destinations. The zero value is ready.
type health struct {
	checks checks
	total  ejectionCounts

	mu      sync.Mutex
	rosters map[string]*roster
}

// roster finds what is known of a destination's endpoints, or begins to know it.
func (h *health) roster(d Destination) *roster {
	key := rosterKey(d)
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rosters[key]
	if r == nil {
		r = &roster{name: key, total: &h.total}
		if h.rosters == nil {
			h.rosters = map[string]*roster{}
		}
		h.rosters[key] = r
	}
	return r
}

// rosterKey names a destination: NAME, or NAME/SUBSET, and in braces the labels that its endpoints are chosen by.
func rosterKey(d Destination) string {
	key := d.Name
	if d.Subset != "" {
		key += "/" + d.Subset
	}
	if len(d.Labels) == 0 {
		return key
	}
	var pairs []string
	for k, v := range d.Labels {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return key + "{" + strings.Join(pairs, ",") + "}"
}

// roster is what is known of the endpoints of one destination, under whatever configuration they are used.
type roster struct {
	name    string
	version atomic.Uint64 // counts the changes of who may be used
	turn    atomic.Uint64 // of roundRobin
	count   ejectionCounts
	total   *ejectionCounts // of all destinations

	mu      sync.Mutex
	groups  []*Group           // in force
	members map[string]*member // by address
	ejected []*member
	warm    gate // opens when an endpoint has passed its check for the first time
}

type ejectionCounts struct {
	ejections [numEjections]atomic.Uint64
	overflows atomic.Uint64 // that did not happen, because too many were out already
}

// member is what is known of one address of a destination. But for fails it is under the roster's lock.
type member struct {
	fails    [numEjections]streak
	since    time.Duration // when it was seen first, or passed its check after it had not
	ejection ejection
	verdict  verdict
	asking   *asking // nil: nobody asks
	checkErr error   // of the last answer
	gone     bool    // no configuration in force has it
}

// join makes the members for a group's endpoints that are new.
func (r *roster) join(g *Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := g.opts.Now()
	for _, e := range g.Endpoints {
		address := mesh.HostPort(e.Address, e.Port)
		m := r.members[address]
		if m == nil {
			if r.members == nil {
				r.members = map[string]*member{}
			}
			m = &member{since: now}
			r.members[address] = m
		}
		e.state = m
	}
	if g.check != nil && slices.ContainsFunc(r.groups, func(g *Group) bool { return g.check == nil }) {
		r.presume()
	}
}

// presume lets endpoints stay in use that were before there was a check, until they have answered it.
func (r *roster) presume() {
	for _, g := range r.groups {
		for _, e := range g.Endpoints {
			if e.state.verdict == unasked {
				e.state.verdict = passed
			}
		}
	}
}

// follow makes the groups those in force, see [Pools.Follow].
func (h *health) follow(groups []*Group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	by := map[*roster][]*Group{}
	for _, g := range groups {
		by[g.roster] = append(by[g.roster], g)
	}
	for key, r := range h.rosters {
		if by[r] == nil {
			r.follow(nil, h)
			delete(h.rosters, key)
		}
	}
	for r, groups := range by {
		r.follow(groups, h)
		h.rosters[r.name] = r
	}
}

// join makes a group one of those in force, see [Pools.Join].
func (h *health) join(g *Group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rosters[g.roster.name] = g.roster
	g.roster.follow(append(slices.Clone(g.roster.groups), g), h)
}

// follow makes the groups those of the destination that are in force.
func (r *roster) follow(groups []*Group, h *health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(groups) > 0 && slices.Equal(groups, r.groups) {
		return // most destinations stay as they are
	}
	r.groups = groups
	had := r.members
	r.members = make(map[string]*member, len(had))
	for _, g := range groups {
		for _, e := range g.Endpoints {
			address := mesh.HostPort(e.Address, e.Port)
			if r.members[address] == nil {
				r.members[address] = e.state
				r.check(e, &h.checks)
			}
		}
	}
	for address, m := range had {
		if r.members[address] != m {
			m.leave()
		}
	}
	r.ejected = slices.DeleteFunc(r.ejected, func(m *member) bool { return m.gone })
	r.begin()
}

// check lets an endpoint be asked what its group wants to know.
func (r *roster) check(e *Endpoint, cs *checks) {
	m, want := e.state, e.group.check
	m.gone = false
	if m.asking != nil && want != nil && m.asking.check.same(want) {
		return
	}
	if m.asking != nil {
		m.asking.end()
		m.asking, m.checkErr = nil, nil
	}
	if want != nil {
		m.asking = cs.begin(want, e, r, e.group.opts)
	} else {
		m.verdict = unasked
	}
}

// leave forgets what would go on.
func (m *member) leave() {
	m.gone = true
	m.ejection.active = false
	if m.asking != nil {
		m.asking.end()
		m.asking = nil
	}
}

// survey finds the endpoints of the group that may be used now, and their weights.
func (g *Group) survey(s *selection, now time.Duration) (weights []uint64) {
	r := g.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readmit(now)
	s.version = r.version.Load()
	var candidates []*Endpoint
	for _, e := range g.Endpoints {
		if !g.mayBe(e) {
			continue
		}
		candidates = append(candidates, e)
		if g.usable(e) {
			s.usable = append(s.usable, e)
		}
	}
	if g.panics(len(s.usable), len(candidates)) {
		s.panics, s.usable = true, candidates
	}
	if g.outlier != nil {
		for _, m := range r.ejected {
			s.until = min(s.until, m.ejection.until)
		}
	}
	for _, e := range s.usable {
		weight := weightOf(e)
		if w := g.warmup; w != nil {
			age := now - e.state.since
			if age < w.Duration {
				s.until = min(s.until, now+max(w.Duration/warmupSteps, 1))
			}
			weight *= warmed(w, age)
		}
		weights = append(weights, weight)
	}
	return weights
}

// mayBe reports whether an endpoint may be used at all, healthy or not: not while it drains, nor before its first answer to a check. The caller holds the roster's lock.
func (g *Group) mayBe(e *Endpoint) bool {
	return e.Health != mesh.Draining && (g.check == nil || e.state.verdict != unasked)
}

// usable reports whether an endpoint is healthy by all accounts. The caller holds the roster's lock.
func (g *Group) usable(e *Endpoint) bool {
	return (e.Health == "" || e.Health == mesh.Healthy) && (g.check == nil || e.state.verdict == passed) && (g.outlier == nil || !e.state.ejection.active)
}

// panics reports whether so few endpoints can be used that all had better be: those that are left would not carry the load either.
func (g *Group) panics(usable, candidates int) bool {
	return g.outlier != nil && 100*usable < g.outlier.MinHealthPercent*candidates
}
