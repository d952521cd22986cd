package hist

import (
	"math"
	"math/bits"
	"time"
)

// The layout: every power of two from 2^minExp to 2^maxExp nanoseconds is cut into 2^subBits equal buckets.
// One bucket before them takes what is shorter and one after them what is longer.
const (
	subBits = 5
	minExp  = 9  // 512 ns
	maxExp  = 38 // the last power of two ends at 2^39 ns, about 9 min 10 s
)

// Buckets is the number of buckets. It is part of the encoding: a change needs a new version of the journal.
const Buckets = 2 + (maxExp-minExp+1)<<subBits

// RelativeWidth is the largest width of a bucket divided by its lower bound, the first and the last bucket excepted.
const RelativeWidth = 1.0 / (1 << subBits)

// Range of durations that are told apart to RelativeWidth.
const (
	Shortest = time.Duration(1) << minExp       // 512 ns
	Longest  = time.Duration(1) << (maxExp + 1) // 2^39 ns; from here on all durations share the last bucket
)

// Index returns the bucket of d, in [0, Buckets). It depends on nothing but d and never decreases as d grows.
func Index(d time.Duration) int {
	if d < Shortest {
		return 0
	}
	if d >= Longest {
		return Buckets - 1
	}
	u := uint64(d)
	exp := bits.Len64(u) - 1
	sub := int(u>>(exp-subBits)) & (1<<subBits - 1)
	return 1 + (exp-minExp)<<subBits + sub
}

// Lower returns the smallest duration of bucket i. Buckets are half open: bucket i holds Lower(i) <= d < Upper(i).
// Indices outside [0, Buckets) are taken as the nearest one inside.
func Lower(i int) time.Duration {
	if i <= 0 {
		return 0
	}
	i = min(i, Buckets-1) - 1
	exp := i>>subBits + minExp
	sub := i & (1<<subBits - 1)
	return time.Duration(1<<subBits+sub) << (exp - subBits)
}

// Upper returns the end of bucket i, which is the lower bound of the next one; the last bucket has no end but the largest duration.
func Upper(i int) time.Duration {
	if i >= Buckets-1 {
		return math.MaxInt64
	}
	return Lower(max(i, 0) + 1)
}

// Mid returns the middle of bucket i: no duration in it is further than RelativeWidth/2 from it.
// The last bucket, which has no end, is represented by its lower bound.
func Mid(i int) time.Duration {
	if i >= Buckets-1 {
		return Longest
	}
	return (Lower(i) + Upper(i)) / 2
}
