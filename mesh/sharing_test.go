package mesh

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// decoded is a copy that has nothing in common with the value, nor with itself.
func decoded[T any](t *testing.T, value T) (c T) {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &c))
	return c
}

func sharedSnapshot() *Snapshot {
	s := NewSnapshot()
	exact, share := "super-secret", 0.5
	for _, name := range []string{"a", "b"} {
		host := FQDN(name, DefaultNamespace)
		s.Services[host] = &Service{
			Host: host, Ports: []Port{{Number: 80, Protocol: HTTP, TLS: &ServerTLS{Mode: SimpleTLS, Certificates: []Certificate{{Chain: "chain"}}}}},
			Subsets: []Subset{{Name: "v1", Labels: Labels{LabelVersion: "v1"}, Traffic: &TrafficPolicy{Outlier: &OutlierDetection{Interval: time.Second}}}},
		}
		s.Endpoints[HostPort(host, 80)] = &Endpoints{Host: host, Port: 80, Endpoints: []Endpoint{
			{Address: "10.0.0.1", Port: 8080, Labels: Labels{LabelApp: "x", LabelVersion: "v1"}}, {Address: "10.0.0.2", Port: 8080, Labels: Labels{LabelVersion: "v1", LabelApp: "x"}},
			{Address: "10.0.0.3", Port: 8080, Labels: Labels{LabelApp: "v1", LabelVersion: "x"}}, {Address: "10.0.0.4", Port: 8080},
		}}
		s.Routes[HostPort(host, 80)] = &RouteTable{Host: host, Port: 80, Routes: []Route{{
			Name: "r", Retry: DefaultRetry(), Direct: &DirectResponse{Status: 200, Body: []byte("body")},
			Matches: []Match{{Headers: map[string]HeaderTest{"x": {Value: &StringMatch{Exact: &exact}}}, Path: &StringMatch{Exact: &exact}}},
			Split:   []Destination{{Host: host, Port: 80, Weight: 1, Request: HeaderChange{Set: map[string]string{"x": "y"}}}},
			Mirrors: []Mirror{{Host: host, Share: share}},
		}}}
		s.Inbound[name] = &Inbound{Workload: Workload{Name: name, Labels: Labels{LabelApp: "x", LabelVersion: "v1"}}, Sampling: &share}
	}
	return s
}

func TestSharingChangesNothing(t *testing.T) {
	t.Parallel()
	s := sharedSnapshot()
	want := decoded(t, s)
	require.Equal(t, want, s.Shared())
	require.Equal(t, want, s, "nor what it was made of")
	require.Equal(t, want, s.Shared().Shared())
}

func TestSharing(t *testing.T) {
	t.Parallel()
	s := decoded(t, sharedSnapshot()).Shared()
	a, b := FQDN("a", DefaultNamespace), FQDN("b", DefaultNamespace)
	same := func(x, y any) {
		t.Helper()
		require.Equal(t, reflect.ValueOf(x).Pointer(), reflect.ValueOf(y).Pointer())
	}
	routes := func(host string) Route { return s.Routes[HostPort(host, 80)].Routes[0] }
	endpoints := s.Endpoints[HostPort(a, 80)].Endpoints
	same(endpoints[0].Labels, endpoints[1].Labels)
	same(endpoints[0].Labels, s.Endpoints[HostPort(b, 80)].Endpoints[0].Labels)
	same(endpoints[0].Labels, s.Inbound["a"].Workload.Labels)
	same(routes(a).Retry, routes(b).Retry)
	same(routes(a).Matches[0].Headers, routes(b).Matches[0].Headers)
	same(routes(a).Matches[0].Path, routes(b).Matches[0].Headers["x"].Value)
	same(s.Services[a].Subsets[0].Traffic, s.Services[b].Subsets[0].Traffic)
	same(s.Services[a].Ports[0].TLS, s.Services[b].Ports[0].TLS)
	same(unsafe.StringData(s.Services[a].Host), unsafe.StringData(routes(a).Split[0].Host))
	require.NotEqual(t, reflect.ValueOf(endpoints[0].Labels).Pointer(), reflect.ValueOf(endpoints[2].Labels).Pointer())
	require.Nil(t, endpoints[3].Labels)
}

// What differs in anything is not shared, whatever it is that differs.
func TestSharingTellsApart(t *testing.T) {
	t.Parallel()
	for name, labels := range map[string][2]Labels{
		"values": {{"a": "1"}, {"a": "2"}}, "keys": {{"a": "1"}, {"b": "1"}}, "more": {{"a": "1"}, {"a": "1", "b": "1"}}, "crossed": {{"a": "1", "b": "2"}, {"a": "2", "b": "1"}},
		"empty": {{}, nil}, "swapped": {{"a": "b"}, {"b": "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewSnapshot()
			s.Endpoints["a:80"] = &Endpoints{Host: "a", Port: 80, Endpoints: []Endpoint{{Labels: labels[0]}, {Labels: labels[1]}, {Labels: labels[0]}}}
			require.Equal(t, s, s.Shared())
		})
	}
}

// A snapshot that is shared holds nothing of the one that it was made of, but the names.
func TestSharedSnapshotsAreCopies(t *testing.T) {
	t.Parallel()
	s := decoded(t, sharedSnapshot())
	host := FQDN("a", DefaultNamespace)
	name := HostPort(host, 80)
	got := s.Shared()
	want := decoded(t, got)
	s.Endpoints[name].Endpoints[0].Labels["app"] = "changed"
	route := &s.Routes[name].Routes[0]
	route.Retry.On[0], route.Direct.Body[0], route.Split[0].Weight = "changed", 'x', 7
	*route.Matches[0].Path.Exact = "changed"
	delete(s.Services, host)
	require.Equal(t, want, got)
	for name, e := range got.Endpoints {
		require.Equal(t, unsafe.StringData(name), unsafe.StringData(e.Host))
	}
}
