package discovery

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"

	"meshtest.dev/meshtest/env/kube/discovery/apitest"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/internal/testbubble"
)

func TestIstioKinds(t *testing.T) {
	t.Parallel()
	list := func(version string, kinds ...string) *metav1.APIResourceList {
		l := &metav1.APIResourceList{GroupVersion: "networking.istio.io/" + version}
		for _, kind := range kinds {
			l.APIResources = append(l.APIResources, metav1.APIResource{Name: kind + "s", Kind: kind}, metav1.APIResource{Name: kind + "s/status", Kind: kind})
		}
		return l
	}
	for name, test := range map[string]struct {
		has  []*metav1.APIResourceList
		want []string
	}{
		"none":       {nil, nil},
		"some":       {[]*metav1.APIResourceList{list("v1", "VirtualService", "EnvoyFilter", "Gateway")}, []string{"v1/VirtualServices", "v1/Gateways"}},
		"the newest": {[]*metav1.APIResourceList{list("v1alpha3", "Gateway"), list("v1beta1", "DestinationRule")}, []string{"v1beta1/DestinationRules"}},
	} {
		api := &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{Resources: test.has}}
		kinds, err := IstioKinds(api)
		require.NoError(t, err, name)
		var got []string
		for _, k := range kinds {
			got = append(got, k.Version+"/"+k.Resource)
		}
		require.Equal(t, test.want, got, name)
	}
	broken := &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{}}
	broken.AddReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewInternalError(errors.New("no answer"))
	})
	_, err := IstioKinds(broken)
	require.ErrorContains(t, err, "no answer", "not knowing is not having none")
}

// TestSlimPodsMeanTheSame: what informers leave of an object is all that Build looks at.
func TestSlimPodsMeanTheSame(t *testing.T) {
	t.Parallel()
	controller := true
	pods := []*corev1.Pod{
		newPod("in", "web", "v1", "10.0.0.1"), newPod("out", "web", "v2", "10.0.0.2", withoutSidecar), newPod("done", "web", "v1", "10.0.0.3", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		newPod("going", "web", "v1", "10.0.0.4", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		newPod("owned", "", "", "10.0.0.5", func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: "db", Controller: &controller}}
		}),
		newPod("gw", "edge", "", "10.0.0.6", func(p *corev1.Pod) { p.Namespace, p.Labels[names.LabelRole] = system, names.RoleGateway }),
	}
	whole, slimmed := state(newService("web", 80), newSlice("web", 8080, pods...)), state(newService("web", 80), newSlice("web", 8080, pods...))
	for _, p := range pods {
		p.Annotations, p.ManagedFields = map[string]string{"a": "b"}, []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "B"}}
		whole.Pods = append(whole.Pods, p.DeepCopy())
		o, err := slim(p)
		require.NoError(t, err)
		little, ok := o.(*corev1.Pod)
		require.True(t, ok)
		require.Empty(t, little.Annotations)
		require.Empty(t, little.ManagedFields)
		require.Empty(t, little.Spec.Containers[0].Env)
		again, err := slim(little)
		require.NoError(t, err)
		require.Equal(t, o, again)
		slimmed.Pods = append(slimmed.Pods, little)
	}
	overlay := said(saidEdge(1))
	require.Equal(t, built(t, whole, overlay), built(t, slimmed, overlay))
}

// catalogue has the kinds of one version.
type catalogue struct {
	mu   sync.Mutex
	list *metav1.APIResourceList
}

func (c *catalogue) set(list *metav1.APIResourceList) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = list
}

func (c *catalogue) ServerResourcesForGroupVersion(version string) (*metav1.APIResourceList, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list == nil || c.list.GroupVersion != version {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, version)
	}
	return c.list, nil
}

// TestKindsThatComeLater: definitions that are installed while a mesh runs, or become known one after the other, are not overlooked.
func TestKindsThatComeLater(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a, api := newAPI(), &catalogue{}
		has := func(version string, kinds ...string) {
			l := &metav1.APIResourceList{GroupVersion: "networking.istio.io/" + version}
			for _, kind := range kinds {
				l.APIResources = append(l.APIResources, metav1.APIResource{Name: strings.ToLower(kind) + "s", Kind: kind})
			}
			api.set(l)
		}
		objects := a.Dynamic.Resource(apitest.Istio[1]).Namespace(real)
		_, err := objects.Create(t.Context(), newObject(t, 1, reviewsRule), metav1.CreateOptions{})
		require.NoError(t, err)
		i, err := NewInformers(Source{Client: a, Dynamic: a.Dynamic, Discovery: api, Namespaces: map[string]string{real: logical}, System: system, Log: silent})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); i.Run(ctx) }()
		<-i.Synced()
		require.Empty(t, i.State().Istio)

		has("v1", "Gateway")
		time.Sleep(lookAgain + time.Second) // of the bubble's clock
		require.Empty(t, i.State().Istio)
		has("v1", "Gateway", "DestinationRule")
		time.Sleep(lookAgain)
		synctest.Wait()
		require.Len(t, i.State().Istio, 1)
		has("v1beta1", "Gateway", "DestinationRule")
		time.Sleep(2 * lookAgain)
		require.Len(t, i.State().Istio, 1, "no object counts twice")
		cancel()
		<-done
	})
}
