package promql_test

import (
	"context"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/metrics"
	"meshtest.dev/meshtest/metrics/promql"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.UnixMilli(1_700_000_000_000).UTC()

// shop is a service with two versions, scraped every second for a minute: v1 gets 90 requests/s and v2 10, of which a
// tenth fails; v2 ended after 40 s.
func shop(t *testing.T) *metrics.Store {
	t.Helper()
	store := metrics.NewStore(metrics.Bounds{})
	put := func(second int, v float64, pairs ...string) {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		require.NoError(t, store.Append(metrics.LabelsOf(m), start.Add(time.Duration(second)*time.Second), v))
	}
	for s := range 61 {
		n := float64(s)
		put(s, 90*n, "__name__", "requests_total", "version", "v1", "code", "200")
		put(s, 30*n, "__name__", "latency_bucket", "version", "v1", "le", "0.1")
		put(s, 90*n, "__name__", "latency_bucket", "version", "v1", "le", "0.2")
		put(s, 90*n, "__name__", "latency_bucket", "version", "v1", "le", "+Inf")
		put(s, 0, "__name__", "idle_total", "version", "v1")
		switch {
		case s < 40:
			put(s, 9*n, "__name__", "requests_total", "version", "v2", "code", "200")
			put(s, n, "__name__", "requests_total", "version", "v2", "code", "500")
		case s == 40:
			put(s, metrics.Stale, "__name__", "requests_total", "version", "v2", "code", "200")
			put(s, metrics.Stale, "__name__", "requests_total", "version", "v2", "code", "500")
		}
	}
	return store
}

func TestInstant(t *testing.T) {
	t.Parallel()
	e := promql.NewEngine(shop(t), promql.Options{})
	for query, tc := range map[string]struct {
		at    int
		want  float64
		found promql.Found
	}{
		`sum(rate(requests_total{version="v1"}[10s]))`:                                                           {30, 90, promql.Number},
		`sum(increase(requests_total{version="v2"}[20s]))`:                                                       {30, 200, promql.Number},
		`sum(rate(requests_total{version="v2",code="500"}[20s])) / sum(rate(requests_total{version="v2"}[20s]))`: {30, 0.1, promql.Number},
		`histogram_quantile(0.5, sum by (le) (rate(latency_bucket[20s])))`:                                       {30, 0.125, promql.Number},
		`sum(requests_total offset 20s)`:                                                                         {30, 1000, promql.Number},
		`sum(requests_total @ 1700000010)`:                                                                       {30, 1000, promql.Number},
		`max_over_time(sum(rate(requests_total{version="v1"}[5s]))[10s:1s])`:                                     {30, 90, promql.Number},
		`requests_total{version="v2",code="500"}`:                                                                {39, 39, promql.Number},
		`requests_total{version="v2",code="200"}`:                                                                {40, 0, promql.NoData}, // it ended
		`requests_total{version="v3"}`:                                                                           {30, 0, promql.NoData},
		`sum(requests_total{version="v3"})`:                                                                      {30, 0, promql.NoData},
		`requests_total{version="v1"}`:                                                                           {60 + 299, 5400, promql.Number}, // the lookback
		`requests_total{version="v1",code="200"}`:                                                                {60 + 301, 0, promql.NoData},
		`rate(idle_total[10s]) / rate(idle_total[10s])`:                                                          {30, 0, promql.NaN},
		`1 / 0`:                    {30, math.Inf(1), promql.Number},
		`42`:                       {30, 42, promql.Number},
		`requests_total`:           {30, 0, promql.Many},
		`rate(requests_total[1s])`: {30, 0, promql.NoData}, // one point is no rate
	} {
		got, err := e.Instant(t.Context(), query, start.Add(time.Duration(tc.at)*time.Second))
		require.NoError(t, err, query)
		n, found := got.One()
		require.Equal(t, tc.found, found, query)
		if found == promql.Number {
			require.InDelta(t, tc.want, n, 1e-9, query)
			require.Equal(t, start.Add(time.Duration(tc.at)*time.Second), got.Series[0].Points[0].T)
		} else {
			require.True(t, math.IsNaN(n), query)
		}
	}
}

func TestInstantVector(t *testing.T) {
	t.Parallel()
	e := promql.NewEngine(shop(t), promql.Options{})
	got, err := e.Instant(t.Context(), `sort_desc(sum by (version) (rate(requests_total[10s])))`, start.Add(30*time.Second))
	require.NoError(t, err)
	at := start.Add(30 * time.Second)
	require.Equal(t, promql.Value{Kind: promql.Vector, Series: []promql.Series{
		{Labels: map[string]string{"version": "v1"}, Points: []promql.Point{{T: at, V: 90}}},
		{Labels: map[string]string{"version": "v2"}, Points: []promql.Point{{T: at, V: 10}}},
	}}, got)

	got, err = e.Instant(t.Context(), `"text"`, at)
	require.NoError(t, err)
	require.Equal(t, promql.Value{Kind: promql.Text, Text: "text"}, got)

	got, err = e.Instant(t.Context(), `histogram_quantile(0.5, rate(requests_total[10s]))`, at)
	require.NoError(t, err)
	require.Len(t, got.Warnings, 1)
	require.Contains(t, got.Warnings[0], "le", "there are no buckets")
}

func TestRange(t *testing.T) {
	t.Parallel()
	e := promql.NewEngine(shop(t), promql.Options{})
	got, err := e.Range(t.Context(), `sum by (code) (rate(requests_total{version="v2"}[10s]))`, start.Add(20*time.Second), start.Add(60*time.Second), 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, promql.Matrix, got.Kind)
	require.Len(t, got.Series, 2)
	for _, s := range got.Series {
		want := map[string]float64{"200": 9, "500": 1}[s.Labels["code"]]
		require.Len(t, s.Points, 3, "at 20, 30 and 40 s; at 50 there is nothing within 10 s")
		for i, p := range s.Points {
			require.Equal(t, start.Add(time.Duration(20+10*i)*time.Second), p.T)
			require.InDelta(t, want, p.V, 1e-6)
		}
	}

	got, err = e.Range(t.Context(), `42`, start, start.Add(time.Second), time.Second)
	require.NoError(t, err)
	require.Equal(t, promql.Matrix, got.Kind)
	require.Len(t, got.Series[0].Points, 2)

	got, err = e.Range(t.Context(), `nobody`, start, start.Add(time.Second), time.Second)
	require.NoError(t, err)
	_, found := got.One()
	require.Equal(t, promql.NoData, found)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	store := shop(t)
	e := promql.NewEngine(store, promql.Options{})
	for _, query := range []string{``, `sum(`, `requests_total + "x"`, `rate(requests_total)`, `requests_total * on(version) requests_total`, `nosuch(requests_total)`} {
		_, err := e.Instant(t.Context(), query, start.Add(30*time.Second))
		require.ErrorIs(t, err, promql.ErrQuery, query)
		require.ErrorContains(t, err, strconv.Quote(query))
	}
	_, err := e.Range(t.Context(), `1`, start, start.Add(-time.Second), time.Second)
	require.ErrorIs(t, err, promql.ErrQuery)
	_, err = e.Range(t.Context(), `1`, start, start, 0)
	require.ErrorIs(t, err, promql.ErrQuery)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = e.Instant(cancelled, `requests_total`, start)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, promql.ErrQuery)

	_, err = promql.NewEngine(store, promql.Options{Timeout: time.Nanosecond}).Instant(t.Context(), `requests_total`, start)
	require.ErrorIs(t, err, promql.ErrTimeout)

	_, err = promql.NewEngine(store, promql.Options{MaxSamples: 2}).Instant(t.Context(), `requests_total[1m]`, start.Add(time.Minute))
	require.ErrorIs(t, err, promql.ErrQuery, "asking again does not help")
}

func TestLookback(t *testing.T) {
	t.Parallel()
	e := promql.NewEngine(shop(t), promql.Options{Lookback: 5 * time.Second})
	for second, want := range map[int]promql.Found{64: promql.Number, 66: promql.NoData} {
		got, err := e.Instant(t.Context(), `requests_total{version="v1"}`, start.Add(time.Duration(second)*time.Second))
		require.NoError(t, err)
		_, found := got.One()
		require.Equal(t, want, found)
	}
}

// What is written while a query runs does not disturb it.
func TestWhileScraping(t *testing.T) {
	t.Parallel()
	store := shop(t)
	e := promql.NewEngine(store, promql.Options{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		l := metrics.LabelsOf(map[string]string{"__name__": "requests_total", "version": "v1", "code": "200"})
		for s := 61; s < 1000; s++ {
			if err := store.Append(l, start.Add(time.Duration(s)*time.Second), float64(90*s)); err != nil {
				panic(err)
			}
		}
	}()
	for range 200 {
		got, err := e.Instant(t.Context(), `sum(rate(requests_total{version="v1"}[30s]))`, start.Add(60*time.Second))
		require.NoError(t, err)
		n, _ := got.One()
		require.InDelta(t, 90, n, 1e-9)
	}
	<-done
}

// tsdb itself would bring the SDKs of three clouds.
func TestTSDBIsNotImported(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "meshtest.dev/meshtest/metrics/promql").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, "github.com/prometheus/prometheus/promql")
	require.NotContains(t, deps, "github.com/prometheus/prometheus/tsdb")
	for _, dep := range deps {
		require.NotRegexp(t, `^github.com/(aws|Azure)/|^google.golang.org/api/`, dep)
	}
}
