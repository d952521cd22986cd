//go:build e2e

package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtest.dev/meshtest/env/kube/cluster"
)

// cases are tests against one real cluster.
type cases struct {
	*Applier
	config *rest.Config
}

// TestApply says what a real API server says of what it does not take, and waits for what it does:
//
//	eval "$(hack/kind-offline/up)" && go test -tags e2e -run TestApply -v ./env/kube/apply
func TestApply(t *testing.T) {
	if os.Getenv(cluster.EnvImage) == "" {
		t.Skip(cluster.EnvImage + " is not set: see hack/kind-offline/up")
	}
	c, err := cluster.Create(t.Context(), cluster.Options{Name: "mt-apply-test"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Delete(context.Background())) })
	config, err := c.RestConfig()
	require.NoError(t, err)
	config.QPS, config.Burst = 100, 200
	applier, err := New(config)
	require.NoError(t, err)
	with := cases{applier, config}
	t.Run("refusals", with.refusals)
	t.Run("rollouts", with.rollouts)
	t.Run("definitions", with.definitions)
	t.Run("deletion", with.deletion)
	t.Run("no API server", func(t *testing.T) {
		nowhere, err := New(&rest.Config{Host: "https://127.0.0.1:1"})
		require.NoError(t, err)
		err = nowhere.Apply(t.Context(), decode(t, namespace("a"))...)
		require.ErrorContains(t, err, "asking the cluster for its kinds: the API server at 127.0.0.1:1 does not answer: dial tcp 127.0.0.1:1: connect: connection refused")
	})
}

func decode(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := Decode("test.yaml", []byte(text))
	require.NoError(t, err)
	return objects
}

func namespace(name string, labels ...string) string {
	return "\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + ", labels: {" + strings.Join(append(labels, "run: e2e"), ", ") + "}}\n"
}

// idle is a Deployment of one of the node's own images.
func idle(in, name, image, command string) string {
	return `
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ` + name + `, namespace: ` + in + `, labels: {run: e2e}}
spec:
  selector: {matchLabels: {app: ` + name + `}}
  template:
    metadata: {labels: {app: ` + name + `}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: app, image: "` + image + `", imagePullPolicy: IfNotPresent` + command + `}]
`
}

// image is one that every node has.
func (with cases) image(t *testing.T, program string) string {
	client, err := kubernetes.NewForConfig(with.config)
	require.NoError(t, err)
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, image := range nodes.Items[0].Status.Images {
		for _, name := range image.Names {
			if strings.Contains(name, "/"+program+":") {
				return name
			}
		}
	}
	require.FailNow(t, "no node has an image of "+program)
	return ""
}

func (with cases) refusals(t *testing.T) {
	image := with.image(t, "pause")
	require.NoError(t, with.Apply(t.Context(), decode(t, namespace("refusals")+`
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: small, namespace: refusals}
spec: {hard: {secrets: "0"}}
`)...))
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: one, namespace: refusals}\n"
	n := 0
	require.EventuallyWithT(t, func(c *assert.CollectT) { // until the API server has heard of the quota some may be taken
		n++
		err := with.Apply(t.Context(), decode(t, strings.ReplaceAll(secret, "one", fmt.Sprintf("one-%d", n)))...)
		require.Error(c, err)
		require.Regexp(c, "^applying Secret one-[0-9]+ in namespace refusals: quota small has no room: it needs secrets=1, where secrets=[0-9]+ is used of secrets=0$", err.Error())
	}, 30*time.Second, 200*time.Millisecond)

	err := with.Apply(t.Context(), decode(t, strings.ReplaceAll(secret, "refusals", "nowhere"))...)
	require.EqualError(t, err, "applying Secret one in namespace nowhere: there is no namespace nowhere")
	err = with.Apply(t.Context(), decode(t, "apiVersion: example.com/v1\nkind: Unknown\nmetadata: {name: x}\n")...)
	require.EqualError(t, err, "Unknown x: the cluster knows no Unknown of example.com/v1")
	err = with.Apply(t.Context(), decode(t, "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: refusals}\nspec: {ports: [{port: 99999, targetPort: 80}]}\n")...)
	require.EqualError(t, err, "applying Service x in namespace refusals: it is invalid: spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive")

	require.NoError(t, with.Apply(t.Context(), decode(t, idle("refusals", "web", image, ""))...))
	client, err := kubernetes.NewForConfig(with.config)
	require.NoError(t, err)
	patch := []byte(`{"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2}}`)
	_, err = client.AppsV1().Deployments("refusals").Patch(t.Context(), "web", types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: "somebody"})
	require.NoError(t, err)
	mine := decode(t, idle("refusals", "web", image, ""))
	require.NoError(t, unstructured.SetNestedField(mine[0].Object, int64(3), "spec", "replicas"))
	err = with.Apply(t.Context(), mine...)
	require.EqualError(t, err, "applying Deployment web in namespace refusals: somebody else manages it, and meshtest takes nothing over: somebody sets .spec.replicas")
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.True(t, apierrors.IsConflict(err))

	as := rest.CopyConfig(with.config)
	as.Impersonate = rest.ImpersonationConfig{UserName: "bob", Groups: []string{"system:authenticated"}}
	bob, err := New(as)
	require.NoError(t, err)
	err = bob.Apply(t.Context(), decode(t, namespace("bobs"))...)
	require.EqualError(t, err, "applying Namespace bobs: user bob may not patch namespace bobs")
}

func (with cases) rollouts(t *testing.T) {
	image := with.image(t, "pause")
	objects := namespace("rollouts") + idle("rollouts", "good", image, "") + idle("rollouts", "absent", "localhost/absent:1", "") + idle("rollouts", "wrong", image, `, command: ["/no-such-program"]`) +
		idle("rollouts", "crashing", with.image(t, "coredns"), `, args: ["-version"], readinessProbe: {tcpSocket: {port: 1}}`) + idle("rollouts", "large", image, `, resources: {requests: {cpu: "1000"}}`) +
		namespace("guarded", "pod-security.kubernetes.io/enforce: restricted") + idle("guarded", "loose", image, "") + `
---
apiVersion: batch/v1
kind: Job
metadata: {name: bad, namespace: rollouts}
spec:
  backoffLimit: 0
  template:
    spec: {restartPolicy: Never, containers: [{name: app, image: "` + image + `", command: ["/no-such-program"]}]}
`
	require.NoError(t, with.Apply(t.Context(), decode(t, objects)...))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, with.Rollout(ctx, "rollouts", "good"))
	stuck := func(t *testing.T, err error) *StuckError {
		t.Helper()
		var s *StuckError
		require.ErrorAs(t, err, &s)
		t.Log(err)
		return s
	}
	began := time.Now()
	loose := stuck(t, with.Rollout(ctx, "guarded", "loose"))
	require.Contains(t, loose.Reason, "its pods are not made: Pod Security restricted:latest refuses it: ")
	require.False(t, loose.Application())
	require.Less(t, time.Since(began), patience)
	wrong := stuck(t, with.Rollout(ctx, "rollouts", "wrong"))
	require.True(t, wrong.Application())
	require.Contains(t, wrong.Reason, "no-such-program")
	require.NotEmpty(t, wrong.Events)
	large := stuck(t, with.Rollout(ctx, "rollouts", "large"))
	require.Contains(t, large.Reason, "Insufficient cpu")
	require.False(t, large.Application())
	absent := stuck(t, with.Rollout(ctx, "rollouts", "absent"))
	require.Contains(t, absent.Reason, "image localhost/absent:1 of container app cannot be pulled")
	require.True(t, absent.Application())
	require.Contains(t, stuck(t, with.JobDone(ctx, "rollouts", "bad")).Reason, "it failed: ")
	crashing := stuck(t, with.Rollout(ctx, "rollouts", "crashing"))
	require.Contains(t, crashing.Reason, "container app ends again and again: exit code 0")
	require.NotEmpty(t, crashing.Log, "it says its version")
}

func (with cases) definitions(t *testing.T) {
	objects := decode(t, `
apiVersion: example.com/v1
kind: Thing
metadata: {name: first, labels: {run: e2e}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: things, kind: Thing}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`)
	began := time.Now()
	require.NoError(t, with.Apply(t.Context(), objects...), "the definition goes first, and is served before the object")
	t.Logf("applied in %v", time.Since(began))
	require.False(t, with.Namespaced(schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Thing"}))
	began = time.Now()
	require.NoError(t, with.Delete(t.Context(), objects...))
	t.Logf("deleted in %v", time.Since(began))
	require.NoError(t, with.Delete(t.Context(), objects...), "again")
}

func (with cases) deletion(t *testing.T) {
	image := with.image(t, "pause")
	held := "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, namespace: deletion, finalizers: [example.com/keep]}\n"
	require.NoError(t, with.Apply(t.Context(), decode(t, namespace("deletion")+idle("deletion", "a", image, "")+idle("deletion", "b", image, "")+held)...))
	require.NoError(t, with.Rollout(t.Context(), "deletion", "a"))
	deployments := schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	deleted, err := with.DeleteLabelled(t.Context(), "deletion", "run=e2e", deployments, schema.GroupVersionKind{Group: "no.such", Version: "v1", Kind: "Kind"})
	require.NoError(t, err)
	require.Len(t, deleted, 2)
	client, err := kubernetes.NewForConfig(with.config)
	require.NoError(t, err)
	pods, err := client.CoreV1().Pods("deletion").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, pods.Items, "what the objects own is gone, too")

	enough := errors.New("long enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 15*time.Second, enough)
	defer cancel()
	err = with.Delete(ctx, decode(t, namespace("deletion"))...)
	require.ErrorIs(t, err, enough)
	require.ErrorContains(t, err, "example.com/keep")
	t.Log(err)
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"finalizers": nil}})
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps("deletion").Patch(t.Context(), "held", types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, with.Delete(ctx, decode(t, namespace("deletion"))...), "one that is going already")
	_, err = client.CoreV1().Namespaces().Get(t.Context(), "deletion", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
}
