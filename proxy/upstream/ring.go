package upstream

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"meshtest.dev/meshtest/mesh"
)

const (
	minRingSize    = 1024    // Istio's default of minimumRingSize
	maxRingSize    = 1 << 20 // bounds the points that very different weights would ask for
	maxMinRingSize = 8 << 20 // Envoy's bound
)

// ring is a consistent hash: every endpoint has points on the circle of hashes, in proportion to its weight, and a hash belongs to the next point. The points are Envoy's (ketama with xxHash64).
type ring struct {
	points []point // by hash
	// first is, for each of equal arcs of the circle, the first point in it or behind it: points are so evenly spread that it is never far from there.
	first []uint32
	shift int
}

type point struct {
	hash uint64
	to   uint32 // place of the endpoint
}

// newRing makes a ring of at least minimum points.
func newRing(endpoints []*Endpoint, minimum int) *ring {
	var sum, least uint64 = 0, math.MaxUint64
	for _, e := range endpoints {
		sum += weightOf(e)
		least = min(least, weightOf(e))
	}
	smallest := float64(least) / float64(sum)
	size := min(math.Ceil(smallest*float64(minimum))/smallest, float64(max(maxRingSize, minimum)))
	points := make([]point, 0, int(math.Ceil(size))+1)
	var due float64
	for i, e := range endpoints {
		due += size * float64(weightOf(e)) / float64(sum)
		key := append([]byte(mesh.HostPort(e.Address, e.Port)), '_')
		for n := 0; float64(len(points)) < due; n++ {
			points = append(points, point{HashOf(strconv.AppendInt(key, int64(n), 10)), uint32(i)})
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.to, b.to)) })
	return indexed(points)
}

// indexed makes a ring of sorted points, of which there must be some.
func indexed(points []point) *ring {
	log := bits.Len(uint(len(points) - 1))
	r := &ring{points: points, first: make([]uint32, 1<<log), shift: 64 - log}
	next := 0
	for arc := range r.first {
		for next < len(points) && points[next].hash>>r.shift < uint64(arc) {
			next++
		}
		r.first[arc] = uint32(next)
	}
	return r
}

func (r *ring) at(hash uint64) int {
	i := int(r.first[hash>>r.shift])
	for i < len(r.points) && r.points[i].hash < hash {
		i++
	}
	if i == len(r.points) {
		i = 0
	}
	return int(r.points[i].to)
}

// ringOf is the ring of the usable endpoints. It has their points of the ring of all, so that what belongs to one of them stays with it when others come and go.
func (g *Group) ringOf(usable []*Endpoint) *ring {
	if g.ring == nil {
		minimum := minRingSize
		if g.hash != nil {
			minimum = cmp.Or(g.hash.MinRingSize, minRingSize)
		}
		g.ring = newRing(g.Endpoints, minimum)
	}
	if len(usable) == len(g.Endpoints) {
		return g.ring
	}
	place := make(map[uint32]uint32, len(usable))
	for i, e := range usable {
		place[uint32(e.Index)] = uint32(i)
	}
	var points []point
	for _, p := range g.ring.points {
		if to, ok := place[p.to]; ok {
			points = append(points, point{p.hash, to})
		}
	}
	if len(points) == 0 { // when the ring is at its bound, an endpoint of little weight has no point
		return newRing(usable, len(usable))
	}
	return indexed(points)
}
