package discovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// outsideWorld has a service of the mesh, and two of which nobody has a sidecar.
func outsideWorld() State {
	web := newPod("web-1", "web", "v1", "10.0.0.1")
	clock := newPod("clock-1", "clock", "", "10.0.0.2", withoutSidecar)
	tracker := newPod("tracker-1", "tracker", "", "10.0.0.3", withoutSidecar)
	return state(web, clock, tracker, newService("web", 80), newService("clock", 8090), newService("tracker", 8090), newService("nobody", 80),
		newSlice("web", 8080, web), newSlice("clock", 8080, clock), newSlice("tracker", 8080, tracker))
}

// saidInstance is what the owner says of an instance of web.
func saidInstance(unknown mesh.Unknown, limits ...mesh.RateLimit) *mesh.Inbound {
	return &mesh.Inbound{Workload: mesh.Workload{Name: "web-v1", Service: "web", Namespace: logical, Instance: "web-v1-1"}, Unknown: unknown, Limits: limits}
}

func external(s *mesh.Service) *mesh.Service {
	s.External = true
	return s
}

func TestOutsideIsClosedUnlessTheOwnerNamesIt(t *testing.T) {
	t.Parallel()
	clock := external(saidService("clock", 8090))
	got, problems := build(t, outsideWorld(), said(saidInstance(mesh.RegistryOnly), saidService("web", 80), clock, &mesh.Endpoints{Host: clock.Host, Port: 8090, Endpoints: []mesh.Endpoint{{Instance: "clock-1"}}}))
	require.Empty(t, problems)
	require.Contains(t, got.Services, hostOf("web"))
	require.True(t, got.Services[hostOf("clock")].External)
	require.Equal(t, "10.0.0.2", got.Endpoints[hostOf("clock")+":8090"].Endpoints[0].Address)
	for _, closed := range []string{"tracker", "nobody"} {
		require.NotContains(t, got.Services, hostOf(closed))
	}
	require.NotContains(t, got.Endpoints, hostOf("tracker")+":8090")
	require.NotContains(t, got.Routes, hostOf("tracker")+":8090")
	require.Equal(t, mesh.RegistryOnly, got.Inbound["web-1."+real].Unknown)
}

func TestOutsideIsOpen(t *testing.T) {
	t.Parallel()
	for _, unknown := range []mesh.Unknown{"", mesh.PassThrough} {
		share := 0.5
		instance := saidInstance(unknown)
		instance.Sampling = &share
		got, problems := build(t, outsideWorld(), said(instance, saidService("web", 80)))
		require.Empty(t, problems)
		require.Contains(t, got.Routes, hostOf("tracker")+":8090")
		require.Equal(t, unknown, got.Inbound["web-1."+real].Unknown)
		require.Equal(t, &share, got.Inbound["web-1."+real].Sampling, "what the owner says of traces, too")
	}
}

// An entry's ports are those that are open, and its endpoints are whoever answers for the services that they name.
func TestEntriesOfTheOwner(t *testing.T) {
	t.Parallel()
	clock := external(saidService("clock", 80))
	api := &mesh.Service{Host: "api.example.com", External: true, Resolution: mesh.DNS, Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}}
	got, problems := build(t, outsideWorld(), said(saidInstance(mesh.RegistryOnly), saidService("web", 80), clock, api,
		&mesh.Endpoints{Host: clock.Host, Port: 80, Endpoints: []mesh.Endpoint{{Address: clock.Host, Port: 8090}}},
		&mesh.Endpoints{Host: api.Host, Port: 80, Endpoints: []mesh.Endpoint{{Address: clock.Host, Port: 8090}, {Address: "192.0.2.7", Port: 81}, {Address: "a.example.com", Port: 82}}}))
	require.Empty(t, problems)
	require.Equal(t, []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}, got.Services[clock.Host].Ports)
	require.NotContains(t, got.Endpoints, clock.Host+":8090")
	require.Equal(t, "10.0.0.2", got.Endpoints[clock.Host+":80"].Endpoints[0].Address)
	require.Equal(t, api, got.Services[api.Host])
	var addresses []string
	for _, e := range got.Endpoints[api.Host+":80"].Endpoints {
		addresses = append(addresses, mesh.HostPort(e.Address, e.Port))
	}
	require.Equal(t, []string{"10.0.0.2:8080", "192.0.2.7:81", "a.example.com:82"}, addresses)
	require.NotNil(t, got.Routes[api.Host+":80"])
}

func TestLimitsAreThoseOfTheService(t *testing.T) {
	t.Parallel()
	limit := mesh.RateLimit{Name: "all", Requests: 1, Per: time.Second}
	elsewhere := saidInstance("", limit)
	elsewhere.Workload.Namespace, elsewhere.Workload.Instance = other, "x"
	world := state(newPod("web-1", "web", "v1", "10.0.0.1"), newPod("jobs-1", "jobs", "v1", "10.0.0.2"), newService("web", 80), newService("jobs", 80))
	got, _ := build(t, world, said(saidInstance("", limit), elsewhere))
	require.Equal(t, []mesh.RateLimit{limit}, got.Inbound["web-1."+real].Limits)
	require.Empty(t, got.Inbound["jobs-1."+real].Limits)
	got, _ = build(t, world, said(elsewhere))
	require.Empty(t, got.Inbound["web-1."+real].Limits)
}

// Entries that are in the cluster open what they name, too.
func TestEntriesOfTheCluster(t *testing.T) {
	t.Parallel()
	entry := newObject(t, 1, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec: {hosts: [tracker], resolution: DNS, ports: [{number: 8090, name: http, protocol: HTTP}]}`)
	api := newObject(t, 2, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example.com], resolution: STATIC, endpoints: [{address: 192.0.2.7}], ports: [{number: 80, name: http, protocol: HTTP}]}`)
	world := outsideWorld()
	world.Istio = append(world.Istio, entry, api)
	got, problems := build(t, world, said(saidInstance(mesh.RegistryOnly), saidService("web", 80)))
	require.Empty(t, problems)
	require.Equal(t, "10.0.0.3", got.Endpoints[hostOf("tracker")+":8090"].Endpoints[0].Address)
	require.NotNil(t, got.Routes[hostOf("tracker")+":8090"])
	require.Equal(t, "192.0.2.7", got.Endpoints["api.example.com:80"].Endpoints[0].Address)
	require.NotContains(t, got.Services, hostOf("clock"))
}
