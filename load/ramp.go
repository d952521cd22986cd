package load

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Ramp changes the rate linearly from one value to another, in hits per second, and then holds the second. When that is
// 0 the schedule ends there.
func Ramp(from, to float64, over time.Duration) (Curve, error) {
	err := errors.Join(checkRate("first rate of the ramp", from), checkRate("last rate of the ramp", to))
	switch {
	case err != nil:
		return nil, err
	case over <= 0:
		return nil, fmt.Errorf("ramp takes %v: want more than 0", over)
	case from == 0 && to == 0:
		return nil, errors.New("ramp from 0 to 0 hits/s: nothing would be sent")
	}
	return ramp{from: from, to: to, over: over}, nil
}

type ramp struct {
	from, to float64
	over     time.Duration
}

func (r ramp) Rate(t time.Duration) float64 {
	if t >= r.over {
		return r.to
	}
	return r.from + r.slope()*max(t, 0).Seconds()
}

func (r ramp) Hits(t time.Duration) float64 {
	climb := max(min(t, r.over), 0).Seconds()
	hold := max(t-r.over, 0).Seconds()
	return r.from*climb + r.slope()*climb*climb/2 + r.to*hold
}

func (r ramp) At(n uint64) (time.Duration, bool) { return r.Reach(float64(n)) }

func (r ramp) Reach(h float64) (time.Duration, bool) {
	climbed := r.Hits(r.over)
	switch {
	case h < climbed:
		return seconds(r.climb(h))
	case r.to == 0:
		return 0, false
	default:
		return seconds(r.over.Seconds() + (h-climbed)/r.to)
	}
}

// climb solves from*t + slope*t*t/2 = h for the smaller root, in the form that loses no digits when the slope is small.
func (r ramp) climb(h float64) float64 {
	if h <= 0 {
		return 0
	}
	return 2 * h / (r.from + math.Sqrt(max(r.from*r.from+2*r.slope()*h, 0)))
}

// slope is in hits per second per second.
func (r ramp) slope() float64 { return (r.to - r.from) / r.over.Seconds() }

func (r ramp) String() string {
	return fmt.Sprintf("%g/s to %g/s over %v", r.from, r.to, r.over)
}
