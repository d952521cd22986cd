package proxy

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/zipkin"
)

// told is a span as Zipkin would read it.
type told struct {
	TraceID, ID, ParentID, Kind string
	Timestamp, Duration         int64
	Shared                      bool
	LocalEndpoint               struct{ ServiceName string }
	RemoteEndpoint              struct{ ServiceName string }
	Tags                        map[string]string
}

// spansOf takes the spans of a rig, in the order of their beginnings.
func spansOf(t *testing.T, r *rig, x *zipkin.Exporter) (spans []told) {
	t.Helper()
	text, lost := x.Take(zipkin.Endpoint{Service: r.srv.Workload().Name})
	require.Zero(t, lost)
	require.NoError(t, json.Unmarshal(text, &spans), string(text))
	slices.SortStableFunc(spans, func(a, b told) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	return spans
}

const traceOfTest = "0af7651916cd43dd8448eb211c80319c"

func tracedRig(t *testing.T) (*rig, *zipkin.Exporter) {
	x := zipkin.NewBuffer(100, &telemetry.Counters{})
	return newRig(t, func(o *Options) { o.Spans = x }), x
}

// Every attempt is a span of its own, with an id that the endpoint is told as its parent's.
func TestAttemptsAreSpans(t *testing.T) {
	t.Parallel()
	r, x := tracedRig(t)
	o := newOrigin(t, func(k *talk) {
		for _, status := range []int{503, 200} {
			k.request()
			k.say(answer(status, ""))
		}
	})
	host := r.service("middleware", mesh.HTTP, map[string][]string{"v1": {o.address}})
	again := split(host, "v1")
	again.Retry = &mesh.Retry{Attempts: 2, On: []mesh.RetryOn{mesh.On5xx}}
	r.routes(host, again)
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	c := call(t, at)
	resp, _ := c.get("/a?secret=1", "x-request-id: users-1", "traceparent: 00-"+traceOfTest+"-b7ad6b7169203331-01")
	require.Equal(t, 200, resp.StatusCode)
	r.evidenceOf(1)
	spans := spansOf(t, r, x)
	require.Len(t, spans, 2)
	for i, s := range spans {
		require.Equal(t, traceOfTest, s.TraceID)
		require.Equal(t, "b7ad6b7169203331", s.ParentID)
		require.Equal(t, "CLIENT", s.Kind)
		require.Equal(t, "frontend-v1", s.LocalEndpoint.ServiceName)
		require.Equal(t, "middleware-v1", s.RemoteEndpoint.ServiceName)
		require.Equal(t, "users-1", s.Tags["guid:x-request-id"])
		require.Equal(t, "/a", s.Tags["http.path"], "the query may hold secrets")
		require.Equal(t, []string{"503", "200"}[i], s.Tags["http.status_code"])
		require.Equal(t, []string{"", "1"}[i], s.Tags["retry.count"])
		require.Equal(t, []string{"true", ""}[i], s.Tags["error"])
		require.Contains(t, o.bytes(), "-"+s.ID+"-01")
	}
	require.NotEqual(t, spans[0].ID, spans[1].ID)
	require.Empty(t, spansOf(t, r, x))
}

// Who begins a trace decides whether it is sampled; who continues one obeys.
func TestSampling(t *testing.T) {
	t.Parallel()
	share := func(v float64) *float64 { return &v }
	for name, test := range map[string]struct {
		sampling *float64
		header   string
		want     int // spans of 100 requests
	}{
		"all":                        {share(1), "", 100},
		"none":                       {share(0), "", 0},
		"a sampled one is continued": {share(0), "traceparent: 00-" + traceOfTest + "-b7ad6b7169203331-01", 100},
		"another one is not":         {share(1), "traceparent: 00-" + traceOfTest + "-b7ad6b7169203331-00", 0},
		"B3":                         {share(0), "b3: " + traceOfTest + "-b7ad6b7169203331-1", 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, x := tracedRig(t)
			o := newOrigin(t, answering(200, ""))
			host := r.service("middleware", mesh.HTTP, map[string][]string{"v1": {o.address}})
			r.routes(host, split(host, "v1"))
			r.inbound.Sampling = test.sampling
			at := r.outbound(host, mesh.HTTP)
			r.apply()
			c := call(t, at)
			for range 100 {
				if test.header == "" {
					c.get("/")
				} else {
					c.get("/", test.header)
				}
			}
			r.evidenceOf(100)
			require.Len(t, spansOf(t, r, x), test.want)
		})
	}
}
