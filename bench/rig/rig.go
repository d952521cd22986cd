// Package rig runs the built binary for the programs under bench, as a user would, and reads what it left behind.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/reports"
)

// Outcome is one finished run.
type Outcome struct {
	Exit  int
	Took  time.Duration
	Story *reports.Story
	Dir   string
}

// Run runs a scenario into a folder and returns when it has ended.
func Run(ctx context.Context, binary, dir string, args ...string) (Outcome, error) {
	args = append([]string{"run", "--progress", "none", "--report", "json", "--out", dir}, args...)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Outcome{}, fmt.Errorf("running meshtest: %w", err)
	}
	story, err := reports.Open(dir)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Exit: cmd.ProcessState.ExitCode(), Took: took, Story: story, Dir: dir}, nil
}

// Decided is when the roll-out was decided, on the run's clock; ok is false when it was not.
func (o Outcome) Decided() (at time.Duration, ok bool) {
	if o.Story.Decision == nil {
		return 0, false
	}
	return o.Story.Decision.At, true
}

// FirstFailure is when the canary first failed a request on the judged edge, on the run's clock.
func (o Outcome) FirstFailure() (at time.Duration, ok bool) {
	r := o.Story.Started.Rollout
	for _, e := range o.Story.Evidence {
		for _, f := range e.Errors {
			if f.From == r.From && f.To == r.Service && f.Version == r.Canary && (!ok || f.At < at) {
				at, ok = f.At, true
			}
		}
	}
	return at, ok
}

// CarriedOut is how long after the decision the last sidecar acknowledged the split that carries it out.
func (o Outcome) CarriedOut() (time.Duration, bool) {
	decided, ok := o.Decided()
	if !ok {
		return 0, false
	}
	for _, c := range o.Story.Configs {
		if c.At >= decided && c.Data.State == journal.Converged {
			return c.At - decided, true
		}
	}
	return 0, false
}

// Phase is how long a phase of the run took.
func (o Outcome) Phase(name string) time.Duration {
	i := slices.IndexFunc(o.Story.Phases, func(s reports.Span) bool { return s.Name == name })
	if i < 0 {
		return 0
	}
	return o.Story.Phases[i].End - o.Story.Phases[i].Start
}

// Each calls do for every index below n, so many at a time, and returns the errors, joined.
func Each(n, parallel int, do func(i int) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	next := make(chan int)
	for range parallel {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return first
}

// Folder makes a temporary folder; the function removes it.
func Folder() (string, func(), error) {
	dir, err := os.MkdirTemp("", "meshtest-bench-*")
	if err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// Binary is the built meshtest.
func Binary() (string, error) {
	path, err := filepath.Abs(filepath.Join("bin", "meshtest"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("finding the binary (make build makes it): %w", err)
	}
	return path, nil
}

// Spread is the smallest, the median and the largest of some figures.
func Spread[T int | uint64 | time.Duration | float64](values []T) (least, median, most T) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1]
}
