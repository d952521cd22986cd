package upstream

import (
	"sync/atomic"
)

// Load is what is in flight to a destination: the basis of a retry budget.
type Load struct {
	requests, retries atomic.Int64
	gone              bool // no group in force is the destination's; under the lock of Pools
}

func (l *Load) busy() bool { return l.requests.Load() > 0 || l.retries.Load() > 0 }

// Begin counts a logical request in flight, End its end.
func (l *Load) Begin() { l.requests.Add(1) }

// End is Begin's counterpart.
func (l *Load) End() { l.requests.Add(-1) }

// BeginRetry counts a retry in flight, unless there are as many already as the budget allows: percent of the requests in flight, but at least the minimum. EndRetry must
// follow each true.
func (l *Load) BeginRetry(percent float64, minimum int) bool {
	allowed := max(int64(percent*float64(l.requests.Load())/100), int64(minimum))
	for {
		n := l.retries.Load()
		if n >= allowed {
			return false
		}
		if l.retries.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// EndRetry is the counterpart of BeginRetry.
func (l *Load) EndRetry() { l.retries.Add(-1) }
