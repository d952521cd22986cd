package main

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/internal/hist"
)

// replicate runs sim n times, each with a source of chance of its own, and returns the results in order: the number of processors does not change them.
func replicate[T any](n int, seed, purpose uint64, sim func(*rand.Rand) T) []T {
	out := make([]T, n)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				out[i] = sim(rand.New(rand.NewPCG(seed, purpose<<32+uint64(i))))
			}
		})
	}
	wg.Wait()
	return out
}

// world says how requests behave: rates and latencies of both versions as functions of the request's number.
type world struct {
	share    func(i int) float64
	rate     [2]func(i int) float64 // baseline, canary: probability of an error
	latency  [2]func(i int, r *rand.Rand) time.Duration
	block    func(r *rand.Rand) int // requests in the next block
	requests int
}

// block is what one stretch of requests gave.
type block struct {
	errors  sequential.Block
	latency sequential.LatencyBlock
}

// run feeds the world's requests, block by block, until look says stop. A block never spans a change of the share.
func (w world) run(r *rand.Rand, look func(block) (stop bool)) {
	var arms [2]hist.Histogram
	for i := 0; i < w.requests; {
		arms[0].Reset()
		arms[1].Reset()
		share := w.share(i)
		b := block{errors: sequential.Block{Share: share}}
		counts := [2]*sequential.Arm{&b.errors.Baseline, &b.errors.Canary}
		for n := w.block(r); n > 0 && i < w.requests && w.share(i) == share; n-- {
			arm := 0
			if r.Float64() < share {
				arm = 1
			}
			counts[arm].Requests++
			if w.rate[arm] != nil && r.Float64() < w.rate[arm](i) {
				counts[arm].Events++
			} else if w.latency[arm] != nil {
				arms[arm].Record(w.latency[arm](i, r))
			}
			i++
		}
		b.latency = sequential.LatencyBlock{Share: share, Canary: &arms[1], Baseline: &arms[0]}
		if look(b) {
			return
		}
	}
}

func always[T any](x T) func(int) T { return func(int) T { return x } }

func blocksOf(n int) func(*rand.Rand) int { return func(*rand.Rand) int { return n } }

// logNormal has a median of 20 ms times factor; above the tail's quantile z the factor is tail.
func logNormal(sigma, factor, tail float64) func(int, *rand.Rand) time.Duration {
	return func(_ int, r *rand.Rand) time.Duration {
		z := r.NormFloat64()
		d := 20e6 * math.Exp(sigma*z) * factor
		if z > tailBegins {
			d *= tail
		}
		return time.Duration(d)
	}
}

const tailBegins = 1.645 // of a standard normal: the p95

// summary of how many canary requests it took; never decided counts as infinite.
type summary struct {
	mean, median, p95, p99 float64
	power                  float64 // decided at all
}

func summarise(took []float64) summary {
	slices.Sort(took)
	at := func(q float64) float64 { return took[min(len(took)-1, int(q*float64(len(took))))] }
	var sum float64
	decided := 0
	for _, x := range took {
		if !math.IsInf(x, 1) {
			sum += x
			decided++
		}
	}
	return summary{sum / float64(max(decided, 1)), at(.5), at(.95), at(.99), float64(decided) / float64(len(took))}
}
