package apply

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	testing_ "k8s.io/client-go/testing"

	"meshtest.dev/meshtest/internal/testbubble"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// mapping knows some kinds, and none besides.
type mapping struct{ meta.RESTMapper }

func (mapping) Reset() {}

func kinds() mapping {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, meta.RESTScopeRoot)
	for _, kind := range []string{"ConfigMap", "Service", "Pod"} {
		m.Add(schema.GroupVersionKind{Version: "v1", Kind: kind}, meta.RESTScopeNamespace)
	}
	m.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, meta.RESTScopeNamespace)
	return mapping{m}
}

func object(kind, namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("v1")
	if kind == "Deployment" {
		u.SetAPIVersion("apps/v1")
	}
	u.SetKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	u.SetLabels(map[string]string{"run": "r-1"})
	return u
}

func applierOf(objects ...runtime.Object) (*Applier, *fake.FakeDynamicClient) {
	d := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		configMaps: "ConfigMapList", {Version: "v1", Resource: "services"}: "ServiceList", {Version: "v1", Resource: "pods"}: "PodList",
	}, objects...)
	return &Applier{dynamic: d, mapper: kinds()}, d
}

func TestDeletionIsInReverseAndOnceOnly(t *testing.T) {
	t.Parallel()
	all := []*unstructured.Unstructured{object("Namespace", "", "shop"), object("ConfigMap", "shop", "a"), object("Deployment", "shop", "web"), object("Service", "shop", "web")}
	a, d := applierOf(all[0], all[1], all[2]) // the Service is gone already
	require.NoError(t, a.Delete(t.Context(), append(all, object("ConfigMap", "shop", "never"), &unstructured.Unstructured{Object: map[string]any{"apiVersion": "x/v1", "kind": "Unknown", "metadata": map[string]any{"name": "x"}}})...))
	var order []string
	for _, action := range d.Actions() {
		if action.GetVerb() == "delete" && action.GetResource() != configMaps {
			order = append(order, action.GetResource().Resource)
		}
	}
	require.Equal(t, []string{"deployments", "services", "namespaces"}, order)
}

func TestDeletionWaits(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		held := object("ConfigMap", "shop", "a")
		held.SetFinalizers([]string{"example.com/keep"})
		a, d := applierOf(held)
		d.PrependReactor("delete", "configmaps", func(testing_.Action) (bool, runtime.Object, error) { return true, nil, nil }) // it is going
		done := make(chan error, 1)
		go func() { done <- a.Delete(t.Context(), object("ConfigMap", "shop", "a")) }()
		synctest.Wait()
		require.Empty(t, done)
		require.NoError(t, d.Tracker().Delete(configMaps, "shop", "a"))
		require.NoError(t, <-done)
	})
}

func TestDeletionThatDoesNotEndSaysWhy(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		held := object("ConfigMap", "shop", "a")
		held.SetFinalizers([]string{"example.com/keep"})
		a, d := applierOf(held)
		d.PrependReactor("delete", "configmaps", func(testing_.Action) (bool, runtime.Object, error) { return true, nil, nil })
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Delete(ctx, object("ConfigMap", "shop", "a")) }()
		synctest.Wait()
		cancel(errors.New("a minute is over"))
		require.EqualError(t, <-done, "waiting until ConfigMap a in namespace shop is gone: a minute is over: it waits for example.com/keep")
	})
}

func TestDeletionByLabel(t *testing.T) {
	t.Parallel()
	other := object("ConfigMap", "shop", "other")
	other.SetLabels(nil)
	a, d := applierOf(object("ConfigMap", "shop", "a"), object("Service", "shop", "web"), object("ConfigMap", "elsewhere", "b"), other)
	deleted, err := a.DeleteLabelled(t.Context(), "shop", "run=r-1",
		schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, schema.GroupVersionKind{Version: "v1", Kind: "Service"}, schema.GroupVersionKind{Group: "x", Version: "v1", Kind: "Unknown"})
	require.NoError(t, err)
	require.Len(t, deleted, 2)
	for name, there := range map[string]bool{"shop/a": false, "shop/other": true, "elsewhere/b": true} {
		namespace, short, _ := strings.Cut(name, "/")
		_, err := d.Tracker().Get(configMaps, namespace, short)
		require.Equal(t, there, err == nil, name)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	var got [][]string
	for _, group := range inOrder([]*unstructured.Unstructured{
		object("Pod", "", "1"), object("MutatingWebhookConfiguration", "", "2"), object("Service", "", "3"), object("VirtualService", "", "4"), object("Namespace", "", "5"),
		object("CustomResourceDefinition", "", "6"), object("ServiceAccount", "", "7"), object("ConfigMap", "", "8"), object("Secret", "", "9"),
	}) {
		var kinds []string
		for _, u := range group {
			kinds = append(kinds, u.GetKind())
		}
		got = append(got, kinds)
	}
	require.Equal(t, [][]string{
		{"Namespace"}, {"CustomResourceDefinition"}, {"ServiceAccount"}, {"ConfigMap", "Secret"}, {"Service"}, {"VirtualService"}, {"Pod"}, {"MutatingWebhookConfiguration"},
	}, got)
}

func TestInto(t *testing.T) {
	t.Parallel()
	a, _ := applierOf()
	one, two := object("ConfigMap", "", "a"), object("Service", "shop", "b")
	require.NoError(t, a.Into("shop", one, two))
	require.Equal(t, "shop", one.GetNamespace())
	err := a.Into("shop", object("ConfigMap", "other", "a"), object("Namespace", "", "shop"))
	require.EqualError(t, err, "ConfigMap a in namespace other: everything goes into namespace shop\nNamespace shop: everything goes into namespace shop")
}
