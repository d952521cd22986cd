//go:build !unix

package ledger

import (
	"errors"
	"os"
)

// lock fails where files cannot be locked so that the lock goes with its holder: without that nobody could tell a dead run from a living one.
func lock(*os.File) error {
	return errors.New("runs in clusters need a system that locks files, such as Linux or macOS")
}
