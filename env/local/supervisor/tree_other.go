//go:build unix && !linux

package supervisor

import (
	"context"
	"errors"
	"os"
	"runtime"
	"syscall"
)

// maxRSSUnit of rusage, in bytes: the BSDs count in KiB, macOS in bytes.
var maxRSSUnit = map[bool]int64{true: 1, false: 1024}[runtime.GOOS == "darwin"]

func executable() (string, error) { return os.Executable() }

// adoptOrphans: there is no such thing here. Orphans that leave their process group are not found again.
func adoptOrphans() error { return nil }

func setNice(nice int) error {
	if nice != 0 {
		return errors.ErrUnsupported
	}
	return nil
}

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// signalDescendants reaches the process groups of the children.
func signalDescendants(children []int, sig syscall.Signal) (signaled, denied int) {
	return signalGroups(children, sig)
}

// killMarked cannot see the environment of other processes here.
func killMarked(context.Context, string) error { return nil }

func markedDirs() ([]string, error) { return nil, nil }
