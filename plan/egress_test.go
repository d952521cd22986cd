package plan_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

const (
	clock   = "time.default.svc.cluster.local"
	tracker = "tracker.default.svc.cluster.local"
)

// What no rule opens is not in the configuration; the listener for it is, so that it can be refused.
func TestOutsideIsClosedUnlessARuleOpensIt(t *testing.T) {
	t.Parallel()
	snap := planOf(t, "testdata/egress.yaml").Snapshot
	require.NotContains(t, snap.Services, tracker)
	require.NotContains(t, snap.Endpoints, tracker+":8091")
	require.NotContains(t, snap.Routes, tracker+":8091")
	in := snap.Inbound["web-v1-1"]
	require.Equal(t, mesh.RegistryOnly, in.Unknown)
	require.Contains(t, in.Outbound, mesh.OutboundPort{Host: tracker, Port: 8091, Protocol: mesh.HTTP})
	require.Empty(t, snap.Inbound[plan.EdgeInstance].Unknown, "nobody's application is behind the edge")

	require.True(t, snap.Services[clock].External)
	require.Equal(t, []mesh.Endpoint{{Workload: "time", Instance: "time-1", Labels: mesh.Labels{"app": "time"}}}, snap.Endpoints[clock+":8090"].Endpoints)
	byName := []mesh.Endpoint{{Address: clock, Port: 8090, Workload: "time", Instance: "time-1"}}
	require.Equal(t, byName, snap.Endpoints[clock+":80"].Endpoints)
	require.Equal(t, byName, snap.Endpoints["api.example.com:80"].Endpoints)
	require.NotNil(t, snap.Routes["api.example.com:80"].Routes[0].Retry)
	require.Nil(t, snap.Routes["api.example.com:443"].Routes[0].Retry, "connections are not repeated")
	require.Empty(t, snap.Validate())
}

func TestPortsThatNoRuleOpensAreClosed(t *testing.T) {
	t.Parallel()
	snap := planOf(t, "testdata/egress.yaml", "rules[0].spec.ports[0].number=81", "rules[0].spec.ports[0].targetPort=8090").Snapshot
	require.NotContains(t, snap.Endpoints, clock+":8090")
	require.Contains(t, snap.Endpoints, clock+":80")
	require.Empty(t, snap.Validate())
}

func TestAnythingMayBeReached(t *testing.T) {
	t.Parallel()
	snap := planOf(t, "testdata/egress.yaml", "outboundTrafficPolicy.mode=ALLOW_ANY").Snapshot
	require.Contains(t, snap.Services, tracker)
	require.Contains(t, snap.Routes, tracker+":8091")
	require.Equal(t, mesh.PassThrough, snap.Inbound["web-v1-1"].Unknown)
}

func TestPoliciesOfOursAreInTheSnapshot(t *testing.T) {
	t.Parallel()
	snap := planOf(t, "testdata/egress.yaml").Snapshot
	require.Equal(t, time.Second, snap.Services[clock].Traffic.HealthCheck.Interval)
	require.Equal(t, []mesh.RateLimit{{Name: "each", Requests: 10, Per: time.Second, Caller: true}}, snap.Inbound["web-v1-1"].Limits)

	_, diags := plan.New(load(t, "testdata/egress.yaml", "rules[3].spec.targetRefs[0].name=wob"), plan.Options{})
	require.Len(t, diags, 1)
	require.Equal(t, spec.SeverityError, diags[0].Severity)
	require.Equal(t, "MT1705", diags[0].Code)
}
