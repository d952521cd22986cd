package sequential_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/internal/hist"
)

func BenchmarkLatencyAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var arms [2]hist.Histogram
	for i := range 200 {
		arms[i%2].Record(time.Duration(20e6 * (1 + r.ExpFloat64())))
	}
	l := sequential.NewLatency(sequential.DefaultQuantiles(), 0)
	block := sequential.LatencyBlock{Share: 0.5, Canary: &arms[0], Baseline: &arms[1]}
	for b.Loop() {
		if err := l.Add(block); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHarmAdd(b *testing.B) {
	h := sequential.NewHarm(sequential.ErrorAlternatives())
	block := sequential.Block{Share: 0.05, Canary: sequential.Arm{Requests: 5, Events: 1}, Baseline: sequential.Arm{Requests: 95, Events: 1}}
	for b.Loop() {
		if err := h.Add(block); err != nil {
			b.Fatal(err)
		}
	}
}
