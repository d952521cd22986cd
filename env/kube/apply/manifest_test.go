package apply

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"yaml": `# two documents, and an empty one
apiVersion: v1
kind: ConfigMap
metadata:
  name: one
---
# nothing
--- # another
apiVersion: v1
kind: Service
metadata: {name: two, namespace: shop}
spec:
  ports: [{port: 80}]
---
`,
		"list": `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: one}
- {apiVersion: v1, kind: Service, metadata: {name: two, namespace: shop}, spec: {ports: [{port: 80}]}}
`,
		"json": `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "two", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}`,
		"typed list": `{"apiVersion": "v1", "kind": "List", "items": [
			{"apiVersion": "v1", "kind": "ConfigMapList", "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}]},
			{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "two", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects, err := Decode("x.yaml", []byte(text))
			require.NoError(t, err)
			require.Len(t, objects, 2)
			require.Equal(t, "ConfigMap one", describe(objects[0]))
			require.Equal(t, "Service two in namespace shop", describe(objects[1]))
			ports, _, _ := unstructured.NestedSlice(objects[1].Object, "spec", "ports")
			require.Equal(t, map[string]any{"port": int64(80)}, ports[0])
		})
	}
}

// TestValuesMeanWhatKubectlReads has words that YAML 1.1 and 1.2 read differently.
func TestValuesMeanWhatKubectlReads(t *testing.T) {
	t.Parallel()
	objects, err := Decode("x.yaml", []byte("apiVersion: v1\nkind: X\nmetadata: {name: x}\nspec: {yes: on, date: 2001-02-03, octal: 0644, text: \"on\", big: 1e3}\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]any{"true": true, "date": "2001-02-03", "octal": int64(420), "text": "on", "big": int64(1000)}, objects[0].Object["spec"])
}

func TestDecodeSaysWhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"no name":         {"\n---\napiVersion: v1\nkind: Pod\nmetadata: {}\n", "x.yaml:3: no Kubernetes object: it has no metadata.name"},
		"no kind":         {"apiVersion: v1\nmetadata: {name: x}\n", "x.yaml:1: no Kubernetes object: it has no kind"},
		"no version":      {"# x\nkind: Pod\nmetadata: {name: x}\n", "x.yaml:2: no Kubernetes object: it has no apiVersion"},
		"text":            {"hello\n", "x.yaml:1: no Kubernetes object: it has no fields"},
		"broken":          {"a: b\n---\na: b\nb: c: d\n", "x.yaml:1: no Kubernetes object: it has no apiVersion\nx.yaml:4: mapping values are not allowed in this context"},
		"twice the field": {"apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: x}\n", "x.yaml:1: no Kubernetes object: it has no metadata.name\nx.yaml:6: key \"kind\" already set in map"},
		"twice": {
			"apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: x}\n",
			"x.yaml:5: Pod x stands in line 1 already",
		},
		"in a list": {"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: x}\n", "x.yaml:4: no Kubernetes object: it has no metadata.name"},
		"json":      {"{\"apiVersion\": \"v1\",\n\"kind\": \"Pod\"}\n\n{]", "x.yaml:1: no Kubernetes object: it has no metadata.name\nx.yaml:4: no JSON: invalid character ']' looking for beginning of object key string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Decode("x.yaml", []byte(c.text))
			require.EqualError(t, err, c.want)
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: x}}\n"))
	f.Add([]byte("{\"kind\": \"List\", \"items\": [1, null]}{"))
	f.Add([]byte("---\n--- x\n&a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		objects, err := Decode("x", text)
		for _, u := range objects {
			if u.GetName() == "" || u.GetKind() == "" {
				t.Errorf("an object without a name or a kind, and the error is %v", err)
			}
		}
	})
}
