package injector

import (
	"sync/atomic"

	"meshtest.dev/meshtest/mesh"
)

// Tally counts what one executor does for one fault. It is safe for concurrent use, and its zero value is ready.
type Tally struct {
	matched, delayed, aborted, overflow atomic.Uint64
	active                              atomic.Uint32
}

// Matched counts a request or attempt on which the fault is asked, and returns its ordinal.
func (t *Tally) Matched() uint64 { return t.matched.Add(1) }

// Begin counts an effect as active and reports whether it may begin: not when it would be more than max at a time (0: no limit), which counts as overflow. Each true
// must be followed by one End.
func (t *Tally) Begin(max uint32) bool {
	for {
		n := t.active.Load()
		if max > 0 && n >= max {
			t.overflow.Add(1)
			return false
		}
		if t.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// End ends an effect, and reports whether it was the last one.
func (t *Tally) End() bool { return t.active.Add(^uint32(0)) == 0 }

// Delayed counts a request that is held back.
func (t *Tally) Delayed() { t.delayed.Add(1) }

// Aborted counts a request that is answered.
func (t *Tally) Aborted() { t.aborted.Add(1) }

// Accounting is what has been done so far. Under traffic its counts are of slightly different moments; matched is read last, so that no effect is accounted for without
// the request it came from.
func (t *Tally) Accounting(fault, executor string, state mesh.LeaseState) mesh.Accounting {
	a := mesh.Accounting{
		Fault: fault, Executor: executor, State: state,
		Active: uint64(t.active.Load()), Delayed: t.delayed.Load(), Aborted: t.aborted.Load(), Overflow: t.overflow.Load(),
	}
	a.Matched = t.matched.Load()
	return a
}
