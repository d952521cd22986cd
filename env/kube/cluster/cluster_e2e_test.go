//go:build e2e

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestClusters makes real clusters, one after the other, and sees that nothing is left of those that could not be made:
//
//	eval "$(hack/kind-offline/up)" && go test -tags e2e -run TestClusters -v ./env/kube/cluster
func TestClusters(t *testing.T) {
	if os.Getenv(EnvImage) == "" {
		t.Skip(EnvImage + " is not set: see hack/kind-offline/up")
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "mine"))
	const name = "mt-cluster-test"
	gone := func(t *testing.T) {
		t.Helper()
		_, err := Find(context.Background(), name)
		require.ErrorIs(t, err, ErrNotFound)
	}
	t.Run("two nodes", func(t *testing.T) {
		var steps []string
		began := time.Now()
		c, err := Create(t.Context(), Options{Name: name, Nodes: 2, Progress: func(s string) { steps = append(steps, s) }})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, c.Delete(context.Background()))
			gone(t)
			require.NoError(t, c.Delete(context.Background()), "again")
		})
		t.Logf("ready after %v: %q", time.Since(began), steps)
		require.NotEmpty(t, steps)
		require.NoFileExists(t, os.Getenv("KUBECONFIG"))
		nodes, err := c.NodeNames()
		require.NoError(t, err)
		require.Equal(t, []string{name + "-control-plane", name + "-worker"}, nodes)
		config, err := c.RestConfig()
		require.NoError(t, err)
		client, err := kubernetes.NewForConfig(config)
		require.NoError(t, err)
		list, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		require.Len(t, list.Items, 2)

		_, err = Create(t.Context(), Options{Name: name})
		require.ErrorContains(t, err, "making the kind cluster mt-cluster-test: there is one of that name already: use it with --cluster mt-cluster-test")

		_, marked, err := c.Used(t.Context())
		require.NoError(t, err)
		require.False(t, marked)
		isStale := func(olderThan time.Duration) bool {
			stale, _ := Stale(t.Context(), olderThan) // clusters of others may not answer
			for _, s := range stale {
				if s.Name() == name {
					return true
				}
			}
			return false
		}
		require.False(t, isStale(-time.Hour), "it is not marked")
		require.NoError(t, c.Touch(t.Context()))
		require.NoError(t, c.Touch(t.Context()))
		require.False(t, isStale(time.Hour))
		require.True(t, isStale(-time.Hour))
	})
	t.Run("a port that is taken", func(t *testing.T) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		text, err := os.ReadFile(os.Getenv(EnvConfig))
		if err != nil {
			text = []byte("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n")
		}
		file := filepath.Join(t.TempDir(), "kind.yaml")
		text = fmt.Appendf(text, "\nnodes:\n- role: control-plane\n  extraPortMappings: [{containerPort: 80, hostPort: %d, listenAddress: 127.0.0.1}]\n", port)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		_, err = Create(t.Context(), Options{Name: name, ConfigFile: file})
		require.EqualError(t, err, fmt.Sprintf("making the kind cluster %s: port %d of this machine, which the configuration asks for, is taken: change extraPortMappings or apiServerPort", name, port))
		gone(t)
	})
	t.Run("an image that cannot be had", func(t *testing.T) {
		_, err := Create(t.Context(), Options{Name: name, NodeImage: "localhost:1/no-such-image:1"})
		require.ErrorContains(t, err, "the node image localhost:1/no-such-image:1 is not there and cannot be pulled")
		gone(t)
	})
	t.Run("an interruption", func(t *testing.T) {
		interrupted := errors.New("interrupted")
		for _, step := range []string{"Preparing nodes", "Starting control-plane"} {
			ctx, cancel := context.WithCancelCause(t.Context())
			_, err := Create(ctx, Options{Name: name, Progress: func(s string) {
				if s == step {
					cancel(interrupted)
				}
			}})
			require.ErrorIs(t, err, interrupted, step)
			gone(t)
		}
	})
}
