package promql_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testprom"
	"meshtest.dev/meshtest/metrics"
	"meshtest.dev/meshtest/metrics/promql"
)

// An exporter's counters grow with every scrape, so that rates are not all zero. It tells of the scrapes.
func exporter(t *testing.T) (address string, scraped <-chan int) {
	t.Helper()
	var n atomic.Int64
	scrapes := make(chan int, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i := n.Add(1)
		fmt.Fprint(w, exposition(float64(i)))
		select {
		case scrapes <- int(i):
		default:
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), scrapes
}

func exposition(n float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# TYPE requests_total counter\n")
	for _, version := range []string{"v1", "v2"} {
		fmt.Fprintf(&b, "requests_total{version=%q,code=\"200\"} %g\n", version, 90*n)
		fmt.Fprintf(&b, "requests_total{version=%q,code=\"500\"} %g\n", version, math.Floor(n*n/7))
	}
	fmt.Fprintf(&b, "# TYPE latency_seconds histogram\n")
	for i, le := range []string{"0.05", "0.1", "0.25", "0.75", "+Inf"} { // whole numbers are written otherwise since version 3: 1.0
		fmt.Fprintf(&b, "latency_seconds_bucket{le=%q} %g\n", le, float64(i+1)*n*n)
	}
	fmt.Fprintf(&b, "latency_seconds_sum %g\nlatency_seconds_count %g\n", n*0.3, 5*n*n)
	fmt.Fprintf(&b, "# TYPE reset_total counter\nreset_total %g\n", math.Mod(n, 4))
	fmt.Fprintf(&b, "# TYPE temperature gauge\ntemperature{room=\"a \\\"quoted\\\" \\\\ näme\\n\"} %g\ntemperature{room=\"cold\"} -273.15\n", math.Sin(n))
	fmt.Fprintf(&b, "odd{is=\"nan\"} NaN\nodd{is=\"inf\"} +Inf\nodd{is=\"small\"} 5e-324\nodd{is=\"large\"} 1.7976931348623157e+308\n")
	return b.String()
}

// prometheus starts the real one, which scrapes the target at the interval, until the test ends. A scrape that takes longer, as on a busy machine, ends all series. Without one on this machine the test
// is skipped.
func prometheus(t *testing.T, target string, interval time.Duration) *promql.Remote {
	t.Helper()
	url := testprom.Start(t, fmt.Sprintf(`
global: {scrape_interval: %[2]s, scrape_timeout: %[2]s}
scrape_configs:
- job_name: shop
  static_configs: [{targets: [%[1]q], labels: {instance: one}}]
`, target, interval))
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	return &promql.Remote{URL: url, Client: client}
}

// Queries of all kinds, errors among them.
var queries = []string{
	`requests_total`, `requests_total{version="v1",code=~"2.."}`, `requests_total{version!="v1"} > 100`,
	`sum(requests_total)`, `sum by (version) (requests_total)`, `count without (code) (requests_total)`, `topk(1, sum by (code) (requests_total))`,
	`rate(requests_total[2s])`, `sum(rate(requests_total{code="500"}[2s])) / sum(rate(requests_total[2s]))`, `increase(requests_total[1500ms])`, `irate(requests_total[2s])`,
	`rate(reset_total[2s])`, `resets(reset_total[2s])`, `changes(reset_total[2s])`, `delta(temperature[2s])`, `deriv(temperature[2s])`, `predict_linear(temperature[2s], 10)`,
	`histogram_quantile(0.9, rate(latency_seconds_bucket[2s]))`, `histogram_quantile(0.5, sum by (le) (latency_seconds_bucket))`,
	`rate(latency_seconds_sum[2s]) / rate(latency_seconds_count[2s])`, `latency_seconds_bucket{le="+Inf"}`,
	`avg_over_time(temperature[2s])`, `quantile_over_time(0.3, temperature[2s])`, `stddev_over_time(temperature[2s])`, `last_over_time(temperature[2s])`, `count_over_time(temperature[2s])`,
	`max_over_time(sum(requests_total)[1s:200ms])`, `temperature offset 500ms`, `temperature @ end()`, `requests_total[1s]`,
	`odd`, `odd > 0`, `-odd`, `odd * 0`, `sort_desc(odd{is!="nan"})`, `temperature`, `label_replace(temperature, "r", "$1", "room", "(c).*")`,
	`absent(nobody)`, `nobody`, `sum(nobody)`, `nobody or vector(3)`, `requests_total{version="v1"} and on (version) requests_total{code="500"}`,
	`42`, `1 / 0`, `0 / 0`, `-1 / 0`, `"text"`, `time()`, `vector(time())`, `scalar(sum(requests_total))`, `sgn(temperature)`, `up`,
	`sum(`, `rate(requests_total)`, `requests_total + "x"`, `nosuch(1)`, `requests_total * on (version) requests_total`, ``, `{}`,
}

// TestPrometheusAndEngine asks a real Prometheus and our engine the same, about the same samples.
func TestPrometheusAndEngine(t *testing.T) {
	t.Parallel()
	target, scraped := exporter(t)
	remote := prometheus(t, target, 300*time.Millisecond)
	var now time.Time
	for steady := false; !steady; steady = upAllTheTime(t, remote, now) {
		for range 25 { // beyond the reach of the queries, since rates where a series begins were counted otherwise in version 3
			<-scraped
		}
		now = between(t, remote)
		for range 5 {
			<-scraped // what was under way is stored
		}
	}
	engine := promql.NewEngine(copied(t, remote, now), promql.Options{})
	answers := 0
	for _, query := range queries {
		t.Run(query, func(t *testing.T) {
			theirs, theirErr := remote.Instant(t.Context(), query, now)
			ours, ourErr := engine.Instant(t.Context(), query, now)
			sameErrors(t, theirErr, ourErr)
			sameValues(t, theirs, ours, strings.HasPrefix(query, "sort"))
			if len(theirs.Series) > 0 {
				answers++
			}
			theirs, theirErr = remote.Range(t.Context(), query, now.Add(-2*time.Second), now, 300*time.Millisecond)
			ours, ourErr = engine.Range(t.Context(), query, now.Add(-2*time.Second), now, 300*time.Millisecond)
			sameErrors(t, theirErr, ourErr)
			sameValues(t, theirs, ours, false)
		})
	}
	require.Greater(t, answers, 40, "most queries have an answer")
}

// between is a time between two samples, and between those as much earlier as the queries ask for: whether a range includes the sample at its very beginning was decided otherwise in
// version 3.
func between(t *testing.T, r *promql.Remote) time.Time {
	t.Helper()
	last, err := r.Instant(t.Context(), `timestamp(up) * 1000`, time.Now())
	require.NoError(t, err)
	n, found := last.One()
	require.Equal(t, promql.Number, found)
	now := time.UnixMilli(int64(n) + 37)
	if now.UnixMilli()%100 == 0 { // where subqueries have their steps
		now = now.Add(time.Millisecond)
	}
	return now
}

// upAllTheTime reports whether no scrape that the queries look at was too slow: where series end is in the server, and in no answer that could be copied.
func upAllTheTime(t *testing.T, asked promql.Querier, now time.Time) bool {
	t.Helper()
	v, err := asked.Instant(t.Context(), `min_over_time(up[6s])`, now)
	require.NoError(t, err)
	up, found := v.One()
	require.Equal(t, promql.Number, found)
	return up == 1
}

// copied is a store with all samples that the server has at that time.
func copied(t *testing.T, r *promql.Remote, now time.Time) *metrics.Store {
	t.Helper()
	all, err := r.Instant(t.Context(), `{__name__=~".+"}[1m]`, now)
	require.NoError(t, err)
	require.Greater(t, len(all.Series), 15)
	store := metrics.NewStore(metrics.Bounds{})
	for _, s := range all.Series {
		for _, p := range s.Points {
			require.NoError(t, store.Append(metrics.LabelsOf(s.Labels), p.T, p.V))
		}
	}
	return store
}

// sameErrors: both or neither, and of the same kind.
func sameErrors(t *testing.T, theirs, ours error) {
	t.Helper()
	if theirs == nil && ours == nil {
		return
	}
	require.ErrorIs(t, theirs, promql.ErrQuery)
	require.ErrorIs(t, ours, promql.ErrQuery)
}

// sameValues allows for another order of additions between versions of the engine. In a vector the order means something only when it is sorted.
func sameValues(t *testing.T, theirs, ours promql.Value, ordered bool) {
	t.Helper()
	require.Equal(t, theirs.Kind, ours.Kind)
	require.Equal(t, theirs.Text, ours.Text)
	require.Len(t, ours.Series, len(theirs.Series))
	if !ordered {
		for _, v := range []promql.Value{theirs, ours} {
			slices.SortFunc(v.Series, func(a, b promql.Series) int { return strings.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)) })
		}
	}
	for i, s := range theirs.Series {
		require.Equal(t, s.Labels, ours.Series[i].Labels)
		require.Len(t, ours.Series[i].Points, len(s.Points), "%v", s.Labels)
		for j, p := range s.Points {
			got := ours.Series[i].Points[j]
			require.Equal(t, p.T, got.T)
			if p.V != got.V && !(math.IsNaN(p.V) && math.IsNaN(got.V)) {
				require.InEpsilon(t, p.V, got.V, 1e-9, "%v", s.Labels)
			}
		}
	}
}

// TestPrometheusAndScraper has both scrape the same, and compares what they read.
func TestPrometheusAndScraper(t *testing.T) {
	t.Parallel()
	byUs, byThem := make(chan struct{}, 10), make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, exposition(5))
		scraped := byThem
		if r.UserAgent() == "meshtest" {
			scraped = byUs
		}
		select {
		case scraped <- struct{}{}:
		default:
		}
	}))
	defer server.Close()
	remote := prometheus(t, server.Listener.Addr().String(), time.Second)
	store := metrics.NewStore(metrics.Bounds{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- metrics.NewScraper(store).Run(ctx, metrics.Target{
			URL: server.URL + "/metrics", Labels: map[string]string{"job": "shop", "instance": "one"},
		})
	}()
	engine := promql.NewEngine(store, promql.Options{})
	var now time.Time
	for up := false; !up; up = upAllTheTime(t, remote, now) && upAllTheTime(t, engine, now) {
		for range 3 { // the first is stored when the third comes
			<-byUs
			<-byThem
		}
		now = time.Now()
	}
	const all = `{__name__=~".+",__name__!~"scrape_.*"}` // what is said of the scrape itself differs
	theirs, err := remote.Instant(t.Context(), all, now)
	require.NoError(t, err)
	ours, err := engine.Instant(t.Context(), all, now)
	require.NoError(t, err)
	require.Greater(t, len(theirs.Series), 15)
	require.True(t, slices.ContainsFunc(theirs.Series, func(s promql.Series) bool {
		return maps.Equal(s.Labels, map[string]string{"__name__": "up", "job": "shop", "instance": "one"})
	}))
	sameValues(t, theirs, ours, false)
	cancel()
	require.NoError(t, <-ended)
}
