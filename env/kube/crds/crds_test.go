package crds_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"meshtest.dev/meshtest/env/kube/crds"
)

func TestObjects(t *testing.T) {
	t.Parallel()
	objects, err := crds.Objects()
	require.NoError(t, err)
	var found []string
	for _, u := range objects {
		require.Equal(t, "CustomResourceDefinition", u.GetKind())
		require.Equal(t, "apiextensions.k8s.io/v1", u.GetAPIVersion())
		found = append(found, u.GetName())
		versions, _, err := unstructured.NestedSlice(u.Object, "spec", "versions")
		require.NoError(t, err)
		served := map[string]bool{}
		for _, v := range versions {
			version := v.(map[string]any)
			if version["served"] == true {
				served[version["name"].(string)] = true
			}
			_, ok, err := unstructured.NestedMap(version, "schema", "openAPIV3Schema", "properties", "spec")
			require.NoError(t, err)
			require.True(t, ok)
		}
		require.Equal(t, map[string]bool{"v1": true, "v1beta1": true, "v1alpha3": true}, served, u.GetName())
	}
	require.ElementsMatch(t, crds.Names(), found)
}

// The file is what the version that go.mod requires has.
func TestTheFileIsGenerated(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", "istio.io/api").Output()
	require.NoError(t, err)
	version, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	upstream, err := os.ReadFile(filepath.Join(dir, "kubernetes", "customresourcedefinitions.gen.yaml"))
	require.NoError(t, err)
	want, err := crds.Extract(string(upstream), version)
	require.NoError(t, err)
	have, err := os.ReadFile("istio.yaml")
	require.NoError(t, err)
	require.True(t, want == string(have), "istio.yaml is not what `go generate ./env/kube/crds` writes")
	for _, text := range strings.Split(want, "\n---\n")[1:] {
		require.Contains(t, string(upstream), strings.TrimSpace(text), "as upstream wrote it")
	}
}

func TestExtractMissesNothing(t *testing.T) {
	t.Parallel()
	_, err := crds.Extract("kind: CustomResourceDefinition\nmetadata:\n  name: gateways.networking.istio.io\n", "v0")
	require.EqualError(t, err, "istio.io/api v0 does not define destinationrules.networking.istio.io, serviceentries.networking.istio.io, virtualservices.networking.istio.io")
}
