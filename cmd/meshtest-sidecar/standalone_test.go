package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
)

// alonely is a sidecar that runs alone, as a user starts it.
type alonely struct {
	t       *testing.T
	rules   string // the file
	address string
	admin   string
	args    []string
	stop    func() (code int)
	stderr  *lines
}

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// newAlone starts a sidecar with rules, and waits until it listens.
func newAlone(t *testing.T, rules string, args ...string) *alonely {
	t.Helper()
	a := &alonely{t: t, rules: filepath.Join(t.TempDir(), "rules.yaml"), address: testport.Loopback(t), admin: testport.Loopback(t), stderr: &lines{}}
	a.args = append([]string{"-f", a.rules, "--listen", a.address, "--admin", a.admin}, args...)
	a.write(rules)
	a.start()
	t.Cleanup(func() { a.stop() })
	return a
}

// write puts rules into the file, in one step as an editor does it.
func (a *alonely) write(rules string) {
	a.t.Helper()
	next := a.rules + ".next"
	require.NoError(a.t, os.WriteFile(next, []byte(rules), 0o644))
	require.NoError(a.t, os.Rename(next, a.rules))
}

func (a *alonely) start() {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() { code <- command(ctx, a.args, io.Discard, a.stderr) }()
	a.stop = sync.OnceValue(func() int { cancel(); return <-code })
	require.Eventually(a.t, func() bool {
		c, err := net.Dial("tcp", a.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, patience, time.Millisecond, a.stderr)
}

// tells waits until the sidecar's own metrics say something.
func (a *alonely) tells(text string) {
	a.t.Helper()
	require.Eventually(a.t, func() bool {
		_, body, err := ask(http.DefaultClient, "http://"+a.admin+"/stats", nil)
		return err == nil && strings.Contains(body, text)
	}, patience, 5*time.Millisecond, "%s\n%s", text, a.stderr)
}

func ask(client *http.Client, url string, header http.Header) (status int, body string, err error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all), err
}

func saying(t *testing.T, what string) (address string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, what) }))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// backends are rules for a host with endpoints v1, v2, ... and the routes.
func backends(routes string, addresses ...string) string {
	var endpoints, subsets strings.Builder
	for i, address := range addresses {
		_, port := cutPort(address)
		fmt.Fprintf(&endpoints, "  - {address: 127.0.0.1, ports: {http: %d}, labels: {version: v%d}}\n", port, i+1)
		fmt.Fprintf(&subsets, "  - {name: v%d, labels: {version: v%[1]d}}\n", i+1)
	}
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: backend}
spec:
  hosts: [backend.default.svc.cluster.local]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
%s---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: backend}
spec:
  host: backend
  subsets:
%s---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: backend}
spec:
  hosts: [backend]
  http:
%s`, &endpoints, &subsets, routes)
}

// Rules are served from a file, read again when it changes, and stay as they were when the file is wrong.
func TestAloneFollowsItsFiles(t *testing.T) {
	t.Parallel()
	v1, v2 := saying(t, "v1"), saying(t, "v2")
	to := func(subset string) string {
		return "  - route: [{destination: {host: backend, subset: " + subset + "}}]\n"
	}
	a := newAlone(t, backends(to("v1"), v1, v2))
	says := func(want string) {
		t.Helper()
		status, body, err := ask(http.DefaultClient, "http://"+a.address+"/", nil)
		require.NoError(t, err)
		require.Equal(t, 200, status)
		require.Equal(t, want, body)
	}
	says("v1")
	a.write(backends(to("v2"), v1, v2))
	a.tells("rules_reloaded_total 1\n")
	says("v2")

	a.write(backends(to("v3"), v1, v2) + "    timeouts: 1s\n")
	a.tells("rules_rejected_total 1\n")
	require.Contains(t, a.stderr.String(), "rules.yaml:")
	require.Contains(t, a.stderr.String(), "timeouts")
	says("v2")
	require.NoError(t, os.Remove(a.rules))
	a.tells("rules_rejected_total 2\n")
	says("v2")

	a.write(backends("  - match: [{headers: {x-dev-user: {exact: super-secret}}}]\n    route: [{destination: {host: backend, subset: v2}}]\n"+to("v1"), v1, v2))
	a.tells("rules_reloaded_total 2\n")
	says("v1")
	_, body, err := ask(http.DefaultClient, "http://"+a.address+"/", http.Header{"X-Dev-User": {"super-secret"}})
	require.NoError(t, err)
	require.Equal(t, "v2", body)
	require.Zero(t, a.stop())
}

// What is wrong is said before anything listens.
func TestAloneRefusesWhatItCannotServe(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "good.yaml")
	require.NoError(t, os.WriteFile(good, []byte(backends("  - route: [{destination: {host: backend, subset: v1}}]\n", "127.0.0.1:1")), 0o644))
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte(backends("  - rout: []\n    timeout: soon\n", "127.0.0.1:1")), 0o644))
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("a: 1\nb: {\n"), 0o644))
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for _, test := range []struct {
		args   []string
		code   int
		stdout string
		stderr []string
	}{
		{[]string{"-f", good, "--check"}, 0, "the rules are good", nil},
		{[]string{"-f", bad, "--check"}, 2, "", []string{"bad.yaml:", "rout", "timeout"}},
		{[]string{"-f", bad, "--listen", "127.0.0.1:0"}, 2, "", []string{"bad.yaml:"}},
		{[]string{"-f", good + "x", "--check"}, 2, "", []string{"good.yamlx: MT1001 cannot be read: no such file"}},
		{[]string{"-f", broken, "--check"}, 2, "", []string{"broken.yaml:2:1: MT1006 not valid YAML: "}},
		{[]string{"-f", good, "--listen", testport.Loopback(t), "--host", "nobody"}, 2, "", []string{`no host "nobody": backend`}},
		{[]string{"-f", good, "--listen", testport.Loopback(t), "--gateway", "nobody"}, 2, "", []string{`no gateway "nobody"`}},
		{[]string{"-f", good, "--listen", testport.Loopback(t), "--gateway", "g", "--host", "h"}, 2, "", []string{"exclude each other"}},
		{[]string{"-f", good, "--check", "--admin", "0.0.0.0:18009"}, 2, "", []string{"--admin 0.0.0.0:18009 is not on loopback: such as 127.0.0.1:15000"}},
		{[]string{"-f", good, "--check", "--admin", ":18009"}, 2, "", []string{"is not on loopback"}},
		{[]string{"-f", good, "--check", "--admin", "example.com:18009"}, 2, "", []string{"is not on loopback"}},
		{[]string{"-f", good, "--check", "--admin", "18009"}, 2, "", []string{"missing port in address; it is HOST:PORT"}},
		{[]string{"-f", good, "--check", "--admin", "[::1]:18009"}, 0, "the rules are good", nil},
		{[]string{"-f", good, "--check", "--admin-token-file", good}, 2, "", []string{"--admin-token-file is for --admin"}},
		{[]string{"-f", good, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--admin-token-file", good + "x"}, 1, "", []string{"reading the token of the admin", "no such file"}},
		{[]string{"-f", good, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--admin-token-file", empty}, 1, "", []string{"it is empty"}},
		{[]string{"-f", good, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--admin-token-file", good}, 1, "", []string{"a token is one word"}},
		{[]string{"-f", good, "--listen", "nowhere:x"}, 1, "", []string{"unknown port"}},
	} {
		var stdout, stderr bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		code := command(ctx, test.args, &stdout, &stderr)
		cancel()
		require.Equal(t, test.code, code, "%v: %s", test.args, stderr.String())
		require.Contains(t, stdout.String(), test.stdout)
		for _, want := range test.stderr {
			require.Contains(t, stderr.String(), want, test.args)
		}
	}
}

// Who can ask may not change anything for that: it takes the token that the sidecar was started with.
func TestAloneAdminTakesATokenForWrites(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	rules := backends("  - route: [{destination: {host: backend}}]\n", "127.0.0.1:1")
	for _, test := range []struct {
		args  []string
		token string
		want  int
		says  string
	}{
		{nil, "", 401, "this sidecar has none: it is started with --admin-token-file"},
		{nil, "Bearer ", 401, "--admin-token-file"},
		{nil, "Bearer secret", 401, "--admin-token-file"},
		{[]string{"--admin-token-file", file}, "", 401, "the token of --admin-token-file"},
		{[]string{"--admin-token-file", file}, "Bearer secret2", 401, "the token of --admin-token-file"},
		{[]string{"--admin-token-file", file}, "Bearer secret", 200, "DEBUG"},
	} {
		a := newAlone(t, rules, test.args...)
		req, err := http.NewRequest("POST", "http://"+a.admin+"/logging?level=debug", nil)
		require.NoError(t, err)
		if test.token != "" {
			req.Header.Set("Authorization", test.token)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, test.want, resp.StatusCode, test)
		require.Contains(t, string(body), test.says)
		status, level, err := ask(http.DefaultClient, "http://"+a.admin+"/logging", nil)
		require.NoError(t, err)
		require.Equal(t, 200, status, "questions take none")
		require.Equal(t, test.want == 200, level == "DEBUG\n", level)
		if test.want == 401 {
			require.Equal(t, "Bearer", resp.Header.Get("WWW-Authenticate"))
		}
	}
}

// Sidecars that stand before two replicas are ended and started again, one after the other, while requests come. Their caller has a retry policy: nobody notices.
func TestRestartsBehindARetryPolicyFailNothing(t *testing.T) {
	t.Parallel()
	origin := saying(t, "hello")
	own := "  - route: [{destination: {host: backend}}]\n"
	replicas := []*alonely{newAlone(t, backends(own, origin)), newAlone(t, backends(own, origin))}
	caller := newAlone(t, backends(own+"    retries: {attempts: 3, perTryTimeout: 5s, retryOn: 'connect-failure,refused-stream,reset,unavailable'}\n", replicas[0].address, replicas[1].address))

	var users sync.WaitGroup
	var done atomic.Bool
	var sent atomic.Int64
	failures := make(chan string, 8)
	for range 8 {
		users.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for !done.Load() {
				status, body, err := ask(client, "http://"+caller.address+"/", nil)
				if err != nil || status != 200 || body != "hello" {
					failures <- fmt.Sprint(status, body, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	more := func() {
		before := sent.Load()
		require.Eventually(t, func() bool { return sent.Load() > before+100 || len(failures) > 0 }, patience, time.Millisecond)
	}
	for range 3 {
		for _, r := range replicas {
			more()
			require.Zero(t, r.stop(), r.stderr)
			more()
			r.start()
		}
	}
	more()
	done.Store(true)
	users.Wait()
	close(failures)
	for f := range failures {
		t.Error(f)
	}
}
