package sequential_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/internal/hist"
)

// chance is seeded: a test sees the same numbers every time.
func chance(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2024)) }

func arm(requests, events int) sequential.Arm {
	return sequential.Arm{Requests: uint64(requests), Events: uint64(events)}
}

func harmAfter(t *testing.T, blocks ...sequential.Block) *sequential.Harm {
	t.Helper()
	h := sequential.NewHarm(sequential.ErrorAlternatives())
	for _, b := range blocks {
		require.NoError(t, h.Add(b))
	}
	return h
}

// randomBlock draws n requests with the given rates.
func randomBlock(r *rand.Rand, share float64, n int, p0, p1 float64) sequential.Block {
	b := sequential.Block{Share: share}
	for range n {
		a, p := &b.Baseline, p0
		if r.Float64() < share {
			a, p = &b.Canary, p1
		}
		a.Requests++
		if r.Float64() < p {
			a.Events++
		}
	}
	return b
}

// logNormals draws a block of n requests with a median of 20 ms, the canary's times factor, all of them times unit.
func logNormals(r *rand.Rand, share float64, n int, sigma, factor, unit float64) sequential.LatencyBlock {
	b := sequential.LatencyBlock{Share: share, Canary: new(hist.Histogram), Baseline: new(hist.Histogram)}
	for range n {
		d := 20e6 * math.Exp(sigma*r.NormFloat64()) * unit
		if r.Float64() < share {
			b.Canary.Record(time.Duration(d * factor))
		} else {
			b.Baseline.Record(time.Duration(d))
		}
	}
	return b
}

func finite(t *testing.T, xs ...float64) {
	t.Helper()
	for _, x := range xs {
		require.False(t, math.IsNaN(x) || math.IsInf(x, 0), "%v", x)
	}
}
