package load

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Poisson makes the arrivals of a curve random: independent users instead of a metronome. The same seed gives the same
// arrivals. It is the time change of a unit-rate Poisson process by the curve's integral, so the rate may vary.
//
// Arrivals are drawn in order and remembered, 8 bytes each.
func Poisson(c Curve, seed uint64) Pacer {
	return &poisson{Curve: c, seed: seed, rng: rand.New(rand.NewPCG(seed, 0))}
}

type poisson struct {
	Curve
	seed uint64
	mu   sync.Mutex
	rng  *rand.Rand
	last float64
	sums []float64 // sums[n] is the place of hit n on the integral
}

func (p *poisson) At(n uint64) (time.Duration, bool) { return p.Reach(p.sum(n)) }

// sum is the sum of the first n+1 gaps, each exponential with mean 1.
func (p *poisson) sum(n uint64) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uint64(len(p.sums)) <= n {
		p.last += p.rng.ExpFloat64()
		p.sums = append(p.sums, p.last)
	}
	return p.sums[n]
}

func (p *poisson) String() string { return fmt.Sprintf("%v, Poisson arrivals", p.Curve) }
