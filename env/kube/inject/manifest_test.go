package inject_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/env/kube/inject"
)

var update = flag.Bool("update", false, "write the golden files")

func config() inject.Config {
	return inject.Config{Image: "meshtest-sidecar:test", ControlAddress: "meshtest-control.meshtest-r1.svc:15012", RunID: "r1", NativeSidecars: true}
}

// What is added to a file's text, and that nothing else changes, is best seen.
func TestManifestsKeepTheirText(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/manifests/*")
	require.NoError(t, err)
	for _, file := range files {
		if strings.Contains(file, ".golden") {
			continue
		}
		for _, mode := range []string{"native", "classic"} {
			t.Run(filepath.Base(file)+"/"+mode, func(t *testing.T) {
				t.Parallel()
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				c := config()
				c.NativeSidecars = mode == "native"
				out, _, err := inject.Manifest(file, text, c)
				require.NoError(t, err)
				golden := strings.TrimSuffix(file, filepath.Ext(file)) + "." + mode + ".golden" + filepath.Ext(file)
				if *update {
					require.NoError(t, os.WriteFile(golden, out, 0o644))
				}
				want, err := os.ReadFile(golden)
				require.NoError(t, err)
				require.Equal(t, string(want), string(out))
			})
		}
	}
}
