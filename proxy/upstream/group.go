package upstream

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"meshtest.dev/meshtest/mesh"
)

// Endpoint is one address that a request can go to.
type Endpoint struct {
	mesh.Endpoint
	Index   int // in its group
	Pool    *Pool
	Version string // its version label

	group *Group
	state *member // what is remembered of the address
}

// Group is the endpoints of one destination under one configuration, and how one of them is chosen. What was seen of the endpoints belongs to the destination and outlives the group.
type Group struct {
	Endpoints      []*Endpoint // all of them, the ones that get nothing too
	ConnectTimeout time.Duration
	Load           *Load

	access
	roster   *roster
	balancer balancer
	hash     *mesh.HashPolicy
	warmup   *mesh.Warmup
	outlier  *detector // nil: nobody is ejected
	check    *check    // nil: nobody is asked

	selected  atomic.Pointer[selection] // nil until the first request
	selecting sync.Mutex                // one rebuilds it
	ring      *ring                     // of all endpoints, under selecting; nil until it is needed
}

// Destination is what a group is made of.
type Destination struct {
	Name      string          // of the endpoints (mesh.HostPort), whatever their subset: retry budgets are by it
	Host      string          // of the service: the server name that TLS asks for when neither the policy nor a request says one
	Subset    string          // empty unless it has a policy of its own: limits are by Name and Subset
	Protocol  mesh.Protocol   // of the port
	Endpoints []mesh.Endpoint // of all subsets
	Labels    mesh.Labels     // that an endpoint must have to be in the group; nil: all are
	Policy    mesh.TrafficPolicy
}

// Plain reports whether a policy asks for nothing before there are requests, and has nothing that could be wrong: a group by it may as well be made when the first request comes.
func Plain(p mesh.TrafficPolicy) bool {
	_, known := balancers[p.Balancer]
	return known && p.Hash == nil && p.Warmup == nil && p.Outlier == nil && p.HealthCheck == nil && p.TLS == nil
}

// NewGroup makes a group. What is remembered of its endpoints is by the destination's Name, Subset and Labels, as every subset is a cluster of its own in Envoy.
func (ps *Pools) NewGroup(d Destination) (*Group, error) {
	policy := d.Policy
	g := &Group{
		ConnectTimeout: cmp.Or(policy.ConnectTimeout, mesh.DefaultConnectTimeout), Load: ps.Load(d.Name),
		hash: policy.Hash, warmup: policy.Warmup, outlier: newDetector(policy.Outlier),
	}
	var err error
	if g.access, err = ps.newAccess(d); err != nil {
		return nil, fmt.Errorf("connections to %s: %w", d.Name, err)
	}
	if g.balancer, err = newBalancer(policy); err != nil {
		return nil, fmt.Errorf("balancing %s: %w", d.Name, err)
	}
	if g.balancer >= ringHash {
		g.warmup = nil // as in Envoy: hashes do not move by and by
	}
	if g.check, err = newCheck(d); err != nil {
		return nil, fmt.Errorf("checking the health of %s: %w", d.Name, err)
	}
	for _, e := range d.Endpoints {
		if e.Labels.Match(d.Labels) {
			g.add(e, ps.pool(mesh.HostPort(e.Address, e.Port), &g.access))
		}
	}
	g.roster = ps.health.roster(d)
	g.roster.join(g)
	return g, nil
}

// newLone makes a group of one endpoint that nobody else knows.
func newLone(e mesh.Endpoint, by access) *Group {
	g := &Group{ConnectTimeout: mesh.DefaultConnectTimeout, access: by, roster: &roster{}, balancer: leastRequest}
	g.add(e, by.newPool(mesh.HostPort(e.Address, e.Port)))
	g.Endpoints[0].state = &member{}
	return g
}

func (g *Group) add(e mesh.Endpoint, p *Pool) {
	g.Endpoints = append(g.Endpoints, &Endpoint{Endpoint: e, Index: len(g.Endpoints), Pool: p, Version: e.Version(), group: g})
}

// Close closes the connections of a group that [Pools.NewLone] made.
func (g *Group) Close() {
	for _, e := range g.Endpoints {
		e.Pool.retire()
	}
}

// Choice is what an endpoint is chosen by.
type Choice struct {
	Draw   mesh.Draw // chance
	Tried  []*Pool   // in that order; to be avoided as long as there are others
	Hash   uint64    // HashOf what the group's HashPolicy names
	Hashed bool      // the request has what the group's HashPolicy names
}

// HashPolicy says what of a request its Choice is to be made by; nil: nothing.
func (g *Group) HashPolicy() *mesh.HashPolicy {
	if g.balancer < ringHash {
		return nil
	}
	return g.hash
}

// HashOf is the hash of what a HashPolicy names: xxHash64 without a seed, as in Envoy. A source IP is hashed in its textual form.
func HashOf(b []byte) uint64 { return xxhash.Sum64(b) }

// reselect is how often another endpoint is drawn when the one that was drawn has been tried before (Istio's HostSelectionRetryMaxAttempts).
const reselect = 5

// Pick chooses an endpoint; nil when there is none to be used. A request with a hash goes where that says even if it has been there before, as in Istio.
func (g *Group) Pick(c Choice) *Endpoint {
	s := g.selection()
	switch {
	case len(s.usable) == 0:
		return nil
	case len(s.usable) == 1:
		return s.usable[0]
	case c.Hashed && s.table != nil:
		return s.usable[s.table.at(c.Hash)]
	}
	e := g.choose(s, c.Draw)
	if len(c.Tried) == 0 {
		return e
	}
	for i := 0; i < reselect && slices.Contains(c.Tried, e.Pool); i++ {
		c.Draw = mix(c.Draw)
		e = g.choose(s, c.Draw)
	}
	if slices.Contains(c.Tried, e.Pool) {
		return s.untried(e, c.Tried)
	}
	return e
}

func (g *Group) choose(s *selection, draw mesh.Draw) *Endpoint {
	switch g.balancer {
	case roundRobin:
		return s.inTurn(&g.roster.turn)
	case random:
		return s.usable[s.at(draw)]
	case leastRequest:
		return s.leastBusy(draw)
	default:
		return s.usable[s.table.at(uint64(draw))]
	}
}
