package metrics

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func is(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

func named(name string, more ...string) Labels {
	m := map[string]string{model.MetricNameLabel: name}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return LabelsOf(m)
}

func at(ms int64) time.Time { return time.UnixMilli(ms) }

// points is what the store has of one series.
func points(t *testing.T, s *Store, name string, more ...string) []Point {
	t.Helper()
	l := named(name, more...)
	for _, found := range s.Select(0, math.MaxInt64, is(model.MetricNameLabel, name)) {
		if labels.Equal(found.Labels, l) {
			return found.Points
		}
	}
	return nil
}

func TestAppend(t *testing.T) {
	t.Parallel()
	s := NewStore(Bounds{MaxSeries: 2})
	a := named("a", "x", "1", "gone", "")
	require.NoError(t, s.Append(a, at(1000), 1))
	require.NoError(t, s.Append(a, at(2000), 2))
	require.NoError(t, s.Append(a, at(2000), 2), "the same again")
	require.ErrorIs(t, s.Append(a, at(2000), 3), ErrConflict)
	require.ErrorIs(t, s.Append(a, at(1500), 3), ErrOutOfOrder)
	require.ErrorIs(t, s.Append(LabelsOf(map[string]string{"x": "1"}), at(1000), 1), ErrNoName)
	require.NoError(t, s.Append(named("b"), at(1000), math.NaN()))
	require.NoError(t, s.Append(named("b"), at(1000), math.NaN()), "the same again")
	require.ErrorContains(t, s.Append(named("c"), at(1000), 1), `append to {__name__="c"}: `+ErrFull.Error())
	require.Equal(t, []Point{{1000, 1}, {2000, 2}}, points(t, s, "a", "x", "1"))
	require.Equal(t, 2, s.Len())
}

func TestAppendAllTakesTheGoodOnes(t *testing.T) {
	t.Parallel()
	s := NewStore(Bounds{})
	err := s.AppendAll([]Sample{
		{named("a"), Point{1, 1}}, {named("a"), Point{1, 2}}, {Labels{}, Point{1, 1}}, {named("b"), Point{1, 3}},
	})
	require.ErrorIs(t, err, ErrConflict)
	require.ErrorIs(t, err, ErrNoName)
	require.Equal(t, []Point{{1, 1}}, points(t, s, "a"))
	require.Equal(t, []Point{{1, 3}}, points(t, s, "b"))
}

func TestSelect(t *testing.T) {
	t.Parallel()
	s := NewStore(Bounds{})
	for _, l := range []Labels{named("b", "v", "2"), named("a", "v", "1"), named("a", "v", "2"), named("a")} {
		for ms := int64(10); ms <= 50; ms += 10 {
			require.NoError(t, s.Append(l, at(ms), float64(ms)))
		}
	}
	not := labels.MustNewMatcher(labels.MatchNotEqual, "v", "2")
	for name, tc := range map[string]struct {
		from, to int64
		matchers []*labels.Matcher
		want     []string
		times    []int64
	}{
		"by name":            {0, 100, []*labels.Matcher{is(model.MetricNameLabel, "a")}, []string{`{__name__="a"}`, `{__name__="a", v="1"}`, `{__name__="a", v="2"}`}, []int64{10, 20, 30, 40, 50}},
		"by label":           {0, 100, []*labels.Matcher{is("v", "2")}, []string{`{__name__="a", v="2"}`, `{__name__="b", v="2"}`}, []int64{10, 20, 30, 40, 50}},
		"absent label":       {0, 100, []*labels.Matcher{is("v", "")}, []string{`{__name__="a"}`}, []int64{10, 20, 30, 40, 50}},
		"not":                {0, 100, []*labels.Matcher{is(model.MetricNameLabel, "a"), not}, []string{`{__name__="a"}`, `{__name__="a", v="1"}`}, []int64{10, 20, 30, 40, 50}},
		"both ends included": {20, 40, []*labels.Matcher{is(model.MetricNameLabel, "b")}, []string{`{__name__="b", v="2"}`}, []int64{20, 30, 40}},
		"between points":     {21, 29, []*labels.Matcher{is(model.MetricNameLabel, "b")}, nil, nil},
		"up to the last":     {50, math.MaxInt64, []*labels.Matcher{is(model.MetricNameLabel, "b")}, []string{`{__name__="b", v="2"}`}, []int64{50}},
		"unknown":            {0, 100, []*labels.Matcher{is(model.MetricNameLabel, "z")}, nil, nil},
	} {
		var got []string
		for _, found := range s.Select(tc.from, tc.to, tc.matchers...) {
			got = append(got, found.Labels.String())
			var times []int64
			for _, p := range found.Points {
				times = append(times, p.T)
				require.EqualValues(t, p.T, p.V)
			}
			require.Equal(t, tc.times, times, name)
		}
		require.Equal(t, tc.want, got, name)
	}
}

// Old points go, the view that a reader has of them stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	s := NewStore(Bounds{Retention: time.Second})
	for ms := int64(0); ms < 100_000; ms += 10 {
		require.NoError(t, s.Append(named("a"), at(ms), float64(ms)))
		if ms == 900 {
			early := points(t, s, "a")
			require.Len(t, early, 91)
			defer func() {
				for i, p := range early {
					require.Equal(t, Point{int64(i) * 10, float64(i) * 10}, p)
				}
			}()
		}
	}
	kept := points(t, s, "a")
	require.GreaterOrEqual(t, len(kept), 100, "the last second is there")
	require.LessOrEqual(t, len(kept), 202, "not much more is")
	require.Equal(t, Point{99_990, 99_990}, kept[len(kept)-1])
}

func TestReadersSeeAllOfAnAppendOrNothing(t *testing.T) {
	t.Parallel()
	s := NewStore(Bounds{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for ms := range int64(500) {
			var batch []Sample
			for i := range 10 {
				batch = append(batch, Sample{named("a", "i", fmt.Sprint(i)), Point{ms, float64(ms)}})
			}
			require.NoError(t, s.AppendAll(batch))
		}
	})
	for range 500 {
		lengths := map[int]bool{}
		for _, found := range s.Select(0, math.MaxInt64, is(model.MetricNameLabel, "a")) {
			lengths[len(found.Points)] = true
		}
		require.LessOrEqual(t, len(lengths), 1)
	}
	writer.Wait()
}

func TestStale(t *testing.T) {
	t.Parallel()
	require.True(t, IsStale(Stale))
	require.True(t, math.IsNaN(Stale))
	require.False(t, IsStale(math.NaN()))
}
