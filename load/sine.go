package load

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Wave is the shape of a [Sine] schedule: Mean + Amplitude * sin(2*pi*t/Period + Phase), in hits per second. Phase is in
// radians: 0 starts at the mean going up, pi/2 at the peak.
type Wave struct {
	Mean      float64       `json:"mean"`
	Amplitude float64       `json:"amplitude"`
	Period    time.Duration `json:"period"`
	Phase     float64       `json:"phase,omitempty"`
}

// Sine is a rate that swings around its mean. The amplitude is at most the mean, so that the rate is never negative.
func Sine(w Wave) (Curve, error) {
	err := errors.Join(checkRate("mean", w.Mean), checkRate("amplitude", w.Amplitude))
	switch {
	case err != nil:
		return nil, err
	case w.Mean == 0:
		return nil, errors.New("mean is 0 hits/s: nothing would be sent")
	case w.Amplitude > w.Mean:
		return nil, fmt.Errorf("amplitude is %g hits/s: want at most the mean, %g", w.Amplitude, w.Mean)
	case w.Period <= 0:
		return nil, fmt.Errorf("period is %v: want more than 0", w.Period)
	case math.IsNaN(w.Phase) || math.IsInf(w.Phase, 0):
		return nil, fmt.Errorf("phase is %v: want a finite number of radians", w.Phase)
	}
	return sine(w), nil
}

type sine Wave

func (w sine) Rate(t time.Duration) float64 { return w.rate(max(t, 0).Seconds()) }
func (w sine) Hits(t time.Duration) float64 { return w.hits(max(t, 0).Seconds()) }

func (w sine) At(n uint64) (time.Duration, bool) { return w.Reach(float64(n)) }

// Reach solves hits(t) = h by Newton's method, kept inside a bracket: the swing adds at most its quarter waves.
func (w sine) Reach(h float64) (time.Duration, bool) {
	swing := 2 * w.Amplitude / w.omega()
	low, high := max((h-swing)/w.Mean, 0), max((h+swing)/w.Mean, 0)
	t := h / w.Mean
	for range 100 {
		off := w.hits(t) - h
		if off > 0 {
			high = t
		} else {
			low = t
		}
		next := t - off/w.rate(t)
		if !(next >= low && next <= high) {
			next = (low + high) / 2
		}
		if math.Abs(next-t) < 1e-10 {
			break
		}
		t = next
	}
	return seconds(t)
}

func (w sine) omega() float64 { return 2 * math.Pi / w.Period.Seconds() }

func (w sine) rate(t float64) float64 { return w.Mean + w.Amplitude*math.Sin(w.omega()*t+w.Phase) }

func (w sine) hits(t float64) float64 {
	return w.Mean*t + w.Amplitude/w.omega()*(math.Cos(w.Phase)-math.Cos(w.omega()*t+w.Phase))
}

func (w sine) String() string {
	return fmt.Sprintf("%g/s plus and minus %g/s every %v", w.Mean, w.Amplitude, w.Period)
}
