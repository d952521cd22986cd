package proxy

import (
	"sync/atomic"
	"time"
)

// dateFormat is how HTTP writes a date (RFC 9110, 5.6.7, IMF-fixdate), of UTC.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// dates write the time of day as HTTP does, once a second.
type dates struct{ last atomic.Pointer[date] }

// date is a second and how it is written.
type date struct {
	second int64
	text   string
}

// ownDates are the dates of our own answers: an origin server with a clock says when it answered (RFC 9110, 6.6.1), and for those answers we are the origin.
var ownDates dates

func (d *dates) at(now time.Time) string {
	second := now.Unix()
	if had := d.last.Load(); had != nil && had.second == second {
		return had.text
	}
	made := &date{second, now.UTC().Format(dateFormat)}
	d.last.Store(made)
	return made.text
}
