package main

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/socket/certtest"
)

// toVersion is a route of everything to one version of the backend.
func toVersion(v string) string {
	return "  - route: [{destination: {host: backend, subset: " + v + "}}]\n"
}

// What changes while the rules are read is read too. Here they wait for a certificate, which they name, while somebody writes others.
func TestAloneMissesNoChange(t *testing.T) {
	t.Parallel()
	v1, v2 := saying(t, "v1"), saying(t, "v2")
	a := newAlone(t, backends(toVersion("v1"), v1, v2), "--host", "backend")
	pipe := filepath.Join(filepath.Dir(a.rules), "ca.pem")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	a.write(backends(toVersion("v1"), v1, v2) + `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: slow}
spec:
  host: slow.example
  trafficPolicy: {tls: {mode: SIMPLE, caCertificates: ca.pem}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: slow}
spec:
  hosts: [slow.example]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
`)
	var ca *os.File
	require.Eventually(t, func() (opened bool) {
		var err error
		ca, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // once the other end is open
		return err == nil
	}, patience, time.Millisecond, a.stderr)
	a.write(backends(toVersion("v2"), v1, v2))
	tlsServer := httptest.NewTLSServer(nil)
	tlsServer.Close()
	require.NoError(t, pem.Encode(ca, &pem.Block{Type: "CERTIFICATE", Bytes: tlsServer.Certificate().Raw}))
	require.NoError(t, ca.Close())

	a.tells("rules_reloaded_total 2\n")
	_, body, err := ask(http.DefaultClient, "http://"+a.address+"/", nil)
	require.NoError(t, err)
	require.Equal(t, "v2", body)
}

// With one host in the rules every request is for it, with two its authority says for which: what the listener is for changes, and who is connected stays.
func TestAloneGoesFromOneHostToTwo(t *testing.T) {
	t.Parallel()
	one := backends(toVersion("v1"), saying(t, "v1"))
	a := newAlone(t, one)
	transport := &http.Transport{MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	get := func(host string) int {
		req, err := http.NewRequest("GET", "http://"+a.address+"/", nil)
		require.NoError(t, err)
		req.Host = host
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, 200, get("anybody"))
	a.write(one + `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other}
spec:
  hosts: [other.example]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
`)
	a.tells("rules_reloaded_total 1\n")
	require.Equal(t, 502, get("anybody"))
	require.Equal(t, 200, get("backend"))
	a.write(one)
	a.tells("rules_reloaded_total 2\n")
	require.Equal(t, 200, get("anybody"))
}

// A file that came with mistakes is looked at as well: its correction is seen, though it changes nothing of the folder.
func TestAloneSeesTheCorrectionOfANewFile(t *testing.T) {
	t.Parallel()
	folder, wrong, right := t.TempDir(), "kind: [\n", "# none\n\n"
	require.Len(t, right, len(wrong))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "a.yaml"), nil, 0o600))
	a := newAlone(t, backends(toVersion("v1"), saying(t, "v1")), "-f", folder)
	path, beside := filepath.Join(folder, "b.yaml"), filepath.Join(t.TempDir(), "b.yaml")
	require.NoError(t, os.WriteFile(beside, []byte(wrong), 0o600))
	require.NoError(t, os.Rename(beside, path))
	a.tells("rules_rejected_total 1\n")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString(right) // in place and in one step: no empty file is seen between
	require.NoError(t, err)
	a.tells("rules_reloaded_total 1\n")
}

// A certificate that rules name is read again when it changes, without a change of the rules.
func TestAloneFollowsCertificates(t *testing.T) {
	t.Parallel()
	old, present := certtest.NewAuthority(t), certtest.NewAuthority(t)
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	origin.TLS = &tls.Config{Certificates: []tls.Certificate{present.Issue(t, "backend").Certificate}}
	origin.StartTLS()
	t.Cleanup(origin.Close)
	folder := t.TempDir()
	ca := filepath.Join(folder, "ca.pem")
	require.NoError(t, os.WriteFile(ca, []byte(old.PEM), 0o600))
	rules := strings.Replace(backends(toVersion("v1"), origin.Listener.Addr().String()), "  host: backend\n", "  host: backend\n  trafficPolicy: {tls: {mode: SIMPLE, sni: backend, subjectAltNames: [backend], caCertificates: "+ca+"}}\n", 1)
	a := newAlone(t, rules)
	get := func() (status int) {
		status, _, err := ask(http.DefaultClient, "http://"+a.address+"/", nil)
		require.NoError(t, err)
		return status
	}
	require.Equal(t, 503, get())
	next := ca + ".next"
	require.NoError(t, os.WriteFile(next, []byte(present.PEM), 0o600))
	require.NoError(t, os.Rename(next, ca))
	a.tells("rules_reloaded_total 1\n")
	require.Equal(t, 200, get())
	require.NoError(t, os.Remove(ca))
	a.tells("rules_rejected_total 1\n")
	require.Equal(t, 200, get())
}

func TestLook(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	big := make([]byte, maxHashed+1)
	for _, test := range []struct {
		name   string
		before []byte
		change func(t *testing.T, path string)
		shows  bool
	}{
		{"nothing", []byte("abc"), func(*testing.T, string) {}, false},
		{"it grows", []byte("abc"), func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, []byte("abcd"), 0o600)) }, true},
		{"another content of one size", []byte("abc"), func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, []byte("abd"), 0o600)) }, true},
		{"another file of one size", big, func(t *testing.T, path string) {
			next := path + ".next"
			require.NoError(t, os.WriteFile(next, big, 0o600))
			require.NoError(t, os.Rename(next, path))
		}, true},
		{"it goes", []byte("abc"), func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, true},
	} {
		path := filepath.Join(t.TempDir(), "rules.yaml")
		require.NoError(t, os.WriteFile(path, test.before, 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
		before := look([]string{path}, []string{path})
		test.change(t, path)
		if _, err := os.Stat(path); err == nil {
			require.NoError(t, os.Chtimes(path, at, at), "within one tick of the clock")
		}
		require.Equal(t, test.shows, before != look([]string{path}, []string{path}), test.name)
	}
}

// A file that comes within one tick of the clock after another is seen, too.
func TestLookSeesWhatIsNewInAFolder(t *testing.T) {
	t.Parallel()
	folder, at := t.TempDir(), time.Unix(1_700_000_000, 0)
	add := func(name string) string {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), nil, 0o600))
		require.NoError(t, os.Chtimes(folder, at, at))
		return look([]string{folder}, nil)
	}
	first := add("a.yaml")
	require.NotEqual(t, first, add("b.yaml"))
	require.NoError(t, os.Remove(filepath.Join(folder, "b.yaml")))
	require.Equal(t, first, add("a.yaml"))
}

// What can be read only once is not looked at again: somebody writes to it while it is read.
func TestLookLeavesPipesAlone(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	before := look([]string{pipe}, []string{pipe})
	later := time.Unix(1_700_000_000, 0)
	require.NoError(t, os.Chtimes(pipe, later, later))
	require.Equal(t, before, look([]string{pipe}, []string{pipe}))
}

// A file that is being written is empty for a moment: that is no change of the rules.
func TestAloneKeepsItsRulesWhenTheirFileIsEmptied(t *testing.T) {
	t.Parallel()
	a := newAlone(t, backends(toVersion("v1"), saying(t, "v1")))
	a.write("")
	a.tells("rules_rejected_total 1\n")
	require.Contains(t, a.stderr.String(), "there is no document in it")
	require.Equal(t, []int{200}, a.statuses("backend", "/", 1))
}

// Files are read when they have changed and look the same twice.
func TestSettling(t *testing.T) {
	t.Parallel()
	var s settling
	read := "a"
	for i, step := range []struct {
		now  string
		done bool
	}{{"a", false}, {"a", false}, {"half", false}, {"b", false}, {"b", true}, {"b", false}, {"c", false}, {"b", false}, {"b", false}, {"a", false}, {"a", true}} {
		require.Equal(t, step.done, s.done(read, step.now), "look %d", i)
		if step.done {
			read = step.now
		}
	}
}
