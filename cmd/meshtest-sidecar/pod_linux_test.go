package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/capture/capturetest"
)

// A pod, and everybody else, each in a network namespace.
const (
	podIP     = "10.9.0.1"
	outsideIP = "10.9.0.2"
	namespace = "shop"
	podName   = "web-v1-abc"
)

// cluster is a pod with the real programs in it, and a control plane, an upstream and a database outside.
type cluster struct {
	t            *testing.T
	pod, outside capturetest.Space
	binary       string
	secrets      string // folder
	authority    tls.Certificate
	sidecar      *exec.Cmd
	log          *bytes.Buffer // of the sidecar; read it when that has ended
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, pod: capturetest.New(t), outside: capturetest.New(t), log: &bytes.Buffer{}}
	for _, program := range []string{"curl", "python3", "setpriv", "unshare", "mount", "sh"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("there is no " + program)
		}
	}
	capturetest.Join(t, c.pod, c.outside, []netip.Prefix{netip.MustParsePrefix(podIP + "/24")}, []netip.Prefix{netip.MustParsePrefix(outsideIP + "/24")})
	require.NoError(t, c.pod.In(func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(outsideIP)}) }))
	dir, err := os.MkdirTemp("", "pod") // others than root have to read it
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	c.secrets = dir
	c.binary = filepath.Join(dir, "meshtest-sidecar")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", c.binary, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	c.authority = newAuthority(t)
	c.write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.authority.Certificate[0]})))
	return c
}

// newAuthority makes a certificate that the control plane serves with, and that is its own authority.
func newAuthority(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.ParseIP(outsideIP)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (c *cluster) write(name, content string) {
	c.t.Helper()
	require.NoError(c.t, os.WriteFile(filepath.Join(c.secrets, name), []byte(content), 0o644))
}

func (c *cluster) listen(s capturetest.Space, address string) (l net.Listener) {
	c.t.Helper()
	require.NoError(c.t, s.In(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	}))
	return l
}

// controlPlane serves sidecars until it is stopped; those show tokens of the key.
func (c *cluster) controlPlane(key string, epoch uint64) (server *control.Server, stop func()) {
	c.t.Helper()
	server = control.New(control.Options{Epoch: epoch, OwnerToken: "owner", InstanceKey: key, Log: discard()})
	l := wire.ListenTLS(c.listen(c.outside, outsideIP+":15012"), func() (*tls.Certificate, error) { return &c.authority, nil })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(c.t, <-ended)
	})
	c.t.Cleanup(stop)
	return server, stop
}

// start starts a program in a namespace, which is killed at the end if it has not ended.
func (c *cluster) start(s capturetest.Space, cmd *exec.Cmd) {
	c.t.Helper()
	require.NoError(c.t, s.In(cmd.Start))
	c.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
}

// run runs a program in a namespace to its end.
func (c *cluster) run(s capturetest.Space, name string, args ...string) (stdout string, err error) {
	c.t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(c.t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err = s.In(cmd.Run); err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, complaints.String())
	}
	return out.String(), err
}

// curl returns the status and the body.
func (c *cluster) curl(s capturetest.Space, args ...string) string {
	c.t.Helper()
	out, err := c.run(s, "curl", append([]string{"--silent", "--show-error", "--max-time", "10", "--noproxy", "*", "--write-out", "\n%{http_code}"}, args...)...)
	require.NoError(c.t, err, args)
	return out
}

// startSidecar starts it as a restricted container would: another user, no capability, a root file system that cannot be written.
func (c *cluster) startSidecar() {
	c.t.Helper()
	script := `mount --make-rprivate / && mount -o remount,bind,ro / && exec setpriv --reuid 1337 --regid 1337 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$0" pod`
	c.sidecar = exec.Command("unshare", "--mount", "sh", "-c", script, c.binary)
	c.sidecar.Env = []string{
		"PATH=" + os.Getenv("PATH"), "MESHTEST_RUN=test", "MESHTEST_CONTROL=" + outsideIP + ":15012", "MESHTEST_SECRETS=" + c.secrets, "MESHTEST_DRAIN=1s",
		"POD_NAME=" + podName, "POD_NAMESPACE=" + namespace,
	}
	c.sidecar.Stderr = c.log
	c.start(c.pod, c.sidecar)
}

// capture lets the kernel redirect, with no more rights than the init container has.
func (c *cluster) capture(args ...string) string {
	c.t.Helper()
	out, err := c.run(c.pod, "setpriv", append([]string{"--bounding-set=-all,+net_admin", "--inh-caps=-all", c.binary, "capture"}, args...)...)
	require.NoError(c.t, err)
	return out
}

// eventually asks outside until the answer begins with the status.
func (c *cluster) eventually(url, status string) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		out, _ := c.run(c.outside, "curl", "--silent", "--max-time", "5", "--output", "/dev/null", "--write-out", "%{http_code}", url)
		return out == status
	}, 2*patience, 20*time.Millisecond)
}

// dialIn connects in a namespace.
func dialIn(s capturetest.Space, address string) wire.Dial {
	return func(ctx context.Context) (conn net.Conn, err error) {
		err = s.In(func() (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			return err
		})
		return conn, err
	}
}

// snapshot is the configuration: the pod's own service, an upstream and a database.
func snapshot() *mesh.Snapshot {
	set := mesh.NewSnapshot()
	add := func(name, virtual string, port int, protocol mesh.Protocol, endpoint mesh.Endpoint) {
		host := mesh.FQDN(name, namespace)
		set.Services[host] = &mesh.Service{Host: host, Ports: []mesh.Port{{Number: port, Protocol: protocol}}, Addresses: []string{virtual}}
		endpoint.Workload, endpoint.Labels = name+"-v1", mesh.Labels{"app": name, "version": "v1"}
		set.Endpoints[mesh.HostPort(host, port)] = &mesh.Endpoints{Host: host, Port: port, Endpoints: []mesh.Endpoint{endpoint}}
	}
	add("web", "10.96.0.1", 80, mesh.HTTP, mesh.Endpoint{Address: podIP, Port: 8080})
	add("backend", "10.96.0.2", 80, mesh.HTTP, mesh.Endpoint{Address: outsideIP, Port: 8000})
	add("database", "10.96.0.3", 5432, mesh.TCP, mesh.Endpoint{Address: outsideIP, Port: 5400})
	instance := podName + "." + namespace
	set.Inbound[instance] = &mesh.Inbound{
		Workload: mesh.Workload{Name: "web-v1", Namespace: namespace, Service: "web", Version: "v1", Instance: instance, Labels: mesh.Labels{"app": "web", "version": "v1"}},
		Listen:   []mesh.InboundPort{{App: podIP + ":8080", Port: 80, Protocol: mesh.HTTP}},
		Capture:  &mesh.Capture{Inbound: ":15006", Outbound: ":15001"},
		Tokens:   mesh.Tokens{Direct: wire.TokenDigest("direct")},
	}
	return set
}

func TestPod(t *testing.T) {
	c := newCluster(t)
	key := "first"
	c.write("token", wire.InstanceToken(key, podName+"."+namespace)+"\n")

	site := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "backend hears ", r.Host) })}
	serving := sync.WaitGroup{}
	for _, address := range []string{outsideIP + ":8000", outsideIP + ":8888"} {
		l := c.listen(c.outside, address)
		serving.Go(func() { _ = site.Serve(l) })
	}
	database := c.listen(c.outside, outsideIP+":5400")
	serving.Go(func() {
		for {
			conn, err := database.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "database greets")
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_, _ = site.Close(), database.Close()
		serving.Wait()
	})
	content := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(content, "index.html"), []byte("web says hello"), 0o644))
	c.start(c.pod, exec.Command("python3", "-m", "http.server", "8080", "--bind", podIP, "--directory", content))
	c.eventually("http://"+podIP+":8080/", "200")

	rules := c.capture("--exclude-inbound-ports", "9090")
	require.Contains(t, rules, "redirect to :15001")
	require.Contains(t, rules, "tcp dport 9090 return")
	require.Equal(t, rules, c.capture("--exclude-inbound-ports", "9090"), "again does no harm")
	_, err := c.run(c.pod, "setpriv", "--bounding-set=-all", "--inh-caps=-all", c.binary, "capture")
	require.ErrorContains(t, err, "NET_ADMIN")

	c.startSidecar()
	c.eventually("http://"+podIP+":15021/healthz/ready", "503") // it knows nothing yet
	server, stopControl := c.controlPlane(key, 1)
	applied, err := server.Change(wire.Change{Whole: true, Set: snapshot()})
	require.NoError(t, err)
	require.Equal(t, uint64(1), applied.Generation.Counter)
	c.eventually("http://"+podIP+":15021/healthz/ready", "200")

	for _, test := range []struct {
		name string
		from capturetest.Space
		args []string
		want string
	}{
		{"what comes", c.outside, []string{"http://" + podIP + ":8080/"}, "web says hello\n200"},
		{"by name", c.pod, []string{"--header", "Host: backend", "http://10.96.0.2/"}, "backend hears backend\n200"},
		{"by address", c.pod, []string{"http://10.96.0.2/"}, "backend hears 10.96.0.2\n200"},
		{"a name that is elsewhere", c.pod, []string{"--header", "Host: backend.shop", "http://192.0.2.1/"}, "backend hears backend.shop\n200"},
		{"itself", c.pod, []string{"http://10.96.0.1/"}, "web says hello\n200"},
		{"the unknown", c.pod, []string{"http://" + outsideIP + ":8888/"}, "backend hears " + outsideIP + ":8888\n200"},
		{"an answer of the mesh", c.outside, []string{"http://" + podIP + ":8080/nothing", "--output", "/dev/null"}, "\n404"},
	} {
		require.Equal(t, test.want, c.curl(test.from, test.args...), test.name)
	}
	conn, err := dialIn(c.pod, "10.96.0.3:5432")(t.Context())
	require.NoError(t, err)
	greeting, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.Equal(t, "database greets", string(greeting))

	metrics := c.curl(c.outside, "http://"+podIP+":15020/stats/prometheus")
	for _, part := range []string{
		`istio_requests_total{reporter="destination"`, `destination_service="backend.shop.svc.cluster.local"`, `destination_service_name="PassthroughCluster"`,
		`istio_tcp_sent_bytes_total{reporter="source"`, `connections_total{listener="captured_inbound"} 3`, "process_cpu_seconds_total", "process_resident_memory_bytes",
	} {
		require.True(t, strings.Contains(metrics, part), "the metrics do not tell %s", part)
	}
	require.Contains(t, c.curl(c.outside, "http://"+podIP+":15020/config_dump"), "\n404")
	_, err = dialIn(c.outside, podIP+":15000")(t.Context())
	require.Error(t, err, "administration is not for others")
	admin := "http://127.0.0.1:15000"
	require.Contains(t, c.curl(c.pod, admin+"/config_dump"), `"instance": "web-v1-abc.shop"`)
	require.Contains(t, c.curl(c.pod, "--header", "Host: evil.example", admin+"/config_dump"), "\n403")
	require.Contains(t, c.curl(c.pod, "--header", "Origin: http://evil.example", admin+"/config_dump"), "\n403")
	require.Contains(t, c.curl(c.pod, "--request", "POST", admin+"/logging?level=debug"), "\n401")
	require.Equal(t, "WARN\n\n200", c.curl(c.pod, "--request", "POST", "--header", "Authorization: Bearer direct", admin+"/logging?level=warn"))

	c.evidence()

	// The control plane comes back with another key, as it does with another life of its tokens: the pod's token is read anew.
	stopControl()
	require.Equal(t, "web says hello\n200", c.curl(c.outside, "http://"+podIP+":8080/"), "without a control plane it goes on")
	c.write("token", wire.InstanceToken("second", podName+"."+namespace))
	server, _ = c.controlPlane("second", 2)
	set := snapshot()
	delete(set.Endpoints, mesh.HostPort(mesh.FQDN("backend", namespace), 80))
	_, err = server.Change(wire.Change{Whole: true, Set: set})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return c.curl(c.pod, "--output", "/dev/null", "http://10.96.0.2/") == "\n503"
	}, 2*patience, 50*time.Millisecond)

	require.NoError(t, c.sidecar.Process.Signal(syscall.SIGTERM))
	require.NoError(t, c.sidecar.Wait(), c.log.String())
	require.NotContains(t, c.log.String(), "ERROR")
	c.capture("--remove")
	require.Equal(t, "backend hears backend\n200", c.curl(c.pod, "--header", "Host: backend", "http://"+outsideIP+":8000/"))
}

// evidence requires that whoever shows the token hears of what the pod called, and nobody else.
func (c *cluster) evidence() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	dial := dialIn(c.pod, directAddress)
	err := wire.NewDirect(dial, "guessed").Evidence(ctx, 0, func(mesh.EvidenceBlock) error { return errors.New("heard") })
	require.ErrorContains(c.t, err, "token")
	edges := map[mesh.Edge]uint64{}
	require.NoError(c.t, wire.NewDirect(dial, "direct").Evidence(ctx, 0, func(b mesh.EvidenceBlock) error {
		for _, cell := range b.Cells {
			edges[cell.Edge] += cell.Requests
		}
		if edges[mesh.Edge{From: "web.shop", To: "backend.shop"}] == 3 && edges[mesh.Edge{From: "web.shop", To: "web.shop"}] == 1 {
			cancel()
		}
		return nil
	}))
	require.Len(c.t, edges, 2)
}
