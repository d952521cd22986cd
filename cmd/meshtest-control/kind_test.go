//go:build e2e

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/kube/apply"
	kind "meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/crds"
	"meshtest.dev/meshtest/env/kube/forward"
	"meshtest.dev/meshtest/env/kube/images"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// realCluster is a kind cluster with two control planes, which may do what the comment of package discovery says and no more, and an application.
type realCluster struct {
	t       *testing.T
	world   *world // for its certificates
	config  *rest.Config
	client  kubernetes.Interface
	applier *apply.Applier
	forward *forward.Forwarder
	control images.Image
	fixture images.Image
}

func newRealCluster(t *testing.T) *realCluster {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	c, err := kind.Create(t.Context(), kind.Options{Name: "mt-control", Wait: 2 * time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Delete(context.Background())) })
	r := &realCluster{t: t, world: &world{t: t, secrets: t.TempDir()}}
	r.world.certify()
	nodes, err := c.Nodes()
	require.NoError(t, err)
	for program, image := range map[string]*images.Image{"meshtest-control": &r.control, "meshtest-fixture": &r.fixture} {
		*image, err = images.Build(build(t, program), program)
		require.NoError(t, err)
		require.NoError(t, images.Load(t.Context(), nodes, *image))
	}
	config, err := c.RestConfig()
	require.NoError(t, err)
	config.QPS, config.Burst = 100, 200
	r.config = config
	r.client, err = kubernetes.NewForConfig(config)
	require.NoError(t, err)
	r.applier, err = apply.New(config)
	require.NoError(t, err)
	r.forward, err = forward.New(config)
	require.NoError(t, err)
	t.Cleanup(r.forward.Close)
	return r
}

// build builds a static binary.
func build(t *testing.T, program string) string {
	path := filepath.Join(t.TempDir(), program)
	cmd := exec.Command("go", "build", "-o", path, "meshtest.dev/meshtest/cmd/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return path
}

func (r *realCluster) apply(objects ...runtime.Object) {
	r.t.Helper()
	u, err := apply.Convert(objects...)
	require.NoError(r.t, err)
	require.NoError(r.t, r.applier.Apply(r.t.Context(), u...))
}

func in(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func (r *realCluster) file(name string) []byte {
	text, err := os.ReadFile(filepath.Join(r.world.secrets, name))
	require.NoError(r.t, err)
	return text
}

func typed(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

const rbac = "rbac.authorization.k8s.io/v1"

func rules(groups []string, resources []string, names []string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: groups, Resources: resources, ResourceNames: names, Verbs: verbs}
}

// allow lets the control plane's account do something in a namespace.
func (r *realCluster) allow(namespace string, may ...rbacv1.PolicyRule) {
	subject := rbacv1.Subject{Kind: "ServiceAccount", Name: names.Control, Namespace: system}
	r.apply(
		&rbacv1.Role{TypeMeta: typed(rbac, "Role"), ObjectMeta: in(namespace, "control"), Rules: may},
		&rbacv1.RoleBinding{TypeMeta: typed(rbac, "RoleBinding"), ObjectMeta: in(namespace, "control"), Subjects: []rbacv1.Subject{subject},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "control"}},
	)
}

func (r *realCluster) install() {
	definitions, err := crds.Objects()
	require.NoError(r.t, err)
	require.NoError(r.t, r.applier.Apply(r.t.Context(), definitions...))
	for _, namespace := range []string{system, shop} {
		r.apply(&corev1.Namespace{TypeMeta: typed("v1", "Namespace"), ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	}
	r.apply(&corev1.ServiceAccount{TypeMeta: typed("v1", "ServiceAccount"), ObjectMeta: in(system, names.Control)})
	look := []string{"list", "watch"}
	r.allow(shop, rules([]string{""}, []string{"services", "pods"}, nil, look...), rules([]string{"discovery.k8s.io"}, []string{"endpointslices"}, nil, look...),
		rules([]string{"networking.istio.io"}, []string{"virtualservices", "destinationrules", "gateways"}, nil, look...))
	r.allow(system, rules([]string{""}, []string{"pods"}, nil, look...), rules([]string{""}, []string{"secrets"}, []string{names.Rules}, "get", "update"),
		rules([]string{"coordination.k8s.io"}, []string{"leases"}, []string{names.Control}, "get", "update"))
	r.apply(
		&rbacv1.ClusterRole{TypeMeta: typed(rbac, "ClusterRole"), ObjectMeta: metav1.ObjectMeta{Name: "mt-control"}, Rules: []rbacv1.PolicyRule{rules([]string{"authentication.k8s.io"}, []string{"tokenreviews"}, nil, "create")}},
		&rbacv1.ClusterRoleBinding{TypeMeta: typed(rbac, "ClusterRoleBinding"), ObjectMeta: metav1.ObjectMeta{Name: "mt-control"},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mt-control"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: names.Control, Namespace: system}}},
		&corev1.Secret{TypeMeta: typed("v1", "Secret"), ObjectMeta: in(system, names.Rules)},
		&corev1.Secret{TypeMeta: typed("v1", "Secret"), ObjectMeta: in(system, names.Control), Data: map[string][]byte{
			"tls.crt": r.file("tls.crt"), "tls.key": r.file("tls.key"), names.KeyOwnerToken: []byte("owner"), names.KeyInstanceKey: []byte("key"),
		}},
		&coordinationv1.Lease{TypeMeta: typed("coordination.k8s.io/v1", "Lease"), ObjectMeta: in(system, names.Control)},
	)
	r.apply(r.controlPlanes(), r.application(), &corev1.Service{
		TypeMeta: typed("v1", "Service"), ObjectMeta: in(shop, "web"),
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}}},
	})
}

func (r *realCluster) controlPlanes() *appsv1.Deployment {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	two, labels := int32(2), map[string]string{names.LabelRole: names.RoleControl}
	return &appsv1.Deployment{TypeMeta: typed("apps/v1", "Deployment"), ObjectMeta: in(system, names.Control), Spec: appsv1.DeploymentSpec{
		Replicas: &two, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			ServiceAccountName: names.Control,
			Containers: []corev1.Container{{
				Name: "control", Image: r.control.Ref, Args: []string{"--kubernetes", "--namespace=" + shop + "=shop", "--sidecar-image=none", "--log-level=DEBUG"},
				Env:            []corev1.EnvVar{field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: names.PathReady, Port: intstr.FromInt(names.PortReady)}}},
				VolumeMounts:   []corev1.VolumeMount{{Name: "secrets", MountPath: names.SecretsDir}},
			}},
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: names.Control}}}},
		}},
	}}
}

// application is a pod that looks as if it had a sidecar; the test plays that.
func (r *realCluster) application() *corev1.Pod {
	p := &corev1.Pod{TypeMeta: typed("v1", "Pod"), ObjectMeta: in(shop, "web-1"), Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: names.ContainerSidecar, Image: r.fixture.Ref, Args: []string{"echo"}, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}},
		Env: []corev1.EnvVar{{Name: "HOST", Value: "0.0.0.0"}, {Name: "PORT", Value: "8080"}},
	}}}}
	p.Labels = map[string]string{"app": "web", "version": "v1"}
	return p
}

// leader waits until one control plane, and no other than it, is ready, and returns its name.
func (r *realCluster) leader(not string) (name string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		pods, err := r.client.CoreV1().Pods(system).List(r.t.Context(), metav1.ListOptions{LabelSelector: names.LabelRole + "=" + names.RoleControl})
		if err != nil {
			return false
		}
		var ready []string
		for _, p := range pods.Items {
			is := func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }
			if p.DeletionTimestamp == nil && p.Name != not && slices.ContainsFunc(p.Status.Conditions, is) {
				ready = append(ready, p.Name)
			}
		}
		if len(ready) == 1 {
			name = ready[0]
		}
		return len(ready) == 1
	}, 2*time.Minute, 50*time.Millisecond)
	return name
}

// dial leads to whoever is ready.
func (r *realCluster) dial() wire.Dial {
	leading := func(ctx context.Context) (net.Conn, error) {
		pods, err := r.client.CoreV1().Pods(system).List(ctx, metav1.ListOptions{LabelSelector: names.LabelRole + "=" + names.RoleControl})
		if err != nil {
			return nil, err
		}
		for _, p := range pods.Items {
			is := func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }
			if p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, is) {
				return r.forward.Dial(system, p.Name, names.PortControl)(ctx)
			}
		}
		return nil, errors.New("nobody is ready")
	}
	return wire.Secure(leading, address, func() (*x509.CertPool, error) { return r.world.roots, nil })
}

// token asks for a token as the kubelet does for a volume.
func (r *realCluster) token(pod string, audience string) (string, error) {
	p, err := r.client.CoreV1().Pods(shop).Get(r.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID},
	}}
	answer, err := r.client.CoreV1().ServiceAccounts(shop).CreateToken(r.t.Context(), "default", request, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}

func (r *realCluster) logs(pod string) string {
	text, err := r.client.CoreV1().Pods(system).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(r.t.Context())
	require.NoError(r.t, err)
	return string(text)
}

func TestInARealCluster(t *testing.T) {
	if os.Getenv(kind.EnvImage) == "" {
		t.Skip(kind.EnvImage + " is not set")
	}
	r := newRealCluster(t)
	r.install()
	first := r.leader("")
	owner, err := wire.NewConfiguration(r.dial(), "owner")
	require.NoError(t, err)
	defer owner.Close()
	instance := "web-1." + shop
	s := &sidecar{snapshot: mesh.NewSnapshot(), changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	hello := wire.Hello{Instance: instance, TokenSource: func() (string, error) { return r.token("web-1", names.Audience) }}
	go func() { done <- wire.Discover(ctx, r.dial(), hello, s, slog.New(slog.DiscardHandler)) }()
	defer func() { cancel(); require.NoError(t, <-done) }()
	s.until(func(s *sidecar) bool {
		e := s.snapshot.Endpoints[web+":80"]
		return e != nil && len(e.Endpoints) == 1 && len(s.snapshot.Inbound) == 1
	})
	s.locked(func() {
		require.Equal(t, 8080, s.snapshot.Endpoints[web+":80"].Endpoints[0].Port, "the pod's named port")
		require.NotEmpty(t, s.snapshot.Services[web].Addresses)
	})

	whole := split(1)
	whole.Whole = true
	applied, err := owner.Apply(t.Context(), whole)
	require.NoError(t, err)
	_, err = owner.Await(t.Context(), applied.Generation, instance)
	require.NoError(t, err)

	t.Run("strangers", func(t *testing.T) {
		wrongAudience, err := r.token("web-1", "somebody")
		require.NoError(t, err)
		right, err := r.token("web-1", names.Audience)
		require.NoError(t, err)
		for token, want := range map[string]string{wrongAudience: "it is not good", right: "the token is that of web-1.shop-1", "junk": "it is not good"} {
			hello := wire.Hello{Instance: instance, Token: token}
			if token == right {
				hello.Instance = "web-2." + shop
			}
			require.ErrorContains(t, wire.Discover(t.Context(), r.dial(), hello, &sidecar{}, slog.New(slog.DiscardHandler)), want)
		}
	})

	t.Run("istio", func(t *testing.T) {
		objects, err := apply.Decode("rules.yaml", []byte(rulesOfAUser))
		require.NoError(t, err)
		user, err := apply.New(r.config) // somebody who comes when all kinds are known
		require.NoError(t, err)
		require.NoError(t, user.Apply(t.Context(), objects...))
		s.until(func(s *sidecar) bool {
			return len(s.snapshot.Services[web].Subsets) == 1 && s.snapshot.Routes["books.shop.gateway:8080"] != nil
		})
		s.locked(func() {
			require.Equal(t, "split", s.snapshot.Routes[web+":80"].Routes[0].Name, "the owner's word counts")
		})
	})

	for round, grace := range []int64{30, 0} {
		before, resources := s.state()
		epoch := s.epoch()
		began := time.Now()
		leading := r.leader("")
		require.NoError(t, r.client.CoreV1().Pods(system).Delete(t.Context(), leading, metav1.DeleteOptions{GracePeriodSeconds: &grace}))
		s.until(func(s *sidecar) bool { return s.generation.Epoch > epoch })
		t.Logf("with a grace of %d s, the next one had told the sidecar after %v", grace, time.Since(began))
		after, told := s.state()
		require.Equal(t, before, after)
		require.Equal(t, resources, told, "only the generation is told")
		change := split(uint32(10 + round))
		applied, err := owner.Apply(t.Context(), change)
		require.NoError(t, err)
		s.until(func(s *sidecar) bool { return s.generation == applied.Generation })
		require.EqualValues(t, epoch+1, applied.Generation.Epoch)
	}

	next := r.leader(first)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return r.forward.Dial(system, next, names.PortMonitor)(ctx)
	}}}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://control/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), "meshtest_control_connected_sidecars 1\n")
	log := r.logs(next)
	require.NotContains(t, log, "forbidden", "it may do all that it does")
	require.NotContains(t, log, `"level":"ERROR"`)
}

const rulesOfAUser = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop-1}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop-1}
spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: books, namespace: shop-1}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}
`

func (s *sidecar) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *sidecar) state() (snapshot *mesh.Snapshot, resources int) {
	s.locked(func() { snapshot, resources = s.snapshot, s.resources })
	return snapshot, resources
}

func (s *sidecar) epoch() (epoch uint64) {
	s.locked(func() { epoch = s.generation.Epoch })
	return epoch
}
