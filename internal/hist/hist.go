// Package hist remembers how long things took: mergeable log-linear histograms of durations with exact integer counts.
//
// A power of two is cut into 32 buckets, so that a bucket is at most 3.125 % wide, from 512 ns to 9 minutes. The bucket of a
// duration is a pure function of the duration. Histograms of several sidecars and seconds therefore add up without error,
// and "how many were at or above this boundary" has an exact answer; this is what the sequential tests count. The layout is the one of
// HdrHistogram (http://hdrhistogram.org) and of Prometheus's native histograms at schema 5, but linear within a power of two.
package hist

import (
	"math"
	"time"
)

// Histogram counts durations. The zero value is an empty histogram. It is not safe for concurrent use; see Concurrent.
type Histogram struct {
	counts [Buckets]uint64
}

// Record counts one duration. A negative one counts as zero. It does not allocate.
func (h *Histogram) Record(d time.Duration) { h.counts[Index(d)]++ }

// Merge adds the counts of o.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
}

// Reset empties the histogram.
func (h *Histogram) Reset() { clear(h.counts[:]) }

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.CountAbove(0) }

// CountAbove returns how many recorded durations were at or above the boundary Lower(i). The answer is exact.
func (h *Histogram) CountAbove(i int) uint64 {
	var sum uint64
	if i >= Buckets {
		return 0
	}
	for _, n := range h.counts[max(i, 0):] {
		sum += n
	}
	return sum
}

// CountIn returns how many recorded durations fell into bucket i.
func (h *Histogram) CountIn(i int) uint64 {
	if i < 0 || i >= Buckets {
		return 0
	}
	return h.counts[i]
}

// QuantileBucket returns the bucket that holds the q-quantile: the ceil(q*n)-th smallest of the n durations.
// q is cut to [0, 1]. The second result is false when the histogram is empty.
func (h *Histogram) QuantileBucket(q float64) (int, bool) {
	n := h.Count()
	if n == 0 {
		return 0, false
	}
	rank := uint64(1)
	if q > 0 {
		rank = max(1, uint64(math.Ceil(min(q, 1)*float64(n))))
	}
	rank = min(rank, n)
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank {
			return i, true
		}
	}
	return Buckets - 1, true
}

// Quantile returns the q-quantile as the middle of its bucket: at most RelativeWidth/2 (1.6 %) away from the exact order
// statistic. An empty histogram gives 0; in the last bucket the result is Longest, a lower bound.
func (h *Histogram) Quantile(q float64) time.Duration {
	i, ok := h.QuantileBucket(q)
	if !ok {
		return 0
	}
	return Mid(i)
}
