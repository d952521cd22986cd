package inject_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

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

// insertedOnly reports whether a text is another one with something inserted: whether all of it, but for commas between what is inserted and what was there, is there in order.
func insertedOnly(before, after string) bool {
	for _, b := range before {
		i := strings.IndexRune(after, b)
		if i < 0 {
			return false
		}
		after = after[i+utf8.RuneLen(b):]
	}
	return true
}

// YAML is more than what is usually seen of it. However a document is written, its pod gets the same; and wherever the text allows it, text is only inserted.
func TestShapesOfYAML(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: v1\nkind: Pod\n"
	for name, tt := range map[string]struct {
		text    string
		rewrite bool // the document cannot keep its text
	}{
		"no line end":              {text: head + "metadata:\n  name: web\nspec:\n  containers:\n  - name: web"},
		"carriage returns":         {text: strings.ReplaceAll(head+"metadata:\n  name: web\nspec:\n  containers:\n  - name: web\n", "\n", "\r\n")},
		"a byte order mark":        {text: "\ufeff" + head + "metadata:\n  name: web\nspec:\n  containers:\n  - name: web\n"},
		"a directive":              {text: "# a comment\n%YAML 1.1\n---\n" + head + "metadata:\n  name: web\nspec:\n  containers:\n  - name: web\n...\n"},
		"flow":                     {text: "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web}]}}"},
		"flow on the separator":    {text: "--- {apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web}]}}\n"},
		"flow over lines":          {text: head + "metadata: {\n  name: web\n}\nspec: {\n  volumes: [\n    {name: a, emptyDir: {}},\n  ],\n  containers: [\n    {name: web}\n  ]\n}\n"},
		"quoted keys":              {text: head + "\"metadata\":\n  'name': web\n\"spec\":\n  \"containers\":\n  - \"name\": web\n"},
		"no metadata":              {text: head + "spec:\n  containers:\n  - name: web\n"},
		"empty metadata":           {text: head + "metadata:\nspec:\n  containers:\n  - name: web\n"},
		"null metadata":            {text: head + "metadata: null\nspec:\n  containers:\n  - name: web\n", rewrite: true},
		"comments instead":         {text: head + "metadata:\n  name: web\n  annotations:\n    # a: b\nspec:\n  containers:\n  - name: web\n  volumes: # none\n"},
		"dashes on their own":      {text: head + "metadata:\n  name: web\nspec:\n  containers:\n  -\n    name: web\n  volumes:\n  -\n    name: x\n    emptyDir: {}\n"},
		"wide indentation":         {text: head + "metadata:\n        name: web\nspec:\n        containers:\n                -   name: web\n        volumes:\n                -   name: x\n                    emptyDir: {}\n"},
		"strange characters":       {text: head + "metadata:\n  annotations: {\"ключ\": \"значение\", \"😀\": \"x\"}\n  name: web\nspec:\n  containers: [{name: web}]\n"},
		"a line end of Unicode":    {text: head + "metadata:\n  annotations:\n    a: \"x\u2028y\"\n  name: web\nspec:\n  containers:\n  - name: web\n", rewrite: true},
		"an explicit key":          {text: head + "metadata:\n  name: web\n? spec\n: containers:\n  - name: web\n"},
		"tags":                     {text: head + "metadata: !!map\n  name: !!str web\nspec:\n  containers: !!seq\n  - name: web\n"},
		"an anchor on the way":     {text: head + "metadata: &m\n  name: web\nspec: &s\n  containers: &c\n  - &d\n    name: web\n"},
		"shared by an alias":       {text: "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n  spec: &s\n    containers:\n    - name: web\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: b}\n  spec: *s\n", rewrite: true},
		"shared by a merge":        {text: "apiVersion: v1\nkind: List\nx: &a\n  annotations: {a: b}\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    <<: *a\n    name: a\n  spec:\n    containers:\n    - name: web\n", rewrite: true},
		"a literal with a comment": {text: head + "metadata:\n  name: web\nspec:\n  containers:\n  - name: web\n  initContainers:\n  - name: wait\n    args:\n    - |\n      a\n      # b\n\n"},
		"anything after":           {text: head + "spec:\n  containers:\n  - name: web\n  initContainers:\n  - name: wait\n  # about the volumes\n\n  volumes: []\nmetadata:\n  name: web\n"},
		"numbers stay":             {text: head + "metadata:\n  name: web\n  generation: 12345678901234567\nspec:\n  priority: 1.0e3\n  activeDeadlineSeconds: 0x10\n  containers:\n  - name: web\n"},
		"JSON over and over":       {text: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a\/b"},"spec":{"containers":[{"name":"web"}]}}` + "\n\n" + `{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":[{"name":"web"}],"volumes":null}}`, rewrite: true},
		"another case":             {text: head + "metadata:\n  name: web\nspec:\n  hostnetwork: true\n  InitContainers: [{name: a}]\n  containers:\n  - name: web\n"},
		"JSON with tabs":           {text: "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\n\t\t\"name\": \"web\"\n\t},\n\t\"spec\": {\n\t\t\"containers\": [{\"name\": \"web\"}]\n\t}\n}\n"},
	} {
		for _, native := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/native=%v", name, native), func(t *testing.T) {
				t.Parallel()
				c := config()
				c.NativeSidecars = native
				text := tt.text
				if !strings.HasPrefix(text, "{\"") && !strings.HasPrefix(text, "{\n") && !strings.HasPrefix(text, "\ufeff") {
					text = "# kept\n" + text
				}
				out, notes, err := inject.Manifest("", []byte(text), c)
				require.NoError(t, err)
				require.NotEmpty(t, notes)
				for _, n := range notes {
					require.Empty(t, n.Skipped)
				}
				if tt.rewrite {
					require.NotContains(t, string(out), "# kept")
				} else {
					require.True(t, insertedOnly(text, string(out)), "%s", out)
				}
				again, notes, err := inject.Manifest("", out, c)
				require.NoError(t, err)
				require.Equal(t, string(out), string(again))
				for _, n := range notes {
					require.Equal(t, "the pod has been injected", n.Skipped)
				}
				if strings.Contains(tt.text, "\r\n") {
					require.NotRegexp(t, "[^\r]\n", strings.TrimPrefix(string(out), "# kept\n"))
				}
			})
		}
	}
}

func TestFilesThatStayAsTheyAre(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":           "",
		"comments":        "# nothing\n---\n\n# here\n",
		"unknown kinds":   "# a\napiVersion: v1\nkind:   Service\nmetadata: {name:   x}\n---\napiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
		"a list of those": "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: ConfigMap}]\n",
		"an empty list":   "apiVersion: v1\nkind: PodList\nitems: []\n",
		"separators":      "---\n---\n---\n",
		"JSON":            "  {\"apiVersion\":\"v1\",\t\"kind\":\"Service\"}\n{\"kind\":\"X\",\"apiVersion\":\"y\"}\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			require.NoError(t, inject.File(strings.NewReader(text), &out, config()))
			require.Equal(t, text, out.String())
		})
	}
}

// Everything that is wrong with a file is told at once, where it is, and nothing is written.
func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/refused.yaml")
	require.NoError(t, err)
	out, notes, err := inject.Manifest("refused.yaml", text, config())
	require.ErrorAs(t, err, new(inject.Problems))
	require.Equal(t, strings.Split(`refused.yaml:9:48: Deployment shop/web: spec.template.metadata.annotations[meshtest.dev/exclude-inbound-ports]: "http" is no port between 1 and 65535
refused.yaml:15:22: Deployment shop/web: spec.template.spec.containers[0].securityContext.runAsUser: 1337 is the sidecar's user, whose traffic is not captured: choose another one
refused.yaml:27:13: Pod a: items[1].spec.containers[0].name: the pod already has a container named meshtest-sidecar, which injection adds
refused.yaml:33:1: mapping values are not allowed in this context
refused.yaml:36:1: this is no Kubernetes object: it has no apiVersion or kind
refused.yaml:38: this is no Kubernetes object
refused.yaml:45:19: ReplicaSet: spec.template.spec.containers: it wants a list, not string`, "\n"), strings.Split(err.Error(), "\n"))
	require.Nil(t, out)
	require.Nil(t, notes)

	var written strings.Builder
	err = inject.File(strings.NewReader("just words"), &written, config())
	require.EqualError(t, err, "line 1: this is no Kubernetes object")
	require.Empty(t, written.String())
}

func TestNotes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/manifests/shapes.yaml")
	require.NoError(t, err)
	_, notes, err := inject.Manifest("shapes.yaml", text, config())
	require.NoError(t, err)
	require.Equal(t, []inject.Note{
		{Line: 11, Object: "CronJob nightly"},
		{Line: 30, Object: "Pod a"},
		{Line: 46, Object: "DaemonSet b"},
		{Line: 56, Object: "Pod quiet", Result: inject.Result{Skipped: "the pod opts out"}},
	}, notes)
}

// Whatever a file holds, it is refused or injected, and injecting what came out changes nothing.
func FuzzManifest(f *testing.F) {
	files, err := filepath.Glob("testdata/manifests/*")
	require.NoError(f, err)
	for _, file := range append(files, "testdata/refused.yaml") {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text []byte, native bool) {
		c := config()
		c.NativeSidecars = native
		out, _, err := inject.Manifest("", text, c)
		if err != nil {
			return
		}
		again, notes, err := inject.Manifest("", out, c)
		require.NoError(t, err)
		require.Equal(t, string(out), string(again))
		for _, n := range notes {
			require.NotEmpty(t, n.Skipped)
		}
	})
}
