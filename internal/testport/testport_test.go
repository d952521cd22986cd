package testport

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLoopback(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		at := Loopback(t)
		require.False(t, seen[at])
		seen[at] = true
		l, err := net.Listen("tcp", at)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}
