package sequential

import (
	"errors"
	"fmt"
	"math"
)

// ErrBlock is wrapped by every error about a block that cannot be. The test it was given to is as it was before.
var ErrBlock = errors.New("evidence block")

// Arm counts the requests of one version, and how many of them had the event: an error, or a latency above a threshold.
type Arm struct {
	Requests uint64
	Events   uint64
}

func (a Arm) plus(b Arm) Arm { return Arm{a.Requests + b.Requests, a.Events + b.Events} }

func (a Arm) rest() uint64 { return a.Requests - a.Events }

// Block is what both versions did in one stretch of time.
type Block struct {
	// Share is the chance with which the split sent a request to the canary rather than to the baseline, in (0, 1]. It is the
	// configured weight (among the two), not the observed one. Zero says that nothing was randomised: the numbers of
	// requests are taken as given, and under the null hypothesis the requests of the block are exchangeable between the arms.
	Share    float64
	Canary   Arm
	Baseline Arm
}

func (b Block) check() error {
	switch {
	case !(b.Share >= 0 && b.Share <= 1):
		return fmt.Errorf("%w: share %v is not in [0, 1]", ErrBlock, b.Share)
	case b.Share == 1 && b.Baseline.Requests > 0:
		return fmt.Errorf("%w: %d baseline requests at share 1", ErrBlock, b.Baseline.Requests)
	case b.Canary.Events > b.Canary.Requests, b.Baseline.Events > b.Baseline.Requests:
		return fmt.Errorf("%w: more events than requests in %+v", ErrBlock, b)
	case b.Canary.Requests > b.limit(), b.Baseline.Requests > b.limit():
		return fmt.Errorf("%w: more than %d requests of one version", ErrBlock, b.limit())
	}
	return nil
}

// limit is the most requests of one version in a block: with a design share whatever is exact as a float64; without one, both
// versions' requests together decide how long the list of possible outcomes is.
func (b Block) limit() uint64 {
	if b.Share == 0 && b.Canary.Requests > 0 && b.Baseline.Requests > 0 {
		return 1 << 20
	}
	return 1 << 53
}

// realised returns the share that the block's own counts show; 0 when it is empty.
func (b Block) realised() float64 {
	n := b.Canary.Requests + b.Baseline.Requests
	if n == 0 {
		return 0
	}
	return float64(b.Canary.Requests) / float64(n)
}

// logSumExp returns ln(sum of exp(x)) without overflow. It is negative infinity for nothing, which no caller passes.
func logSumExp(xs []float64) float64 {
	top := math.Inf(-1)
	for _, x := range xs {
		top = max(top, x)
	}
	if math.IsInf(top, -1) {
		return top
	}
	var sum float64
	for _, x := range xs {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}
