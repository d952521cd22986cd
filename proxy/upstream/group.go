package upstream

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// Endpoint is one address that a request can go to.
type Endpoint struct {
	mesh.Endpoint
	Index   int // in its group
	Pool    *Pool
	Version string // its version label
}

// Group is the endpoints of one destination under one configuration, and how one of them is chosen. It is immutable but for its turn.
type Group struct {
	Endpoints      []*Endpoint // all of them, the ones that get nothing too
	ConnectTimeout time.Duration
	Load           *Load

	access
	balancer mesh.Balancer
	usable   []*Endpoint
	upTo     []uint64 // sums of the usable ones' weights; nil when all weigh the same
	turn     atomic.Uint64
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

// NewGroup makes a group.
func (ps *Pools) NewGroup(d Destination) (*Group, error) {
	name, endpoints, labels, policy := d.Name, d.Endpoints, d.Labels, d.Policy
	g := &Group{
		balancer: cmp.Or(policy.Balancer, mesh.LeastRequest), ConnectTimeout: cmp.Or(policy.ConnectTimeout, mesh.DefaultConnectTimeout), Load: ps.Load(name),
	}
	var err error
	if g.access, err = ps.newAccess(d); err != nil {
		return nil, fmt.Errorf("connections to %s: %w", name, err)
	}
	if !slices.Contains([]mesh.Balancer{mesh.LeastRequest, mesh.RoundRobin, mesh.Random}, g.balancer) {
		return nil, fmt.Errorf("balancing %s: no such balancer: %q", name, g.balancer)
	}
	for _, e := range endpoints {
		if !e.Labels.Match(labels) {
			continue
		}
		one := &Endpoint{Endpoint: e, Index: len(g.Endpoints), Pool: ps.pool(mesh.HostPort(e.Address, e.Port), &g.access), Version: e.Version()}
		g.Endpoints = append(g.Endpoints, one)
		if e.Health == "" || e.Health == mesh.Healthy {
			g.usable = append(g.usable, one)
		}
	}
	g.weigh()
	return g, nil
}

// Close closes the connections of a group that [Pools.NewLone] made.
func (g *Group) Close() {
	for _, e := range g.Endpoints {
		e.Pool.retire()
	}
}

func (g *Group) weigh() {
	same := true
	var sum uint64
	sums := make([]uint64, len(g.usable))
	for i, e := range g.usable {
		weight := max(e.Weight, 1)
		same = same && weight == max(g.usable[0].Weight, 1)
		sum += uint64(weight)
		sums[i] = sum
	}
	if !same {
		g.upTo = sums
	}
}

// reselect is how often another endpoint is drawn when the one that was drawn has been tried before (Istio's HostSelectionRetryMaxAttempts).
const reselect = 5

// Pick chooses an endpoint by a draw of chance; nil when no endpoint is healthy. Endpoints whose pools have been tried already are avoided as long as there are others.
func (g *Group) Pick(draw mesh.Draw, tried []*Pool) *Endpoint {
	if len(g.usable) == 0 {
		return nil
	}
	e := g.choose(draw)
	for i := 0; i < reselect && slices.Contains(tried, e.Pool); i++ {
		draw = mix(draw)
		e = g.choose(draw)
	}
	if slices.Contains(tried, e.Pool) {
		return g.untried(e, tried)
	}
	return e
}

// untried is the first endpoint behind e that has not been tried; e when there is none.
func (g *Group) untried(e *Endpoint, tried []*Pool) *Endpoint {
	at := slices.Index(g.usable, e)
	for i := range g.usable {
		if other := g.usable[(at+i)%len(g.usable)]; !slices.Contains(tried, other.Pool) {
			return other
		}
	}
	return e
}

func (g *Group) choose(draw mesh.Draw) *Endpoint {
	switch {
	case len(g.usable) == 1:
		return g.usable[0]
	case g.balancer == mesh.RoundRobin:
		return g.inTurn()
	case g.balancer == mesh.Random:
		return g.at(draw)
	default:
		first, second := g.at(draw), g.at(mix(draw))
		if first == second {
			return first
		}
		if second.Pool.Active() < first.Pool.Active() {
			return second
		}
		return first
	}
}

// at is the endpoint at a draw, in proportion to the weights.
func (g *Group) at(draw mesh.Draw) *Endpoint {
	if g.upTo == nil {
		i, _ := bits.Mul64(uint64(draw), uint64(len(g.usable)))
		return g.usable[i]
	}
	point, _ := bits.Mul64(uint64(draw), g.upTo[len(g.upTo)-1])
	i, _ := slices.BinarySearchFunc(g.upTo, point, func(sum, point uint64) int {
		if sum <= point {
			return -1
		}
		return 1
	})
	return g.usable[i]
}

// inTurn goes around. Endpoints of different weights take turns along the multiples of the golden ratio, which spread over the weights as evenly as can be.
func (g *Group) inTurn() *Endpoint {
	n := g.turn.Add(1) - 1
	if g.upTo == nil {
		return g.usable[n%uint64(len(g.usable))]
	}
	return g.at(mesh.Draw(n * golden))
}

const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio

// mix makes another draw of a draw (the finaliser of SplitMix64).
func mix(d mesh.Draw) mesh.Draw {
	z := uint64(d) + golden
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return mesh.Draw(z ^ z>>31)
}
