package sequential

import (
	"time"

	"meshtest.dev/meshtest/internal/hist"
)

// threshold is a baseline quantile that is predictable: estimated from past blocks only, and only at declared times. The first
// estimate is made from the first least baseline requests, each further one from the requests since the one before, twice as many each time.
// Hence a block is never measured with a threshold that knows it, and a drift of the baseline is followed.
type threshold struct {
	q     float64
	least uint64

	past   hist.Histogram // baseline since the last estimate
	wanted uint64         // requests in past for the next estimate

	ready  bool
	bucket int     // that held the quantile
	above  float64 // share of the sample above the bucket, at most 1-q
	within float64 // share in the bucket: above+within is more than 1-q or just that
}

func newThreshold(q float64, least uint64) *threshold {
	return &threshold{q: q, least: max(least, 1), wanted: max(least, 1)}
}

// learn takes the baseline of a block, after the block was measured.
func (t *threshold) learn(baseline *hist.Histogram) {
	t.past.Merge(baseline)
	n := t.past.Count()
	if n < t.wanted {
		return
	}
	t.bucket, _ = t.past.QuantileBucket(t.q)
	t.above = float64(t.past.CountAbove(t.bucket+1)) / float64(n)
	t.within = float64(t.past.CountIn(t.bucket)) / float64(n)
	t.ready = true
	t.wanted = 2 * n
	t.past.Reset()
}

// tolerated is the first bucket that lies wholly at or above (1+tolerance) times the end of the quantile's bucket.
func (t *threshold) tolerated(tolerance float64) int {
	if tolerance == 0 {
		return t.bucket + 1
	}
	limit := time.Duration(float64(hist.Upper(t.bucket)) * (1 + tolerance))
	i := hist.Index(limit)
	if hist.Lower(i) < limit {
		i++
	}
	return i
}

// upper is the end of the bucket that held the quantile, 0 before the first estimate.
func (t *threshold) upper() time.Duration {
	if !t.ready {
		return 0
	}
	return hist.Upper(t.bucket)
}
