package telemetry

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// framed is a body of gRPC with messages of those sizes.
func framed(sizes ...int) []byte {
	var b []byte
	for _, n := range sizes {
		b = append(b, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		b = append(b, bytes.Repeat([]byte{0xff}, n)...)
	}
	return b
}

func TestGRPCMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body []byte
		want uint64
	}{
		"nothing":       {nil, 0},
		"an empty one":  {framed(0), 1},
		"several":       {framed(3, 0, 0, 700, 1), 5},
		"cut in prefix": {framed(3, 3)[:9], 2},
		"cut in body":   {framed(3, 300)[:20], 2},
		"a huge length": {[]byte{0, 0xff, 0xff, 0xff, 0xff, 1, 2}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, window := range []int{1, 2, 3, 5, 7, 1 << 20} {
				var g GRPCMessages
				for rest := c.body; len(rest) > 0; rest = rest[min(window, len(rest)):] {
					g.Scan(rest[:min(window, len(rest))])
				}
				require.Equal(t, c.want, g.Count(), "in windows of %d", window)
			}
		})
	}
}

func FuzzGRPCMessages(f *testing.F) {
	f.Add(framed(3, 0, 700), uint16(4))
	f.Add([]byte{1, 0, 0, 0, 2, 1}, uint16(1))
	f.Fuzz(func(t *testing.T, body []byte, cut uint16) {
		var want uint64
		for rest := body; len(rest) > 0; want++ {
			if len(rest) < grpcPrefix {
				want++
				break
			}
			n := uint64(binary.BigEndian.Uint32(rest[1:]))
			rest = rest[min(uint64(len(rest)), grpcPrefix+n):]
		}
		var g GRPCMessages
		at := int(cut) % (len(body) + 1)
		g.Scan(body[:at])
		g.Scan(body[at:])
		require.Equal(t, want, g.Count())
	})
}

func TestMessagesHaveTheLabelsOfTheEnds(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{})
	one := inbound
	one.Protocol, one.Source = ProtocolGRPC, web
	other := one
	other.Security = MutualTLS
	m.Requests(one).Messages(3, 4)
	h := m.Requests(other)
	h.Messages(0, 0)
	require.Len(t, parse(t, m.AppendText(nil))["istio_request_messages_total"].GetMetric(), 1)
	h.Messages(10, 0)
	h.Messages(0, 20)
	families := parse(t, m.AppendText(nil))
	request, response := families["istio_request_messages_total"].GetMetric(), families["istio_response_messages_total"].GetMetric()
	require.Len(t, request, 1, "kinds that differ in other labels add up")
	require.Equal(t, 13.0, request[0].GetCounter().GetValue())
	require.Equal(t, 24.0, response[0].GetCounter().GetValue())
	require.Equal(t, map[string]string{
		"reporter":        "destination",
		"source_workload": "web-v1", "source_canonical_service": "web", "source_canonical_revision": "v1", "source_workload_namespace": "default",
		"source_principal": "unknown", "source_app": "web", "source_version": "v1", "source_cluster": "unknown",
		"destination_workload": "api-v2", "destination_workload_namespace": "prod", "destination_principal": "unknown", "destination_app": "api",
		"destination_version": "v2", "destination_service": "api.prod.svc.cluster.local", "destination_canonical_service": "the-api",
		"destination_canonical_revision": "v2", "destination_service_name": "api", "destination_service_namespace": "prod", "destination_cluster": "east",
	}, labelsOf(request[0]), "as istio/proxy's testdata/metric/server_request_messages.yaml.tmpl has them")
}

func TestCountingMessagesAllocatesNothing(t *testing.T) {
	traffic := inbound
	traffic.Protocol = ProtocolGRPC
	h, body := NewMetrics(MetricsOptions{}).Requests(traffic), framed(10, 20, 0)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		var g GRPCMessages
		g.Scan(body)
		h.Messages(g.Count(), 1)
	}))
}
