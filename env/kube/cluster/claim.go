package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// claim takes the name of a cluster that is to be made, among the processes of this machine's user, until release.
func claim(name string) (release func(), err error) {
	folder := filepath.Join(os.TempDir(), fmt.Sprintf("meshtest-kind-%d", os.Getuid()))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("claiming the name: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(folder, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claiming the name: %w", err)
	}
	if err := lock(file); err != nil {
		return nil, errors.Join(errors.New("somebody is making it right now"), file.Close())
	}
	return func() { file.Close() }, nil // the file stays: who removes it could remove somebody else's claim
}
