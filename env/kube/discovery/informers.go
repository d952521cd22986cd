package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// Source says where to look.
type Source struct {
	Client     kubernetes.Interface
	Dynamic    dynamic.Interface             // for objects of Istio and the Gateway API; may be nil when there are none
	Istio      []schema.GroupVersionResource // as IstioKinds finds them
	Discovery  Catalogue                     // says of kinds that come later; nil: none do
	Namespaces map[string]string             // of applications: logical names by real ones
	System     string                        // real name of the mesh's own namespace
	Key        string                        // see State
	Log        *slog.Logger
}

// Catalogue says which kinds an API server has; a [k8s.io/client-go/discovery.DiscoveryInterface] does.
type Catalogue interface {
	ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error)
}

// IstioKinds are those of Istio's kinds that the mesh understands and the API server has, in the newest version of them.
func IstioKinds(client Catalogue) ([]schema.GroupVersionResource, error) {
	for _, version := range []string{"v1", "v1beta1", "v1alpha3"} {
		gv := schema.GroupVersion{Group: "networking.istio.io", Version: version}
		list, err := client.ServerResourcesForGroupVersion(gv.String())
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("asking the API server for %s: %w", gv, err)
		}
		var kinds []schema.GroupVersionResource
		for _, r := range list.APIResources {
			part := strings.Contains(r.Name, "/") // such as virtualservices/status
			if !part && slices.Contains([]string{"VirtualService", "DestinationRule", "Gateway", "ServiceEntry"}, r.Kind) {
				kinds = append(kinds, gv.WithResource(r.Name))
			}
		}
		return kinds, nil
	}
	return nil, nil
}

// gatewayAPI is the group of the Gateway API's kinds.
const gatewayAPI = "gateway.networking.k8s.io"

// GatewayAPIKinds are those of the Gateway API's kinds that the mesh understands and the API server has, each in the newest version of it.
func GatewayAPIKinds(client Catalogue) ([]schema.GroupVersionResource, error) {
	var kinds []schema.GroupVersionResource
	wanted := []string{"Gateway", "HTTPRoute", "GRPCRoute", "ReferenceGrant"}
	for _, version := range []string{"v1", "v1beta1"} {
		gv := schema.GroupVersion{Group: gatewayAPI, Version: version}
		list, err := client.ServerResourcesForGroupVersion(gv.String())
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("asking the API server for %s: %w", gv, err)
		}
		for _, r := range list.APIResources {
			if i := slices.Index(wanted, r.Kind); i >= 0 && !strings.Contains(r.Name, "/") {
				wanted = slices.Delete(wanted, i, i+1)
				kinds = append(kinds, gv.WithResource(r.Name))
			}
		}
	}
	return kinds, nil
}

// Informers keep what is there in memory, and say when it changes.
type Informers struct {
	source  Source
	changed chan struct{} // holds a token when there may be something new
	synced  chan struct{} // closed when everything that is there is known

	services, slices, pods []cache.SharedIndexInformer

	factories []factory              // from here on, changed by Run alone
	handled   []cache.InformerSynced // of what has to be known at first

	mu     sync.Mutex
	kinds  map[schema.GroupVersionResource][]cache.SharedIndexInformer // of Istio and the Gateway API
	labels map[string]mesh.Labels                                      // of namespaces; nil: nobody asks for them
}

// lookAgain is how often the API server is asked for kinds that it did not have. Definitions that have just been installed are not all there at once.
const lookAgain = 5 * time.Second

// factory starts informers and waits until they are gone.
type factory interface {
	Start(stop <-chan struct{})
	Shutdown()
}

// NewInformers prepares informers, which do nothing until Run.
func NewInformers(source Source) (*Informers, error) {
	i := &Informers{source: source, changed: make(chan struct{}, 1), synced: make(chan struct{}), kinds: map[schema.GroupVersionResource][]cache.SharedIndexInformer{}}
	for namespace := range source.Namespaces {
		f := i.factory(namespace)
		i.services = append(i.services, f.Core().V1().Services().Informer())
		i.slices = append(i.slices, f.Discovery().V1().EndpointSlices().Informer())
		i.pods = append(i.pods, f.Core().V1().Pods().Informer())
	}
	if _, both := source.Namespaces[source.System]; !both && source.System != "" {
		gateways := func(o *metav1.ListOptions) { o.LabelSelector = names.LabelRole + "=" + names.RoleGateway }
		i.pods = append(i.pods, i.factory(source.System, informers.WithTweakListOptions(gateways)).Core().V1().Pods().Informer())
	}
	for _, informer := range slices.Concat(i.services, i.slices, i.pods) {
		if err := i.follow(informer); err != nil {
			return nil, err
		}
	}
	for _, kind := range source.Istio {
		if err := i.followKind(kind); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// followKind prepares to follow a kind in all namespaces.
func (i *Informers) followKind(kind schema.GroupVersionResource) error {
	for namespace := range i.source.Namespaces {
		f := dynamicinformer.NewFilteredDynamicSharedInformerFactory(i.source.Dynamic, 0, namespace, nil)
		informer := f.ForResource(kind).Informer()
		if err := i.follow(informer); err != nil {
			return err
		}
		i.factories = append(i.factories, f)
		i.kinds[kind] = append(i.kinds[kind], informer)
	}
	return nil
}

func (i *Informers) factory(namespace string, options ...informers.SharedInformerOption) informers.SharedInformerFactory {
	f := informers.NewSharedInformerFactoryWithOptions(i.source.Client, 0, append(options, informers.WithNamespace(namespace))...)
	i.factories = append(i.factories, f)
	return f
}

// follow has an informer say when something changes, and keep no more than is needed.
func (i *Informers) follow(informer cache.SharedIndexInformer) error {
	news := func(any) { i.notify() }
	handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: news, UpdateFunc: func(_, now any) { news(now) }, DeleteFunc: news})
	if err != nil {
		return fmt.Errorf("preparing to follow the cluster: %w", err)
	}
	i.handled = append(i.handled, handler.HasSynced)
	lost := func(ctx context.Context, r *cache.Reflector, err error) {
		if ctx.Err() == nil {
			i.source.Log.Warn("following the cluster", "what", r.TypeDescription(), "error", err)
		}
	}
	return errors.Join(informer.SetTransform(slim), informer.SetWatchErrorHandlerWithContext(lost))
}

func (i *Informers) notify() {
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// Run follows the cluster until ctx ends, and returns when nothing that it started is left.
func (i *Informers) Run(ctx context.Context) {
	i.look(ctx)
	if cache.WaitForCacheSync(ctx.Done(), i.handled...) {
		close(i.synced)
	}
	for i.source.Discovery != nil && pause(ctx, lookAgain) {
		i.look(ctx)
	}
	<-ctx.Done()
	for _, f := range i.factories {
		f.Shutdown()
	}
}

// look looks for what nobody tells: kinds that the API server did not have before, and labels of namespaces.
func (i *Informers) look(ctx context.Context) {
	if i.source.Discovery != nil {
		if err := i.findKinds(); err != nil {
			i.source.Log.Warn("looking for kinds that are new", "error", err)
		}
	}
	i.findLabels(ctx)
	i.start(ctx)
}

// findLabels reads the labels of namespaces, by which listeners of the Gateway API may choose routes. Whoever may do anything in a namespace can be allowed to read it, but not to watch it.
func (i *Informers) findLabels(ctx context.Context) {
	i.mu.Lock()
	asked := slices.ContainsFunc(slices.Collect(maps.Keys(i.kinds)), func(kind schema.GroupVersionResource) bool { return kind.Group == gatewayAPI })
	had := i.labels
	i.mu.Unlock()
	if !asked {
		return
	}
	found := map[string]mesh.Labels{}
	for _, name := range slices.Sorted(maps.Keys(i.source.Namespaces)) {
		namespace, err := i.source.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			if !apierrors.IsNotFound(err) && ctx.Err() == nil {
				i.source.Log.Warn("reading the labels of a namespace", "namespace", name, "error", err)
			}
			found[name] = had[name]
			continue
		}
		found[name] = namespace.Labels
	}
	i.mu.Lock()
	i.labels = found
	i.mu.Unlock()
	if !maps.EqualFunc(had, found, func(a, b mesh.Labels) bool { return maps.Equal(a, b) }) {
		i.notify()
	}
}

// start starts what does not run yet.
func (i *Informers) start(ctx context.Context) {
	for _, f := range i.factories {
		f.Start(ctx.Done())
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// findKinds follows kinds that the API server did not have before.
func (i *Informers) findKinds() error {
	kinds, err := IstioKinds(i.source.Discovery)
	if err != nil {
		return err
	}
	more, err := GatewayAPIKinds(i.source.Discovery)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, kind := range slices.Concat(kinds, more) {
		another := func(known schema.GroupVersionResource) bool { return known.GroupResource() == kind.GroupResource() }
		if slices.ContainsFunc(slices.Collect(maps.Keys(i.kinds)), another) {
			continue // also in another version, which has the same objects
		}
		i.source.Log.Info("following a kind that is new", "kind", kind.String())
		if err := i.followKind(kind); err != nil {
			return err
		}
	}
	return nil
}

// Synced is closed when everything that is there is known. State is of use from then on.
func (i *Informers) Synced() <-chan struct{} { return i.synced }

// Changed holds a token when something may have changed since the last one was taken.
func (i *Informers) Changed() <-chan struct{} { return i.changed }

// State is what is there now.
func (i *Informers) State() State {
	i.mu.Lock()
	var istio, gatewayAPIs []cache.SharedIndexInformer
	for kind, informers := range i.kinds {
		if kind.Group == gatewayAPI {
			gatewayAPIs = append(gatewayAPIs, informers...)
		} else {
			istio = append(istio, informers...)
		}
	}
	labels := i.labels
	i.mu.Unlock()
	return State{
		Namespaces: i.source.Namespaces, System: i.source.System, Key: i.source.Key, Labels: labels,
		Services: stored[*corev1.Service](i.services), Slices: stored[*discoveryv1.EndpointSlice](i.slices),
		Pods: stored[*corev1.Pod](i.pods), Istio: stored[*unstructured.Unstructured](istio), GatewayAPI: stored[*unstructured.Unstructured](gatewayAPIs),
	}
}

func stored[T any](informers []cache.SharedIndexInformer) (all []T) {
	for _, informer := range informers {
		for _, o := range informer.GetStore().List() {
			if typed, ok := o.(T); ok {
				all = append(all, typed)
			}
		}
	}
	return all
}

// slim takes from an object what nobody here reads. Of pods, which are many and long, it leaves what matters to the mesh.
func slim(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion, CreationTimestamp: p.CreationTimestamp,
			DeletionTimestamp: p.DeletionTimestamp, Labels: p.Labels, OwnerReferences: p.OwnerReferences,
		},
		Spec:   corev1.PodSpec{ServiceAccountName: p.Spec.ServiceAccountName, Containers: slimmed(p.Spec.Containers), InitContainers: slimmed(p.Spec.InitContainers)},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP},
	}, nil
}

func slimmed(containers []corev1.Container) (all []corev1.Container) {
	for _, c := range containers {
		all = append(all, corev1.Container{Name: c.Name, Ports: c.Ports})
	}
	return all
}
