//go:build unix

package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/envtest"
	"meshtest.dev/meshtest/env/local/supervisor"
	"meshtest.dev/meshtest/internal/testbin"
	"meshtest.dev/meshtest/mesh"
)

func TestMain(m *testing.M) {
	supervisor.Main()
	code := m.Run()
	testbin.Remove()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

func TestContract(t *testing.T) {
	bin := testbin.Dir(t)
	envtest.Contract(t, func(t *testing.T) env.Environment {
		binaries, err := FindBinaries(filepath.Join(bin, "meshtest"))
		require.NoError(t, err)
		return &Environment{Binaries: binaries}
	})
}

func TestMissingProgramsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := FindBinaries(filepath.Join(t.TempDir(), "meshtest"))
	for _, name := range []string{"meshtest-sidecar", "meshtest-control", "meshtest-fixture"} {
		require.ErrorContains(t, err, name)
	}
	require.ErrorContains(t, err, "make build")
}

func TestTheTailOfALogIsShort(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	require.Empty(t, tail(file))
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("line\n", 10_000)+"last\n"), 0o644))
	lines := tail(file)
	require.Len(t, lines, tailLines)
	require.Equal(t, "last", lines[len(lines)-1])
}

type deaf struct{}

func (deaf) Process(env.Process)   {}
func (deaf) Waiting(string) func() { return func() {} }

// What a mesh knows of itself is written down, and what its logs end with is quoted.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	binaries, err := FindBinaries(filepath.Join(testbin.Dir(t), "meshtest"))
	require.NoError(t, err)
	s := mesh.NewSnapshot()
	s.Inbound[env.Edge] = &mesh.Inbound{Workload: mesh.Workload{Name: env.Edge, Namespace: "default", Instance: env.Edge}, Trusted: true}
	e := &Environment{Binaries: binaries}
	d := env.Deployment{Run: fmt.Sprintf("d-%x", time.Now().UnixNano()), Dir: t.TempDir(), Logs: t.TempDir(), Snapshot: s}
	up, err := e.Up(t.Context(), d, deaf{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, up.Down(context.Background())) })
	require.NoError(t, os.WriteFile(filepath.Join(d.Logs, "edge.sidecar.log"), []byte("a\n\nb\nc\nd\n"), 0o644))
	dir := t.TempDir()
	lines, err := up.(env.Diagnoser).Diagnose(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, []string{"edge.sidecar: b", "edge.sidecar: c", "edge.sidecar: d"}, lines)
	for _, what := range []string{"config_dump", "clusters", "stats"} {
		data, err := os.ReadFile(filepath.Join(dir, "edge.sidecar."+what))
		require.NoError(t, err)
		require.NotEmpty(t, data, what)
	}
}
