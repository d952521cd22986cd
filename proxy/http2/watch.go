package http2

import (
	"time"

	"golang.org/x/net/http2"
)

// times are how long things may take. 0: any time, for those that say so.
type times struct {
	header      time.Duration // a header block, or another frame but DATA
	settings    time.Duration // the acknowledgement of our settings
	stall       time.Duration // the peer, to take anything, or to give a window, while many streams wait for that
	patience    time.Duration // the same, while few do
	ping        time.Duration // silence before the peer is asked whether he is there; 0: he is not asked
	pingTimeout time.Duration // for him to say so
}

// lingerTime is how long a peer who was told that the connection ends may take to end his direction.
const lingerTime = time.Second

// watch ends what takes too long. When something begins that may, only the time is noted; one timer rings when the first of them would be due, and sees what is.
type watch struct {
	timer   *time.Timer
	rings   time.Duration // when the timer rings; 0: it does not
	stopped bool

	greeted   time.Duration // our SETTINGS were sent
	partial   time.Duration // a header block, or another frame but DATA, is not whole; 0: none
	lastFrame time.Duration
	pinged    time.Duration // our PING was sent; 0: none is on its way
	leaveBy   time.Duration // the connection is closed; 0: it does not end
}

// arm makes sure that the timer rings no later than that. The lock is held.
func (c *conn) arm(due time.Duration) {
	w := &c.watch
	if w.stopped || w.rings != 0 && w.rings <= due {
		return
	}
	w.rings = max(due, 1)
	wait := due - c.now()
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, c.ring)
		return
	}
	w.timer.Reset(wait)
}

func (w *watch) stop() {
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// ring is the timer's call.
func (c *conn) ring() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch.rings = 0
	if c.watch.stopped {
		return
	}
	now := c.now()
	if next := c.look(now); next != 0 {
		c.arm(next)
	}
}

// look does what is due, and says when to look again (0: never). The lock is held.
func (c *conn) look(now time.Duration) (next time.Duration) {
	w := &c.watch
	// passed reports whether what began at a time has lasted for too long (began 0: it has not begun).
	passed := func(began, limit time.Duration) bool {
		if began == 0 || limit == 0 {
			return false
		}
		due := began + limit
		if now < due && (next == 0 || due < next) {
			next = due
		}
		return now >= due
	}
	if c.dead != nil {
		if passed(w.leaveBy, 1) {
			c.tr.Abort()
		}
		return next
	}
	writing := c.out.began
	if !c.out.writing {
		writing = 0
	}
	greeted := w.greeted
	if c.acked {
		greeted = 0
	}
	limit := c.stallLimit()
	switch {
	case passed(writing, limit):
		c.tell(ReasonSlowRead)
		c.die(calm(ReasonSlowRead))
		c.tr.Abort()
		return 0
	case passed(greeted, c.times.settings):
		c.leave(&connectionError{http2.ErrCodeSettingsTimeout, ReasonSettingsTimeout, "no acknowledgement"})
	case passed(w.partial, c.times.header):
		c.leave(&connectionError{http2.ErrCodeEnhanceYourCalm, ReasonHeaderTimeout, "a frame or a header block takes too long"})
	case passed(w.pinged, c.times.pingTimeout):
		c.tell(ReasonPingTimeout)
		c.die(calm(ReasonPingTimeout))
		c.tr.Abort()
		return 0
	}
	if c.dead != nil {
		return w.leaveBy
	}
	if writing != 0 {
		next = min(next, now+c.times.stall) // more streams may come to wait
	}
	if w.pinged == 0 && passed(w.lastFrame, c.times.ping) {
		c.out.set(appendPing(c.out.bytes(), alivePing, 0))
		w.pinged = max(now, 1)
		c.kick()
		passed(w.pinged, c.times.pingTimeout)
	}
	for _, due := range [...]time.Duration{c.stall(now, limit), c.side.due(now)} {
		if due != 0 && (next == 0 || due < next) {
			next = due
		}
	}
	if c.dead != nil {
		return w.leaveBy
	}
	return next
}

// The PINGs that we send. drainPing is on its way between two GOAWAYs.
var (
	alivePing = [8]byte{'a', 'l', 'i', 'v', 'e'}
	drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}
)
