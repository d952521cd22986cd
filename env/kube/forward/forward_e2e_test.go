//go:build e2e

package forward

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtest.dev/meshtest/env/kube/apply"
	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/images"
)

// TestForward makes a real cluster, brings a program into it, and talks to it through the API server. It measures too:
//
//	eval "$(hack/kind-offline/up)" && go test -tags e2e -run TestForward -v ./env/kube/forward
func TestForward(t *testing.T) {
	if os.Getenv(cluster.EnvImage) == "" {
		t.Skip(cluster.EnvImage + " is not set: see hack/kind-offline/up")
	}
	c, err := cluster.Create(t.Context(), cluster.Options{Name: "mt-forward-test", Wait: 2 * time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Delete(context.Background())) })
	config, err := c.RestConfig()
	require.NoError(t, err)
	applier, err := apply.New(config)
	require.NoError(t, err)
	ref := program(t, c)
	start(t, applier, ref)
	f, err := New(config)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	dial := func(t *testing.T, port int) net.Conn {
		conn, err := f.Dial("default", "peer", port)(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		return conn
	}

	t.Run("round trips", func(t *testing.T) {
		conn, one := dial(t, 7001), make([]byte, 1)
		var took []time.Duration
		for range 2000 {
			began := time.Now()
			_, err := conn.Write(one)
			require.NoError(t, err)
			_, err = io.ReadFull(conn, one)
			require.NoError(t, err)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("a byte and back: median %v, 99 %% %v", took[len(took)/2], took[len(took)*99/100])
	})
	t.Run("opening", func(t *testing.T) {
		began := time.Now()
		for range 50 {
			conn := dial(t, 7001)
			_, err := conn.Write([]byte("x"))
			require.NoError(t, err)
			_, err = io.ReadFull(conn, make([]byte, 1))
			require.NoError(t, err)
			require.NoError(t, conn.Close())
		}
		t.Logf("a connection and a byte and back: %v", time.Since(began)/50)
	})
	t.Run("down", func(t *testing.T) {
		conn, began := dial(t, 7002), time.Now()
		_, err := io.CopyN(io.Discard, conn, 256<<20)
		require.NoError(t, err)
		t.Logf("down: %.0f MB/s", 256/time.Since(began).Seconds())
		require.NoError(t, conn.Close())
	})
	t.Run("up, and a closed half", func(t *testing.T) {
		conn, began := dial(t, 7003), time.Now()
		block := make([]byte, 1<<20)
		for range 256 {
			_, err := conn.Write(block)
			require.NoError(t, err)
		}
		t.Logf("up: %.0f MB/s", 256/time.Since(began).Seconds())
		require.NoError(t, conn.(interface{ CloseWrite() error }).CloseWrite())
		_, err := io.ReadAll(conn) // the runtime does not tell the application that a half is closed, but ends the connection
		require.NoError(t, err)
	})
	t.Run("many at once", func(t *testing.T) {
		began := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				conn, err := f.Dial("default", "peer", 7001)(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				sent, got := bytes.Repeat([]byte{byte(i)}, 50_000), make([]byte, 50_000)
				go func() { _, _ = conn.Write(sent) }()
				if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(sent, got) {
					t.Errorf("connection %d: %v", i, err)
				}
			})
		}
		all.Wait()
		t.Logf("100 connections with 50 kB each way: %v", time.Since(began))
	})
	t.Run("nobody listens", func(t *testing.T) {
		_, err := io.ReadAll(dial(t, 9))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
	t.Run("a deadline", func(t *testing.T) {
		conn := dial(t, 7001)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
	t.Run("no such pod", func(t *testing.T) {
		_, err := f.Dial("default", "nobody", 80)(t.Context())
		require.ErrorContains(t, err, `reaching port 80 of pod nobody in namespace default: asking the API server: pods "nobody" not found`)
	})
	t.Run("without WebSockets", func(t *testing.T) { overSPDY(t, config) })
	t.Run("a pod that goes, and comes again", func(t *testing.T) {
		conn := dial(t, 7001)
		client, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		none := int64(0)
		require.NoError(t, client.CoreV1().Pods("default").Delete(t.Context(), "peer", metav1.DeleteOptions{GracePeriodSeconds: &none}))
		_, err = conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		t.Logf("it ended with: %v", err)
		start(t, applier, ref)
		_, err = io.ReadAll(dial(t, 7001)) // the way led to the one that was
		require.ErrorContains(t, err, "not forwarded")
		again := dial(t, 7001)
		_, err = again.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(again, make([]byte, 1))
		require.NoError(t, err)
	})
}

// overSPDY asks a real API server as an older one is asked.
func overSPDY(t *testing.T, config *rest.Config) {
	f, err := New(config)
	require.NoError(t, err)
	at := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("peer").SubResource("portforward").URL()
	conn, raw, err := plain(t.Context(), config, at)
	require.NoError(t, err)
	l := newLink(pod{"default", "peer"})
	l.establish(conn, raw, nil)
	defer l.end()
	p, err := l.open(t.Context(), 7001)
	require.NoError(t, err)
	_, err = p.data.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(p.data, make([]byte, 1))
	require.NoError(t, err)
}

// program packs the application and brings it into the cluster.
func program(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "peer")
	build := exec.Command("go", "build", "-o", binary, "./testdata/peer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	image, err := images.Build(binary, "meshtest-forward-peer")
	require.NoError(t, err)
	nodes, err := c.Nodes()
	require.NoError(t, err)
	require.NoError(t, images.Load(t.Context(), nodes, image))
	return image.Ref
}

// start starts the application's pod and returns when it is ready.
func start(t *testing.T, applier *apply.Applier, ref string) {
	t.Helper()
	objects, err := apply.Convert(&corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: "peer", Namespace: "default"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: ref, ImagePullPolicy: corev1.PullNever}}},
	})
	require.NoError(t, err)
	require.NoError(t, applier.Apply(t.Context(), objects...))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, applier.PodReady(ctx, "default", "peer"))
}
