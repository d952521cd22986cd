package telemetry

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

var (
	web = PeerOf(mesh.Workload{Name: "web-v1", Namespace: "default", Labels: mesh.Labels{"app": "web", "version": "v1"}})
	api = PeerOfEndpoint("api.prod.svc.cluster.local", &mesh.Endpoint{
		Workload: "api-v2", Cluster: "east", Labels: mesh.Labels{"app": "api", "version": "v2", "app.kubernetes.io/name": "the-api"},
	})
	outbound = Traffic{Reporter: Source, Source: web, Destination: api, Host: "api.prod.svc.cluster.local"}
)

func flagText(f uint32) string {
	if f == 0 {
		return "-"
	}
	return fmt.Sprintf("F%d", f)
}

// parse reads an exposition with Prometheus' own parser.
func parse(t *testing.T, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err)
	return families
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

func TestStandardMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{FlagText: flagText})
	h := m.Requests(outbound)
	for range 3 {
		h.Record(Outcome{Code: 200, Duration: 3 * time.Millisecond, RequestBytes: 0, ResponseBytes: 700})
	}
	h.Record(Outcome{Code: 503, Flags: 4, Duration: time.Hour + 1, ResponseBytes: 10})
	families := parse(t, m.AppendText(nil))
	require.ElementsMatch(t, []string{"istio_requests_total", "istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"},
		slices.Collect(maps.Keys(families)))

	total := families["istio_requests_total"]
	require.Equal(t, dto.MetricType_COUNTER, total.GetType())
	require.Len(t, total.GetMetric(), 2)
	ok := total.GetMetric()[0]
	require.Equal(t, map[string]string{
		"reporter":        "source",
		"source_workload": "web-v1", "source_canonical_service": "web", "source_canonical_revision": "v1", "source_workload_namespace": "default",
		"source_principal": "unknown", "source_app": "web", "source_version": "v1", "source_cluster": "unknown",
		"destination_workload": "api-v2", "destination_workload_namespace": "prod", "destination_principal": "unknown", "destination_app": "api",
		"destination_version": "v2", "destination_service": "api.prod.svc.cluster.local", "destination_canonical_service": "the-api",
		"destination_canonical_revision": "v2", "destination_service_name": "api", "destination_service_namespace": "prod", "destination_cluster": "east",
		"request_protocol": "http", "response_code": "200", "grpc_response_status": "", "response_flags": "-", "connection_security_policy": "unknown",
	}, labelsOf(ok))
	require.Equal(t, 3.0, ok.GetCounter().GetValue())
	require.Equal(t, "503", labelsOf(total.GetMetric()[1])["response_code"])
	require.Equal(t, "F4", labelsOf(total.GetMetric()[1])["response_flags"])

	duration := families["istio_request_duration_milliseconds"].GetMetric()
	fast, slow := duration[0].GetHistogram(), duration[1].GetHistogram()
	require.EqualValues(t, 3, fast.GetSampleCount())
	require.Equal(t, 9.0, fast.GetSampleSum())
	below := map[float64]uint64{}
	for _, b := range fast.GetBucket() {
		below[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	require.EqualValues(t, 0, below[2.5])
	require.EqualValues(t, 3, below[3], "le includes its bound")
	for _, le := range envoyBuckets {
		require.Contains(t, below, le, "a superset of Envoy's buckets")
	}
	last := slow.GetBucket()
	require.EqualValues(t, 0, last[len(last)-2].GetCumulativeCount(), "longer than the last bound")
	require.EqualValues(t, 1, last[len(last)-1].GetCumulativeCount())

	size := families["istio_response_bytes"].GetMetric()[0].GetHistogram()
	require.Equal(t, 2100.0, size.GetSampleSum())
	require.Len(t, size.GetBucket(), len(envoyBuckets)+1)
}

func TestGRPCAndPrincipals(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{})
	traffic := outbound
	traffic.Reporter, traffic.Protocol, traffic.Security = Destination, ProtocolGRPC, MutualTLS
	traffic.Source.Principal = "spiffe://cluster.local/ns/default/sa/web"
	traffic.Host = `odd"host\`
	m.Requests(traffic).Record(Outcome{Code: 200, GRPCStatus: 14})
	m.Requests(traffic).Record(Outcome{Code: 200, GRPCStatus: -1})
	metrics := parse(t, m.AppendText(nil))["istio_requests_total"].GetMetric()
	require.Len(t, metrics, 2)
	labels := labelsOf(metrics[1])
	require.Empty(t, labelsOf(metrics[0])["grpc_response_status"])
	require.Equal(t, "14", labels["grpc_response_status"])
	require.Equal(t, "mutual_tls", labels["connection_security_policy"])
	require.Equal(t, "spiffe://cluster.local/ns/default/sa/web", labels["source_principal"])
	require.Equal(t, `odd"host\`, labels["destination_service_name"])
	require.Equal(t, "prod", labels["destination_service_namespace"], "of a host that is no service's, the peer's")
}

func TestOfNobodyTheRevisionIsTheLatest(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{})
	m.Requests(Traffic{Reporter: Source, Host: "out\xffside"}).Record(Outcome{})
	labels := labelsOf(parse(t, m.AppendText(nil))["istio_requests_total"].GetMetric()[0])
	require.Len(t, labels, 25)
	for name, value := range labels {
		switch name {
		case "source_canonical_revision", "destination_canonical_revision":
			require.Equal(t, "latest", value, name)
		case "destination_service", "destination_service_name":
			require.Equal(t, "out\ufffdside", value, "text that is none would cost the whole exposition")
		case "reporter", "request_protocol", "response_code", "response_flags", "grpc_response_status":
		default:
			require.Equal(t, "unknown", value, name)
		}
	}
}

func TestTCPMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{FlagText: flagText})
	h := m.Connections(outbound)
	require.Empty(t, m.AppendText(nil), "nothing happened")
	h.Opened()
	h.Opened()
	h.Moved(100, 7)
	h.Closed(0)
	h.Closed(2)
	families := parse(t, m.AppendText(nil))
	value := func(name string) float64 { return families[name].GetMetric()[0].GetCounter().GetValue() }
	require.Equal(t, 2.0, value("istio_tcp_connections_opened_total"))
	require.Equal(t, 100.0, value("istio_tcp_sent_bytes_total"))
	require.Equal(t, 7.0, value("istio_tcp_received_bytes_total"))
	require.Len(t, families["istio_tcp_connections_closed_total"].GetMetric(), 2)
	labels := labelsOf(families["istio_tcp_sent_bytes_total"].GetMetric()[0])
	require.Equal(t, "tcp", labels["request_protocol"])
	require.NotContains(t, labels, "response_code")
	require.Len(t, labels, 23)
}

func TestEveryBucketHoldsItsValues(t *testing.T) {
	t.Parallel()
	for _, s := range []*scale{durationScale, byteScale} {
		require.True(t, slices.IsSorted(s.bounds))
		for i, bound := range s.bounds {
			for _, v := range []int64{bound - 1, bound, bound + 1} {
				want, _ := slices.BinarySearch(s.bounds, max(v, 0))
				require.Equal(t, want, s.bucket(v), "%d beside bound %d", v, i)
			}
		}
		require.Equal(t, 0, s.bucket(-5))
		require.Equal(t, len(s.bounds), s.bucket(1<<62))
	}
}

func TestIdleTrafficIsForgottenAndComesBack(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	m := NewMetrics(MetricsOptions{Idle: time.Minute, Now: func() time.Time { return now }})
	h := m.Requests(outbound)
	h.Record(Outcome{Code: 200})
	require.NotEmpty(t, m.AppendText(nil))
	now = now.Add(2 * time.Minute)
	require.NotEmpty(t, m.AppendText(nil), "announced")
	require.Empty(t, m.AppendText(nil), "forgotten")

	h.Record(Outcome{Code: 200})
	count := func() float64 {
		return parse(t, m.AppendText(nil))["istio_requests_total"].GetMetric()[0].GetCounter().GetValue()
	}
	require.Equal(t, 2.0, count(), "a counter goes on where it was")

	now = now.Add(2 * time.Minute)
	m.AppendText(nil)
	h.Record(Outcome{Code: 200})
	now = now.Add(2 * time.Minute)
	require.Equal(t, 3.0, count(), "a request between the announcement and the end keeps it")

	m.AppendText(nil)
	now = now.Add(2 * time.Minute)
	m.AppendText(nil)
	m.AppendText(nil)
	require.Empty(t, m.AppendText(nil))
	m.Requests(outbound).Record(Outcome{Code: 200})
	require.Equal(t, 4.0, count(), "whoever asks anew shares the memory of those who still hold a handle")
	h.Record(Outcome{Code: 200})
	require.Equal(t, 5.0, count())
	runtime.KeepAlive(h)
}

func TestKindsAreBounded(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{})
	for i := range maxKinds + 10 {
		traffic := outbound
		traffic.Host = fmt.Sprintf("host-%d", i)
		m.Requests(traffic).Record(Outcome{Code: 200})
	}
	require.Len(t, m.kinds, maxKinds)
	require.EqualValues(t, 10, m.rest.events())
	h := m.Requests(outbound)
	for flags := range uint32(maxOutcomes + 10) {
		h.Record(Outcome{Code: 200, Flags: flags})
	}
	require.EqualValues(t, maxOutcomes+20, m.rest.events(), "none is lost")
}

func TestRecordingIsExactUnderConcurrency(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{FlagText: flagText})
	const workers, each = 8, 2000
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				m.Requests(outbound).Record(Outcome{Code: 200 + i%5, Flags: uint32(w % 3), Duration: time.Duration(i) * time.Microsecond, ResponseBytes: 1})
				if i%500 == 0 {
					m.AppendText(nil)
				}
			}
		})
	}
	group.Wait()
	families := parse(t, m.AppendText(nil))
	var total, bytes float64
	for _, s := range families["istio_requests_total"].GetMetric() {
		total += s.GetCounter().GetValue()
	}
	for _, s := range families["istio_response_bytes"].GetMetric() {
		bytes += s.GetHistogram().GetSampleSum()
	}
	require.Equal(t, float64(workers*each), total)
	require.Equal(t, float64(workers*each), bytes)
	require.Len(t, families["istio_requests_total"].GetMetric(), 15)
}

func TestCounters(t *testing.T) {
	t.Parallel()
	var c Counters
	require.Empty(t, c.AppendText(nil))
	c.Counter("downstream_cx_total").Inc()
	rejected := c.Counter("downstream_rejected_total", "reason", `bare"LF`)
	rejected.Add(2)
	require.Same(t, rejected, c.Counter("downstream_rejected_total", "reason", `bare"LF`))
	c.Counter("downstream_rejected_total", "reason", "a").Inc()
	c.Gauge(func() float64 { return 1.5 }, "pool_idle", "host", "api", "state", "x")
	text := c.AppendText(nil)
	require.Equal(t, `# TYPE meshtest_sidecar_downstream_cx_total counter
meshtest_sidecar_downstream_cx_total 1
# TYPE meshtest_sidecar_downstream_rejected_total counter
meshtest_sidecar_downstream_rejected_total{reason="a"} 1
meshtest_sidecar_downstream_rejected_total{reason="bare\"LF"} 2
# TYPE meshtest_sidecar_pool_idle gauge
meshtest_sidecar_pool_idle{host="api",state="x"} 1.5
`, string(text))
	require.Len(t, parse(t, text), 3)
	require.EqualValues(t, 2, rejected.Value())
	require.True(t, strings.HasPrefix(ContentType, "text/plain; version=0.0.4"))
}
