//go:build unix

package cluster

import (
	"os"
	"syscall"
)

// lock takes the file without waiting; the lock goes with the last descriptor, however its holder ends.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
