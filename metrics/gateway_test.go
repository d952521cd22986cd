package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/metrics"
)

func ask(g *metrics.Gateway, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:9464"+target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

// hidden is a target behind a Unix socket.
func hidden(t *testing.T, exposition string) metrics.Target {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write([]byte(exposition))
	}))
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return metrics.Target{
		URL: "http://sidecar/metrics", Labels: map[string]string{"instance": exposition},
		Dial: func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", path) },
	}
}

func TestGatewayShowsWhatIsBehindIt(t *testing.T) {
	t.Parallel()
	g := metrics.NewGateway()
	require.JSONEq(t, `[]`, ask(g, "GET", "/targets").Body.String())
	removeB, err := g.Add("b/1", hidden(t, "b 1\n"))
	require.NoError(t, err)
	_, err = g.Add("a", hidden(t, "a 1\n"))
	require.NoError(t, err)

	w := ask(g, "GET", "/targets")
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.JSONEq(t, `[
		{"targets": ["127.0.0.1:9464"], "labels": {"__metrics_path__": "/metrics/a", "instance": "a 1\n"}},
		{"targets": ["127.0.0.1:9464"], "labels": {"__metrics_path__": "/metrics/b%2F1", "instance": "b 1\n"}}]`, w.Body.String())
	var groups []struct{ Labels map[string]string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &groups))
	for i, want := range []string{"a 1\n", "b 1\n"} {
		w := ask(g, "GET", groups[i].Labels["__metrics_path__"])
		require.Equal(t, want, w.Body.String())
		require.Equal(t, "text/plain; version=0.0.4; charset=utf-8", w.Header().Get("Content-Type"))
	}

	removeAnew, err := g.Add("b/1", hidden(t, "b 2\n"))
	require.NoError(t, err)
	removeB()
	require.Equal(t, "b 2\n", ask(g, "GET", "/metrics/b%2F1").Body.String(), "another one has its name now")
	removeAnew()
	require.Equal(t, 404, ask(g, "GET", "/metrics/b%2F1").Code)

	_, err = g.Add("gone", metrics.Target{
		URL: "http://gone/", Labels: map[string]string{"instance": "gone"}, Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") },
	})
	require.NoError(t, err)
	w = ask(g, "GET", "/metrics/gone")
	require.Equal(t, 502, w.Code)
	require.Contains(t, w.Body.String(), "nobody there")
	_, err = g.Add("wrong", metrics.Target{URL: "x"})
	require.Error(t, err)
}

func TestGatewayIsForNoWebPage(t *testing.T) {
	t.Parallel()
	g := metrics.NewGateway()
	for _, host := range []string{"localhost:9464", "localhost", "127.0.0.1", "[::1]:9464", "[::1]"} {
		require.Equal(t, 200, ask(g, "GET", "/targets", "Host", host).Code, host)
	}
	require.Equal(t, 403, ask(g, "GET", "/targets", "Host", "evil.example:9464").Code)
	require.Equal(t, 403, ask(g, "GET", "/targets", "Origin", "http://evil.example").Code)
	require.Equal(t, 405, ask(g, "POST", "/targets").Code)
	require.Equal(t, 404, ask(g, "GET", "/").Code)
}
