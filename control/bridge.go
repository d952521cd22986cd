package control

import (
	"slices"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
)

// bridge is the service that a sidecar gets between two versions of it when the second drops subsets or ports that its routes may still name: the second with what it
// drops. It is nil when nothing is dropped, and when it is not known what the sidecar has, because it brought that from before a reconnect.
func bridge(have, want *resource) *resource {
	if have == nil || have.service == nil || want.service == nil {
		return nil
	}
	both := *want.service
	both.Subsets = union(both.Subsets, have.service.Subsets, func(s mesh.Subset) string { return s.Name })
	both.Ports = union(both.Ports, have.service.Ports, func(p mesh.Port) int { return p.Number })
	if len(both.Subsets) == len(want.service.Subsets) && len(both.Ports) == len(want.service.Ports) {
		return nil
	}
	encoded, err := wire.NewResource(want.GetName(), &both)
	if err != nil {
		return nil // both were encoded before
	}
	return &resource{Resource: encoded, service: &both, bridge: true}
}

// union is all of a, and what b has besides.
func union[T any, N comparable](a, b []T, name func(T) N) []T {
	u := slices.Clone(a)
	for _, x := range b {
		if !slices.ContainsFunc(a, func(y T) bool { return name(x) == name(y) }) {
			u = append(u, x)
		}
	}
	return u
}
