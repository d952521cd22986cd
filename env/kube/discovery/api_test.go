package discovery

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"meshtest.dev/meshtest/env/kube/names"
)

// api is an API server in memory that refuses what was written on top of an old version, as a real one does, and tells when it is being watched.
type api struct {
	*fake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	watched chan string // resources, as watches begin

	mu      sync.Mutex
	version int
	down    bool
}

var istioKinds = []schema.GroupVersionResource{
	{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}, {Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"},
	{Group: "networking.istio.io", Version: "v1", Resource: "gateways"},
}

func newAPI(objects ...runtime.Object) *api {
	kinds := map[schema.GroupVersionResource]string{}
	for i, kind := range []string{"VirtualServiceList", "DestinationRuleList", "GatewayList"} {
		kinds[istioKinds[i]] = kind
	}
	a := &api{
		Clientset: fake.NewClientset(append(objects, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: names.Rules}})...),
		dynamic:   dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds), watched: make(chan string, 100),
	}
	a.PrependReactor("update", "*", a.update)
	a.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.down, nil, apierrors.NewInternalError(context.DeadlineExceeded)
	})
	tell := func(tracker clienttesting.ObjectTracker) clienttesting.WatchReactionFunc {
		return func(action clienttesting.Action) (bool, watch.Interface, error) {
			w, err := tracker.Watch(action.GetResource(), action.GetNamespace())
			a.watched <- action.GetResource().Resource
			return true, w, err
		}
	}
	a.PrependWatchReactor("*", tell(a.Tracker()))
	a.dynamic.PrependWatchReactor("*", tell(a.dynamic.Tracker()))
	return a
}

func (a *api) update(action clienttesting.Action) (bool, runtime.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	object := action.(clienttesting.UpdateAction).GetObject().DeepCopyObject()
	given, err := apimeta.Accessor(object)
	if err != nil {
		return true, nil, err
	}
	stored, err := a.Tracker().Get(action.GetResource(), action.GetNamespace(), given.GetName())
	if err != nil {
		return true, nil, err
	}
	have, err := apimeta.Accessor(stored)
	if err != nil {
		return true, nil, err
	}
	if have.GetResourceVersion() != given.GetResourceVersion() {
		return true, nil, apierrors.NewConflict(action.GetResource().GroupResource(), given.GetName(), nil)
	}
	a.version++
	given.SetResourceVersion(strconv.Itoa(a.version))
	return true, object, a.Tracker().Update(action.GetResource(), object, action.GetNamespace())
}

// fall lets every request fail from now on.
func (a *api) fall() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = true
}

// connection passes on what another client asks, unless that has fallen.
func (a *api) connection(b *api) clienttesting.ReactionFunc {
	return func(action clienttesting.Action) (bool, runtime.Object, error) {
		b.mu.Lock()
		down := b.down
		b.mu.Unlock()
		if down {
			return true, nil, apierrors.NewInternalError(context.DeadlineExceeded)
		}
		object, err := a.Invokes(action, nil)
		return true, object, err
	}
}

var silent = slog.New(slog.DiscardHandler)

// inform starts informers, and returns when they know everything and hear everything.
func (a *api) inform(t *testing.T) *Informers {
	t.Helper()
	i, err := NewInformers(Source{
		Client: a, Dynamic: a.dynamic, Istio: istioKinds, Namespaces: map[string]string{real: logical, other: other}, System: system, Key: keyed, Log: silent,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); i.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-i.Synced()
	for range 2*(3+len(istioKinds)) + 1 {
		<-a.watched
	}
	return i
}
