//go:build e2e

package scenarios_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbin"
	"meshtest.dev/meshtest/reports"
	"meshtest.dev/meshtest/scenarios"
	"meshtest.dev/meshtest/spec"
)

// kindCluster is where all scenarios run, in namespaces of their own. It has nodes to drain.
const kindCluster = "meshtest-e2e"

// TestScenariosInKind: every shipped scenario that names kind passes in a real cluster, in a namespace of its own. MESHTEST_E2E_SCENARIOS chooses some of them, separated by
// commas; MESHTEST_KIND_IMAGE and MESHTEST_KIND_CONFIG say what the cluster is made of.
func TestScenariosInKind(t *testing.T) {
	names := kindScenarios(t)
	if chosen := os.Getenv("MESHTEST_E2E_SCENARIOS"); chosen != "" {
		names = strings.Split(chosen, ",")
	}
	require.NotEmpty(t, names)
	bin := testbin.Dir(t)
	must(t, bin, "env", "up", kindCluster, "--nodes", "3")
	defer must(t, bin, "env", "down", kindCluster)
	t.Run("alone", func(t *testing.T) {
		for _, name := range names {
			if alone(name) {
				t.Run(name, func(t *testing.T) { runInKind(t, bin, name) })
			}
		}
	})
	t.Run("nginx", func(t *testing.T) { nginxInKind(t, bin) })
	t.Run("side by side", func(t *testing.T) {
		for _, name := range names {
			if !alone(name) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					runInKind(t, bin, name)
				})
			}
		}
	})
	t.Run("nothing is left", nothingIsLeft)
}

// alone reports whether a scenario needs the cluster for itself: it judges latency, or takes a node away.
func alone(name string) bool {
	return strings.HasPrefix(name, "canary-") || name == "bookinfo" || name == "node-drain"
}

func must(t *testing.T, bin string, args ...string) {
	t.Helper()
	result := testbin.Run(t, bin, "meshtest", nil, args...)
	require.Zero(t, result.Exit, "meshtest %v\n%s\n%s", args, result.Stdout, result.Stderr)
}

// kindScenarios are the shipped scenarios that name kind.
func kindScenarios(t *testing.T) []string {
	var names []string
	for _, name := range scenarios.Names() {
		s, problems := spec.LoadFS(scenarios.FS(), name+".yaml", spec.Options{})
		require.NoError(t, problems.Err())
		if slices.Contains(s.Environments, spec.EnvKind) {
			names = append(names, name)
		}
	}
	return names
}

func runInKind(t *testing.T, bin, name string) {
	out := filepath.Join(t.TempDir(), "out")
	result := testbin.Run(t, bin, "meshtest", nil,
		"run", name, "--env", "kind", "--cluster", kindCluster, "--progress", "plain", "--out", out)
	t.Logf("%s", lastLines(result.Stderr, 12))
	require.Zero(t, result.Exit, "%s\n%s", result.Stdout, result.Stderr)
	data, err := os.ReadFile(filepath.Join(out, "report.json"))
	require.NoError(t, err)
	var report reports.Report
	require.NoError(t, json.Unmarshal(data, &report))
	require.Equal(t, "pass", report.Verdict)
	require.Equal(t, "kind", report.Environment)
	require.True(t, report.Mesh.Converged)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// nothingIsLeft asks the cluster itself, with the kubectl of its node.
func nothingIsLeft(t *testing.T) {
	for _, kind := range []string{"namespaces", "mutatingwebhookconfigurations", "clusterroles", "clusterrolebindings", "pods --all-namespaces"} {
		args := append([]string{"exec", kindCluster + "-control-plane", "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "-l", "meshtest.dev/run", "-o", "name"}, strings.Fields(kind)...)
		var stderr bytes.Buffer
		cmd := exec.Command("docker", args...)
		cmd.Stderr = &stderr
		found, err := cmd.Output()
		require.NoError(t, err, fmt.Sprintf("%s: %s", kind, stderr.String()))
		require.Empty(t, string(found), kind)
	}
}
