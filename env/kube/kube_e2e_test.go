//go:build e2e

package kube_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/envtest"
	"meshtest.dev/meshtest/env/kube"
	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/local"
	"meshtest.dev/meshtest/env/local/supervisor"
	"meshtest.dev/meshtest/internal/testbin"
)

const clusterName = "meshtest-contract-test"

func TestMain(m *testing.M) {
	supervisor.Main()
	code := m.Run()
	testbin.Remove()
	os.Exit(code)
}

// TestKind stands meshes up in a real cluster: what every environment promises, and that chance falls as it does on one machine.
func TestKind(t *testing.T) {
	if os.Getenv(cluster.EnvImage) == "" {
		t.Skip(cluster.EnvImage + " is not set")
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	c, err := cluster.Create(t.Context(), cluster.Options{Name: clusterName, Wait: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Delete(context.Background())) })
	envtest.Contract(t, inKind)
	t.Run("the same keys go to the same versions", func(t *testing.T) {
		bin := testbin.Dir(t)
		here := &local.Environment{Binaries: local.Binaries{
			Sidecar: filepath.Join(bin, "meshtest-sidecar"), Control: filepath.Join(bin, "meshtest-control"), Fixture: filepath.Join(bin, "meshtest-fixture"),
		}}
		const seed, n = 20261121, 300
		require.Equal(t, envtest.Assignment(t, here, seed, n), envtest.Assignment(t, inKind(t), seed, n))
	})
}

func inKind(t *testing.T) env.Environment {
	bin := testbin.Dir(t)
	return &kube.Environment{Options: kube.Options{
		Kind: true, Reuse: true, Cluster: cluster.Options{Name: clusterName}, Outside: true,
		Binaries: kube.Binaries{
			Sidecar: filepath.Join(bin, "meshtest-sidecar"), Control: filepath.Join(bin, "meshtest-control"), Fixture: filepath.Join(bin, "meshtest-fixture"),
		},
	}}
}
