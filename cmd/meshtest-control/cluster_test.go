package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiversion "k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/kube/discovery"
	"meshtest.dev/meshtest/env/kube/discovery/apitest"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

const (
	system  = "meshtest-1"
	shop    = "shop-1"
	address = names.Control + "." + system + ".svc"
)

// world is a cluster with one application, and several control planes behind one Service.
type world struct {
	t       *testing.T
	api     *apitest.API
	secrets string
	roots   *x509.CertPool
	owner   *wire.Configuration

	mu     sync.Mutex
	planes []*process
}

// process is a control plane, as a process would be.
type process struct {
	*cluster
	t    *testing.T
	stop func()

	mu    sync.Mutex
	ports map[int]string // addresses
}

func newWorld(t *testing.T) *world {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web-1", Labels: map[string]string{"app": "web", "version": "v1"}},
		Spec:       corev1.PodSpec{InitContainers: []corev1.Container{{Name: names.ContainerSidecar}}},
		Status:     corev1.PodStatus{PodIP: "10.0.0.1"},
	}
	port, name := int32(8080), "http"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web-a", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "web-1"}}},
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.1", Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: names.Control}}
	w := &world{t: t, api: apitest.New(system, pod, slice, service, lease), secrets: t.TempDir()}
	w.api.PrependReactor("create", "tokenreviews", reviewToken)
	versions, ok := w.api.Discovery().(*fakediscovery.FakeDiscovery)
	require.True(t, ok)
	versions.FakedServerVersion = &apiversion.Info{Major: "1", Minor: "31+", GitVersion: "v1.31.2-gke.7"}
	w.certify()
	for name, value := range map[string]string{names.KeyOwnerToken: "owner\n", names.KeyInstanceKey: "key"} {
		require.NoError(t, os.WriteFile(filepath.Join(w.secrets, name), []byte(value), 0o600))
	}
	var err error
	w.owner, err = wire.NewConfiguration(w.dial(), "owner")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.owner.Close()) })
	return w
}

// reviewToken knows tokens of the form POD.NAMESPACE.
func reviewToken(action clienttesting.Action) (bool, runtime.Object, error) {
	review, ok := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
	if !ok {
		return false, nil, nil
	}
	pod, namespace, ok := strings.Cut(review.Spec.Token, ".")
	return true, &authenticationv1.TokenReview{Status: authenticationv1.TokenReviewStatus{
		Authenticated: ok, Audiences: review.Spec.Audiences, User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:" + namespace + ":web", Extra: map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/pod-name": {pod}},
		},
	}}, nil
}

// certify puts a certificate for the Service into the volume.
func (w *world) certify() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(w.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{address},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(w.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(w.t, err)
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(w.t, os.WriteFile(filepath.Join(w.secrets, "tls.crt"), chain, 0o600))
	require.NoError(w.t, os.WriteFile(filepath.Join(w.secrets, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	w.roots = x509.NewCertPool()
	require.True(w.t, w.roots.AppendCertsFromPEM(chain))
}

// start starts a control plane, and returns when it hears everything that happens in the cluster.
func (w *world) start(pod string) *process {
	w.t.Helper()
	o := &clusterOptions{namespaces: namespaceFlag{shop: "shop"}, run: "1", sidecarImage: "sidecar:1", secrets: w.secrets}
	log := slog.New(slog.DiscardHandler)
	p := &process{t: w.t, ports: map[int]string{}}
	p.cluster = &cluster{
		pod: pod, system: system, client: w.api, secrets: secrets{w.secrets}, log: log, listen: p.open,
		source: discovery.Source{Client: w.api, Dynamic: w.api.Dynamic, Namespaces: o.namespaces, System: system, Log: log},
	}
	require.NoError(w.t, p.find(o))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
	w.t.Cleanup(p.stop)
	for range 4 {
		<-w.api.Watched
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.planes = append(w.planes, p)
	return p
}

// open listens on any port instead of the given one.
func (p *process) open(port int) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ports[port] = l.Addr().String()
	}
	return l, err
}

func (p *process) at(port int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ports[port]
}

// dial leads to whichever control plane is ready, as the Service does.
func (w *world) dial() wire.Dial {
	anyReady := func(ctx context.Context) (net.Conn, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range w.planes {
			if status, _, err := get("http://" + p.at(names.PortReady) + names.PathReady); err == nil && status == http.StatusOK {
				return new(net.Dialer).DialContext(ctx, "tcp", p.at(names.PortControl))
			}
		}
		return nil, errors.New("connection refused")
	}
	return wire.Secure(anyReady, address, func() (*x509.CertPool, error) { return w.roots, nil })
}

func get(url string) (status int, body string, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func (p *process) get(port int, path string) (status int, body string) {
	p.t.Helper()
	status, body, err := get("http://" + p.at(port) + path)
	require.NoError(p.t, err)
	return status, body
}

// sidecar keeps what it is told.
type sidecar struct {
	mu         sync.Mutex
	snapshot   *mesh.Snapshot
	generation mesh.Generation
	resources  int
	changed    chan struct{}
}

func (s *sidecar) Apply(u mesh.Update) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resources += len(u.Removed) + len(u.Set.Services) + len(u.Set.Endpoints) + len(u.Set.Routes) + len(u.Set.Inbound)
	s.snapshot, s.generation = s.snapshot.Apply(u), u.Generation
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *sidecar) until(wanted func(*sidecar) bool) {
	for {
		s.mu.Lock()
		ok, changed := wanted(s), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		<-changed
	}
}

func (w *world) sidecar(instance string) *sidecar {
	s := &sidecar{snapshot: mesh.NewSnapshot(), changed: make(chan struct{})}
	hello := wire.Hello{Instance: instance, TokenSource: func() (string, error) { return instance, nil }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- wire.Discover(ctx, w.dial(), hello, s, slog.New(slog.DiscardHandler)) }()
	w.t.Cleanup(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
	return s
}

var web = mesh.FQDN("web", "shop")

func split(weight uint32) wire.Change {
	set := mesh.NewSnapshot()
	set.Routes[web+":80"] = &mesh.RouteTable{Host: web, Port: 80, Routes: []mesh.Route{{Name: "split", Split: []mesh.Destination{{Host: web, Port: 80, Weight: weight}}}}}
	return wire.Change{Set: set}
}

// TestOneLeadsAndTheNextGoesOn: two control planes of one cluster. The second one takes over with what the owner told the first one, and the sidecar sees no difference.
func TestOneLeadsAndTheNextGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start("control-a")
	s := w.sidecar("web-1." + shop)
	whole := split(1)
	whole.Whole = true
	applied, err := w.owner.Apply(t.Context(), whole)
	require.NoError(t, err)
	require.EqualValues(t, 1, applied.Generation.Epoch)
	_, err = w.owner.Await(t.Context(), applied.Generation, "web-1."+shop)
	require.NoError(t, err)
	s.until(func(s *sidecar) bool { return s.generation == applied.Generation })

	status, _ := first.get(names.PortReady, names.PathReady)
	require.Equal(t, http.StatusOK, status)
	_, metrics := first.get(names.PortMonitor, "/metrics")
	for _, line := range []string{
		"meshtest_control_leader 1", "meshtest_control_connected_sidecars 1", "meshtest_control_generation_epoch 1",
		fmt.Sprintf("meshtest_control_generation_counter %d", applied.Generation.Counter), fmt.Sprintf("meshtest_control_converged_counter %d", applied.Generation.Counter),
		"meshtest_control_nacks_total 0", "meshtest_control_problems 0", "meshtest_control_token_reviews_total 1",
	} {
		require.Contains(t, metrics, line+"\n")
	}

	second := w.start("control-b")
	status, body := second.get(names.PortReady, names.PathReady)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "does not lead\n", body)
	status, _ = second.get(names.PortReady, "/healthz/live")
	require.Equal(t, http.StatusOK, status)
	_, metrics = second.get(names.PortMonitor, "/metrics")
	require.Contains(t, metrics, "meshtest_control_leader 0\n")
	require.NotContains(t, metrics, "meshtest_control_pushes_total ")

	s.mu.Lock()
	before, resources := s.snapshot, s.resources
	s.mu.Unlock()
	first.stop()
	s.until(func(s *sidecar) bool { return s.generation.Epoch == 2 })
	s.mu.Lock()
	require.Equal(t, before, s.snapshot)
	require.Equal(t, resources, s.resources, "only the generation was told")
	s.mu.Unlock()

	applied, err = w.owner.Apply(t.Context(), split(7))
	require.NoError(t, err)
	require.EqualValues(t, 2, applied.Generation.Epoch)
	require.Equal(t, []string{"web-1." + shop}, applied.Affected)
	s.until(func(s *sidecar) bool { return s.snapshot.Routes[web+":80"].Routes[0].Split[0].Weight == 7 })
	require.Equal(t, resources+1, s.resources)
}

// TestStrangersAreNotServed: tokens are good for one pod of the mesh's namespaces, and the owner's for nobody else.
func TestStrangersAreNotServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start("control-a")
	for _, test := range []struct{ instance, token, want string }{
		{"web-1." + shop, "web-2." + shop, "the token is that of web-2.shop-1, not of web-1.shop-1"}, {"x.kube-system", "x.kube-system", "nothing to do with namespace kube-system"},
		{"web-1." + shop, "nothing", "it is not good"}, {"web-1." + shop, "", "shows no token"},
	} {
		var lost error
		require.Eventually(t, func() bool { // until there is somebody to say no
			lost = wire.Discover(t.Context(), w.dialOnce(), wire.Hello{Instance: test.instance, Token: test.token}, &sidecar{}, slog.New(slog.DiscardHandler))
			return !strings.Contains(lost.Error(), "refused")
		}, 2*time.Minute, time.Millisecond)
		require.ErrorContains(t, lost, test.want)
	}
	stranger, err := wire.NewConfiguration(w.dial(), "key")
	require.NoError(t, err)
	_, err = stranger.Apply(t.Context(), wire.Change{Whole: true})
	require.ErrorContains(t, err, "the token is not the owner's")
	require.NoError(t, stranger.Close())
}

// dialOnce waits for a control plane that is ready.
func (w *world) dialOnce() wire.Dial {
	dial := w.dial()
	return func(ctx context.Context) (net.Conn, error) {
		for {
			conn, err := dial(ctx)
			if err == nil || ctx.Err() != nil {
				return conn, err
			}
		}
	}
}

func TestPodsAreInjected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("control-a")
	pod := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-2"}, "spec": {"containers": [{"name": "app", "image": "web:1"}]}}`
	review := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "u", Operation: admissionv1.Create, Namespace: shop, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Object: runtime.RawExtension{Raw: []byte(pod)},
		},
	}
	body, err := json.Marshal(review)
	require.NoError(t, err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: w.roots, ServerName: address}}}
	response, err := client.Post("https://"+p.at(names.PortWebhook)+names.PathInject, "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer response.Body.Close()
	var answer admissionv1.AdmissionReview
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	require.True(t, answer.Response.Allowed)
	patch := string(answer.Response.Patch)
	require.Contains(t, patch, `"sidecar:1"`)
	require.Contains(t, patch, address+":15012")
	require.Contains(t, patch, `"restartPolicy":"Always"`, "this cluster lets init containers go on")
}

func TestWhatTheVersionOfTheClusterMeans(t *testing.T) {
	t.Parallel()
	for version, native := range map[string]bool{"v1.28.9": false, "v1.29.0": true, "v1.34.4-eks-1": true, "v2.0.0": true} {
		api := &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{}, FakedServerVersion: &apiversion.Info{GitVersion: version}}
		c, err := injection(api, &clusterOptions{namespaces: namespaceFlag{"b": "b", "a": "a"}, sidecarImage: "s"}, system)
		require.NoError(t, err)
		require.Equal(t, native, c.NativeSidecars, version)
		require.Equal(t, []string{"a", "b"}, c.Namespaces)
	}
	odd := &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{}, FakedServerVersion: &apiversion.Info{GitVersion: "new"}}
	_, err := injection(odd, &clusterOptions{sidecarImage: "s"}, system)
	require.ErrorContains(t, err, "reading the API server's version")
}

// TestAPartThatFailsEndsAll: what cannot listen is of no use.
func TestAPartThatFailsEndsAll(t *testing.T) {
	t.Parallel()
	for _, port := range []int{names.PortReady, names.PortMonitor, names.PortWebhook, names.PortControl} {
		w := newWorld(t)
		log := slog.New(slog.DiscardHandler)
		c := &cluster{
			pod: "control-a", system: system, client: w.api, secrets: secrets{w.secrets}, log: log,
			source: discovery.Source{Client: w.api, Dynamic: w.api.Dynamic, Namespaces: map[string]string{shop: "shop"}, System: system, Log: log},
			listen: func(p int) (net.Listener, error) {
				if p == port {
					return nil, errors.New("port " + strconv.Itoa(p) + " is taken")
				}
				return net.Listen("tcp", "127.0.0.1:0")
			},
		}
		require.ErrorContains(t, c.run(t.Context()), fmt.Sprintf("port %d is taken", port))
	}
}
