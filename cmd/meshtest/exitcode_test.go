package main

import (
	"errors"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func exitCode(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "0"
	case errors.As(err, &exit):
		return strconv.Itoa(exit.ExitCode())
	default:
		return err.Error()
	}
}

func TestTheWorstExitCodeCounts(t *testing.T) {
	t.Parallel()
	for _, tt := range [][3]int{
		{0, 0, 0}, {0, 3, 3}, {3, 1, 1}, {1, 3, 1}, {1, 4, 4}, {4, 1, 4}, {4, 130, 130}, {130, 4, 130}, {143, 1, 143},
	} {
		require.Equal(t, tt[2], worse(tt[0], tt[1]), "%v", tt)
	}
}
