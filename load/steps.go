package load

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Step is one stretch of a [Steps] schedule: Rate hits per second For that long. Rate may be 0: a pause.
type Step struct {
	Rate float64       `json:"rate"`
	For  time.Duration `json:"for,omitempty"`
}

// Steps runs through steps in turn. The schedule ends with the last one, unless that has no duration: then it goes on.
func Steps(steps ...Step) (Curve, error) {
	var c stepped
	var sum float64
	for i, s := range steps {
		what := fmt.Sprintf("step %d", i+1)
		if err := checkRate("rate of "+what, s.Rate); err != nil {
			return nil, err
		}
		last := i == len(steps)-1
		if s.For < 0 || s.For == 0 && !last {
			return nil, fmt.Errorf("%s takes %v: want more than 0", what, s.For)
		}
		if s.For > Forever-c.length() {
			return nil, fmt.Errorf("%s takes %v: all together take more than %v", what, s.For, Forever)
		}
		if s.For == 0 {
			s.For = Forever - c.length()
		}
		c = append(c, segment{Step: s, start: c.length(), before: c.hits()})
		sum += s.Rate
	}
	if sum == 0 {
		return nil, errors.New("no step has a rate above 0 hits/s: nothing would be sent")
	}
	return c, nil
}

// stepped holds its segments in order, without a gap.
type stepped []segment

type segment struct {
	Step
	start  time.Duration
	before float64 // hits planned before start
}

func (s segment) end() time.Duration { return s.start + s.For }
func (s segment) hits(t time.Duration) float64 {
	return s.Rate * min(max(t-s.start, 0), s.For).Seconds()
}

func (c stepped) length() time.Duration {
	if len(c) == 0 {
		return 0
	}
	return c[len(c)-1].end()
}

func (c stepped) hits() float64 { return c.Hits(c.length()) }

func (c stepped) Rate(t time.Duration) float64 {
	i := slices.IndexFunc(c, func(s segment) bool { return t < s.end() })
	if i < 0 {
		return 0
	}
	return c[i].Rate
}

func (c stepped) Hits(t time.Duration) float64 {
	var hits float64
	for _, s := range c {
		hits += s.hits(t)
	}
	return hits
}

func (c stepped) At(n uint64) (time.Duration, bool) { return c.Reach(float64(n)) }

func (c stepped) Reach(h float64) (time.Duration, bool) {
	i := slices.IndexFunc(c, func(s segment) bool { return h < s.before+s.hits(s.end()) })
	if i < 0 {
		return 0, false
	}
	return seconds(c[i].start.Seconds() + (h-c[i].before)/c[i].Rate)
}

func (c stepped) String() string {
	phrases := make([]string, len(c))
	for i, s := range c {
		phrases[i] = fmt.Sprintf("%g/s for %v", s.Rate, s.For)
		if s.end() == Forever {
			phrases[i] = fmt.Sprintf("%g/s", s.Rate)
		}
	}
	return strings.Join(phrases, ", then ")
}
