package sequential_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer/sequential"
)

func splitAfter(t *testing.T, want []float64, got ...uint64) *sequential.Split {
	t.Helper()
	s := sequential.NewSplit()
	require.NoError(t, s.Add(want, got))
	return s
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		want  []float64
		got   []uint64
		alarm bool
	}{
		{"nothing", []float64{0.95, 0.05}, []uint64{0, 0}, false},
		{"three to the rare one", []float64{0.95, 0.05}, []uint64{0, 3}, false},
		{"five to the rare one", []float64{0.95, 0.05}, []uint64{0, 5}, true},
		{"right", []float64{0.95, 0.05}, []uint64{95_100, 4_900}, false},
		{"6 for 5 %", []float64{0.95, 0.05}, []uint64{18_800, 1_200}, true},
		{"6 for 5 %, too few to say", []float64{0.95, 0.05}, []uint64{940, 60}, false},
		{"never sent", []float64{0.75, 0.25}, []uint64{60, 0}, true},
		{"swapped labels", []float64{0.95, 0.05}, []uint64{1, 19}, true},
		{"three versions, right", []float64{0.5, 0.3, 0.2}, []uint64{5050, 2960, 1990}, false},
		{"three versions, two swapped", []float64{0.5, 0.3, 0.2}, []uint64{500, 200, 300}, true},
		{"impossible", []float64{1, 0}, []uint64{1000, 1}, true},
		{"one version", []float64{1}, []uint64{1000}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := splitAfter(t, c.want, c.got...)
			require.Equal(t, c.alarm, s.Rejects(sequential.SplitAlpha), "log e %v", s.LogE())
			finite(t, s.LogE(), s.PValue())
		})
	}
}

func TestSplitLabelsMayBeSwapped(t *testing.T) {
	t.Parallel()
	require.InDelta(t, splitAfter(t, []float64{0.7, 0.2, 0.1}, 70, 30, 5).LogE(), splitAfter(t, []float64{0.1, 0.7, 0.2}, 5, 70, 30).LogE(), 1e-12)
}

func TestOneWrongStepIsFoundAmongRightOnes(t *testing.T) {
	t.Parallel()
	s := sequential.NewSplit()
	require.NoError(t, s.Add([]float64{0.95, 0.05}, []uint64{9500, 500}))
	require.NoError(t, s.Add([]float64{0.75, 0.25}, []uint64{7500, 2500}))
	require.False(t, s.Rejects(0.05))
	require.NoError(t, s.Add([]float64{0.5, 0.5}, []uint64{75, 25}))
	require.True(t, s.Rejects(sequential.SplitAlpha), "the last push never arrived")
}

func TestSplitDoesNotDependOnBlocks(t *testing.T) {
	t.Parallel()
	s := sequential.NewSplit()
	r := chance(30)
	var sum [2]uint64
	for range 50 {
		got := []uint64{uint64(r.IntN(20)), uint64(r.IntN(5))}
		sum[0], sum[1] = sum[0]+got[0], sum[1]+got[1]
		require.NoError(t, s.Add([]float64{0.8, 0.2}, got))
	}
	require.Equal(t, splitAfter(t, []float64{0.8, 0.2}, sum[:]...).LogE(), s.LogE())
}

// TestSplitIsAnEValue sums over all outcomes of a few requests in two strata.
func TestSplitIsAnEValue(t *testing.T) {
	t.Parallel()
	choose := [][]float64{0: {1}, 4: {1, 4, 6, 4, 1}}
	var mean float64
	for a := range 5 {
		for b := range 5 {
			s := sequential.NewSplit()
			require.NoError(t, s.Add([]float64{0.9, 0.1}, []uint64{uint64(4 - a), uint64(a)}))
			require.NoError(t, s.Add([]float64{0.5, 0.5}, []uint64{uint64(4 - b), uint64(b)}))
			mean += choose[4][a] * math.Pow(0.1, float64(a)) * math.Pow(0.9, float64(4-a)) * choose[4][b] / 16 * math.Exp(s.LogE())
		}
	}
	require.InDelta(t, 1, mean, 1e-9)
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	s := sequential.NewSplit()
	for name, c := range map[string]struct {
		want []float64
		got  []uint64
	}{
		"nothing":       {nil, nil},
		"lengths":       {[]float64{1}, []uint64{1, 2}},
		"sum":           {[]float64{0.5, 0.4}, []uint64{1, 2}},
		"negative":      {[]float64{1.5, -0.5}, []uint64{1, 2}},
		"not a number":  {[]float64{math.NaN(), 1}, []uint64{1, 2}},
		"absurd counts": {[]float64{0.5, 0.5}, []uint64{math.MaxUint64, 2}},
	} {
		require.ErrorIs(t, s.Add(c.want, c.got), sequential.ErrBlock, name)
	}
	require.Zero(t, s.LogE())
}
