//go:build unix

// Package local is the environment of one machine: every application, sidecar and control plane is a process of it, with addresses of its own
// on the loopback network. It needs no root, no container engine and no network, and it is up within two seconds.
//
// Everything runs under a supervisor that ends it all when the run dies, however it dies. An application gets HOST and PORT in its environment, and the addresses
// of its upstreams, which are listeners of its own sidecar. Nothing forces it to use them: on one machine without root, policy is advice to an application that goes around its
// sidecar.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/env/local/loopback"
	"meshtest.dev/meshtest/env/local/supervisor"
)

// Name of the environment.
const Name = "local"

// stopGrace is how long processes get to end by themselves at the end of a run.
const stopGrace = 3 * time.Second

// convergeTimeout bounds the wait for the first acknowledgement of every sidecar.
const convergeTimeout = 15 * time.Second

// Environment stands meshes up on this machine.
type Environment struct {
	Binaries Binaries   // the zero value: those beside the running program
	Log      slog.Level // of sidecars and control plane
}

// Binaries are the programs that the environment starts.
type Binaries struct {
	Sidecar string
	Control string
	Fixture string
}

// FindBinaries looks for the programs beside the given executable, then in $PATH.
func FindBinaries(executable string) (Binaries, error) {
	var b Binaries
	var errs []error
	for _, want := range []struct {
		name string
		path *string
	}{{"meshtest-sidecar", &b.Sidecar}, {"meshtest-control", &b.Control}, {"meshtest-fixture", &b.Fixture}} {
		path, err := findBinary(filepath.Dir(executable), want.name)
		errs = append(errs, err)
		*want.path = path
	}
	return b, errors.Join(errs...)
}

func findBinary(dir, name string) (string, error) {
	beside := filepath.Join(dir, name)
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
		return beside, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither in %s nor in $PATH: `make build` and `go install ./cmd/...` put it beside meshtest", name, dir)
	}
	return path, nil
}

// Name is "local".
func (e *Environment) Name() string { return Name }

// Capabilities are what a process of this user can do on this machine.
func (e *Environment) Capabilities() capability.Set {
	set := capability.Of(capability.Fixture, capability.Command, capability.HTTP, capability.TCP, capability.External,
		capability.FaultAbort, capability.FaultDelay)
	set[capability.PrivilegedPorts] = canBindPrivileged()
	return set
}

// Preflight ends what dead runs have left, and finds the programs, unless they were given.
func (e *Environment) Preflight(ctx context.Context) error {
	if _, err := supervisor.SweepDead(ctx); err != nil {
		return fmt.Errorf("healing what dead runs have left: %w", err)
	}
	if e.Binaries != (Binaries{}) {
		return nil
	}
	executable, err := os.Executable()
	if err == nil {
		e.Binaries, err = FindBinaries(executable)
	}
	if err != nil {
		return fmt.Errorf("finding the programs of the mesh: %w", err)
	}
	return nil
}

// Up starts the mesh. When it fails, nothing is left.
func (e *Environment) Up(ctx context.Context, d env.Deployment, watch env.Watcher) (env.Mesh, error) {
	m, err := e.up(ctx, d, watch)
	if err != nil {
		return nil, fmt.Errorf("standing up the local environment: %w", err)
	}
	return m, nil
}

func (e *Environment) up(ctx context.Context, d env.Deployment, watch env.Watcher) (_ *Mesh, err error) {
	block, err := loopback.Claim(d.Run)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, block.Close())
		}
	}()
	plan, err := layOut(block, d)
	if err != nil {
		return nil, err
	}
	sup, err := supervisor.Start(ctx, supervisor.Options{
		RunID: d.Run, Hold: block.Files(), Log: filepath.Join(d.Logs, "supervisor.log"),
	})
	if err != nil {
		return nil, err
	}
	m := newMesh(d, block, sup, plan, watch)
	defer func() {
		if err != nil {
			down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stopGrace)
			defer cancel()
			err = errors.Join(err, m.Down(down))
		}
	}()
	if err := m.prepare(); err != nil {
		return nil, err
	}
	return m, e.start(ctx, m)
}

// start starts every process, and returns when all are ready or one that has to live has ended.
func (e *Environment) start(ctx context.Context, m *Mesh) error {
	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	up := make(chan error, 1)
	go func() { up <- e.startAll(starting, m) }()
	select {
	case err := <-up:
		return err
	case err := <-m.failed:
		cancel(err)
		<-up // it fails of the same
		return err
	}
}

// startAll starts applications beside everything else.
func (e *Environment) startAll(ctx context.Context, m *Mesh) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, in := range m.plan.instances {
		if in.app != nil {
			g.Go(func() error { return e.startApplication(ctx, m, in) })
		}
	}
	g.Go(func() error {
		if err := e.startControl(ctx, m); err != nil {
			return err
		}
		sidecars, ctx := errgroup.WithContext(ctx)
		for _, in := range m.plan.instances {
			if in.sidecar {
				sidecars.Go(func() error { return e.startSidecar(ctx, m, in) })
			}
		}
		sidecars.Go(func() error { return m.configureAll(ctx) })
		return sidecars.Wait()
	})
	return g.Wait()
}
