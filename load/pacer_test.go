package load_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/loadtest"
)

func curves() map[string]func(t *testing.T) load.Curve {
	made := func(c load.Curve, err error) func(t *testing.T) load.Curve {
		return func(t *testing.T) load.Curve {
			t.Helper()
			require.NoError(t, err)
			return c
		}
	}
	return map[string]func(t *testing.T) load.Curve{
		"constant":               made(load.Constant(500)),
		"constant, odd":          made(load.Constant(333.3)),
		"constant, slow":         made(load.Constant(0.7)),
		"ramp up":                made(load.Ramp(10, 900, 7*time.Second)),
		"ramp up from nothing":   made(load.Ramp(0, 300, 7*time.Second)),
		"ramp down":              made(load.Ramp(700, 20, 7*time.Second)),
		"ramp down to nothing":   made(load.Ramp(700, 0, 7*time.Second)),
		"ramp, nearly flat":      made(load.Ramp(200, 200.000001, 7*time.Second)),
		"steps":                  made(load.Steps(load.Step{Rate: 50, For: 3 * time.Second}, load.Step{Rate: 700, For: time.Second}, load.Step{Rate: 20})),
		"steps with pauses":      made(load.Steps(load.Step{For: time.Second}, load.Step{Rate: 100, For: 2 * time.Second}, load.Step{For: time.Second}, load.Step{Rate: 30, For: time.Second})),
		"sine":                   made(load.Sine(load.Wave{Mean: 300, Amplitude: 200, Period: 3 * time.Second})),
		"sine to the ground":     made(load.Sine(load.Wave{Mean: 300, Amplitude: 300, Period: 3 * time.Second, Phase: 3 * math.Pi / 2})),
		"sine of a short period": made(load.Sine(load.Wave{Mean: 20, Amplitude: 20, Period: 50 * time.Millisecond, Phase: 1})),
	}
}

func TestCurves(t *testing.T) {
	t.Parallel()
	for name, curve := range curves() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loadtest.Curve(t, 10*time.Second, curve)
		})
	}
}

func TestPoisson(t *testing.T) {
	t.Parallel()
	for name, curve := range curves() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loadtest.Pacer(t, 10*time.Second, func(t *testing.T) load.Pacer { return load.Poisson(curve(t), 7) })
		})
	}
}

// Counts of a Poisson process over windows with mean m have mean m and variance m.
func TestPoissonCountsHaveTheirVariance(t *testing.T) {
	t.Parallel()
	c, err := load.Constant(1000)
	require.NoError(t, err)
	p := load.Poisson(c, 42)
	const windows, mean = 5000, 20.0
	sum, squares, before := 0.0, 0.0, uint64(0)
	for i := range windows {
		n := load.Count(p, time.Duration(i+1)*20*time.Millisecond)
		x := float64(n - before)
		sum, squares, before = sum+x, squares+(x-mean)*(x-mean), n
	}
	require.InDelta(t, mean, sum/windows, 0.3)     // five standard errors
	require.InDelta(t, mean, squares/windows, 2.1) // five standard errors: sqrt((m+2m*m)/windows) = 0.41
	require.NotEqual(t, load.Count(load.Poisson(c, 43), time.Second), load.Count(p, time.Second), "another seed")
}

func TestPacerTimes(t *testing.T) {
	t.Parallel()
	at := func(c load.Curve, err error) func(n uint64) string {
		require.NoError(t, err)
		return func(n uint64) string {
			d, ok := c.At(n)
			if !ok {
				return "never"
			}
			return d.String()
		}
	}
	constant := at(load.Constant(500))
	require.Equal(t, "0s", constant(0), "the first hit is at the start, not one interval late")
	require.Equal(t, "2ms", constant(1))
	require.Equal(t, "1h0m0s", constant(1_800_000))
	require.Equal(t, "never", constant(math.MaxUint64))

	pause := at(load.Steps(load.Step{Rate: 10, For: time.Second}, load.Step{For: 5 * time.Second}, load.Step{Rate: 10, For: time.Second}))
	require.Equal(t, "900ms", pause(9))
	require.Equal(t, "6s", pause(10), "a hit on the edge of a pause waits for its end")
	require.Equal(t, "6.9s", pause(19))
	require.Equal(t, "never", pause(20))

	down := at(load.Ramp(100, 0, 2*time.Second))
	require.Equal(t, "1.8s", down(99))
	require.Equal(t, "never", down(100))
}

func TestCount(t *testing.T) {
	t.Parallel()
	c, err := load.Constant(500)
	require.NoError(t, err)
	require.EqualValues(t, 1000, load.Count(c, 2*time.Second))
	require.EqualValues(t, 1, load.Count(c, time.Nanosecond))
	require.EqualValues(t, 0, load.Count(c, 0))
	require.EqualValues(t, 0, load.Count(c, -time.Second))

	ends, err := load.Ramp(100, 0, 2*time.Second)
	require.NoError(t, err)
	require.EqualValues(t, 100, load.Count(ends, load.Forever))
}

func TestImpossibleSchedules(t *testing.T) {
	t.Parallel()
	made := func(c load.Curve, err error) error { return err }
	for want, err := range map[string]error{
		"rate is 0 hits/s":                    made(load.Constant(0)),
		"rate is -1 hits/s":                   made(load.Constant(-1)),
		"rate is NaN hits/s":                  made(load.Constant(math.NaN())),
		"rate is +Inf hits/s":                 made(load.Constant(math.Inf(1))),
		"first rate of the ramp is -1":        made(load.Ramp(-1, 2, time.Second)),
		"ramp takes 0s":                       made(load.Ramp(1, 2, 0)),
		"ramp from 0 to 0":                    made(load.Ramp(0, 0, time.Second)),
		"no step has a rate above 0":          made(load.Steps()),
		"step 1 takes 0s":                     made(load.Steps(load.Step{Rate: 1}, load.Step{Rate: 1})),
		"step 2 takes -1s":                    made(load.Steps(load.Step{Rate: 1, For: 1}, load.Step{Rate: 1, For: -time.Second})),
		"rate of step 1 is -1":                made(load.Steps(load.Step{Rate: -1, For: 1})),
		"amplitude is 2 hits/s: want at most": made(load.Sine(load.Wave{Mean: 1, Amplitude: 2, Period: 1})),
		"mean is 0":                           made(load.Sine(load.Wave{Period: 1})),
		"period is 0s":                        made(load.Sine(load.Wave{Mean: 1})),
		"phase is NaN":                        made(load.Sine(load.Wave{Mean: 1, Period: 1, Phase: math.NaN()})),
	} {
		require.ErrorContains(t, err, want)
	}
}
