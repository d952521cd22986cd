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

// balancer is a load balancing algorithm. Those from ringHash on send equal hashes to equal endpoints.
type balancer uint8

const (
	leastRequest balancer = iota
	roundRobin
	random
	ringHash
	maglev
)

var balancers = map[mesh.Balancer]balancer{
	"": leastRequest, mesh.LeastRequest: leastRequest, mesh.RoundRobin: roundRobin, mesh.Random: random, mesh.RingHash: ringHash, mesh.Maglev: maglev,
}

func newBalancer(policy mesh.TrafficPolicy) (balancer, error) {
	b, ok := balancers[policy.Balancer]
	if !ok {
		return 0, fmt.Errorf("no such balancer: %q", policy.Balancer)
	}
	if h := policy.Hash; h != nil {
		switch {
		case h.MinRingSize < 0 || h.MinRingSize > maxMinRingSize:
			return 0, fmt.Errorf("a ring of %d points: it must be at most %d", h.MinRingSize, maxMinRingSize)
		case h.TableSize != 0 && (h.TableSize > maxTableSize || !isPrime(h.TableSize)):
			return 0, fmt.Errorf("a Maglev table of %d: it must be a prime up to %d", h.TableSize, maxTableSize)
		}
	}
	return b, checkWarmup(policy.Warmup)
}

// hashTable sends hashes to endpoints, by their places among the usable ones.
type hashTable interface{ at(hash uint64) int }

// selection is who may be chosen, and how. It is immutable.
type selection struct {
	version uint64        // of what was known of the endpoints
	until   time.Duration // when time changes it; never
	usable  []*Endpoint
	upTo    []uint64  // sums of the usable ones' weights; nil when all weigh the same
	guide   []uint32  // for each of equal parts of all draws, the place where the first of them leads
	table   hashTable // of ringHash and maglev
	panics  bool      // so few could be used that all are
}

const never = time.Duration(1<<63 - 1)

// selection is the one that holds now.
func (g *Group) selection() *selection {
	s := g.selected.Load()
	if s == nil || s.version != g.roster.version.Load() || s.until != never && g.opts.Now() >= s.until {
		return g.renew(s)
	}
	return s
}

// renew makes the selection anew. Whoever finds that somebody does so already goes by the old one.
func (g *Group) renew(old *selection) *selection {
	if old == nil {
		g.selecting.Lock()
	} else if !g.selecting.TryLock() {
		return old
	}
	defer g.selecting.Unlock()
	now := g.opts.Now()
	if s := g.selected.Load(); s != old && s.version == g.roster.version.Load() && now < s.until {
		return s
	}
	s := g.newSelection(now)
	g.selected.Store(s)
	return s
}

// newSelection asks the destination who may be used, and prepares the choice among them.
func (g *Group) newSelection(now time.Duration) *selection {
	s := &selection{until: never}
	weights := g.survey(s, now)
	switch {
	case len(s.usable) == 0:
	case g.balancer == ringHash:
		s.table = g.ringOf(s.usable)
	case g.balancer == maglev:
		s.table = newMaglev(s.usable, g.hash)
	default:
		s.weigh(weights)
	}
	return s
}

// weigh prepares draws in proportion to the weights.
func (s *selection) weigh(weights []uint64) {
	same := true
	var sum uint64
	upTo := make([]uint64, len(weights))
	for i, weight := range weights {
		same = same && weight == weights[0]
		sum += weight
		upTo[i] = sum
	}
	if same {
		return
	}
	s.upTo = upTo
	s.guide = make([]uint32, 1<<bits.Len(uint(len(weights)-1)))
	i := 0
	for part := range s.guide {
		for point := s.point(mesh.Draw(part) << s.partBits()); upTo[i] <= point; i++ {
		}
		s.guide[part] = uint32(i)
	}
}

// partBits is how many bits of a draw tell those apart that are in one part of the guide.
func (s *selection) partBits() int { return 64 - bits.TrailingZeros(uint(len(s.guide))) }

// point is where a draw falls among the sums of the weights.
func (s *selection) point(draw mesh.Draw) uint64 {
	point, _ := bits.Mul64(uint64(draw), s.upTo[len(s.upTo)-1])
	return point
}

// weightOf is an endpoint's weight as it was configured.
func weightOf(e *Endpoint) uint64 { return uint64(max(e.Weight, 1)) }

// at is the place at a draw, in proportion to the weights.
func (s *selection) at(draw mesh.Draw) int {
	if s.upTo == nil {
		i, _ := bits.Mul64(uint64(draw), uint64(len(s.usable)))
		return int(i)
	}
	point, i := s.point(draw), int(s.guide[draw>>s.partBits()])
	for s.upTo[i] <= point {
		i++
	}
	return i
}

// weight is that at a place, relative to the others.
func (s *selection) weight(i int) uint64 {
	switch {
	case s.upTo == nil:
		return 1
	case i == 0:
		return s.upTo[0]
	default:
		return s.upTo[i] - s.upTo[i-1]
	}
}

// leastBusy draws two endpoints in proportion to the weights, and takes the one with fewer requests in flight for its weight.
func (s *selection) leastBusy(draw mesh.Draw) *Endpoint {
	i, j := s.at(draw), s.at(mix(draw))
	first, second := s.usable[i], s.usable[j]
	if i == j {
		return first
	}
	busy, other := uint64(max(first.Pool.Active(), 0)), uint64(max(second.Pool.Active(), 0))
	if s.upTo != nil {
		busy, other = busy*s.weight(j), other*s.weight(i)
	}
	if other < busy {
		return second
	}
	return first
}

// inTurn goes around. Endpoints of different weights take turns along the multiples of the golden ratio, which spread over the weights as evenly as can be.
func (s *selection) inTurn(turn *atomic.Uint64) *Endpoint {
	n := turn.Add(1) - 1
	if s.upTo == nil {
		return s.usable[n%uint64(len(s.usable))]
	}
	return s.usable[s.at(mesh.Draw(n*golden))]
}

// untried is the first endpoint, from e on, that has not been tried. When all have, it is the first that was not the last: that one may have come back meanwhile, as in a roll-out.
func (s *selection) untried(e *Endpoint, tried []*Pool) *Endpoint {
	if other := s.firstNotIn(tried, e); other != nil {
		return other
	}
	return cmp.Or(s.firstNotIn(tried[len(tried)-1:], e), e)
}

func (s *selection) firstNotIn(tried []*Pool, from *Endpoint) *Endpoint {
	at, _ := slices.BinarySearchFunc(s.usable, from.Index, func(e *Endpoint, index int) int { return cmp.Compare(e.Index, index) })
	for i := range s.usable {
		if other := s.usable[(at+i)%len(s.usable)]; !slices.Contains(tried, other.Pool) {
			return other
		}
	}
	return nil
}

const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio

// mix makes another draw of a draw (the finaliser of SplitMix64).
func mix(d mesh.Draw) mesh.Draw {
	z := uint64(d) + golden
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return mesh.Draw(z ^ z>>31)
}
