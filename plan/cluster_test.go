package plan_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

const cluster = "testdata/cluster.yaml"

// What only a cluster can do is refused elsewhere, each thing at its place.
func TestDisruptionsNeedTheirCapabilities(t *testing.T) {
	t.Parallel()
	local := capability.Of(capability.Fixture, capability.Command, capability.HTTP, capability.PrivilegedPorts, capability.FaultDelay)
	_, diags := plan.New(load(t, cluster), plan.Options{Capabilities: local})
	var refused []string
	for _, d := range diags {
		require.Equal(t, "MT1401", d.Code)
		require.NotZero(t, d.Line)
		refused = append(refused, d.Path)
	}
	require.Equal(t, []string{
		"services.cart.versions.v2.run", "services.cart.versions.v2.run", // the first that needs it
		"faults[0].podKill", "faults[2].nodeDrain", "faults[3].controlKill", "faults[4].scale",
	}, refused)
}

func TestWhatRunsInKindRunsInAnyCluster(t *testing.T) {
	t.Parallel()
	p, diags := plan.New(load(t, cluster), plan.Options{Environment: spec.EnvKubernetes})
	require.Empty(t, diags)
	require.Equal(t, spec.EnvKubernetes, p.Environment)
	_, diags = plan.New(load(t, cluster), plan.Options{Environment: spec.EnvLocal})
	require.Equal(t, "MT1404", diags[0].Code)
}

func TestDisruptionsOfAPlan(t *testing.T) {
	t.Parallel()
	p := planOf(t, cluster)
	require.Len(t, p.Faults, 1)
	require.Len(t, p.Disruptions, 4)
	killed, drained, headless, fewer := p.Disruptions[0], p.Disruptions[1], p.Disruptions[2], p.Disruptions[3]
	require.Equal(t, plan.Window{Start: 5 * time.Second, End: 10 * time.Second}, killed.Window)
	require.Equal(t, []any{spec.FaultPodKill, "page", 1, 2 * time.Second}, []any{killed.Kind, killed.Service, killed.Count, killed.Grace})
	require.Equal(t, 1, killed.Reach.Instances)
	require.Equal(t, 2, killed.Reach.Of)
	require.InDelta(t, (.75*40+20)/70./2, killed.Reach.Share, 1e-9, "half of what passes page")
	require.Equal(t, plan.Reach{Instances: 2, Of: 2, Share: drained.Reach.Share}, drained.Reach, "one node may carry both")
	require.Zero(t, headless.Reach)
	require.Equal(t, 1, *fewer.Replicas)
	require.Equal(t, 1, fewer.Reach.Instances)
}

// Load that enters through a gateway goes where the gateway's rules send it.
func TestLoadThroughAGateway(t *testing.T) {
	t.Parallel()
	p := planOf(t, cluster)
	require.Equal(t, []plan.Edge{
		{Edge: mesh.Edge{From: "edge", To: "cart.shop"}, Streams: []string{"outside", "inside"}},
		{Edge: mesh.Edge{From: "edge", To: "page.shop"}, Streams: []string{"outside", "readers"}},
		{Edge: mesh.Edge{From: "page.shop", To: "cart.shop"}, Streams: []string{"outside", "readers"}},
	}, p.Edges)
	stream := p.Streams[0]
	require.Equal(t, []any{"public.shop.gateway", 8080, "shop.example.com"}, []any{stream.Host, stream.Port, stream.Authority})
	require.Equal(t, "cart.shop:9080", p.Streams[2].Authority)
	edge := p.Snapshot.Inbound[plan.EdgeInstance]
	require.Contains(t, edge.Outbound, mesh.OutboundPort{Host: stream.Host, Port: stream.Port, Protocol: mesh.HTTP})
	require.Len(t, edge.Outbound, 2, "nobody asks for page directly")
	require.Equal(t, mesh.DefaultNamespace, edge.Workload.Namespace, "evidence calls it edge in every namespace")
}

func TestGatewaysThatAreNotThere(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"load[0].gateway=publik": `--set load[0].gateway=publik: MT1305 load[0].gateway: the rules have no Gateway "publik"`,
		"load[0].port=81":        `--set load[0].port=81: MT1305 load[0].port: the Gateway public has no port 81`,
	} {
		_, diags := plan.New(load(t, cluster, set), plan.Options{})
		require.Len(t, diags, 1)
		require.Equal(t, want, diags[0].String())
		require.NotEmpty(t, diags[0].Hint)
	}
}

// The roll-out owns the table of its service, and a gateway has its own.
func TestARolloutCannotSplitWhatAGatewaySends(t *testing.T) {
	t.Parallel()
	sets := []string{"rollout.service=cart", "rollout.stable=v1", "rollout.canary=v2", "rollout.from=edge"}
	s := load(t, "testdata/cluster-rollout/judged.yaml", sets...)
	_, diags := plan.New(s, plan.Options{})
	require.Len(t, diags, 1)
	require.Equal(t, "MT1406", diags[0].Code)
	require.Contains(t, diags[0].Message, "load outside comes to cart through a gateway")
	p, diags := plan.New(load(t, "testdata/cluster-rollout/judged.yaml", append(sets[:3:3], "rollout.from=page")...), plan.Options{})
	require.NoError(t, diags.Err())
	require.Equal(t, mesh.Edge{From: "page.shop", To: "cart.shop"}, p.Rollout.Edge)
}

func TestDisruptionsThatDoNothing(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"faults[0].podKill.count=3":     "MT1512 faults[0].podKill.count",
		"faults[2].window.start=30s":    "MT1510 faults[2].window",
		"faults[4].scale.replicas=2":    "MT1512 faults[4].scale.replicas",
		"faults[1].window.start=25s":    "MT1510 faults[1].window",
		"faults[1].delay.fixedDelay=1h": "MT1508 faults[1].delay.fixedDelay",
	} {
		var codes []string
		for _, w := range planOf(t, cluster, set).Warnings {
			codes = append(codes, w.Code+" "+w.Path)
		}
		require.Contains(t, codes, want, set)
	}
}
