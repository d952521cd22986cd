package discovery

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"meshtest.dev/meshtest/env/kube/discovery/apitest"
	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
)

// newRoute is an HTTPRoute with some lines of its spec, two blanks deep.
func newRoute(t testing.TB, second int64, name, spec string) *unstructured.Unstructured {
	t.Helper()
	return newObject(t, second, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: "+name+"}\nspec:\n"+spec)
}

func newGateway(t testing.TB, name, class, more string) *unstructured.Unstructured {
	t.Helper()
	return newObject(t, 1, "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: "+name+"}\nspec: {gatewayClassName: "+class+", listeners: [{name: http, port: 80, protocol: HTTP"+more+"}]}")
}

// withVersions are a service and the two between which routes split its requests.
func withVersions() []any {
	return []any{newService("web", 80), newService("web-v1", 80), newService("web-v2", 80)}
}

const (
	toWeb = "  parentRefs: [{group: '', kind: Service, name: web}]\n"
	split = "  rules: [{backendRefs: [{name: web-v1, port: 80, weight: 9}, {name: web-v2, port: 80, weight: 1}]}]\n"
)

func TestHTTPRoutesOfAService(t *testing.T) {
	t.Parallel()
	got := built(t, state(append(withVersions(), newRoute(t, 2, "web", toWeb+split))...), nil)
	table := got.Routes[hostOf("web")+":80"]
	require.Len(t, table.Routes, 1)
	require.Equal(t, "HTTPRoute shop/web", table.Routes[0].Origin)
	require.Equal(t, []mesh.Destination{to("web-v1", 80, "", 9), to("web-v2", 80, "", 1)}, table.Routes[0].Split)
	require.Equal(t, DefaultRouteName, got.Routes[hostOf("web-v1")+":80"].Routes[0].Name)
}

// The older one of two routes comes first, whatever their names.
func TestTheAgeOfRoutesCounts(t *testing.T) {
	t.Parallel()
	one := "  rules: [{backendRefs: [{name: web-v1, port: 80}]}]\n"
	got := built(t, state(append(withVersions(), newRoute(t, 2, "a", toWeb+split), newRoute(t, 1, "b", toWeb+one))...), nil)
	require.Equal(t, "HTTPRoute shop/b", got.Routes[hostOf("web")+":80"].Routes[0].Origin)
}

func TestGatewaysOfOurClass(t *testing.T) {
	t.Parallel()
	objects := append(withVersions(), newGateway(t, "ours", GatewayClass, ""), newGateway(t, "theirs", "nginx", ""),
		newRoute(t, 2, "one", "  parentRefs: [{name: ours}, {name: theirs}, {name: far, namespace: elsewhere}]\n"+split),
		newRoute(t, 3, "two", "  parentRefs: [{name: theirs}]\n  rules: [{backendRefs: [{name: nowhere, port: 80}]}]\n"))
	got := built(t, state(objects...), nil)
	ours, theirs := gatewayapi.GatewayHost("ours", logical), gatewayapi.GatewayHost("theirs", logical)
	require.Equal(t, "HTTPRoute shop/one", got.Routes[ours+":80"].Routes[0].Origin)
	require.NotNil(t, got.Services[ours])
	require.Nil(t, got.Services[theirs])
	require.Nil(t, got.Endpoints[ours+":80"], "nobody answers there but the edge")
}

func TestReferencesAreInLogicalNamespaces(t *testing.T) {
	t.Parallel()
	elsewhere := newService("web", 80, func(s *corev1.Service) { s.Namespace = other })
	route := newRoute(t, 2, "web", "  parentRefs: [{group: '', kind: Service, name: web, namespace: shop-1}]\n  rules: [{backendRefs: [{name: web, port: 80}]}]\n")
	route.SetNamespace(other)
	table := built(t, state(newService("web", 80), elsewhere, route), nil).Routes[hostOf("web")+":80"]
	require.Equal(t, []mesh.Match{{SourceNamespace: other}}, table.Routes[0].Matches, "a route of its consumers")
	require.Equal(t, mesh.FQDN("web", other), table.Routes[0].Split[0].Host)
	require.Equal(t, DefaultRouteName, table.Routes[1].Name)
}

func TestLabelsOfNamespacesChooseRoutes(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, "ours", GatewayClass, ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: shop}}}}")
	route := newRoute(t, 2, "one", "  parentRefs: [{name: ours}]\n"+split)
	world := state(append(withVersions(), gateway, route)...)
	_, problems := build(t, world, nil)
	require.Len(t, problems, 1, "its namespace has no such label")
	world.Labels = map[string]mesh.Labels{real: {"team": "shop", "kubernetes.io/metadata.name": real}}
	require.Len(t, built(t, world, nil).Routes[gatewayapi.GatewayHost("ours", logical)+":80"].Routes, 1)
}

func TestProblemsOfTheGatewayAPIKeepNothingFromWorking(t *testing.T) {
	t.Parallel()
	got, problems := build(t, state(append(withVersions(), newRoute(t, 2, "web", toWeb+"  rules: [{backendRefs: [{name: web-v1, port: 80, weight: 1}, {name: gone, port: 80, weight: 1}]}]\n"))...), nil)
	require.Equal(t, []Problem{{Object: "HTTPRoute shop-1/web", Reason: "spec.rules[0].backendRefs[1].name: no such service: gone.shop.svc.cluster.local"}}, problems)
	require.Equal(t, []mesh.Destination{to("web-v1", 80, "", 1), {Weight: 1, Refuse: 500}}, got.Routes[hostOf("web")+":80"].Routes[0].Split)
}

func TestAHostHasTheRulesOfOneAPI(t *testing.T) {
	t.Parallel()
	virtual := newObject(t, 5, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\nspec: {hosts: [web], http: [{route: [{destination: {host: web-v1}}]}]}")
	got, problems := build(t, state(append(withVersions(), newRoute(t, 2, "web", toWeb+split), virtual)...), nil)
	require.Equal(t, []Problem{{Object: "HTTPRoute shop/web", Reason: "VirtualService shop/web is about web.shop.svc.cluster.local:80, too: put all rules of a host into one of the APIs"}}, problems)
	require.Equal(t, "VirtualService shop/web", got.Routes[hostOf("web")+":80"].Routes[0].Origin)
}

// kinds are what an API server has, by version.
type kinds map[string][]string

func (k kinds) ServerResourcesForGroupVersion(version string) (*metav1.APIResourceList, error) {
	list, there := k[version]
	if !there {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, version)
	}
	all := &metav1.APIResourceList{GroupVersion: version}
	for _, kind := range list {
		all.APIResources = append(all.APIResources, metav1.APIResource{Name: strings.ToLower(kind) + "s", Kind: kind}, metav1.APIResource{Name: strings.ToLower(kind) + "s/status", Kind: kind})
	}
	return all, nil
}

func TestGatewayAPIKinds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		has  kinds
		want []string
	}{
		"none":               {nil, nil},
		"each in the newest": {kinds{gatewayAPI + "/v1": {"Gateway", "GatewayClass", "HTTPRoute"}, gatewayAPI + "/v1beta1": {"Gateway", "ReferenceGrant"}}, []string{"v1/gateways", "v1/httproutes", "v1beta1/referencegrants"}},
	} {
		found, err := GatewayAPIKinds(test.has)
		require.NoError(t, err, name)
		var got []string
		for _, k := range found {
			got = append(got, k.Version+"/"+k.Resource)
		}
		require.Equal(t, test.want, got, name)
	}
}

// The Gateway API's kinds are followed from the beginning where the API server has them, and so are the labels of namespaces.
func TestTheGatewayAPIIsFollowed(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a := newAPI(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: real, Labels: map[string]string{"team": "shop"}}})
		has := kinds{gatewayAPI + "/v1": {"HTTPRoute"}}
		resource := schema.GroupVersionResource{Group: gatewayAPI, Version: "v1", Resource: "httproutes"}
		_, err := a.Dynamic.Resource(resource).Namespace(real).Create(t.Context(), newRoute(t, 1, "web", toWeb+split), metav1.CreateOptions{})
		require.NoError(t, err)
		i, err := NewInformers(Source{Client: a, Dynamic: a.Dynamic, Istio: apitest.Istio, Discovery: has, Namespaces: map[string]string{real: logical, other: other}, System: system, Log: silent})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); i.Run(ctx) }()
		<-i.Synced()
		require.Len(t, i.State().GatewayAPI, 1)
		require.Empty(t, i.State().Istio)
		require.Equal(t, map[string]mesh.Labels{real: {"team": "shop"}, other: nil}, i.State().Labels)

		synctest.Wait()
		select {
		case <-i.Changed():
		default:
		}
		_, err = a.CoreV1().Namespaces().Update(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: real}}, metav1.UpdateOptions{})
		require.NoError(t, err)
		time.Sleep(lookAgain + time.Second) // of the bubble's clock
		<-i.Changed()
		require.Empty(t, i.State().Labels[real])
		cancel()
		<-done
	})
}
