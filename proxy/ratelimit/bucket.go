package ratelimit

import (
	"errors"
	"fmt"
	"time"
)

// rate is the arithmetic of a bucket. Its unit is chosen so that a token and what comes back in a nanosecond are both whole numbers of it.
type rate struct {
	token  int64         // units in a token
	nano   int64         // units that come back in a nanosecond
	full   int64         // units in a full bucket
	filled time.Duration // until an empty bucket is full, rounded up
}

// bounds keep every sum below 2^63.
const (
	maxRequests = 1 << 32
	maxLevel    = 1 << 61
)

// newRate is that of a bucket of so many tokens, of which so many come back within a time.
func newRate(requests int, per time.Duration, burst int) (rate, error) {
	switch {
	case requests < 1:
		return rate{}, fmt.Errorf("%d requests: at least 1 is needed", requests)
	case requests > maxRequests:
		return rate{}, fmt.Errorf("%d requests: at most %d are possible", requests, int64(maxRequests))
	case per < 1:
		return rate{}, fmt.Errorf("per %v: a time above 0 is needed", per)
	case burst < 0:
		return rate{}, fmt.Errorf("burst %d: it is not negative", burst)
	case burst == 0:
		burst = requests
	}
	g := gcd(int64(requests), int64(per))
	r := rate{token: int64(per) / g, nano: int64(requests) / g}
	if int64(burst) > maxLevel/r.token {
		return rate{}, errors.New("burst and per are too large to be counted exactly")
	}
	r.full = int64(burst) * r.token
	r.filled = time.Duration((r.full + r.nano - 1) / r.nano)
	return r, nil
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// bucket is one bucket: what it held at a time.
type bucket struct {
	level int64 // in the rate's units
	at    time.Duration
}

// refill brings a bucket to now. A time before the last one adds nothing.
func (b *bucket) refill(r *rate, now time.Duration) {
	passed := now - b.at
	if passed <= 0 {
		return
	}
	b.at = now
	if passed >= r.filled {
		b.level = r.full
		return
	}
	b.level = min(b.level+int64(passed)*r.nano, r.full)
}

// take takes a token if there is one.
func (b *bucket) take(r *rate) bool {
	if b.level < r.token {
		return false
	}
	b.level -= r.token
	return true
}

// giveBack undoes a take.
func (b *bucket) giveBack(r *rate) { b.level = min(b.level+r.token, r.full) }

// remaining is the number of whole tokens.
func (b *bucket) remaining(r *rate) int { return int(b.level / r.token) }

// next is the time until there is a token; 0 when there is one.
func (b *bucket) next(r *rate) time.Duration {
	missing := r.token - b.level
	if missing <= 0 {
		return 0
	}
	return time.Duration((missing + r.nano - 1) / r.nano)
}
