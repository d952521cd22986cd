//go:build unix

package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/envtest"
	"meshtest.dev/meshtest/env/local/supervisor"
	"meshtest.dev/meshtest/internal/testbin"
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
