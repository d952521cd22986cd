//go:build e2e

package images

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/internal/oci"
)

// TestLoad brings images into the two nodes of a real cluster and starts them:
//
//	eval "$(hack/kind-offline/up)" && go test -tags e2e -run TestLoad -v ./env/kube/images
func TestLoad(t *testing.T) {
	if os.Getenv(cluster.EnvImage) == "" {
		t.Skip(cluster.EnvImage + " is not set: see hack/kind-offline/up")
	}
	c, err := cluster.Create(t.Context(), cluster.Options{Name: "mt-images-test", Nodes: 2})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Delete(context.Background())) })
	nodes, err := c.Nodes()
	require.NoError(t, err)
	config, err := c.RestConfig()
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)

	binary := filepath.Join(t.TempDir(), "say")
	build := exec.Command("go", "build", "-o", binary, "./testdata/say")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	const alias = "localhost/meshtest-say:1"
	one, err := BuildWith(binary, "meshtest-say", oci.Config{Env: []string{"SAY=one"}}, alias)
	require.NoError(t, err)
	two, err := BuildWith(binary, "meshtest-say", oci.Config{Env: []string{"SAY=two"}}, alias)
	require.NoError(t, err)

	began := time.Now()
	var all errgroup.Group
	for range 4 { // as several runs would
		all.Go(func() error { return Load(t.Context(), nodes, one) })
	}
	require.NoError(t, all.Wait())
	t.Logf("into two nodes, four at once: %v", time.Since(began))
	began = time.Now()
	require.NoError(t, Load(t.Context(), nodes, one))
	t.Logf("again: %v", time.Since(began))
	require.Equal(t, "one\n", says(t, client, "one", one.Ref))
	require.Equal(t, "one\n", says(t, client, "alias-one", alias))
	require.NoError(t, Load(t.Context(), nodes, two))
	require.Equal(t, "two\n", says(t, client, "alias-two", alias))
	require.NoError(t, Load(t.Context(), nodes, one))
	require.Equal(t, "one\n", says(t, client, "alias-one-again", alias))

	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	three, err := BuildWith(binary, "meshtest-say", oci.Config{Env: []string{"SAY=three"}})
	require.NoError(t, err)
	require.ErrorIs(t, three.stream(ctx, nodes[0]), interrupted)
	there, err := list(t.Context(), nodes[0])
	require.NoError(t, err)
	require.Equal(t, there[one.Ref], there[alias])
	require.NotEmpty(t, there[two.Ref])
	require.NotContains(t, there, three.Ref)

	folder := t.TempDir()
	require.NoError(t, os.Symlink("say", filepath.Join(folder, "link")))
	program, err := os.ReadFile(binary)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "say"), program, 0o755))
	files, err := Files(folder, "/opt/say")
	require.NoError(t, err)
	packed, err := Pack("meshtest-folder", oci.Config{Entrypoint: []string{"/opt/say/link"}, Env: []string{"SAY=folder"}}, files...)
	require.NoError(t, err)
	require.NoError(t, Load(t.Context(), nodes, packed))
	require.Equal(t, "folder\n", says(t, client, "folder", packed.Ref))
}

// says runs an image to its end and returns what it said. Its pod is as restricted as Pod Security knows.
func says(t *testing.T, client kubernetes.Interface, name, ref string) string {
	t.Helper()
	yes, no := true, false
	pods := client.CoreV1().Pods("default")
	_, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
			Name: "app", Image: ref, ImagePullPolicy: corev1.PullNever,
			SecurityContext: &corev1.SecurityContext{
				RunAsNonRoot: &yes, ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
		}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	w, err := pods.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	require.NoError(t, err)
	defer w.Stop()
	deadline := time.After(time.Minute)
	for {
		select {
		case e := <-w.ResultChan():
			p, ok := e.Object.(*corev1.Pod)
			require.True(t, ok, "the watch ended: %v", e)
			require.NotEqual(t, corev1.PodFailed, p.Status.Phase)
			if p.Status.Phase == corev1.PodSucceeded {
				text, err := pods.GetLogs(name, &corev1.PodLogOptions{}).DoRaw(t.Context())
				require.NoError(t, err)
				return string(text)
			}
		case <-deadline:
			require.FailNow(t, "the pod did not end in a minute")
		}
	}
}
