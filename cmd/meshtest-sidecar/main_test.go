package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long what has to come may take on a busy machine.
const patience = time.Minute

// descriptor returns a descriptor that the command may close, from which the document is read.
func descriptor(t *testing.T, document string) string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	_, err = w.WriteString(document)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	fd, err := unix.Dup(int(r.Fd()))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return strconv.Itoa(fd)
}

func TestUsage(t *testing.T) {
	t.Parallel()
	whole := `{"workload": {"instance": "i"}, "control": "/nowhere/c", "token": "t", "direct": "/nowhere/d", "directToken": "t"}`
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"--help"}, 0, "Usage:", ""},
		{[]string{"version"}, 0, "protocol " + wire.Version, ""},
		{nil, 2, "", "-f is missing"},
		{[]string{"--bootstrap-fd", "3", "x"}, 2, "", `unexpected argument "x"`},
		{[]string{"--token", "secret"}, 2, "", "not defined: -token"},
		{[]string{"--bootstrap-fd", descriptor(t, `{"hello": 1}`)}, 1, "", `"hello"`},
		{[]string{"--bootstrap-fd", descriptor(t, `{"workload": {"instance": "i"}}`)}, 1, "", "must not be empty"},
		{[]string{"--bootstrap-fd", descriptor(t, ``)}, 1, "", "reading the bootstrap"},
		{[]string{"--bootstrap-fd", descriptor(t, whole)}, 1, "", "/nowhere/d"},
	} {
		var stdout, stderr bytes.Buffer
		code := command(t.Context(), test.args, &stdout, &stderr)
		require.Equal(t, test.code, code, "%v: %s", test.args, stderr.String())
		require.Contains(t, stdout.String(), test.stdout, test.args)
		require.Contains(t, stderr.String(), test.stderr, test.args)
	}
}

// world is a control plane, one sidecar and an origin.
type world struct {
	t       *testing.T
	dir     string
	owner   *wire.Configuration
	direct  *wire.Direct
	admin   *http.Client
	address string // of the sidecar's listener
	host    string
	set     *mesh.Snapshot
	// stopControl ends the control plane, and returns when it has ended.
	stopControl func()
}

func newWorld(t *testing.T) (w *world, stop func() (code int)) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sidecar")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	w = &world{t: t, dir: dir, address: testport.Loopback(t), host: mesh.FQDN("backend", mesh.DefaultNamespace)}
	path := func(name string) string { return filepath.Join(dir, name) }

	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	listener, err := wire.Listen(path("control"))
	require.NoError(t, err)
	controlEnded := make(chan struct{})
	go func() {
		defer close(controlEnded)
		_ = control.New(control.Options{Epoch: 3, OwnerToken: "owner", InstanceKey: "key", Log: discard()}).Serve(ctx, listener)
	}()
	w.stopControl = func() {
		cancel()
		<-controlEnded
	}
	origin := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "origin says hello") })}
	bound, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	all.Go(func() { _ = origin.Serve(bound) })

	workload := mesh.Workload{Name: "edge", Namespace: mesh.DefaultNamespace, Instance: "edge-0"}
	document, err := json.Marshal(map[string]any{
		"run": "test", "workload": workload, "control": path("control"), "token": wire.InstanceToken("key", "edge-0"),
		"direct": path("direct"), "directToken": "direct", "admin": path("admin"), "edgeToken": "edge", "logLevel": "WARN", "drain": time.Second,
	})
	require.NoError(t, err)
	sidecarContext, stopSidecar := context.WithCancel(context.Background())
	var stderr bytes.Buffer
	code := make(chan int, 1)
	args := []string{"--bootstrap-fd", descriptor(t, string(document))}
	go func() { code <- command(sidecarContext, args, io.Discard, &stderr) }()

	w.owner, err = wire.NewConfiguration(wire.Unix(path("control")), "owner")
	require.NoError(t, err)
	w.direct = wire.NewDirect(wire.Unix(path("direct")), "direct")
	w.admin = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return wire.Unix(path("admin"))(ctx)
	}}}
	addr := bound.Addr().(*net.TCPAddr)
	w.set = mesh.NewSnapshot()
	w.set.Services[w.host] = &mesh.Service{Host: w.host, Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}}
	w.set.Endpoints[mesh.HostPort(w.host, 80)] = &mesh.Endpoints{Host: w.host, Port: 80, Endpoints: []mesh.Endpoint{{Address: "127.0.0.1", Port: addr.Port, Workload: "backend-v1", Labels: mesh.Labels{"version": "v1"}}}}
	every := 1.0
	w.set.Inbound["edge-0"] = &mesh.Inbound{Workload: workload, Seed: 1, Trusted: true, Sampling: &every, Outbound: []mesh.OutboundPort{{Bind: w.address, Host: w.host, Port: 80, Protocol: mesh.HTTP}}}
	return w, func() int {
		stopSidecar()
		got := <-code
		require.NoError(t, w.owner.Close())
		w.stopControl()
		require.NoError(t, origin.Close())
		all.Wait()
		return got
	}
}

func (w *world) ask(path string) (int, string) {
	w.t.Helper()
	resp, err := w.admin.Get("http://admin" + path)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, string(body)
}

func (w *world) get(headers map[string]string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.address+"/", nil)
	require.NoError(w.t, err)
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp, string(body)
}

func TestObeysTellsAndBreaks(t *testing.T) {
	w, stop := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	applied, err := w.owner.Apply(ctx, wire.Change{Whole: true, Set: w.set})
	require.NoError(t, err)
	_, err = w.owner.Await(ctx, applied.Generation, "edge-0")
	require.NoError(t, err)

	status, body := w.ask("/ready")
	require.Equal(t, 200, status)
	require.Contains(t, body, applied.Generation.String())

	resp, body := w.get(map[string]string{"x-request-id": "users-1", mesh.HeaderToken: "edge"})
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "origin says hello", body)
	require.Equal(t, applied.Generation.String(), resp.Header.Get(mesh.HeaderConfig))

	held := make(chan wire.Holding, 100)
	holder := w.direct.NewHolder("run", 1, func(h wire.Holding) { held <- h })
	var holding sync.WaitGroup
	holdContext, stopHolding := context.WithCancel(ctx)
	holding.Go(func() { _ = holder.Run(holdContext) })
	fault := mesh.Fault{ID: "f", From: "edge", To: "backend", At: mesh.AtRequest, Abort: &mesh.Abort{Status: 503, Share: 1}}
	require.NoError(t, holder.Hold(fault, mesh.MaxLeaseTTL))
	for h := range held {
		require.NoError(t, h.Refused)
		if h.Accounting.State == mesh.LeaseHeld {
			break
		}
	}
	resp, _ = w.get(map[string]string{"x-request-id": "users-2", mesh.HeaderToken: "edge"})
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "fault_abort", resp.Header.Get(mesh.HeaderReason))
	resp, _ = w.get(nil)
	require.Equal(t, 503, resp.StatusCode)
	require.Empty(t, resp.Header.Get(mesh.HeaderReason), "a stranger does not hear why")
	account, err := holder.Settle(ctx, "f")
	require.NoError(t, err)
	require.EqualValues(t, 2, account.Matched)
	require.EqualValues(t, 2, account.Aborted)
	require.Zero(t, account.Active)
	stopHolding()
	holding.Wait()

	resp, _ = w.get(map[string]string{"x-request-id": "users-3", mesh.HeaderToken: "edge"})
	require.Equal(t, 200, resp.StatusCode)

	var requests, byFault uint64
	reading, stopReading := context.WithCancel(ctx)
	require.NoError(t, w.direct.Evidence(reading, 0, func(b mesh.EvidenceBlock) error {
		for _, c := range b.Cells {
			requests, byFault = requests+c.Requests, byFault+c.ByFault
		}
		if requests >= 4 {
			stopReading()
		}
		return nil
	}))
	stopReading()
	require.EqualValues(t, 4, requests)
	require.EqualValues(t, 2, byFault)

	spans, err := w.direct.Spans()
	require.NoError(t, err)
	defer spans.Close()
	told, lost, err := spans.Take(ctx)
	require.NoError(t, err)
	require.Zero(t, lost)
	for _, part := range []string{`"guid:x-request-id":"users-1"`, `"meshtest.reason":"fault_abort"`, `"localEndpoint":{"serviceName":"edge"}`, `"remoteEndpoint":{"serviceName":"backend-v1"`} {
		require.Contains(t, string(told), part)
	}
	require.Equal(t, 4, bytes.Count(told, []byte(`"traceId"`)))

	_, body = w.ask("/metrics")
	require.Contains(t, body, `istio_requests_total{reporter="source"`)
	require.Contains(t, body, `response_flags="FI"} 2`)
	require.Contains(t, body, "process_cpu_seconds_total")
	_, body = w.ask("/config_dump")
	require.Contains(t, body, w.host)
	_, body = w.ask("/clusters")
	require.Contains(t, body, `"connects": `)
	require.Equal(t, 0, stop())
}

func TestServesOnWithoutControlPlane(t *testing.T) {
	w, stop := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	status, _ := w.askWhenThere("/ready")
	require.Equal(t, 503, status)
	_, err := w.owner.Apply(ctx, wire.Change{Whole: true, Set: w.set})
	require.NoError(t, err)
	_, err = w.owner.Await(ctx, mesh.Generation{Epoch: 3, Counter: 1}, "edge-0")
	require.NoError(t, err)
	w.stopControl()
	status, _ = w.ask("/ready")
	require.Equal(t, 200, status)
	resp, _ := w.get(nil)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, 0, stop())
}

func TestEndsWhenItMayNotHaveAConfiguration(t *testing.T) {
	dir, err := os.MkdirTemp("", "sidecar")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := wire.Listen(filepath.Join(dir, "control"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = control.New(control.Options{OwnerToken: "owner", InstanceKey: "key", Log: discard()}).Serve(ctx, listener)
	}()
	document := fmt.Sprintf(`{"workload": {"instance": "i"}, "control": %q, "token": "forged", "direct": %q, "directToken": "t"}`,
		filepath.Join(dir, "control"), filepath.Join(dir, "direct"))
	var stderr bytes.Buffer
	code := command(t.Context(), []string{"--bootstrap-fd", descriptor(t, document)}, io.Discard, &stderr)
	require.Equal(t, 1, code)
	require.Contains(t, stderr.String(), "asking the control plane for configuration")
	cancel()
	<-ended
}

// askWhenThere asks as soon as the sidecar listens.
func (w *world) askWhenThere(path string) (int, string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		conn, err := wire.Unix(filepath.Join(w.dir, "admin"))(w.t.Context())
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, patience, time.Millisecond)
	return w.ask(path)
}
