package proxy

import (
	"sync"
	"time"

	"meshtest.dev/meshtest/proxy/socket"
)

// alarm watches over one downstream connection while its goroutine is blocked: it ends a wait that takes too long, or that nobody waits for any more because the caller has gone.
//
// Deadlines change several times a request, but almost none is ever reached. So a deadline is only noted; the timer behind it is moved only when it would ring too late, and one
// that rings too early goes back to sleep. That costs a connection a timer call per timeout, not per request, where a SetDeadline per request costs a tenth of all.
type alarm struct {
	clock func() time.Duration

	mu       sync.Mutex
	timer    *time.Timer
	rings    time.Duration // when the timer rings; 0: it does not
	deadline time.Duration // 0: none
	phase    cause         // what the connection does, and so what passing the deadline means
	fired    cause         // why the wait was ended; none: it was not
	targets  [2]target     // what is blocked
	caller   *socket.Conn  // to look after; nil: nobody reads when it goes
	nextLook time.Duration
	wake     chan struct{} // for waits that are not on a connection
	rung     bool          // something was put into wake, and perhaps taken out
	stopped  bool
}

// target is what a goroutine may be blocked on.
type target interface {
	Interrupt()
}

// cause is what a connection does at the moment, and why a wait was ended.
type cause uint8

const (
	none          cause = iota
	idling              // between requests
	readingHead         // a part of a request head is there
	gathering           // waiting for a body that may be short
	streaming           // bytes move, or should
	waiting             // for the whole answer, within the route's timeout
	trying              // for one attempt, within its timeout
	callerGone          // the caller closed the connection
	shuttingDown        // the server closes all
	linkedFailure       // the other direction of the same stream failed
	overlooked          // something lies there of which nobody told: the wait has to begin anew, with a read
)

// lookInterval is how often a connection whose goroutine waits for something else is looked at.
const lookInterval = 250 * time.Millisecond

func (a *alarm) init(clock func() time.Duration) {
	a.clock = clock
	a.wake = make(chan struct{}, 1)
}

// enter begins a phase that must be over at the deadline (0: whenever), and waits on the targets. While it lasts the caller is looked after, unless it is nil because somebody reads
// from it. What ended an earlier phase is forgotten, except shutdown.
func (a *alarm) enter(phase cause, deadline time.Duration, caller *socket.Conn, on, also target) {
	a.mu.Lock()
	a.reset()
	a.phase, a.deadline, a.targets = phase, deadline, [2]target{on, also}
	if a.caller = caller; caller != nil {
		a.nextLook = a.clock() + lookInterval
	}
	if a.fired != none {
		a.interrupt()
	}
	a.schedule()
	a.mu.Unlock()
}

// extend moves the deadline of the phase, because there was progress. It does not undo an end.
func (a *alarm) extend(deadline time.Duration) {
	a.mu.Lock()
	a.deadline = deadline
	a.schedule()
	a.mu.Unlock()
}

// watch looks after the caller from now on, because nobody reads from him any more.
func (a *alarm) watch(caller *socket.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == none || a.caller != nil {
		return
	}
	a.caller, a.nextLook = caller, a.clock()+lookInterval
	a.schedule()
}

// leave ends the phase, and reports why its wait was ended, if it was. The targets are forgotten; one that was interrupted must be resumed or closed.
func (a *alarm) leave() cause {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.targets = [2]target{}
	a.phase, a.deadline, a.caller = none, 0, nil
	return a.fired
}

// why reports why the wait was ended.
func (a *alarm) why() cause {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fired
}

// end ends the wait of the present phase.
func (a *alarm) end(why cause) {
	a.mu.Lock()
	a.fire(why)
	a.mu.Unlock()
}

// endIf ends the wait if the connection is in the phase, and reports whether it was.
func (a *alarm) endIf(phase, why cause) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != phase || a.fired != none {
		return false
	}
	a.fire(why)
	return true
}

// stop ends the alarm itself.
func (a *alarm) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.targets = [2]target{}
	a.caller = nil
	if a.timer != nil {
		a.timer.Stop()
	}
}

func (a *alarm) reset() {
	if a.fired != shuttingDown {
		a.fired = none
	}
	if !a.rung {
		return // without a look at the channel, which is elsewhere in memory
	}
	a.rung = false
	select {
	case <-a.wake:
	default:
	}
}

func (a *alarm) fire(why cause) {
	if a.fired == none || why == shuttingDown {
		a.fired = why
	}
	a.interrupt()
}

func (a *alarm) interrupt() {
	for _, t := range a.targets {
		if t != nil {
			t.Interrupt()
		}
	}
	a.rung = true
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// schedule makes sure that the timer rings no later than something is due.
func (a *alarm) schedule() {
	due := a.deadline
	if a.caller != nil && (due == 0 || a.nextLook < due) {
		due = a.nextLook
	}
	if due == 0 || a.rings != 0 && a.rings <= due || a.stopped {
		return
	}
	a.rings = due
	wait := due - a.clock()
	if a.timer == nil {
		a.timer = time.AfterFunc(wait, a.ring)
		return
	}
	a.timer.Reset(wait)
}

// ring is the timer's call.
func (a *alarm) ring() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rings = 0
	if a.stopped || a.fired != none {
		return
	}
	now := a.clock()
	if a.deadline != 0 && now >= a.deadline {
		a.deadline = 0
		a.fire(a.phase)
		return
	}
	if a.caller != nil && now >= a.nextLook {
		switch presence := a.caller.Look(); {
		case presence == socket.Gone:
			a.fire(callerGone)
			return
		case presence == socket.Ready && a.phase == idling:
			a.fire(overlooked)
			return
		}
		if a.nextLook = now + lookInterval; a.phase == idling {
			a.caller = nil // whatever he does from now on shows itself
		}
	}
	a.schedule()
}
