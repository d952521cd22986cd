//go:build unix && !linux

package local

import (
	"errors"
	"os"

	"meshtest.dev/meshtest/env"
)

func canBindPrivileged() bool { return os.Geteuid() == 0 }

// processUsage needs /proc.
func processUsage(int) (env.Usage, error) { return env.Usage{}, errors.ErrUnsupported }
