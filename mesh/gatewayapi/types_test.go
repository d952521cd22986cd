package gatewayapi

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	v1 "sigs.k8s.io/gateway-api/apis/v1"

	"meshtest.dev/meshtest/mesh/document"
)

// Every field of the published types has a place in ours, honoured or not, and the other way round.
func TestNoFieldOfTheAPIIsUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ours, theirs reflect.Type }{
		{reflect.TypeFor[gatewaySpec](), reflect.TypeFor[v1.GatewaySpec]()},
		{reflect.TypeFor[httpRouteSpec](), reflect.TypeFor[v1.HTTPRouteSpec]()},
		{reflect.TypeFor[grpcRouteSpec](), reflect.TypeFor[v1.GRPCRouteSpec]()},
		{reflect.TypeFor[referenceGrantSpec](), reflect.TypeFor[v1.ReferenceGrantSpec]()},
	} {
		compareTypes(t, c.theirs.Name(), c.ours, c.theirs)
	}
}

// compareTypes compares the fields of two structs by their names in documents, and their types.
func compareTypes(t *testing.T, path string, ours, theirs reflect.Type) {
	t.Helper()
	ours, theirs = element(ours), element(theirs)
	if ours == reflect.TypeFor[unhonoured]() {
		return
	}
	if ours.Kind() != reflect.Struct || theirs.Kind() != reflect.Struct {
		require.Equal(t, simple(theirs), simple(ours), path)
		return
	}
	own := document.Fields(ours)
	names := slices.Collect(maps.Keys(own))
	var published []string
	for _, f := range reflect.VisibleFields(theirs) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "" {
			continue
		}
		published = append(published, name)
		if own[name] != nil {
			compareTypes(t, path+"."+name, own[name], f.Type)
		}
	}
	slices.Sort(names)
	slices.Sort(published)
	require.Equal(t, published, names, path)
}

// element is what pointers and lists lead to.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// simple is how a value is written.
func simple(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[duration](), t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Map:
		return "mapping"
	case t.Kind() == reflect.Bool:
		return "bool"
	default:
		return "number"
	}
}

// The words of conditions are the published ones.
func TestWordsOfConditions(t *testing.T) {
	t.Parallel()
	for ours, theirs := range map[string]string{
		Accepted: string(v1.RouteConditionAccepted), ResolvedRefs: string(v1.RouteConditionResolvedRefs), PartiallyInvalid: string(v1.RouteConditionPartiallyInvalid),
		Conflicted:                  string(v1.ListenerConditionConflicted),
		ReasonNotAllowedByListeners: string(v1.RouteReasonNotAllowedByListeners), ReasonNoMatchingHostname: string(v1.RouteReasonNoMatchingListenerHostname),
		ReasonNoMatchingParent: string(v1.RouteReasonNoMatchingParent), ReasonUnsupportedValue: string(v1.RouteReasonUnsupportedValue),
		ReasonIncompatibleFilters: string(v1.RouteReasonIncompatibleFilters), ReasonRefNotPermitted: string(v1.RouteReasonRefNotPermitted),
		ReasonInvalidKind: string(v1.RouteReasonInvalidKind), ReasonBackendNotFound: string(v1.RouteReasonBackendNotFound),
		ReasonListenersNotValid: string(v1.GatewayReasonListenersNotValid), ReasonUnsupportedProtocol: string(v1.ListenerReasonUnsupportedProtocol),
		ReasonHostnameConflict: string(v1.ListenerReasonHostnameConflict), ReasonProtocolConflict: string(v1.ListenerReasonProtocolConflict),
		ReasonNoConflicts: string(v1.ListenerReasonNoConflicts), ReasonInvalidRouteKinds: string(v1.ListenerReasonInvalidRouteKinds),
	} {
		require.Equal(t, theirs, ours)
	}
	require.Equal(t, v1.GroupName, group)
}
