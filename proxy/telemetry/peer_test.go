package telemetry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

func TestPeerInAHeader(t *testing.T) {
	t.Parallel()
	full := Peer{
		Workload: "web-v1", Namespace: "default", App: "web", Version: "v1", CanonicalService: "the_web", CanonicalRevision: "latest", Cluster: "east.1",
	}
	for name, c := range map[string]struct {
		peer Peer
		want string
		back Peer
	}{
		"nobody":     {Peer{}, "1;;;;;;;", Peer{}},
		"workload":   {web, "1;web-v1;default;web;v1;web;v1;", web},
		"everything": {full, "1;web-v1;default;web;v1;the_web;latest;east.1", full},
		"a principal has to be proven": {
			Peer{Workload: "w", Principal: "spiffe://cluster.local/ns/default/sa/w"}, "1;w;;;;;;", Peer{Workload: "w"},
		},
		"what is not plain": {Peer{App: "a b;c%/é"}, "1;;;a%20b%3Bc%25%2F%C3%A9;;;;", Peer{App: "a b;c%/é"}},
		"what is no text":   {Peer{App: "a\xff\x00\r\n\u0085b"}, "1;;;ab;;;;", Peer{App: "ab"}},
		"too long":          {Peer{App: strings.Repeat("x", 300)}, "1;;;" + strings.Repeat("x", 253) + ";;;;", Peer{App: strings.Repeat("x", 253)}},
		"cut between characters": {
			Peer{App: strings.Repeat("x", 250) + "é"}, "1;;;" + strings.Repeat("x", 250) + ";;;;", Peer{App: strings.Repeat("x", 250)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value := AppendPeer([]byte("x"), c.peer)[1:]
			require.Equal(t, c.want, string(value))
			back, err := ParsePeer(value)
			require.NoError(t, err)
			require.Equal(t, c.back, back)
		})
	}
}

func TestTheLongestPeerFits(t *testing.T) {
	t.Parallel()
	var p Peer
	for _, f := range p.fields() {
		*f = strings.Repeat("x", 1000)
	}
	value := AppendPeer(nil, p)
	require.Len(t, value, MaxPeer)
	_, err := ParsePeer(value)
	require.NoError(t, err)
}

func TestWhatIsNoPeer(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", "1", "2;;;;;;;", ";;;;;;;", "1;;;;;;", "1;;;;;;;;", "1;;;;;;; ", " 1;;;;;;;", "1;a b;;;;;;", "1;%;;;;;;", "1;%2;;;;;;", "1;%2f;;;;;;", "1;%61;;;;;;",
		"1;%FF;;;;;;", "1;%00;;;;;;", "1;%C2%85;;;;;;", "1;%EF%BF%BD;;;;;;", "1;%ED%A0%80;;;;;;", "1;" + strings.Repeat("a", 254) + ";;;;;;", "1;é;;;;;;", "1;\x00;;;;;;", strings.Repeat("1;", 4000),
	} {
		_, err := ParsePeer([]byte(value))
		require.ErrorIs(t, err, errPeer, "%q", value)
	}
}

func FuzzParsePeer(f *testing.F) {
	f.Add([]byte("1;web-v1;default;web;v1;web;v1;east"))
	f.Add([]byte("1;;;a%20b%3Bc%25%2F%C3%A9;;;;"))
	f.Add([]byte("1;%FF;;;;;;"))
	f.Fuzz(func(t *testing.T, value []byte) {
		p, err := ParsePeer(value)
		if err != nil {
			require.Zero(t, p)
			return
		}
		require.Equal(t, string(value), string(AppendPeer(nil, p)), "there is one encoding of a peer")
	})
}

func FuzzAppendPeer(f *testing.F) {
	f.Add("web-v1", "default", "a b;é\xff")
	f.Fuzz(func(t *testing.T, workload, namespace, app string) {
		value := AppendPeer(nil, Peer{Workload: workload, Namespace: namespace, App: app})
		p, err := ParsePeer(value)
		require.NoError(t, err)
		require.Equal(t, string(value), string(AppendPeer(nil, p)))
	})
}

var inbound = Traffic{Reporter: Destination, Destination: api, Host: "api.prod.svc.cluster.local", Security: Plaintext}

func TestReceiverTellsSendersApart(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{})
	r := m.Receiver(inbound)
	var one, other PeerCache
	said := AppendPeer(nil, web)
	one.Requests(r, "", said).Record(Outcome{Code: 200})
	other.Requests(r, "", said).Record(Outcome{Code: 200})
	require.Same(t, one.last, other.last, "connections share what they know")
	clear(said) // it was only read
	one.Requests(r, "spiffe://c/ns/default/sa/web", AppendPeer(nil, web)).Record(Outcome{Code: 200})
	one.Requests(r, "", nil).Record(Outcome{Code: 200})
	one.Requests(r, "", []byte("who?")).Record(Outcome{Code: 200})
	one.Requests(r, "", []byte(strings.Repeat("x", 2*MaxPeer))).Record(Outcome{Code: 200})

	counts := map[string]float64{}
	for _, s := range parse(t, m.AppendText(nil))["istio_requests_total"].GetMetric() {
		l := labelsOf(s)
		require.Equal(t, "destination", l["reporter"])
		require.Equal(t, "api-v2", l["destination_workload"])
		require.Equal(t, "none", l["connection_security_policy"])
		counts[l["source_workload"]+" "+l["source_app"]+" "+l["source_principal"]] = s.GetCounter().GetValue()
	}
	require.Equal(t, map[string]float64{"web-v1 web unknown": 2, "web-v1 web spiffe://c/ns/default/sa/web": 1, "unknown unknown unknown": 3}, counts)
}

func TestPeerCacheFollowsReceiverAndProtocol(t *testing.T) {
	t.Parallel()
	m := NewMetrics(MetricsOptions{})
	calls := inbound
	calls.Protocol = ProtocolGRPC
	http, grpc := m.Receiver(inbound), m.Receiver(calls)
	var c PeerCache
	value := AppendPeer(nil, web)
	for range 2 {
		c.Requests(http, "", value).Record(Outcome{Code: 200})
		c.Requests(grpc, "", value).Record(Outcome{Code: 200, GRPCStatus: 0})
	}
	got := map[string]float64{}
	for _, s := range parse(t, m.AppendText(nil))["istio_requests_total"].GetMetric() {
		got[labelsOf(s)["request_protocol"]] = s.GetCounter().GetValue()
	}
	require.Equal(t, map[string]float64{"http": 2, "grpc": 2}, got)

	calls.Protocol = ProtocolTCP
	tcp := m.Receiver(calls)
	c.Connections(tcp, "spiffe://c/ns/default/sa/web", nil).Opened()
	labels := labelsOf(parse(t, m.AppendText(nil))["istio_tcp_connections_opened_total"].GetMetric()[0])
	require.Equal(t, "tcp", labels["request_protocol"])
	require.Equal(t, "spiffe://c/ns/default/sa/web", labels["source_principal"])
}

func TestReceiverIsBounded(t *testing.T) {
	t.Parallel()
	r := NewMetrics(MetricsOptions{}).Receiver(inbound)
	var c PeerCache
	for i := range maxCallers + 10 {
		value := AppendPeer(nil, Peer{Workload: fmt.Sprint("w-", i)})
		c.Requests(r, "", value).Record(Outcome{Code: 200})
		kept := c.last
		c.Requests(r, "", value)
		require.Same(t, kept, c.last)
	}
	require.Len(t, r.callers, maxCallers)
}

func TestPeerCacheAllocatesNothing(t *testing.T) {
	r := NewMetrics(MetricsOptions{}).Receiver(inbound)
	one, two := AppendPeer(nil, web), AppendPeer(nil, PeerOf(mesh.Workload{Name: "cron-v1"}))
	var c PeerCache
	o := Outcome{Code: 200}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		c.Requests(r, "", one).Record(o)
		c.Requests(r, "", one).Record(o)
		c.Requests(r, "", two).Record(o)
	}))
	b := make([]byte, 0, MaxPeer)
	require.Zero(t, testing.AllocsPerRun(100, func() { b = AppendPeer(b[:0], web) }))
}
