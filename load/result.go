package load

import (
	"time"

	"meshtest.dev/meshtest/internal/hist"
)

// LateAfter is the slip from which on a request counts as late. Below it a busy machine's scheduler is enough to explain
// it.
const LateAfter = 100 * time.Millisecond

// A Result says what became of a stream.
type Result struct {
	Stream     string
	Start      time.Time
	StartError time.Duration // Start is right to within this: 0 when the load ran in this process, else what the estimate of another clock may be off
	End        time.Duration // of the schedule, after Start: its Duration, or when it was stopped
	Elapsed    time.Duration // until everything was answered or given up
	Stopped    bool          // the context ended before the Duration; always true for a stream without one

	Scheduled uint64 // hits that the schedule has before End
	Saturated uint64 // requests that took the last of MaxInFlight places: whoever came next had to wait
	Lost      uint64 // records that did not reach the sink

	Summary
}

// Unsent is how many scheduled requests were never sent: the places were all taken until the grace was over.
func (r *Result) Unsent() uint64 { return r.Scheduled - r.Sent }

// Achieved is the part of the schedule that was sent, from 0 to 1. A load that fell behind is not what the scenario asked
// for, so its evidence is void below 0.98. A stream that was stopped early is measured by the schedule until then. When
// nothing was scheduled the load proves nothing, and Achieved is 0.
func (r *Result) Achieved() float64 {
	if r.Scheduled == 0 {
		return 0
	}
	return float64(r.Sent) / float64(r.Scheduled)
}

// A Summary adds up records. The zero value is empty. It is not safe for concurrent use.
//
// Latencies count from the intended time. They are apart by outcome, since failures that come back at once would improve
// the percentiles, and timeouts would only repeat the timeout.
type Summary struct {
	Sent       uint64 // = Completed + Unanswered
	Completed  uint64 // answered or failed = OK.Count() + Failed.Count() + TimedOut.Count()
	Unanswered uint64 // given up when the grace was over
	Late       uint64 // sent LateAfter or more behind the schedule
	Reconnects uint64 // kept connections found closed and replaced

	Statuses map[int]uint64   // answers by status
	Errors   map[Class]uint64 // exchanges that failed, by class, Unanswered among them
	Examples map[Class]string // the first error's text of each class

	OK       Distribution // latency of whole answers with an expected status
	Failed   Distribution // latency of other answers and of failed exchanges
	TimedOut Distribution // latency of those that ran into the timeout
	Service  Distribution // time from sent to done, of everything that completed
	Slip     Distribution // sent minus intended, of everything sent
}

// Add counts one record.
func (s *Summary) Add(r Record) {
	s.Sent++
	s.Slip.Record(r.Slip())
	s.Reconnects += uint64(r.Reconnects)
	if r.Slip() >= LateAfter {
		s.Late++
	}
	if r.Status != 0 {
		count(&s.Statuses, r.Status)
	}
	if r.Class != None {
		count(&s.Errors, r.Class)
		s.example(r)
	}
	if r.Class == Unanswered {
		s.Unanswered++
		return
	}
	s.Completed++
	s.Service.Record(r.Service())
	s.latency(r).Record(r.Latency())
}

func (s *Summary) latency(r Record) *Distribution {
	switch {
	case r.OK:
		return &s.OK
	case r.Class == Timeout:
		return &s.TimedOut
	default:
		return &s.Failed
	}
}

func (s *Summary) example(r Record) {
	if s.Examples == nil {
		s.Examples = map[Class]string{}
	}
	if _, have := s.Examples[r.Class]; !have {
		s.Examples[r.Class] = r.Error
	}
}

func count[K comparable](m *map[K]uint64, key K) {
	if *m == nil {
		*m = map[K]uint64{}
	}
	(*m)[key]++
}

// Bad is how many completed requests were not OK.
func (s *Summary) Bad() uint64 { return s.Completed - s.OK.Count() }

// ErrorRate is the part of the completed requests that was not OK, from 0 to 1; 0 when none completed.
func (s *Summary) ErrorRate() float64 {
	if s.Completed == 0 {
		return 0
	}
	return float64(s.Bad()) / float64(s.Completed)
}

// A Distribution is a histogram of durations and their exact maximum. The zero value is empty.
type Distribution struct {
	Hist hist.Histogram
	Max  time.Duration
}

// Record counts one duration.
func (d *Distribution) Record(t time.Duration) {
	d.Hist.Record(t)
	d.Max = max(d.Max, t)
}

// Count is how many durations were recorded.
func (d *Distribution) Count() uint64 { return d.Hist.Count() }

// Quantile is the q-quantile, within 1.6 %, and never above the maximum; 0 when nothing was recorded.
func (d *Distribution) Quantile(q float64) time.Duration { return min(d.Hist.Quantile(q), d.Max) }

// Merge adds what o has recorded.
func (d *Distribution) Merge(o *Distribution) {
	d.Hist.Merge(&o.Hist)
	d.Max = max(d.Max, o.Max)
}
