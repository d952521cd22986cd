package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

const containerdConfig = `
[plugins."io.containerd.grpc.v1.cri"]
  # use fixed sandbox image
  sandbox_image = "registry.example/pause:3.10"
`

func TestImageList(t *testing.T) {
	t.Parallel()
	list := "registry.example/kube-apiserver:v1.34.4\nregistry.example/coredns/coredns:v1.12.1\nregistry.example/pause:3.10.1\nregistry.example/etcd:3.6.5-0\n"
	w, err := imageList(list, containerdConfig)
	require.NoError(t, err)
	require.Equal(t, wanted{
		"kube-apiserver": {"registry.example/kube-apiserver:v1.34.4"},
		"coredns":        {"registry.example/coredns/coredns:v1.12.1"},
		"pause":          {"registry.example/pause:3.10.1", "registry.example/pause:3.10"},
		"etcd":           {"registry.example/etcd:3.6.5-0"},
	}, w)
	for program, want := range map[string]string{"etcd": "v3.6.5", "coredns": "v1.12.1"} {
		got, err := w.version(program)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = w.version("kube-dns")
	require.ErrorContains(t, err, "names no image of kube-dns")

	same, err := imageList("registry.example/pause:3.10", containerdConfig)
	require.NoError(t, err)
	require.Equal(t, wanted{"pause": {"registry.example/pause:3.10"}}, same)
	_, err = imageList(list, "")
	require.ErrorContains(t, err, "no sandbox_image")
	_, err = imageList("registry.example/etcd", containerdConfig)
	require.ErrorContains(t, err, "has no tag")
}

func TestTheModuleOfAnUpstreamRepeatsItsReplacements(t *testing.T) {
	t.Parallel()
	var file goMod
	require.NoError(t, json.Unmarshal([]byte(`{"Go": "1.24.0", "Replace": [
		{"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
		{"Old": {"Path": "example.com/old"}, "New": {"Path": "example.com/new", "Version": "v1.2.3"}},
		{"Old": {"Path": "example.com/sibling"}, "New": {"Path": "../sibling"}}
	]}`), &file))
	require.Equal(t, `module kind-offline

go 1.24.0

require k8s.io/kubernetes v1.34.4

replace k8s.io/api => k8s.io/api v0.34.4

replace example.com/old => example.com/new v1.2.3
`, file.wrapper(upstream{Module: "k8s.io/kubernetes", Version: "v1.34.4", Staging: "v0.34.4"}))
}

func TestVersionFlagsAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	require.Contains(t, versionFlags("1.34.4"), "-X k8s.io/component-base/version.gitMinor=34 ")
	for range 20 {
		require.Equal(t, versionFlags("1.34.4"), versionFlags("1.34.4"))
	}
}

func TestTheRecipesDigestCoversItsFilesButNotTheirTests(t *testing.T) {
	t.Parallel()
	files := func(script, test string) fstest.MapFS {
		return fstest.MapFS{"node.sh": {Data: []byte(script)}, "cni/main_test.go": {Data: []byte(test)}}
	}
	digest := func(files fstest.MapFS, kind string) string {
		d, err := recipeDigest(files, kind)
		require.NoError(t, err)
		return d
	}
	one := digest(files("a", "x"), "v0.33.0")
	require.Regexp(t, "^[0-9a-f]{12}$", one)
	require.Equal(t, one, digest(files("a", "y"), "v0.33.0"))
	require.NotEqual(t, one, digest(files("b", "x"), "v0.33.0"))
	require.NotEqual(t, one, digest(files("a", "x"), "v0.34.0"))
}

func TestFilesOfKindGetTheirModes(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	for _, path := range []string{"usr/local/bin/entrypoint", "etc/containerd/config.toml"} {
		require.NoError(t, os.MkdirAll(filepath.Join(from, filepath.Dir(path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(from, path), []byte(path), 0o400))
	}
	require.NoError(t, copyFiles(from, to))
	require.NoError(t, copyFiles(from, to), "again, over itself")
	for path, mode := range map[string]os.FileMode{"usr/local/bin/entrypoint": 0o755, "etc/containerd/config.toml": 0o644} {
		info, err := os.Stat(filepath.Join(to, path))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}
}

func TestTheEnginesConfigurationIsKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, after string }{
		"none": {``, `{"default-runtime": "kind-offline", "runtimes": {"kind-offline": {"path": "/usr/local/bin/kind-offline-runtime"}}}`},
		"other settings": {
			`{"debug": true, "runtimes": {"kata": {"path": "/kata"}}, "default-runtime": "kata"}`,
			`{"debug": true, "default-runtime": "kind-offline", "runtimes": {"kata": {"path": "/kata"}, "kind-offline": {"path": "/usr/local/bin/kind-offline-runtime"}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, err := withRuntime([]byte(c.before))
			require.NoError(t, err)
			require.JSONEq(t, c.after, string(after))
			again, err := withRuntime(after)
			require.NoError(t, err)
			require.Equal(t, string(after), string(again))
		})
	}
	_, err := withRuntime([]byte("{"))
	require.Error(t, err)
}

func TestOnlyAHostWithoutTheCapabilityIsLimited(t *testing.T) {
	t.Parallel()
	for bounding, limited := range map[string]bool{"000001ffffffffff": false, "000001fffeffffff": true} {
		status := filepath.Join(t.TempDir(), "status")
		require.NoError(t, os.WriteFile(status, []byte("CapPrm:\t0\nCapBnd:\t"+bounding+"\n"), 0o600))
		got, err := withoutSysResource(status)
		require.NoError(t, err)
		require.Equal(t, limited, got, bounding)
	}
	_, err := withoutSysResource(os.DevNull)
	require.ErrorContains(t, err, "does not say CapBnd")
}
