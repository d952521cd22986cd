package ratelimit

import (
	"time"

	"meshtest.dev/meshtest/mesh"
)

// rate is the arithmetic of a bucket.
type rate struct {
	mesh.RateUnits
	filled time.Duration // until an empty bucket is full
}

func newRate(m mesh.RateLimit) (rate, error) {
	units, err := m.Units()
	if err != nil {
		return rate{}, err
	}
	return rate{units, units.Fill()}, nil
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
		b.level = r.Full
		return
	}
	b.level = min(b.level+int64(passed)*r.Nano, r.Full)
}

// take takes a token if there is one.
func (b *bucket) take(r *rate) bool {
	if b.level < r.Token {
		return false
	}
	b.level -= r.Token
	return true
}

// giveBack undoes a take.
func (b *bucket) giveBack(r *rate) { b.level = min(b.level+r.Token, r.Full) }

// remaining is the number of whole tokens.
func (b *bucket) remaining(r *rate) int { return int(b.level / r.Token) }

// next is the time until there is a token; 0 when there is one.
func (b *bucket) next(r *rate) time.Duration {
	missing := r.Token - b.level
	if missing <= 0 {
		return 0
	}
	return time.Duration((missing + r.Nano - 1) / r.Nano)
}
