package upstream

import (
	"cmp"
	"math/big"
	"slices"

	"github.com/cespare/xxhash/v2"

	"meshtest.dev/meshtest/mesh"
)

const (
	maglevSize   = 65_537    // Envoy's default
	maxTableSize = 5_000_011 // Envoy's bound
)

func isPrime(n int) bool { return n > 1 && big.NewInt(int64(n)).ProbablyPrime(0) } // without error below 2^64

// maglevTable is a consistent hash by a table that endpoints fill in turn, each along its own permutation (Eisenbud et al., Maglev, NSDI 2016, section 3.4), and as often as its weight says. The permutations
// are Envoy's.
type maglevTable []uint32

func (t maglevTable) at(hash uint64) int { return int(t[hash%uint64(len(t))]) }

// filler is an endpoint while the table is filled.
type filler struct {
	key        string
	place      uint32
	next, skip uint64 // of its permutation
	weight     float64
	due        float64
}

func newMaglev(usable []*Endpoint, policy *mesh.HashPolicy) maglevTable {
	size := uint64(maglevSize)
	if policy != nil {
		size = uint64(cmp.Or(policy.TableSize, maglevSize))
	}
	var heaviest uint64
	for _, e := range usable {
		heaviest = max(heaviest, weightOf(e))
	}
	fillers := make([]filler, len(usable))
	digest := xxhash.NewWithSeed(1)
	for i, e := range usable {
		key := mesh.HostPort(e.Address, e.Port)
		digest.ResetWithSeed(1)
		_, _ = digest.WriteString(key) // it cannot fail
		fillers[i] = filler{
			key: key, place: uint32(i), next: xxhash.Sum64String(key) % size, skip: digest.Sum64()%(size-1) + 1, weight: float64(weightOf(e)) / float64(heaviest),
		}
	}
	// By address: the table does not depend on the order of the endpoints.
	slices.SortFunc(fillers, func(a, b filler) int { return cmp.Compare(a.key, b.key) })
	return fill(fillers, size)
}

// fill lets the fillers take free places in turn, until there are none. The heaviest takes one each time around.
func fill(fillers []filler, size uint64) maglevTable {
	const free = ^uint32(0)
	table := make(maglevTable, size)
	for i := range table {
		table[i] = free
	}
	left := size
	for round := 1; ; round++ {
		for i := range fillers {
			f := &fillers[i]
			if float64(round)*f.weight < f.due {
				continue
			}
			f.due++
			for table[f.next] != free {
				f.advance(size)
			}
			table[f.next] = f.place
			f.advance(size)
			if left--; left == 0 {
				return table
			}
		}
	}
}

func (f *filler) advance(size uint64) {
	if f.next += f.skip; f.next >= size {
		f.next -= size
	}
}
