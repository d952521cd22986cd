package hist

import (
	"sync/atomic"
	"time"
)

// Concurrent is a histogram that many goroutines record into and one drains. The zero value is empty. It must not be copied.
type Concurrent struct {
	counts [Buckets]atomic.Uint64
}

// Record counts one duration: one atomic addition, no allocation.
func (c *Concurrent) Record(d time.Duration) { c.counts[Index(d)].Add(1) }

// Drain moves the counts into h and leaves c empty. Every duration ends in exactly one drain, but a drain is not
// a snapshot: of two durations recorded while it runs, the later one may be in it and the earlier one in the next.
func (c *Concurrent) Drain(h *Histogram) {
	for i := range c.counts {
		if c.counts[i].Load() == 0 {
			continue // a load is cheaper than an exchange, and most buckets are empty
		}
		h.counts[i] += c.counts[i].Swap(0)
	}
}
