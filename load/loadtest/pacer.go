// Package loadtest holds the contract that every schedule of package load passes.
package loadtest

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/load"
)

// Pacer checks the contract of load.Pacer over [0, d]. Make is called afresh for every part, so state that leaks from
// one call into the next is found.
func Pacer(t *testing.T, d time.Duration, make func(t *testing.T) load.Pacer) {
	t.Helper()
	t.Run("time never goes back", func(t *testing.T) { monotone(t, make(t), d) })
	t.Run("hits are the integral of the rate", func(t *testing.T) { integral(t, make(t), d) })
	t.Run("it stops for good", func(t *testing.T) { stops(t, make(t), d) })
	t.Run("it is a function of its arguments", func(t *testing.T) { pure(t, make(t), make(t), d) })
	t.Run("concurrent use", func(t *testing.T) { concurrent(t, make(t), d) })
}

// Curve checks the contract of load.Pacer, and that the hits lie exactly on the integral.
func Curve(t *testing.T, d time.Duration, make func(t *testing.T) load.Curve) {
	t.Helper()
	Pacer(t, d, func(t *testing.T) load.Pacer { return make(t) })
	t.Run("the count is the integral within one", func(t *testing.T) { count(t, make(t), d) })
	t.Run("at is the inverse of hits", func(t *testing.T) { inverse(t, make(t), d) })
}

func monotone(t *testing.T, p load.Pacer, d time.Duration) {
	last := time.Duration(0)
	n := load.Count(p, d)
	require.NotZero(t, n, "nothing is due before %v", d)
	for i := range n {
		at, ok := p.At(i)
		require.True(t, ok, "hit %d of %d", i, n)
		require.GreaterOrEqual(t, at, last, "hit %d", i)
		last = at
	}
	require.Less(t, last, d)
	if at, ok := p.At(n); ok {
		require.GreaterOrEqual(t, at, d, "the first hit that Count leaves out")
	}
}

// integral compares Hits with a midpoint sum over Rate.
func integral(t *testing.T, p load.Pacer, d time.Duration) {
	const slices = 20_000
	width := d / slices
	sum, peak := 0.0, 0.0
	require.Zero(t, p.Hits(0))
	for i := range time.Duration(slices) {
		rate := p.Rate(i*width + width/2)
		require.False(t, rate < 0 || math.IsNaN(rate) || math.IsInf(rate, 0), "rate %v at %v", rate, i*width)
		peak = max(peak, rate)
		sum += rate * width.Seconds()
		require.InDelta(t, sum, p.Hits((i+1)*width), 1e-6*sum+2*peak*width.Seconds(), "at %v", (i+1)*width)
	}
}

func stops(t *testing.T, p load.Pacer, d time.Duration) {
	ended := false
	for i := range load.Count(p, 2*d) + 100 {
		_, ok := p.At(i)
		require.False(t, ended && ok, "hit %d comes after the end", i)
		ended = !ok
	}
}

func pure(t *testing.T, p, other load.Pacer, d time.Duration) {
	n := load.Count(p, d)
	for i := range n {
		backwards := n - 1 - i
		a, _ := p.At(backwards)
		again, _ := p.At(backwards)
		b, _ := other.At(backwards)
		require.Equal(t, a, again, "hit %d asked twice", backwards)
		require.Equal(t, a, b, "hit %d of a twin", backwards)
	}
	require.NotEmpty(t, p.String())
}

func concurrent(t *testing.T, p load.Pacer, d time.Duration) {
	n := load.Count(p, d)
	times := make([][]time.Duration, 4)
	var all sync.WaitGroup
	for w := range times {
		all.Go(func() {
			for i := range n {
				at, _ := p.At(i)
				times[w] = append(times[w], at)
			}
		})
	}
	all.Wait()
	for w := range times {
		require.Equal(t, times[0], times[w])
	}
}

func count(t *testing.T, c load.Curve, d time.Duration) {
	const steps = 50
	for i := range time.Duration(steps) {
		at := (i + 1) * d / steps
		require.InDelta(t, c.Hits(at), float64(load.Count(c, at)), 1, "before %v", at)
	}
}

// inverse allows for the rounding of At to a nanosecond.
func inverse(t *testing.T, c load.Curve, d time.Duration) {
	for i := range load.Count(c, d) {
		at, ok := c.At(i)
		require.True(t, ok)
		slack := 1e-9 * float64(i+1)
		require.LessOrEqual(t, c.Hits(at-1), float64(i)+slack, "hit %d at %v is late", i, at)
		require.GreaterOrEqual(t, c.Hits(at+1), float64(i)-slack, "hit %d at %v is early", i, at)
	}
}
