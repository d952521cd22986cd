package scenarios_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/fixtures"
	"meshtest.dev/meshtest/internal/testbin"
	"meshtest.dev/meshtest/reports"
	"meshtest.dev/meshtest/scenarios"
	"meshtest.dev/meshtest/spec"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testbin.Remove()
	os.Exit(code)
}

// Every shipped scenario that names local passes on this machine, from the binary alone.
func TestShippedScenarios(t *testing.T) {
	ran := 0
	for _, name := range scenarios.Names() {
		s := load(t, name)
		if !slices.Contains(s.Environments, spec.EnvLocal) {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) {
			if s.Rollout == nil { // whoever judges latency gets the machine for itself
				t.Parallel()
			}
			if name == "any-command" {
				if _, err := exec.LookPath("python3"); err != nil {
					t.Skip("the program of this scenario is python3, which this machine lacks")
				}
			}
			report := runScenario(t, name, 0)
			require.Equal(t, "pass", report.Verdict)
			require.True(t, report.Mesh.Converged)
			require.NotEmpty(t, report.SelfChecks)
		})
	}
	require.NotZero(t, ran)
}

// load reads a scenario of the catalogue, with the files that it names, from the binary.
func load(t *testing.T, name string) *spec.Scenario {
	t.Helper()
	s, problems := spec.LoadFS(scenarios.FS(), name+".yaml", spec.Options{})
	require.NoError(t, problems.Err(), name)
	return s
}

// A scenario reads only its own folder, so what it needs of Bookinfo is there again.
func TestBookinfoIsTheSharedOne(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(scenarios.FS(), "objects/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		original := "bookinfo/" + path.Base(file)
		want, err := fixtures.Bookinfo.ReadFile(original)
		require.NoError(t, err)
		got, err := fs.ReadFile(scenarios.FS(), file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "copy fixtures/%s", original)
	}
}

// A gate has no expectations: the exit code says whether the canary may be promoted.
func TestGates(t *testing.T) {
	for name, exit := range map[string]int{"bad-canary": 1, "good-canary": 0, "no-traffic": 3} {
		t.Run(name, func(t *testing.T) {
			runScenario(t, filepath.Join("..", "fixtures", "gate", name+".yaml"), exit)
		})
	}
}

func TestEveryScenarioSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, name := range scenarios.Names() {
		data, err := os.ReadFile(name + ".yaml")
		require.NoError(t, err)
		require.Contains(t, string(data), "\n  name: "+name+"\n")
		require.Contains(t, string(data), "\n  description: ")
		require.True(t, strings.HasPrefix(string(data), "# yaml-language-server: $schema="), name)
	}
}

func runScenario(t *testing.T, name string, exit int) reports.Report {
	t.Helper()
	bin := testbin.Dir(t)
	out := filepath.Join(t.TempDir(), "out")
	result := testbin.Run(t, bin, "meshtest", nil, "run", name, "--progress", "plain", "--out", out)
	if result.Exit != exit {
		t.Fatalf("exit %d, not %d\n%s\n%s", result.Exit, exit, result.Stdout, result.Stderr)
	}
	data, err := os.ReadFile(filepath.Join(out, "report.json"))
	require.NoError(t, err)
	var report reports.Report
	require.NoError(t, json.Unmarshal(data, &report))
	for _, file := range []string{"report.html", "junit.xml", "summary.md", "journal.ndjson", "evidence.ndjson"} {
		info, err := os.Stat(filepath.Join(out, file))
		require.NoError(t, err)
		require.NotZero(t, info.Size(), file)
	}
	return report
}
