package main

import (
	"net/http"
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

// statuses are those of requests for a host, one after the other.
func (a *alonely) statuses(host string, requests int) (out []int) {
	a.t.Helper()
	for range requests {
		req, err := http.NewRequest("GET", "http://"+a.address+"/", nil)
		require.NoError(a.t, err)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		require.NoError(a.t, err)
		require.NoError(a.t, resp.Body.Close())
		out = append(out, resp.StatusCode)
	}
	return out
}

// A limit is for the requests to its own service, whatever else the sidecar leads to, and its name may be another service's too.
func TestAloneLimitsEachServiceByItself(t *testing.T) {
	t.Parallel()
	origin := saying(t, "hello")
	rules := served("a", origin) + served("b", origin) + served("free", origin) + limited("a", "2") + limited("b", "3")

	byAuthority := newAlone(t, rules)
	require.Equal(t, []int{200, 200, 200, 200}, byAuthority.statuses("free", 4))
	require.Equal(t, []int{200, 200, 429}, byAuthority.statuses("a", 3))
	require.Equal(t, []int{429}, byAuthority.statuses("A.default:80", 1), "another name of the same")
	require.Equal(t, []int{200, 200, 200, 429}, byAuthority.statuses("b", 4))
	byAuthority.tells(`ratelimit_refused_total{limit="a/all"} 2` + "\n")

	one := newAlone(t, rules, "--host", "b")
	require.Equal(t, []int{200, 200, 200, 429}, one.statuses("whoever", 4))
	one.tells(`ratelimit_refused_total{limit="all"} 1` + "\n")
}
