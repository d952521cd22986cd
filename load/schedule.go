package load

import (
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// A schedule is a Pacer with an end, as vegeta wants it. Vegeta sleeps through what Pace tells it to and cannot be
// woken, so Pace waits by itself and never asks for a sleep. Only vegeta's dispatcher calls it.
type schedule struct {
	pacer Pacer
	since func() time.Duration
	end   atomic.Int64 // hits at or after it are not sent
	moved chan struct{}
	move  sync.Once
	cut   chan struct{}
}

var _ vegeta.Pacer = (*schedule)(nil)

func newSchedule(p Pacer, duration time.Duration, since func() time.Duration) *schedule {
	s := &schedule{pacer: p, since: since, moved: make(chan struct{}), cut: make(chan struct{})}
	s.end.Store(int64(fallback(duration, Forever)))
	return s
}

// Rate implements vegeta.Pacer.
func (s *schedule) Rate(elapsed time.Duration) float64 { return s.pacer.Rate(elapsed) }

// Pace returns when the hit is due, at once when it is overdue, and stops at the end of the schedule. Hits that were due
// before the end are still sent after it, until the schedule is cut.
func (s *schedule) Pace(_ time.Duration, hit uint64) (wait time.Duration, stop bool) {
	moved, napped := s.moved, false
	for {
		at, ok := s.pacer.At(hit)
		if !ok || at >= s.ends() || s.isCut() {
			return 0, true
		}
		switch wait := at - s.since(); {
		case wait <= 0:
			return 0, false
		case napped:
			s.sleep(wait, &moved)
		case wait > longestNap:
			s.sleep(wait-longestNap, &moved)
		default:
			nap(wait)
			napped = true
		}
	}
}

// longestNap is how much of a wait is left to nap. The runtime's timers are late by up to this much when it is idle (it
// waits for them in epoll, in whole milliseconds), which would be in every latency that is measured.
const longestNap = time.Millisecond

// sleep waits until d is over, the end moved for the first time, or the schedule is cut.
func (s *schedule) sleep(d time.Duration, moved *chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-*moved:
		*moved = nil
	case <-s.cut:
	}
}

func (s *schedule) ends() time.Duration { return time.Duration(s.end.Load()) }

// stop makes now the end, unless it ended before: a load that is stopped early has just a shorter schedule.
func (s *schedule) stop() {
	s.move.Do(func() {
		s.end.Store(min(s.end.Load(), int64(s.since())))
		close(s.moved)
	})
}

func (s *schedule) isCut() bool {
	select {
	case <-s.cut:
		return true
	default:
		return false
	}
}
