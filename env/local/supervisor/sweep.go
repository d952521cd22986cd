//go:build unix

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Marker is the environment variable that every process of a run carries: the absolute path of the run's runtime directory.
const Marker = "MESHTEST_RUN"

// ErrAlive says that a run has a living supervisor, or is being swept by somebody else.
var ErrAlive = errors.New("the run is alive")

// Sweep ends what a dead run of this user has left: processes, sockets, its runtime directory. The run may have left nothing; a run that is
// alive is not touched, and the error is [ErrAlive].
func Sweep(ctx context.Context, runID string) error { return sweep(ctx, Roots(), runID) }

func sweep(ctx context.Context, roots []string, runID string) error {
	if !runIDs.MatchString(runID) {
		return fmt.Errorf("sweeping run %q: not the id of a run", runID)
	}
	for _, root := range roots {
		if err := sweepDir(ctx, root, filepath.Join(root, runID)); err != nil {
			return fmt.Errorf("sweeping run %s: %w", runID, err)
		}
	}
	return nil
}

// SweepDead sweeps every dead run of this user, and returns the ids of those that had left something.
func SweepDead(ctx context.Context) (runIDs []string, err error) { return sweepDead(ctx, Roots()) }

func sweepDead(ctx context.Context, roots []string) (runIDs []string, err error) {
	dirs, err := markedDirs()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, root := range roots {
		for _, runID := range traces(root, dirs) {
			switch err := sweepDir(ctx, root, filepath.Join(root, runID)); {
			case err == nil:
				runIDs = append(runIDs, runID)
			case !errors.Is(err, ErrAlive):
				errs = append(errs, fmt.Errorf("sweeping run %s: %w", runID, err))
			}
		}
	}
	return runIDs, errors.Join(errs...)
}

// traces are the ids of the runs that have a runtime directory in the root, or had one that processes still name.
func traces(root string, marked []string) []string {
	var ids []string
	entries, _ := os.ReadDir(root) // no root: no runs in it
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	for _, dir := range marked {
		if filepath.Dir(dir) == root {
			ids = append(ids, filepath.Base(dir))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// sweepDir kills the processes of the runtime directory while it holds the directory's lock, so that no new run can take the name, then removes it.
func sweepDir(ctx context.Context, root, path string) error {
	dir, err := adoptDir(root, path)
	if errors.Is(err, fs.ErrNotExist) {
		return killMarked(ctx, path) // a supervisor removes the directory last: without one the run is dead
	}
	if err != nil {
		return err
	}
	err = killMarked(ctx, path)
	if err != nil {
		dir.lock.Close()
		return err
	}
	return dir.remove()
}
