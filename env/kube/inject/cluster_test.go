//go:build e2e

package inject_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/yaml"

	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/internal/oci"
)

// clusterNamespace is where the test's pods are.
const clusterNamespace = "default"

// TestCluster injects pods into a real cluster, and looks at what their sidecars get:
//
//	eval "$(hack/kind-offline/up)" && go test -tags e2e -run TestCluster -v ./env/kube/inject
func TestCluster(t *testing.T) {
	client := newCluster(t)
	authority := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: names.CA}, Data: map[string]string{names.KeyCA: "the authority\n"}}
	_, err := client.CoreV1().ConfigMaps(clusterNamespace).Create(t.Context(), authority, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.CoreV1().ServiceAccounts(clusterNamespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "caller"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	target := start(t, client, manifestPod(t, nil, func(p *corev1.Pod) { p.Name, p.Spec.InitContainers = "target", nil }))

	for _, native := range []bool{true, false} {
		name := map[bool]string{true: "native", false: "classic"}[native]
		t.Run(name, func(t *testing.T) {
			c := inject.Config{Image: "mesh.test/standin:test", ControlAddress: "control.test:15012", RunID: "r1", NativeSidecars: native}
			p := start(t, client, manifestPod(t, &c, func(p *corev1.Pod) {
				p.Name = name
				if !native { // nobody answers yet
					p.Spec.InitContainers = slices.DeleteFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "early" })
				}
			}))
			say := func(port int, path string) string { return proxied(t, client, p.Name, port, path) }

			require.Equal(t, "captured inbound to "+p.Status.PodIP+":8080 <nil>\n", say(8080, "/"))
			require.Equal(t, "application\n", say(9090, "/"), "an excluded port")
			require.Equal(t, "captured outbound to 10.1.2.3:80 <nil>\n", say(9090, "/call?to=10.1.2.3:80"))
			require.Equal(t, "captured outbound to "+target.Status.PodIP+":8080 <nil>\n", say(9090, "/call?to="+target.Status.PodIP+":8080"))
			require.Equal(t, "application\n", say(9090, "/call?to="+target.Status.PodIP+":9090"), "an excluded port elsewhere")
			require.Equal(t, "application\n", say(9090, "/call?to=127.0.0.1:8080"), "the application's own loopback")
			if native {
				require.Equal(t, "captured outbound to 10.1.2.3:80 <nil>\n", logs(t, client, p.Name, "early"))
			}
			require.Contains(t, logs(t, client, p.Name, names.ContainerCapture), "table inet meshtest")

			require.Equal(t, "the authority\n", say(15020, "/ca.crt"))
			requireIdentity(t, client, p, say(15020, "/token"))
			identity := say(15020, "/identity")
			require.True(t, strings.HasPrefix(identity, p.Name+"."+clusterNamespace+" control.test:15012 r1\n"), identity)
			for _, line := range []string{"Uid:\t1337\t1337\t1337\t1337", "Gid:\t1337\t1337\t1337\t1337", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
				require.Contains(t, identity, line)
			}
		})
	}

	// What the capture container has is what it needs: without its capability it says so.
	t.Run("without NET_ADMIN", func(t *testing.T) {
		c := inject.Config{Image: "mesh.test/standin:test", ControlAddress: "control.test:15012", NativeSidecars: true}
		p := manifestPod(t, &c, func(p *corev1.Pod) {
			p.Name = "weak"
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.InitContainers[0].SecurityContext.Capabilities.Add = nil
		})
		p, err := client.CoreV1().Pods(clusterNamespace).Create(t.Context(), p, metav1.CreateOptions{})
		require.NoError(t, err)
		p = follow(t, client, p.Name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		require.EqualValues(t, 1, p.Status.InitContainerStatuses[0].State.Terminated.ExitCode)
		require.Contains(t, logs(t, client, p.Name, names.ContainerCapture), "operation not permitted")
	})

	// Every kind of workload is one that the API server takes, as a file and as a patch of its pods.
	t.Run("dry run", func(t *testing.T) {
		text, err := os.ReadFile("testdata/workloads.yaml")
		require.NoError(t, err)
		out, notes, err := inject.Manifest("testdata/workloads.yaml", text, config())
		require.NoError(t, err)
		require.Len(t, notes, 8)
		paths := map[string]string{
			"Deployment": "/apis/apps/v1/namespaces/default/deployments", "StatefulSet": "/apis/apps/v1/namespaces/default/statefulsets", "DaemonSet": "/apis/apps/v1/namespaces/default/daemonsets",
			"ReplicaSet": "/apis/apps/v1/namespaces/default/replicasets", "Job": "/apis/batch/v1/namespaces/default/jobs", "CronJob": "/apis/batch/v1/namespaces/default/cronjobs",
			"Pod": "/api/v1/namespaces/default/pods", "ReplicationController": "/api/v1/namespaces/default/replicationcontrollers",
		}
		for _, document := range strings.Split(string(out), "\n---\n") {
			var kind metav1.TypeMeta
			require.NoError(t, yaml.Unmarshal([]byte(document), &kind))
			body, err := yaml.YAMLToJSON([]byte(document))
			require.NoError(t, err)
			result := client.CoreV1().RESTClient().Post().AbsPath(paths[kind.Kind]).Param("dryRun", "All").Param("fieldValidation", "Strict").
				SetHeader("Content-Type", "application/json").Body(body).Do(t.Context())
			require.NoError(t, result.Error(), kind.Kind)
		}
		for name, p := range pods {
			if name == "opted out" || name == "host network" || name == "not escaped" { // not injected, or no pod that Kubernetes takes
				continue
			}
			var after corev1.Pod
			before := p.DeepCopy()
			before.Namespace = clusterNamespace
			require.NoError(t, json.Unmarshal(patched(t, marshal(t, before), config()), &after))
			_, err := client.CoreV1().Pods(clusterNamespace).Create(t.Context(), &after, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: "Strict"})
			require.NoError(t, err, name)
		}
	})
}

// requireIdentity sees the API server say whose token it is.
func requireIdentity(t *testing.T, client *kubernetes.Clientset, p *corev1.Pod, token string) {
	t.Helper()
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{names.Audience}}}
	review, err := client.AuthenticationV1().TokenReviews().Create(t.Context(), review, metav1.CreateOptions{})
	require.NoError(t, err)
	require.True(t, review.Status.Authenticated, review.Status.Error)
	require.Equal(t, "system:serviceaccount:default:caller", review.Status.User.Username)
	require.Equal(t, authenticationv1.ExtraValue{p.Name}, review.Status.User.Extra["authentication.kubernetes.io/pod-name"])
	require.Equal(t, authenticationv1.ExtraValue{string(p.UID)}, review.Status.User.Extra["authentication.kubernetes.io/pod-uid"])
	other := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	other, err = client.AuthenticationV1().TokenReviews().Create(t.Context(), other, metav1.CreateOptions{})
	require.NoError(t, err)
	require.False(t, other.Status.Authenticated, "it is for nobody else")
}

// manifestPod is the test's pod, injected if there is a configuration, and edited.
func manifestPod(t *testing.T, c *inject.Config, edit func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	text, err := os.ReadFile("testdata/cluster.yaml")
	require.NoError(t, err)
	if c != nil {
		var out bytes.Buffer
		require.NoError(t, inject.File(bytes.NewReader(text), &out, *c))
		text = out.Bytes()
	}
	var p corev1.Pod
	require.NoError(t, yaml.UnmarshalStrict(text, &p))
	edit(&p)
	return &p
}

func start(t *testing.T, client *kubernetes.Clientset, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	_, err := client.CoreV1().Pods(clusterNamespace).Create(t.Context(), p, metav1.CreateOptions{})
	require.NoError(t, err)
	return follow(t, client, p.Name, func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
	})
}

// follow waits until a pod is so.
func follow(t *testing.T, client *kubernetes.Clientset, name string, so func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w, err := client.CoreV1().Pods(clusterNamespace).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	require.NoError(t, err)
	defer w.Stop()
	var last *corev1.Pod
	for event := range w.ResultChan() {
		if p, ok := event.Object.(*corev1.Pod); ok {
			if last = p; so(p) {
				return p
			}
		}
	}
	status, _ := json.MarshalIndent(last.Status, "", " ")
	require.FailNow(t, "the pod does not get there", "%s: %s", name, status)
	return nil
}

// proxied asks a pod through the API server, which connects to the pod's address as anybody does.
func proxied(t *testing.T, client *kubernetes.Clientset, pod string, port int, path string) string {
	t.Helper()
	file, query, _ := strings.Cut(path, "?to=")
	r := client.CoreV1().RESTClient().Get().Namespace(clusterNamespace).Resource("pods").Name(pod + ":" + strconv.Itoa(port)).SubResource("proxy").Suffix(file)
	if query != "" {
		r = r.Param("to", query)
	}
	text, err := r.DoRaw(t.Context())
	require.NoError(t, err, "%s", text)
	return string(text)
}

func logs(t *testing.T, client *kubernetes.Clientset, pod, container string) string {
	t.Helper()
	stream, err := client.CoreV1().Pods(clusterNamespace).GetLogs(pod, &corev1.PodLogOptions{Container: container}).Stream(t.Context())
	require.NoError(t, err)
	defer stream.Close()
	text, err := io.ReadAll(stream)
	require.NoError(t, err)
	return string(text)
}

// newCluster makes a cluster that has the test's image, and removes it in the end.
func newCluster(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	const name = "mt-inject"
	node := os.Getenv("MESHTEST_KIND_IMAGE")
	require.NotEmpty(t, node, "MESHTEST_KIND_IMAGE: see hack/kind-offline/up")
	options := []cluster.CreateOption{cluster.CreateWithNodeImage(node), cluster.CreateWithWaitForReady(2 * time.Minute), cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false)}
	if file := os.Getenv("MESHTEST_KIND_CONFIG"); file != "" {
		options = append(options, cluster.CreateWithConfigFile(file))
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	provider := cluster.NewProvider(cluster.ProviderWithDocker())
	t.Cleanup(func() { require.NoError(t, provider.Delete(name, kubeconfig)) })
	require.NoError(t, provider.Create(name, append(options, cluster.CreateWithKubeconfigPath(kubeconfig))...))
	nodes, err := provider.ListNodes(name)
	require.NoError(t, err)
	for _, n := range nodes {
		require.NoError(t, nodeutils.LoadImageArchive(n, bytes.NewReader(image(t))))
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	config.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return client
}

// image holds the stand-in and the real sidecar.
func image(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	var files []oci.File
	for name, pkg := range map[string]string{"standin": "./testdata/standin", "meshtest-sidecar": "meshtest.dev/meshtest/cmd/meshtest-sidecar"} {
		program := filepath.Join(dir, name)
		build := exec.Command("go", "build", "-o", program, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		output, err := build.CombinedOutput()
		require.NoError(t, err, "%s", output)
		files = append(files, oci.File{Path: "/" + name, Source: program})
	}
	layer, err := oci.NewLayer(files...)
	require.NoError(t, err)
	packed, err := oci.NewImage(oci.Config{Entrypoint: []string{"/standin"}}, layer)
	require.NoError(t, err)
	var archive bytes.Buffer
	require.NoError(t, oci.Tarball(&archive, oci.Named{Ref: "mesh.test/standin:test", Image: packed}))
	return archive.Bytes()
}
