package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// served is a ServiceEntry of a service of the mesh, which a rate limit can be for.
func served(name, address string) string {
	_, port, _ := strings.Cut(address, ":")
	return `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ` + name + `}
spec:
  hosts: [` + name + `.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: ` + port + `}}]
---
`
}

// limited is a limit of a service: so many requests, and then none for an hour.
func limited(name, requests string) string {
	return `apiVersion: meshtest.dev/v1
kind: RateLimitPolicy
metadata: {name: ` + name + `}
spec:
  targetRefs: [{kind: Service, name: ` + name + `}]
  rateLimits: [{name: all, requests: ` + requests + `, per: 1h}]
---
`
}

// statuses are those of requests for a path of a host, one after the other.
func (a *alonely) statuses(host, path string, requests int) (out []int) {
	a.t.Helper()
	for range requests {
		out = append(out, a.asked(host, path).StatusCode)
	}
	return out
}

// A limit is for the requests that are routed to its own service, however they came and whatever else the sidecar leads to; its name may be another service's too.
func TestAloneLimitsEachServiceByItself(t *testing.T) {
	t.Parallel()
	origin := saying(t, "hello")
	rules := served("a", origin) + served("b", origin) + served("free", origin) + limited("a", "2") + limited("b", "3")
	moved := `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: free}
spec:
  hosts: [free]
  http:
  - {match: [{uri: {prefix: /a}}], route: [{destination: {host: a}}]}
  - {match: [{uri: {prefix: /moved}}], redirect: {uri: /}}
  - {route: [{destination: {host: free}}]}
---
`
	byAuthority := newAlone(t, rules+"---\n"+moved)
	require.Equal(t, []int{200, 200, 200, 200}, byAuthority.statuses("free", "/", 4))
	require.Equal(t, []int{200, 200, 429}, byAuthority.statuses("a", "/", 3))
	require.Equal(t, []int{429}, byAuthority.statuses("A.default:80", "/", 1), "another name of the same")
	require.Equal(t, []int{200, 200, 200, 429}, byAuthority.statuses("b", "/", 4))
	require.Equal(t, []int{429}, byAuthority.statuses("free", "/a", 1), "another host's requests that are routed there")
	require.Equal(t, []int{200}, byAuthority.statuses("free", "/", 1))
	byAuthority.tells(`ratelimit_refused_total{limit="a/all"} 3` + "\n")

	one := newAlone(t, rules+"---\n"+moved, "--host", "free")
	require.Equal(t, []int{200, 200, 200, 200}, one.statuses("whoever", "/", 4))
	require.Equal(t, []int{301, 301, 301}, one.statuses("whoever", "/moved", 3), "what is answered here is routed nowhere")
	require.Equal(t, []int{200, 200, 429}, one.statuses("whoever", "/a", 3))
	one.tells(`ratelimit_refused_total{limit="a/all"} 1` + "\n")
}

// At a gateway a limit is no limit of its other services, and what nobody takes costs nobody a token.
func TestAloneLimitsEachServiceOfAGateway(t *testing.T) {
	t.Parallel()
	origin := saying(t, "hello")
	front := newAlone(t, gatewayOf("{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}", "a.example.com", "b.example.com", "free.example.com")+
		served("a", origin)+served("b", origin)+served("free", origin)+limited("a", "2")+limited("b", "1"))
	require.Equal(t, []int{404, 404, 404, 404}, front.statuses("nobody.example.com", "/", 4))
	require.Equal(t, []int{200, 200, 200, 200}, front.statuses("free.example.com", "/", 4))
	require.Equal(t, []int{200, 200, 429}, front.statuses("a.example.com", "/", 3))
	require.Equal(t, []int{200, 429}, front.statuses("b.example.com", "/", 2))
	require.Equal(t, []int{200}, front.statuses("free.example.com", "/", 1))
	front.tells(`ratelimit_allowed_total{limit="a/all"} 2` + "\n")
	front.tells(`ratelimit_refused_total{limit="b/all"} 1` + "\n")
}
