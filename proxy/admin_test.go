package proxy

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket/certtest"
)

func TestAdmin(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, "ok"), nil)
	call(t, at).get("/")
	r.evidenceOf(1)
	level := &slog.LevelVar{}
	admin := r.srv.Admin(level)
	ask := func(method, path string) (int, string) {
		rec := httptest.NewRecorder()
		admin.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		return rec.Code, rec.Body.String()
	}
	code, body := ask(http.MethodGet, "/ready")
	require.Equal(t, 200, code)
	require.Equal(t, "ready 1.1\n", body)
	_, body = ask(http.MethodGet, "/metrics")
	for _, want := range []string{"istio_requests_total{", "meshtest_sidecar_connections 1\n", "process_cpu_seconds_total ", "go_goroutines "} {
		require.Contains(t, body, want)
	}
	_, body = ask(http.MethodGet, "/config_dump")
	var dump Dump
	require.NoError(t, json.Unmarshal([]byte(body), &dump))
	require.Equal(t, r.srv.Generation(), dump.Generation)
	require.Contains(t, dump.Snapshot.Services, mesh.FQDN("backend", mesh.DefaultNamespace))
	_, body = ask(http.MethodGet, "/clusters")
	var clusters Clusters
	require.NoError(t, json.Unmarshal([]byte(body), &clusters))
	require.Equal(t, o.address, clusters.Pools[0].Address)
	require.EqualValues(t, 1, clusters.Pools[0].Idle)
	code, _ = ask(http.MethodPost, "/logging?level=loud")
	require.Equal(t, 400, code)
	code, body = ask(http.MethodPost, "/logging?level=debug")
	require.Equal(t, 200, code)
	require.Equal(t, "DEBUG\n", body)
	require.Equal(t, slog.LevelDebug, level.Level())
	code, _ = ask(http.MethodGet, "/nothing")
	require.Equal(t, 404, code)
	code, index := ask(http.MethodGet, "/")
	require.Equal(t, 200, code)
	lines := strings.Split(strings.TrimSpace(index), "\n")
	require.Len(t, lines, 8)
	for _, line := range lines {
		words := strings.Fields(line)
		require.Greater(t, len(words), 2, "what the answer says")
		code, _ = ask(words[0], words[1]+"?level=info")
		require.Equal(t, 200, code, line)
	}

	r.stop()
	<-r.done
	code, _ = ask(http.MethodGet, "/ready")
	require.Equal(t, 503, code)
}

// What is told of the configuration has no private keys in it.
func TestConfigDumpHidesKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {"127.0.0.1:1"}})
	shown := certtest.NewAuthority(t).Issue(t, "backend")
	svc := r.snapshot.Services[host]
	svc.Ports[0].TLS = &mesh.ServerTLS{Mode: mesh.SimpleTLS, Certificates: []mesh.Certificate{{Chain: shown.Chain, PrivateKey: shown.Key}}}
	policy := mesh.TrafficPolicy{TLS: &mesh.ClientTLS{Mode: mesh.MutualTLS, Roots: shown.Chain, Chain: shown.Chain, PrivateKey: shown.Key}}
	svc.Traffic = policy
	svc.Subsets[0].Traffic = &policy
	r.apply()
	text, err := json.Marshal(r.srv.dump())
	require.NoError(t, err)
	require.Contains(t, string(text), "BEGIN CERTIFICATE")
	require.NotContains(t, string(text), "PRIVATE KEY")
	require.Equal(t, shown.Key, r.srv.config.Load().snapshot.Services[host].Traffic.TLS.PrivateKey, "which are still there")
}
