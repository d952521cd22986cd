package spec_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/spec"
)

func TestManifestsGoAlong(t *testing.T) {
	t.Parallel()
	s, diags := spec.Load("testdata/valid/every-field.yaml", spec.Options{})
	require.Empty(t, diags)
	text, err := os.ReadFile("testdata/valid/objects/backend.yaml")
	require.NoError(t, err)
	v2 := s.Services["backend"].Versions["v2"]
	require.Equal(t, spec.Run{Manifest: "objects/backend.yaml", Image: "registry.example/backend:2", Container: "app", PullSecrets: []string{"registry"}, Objects: text}, v2.Run)
	require.Equal(t, 3, v2.Replicas, "as the manifest says")
	require.Equal(t, 1, s.Services["store"].Versions["only"].Replicas)
	require.Equal(t, []string{"store", "time"}, s.Services["backend"].Versions["v1"].Calls)
	require.NotEmpty(t, s.Setup[1].Objects)
	require.Equal(t, spec.Hook{Name: "rows", Command: []string{"./rows", "${seed}"}, Timeout: 10 * time.Second, Env: map[string]string{"ROWS": "5", "SEED": "${seed}"}}, s.Setup[0])
	require.Equal(t, time.Minute, s.Teardown[1].Timeout)
}

// A shipped scenario has its manifests beside it, wherever that is.
func TestManifestsOfAFileSystem(t *testing.T) {
	t.Parallel()
	objects, err := os.ReadFile("testdata/valid/objects/backend.yaml")
	require.NoError(t, err)
	text := `apiVersion: meshtest.dev/v1
kind: Scenario
metadata: {name: m}
services: {store: {port: 9000, versions: {v1: {run: {manifest: objects/m.yaml}}}}}
`
	fsys := fstest.MapFS{"shipped/m.yaml": {Data: []byte(text)}, "shipped/objects/m.yaml": {Data: objects}}
	s, diags := spec.LoadFS(fsys, "shipped/m.yaml", spec.Options{})
	require.Empty(t, diags)
	require.Equal(t, objects, s.Services["store"].Versions["v1"].Run.Objects)
	fsys["shipped/objects/m.yaml"].Data = []byte("kind: Deployment\n")
	_, diags = spec.LoadFS(fsys, "shipped/m.yaml", spec.Options{})
	require.Len(t, diags, 1)
	require.Equal(t, "shipped/objects/m.yaml:1:1: MT1212 not a Kubernetes object: it has no apiVersion or no kind", diags[0].String())
	_, diags = spec.Parse("text", []byte(text), spec.Options{})
	require.Len(t, diags, 1)
	require.Equal(t, "MT1210", diags[0].Code)
}

// CI names the image of the candidate that it has just built.
func TestTheImageOfACandidateIsSet(t *testing.T) {
	t.Parallel()
	set := func(value string) (*spec.Scenario, spec.Diagnostics) {
		return spec.Load("testdata/valid/every-field.yaml", spec.Options{Sets: []string{value}})
	}
	s, diags := set("services.backend.versions.v1.run.image=registry.example/backend:pr-7")
	require.Empty(t, diags)
	require.Equal(t, "registry.example/backend:pr-7", s.Services["backend"].Versions["v1"].Run.Image)
	s, diags = set("services.store.versions.only.run.image=store@sha256:0123")
	require.Empty(t, diags, "an image replaces the manifest's")
	require.Equal(t, "store@sha256:0123", s.Services["store"].Versions["only"].Run.Image)
	require.Equal(t, []string{"services.store.versions.only.run.image=store@sha256:0123"}, s.Sets())
	_, diags = set("services.frontend.versions.v1.run.image=a")
	require.Len(t, diags, 1)
	require.Equal(t, "--set services.frontend.versions.v1.run.image=a: MT1107 services.frontend.versions.v1.run.image: only one of fixture, command, image or manifest can be set, and command is set already", diags[0].String())
	_, diags = set("services.backend.versions.v2.run.container=ap")
	require.Len(t, diags, 1)
	require.Equal(t, `did you mean "app"?`, diags[0].Hint)
}

func TestFixturesAreKnown(t *testing.T) {
	t.Parallel()
	load := func(fixtures ...string) spec.Diagnostics {
		_, diags := spec.Load("testdata/valid/rollout.yaml", spec.Options{Fixtures: fixtures, Sets: []string{"external.time.run.fixture=tyme"}})
		return diags
	}
	require.Empty(t, load(), "nobody said which there are")
	diags := load("chain", "time")
	require.Len(t, diags, 1)
	require.Equal(t, `--set external.time.run.fixture=tyme: MT1201 external.time.run.fixture: no such fixture: "tyme"`, diags[0].String())
	require.Equal(t, `did you mean "time"?`, diags[0].Hint)
}

func TestDisruptions(t *testing.T) {
	t.Parallel()
	s, diags := spec.Load("testdata/valid/every-field.yaml", spec.Options{})
	require.Empty(t, diags)
	faults := s.Faults[len(s.Faults)-4:]
	require.Equal(t, &spec.PodKill{Service: "backend", Version: "v1", Count: 2, GracePeriod: 3 * time.Second}, faults[0].PodKill)
	require.Equal(t, &spec.NodeDrain{Service: "frontend", Count: 1}, faults[1].NodeDrain)
	require.Equal(t, &spec.Scale{Service: "backend", Version: "v2"}, faults[3].Scale)
	for i, want := range []string{"podKill", "nodeDrain", "controlKill", "scale"} {
		require.Equal(t, want, faults[i].Disruption())
		require.Zero(t, faults[i].Lease, "it is no lease")
		require.Empty(t, faults[i].At)
	}
	service, version := faults[3].Target()
	require.Equal(t, []string{"backend", "v2"}, []string{service, version})
	require.Empty(t, s.Faults[0].Disruption())
}

// Manifests and jobs are read from the scenario's own folder only, as rules are.
func TestManifestsStayInTheFolder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	folder := filepath.Join(root, "scenario")
	require.NoError(t, os.Mkdir(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "secret.yaml"), []byte("kind: secret"), 0o644))
	require.NoError(t, os.Symlink("../secret.yaml", filepath.Join(folder, "link.yaml")))
	minimal, err := os.ReadFile("testdata/valid/minimal.yaml")
	require.NoError(t, err)
	for _, name := range []string{"link.yaml", "../secret.yaml", filepath.Join(root, "secret.yaml")} {
		file := filepath.Join(folder, "s.yaml")
		text := string(minimal) + "setup: [{name: s, job: '" + name + "'}]\nexternal: {e: {port: 1, run: {manifest: '" + name + "'}}}\n"
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		_, diags := spec.Load(file, spec.Options{})
		require.Len(t, diags, 2, name)
		for _, d := range diags {
			require.Equal(t, "MT1210", d.Code)
		}
	}
}
