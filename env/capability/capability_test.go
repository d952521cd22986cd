package capability_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/env/capability"
)

func TestSet(t *testing.T) {
	t.Parallel()
	s := capability.Of(capability.TCP, capability.Fixture, capability.HTTP)
	require.True(t, s.Has(capability.TCP))
	require.False(t, s.Has(capability.Image))
	require.Equal(t, []capability.Capability{capability.Fixture, capability.HTTP, capability.TCP}, s.Names())
	require.Equal(t, "fixture, http, tcp", s.String())
	s[capability.TCP] = false
	require.Equal(t, "fixture, http", s.String())
	require.False(t, capability.Set(nil).Has(capability.TCP), "no set can do nothing")
	require.Empty(t, capability.Set(nil).String())
}

func TestMissing(t *testing.T) {
	t.Parallel()
	needs := []capability.Requirement{
		{Capability: capability.Image, Reason: "a runs an image", Path: "services.a"},
		{Capability: capability.HTTP, Reason: "a speaks http"},
		{Capability: capability.PrivilegedPorts, Reason: "a listens on port 80"},
	}
	require.Equal(t, []capability.Requirement{needs[0], needs[2]}, capability.Of(capability.HTTP).Missing(needs))
	require.Empty(t, capability.Of(capability.HTTP, capability.Image, capability.PrivilegedPorts).Missing(needs))
	require.Equal(t, needs, capability.Set(nil).Missing(needs))
}
