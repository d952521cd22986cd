// Package apitest is the API server of tests, in memory. Beside what client-go's own fake does, it refuses what was written on top of an old version, as a real one does, it tells when it is being
// watched, and it can be out of reach for some of its clients.
package apitest

import (
	"errors"
	"strconv"
	"sync"

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

// Istio are the kinds of Istio that the server has.
var Istio = []schema.GroupVersionResource{
	{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}, {Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"},
	{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}, {Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"},
}

// API is an API server, and a client of it.
type API struct {
	*fake.Clientset
	Dynamic *dynamicfake.FakeDynamicClient
	Watched chan string // resources, as watches begin

	mu     sync.Mutex
	writes int
	down   bool
}

// New returns an API server with some objects, and the Secret of a control plane in the given namespace.
func New(system string, objects ...runtime.Object) *API {
	kinds := map[schema.GroupVersionResource]string{}
	for i, kind := range []string{"VirtualServiceList", "DestinationRuleList", "GatewayList", "ServiceEntryList"} {
		kinds[Istio[i]] = kind
	}
	kinds[schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}] = "HTTPRouteList"
	a := &API{
		Clientset: fake.NewClientset(append(objects, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: names.Rules}})...),
		Dynamic:   dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds), Watched: make(chan string, 1000),
	}
	a.PrependReactor("update", "*", a.update)
	a.PrependReactor("*", "*", a.reach)
	a.PrependWatchReactor("*", a.tell(a.Tracker()))
	a.Dynamic.PrependWatchReactor("*", a.tell(a.Dynamic.Tracker()))
	return a
}

// Share returns another client of the same server, which can lose its way there alone. It cannot watch.
func (a *API) Share() *API {
	b := &API{Clientset: fake.NewClientset()}
	b.ReactionChain, b.WatchReactionChain = nil, nil
	b.AddReactor("*", "*", b.reach)
	b.AddReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		object, err := a.Invokes(action, nil)
		return true, object, err
	})
	return b
}

// Fall lets every request of this client fail from now on.
func (a *API) Fall() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = true
}

// Writes is how often something was updated.
func (a *API) Writes() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writes
}

func (a *API) reach(clienttesting.Action) (bool, runtime.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.down, nil, apierrors.NewInternalError(errors.New("out of reach"))
}

func (a *API) tell(tracker clienttesting.ObjectTracker) clienttesting.WatchReactionFunc {
	return func(action clienttesting.Action) (bool, watch.Interface, error) {
		w, err := tracker.Watch(action.GetResource(), action.GetNamespace())
		a.Watched <- action.GetResource().Resource
		return true, w, err
	}
}

// update refuses what was written on top of an old version.
func (a *API) update(action clienttesting.Action) (bool, runtime.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	update, ok := action.(clienttesting.UpdateAction)
	if !ok {
		return false, nil, nil
	}
	object := update.GetObject().DeepCopyObject()
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
		return true, nil, apierrors.NewConflict(action.GetResource().GroupResource(), given.GetName(), errors.New("it has changed meanwhile"))
	}
	a.writes++
	given.SetResourceVersion(strconv.Itoa(a.writes))
	return true, object, a.Tracker().Update(action.GetResource(), object, action.GetNamespace())
}
