//go:build unix

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketName is the room that every runtime directory leaves for the names of sockets in it.
const maxSocketName = 32

// maxSocketPath is the longest path of a Unix socket in bytes: sun_path without its end.
func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

var runIDs = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,47}$`)

// Roots are the folders that can hold runtime directories of this user's runs, the preferred one first: meshtest-<uid> in
// $XDG_RUNTIME_DIR, in $TMPDIR and in /tmp. A runtime directory is <root>/<run id>, as short as the path of a Unix socket asks for.
func Roots() []string {
	name := "meshtest-" + strconv.Itoa(os.Getuid())
	var roots []string
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		if root := filepath.Join(parent, name); filepath.IsAbs(root) && !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	return roots
}

// chooseDir finds the run's root, and makes it when needed: the first of the roots that can be used.
func chooseDir(roots []string, runID string) (root, dir string, err error) {
	if !runIDs.MatchString(runID) {
		return "", "", fmt.Errorf("run id %q: want 1 to 48 letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_'", runID)
	}
	var errs []error
	for _, root := range roots {
		dir := filepath.Join(root, runID)
		if room := maxSocketPath() - len(dir) - 1; room < maxSocketName {
			errs = append(errs, fmt.Errorf("%s: leaves %d bytes for the names of sockets, need %d", dir, room, maxSocketName))
		} else if err := makeRoot(root); err != nil {
			errs = append(errs, err)
		} else {
			return root, dir, nil
		}
	}
	return "", "", errors.Join(errs...)
}

// makeRoot makes sure that the folder is ours alone: /tmp is open to everybody, and somebody could have been first.
func makeRoot(root string) error {
	if err := os.Mkdir(root, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(root)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s: must be a folder of user %d with mode 0700, is %v", root, os.Getuid(), info.Mode())
	}
	return nil
}

// runtimeDir is a run's runtime directory and the lock on it. Whoever holds the lock keeps the run alive, or is sweeping it.
//
// Locks on the root order the makers and the sweepers, and are held for a moment only: a maker never finds its new
// directory locked by a sweeper, and a sweeper never locks a directory that is not the one of that name any more.
type runtimeDir struct {
	root, path string
	lock       *os.File
}

func createDir(root, path string) (*runtimeDir, error) {
	for {
		d, err := tryCreateDir(root, path)
		if !errors.Is(err, fs.ErrNotExist) {
			return d, err
		}
		// The root went with another run's end while we waited for it.
		if err := makeRoot(root); err != nil {
			return nil, err
		}
	}
}

func tryCreateDir(root, path string) (*runtimeDir, error) {
	unlock, err := lockFolder(root, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock.Close()
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFolder(path, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &runtimeDir{root, path, lock}, nil
}

// adoptDir takes over the runtime directory of a dead run: fs.ErrNotExist when there is none, [ErrAlive] when its lock is held.
func adoptDir(root, path string) (*runtimeDir, error) {
	unlock, err := lockFolder(root, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock.Close()
	lock, err := lockFolder(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, ErrAlive
	}
	if err != nil {
		return nil, err
	}
	// Another sweeper may have removed it between our opening and our locking it.
	here, err := os.Lstat(path)
	if err == nil {
		var held os.FileInfo
		if held, err = lock.Stat(); err == nil && !os.SameFile(here, held) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &runtimeDir{root, path, lock}, nil
}

// lockFolder locks a folder, which stays locked until the file is closed. The lock is on the open file and not inherited by what is executed.
func lockFolder(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
	}
}

// remove removes the directory with all that is in it, then lets the lock go. The root goes with its last run.
func (d *runtimeDir) remove() error {
	defer d.lock.Close()
	err := os.RemoveAll(d.path)
	if err != nil { // a folder inside that forbids it
		filepath.WalkDir(d.path, func(path string, e fs.DirEntry, err error) error {
			if e != nil && e.IsDir() && os.Chmod(path, 0o700) != nil {
				return fs.SkipDir
			}
			return nil
		})
		err = os.RemoveAll(d.path)
	}
	if err != nil {
		return fmt.Errorf("removing the runtime directory: %w", err)
	}
	if root, err := lockFolder(d.root, unix.LOCK_EX); err == nil {
		defer root.Close()
		os.Remove(d.root) // refused while it holds another run
	}
	return nil
}
