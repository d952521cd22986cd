package telemetry

import (
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"
)

// envoyBuckets are the upper bounds of Envoy's histograms, and so of Istio's metrics (source/common/stats/histogram_impl.cc): milliseconds or bytes.
var envoyBuckets = []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000}

// durationBuckets are Envoy's and finer ones between them, at most 1.5 apart up to 10 s, so that quantiles of two versions can be told apart. Milliseconds.
var durationBuckets = []float64{
	0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 10, 12.5, 15, 20, 25, 30, 40, 50, 60, 75, 100, 125, 150, 200, 250, 300, 400, 500, 600,
	750, 1000, 1250, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 7500, 10000, 15000, 20000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

// scale is the shape of a histogram: its bounds in the unit of what is recorded, and as they are told.
type scale struct {
	bounds []int64  // inclusive, ascending
	le     []string // the label's values, one more than bounds
	unit   float64  // recorded units in a told one
	start  [65]int  // by length in bits of a value: the first bucket that can hold it
}

var (
	durationScale = newScale(durationBuckets, float64(time.Millisecond))
	byteScale     = newScale(envoyBuckets, 1)
)

func newScale(bounds []float64, unit float64) *scale {
	s := &scale{unit: unit}
	for _, b := range bounds {
		s.bounds = append(s.bounds, int64(b*unit))
		s.le = append(s.le, strconv.FormatFloat(b, 'g', -1, 64))
	}
	s.le = append(s.le, "+Inf")
	for n := 1; n <= 64; n++ {
		smallest := uint64(1) << (n - 1)
		for s.start[n] < len(s.bounds) && uint64(s.bounds[s.start[n]]) < smallest {
			s.start[n]++
		}
	}
	return s
}

// bucket is the bucket of a value: the first whose bound is not below it.
func (s *scale) bucket(v int64) int {
	if v <= 0 {
		return 0
	}
	i := s.start[bits.Len64(uint64(v))]
	for i < len(s.bounds) && s.bounds[i] < v {
		i++
	}
	return i
}

// histogram counts values. Its parts are read one after the other: what is recorded meanwhile may be in the sum and not yet in a bucket.
type histogram struct {
	counts []atomic.Uint64 // by bucket; not cumulative
	sum    atomic.Int64
}

func (h *histogram) init(s *scale) { h.counts = make([]atomic.Uint64, len(s.bounds)+1) }

func (h *histogram) record(s *scale, v int64) {
	v = max(v, 0)
	h.counts[s.bucket(v)].Add(1)
	h.sum.Add(v)
}

func (h *histogram) count() uint64 {
	var n uint64
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// append writes the series of the histogram.
func (h *histogram) append(b []byte, s *scale, name, labels string) []byte {
	var n uint64
	for i, le := range s.le {
		n += h.counts[i].Load()
		b = append(b, name...)
		b = append(b, "_bucket{"...)
		b = append(b, labels...)
		b = append(b, ',')
		b = appendLabel(b, "le", le)
		b = append(b, "} "...)
		b = strconv.AppendUint(b, n, 10)
		b = append(b, '\n')
	}
	b = appendSeries(b, name+"_sum", labels, float64(h.sum.Load())/s.unit)
	return appendSeries(b, name+"_count", labels, float64(n))
}
