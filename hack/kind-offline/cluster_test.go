//go:build e2e

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"meshtest.dev/meshtest/internal/oci"
)

// TestClusters makes real clusters of the image that "up" names, and removes them:
//
//	eval "$(hack/kind-offline/up)" && go test -tags e2e -run TestClusters -v ./hack/kind-offline
func TestClusters(t *testing.T) {
	image := os.Getenv("MESHTEST_KIND_IMAGE")
	require.NotEmpty(t, image, "MESHTEST_KIND_IMAGE: see hack/kind-offline/up")
	for _, count := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", count), func(t *testing.T) {
			c := create(t, image, count)
			deploy(t, c)
			pods := ready(t, c.client, count)
			podsSeeEachOther(t, c.client, pods)
			servicesHaveNames(t, c.client, pods)
			theOutsideSeesNodes(t, c.client, pods)
		})
	}
}

const namespace = "default"

type testCluster struct {
	client *kubernetes.Clientset
	nodes  []nodes.Node
}

func create(t *testing.T, image string, count int) testCluster {
	t.Helper()
	name := fmt.Sprintf("kind-offline-test-%d", count)
	config := []byte("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n")
	if path := os.Getenv("MESHTEST_KIND_CONFIG"); path != "" {
		var err error
		config, err = os.ReadFile(path)
		require.NoError(t, err)
	}
	config = append(config, "\nnodes:\n- role: control-plane\n"+strings.Repeat("- role: worker\n", count-1)...)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	provider := cluster.NewProvider(cluster.ProviderWithDocker())
	t.Cleanup(func() {
		start := time.Now()
		require.NoError(t, provider.Delete(name, kubeconfig))
		t.Logf("deleted in %v", time.Since(start).Round(time.Second/10))
	})
	start := time.Now()
	require.NoError(t, provider.Create(name,
		cluster.CreateWithRawConfig(config), cluster.CreateWithNodeImage(image), cluster.CreateWithKubeconfigPath(kubeconfig),
		cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false)))
	t.Logf("created in %v", time.Since(start).Round(time.Second/10))
	all, err := provider.ListNodes(name)
	require.NoError(t, err)
	require.Len(t, all, count)
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(rest)
	require.NoError(t, err)
	nodesReady(t, client, count)
	t.Logf("nodes ready after %v", time.Since(start).Round(time.Second/10))
	return testCluster{client, all}
}

func nodesReady(t *testing.T, client *kubernetes.Clientset, count int) {
	ready := map[string]bool{}
	w, err := client.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	until(t, w, func(event watch.Event) bool {
		node := event.Object.(*corev1.Node)
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				ready[node.Name] = condition.Status == corev1.ConditionTrue
			}
		}
		n := 0
		for _, is := range ready {
			if is {
				n++
			}
		}
		return n == count
	})
}

// until follows a watch, which begins with what is there, until something is so.
func until(t *testing.T, w watch.Interface, so func(watch.Event) bool) {
	t.Helper()
	defer w.Stop()
	deadline := time.After(3 * time.Minute)
	for {
		select {
		case event, open := <-w.ResultChan():
			require.True(t, open, "the watch ended")
			if so(event) {
				return
			}
		case <-deadline:
			require.FailNow(t, "it did not happen in 3 minutes")
		}
	}
}

// deploy loads the probe's image into every node, and starts one on each.
func deploy(t *testing.T, c testCluster) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-o", program, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	image, err := oci.NewBinary(program, oci.Config{})
	require.NoError(t, err)
	ref, err := oci.Tag("localhost/kind-offline/probe", image)
	require.NoError(t, err)
	var archive bytes.Buffer
	require.NoError(t, oci.Tarball(&archive, oci.Named{Ref: ref, Image: image}))
	start := time.Now()
	for _, node := range c.nodes {
		require.NoError(t, nodeutils.LoadImageArchive(node, bytes.NewReader(archive.Bytes())))
	}
	t.Logf("%d bytes of image loaded into each node in %v", archive.Len(), time.Since(start).Round(time.Second/100))

	yes, no := true, false
	labels := map[string]string{"app": "probe"}
	_, err = c.client.AppsV1().DaemonSets(namespace).Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "probe"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers: []corev1.Container{{
						Name: "probe", Image: ref, ImagePullPolicy: corev1.PullNever,
						Env: []corev1.EnvVar{{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
						SecurityContext: &corev1.SecurityContext{
							RunAsNonRoot: &yes, ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no,
							Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
							SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
						},
						ReadinessProbe: &corev1.Probe{
							PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/who", Port: intstr.FromInt32(8080)}},
						},
					}},
				},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "probe"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// ready waits for the probes and for the cluster's DNS.
func ready(t *testing.T, client *kubernetes.Clientset, count int) []corev1.Pod {
	t.Helper()
	start := time.Now()
	watchPods := func(namespace, selector string, count int) []corev1.Pod {
		pods := map[string]corev1.Pod{}
		w, err := client.CoreV1().Pods(namespace).Watch(t.Context(), metav1.ListOptions{LabelSelector: selector})
		require.NoError(t, err)
		until(t, w, func(event watch.Event) bool {
			pod := event.Object.(*corev1.Pod)
			for _, condition := range pod.Status.Conditions {
				if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
					pods[pod.Name] = *pod
				}
			}
			return len(pods) == count
		})
		var all []corev1.Pod
		for _, pod := range pods {
			all = append(all, pod)
		}
		return all
	}
	watchPods("kube-system", "k8s-app=kube-dns", 2)
	pods := watchPods(namespace, "app=probe", count)
	t.Logf("probes and DNS ready after %v more", time.Since(start).Round(time.Second/10))
	return pods
}

// ask lets one pod fetch a URL, by way of the API server.
func ask(ctx context.Context, client *kubernetes.Clientset, pod corev1.Pod, url string) (string, error) {
	answer, err := client.CoreV1().Pods(namespace).ProxyGet("http", pod.Name, "8080", "/ask", map[string]string{"url": url}).DoRaw(ctx)
	return string(answer), err
}

func podsSeeEachOther(t *testing.T, client *kubernetes.Clientset, pods []corev1.Pod) {
	for _, from := range pods {
		for _, to := range pods {
			answer, err := ask(t.Context(), client, from, "http://"+net.JoinHostPort(to.Status.PodIP, "8080")+"/who")
			require.NoError(t, err, "%s asks %s", from.Spec.NodeName, to.Spec.NodeName)
			require.Equal(t, to.Name+" asked by "+from.Status.PodIP, answer, "a pod's address is its own on other nodes too")
		}
	}
}

func servicesHaveNames(t *testing.T, client *kubernetes.Clientset, pods []corev1.Pod) {
	for _, from := range pods {
		for _, name := range []string{"probe", "probe.default.svc.cluster.local"} {
			require.EventuallyWithT(t, func(c *assert.CollectT) { // kube-proxy follows the pods' readiness with a delay
				answer, err := ask(t.Context(), client, from, "http://"+name+"/who")
				require.NoError(c, err)
				require.Contains(c, answer, " asked by ")
			}, 30*time.Second, 200*time.Millisecond, "%s asks %s", from.Spec.NodeName, name)
		}
	}
}

// theOutsideSeesNodes lets pods ask this test, which must see the address of the pod's node, as it has no way to the pod's.
func theOutsideSeesNodes(t *testing.T, client *kubernetes.Clientset, pods []corev1.Pod) {
	gateway, err := exec.Command("docker", "network", "inspect", "kind", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}").Output()
	require.NoError(t, err)
	var host string
	for _, address := range strings.Fields(string(gateway)) {
		if ip := net.ParseIP(address); ip != nil && ip.To4() != nil {
			host = address
		}
	}
	require.NotEmpty(t, host)
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, peer)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	for _, from := range pods {
		answer, err := ask(t.Context(), client, from, "http://"+listener.Addr().String())
		require.NoError(t, err)
		require.Equal(t, from.Status.HostIP, answer)
	}
	require.NoError(t, server.Close())
	require.ErrorIs(t, <-ended, http.ErrServerClosed)
}
