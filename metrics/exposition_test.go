package metrics

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const page = `# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{code="200"} 10
requests_total{code="500"} 1 1700000000000
# TYPE in_flight gauge
in_flight 3
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.1"} 4
latency_seconds_bucket{le="+Inf"} 5
latency_seconds_sum 0.7
latency_seconds_count 5
# TYPE size summary
size{quantile="0.5"} 42
size_sum 420
size_count 10
untyped NaN
`

func TestParse(t *testing.T) {
	t.Parallel()
	type row struct {
		labels     string
		value      float64
		cumulative bool
	}
	want := []row{
		{`{__name__="requests_total", code="200"}`, 10, true},
		{`{__name__="requests_total", code="500"}`, 1, true},
		{`{__name__="in_flight"}`, 3, false},
		{`{__name__="latency_seconds_bucket", le="0.1"}`, 4, true},
		{`{__name__="latency_seconds_bucket", le="+Inf"}`, 5, true},
		{`{__name__="latency_seconds_sum"}`, 0.7, true},
		{`{__name__="latency_seconds_count"}`, 5, true},
		{`{__name__="size", quantile="0.5"}`, 42, false},
		{`{__name__="size_sum"}`, 420, true},
		{`{__name__="size_count"}`, 10, true},
	}
	for _, contentType := range []string{"text/plain; version=0.0.4", "", "nonsense"} {
		got, err := parse([]byte(page), contentType)
		require.NoError(t, err)
		require.Len(t, got, len(want)+1)
		for i, w := range want {
			require.Equal(t, w, row{got[i].labels.String(), got[i].value, got[i].cumulative})
		}
		last := got[len(want)]
		require.False(t, last.cumulative)
		require.NotEqual(t, last.value, last.value, "NaN")
	}
}

func TestParseOpenMetrics(t *testing.T) {
	t.Parallel()
	got, err := parse([]byte("# TYPE requests counter\nrequests_total 3 # {trace=\"x\"} 1\nrequests_created 1700000000\n# EOF\n"), "application/openmetrics-text; version=1.0.0")
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, `{__name__="requests_total"}`, got[0].labels.String())
	require.True(t, got[0].cumulative)
	require.EqualValues(t, 3, got[0].value)
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	_, err := parse([]byte("good 1\nbad{x=} 1\n"), "text/plain")
	require.ErrorContains(t, err, "after 1 series")
	_, err = parse([]byte("<html>"), "text/html")
	require.Error(t, err)
}

func TestWithin(t *testing.T) {
	t.Parallel()
	target := LabelsOf(map[string]string{"app": "shop", "version": "v2"})
	require.Equal(t, `{__name__="a", app="shop", version="v2", x="1"}`, within(target, named("a", "x", "1")).String())
	require.Equal(t, `{__name__="a", app="shop", exported_version="v1", version="v2"}`, within(target, named("a", "version", "v1")).String())
	require.Equal(t, `{__name__="a", app="shop", exported_exported_version="v1", exported_version="v0", version="v2"}`,
		within(target, named("a", "version", "v1", "exported_version", "v0")).String())
}

func FuzzParse(f *testing.F) {
	f.Add(page, "text/plain")
	f.Add("# TYPE a counter\na_total 1\n# EOF\n", "application/openmetrics-text")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		_, _ = parse([]byte(body), contentType) // whatever comes is an answer or an error
	})
}

func TestTakeIsAScrape(t *testing.T) {
	t.Parallel()
	s := NewStore(Bounds{})
	require.NoError(t, s.Take(at(1000), map[string]string{"instance": "one"}, []byte("a{instance=\"x\"} 1\n"), "text/plain"))
	require.NoError(t, s.Take(at(2000), map[string]string{"instance": "one"}, []byte("a{instance=\"x\"} 2\n"), "text/plain"))
	require.Equal(t, []Point{{1000, 1}, {2000, 2}}, points(t, s, "a", "instance", "one", "exported_instance", "x"))
	require.Error(t, s.Take(at(3000), nil, []byte("no exposition\n"), "text/plain"))
}
