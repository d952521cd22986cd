package kube

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/mesh"
)

// What no rule opens is known to nobody, and is not waited for; what a rule opens has a service before it has endpoints.
func TestWhatAConfigurationLacks(t *testing.T) {
	t.Parallel()
	shop, partner, tracker := mesh.FQDN("shop", "default"), mesh.FQDN("partner", "default"), mesh.FQDN("tracker", "default")
	m := &Mesh{applications: []application{
		{Workload: env.Workload{Host: shop, Port: 80}, replicas: 2},
		{Workload: env.Workload{Host: partner, Port: 80, External: true}, replicas: 1},
		{Workload: env.Workload{Host: tracker, Port: 80, External: true}, replicas: 1},
	}}
	s := mesh.NewSnapshot()
	s.Services[partner] = &mesh.Service{Host: partner, External: true}
	s.Endpoints[mesh.HostPort(shop, 80)] = &mesh.Endpoints{Endpoints: make([]mesh.Endpoint, 1)}
	require.EqualError(t, m.lacks(s), partner+":80 has 0 of 1 endpoints, "+shop+":80 has 1 of 2 endpoints")
	s.Endpoints[mesh.HostPort(shop, 80)].Endpoints = make([]mesh.Endpoint, 2)
	s.Endpoints[mesh.HostPort(partner, 80)] = &mesh.Endpoints{Endpoints: make([]mesh.Endpoint, 1)}
	require.NoError(t, m.lacks(s))
}
