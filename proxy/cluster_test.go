package proxy

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// pools are the addresses that there are connections to, or were.
func (r *rig) pools() (addresses []string) {
	var told Clusters
	require.NoError(r.t, json.Unmarshal([]byte(r.page("/clusters")), &told))
	for _, p := range told.Pools {
		addresses = append(addresses, p.Address)
	}
	return addresses
}

func (r *rig) knows(host string) bool { return r.srv.pools.Knows(mesh.HostPort(host, 80)) }

// Of destinations that nobody asks nothing is made, whatever changes; those that are asked go on as they are.
func TestDestinationsAreMadeForTheFirstRequest(t *testing.T) {
	t.Parallel()
	o, idle := newOrigin(t, answering(200, "ok")), newOrigin(t, answering(200, "idle"))
	r := newRig(t, nil)
	asked, unasked := r.service("asked", mesh.HTTP, map[string][]string{"v1": {o.address}}), r.service("unasked", mesh.HTTP, map[string][]string{"v1": {idle.address}})
	at := r.outbound(asked, mesh.HTTP)
	r.apply()
	require.Empty(t, r.pools())
	require.False(t, r.knows(asked))
	c := call(t, at)
	c.get("/")
	require.Equal(t, []string{o.address}, r.pools())

	r.routes(unasked, split(unasked, "v1"))
	r.apply()
	require.Equal(t, []string{o.address}, r.pools())
	same := *r.snapshot.Services[asked]
	r.snapshot.Services[asked] = &same // whose group is made anew, and at once
	r.apply()
	require.True(t, r.knows(asked))
	require.False(t, r.knows(unasked))
	c.get("/")
	require.Equal(t, 1, o.connections())
}

// Policies that act before there is a request do.
func TestDestinationsThatActAreMadeAtOnce(t *testing.T) {
	t.Parallel()
	check := &mesh.HealthCheck{TCP: true, Interval: time.Hour, Timeout: patience, UnhealthyThreshold: 1, HealthyThreshold: 1}
	for name, policy := range map[string]mesh.TrafficPolicy{
		"health checks": {HealthCheck: check}, "outlier detection": {Outlier: &mesh.OutlierDetection{}}, "slow start": {Warmup: &mesh.Warmup{Duration: time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, answering(200, "ok"))
			r := newRig(t, nil)
			host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
			r.snapshot.Services[host].Traffic = policy
			r.apply()
			require.True(t, r.knows(host))
		})
	}
}

// Mistakes of a policy refuse the update, not the first request.
func TestPoliciesThatAreWrongAreRefused(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]mesh.TrafficPolicy{
		"balancer": {Balancer: "DICE"}, "TLS": {TLS: &mesh.ClientTLS{Mode: "MAYBE"}}, "health check": {HealthCheck: &mesh.HealthCheck{}},
		"hash": {Balancer: mesh.Maglev, Hash: &mesh.HashPolicy{Header: "a", TableSize: 4}}, "slow start": {Warmup: &mesh.Warmup{Duration: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {"127.0.0.1:1"}})
			r.snapshot.Services[host].Traffic = policy
			require.Error(t, r.tryApply())
			require.False(t, r.knows(host))
		})
	}
}

// Whom nobody has asked is in use all the same, so a health check that comes later does not take him out of use before it knows better.
func TestUnaskedDestinationsStayInUseWithTheirFirstCheck(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(k *talk) {
		for req, _ := k.request(); req != nil; req, _ = k.request() {
			if req.URL.Path != "/healthz" { // which is never answered
				k.say(answer(200, "ok"))
			}
		}
	})
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	checked := *r.snapshot.Services[host]
	checked.Traffic.HealthCheck = &mesh.HealthCheck{HTTP: &mesh.HTTPCheck{Path: "/healthz"}, Interval: time.Hour, Timeout: time.Hour, UnhealthyThreshold: 1, HealthyThreshold: 1}
	r.snapshot.Services[host] = &checked
	r.apply()
	resp, _ := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
}

func TestFirstRequestsAgreeOnTheDestination(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {"127.0.0.1:1"}})
	r.routes(host, split(host, "v1"))
	r.apply()
	cfg := r.srv.config.Load()
	arm := &cfg.router.Table(host, 80).Rules[0].Arms[0]
	var first sync.WaitGroup
	found := make([]*destination, 16)
	for i := range found {
		first.Go(func() { found[i] = r.srv.destination(cfg, arm) })
	}
	first.Wait()
	for _, d := range found {
		require.Same(t, found[0], d)
	}
	require.NotNil(t, found[0].group)
}

// A request that began on a configuration which is not in force any more is carried, and nothing of it is kept after the next change.
func TestFirstRequestOfADestinationThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {"127.0.0.1:1"}})
	r.routes(host, split(host, "v1"))
	r.apply()
	before := r.srv.config.Load()
	require.NoError(t, r.srv.Replace(mesh.NewSnapshot(), mesh.Generation{Epoch: 1, Counter: 2}))
	d := r.srv.destination(before, &before.router.Table(host, 80).Rules[0].Arms[0])
	require.Len(t, d.group.Endpoints, 1)
	require.Empty(t, r.srv.pools.Health())
	require.NoError(t, r.srv.Replace(mesh.NewSnapshot(), mesh.Generation{Epoch: 1, Counter: 3}))
	require.False(t, r.knows(host))
	require.Empty(t, r.pools())
}
