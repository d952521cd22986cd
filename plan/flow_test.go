package plan

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

func TestReach(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		calls map[string][]string
		want  map[string]float64
	}{
		"alone":   {map[string][]string{}, map[string]float64{"a": 1}},
		"chain":   {map[string][]string{"a": {"b"}, "b": {"c"}}, map[string]float64{"a": 1, "b": 1, "c": 1}},
		"diamond": {map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": {"e"}}, map[string]float64{"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}},
		"circle":  {map[string][]string{"a": {"b"}, "b": {"a", "c"}}, map[string]float64{"a": 1, "b": 1, "c": 1}},
		"skip":    {map[string][]string{"a": {"b", "c"}, "b": {"c"}}, map[string]float64{"a": 1, "b": 1, "c": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, (&builder{calls: tc.calls}).reach("a"))
		})
	}
}

// The closed forms agree with a sum of the rate over small steps of time.
func TestSentIsTheIntegralOfTheRate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stream spec.Stream
		rate   func(t float64) float64
	}{
		"rate": {spec.Stream{Rate: 7}, func(float64) float64 { return 7 }},
		"ramp": {spec.Stream{Ramp: &spec.Ramp{From: 10, To: 50, Over: 4 * time.Second}}, func(t float64) float64 { return 10 + 10*min(t, 4) }},
		"steps": {spec.Stream{Steps: []spec.RateStep{{Rate: 5, Duration: 2 * time.Second}, {Rate: 9, Duration: time.Second}}}, func(t float64) float64 {
			if t < 2 {
				return 5
			}
			return 9
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const step = 1e-3
			sum := 0.0
			for i := 1500; i < 8000; i++ {
				sum += tc.rate((float64(i)+0.5)*step) * step
			}
			require.InDelta(t, sum, sent(tc.stream, 1500*time.Millisecond, 8*time.Second), 1e-6)
		})
	}
	sine := spec.Stream{Sine: &spec.Sine{Mean: 10, Amplitude: 5, Period: 4 * time.Second}}
	require.InDelta(t, 40, sent(sine, 0, 4*time.Second), 1e-9, "a whole swing is the mean")
	require.InDelta(t, 20+10*2/3.141592653589793, sent(sine, 0, 2*time.Second), 1e-9, "the first half is above it")
	short := spec.Stream{Rate: 10, Duration: 2 * time.Second}
	require.InDelta(t, 10, sent(short, time.Second, time.Minute), 1e-9, "a stream ends")
	require.Zero(t, sent(short, 3*time.Second, time.Minute))
}

func TestMeets(t *testing.T) {
	t.Parallel()
	exact := func(s string) *mesh.StringMatch { return &mesh.StringMatch{Exact: &s} }
	prefix, regex := "/a", "v[0-9]"
	stream := spec.Stream{Method: "GET", Path: "/a/b?c=d", Headers: map[string]string{"X-Dev": "v1"}}
	for name, tc := range map[string]struct {
		match  mesh.Match
		caller string
		want   bool
	}{
		"nothing":            {mesh.Match{}, "a", true},
		"header":             {mesh.Match{Headers: map[string]mesh.HeaderTest{"x-dev": {Value: exact("v1")}}}, "a", true},
		"header by regex":    {mesh.Match{Headers: map[string]mesh.HeaderTest{"x-dev": {Value: &mesh.StringMatch{Regex: &regex}}}}, "a", true},
		"another value":      {mesh.Match{Headers: map[string]mesh.HeaderTest{"x-dev": {Value: exact("v")}}}, "a", false},
		"present":            {mesh.Match{Headers: map[string]mesh.HeaderTest{"x-dev": {Present: true}}}, "a", true},
		"absent":             {mesh.Match{Headers: map[string]mesh.HeaderTest{"x-other": {Present: true}}}, "a", false},
		"without":            {mesh.Match{WithoutHeaders: map[string]mesh.HeaderTest{"x-dev": {Present: true}}}, "a", false},
		"path at the edge":   {mesh.Match{Path: &mesh.StringMatch{Prefix: &prefix}}, "edge", true},
		"path behind it":     {mesh.Match{Path: &mesh.StringMatch{Prefix: &prefix}}, "a", false},
		"method at the edge": {mesh.Match{Method: exact("POST")}, "edge", false},
		"caller":             {mesh.Match{SourceLabels: mesh.Labels{"app": "a"}}, "a", true},
		"another caller":     {mesh.Match{SourceLabels: mesh.Labels{"app": "b"}}, "a", false},
		"query":              {mesh.Match{Query: map[string]mesh.HeaderTest{"c": {Present: true}}}, "edge", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, (&builder{}).meets(tc.match, tc.caller, stream))
		})
	}
}

// The roll-out takes the table over as its author wrote it.
func TestAttach(t *testing.T) {
	t.Parallel()
	s := Split{Host: "m", Port: 80, Stable: "prod", Canary: "canary"}
	arms := []mesh.Destination{{Host: "m", Subset: "prod", Port: 80, Weight: 100}, {Host: "m", Subset: "canary", Port: 80}}
	own := mesh.Route{Name: "own", Origin: "VirtualService default/m", Timeout: time.Second}
	to := func(r mesh.Route, arms ...mesh.Destination) mesh.Route { r.Split = arms; return r }
	for name, tc := range map[string]struct {
		routes []mesh.Route
		want   []mesh.Route
	}{
		"the default route": {[]mesh.Route{to(mesh.Route{Name: "default"}, mesh.Destination{Host: "m", Port: 80, Weight: 100})},
			[]mesh.Route{to(mesh.Route{Name: SplitRouteName, Origin: OriginRollout}, arms...)}},
		"a route of its author to all versions": {[]mesh.Route{to(own, mesh.Destination{Host: "m", Port: 80, Weight: 100, Request: mesh.HeaderChange{Remove: []string{"x"}}})},
			[]mesh.Route{to(own, withRequest(arms, mesh.HeaderChange{Remove: []string{"x"}})...)}},
		"a route of its author to stable": {[]mesh.Route{to(own, arms[0])}, []mesh.Route{to(own, arms...)}},
		"a split": {[]mesh.Route{to(own, mesh.Destination{Host: "m", Subset: "canary", Port: 80, Weight: 30}, mesh.Destination{Host: "m", Subset: "prod", Port: 80, Weight: 70})},
			[]mesh.Route{to(own, arms[1], arms[0])}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := s.attach(&mesh.RouteTable{Host: "m", Port: 80, Routes: tc.routes})
			require.NoError(t, err)
			require.Equal(t, tc.want, got.Routes)
		})
	}
	specific := own
	specific.Matches = []mesh.Match{{Port: 80, Headers: map[string]mesh.HeaderTest{"x": {Present: true}}}}
	got, err := s.attach(&mesh.RouteTable{Host: "m", Port: 80, Routes: []mesh.Route{to(specific, arms[0])}})
	require.NoError(t, err)
	require.Equal(t, []string{"own", SplitRouteName}, []string{got.Routes[0].Name, got.Routes[1].Name}, "appended after more specific routes")
	_, err = s.attach(&mesh.RouteTable{Host: "m", Port: 80, Routes: []mesh.Route{to(own, arms[1])}})
	require.Error(t, err, "everything to the canary is no beginning")
}

func withRequest(arms []mesh.Destination, h mesh.HeaderChange) []mesh.Destination {
	out := append([]mesh.Destination(nil), arms...)
	for i := range out {
		out[i].Request = h
	}
	return out
}

func FuzzPlan(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "../spec/testdata/valid/*.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _ := spec.Parse("fuzz", data, spec.Options{})
		if s == nil {
			return
		}
		p, diags := New(s, Options{Seed: 1})
		require.Equal(t, p == nil, diags.Err() != nil)
		if p != nil {
			require.Empty(t, p.Snapshot.Validate())
			require.NotEmpty(t, p.String())
		}
	})
}
