package sequential

import (
	"fmt"
	"math"
	"slices"
)

// SplitAlpha is the error probability of the sample-ratio check: low, because its alarm voids a run.
const SplitAlpha = 0.001

// Split tests for a sample-ratio mismatch: do the versions get the requests that the split says? Null hypothesis: in every stratum each request went to
// version i with the configured chance, independently of the others.
//
// A stratum's e-process is the Bayes factor of Dirichlet-multinomial counts against the configured shares (Lindon & Malek, "Anytime-valid
// inference for multinomial count data", NeurIPS 2022), half with a prior worth 128 requests around the configured shares, for small deviations, and half with one
// worth 2, for gross ones. The j-th stratum has weight 1/(j*(j+1)) in the mean, so that one wrong step is found however many right ones were before it.
//
// A sticky split sends keys, not requests: count each key once.
type Split struct {
	Evidence
	strata []*shares
}

// shares is a stratum: what was configured, and what was seen.
type shares struct {
	want []float64
	got  []uint64
}

// Concentrations of the two priors, in requests.
const (
	looseWorth = 2
	tightWorth = 128
)

// certain stands for the infinite evidence of a request that cannot have happened, e.g. one sent to a version with share 0.
const certain = 700

// NewSplit returns a test of any number of versions.
func NewSplit() *Split { return new(Split) }

// Add takes how many requests each version got while the split was set to these shares, which sum to 1. Equal shares are one stratum.
// An error wraps ErrBlock.
func (s *Split) Add(want []float64, got []uint64) error {
	if err := checkShares(want, got); err != nil {
		return err
	}
	i := slices.IndexFunc(s.strata, func(o *shares) bool { return slices.Equal(o.want, want) })
	if i < 0 {
		i = len(s.strata)
		s.strata = append(s.strata, &shares{want: slices.Clone(want), got: make([]uint64, len(got))})
	}
	for v, n := range got {
		s.strata[i].got[v] += n
	}
	s.observe(s.mean(), true)
	return nil
}

func checkShares(want []float64, got []uint64) error {
	if len(want) != len(got) || len(want) == 0 {
		return fmt.Errorf("%w: %d shares and %d counts", ErrBlock, len(want), len(got))
	}
	var sum float64
	for i, w := range want {
		if !(w >= 0 && w <= 1) || got[i] > 1<<53 {
			return fmt.Errorf("%w: share %v with %d requests", ErrBlock, w, got[i])
		}
		sum += w
	}
	if math.Abs(sum-1) > 1e-9 {
		return fmt.Errorf("%w: shares sum to %v", ErrBlock, sum)
	}
	return nil
}

func (s *Split) mean() float64 {
	terms := make([]float64, 0, len(s.strata)+1)
	for j, o := range s.strata {
		terms = append(terms, -math.Log(float64(j+1)*float64(j+2))+o.logE())
	}
	rest := -math.Log(float64(len(s.strata) + 1)) // strata still to come have e = 1
	return min(logSumExp(append(terms, rest)), certain)
}

func (o *shares) logE() float64 {
	return logSumExp([]float64{o.logFactor(looseWorth), o.logFactor(tightWorth)}) - math.Ln2
}

// logFactor is the logarithm of the Bayes factor with a Dirichlet(worth*share) prior.
func (o *shares) logFactor(worth float64) float64 {
	var total, sum float64
	for i, w := range o.want {
		n := float64(o.got[i])
		total += n
		if n == 0 {
			continue
		}
		if w == 0 {
			return certain
		}
		sum += logRising(worth*w, n) - n*math.Log(w)
	}
	return min(sum-logRising(worth, total), certain)
}

// logRising returns the logarithm of a*(a+1)*...*(a+n-1).
func logRising(a, n float64) float64 {
	upper, _ := math.Lgamma(a + n)
	lower, _ := math.Lgamma(a)
	return upper - lower
}
