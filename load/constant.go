package load

import (
	"errors"
	"fmt"
	"time"
)

// Constant is a steady rate in hits per second: hit n is due at n/rate seconds, the first one at 0.
func Constant(rate float64) (Curve, error) {
	if err := checkRate("rate", rate); err != nil {
		return nil, err
	}
	if rate == 0 {
		return nil, errors.New("rate is 0 hits/s: nothing would be sent")
	}
	return constant(rate), nil
}

type constant float64

func (c constant) Rate(time.Duration) float64            { return float64(c) }
func (c constant) Hits(t time.Duration) float64          { return float64(c) * max(t, 0).Seconds() }
func (c constant) At(n uint64) (time.Duration, bool)     { return c.Reach(float64(n)) }
func (c constant) Reach(h float64) (time.Duration, bool) { return seconds(h / float64(c)) }
func (c constant) String() string                        { return fmt.Sprintf("%g/s", float64(c)) }
