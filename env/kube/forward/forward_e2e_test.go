//go:build e2e

package forward_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtest.dev/meshtest/env/kube/apply"
	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/forward"
	"meshtest.dev/meshtest/env/kube/images"
	"meshtest.dev/meshtest/internal/testbin"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testbin.Remove()
	os.Exit(code)
}

// TestForward makes a real cluster, brings an image into it, starts it, and calls it through the API server.
func TestForward(t *testing.T) {
	if os.Getenv(cluster.EnvImage) == "" {
		t.Skip(cluster.EnvImage + " is not set")
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	c, err := cluster.Create(t.Context(), cluster.Options{Name: "meshtest-forward-test", Wait: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Delete(context.Background())) })
	image, err := images.Build(filepath.Join(testbin.Dir(t), "meshtest-fixture"), "meshtest-fixture", "localhost/alias:1")
	require.NoError(t, err)
	nodes, err := c.Nodes()
	require.NoError(t, err)
	for range 2 { // the second time there is nothing to bring
		require.NoError(t, images.Load(t.Context(), nodes, image))
	}
	config, err := c.RestConfig()
	require.NoError(t, err)
	pod := start(t, config)
	f, err := forward.New(config)
	require.NoError(t, err)
	t.Cleanup(f.Close)

	t.Run("requests", func(t *testing.T) {
		client := &http.Client{Transport: &http.Transport{DialContext: dialer(f.Dial("default", pod, 8080))}}
		began := time.Now()
		const n = 200
		for range n {
			answer(t, client)
		}
		t.Logf("%d requests, %v each", n, time.Since(began)/n)
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() { answer(t, client) })
		}
		callers.Wait()
	})
	t.Run("nobody listens", func(t *testing.T) {
		conn, err := f.Dial("default", pod, 9)(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = conn.Read(make([]byte, 1))
		require.ErrorContains(t, err, "port 9")
		client := &http.Client{Transport: &http.Transport{DialContext: dialer(f.Dial("default", pod, 8080))}}
		answer(t, client)
	})
	t.Run("a deadline", func(t *testing.T) {
		conn, err := f.Dial("default", pod, 8080)(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
	t.Run("no such pod", func(t *testing.T) {
		_, err := f.Dial("default", "nobody", 8080)(t.Context())
		require.ErrorContains(t, err, "pod nobody in namespace default")
	})
}

func dialer(dial func(context.Context) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
}

func answer(t *testing.T, client *http.Client) {
	response, err := client.Get("http://pod/")
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// start runs the image under its alias, and returns the name of its pod when it is ready.
func start(t *testing.T, config *rest.Config) string {
	applier, err := apply.New(config)
	require.NoError(t, err)
	labels := map[string]string{"app": "echo"}
	objects, err := apply.Convert(&appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Name: "echo", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "app", Image: "localhost/alias:1", ImagePullPolicy: corev1.PullNever, Args: []string{"echo"},
				Env:            []corev1.EnvVar{{Name: "HOST", Value: "0.0.0.0"}, {Name: "PORT", Value: "8080"}},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt(8080)}}},
			}}}},
		},
	})
	require.NoError(t, err)
	require.NoError(t, applier.Apply(t.Context(), objects...))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, applier.Rollout(ctx, "default", "echo"))
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=echo"})
	require.NoError(t, err)
	require.Len(t, pods.Items, 1)
	return pods.Items[0].Name
}
