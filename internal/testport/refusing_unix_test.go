//go:build unix

package testport

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRefusing(t *testing.T) {
	t.Parallel()
	at := Refusing(t)
	_, err := net.Dial("tcp", at)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, err = net.Listen("tcp", at)
	require.ErrorIs(t, err, syscall.EADDRINUSE, "it is nobody else's")
}
