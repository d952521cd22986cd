package load

import (
	"fmt"
	"math"
	"sort"
	"time"
)

// A Pacer is a schedule: a rate over time and the intended time of every hit. It is a pure function of its arguments,
// safe for concurrent use. Times are offsets from the start of the load, and hits are numbered from 0.
//
// The contract, which package loadtest checks: At never decreases, Hits is the integral of Rate, and hit n is due when
// the integral passes n, so that the hits before t number Hits(t) rounded up.
type Pacer interface {
	// Rate is the planned rate at t, in hits per second.
	Rate(t time.Duration) float64
	// Hits is the number of hits planned in [0, t), as the integral of Rate; for random arrivals it is the mean.
	Hits(t time.Duration) float64
	// At is the intended time of hit n. It is false when the schedule ends before hit n.
	At(n uint64) (time.Duration, bool)
	// String describes the schedule in one phrase, for a printed plan.
	String() string
}

// A Curve is a Pacer whose hits lie exactly on the integral of its rate. At(n) is Reach(n).
type Curve interface {
	Pacer
	// Reach is the first instant after which Hits is above h: where the rate is 0 for a while, the end of that while.
	// It is false when Hits never gets above h.
	Reach(h float64) (time.Duration, bool)
}

// Count is the number of hits with an intended time before d.
func Count(p Pacer, d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	due := func(n uint64) bool {
		at, ok := p.At(n)
		return ok && at < d
	}
	bound := uint64(1)
	if guess := p.Hits(d); guess < 1<<53 {
		bound = uint64(guess) + 1
	}
	for due(bound) {
		bound *= 2
	}
	return uint64(sort.Search(int(bound), func(n int) bool { return !due(uint64(n)) }))
}

// Forever is a duration that no load reaches.
const Forever = time.Duration(math.MaxInt64)

// seconds converts s to a Duration, rounded to the nearest nanosecond. It is false when s is beyond what a Duration can
// hold, which ends a schedule after 292 years.
func seconds(s float64) (time.Duration, bool) {
	ns := math.Round(s * 1e9)
	if math.IsNaN(ns) || ns >= math.MaxInt64 {
		return 0, false
	}
	return time.Duration(ns), true
}

// MaxRate bounds every rate, in hits per second: far above what one process can send, and low enough that no arithmetic overflows.
const MaxRate = 1e6

// checkRate is nil when r can be a rate in hits per second.
func checkRate(what string, r float64) error {
	if !(r >= 0 && r <= MaxRate) {
		return fmt.Errorf("%s is %v hits/s: want a number from 0 to %.0f", what, r, MaxRate)
	}
	return nil
}
