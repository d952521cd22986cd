package upstream

import (
	"cmp"
	"errors"
	"math"
	"time"

	"meshtest.dev/meshtest/mesh"
)

func checkWarmup(w *mesh.Warmup) error {
	switch {
	case w == nil:
		return nil
	case w.Duration <= 0:
		return errors.New("a warm-up must take some time")
	case !(w.MinPercent >= 0 && w.MinPercent <= 100):
		return errors.New("a warm-up begins with 0 to 100 % of the weight")
	case !(w.Aggression >= 0):
		return errors.New("a warm-up's aggression must not be negative")
	default:
		return nil
	}
}

const (
	// fullWeight is what a weight is multiplied with where there is a warm-up, to tell its parts.
	fullWeight = 1 << 10
	// warmupSteps is in how many steps weights grow.
	warmupSteps = 100
)

// warmed is the part of fullWeight that an endpoint of an age gets (Envoy's formula): max(minimum, (age/duration)^(1/aggression)).
func warmed(w *mesh.Warmup, age time.Duration) uint64 {
	if age >= w.Duration {
		return fullWeight
	}
	share := float64(max(age, 0)) / float64(w.Duration)
	if a := cmp.Or(w.Aggression, 1); a != 1 {
		share = math.Pow(share, 1/a)
	}
	return max(1, uint64(fullWeight*max(share, cmp.Or(w.MinPercent, 10)/100)))
}
