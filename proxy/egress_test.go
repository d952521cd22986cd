package proxy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// Where only what is known may be reached, the listener for an upstream that no rule opens says so.
func TestUnknownUpstreamsAreRefused(t *testing.T) {
	t.Parallel()
	for unknown, want := range map[mesh.Unknown]struct {
		status int
		reason string
	}{mesh.RegistryOnly: {502, ReasonUnknownHost}, "": {503, ReasonNoDestination}} {
		r := newRig(t, nil)
		r.inbound.Unknown = unknown
		at := r.outbound("time.default.svc.cluster.local", mesh.HTTP)
		r.apply()
		resp, _ := call(t, at).get("/")
		require.Equal(t, want.status, resp.StatusCode)
		require.Equal(t, want.reason, resp.Header.Get(mesh.HeaderReason))
	}
}

func TestUnknownUpstreamsOfTCPAreClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.inbound.Unknown = mesh.RegistryOnly
	at := r.outbound("db.example.com", mesh.TCP)
	r.apply()
	c := call(t, at)
	c.say("hello")
	c.ends()
	r.tells(`meshtest_sidecar_refused_total{reason="unknown_address"} 1`, `destination_service_name="BlackHoleCluster"`)
}

// What a rule opens is reached, and what is opened later is from then on.
func TestKnownUpstreamsAreReached(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.inbound.Unknown = mesh.RegistryOnly
	origin := newOrigin(t, answering(200, "now"))
	at := r.outbound("time.default.svc.cluster.local", mesh.HTTP)
	r.apply()
	c := call(t, at)
	resp, _ := c.get("/")
	require.Equal(t, 502, resp.StatusCode)
	host := r.service("time", mesh.HTTP, map[string][]string{"v1": {origin.address}})
	r.snapshot.Services[host].External = true
	r.apply()
	resp, body := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "now", body)
}
