package spec_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/spec"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden compares a text with a file, or rewrites the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func text(t *testing.T, diags spec.Diagnostics, format spec.Format) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, diags.Write(&b, format))
	return b.String()
}

func yamlFiles(t *testing.T, folder string) []string {
	t.Helper()
	files, err := spec.Files(folder)
	require.NoError(t, err)
	return files
}

func TestInvalidScenarios(t *testing.T) {
	t.Parallel()
	for _, file := range yamlFiles(t, "testdata/invalid") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			s, diags := spec.Load(file, spec.Options{})
			require.Error(t, diags.Err())
			require.Nil(t, s)
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", text(t, diags, spec.FormatText))
		})
	}
}

func TestValidScenarios(t *testing.T) {
	t.Parallel()
	for _, file := range yamlFiles(t, "testdata/valid") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			s, diags := spec.Load(file, spec.Options{})
			require.Empty(t, diags)
			require.Equal(t, file, s.File())
		})
	}
}

// Five mistakes of different kinds are all reported, each once, with its place and a hint.
func TestFiveMistakesAreFiveDiagnostics(t *testing.T) {
	t.Parallel()
	_, diags := spec.Load("testdata/invalid/five-mistakes.yaml", spec.Options{})
	require.Len(t, diags, 5)
	for _, d := range diags {
		require.NotZero(t, d.Line, d)
		require.NotZero(t, d.Col, d)
		require.NotEmpty(t, d.Hint, d)
		require.Regexp(t, `^testdata/invalid/five-mistakes.yaml:\d+:\d+: MT1\d{3} `, d.String())
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s, diags := spec.Load("testdata/valid/minimal.yaml", spec.Options{})
	require.Empty(t, diags)
	require.Equal(t, []string{"local", "kind"}, s.Environments)
	require.Equal(t, "default", s.Namespace)
	require.Nil(t, s.Seed)
	require.Equal(t, 5*time.Minute, s.Timeout)
	v := s.Services["backend"].Versions["v1"]
	require.Equal(t, 1, v.Replicas)
	require.Equal(t, spec.Readiness{Path: "/healthz", Timeout: 30 * time.Second}, v.Readiness)
	l := s.Load[0]
	require.Equal(t, []any{"GET", "/", 10 * time.Second, spec.Rate(10), "uniform", 1000, time.Duration(0)}, []any{l.Method, l.Path, l.Timeout, l.Rate, l.Arrival, l.MaxInFlight, l.Duration})
	require.Equal(t, 3*time.Second, s.Rollout.Warmup)
	require.Equal(t, spec.JudgeRequests, s.Rollout.Judge)
	require.Equal(t, spec.OutcomePromoted, s.Expect.Rollout)
	a := s.Rollout.Analysis
	require.Equal(t, []any{0.01, 0.05, 200 * time.Millisecond}, []any{a.Alpha, a.Beta, a.Interval})
	require.Len(t, a.Checks, 2)
	require.Equal(t, spec.Percent(1), *a.Checks[0].MaxDegradation)
	require.Equal(t, spec.Percent(30), *a.Checks[1].MaxDegradation)
	require.Equal(t, []float64{0.5, 0.9, 0.99}, a.Checks[1].Quantiles)
	require.True(t, a.Checks[0].IsCritical())
}

func TestEveryFieldIsRead(t *testing.T) {
	t.Parallel()
	s, diags := spec.Load("testdata/valid/every-field.yaml", spec.Options{})
	require.Empty(t, diags)
	require.Equal(t, uint64(18446744073709551615), *s.Seed)
	require.Equal(t, map[string]string{"x-a": "b", "x-n": "1", "x-s": "${seed}"}, s.Load[0].Headers)
	require.InDelta(t, 50.0/60, float64(s.Load[0].Rate), 1e-12)
	require.Equal(t, []spec.RateStep{{Rate: 10, Duration: 5 * time.Second}, {Rate: 2, Duration: time.Second}}, s.Load[2].Steps)
	require.Zero(t, s.Rollout.Warmup, "an explicit zero is not a missing value")
	require.Zero(t, s.Faults[0].MinMatched)
	require.Equal(t, uint64(1), s.Faults[1].MinMatched)
	require.Equal(t, &spec.Abort{HTTPStatus: 503, Percentage: &spec.Percentage{Value: 5}}, s.Faults[0].Abort)
	require.Equal(t, spec.Percent(2.5), s.Faults[0].Delay.Percentage.Value)
	require.Equal(t, spec.Bound{Percent: 99}, *s.Rollout.Analysis.Checks[0].ThresholdRange.Min)
	require.Len(t, s.Rules[0].Documents, 2)
	require.Equal(t, "testdata/valid/rules/backend.yaml", s.Rules[0].Documents[1].File)
	call := s.Load[5]
	require.Equal(t, []string{"POST", "/greet.v1.Greeter/Greet"}, []string{call.Method, call.Path})
	require.Equal(t, "\n\x05world\x10\x03\x1a\x01a\x1a\x011\"\x06\b\xa5\xeb\xdc\xca\x06(\x01", string(call.GRPC.Encoded))
	require.Empty(t, s.Load[6].GRPC.Encoded, "nothing is set")
	require.Equal(t, "0.5", s.Services["frontend"].Versions["v1"].Env["B"])
}

func TestSets(t *testing.T) {
	t.Parallel()
	load := func(sets ...string) (*spec.Scenario, spec.Diagnostics) {
		return spec.Load("testdata/valid/rollout.yaml", spec.Options{Sets: sets})
	}
	_, diags := load("services.middleware.versions.canary.env.ERROR_RATE=0.9", "rollout.steps[2].setWeight=10", "seed=7", "metadata.description=a: b", "load[0].headers.x-new=", "faults[0].lease=1s",
		`services.backend.versions.v1.env.A\.B=1`)
	require.Len(t, diags, 1, "an environment variable has no dot in its name")
	require.Equal(t, `--set services.backend.versions.v1.env.A\.B=1`, diags[0].File)
	require.Zero(t, diags[0].Line)

	var s *spec.Scenario
	s, diags = load("services.middleware.versions.canary.env.ERROR_RATE=0.9", "rollout.steps[2].setWeight=10", "seed=7", "metadata.description=a: b", "load[0].headers.x-new=")
	require.Empty(t, diags)
	require.Equal(t, "0.9", s.Services["middleware"].Versions["canary"].Env["ERROR_RATE"])
	require.Equal(t, "0.5", s.Services["middleware"].Versions["prod"].Env["ERROR_RATE"], "an alias is not shared any more")
	require.Equal(t, 10, *s.Rollout.Steps[2].SetWeight)
	require.Equal(t, uint64(7), *s.Seed)
	require.Equal(t, "a: b", s.Metadata.Description)
	require.Contains(t, s.Load[0].Headers, "x-new")

	for set, want := range map[string]string{
		"rollout.steps[2].setWeight=101": `--set rollout.steps[2].setWeight=101: MT1203 rollout.steps[2].setWeight: 101 is out of range`,
		"rollout.stepz[2].setWeight=1":   `--set rollout.stepz[2].setWeight=1: MT1010 rollout.stepz[2].setWeight: [2] of something that is not a list`,
		"rollout.steps[9].setWeight=1":   `--set rollout.steps[9].setWeight=1: MT1010 rollout.steps[9].setWeight: the list has no element [9], only 7`,
		"rollout.nothing=1":              `--set rollout.nothing=1: MT1101 rollout.nothing: unknown field "nothing"`,
		"services=1":                     `--set services=1: MT1010 services: only a scalar can be set, this is a mapping`,
		"metadata.name.x=1":              `--set metadata.name.x=1: MT1010 metadata.name.x: x of something that is not a mapping`,
		"seed":                           `--set seed: MT1010 an override is PATH=VALUE`,
		"a..b=1":                         `--set a..b=1: MT1010 the path a..b has an empty name`,
		"a[1=1":                          `--set a[1=1: MT1010 the path a[1 has [ without ]`,
		"a[1]b=1":                        `--set a[1]b=1: MT1010 the path a[1]b goes on after ] without a dot`,
		"seed=-1":                        `--set seed=-1: MT1105 seed: must be a whole number, not negative, not "-1"`,
	} {
		_, diags := load(set)
		require.Len(t, diags, 1, set)
		require.Equal(t, want, diags[0].String())
	}
}

func TestSetsReachTheRules(t *testing.T) {
	t.Parallel()
	s, diags := spec.Load("testdata/valid/rollout.yaml", spec.Options{Sets: []string{"rules[0].spec.host=nowhere"}})
	require.Empty(t, diags)
	d := s.ProblemAt(spec.SeverityError, "MT1305", s.File(), -1, 0, "rules[0].spec.host", "no such service", "")
	require.Equal(t, "--set rules[0].spec.host=nowhere", d.File)
}

func TestLoadFS(t *testing.T) {
	t.Parallel()
	minimal, err := os.ReadFile("testdata/valid/minimal.yaml")
	require.NoError(t, err)
	rules, err := os.ReadFile("testdata/valid/rules/backend.yaml")
	require.NoError(t, err)
	fsys := fstest.MapFS{
		"shipped/a.yaml":             {Data: append(minimal, "rules: [{file: rules/backend.yaml}]\n"...)},
		"shipped/rules/backend.yaml": {Data: rules},
	}
	s, diags := spec.LoadFS(fsys, "shipped/a.yaml", spec.Options{})
	require.Empty(t, diags)
	require.Equal(t, "shipped/rules/backend.yaml", s.Rules[0].Documents[0].File)

	_, diags = spec.LoadFS(fsys, "shipped/b.yaml", spec.Options{})
	require.Equal(t, "shipped/b.yaml: MT1001 cannot be read: file does not exist", diags[0].String())

	_, diags = spec.Parse("text", fsys["shipped/a.yaml"].Data, spec.Options{})
	require.Len(t, diags, 1)
	require.Equal(t, "MT1210", diags[0].Code)
}

// Rules are read from the scenario's own folder only, whatever links lie in it.
func TestRulesStayInTheFolder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	folder := filepath.Join(root, "scenario")
	require.NoError(t, os.Mkdir(folder, 0o755))
	minimal, err := os.ReadFile("testdata/valid/minimal.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "secret.yaml"), []byte("kind: secret"), 0o644))
	require.NoError(t, os.Symlink("../secret.yaml", filepath.Join(folder, "link.yaml")))
	require.NoError(t, os.Symlink("..", filepath.Join(folder, "up")))
	for _, name := range []string{"link.yaml", "up/secret.yaml", "../secret.yaml", "a/../../secret.yaml", filepath.Join(root, "secret.yaml"), `..\secret.yaml`} {
		file := filepath.Join(folder, "s.yaml")
		require.NoError(t, os.WriteFile(file, append(minimal, "rules: [{file: '"+name+"'}]\n"...), 0o644))
		_, diags := spec.Load(file, spec.Options{})
		require.Len(t, diags, 1, name)
		require.Equal(t, "MT1210", diags[0].Code)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "large.yaml")
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("#\n"), spec.MaxFileSize/2+1), 0o644))
	_, diags := spec.Load(file, spec.Options{})
	require.Equal(t, "MT1002", diags[0].Code)
	_, diags = spec.Load(t.TempDir(), spec.Options{})
	require.Equal(t, "MT1001", diags[0].Code)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	files, err := spec.Files("testdata/valid")
	require.NoError(t, err)
	require.Equal(t, []string{"testdata/valid/every-field.yaml", "testdata/valid/minimal.yaml", "testdata/valid/rollout.yaml"}, files)
	files, err = spec.Files("testdata/valid/minimal.yaml")
	require.NoError(t, err)
	require.Equal(t, []string{"testdata/valid/minimal.yaml"}, files)
	_, err = spec.Files("testdata/none")
	require.Error(t, err)
	_, err = spec.Files(t.TempDir())
	require.Error(t, err)
}

func TestFormats(t *testing.T) {
	t.Parallel()
	_, diags := spec.Load("testdata/invalid/five-mistakes.yaml", spec.Options{})
	golden(t, "testdata/five-mistakes.github.golden", text(t, diags, spec.FormatGitHub))
	var decoded spec.Diagnostics
	require.NoError(t, json.Unmarshal([]byte(text(t, diags, spec.FormatJSON)), &decoded))
	require.Equal(t, diags, decoded)
	require.Equal(t, "[]\n", text(t, nil, spec.FormatJSON))
	require.Error(t, diags.Write(&bytes.Buffer{}, "xml"))
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/valid/*.yaml", "testdata/invalid/*.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(data, "seed=1")
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, set string) {
		s, diags := spec.Parse("fuzz", data, spec.Options{Sets: []string{set}})
		require.Equal(t, s == nil, diags.Err() != nil)
		for _, format := range []spec.Format{spec.FormatText, spec.FormatJSON, spec.FormatGitHub} {
			require.NoError(t, diags.Write(&bytes.Buffer{}, format))
		}
		again, repeated := spec.Parse("fuzz", data, spec.Options{Sets: []string{set}})
		require.Equal(t, diags, repeated, "the same problems each time, in the same order")
		require.Equal(t, s == nil, again == nil)
	})
}
