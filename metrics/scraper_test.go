package metrics

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/internal/testbubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pages answers one scrape after the other. A page may be an error; after the last one comes the last again.
type pages []string

func (p *pages) RoundTrip(*http.Request) (*http.Response, error) {
	page := (*p)[0]
	if len(*p) > 1 {
		*p = (*p)[1:]
	}
	if text, down := strings.CutPrefix(page, "down: "); down {
		return nil, errors.New(text)
	}
	return &http.Response{StatusCode: 200, Status: "200 OK", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(page))}, nil
}

const counter = "# TYPE hits counter\n"

// scraped runs one target in a bubble, once a second for a time, and returns what it left; times count from the start.
func scraped(t *testing.T, lasts time.Duration, p ...string) (values map[string][]Point, health Health) {
	t.Helper()
	values = map[string][]Point{}
	testbubble.Test(t, func(t *testing.T) {
		start := time.Now().UnixMilli()
		s := NewScraper(NewStore(Bounds{}))
		loops, err := s.loops([]Target{{URL: "http://x/metrics", Labels: map[string]string{"app": "a"}}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		loops[0].run(ctx, &http.Client{Transport: (*pages)(&p)})
		for _, found := range s.store.Select(0, math.MaxInt64) {
			require.Equal(t, "a", found.Labels.Get("app"))
			name := found.Labels.Get(model.MetricNameLabel) + found.Labels.Get("code")
			for _, p := range found.Points {
				if IsStale(p.V) {
					p.V = stale
				}
				values[name] = append(values[name], Point{p.T - start, p.V})
			}
		}
		require.Len(t, s.Health(), 1)
		health = s.Health()[0]
	})
	return values, health
}

const stale = -1 // in what scraped returns

func TestScrapes(t *testing.T) {
	t.Parallel()
	got, health := scraped(t, 2500*time.Millisecond, "gauge 5\n", "gauge 6\n", "gauge 7\n", "gauge 8\n")
	require.Equal(t, []Point{{0, 5}, {1000, 6}, {2000, 7}, {2500, 8}}, got["gauge"], "at once, every second, and at the end")
	require.Equal(t, []Point{{0, 1}, {1000, 1}, {2000, 1}, {2500, 1}}, got["up"])
	require.Equal(t, []Point{{0, 1}, {1000, 1}, {2000, 1}, {2500, 1}}, got["scrape_samples_scraped"])
	require.Equal(t, []Point{{0, 0}, {1000, 0}, {2000, 0}, {2500, 0}}, got["scrape_duration_seconds"])
	require.Equal(t, 4, health.Scrapes)
	require.Zero(t, health.Failed)
	require.NoError(t, health.LastErr)
	require.Equal(t, 1, health.Series)
}

func TestATargetThatIsDownEndsItsSeries(t *testing.T) {
	t.Parallel()
	got, health := scraped(t, 2999*time.Millisecond, "gauge 5\n", "down: no route", "gauge{x=", "gauge 8\n")
	require.Equal(t, []Point{{0, 5}, {1000, stale}, {2999, 8}}, got["gauge"])
	require.Equal(t, []Point{{0, 1}, {1000, 0}, {2000, 0}, {2999, 1}}, got["up"])
	require.Equal(t, 2, health.Failed)
	require.ErrorContains(t, health.LastErr, `scrape {app="a"}: parse the exposition`)
}

func TestASeriesThatIsGoneEnds(t *testing.T) {
	t.Parallel()
	got, _ := scraped(t, 2999*time.Millisecond, "a 1\nb 1\n", "a 2\n", "a 3\nb 3\n", "a 4\n")
	require.Equal(t, []Point{{0, 1}, {1000, 2}, {2000, 3}, {2999, 4}}, got["a"])
	require.Equal(t, []Point{{0, 1}, {1000, stale}, {2000, 3}, {2999, stale}}, got["b"])
}

func TestACounterWasZeroBeforeItCame(t *testing.T) {
	t.Parallel()
	got, health := scraped(t, 2999*time.Millisecond,
		counter+`hits{code="200"} 9`+"\n",
		counter+`hits{code="200"} 19`+"\n",
		counter+`hits{code="200"} 29`+"\n"+`hits{code="500"} 3`+"\n# TYPE g gauge\ng 1\n",
	)
	require.Equal(t, []Point{{0, 9}, {1000, 19}, {2000, 29}, {2999, 29}}, got["hits200"], "what was there at first may have counted for long")
	require.Equal(t, []Point{{1000, 0}, {2000, 3}, {2999, 3}}, got["hits500"])
	require.Equal(t, []Point{{2000, 1}, {2999, 1}}, got["g"])
	require.Zero(t, health.Rejected)
}

func TestACounterIsNotZeroAfterAGap(t *testing.T) {
	t.Parallel()
	got, health := scraped(t, 3999*time.Millisecond, counter+"hits 9\n", "down: x", counter+"hits 10\n", "other 1\n", counter+"hits 12\n")
	require.Equal(t, []Point{{0, 9}, {1000, stale}, {2000, 10}, {3000, stale}, {3999, 12}}, got["hits"])
	require.Zero(t, health.Rejected)
}

func TestRefusedSamplesAreCounted(t *testing.T) {
	t.Parallel()
	got, health := scraped(t, 999*time.Millisecond, "a 1\na 2\nb 1\n")
	require.Equal(t, []Point{{0, 1}, {999, 1}}, got["a"])
	require.Equal(t, []Point{{0, 1}, {999, 1}}, got["b"])
	require.Equal(t, 2, health.Rejected)
	require.ErrorIs(t, health.LastErr, ErrConflict)
}

// A target with the instruments that everybody uses, over a Unix socket and over TCP.
func TestClientGolang(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"code"})
	latency := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "latency_seconds", Buckets: []float64{0.1, 1}, NativeHistogramBucketFactor: 1.1,
	})
	size := prometheus.NewSummary(prometheus.SummaryOpts{Name: "size", Objectives: map[float64]float64{0.5: 0.05}})
	registry.MustRegister(requests, latency, size)
	requests.WithLabelValues("200").Add(3)
	latency.Observe(0.05)
	latency.Observe(0.5)
	latency.Observe(5)
	size.Observe(7)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	tcp := httptest.NewServer(handler)
	defer tcp.Close()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	unix := httptest.NewUnstartedServer(handler)
	require.NoError(t, unix.Listener.Close())
	unix.Listener = listener
	unix.Start()
	defer unix.Close()

	store := NewStore(Bounds{})
	scraper := NewScraper(store)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // at once and at the end are two scrapes
	require.NoError(t, scraper.Run(ctx,
		Target{URL: tcp.URL, Labels: map[string]string{"app": "tcp"}},
		Target{Labels: map[string]string{"app": "unix"}, URL: "http://unix" + DefaultPath, Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}},
	))
	for i, h := range scraper.Health() {
		require.Equal(t, []string{"tcp", "unix"}[i], h.Labels["app"])
		require.NoError(t, h.LastErr)
		require.Equal(t, 2, h.Scrapes)
		require.Equal(t, 9, h.Series)
	}
	for _, app := range []string{"tcp", "unix"} {
		for _, want := range []struct {
			value  float64
			labels Labels
		}{
			{3, named("requests_total", "app", app, "code", "200")},
			{1, named("latency_seconds_bucket", "app", app, "le", "0.1")},
			{2, named("latency_seconds_bucket", "app", app, "le", "1.0")},
			{3, named("latency_seconds_bucket", "app", app, "le", "+Inf")},
			{3, named("latency_seconds_count", "app", app)},
			{5.55, named("latency_seconds_sum", "app", app)},
			{7, named("size", "app", app, "quantile", "0.5")},
			{1, named("size_count", "app", app)},
			{1, named("up", "app", app)},
		} {
			found := 0
			for _, s := range store.Select(0, math.MaxInt64, is("app", app)) {
				if labels.Equal(s.Labels, want.labels) {
					found++
					require.Len(t, s.Points, 2)
					require.InDelta(t, want.value, s.Points[1].V, 1e-9, "%v", want.labels)
				}
			}
			require.Equal(t, 1, found, "%v", want.labels)
		}
	}
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	for want, handler := range map[string]http.HandlerFunc{
		"status 302": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"status 404": http.NotFound,
		"longer than the target's bound": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip") // a bomb
			z := gzip.NewWriter(w)
			io.WriteString(z, strings.Repeat("x", 1001))
			z.Close()
		},
		"decompress": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "this is no gzip")
		},
		"deadline": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(handler)
			defer server.Close()
			target := Target{URL: server.URL, MaxBody: 1000, Timeout: 30 * time.Second}
			if want == "deadline" {
				target.Timeout = 100 * time.Millisecond
			}
			target = target.withDefaults()
			client := target.client()
			defer client.CloseIdleConnections()
			_, _, err := target.fetch(t.Context(), client)
			require.ErrorContains(t, err, want)
		})
	}
}

func TestFetchGzip(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Contains(t, r.Header.Get("Accept-Encoding"), "gzip")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, "a 1\n")
		z.Close()
	}))
	defer server.Close()
	target := Target{URL: server.URL}.withDefaults()
	client := target.client()
	defer client.CloseIdleConnections()
	body, _, err := target.fetch(t.Context(), client)
	require.NoError(t, err)
	require.Equal(t, "a 1\n", string(body))
}

func TestTargetsThatCannotBeScraped(t *testing.T) {
	t.Parallel()
	good := map[string]string{"app": "a"}
	for want, target := range map[string]Target{
		"want an absolute http or https address": {URL: "/metrics", Labels: good},
		"no labels":                              {URL: "http://x/metrics"},
		"url:":                                   {URL: "http://%zz", Labels: good},
		"negative interval":                      {URL: "http://x/metrics", Labels: good, Interval: -1},
	} {
		err := NewScraper(NewStore(Bounds{})).Run(t.Context(), target)
		require.ErrorContains(t, err, want)
	}
}
