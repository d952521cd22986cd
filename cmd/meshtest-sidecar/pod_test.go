package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func environment(of map[string]string) func(string) string {
	return func(name string) string { return of[name] }
}

func TestReadPod(t *testing.T) {
	t.Parallel()
	whole := map[string]string{
		"MESHTEST_RUN": "r", "MESHTEST_CONTROL": "meshtest-control.sys.svc:15012", "POD_NAME": "web-1", "POD_NAMESPACE": "shop", "MESHTEST_DRAIN": "7s", "MESHTEST_LOG_LEVEL": "warn",
	}
	p, err := readPod(environment(whole))
	require.NoError(t, err)
	require.Equal(t, pod{run: "r", control: "meshtest-control.sys.svc:15012", instance: "web-1.shop", secrets: secretsFolder, drain: 7 * time.Second, level: slog.LevelWarn}, p)
	_, err = readPod(environment(nil))
	for _, name := range []string{"MESHTEST_CONTROL", "POD_NAME", "POD_NAMESPACE"} {
		require.ErrorContains(t, err, name)
	}
	for name, value := range map[string]string{"MESHTEST_CONTROL": "nowhere", "MESHTEST_DRAIN": "soon", "MESHTEST_LOG_LEVEL": "loud"} {
		wrong := map[string]string{}
		for k, v := range whole {
			wrong[k] = v
		}
		wrong[name] = value
		_, err = readPod(environment(wrong))
		require.ErrorContains(t, err, name)
	}
	require.Equal(t, 2, command(t.Context(), []string{"pod", "now"}, io.Discard, io.Discard))
}

func TestSecretsAreReadAnew(t *testing.T) {
	t.Parallel()
	p := pod{secrets: t.TempDir()}
	_, err := p.token()
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = p.roots()
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, token := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(filepath.Join(p.secrets, "token"), []byte(token+"\n"), 0o600))
		got, err := p.token()
		require.NoError(t, err)
		require.Equal(t, token, got)
	}
	require.NoError(t, os.WriteFile(filepath.Join(p.secrets, "ca.crt"), []byte("no certificate"), 0o600))
	_, err = p.roots()
	require.ErrorContains(t, err, "holds no certificate")
}

func TestCaptureFlags(t *testing.T) {
	t.Parallel()
	rules := func(env map[string]string, args ...string) (string, error) {
		var out bytes.Buffer
		err := captureTraffic(t.Context(), append(args, "--print"), environment(env), &out)
		return out.String(), err
	}
	out, err := rules(map[string]string{"MESHTEST_EXCLUDE_OUTBOUND_PORTS": "5432, 3306,", "MESHTEST_EXCLUDE_INBOUND_PORTS": "1", "MESHTEST_UID": "42"},
		"--exclude-inbound-ports", "9090", "--exclude-outbound-cidrs", "10.0.0.0/8,192.0.2.7", "--exclude-uids=101", "--exclude-gids=102", "--inbound-port=5", "--outbound-port=6", "--gid=7")
	require.NoError(t, err)
	for _, line := range []string{
		"tcp dport 5432 return", "tcp dport 3306 return", "tcp dport 9090 return", "ip daddr 10.0.0.0/8 return", "ip daddr 192.0.2.7 return", "meta skuid 101 return", "meta skgid 102 return",
		"redirect to :5", "redirect to :6", "meta skuid 42 goto sidecar", "meta skgid 7 goto sidecar",
	} {
		require.Contains(t, out, line)
	}
	require.NotContains(t, out, "tcp dport 1 return", "a flag has the last word")
	_, err = rules(map[string]string{"MESHTEST_EXCLUDE_UIDS": "root"})
	require.ErrorContains(t, err, "MESHTEST_EXCLUDE_UIDS")
	for _, args := range [][]string{
		{"--exclude-inbound-ports", "http"}, {"--exclude-inbound-ports", "0"}, {"--exclude-outbound-cidrs", "10.0.0.0/40"}, {"--exclude-outbound-cidrs", "here"}, {"--uid", "-1"}, {"--outbound-port", "15006"}, {"more"},
	} {
		require.Equal(t, 2, command(t.Context(), append([]string{"capture", "--print"}, args...), io.Discard, io.Discard), args)
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	h := guarded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), func(token string) bool { return token == "right" }, directToken)
	for _, test := range []struct {
		method, host, origin, authorization string
		status                              int
	}{
		{"GET", "127.0.0.1:15000", "", "", 204},
		{"GET", "localhost", "", "", 204},
		{"HEAD", "[::1]:80", "", "", 204},
		{"GET", "[::1]", "", "", 204},
		{"GET", "meshtest.dev", "", "", 403},
		{"GET", "localhost.evil.example:15000", "", "", 403},
		{"GET", "", "", "", 403},
		{"GET", "localhost", "http://localhost", "", 403},
		{"GET", "localhost", "null", "", 403},
		{"POST", "localhost", "", "", 401},
		{"POST", "localhost", "", "Bearer wrong", 401},
		{"POST", "localhost", "", "Bearer right", 204},
		{"DELETE", "localhost", "", "right", 401},
	} {
		r := httptest.NewRequest(test.method, "/", nil)
		r.Host = test.host
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		if test.authorization != "" {
			r.Header.Set("Authorization", test.authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, test.status, w.Code, test)
	}
}
