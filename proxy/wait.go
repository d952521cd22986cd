package proxy

import (
	"time"
)

// pending is an effect that is still in force.
type pending struct {
	effect  Effect
	carried Carried
}

// ask asks the chain, and carries out what it says, up to the first answer: the status is 0 when there was none. It is not ok when the wait was ended.
func (s *stream) ask(at Point) (answer Verdict, ok bool) {
	for _, f := range s.srv.opts.Filters {
		v := f.Decide(at, &s.exchange)
		if v.IsZero() {
			continue
		}
		s.marks |= v.Flags
		carried, why := Carried{}, none
		if v.Delay > 0 {
			var cut bool
			if carried.Delayed, cut, why = s.sleep(v.Delay, v.Cut); cut {
				v.Status = 0
			}
		}
		carried.Answered = v.Status != 0 && why == none
		if v.Effect != nil && !carried.Answered {
			v.Effect.Done(carried)
		}
		if why != none {
			return Verdict{}, false
		}
		if v.Status != 0 {
			if v.Effect != nil {
				s.effects = append(s.effects, pending{v.Effect, carried})
			}
			return v, true
		}
	}
	return Verdict{}, true
}

// settleEffects tells filters whose answer was written that it is over.
func (s *stream) settleEffects() {
	for i, p := range s.effects {
		s.effects[i] = pending{}
		p.effect.Done(p.carried)
	}
	s.effects = s.effects[:0]
}

// filter lets the chain judge the logical request, and reports whether the request goes on.
func (s *stream) filter(at Point) bool {
	v, ok := s.ask(at)
	s.result.flags |= s.marks
	switch {
	case !ok:
		s.interrupted()
		return false
	case v.Status == 0:
		return true
	}
	s.local(v.Status, v.Reason, 0)
	s.settleEffects()
	return false
}

// sleep waits, unless the wait is cut, the caller goes, or a limit is reached: then it says why.
func (s *stream) sleep(d time.Duration, end <-chan struct{}) (slept time.Duration, cut bool, why cause) {
	began := s.look()
	s.c.alarm.enter(waiting, s.until(began, d+time.Minute), s.watched(), nil, nil)
	if s.timer == nil {
		s.timer = time.NewTimer(d)
	} else {
		s.timer.Reset(d)
	}
	select {
	case <-s.timer.C:
	case <-end:
		cut = true
	case <-s.c.alarm.wake:
	}
	s.timer.Stop()
	why = s.c.settle()
	return min(s.look()-began, d), cut, why
}

// interrupted ends a request whose wait ended early: because the caller has gone, or the time is over, or the sidecar stops.
func (s *stream) interrupted() {
	whole, one := s.limits()
	now := s.srv.now()
	switch why := s.c.alarm.why(); {
	case why == shuttingDown: // an upload fails because of that, too
		s.lostByUs()
	case s.upload.failed.Load():
		s.malformed(s.upload.err)
	case why == callerGone:
		s.lost(reasonCallerGone, FlagDownstreamTerminated)
	case whole != 0 && now >= whole:
		s.local(504, ReasonTimeout, FlagUpstreamTimeout)
	case one != 0 && now >= one:
		s.local(504, ReasonTryTimeout, FlagUpstreamTimeout)
	default:
		s.local(504, ReasonStreamTimeout, FlagUpstreamTimeout)
	}
}
