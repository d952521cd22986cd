package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/rules"
)

// What the parts of the small mesh show each other; its sockets are in a folder of their owner's alone.
const (
	ownerToken  = "owner"
	instanceKey = "key"
	instance    = "caller-0"
)

// small is a mesh of a control plane and one sidecar.
type small struct {
	control string // path of the control plane's socket
	owner   *wire.Configuration
	stop    context.CancelFunc
	ended   chan error
}

// newMesh starts a control plane.
func newMesh(ctx context.Context, dir string) (*small, error) {
	m := &small{control: filepath.Join(dir, "control"), ended: make(chan error, 1)}
	l, err := wire.Listen(m.control)
	if err != nil {
		return nil, err
	}
	ctx, m.stop = context.WithCancel(ctx)
	plane := control.New(control.Options{Epoch: 1, OwnerToken: ownerToken, InstanceKey: instanceKey, Log: slog.New(slog.DiscardHandler)})
	go func() { m.ended <- plane.Serve(ctx, l) }()
	if m.owner, err = wire.NewConfiguration(wire.Unix(m.control), ownerToken); err != nil {
		m.stop()
		return nil, errors.Join(err, <-m.ended)
	}
	return m, nil
}

func (m *small) close() error {
	err := m.owner.Close()
	m.stop()
	return errors.Join(err, <-m.ended)
}

// sidecar starts the sidecar as a run does: what it must know to begin is a document on a descriptor.
func (m *small) sidecar(dir, binary string, threads int) (*process, error) {
	document, err := json.Marshal(map[string]any{
		"run": "bench", "workload": workload(), "control": m.control, "token": wire.InstanceToken(instanceKey, instance),
		"direct": filepath.Join(dir, "direct"), "directToken": "direct", "logLevel": "WARN", "drain": time.Second,
	})
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	_, err = w.Write(document) // a pipe holds it
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("writing the bootstrap: %w", err)
	}
	cmd := exec.Command(binary, "--bootstrap-fd", "3")
	cmd.ExtraFiles = []*os.File{r}
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(threads))
	return start(dir, "sidecar-controlled", cmd)
}

func workload() mesh.Workload {
	return mesh.Workload{Name: "caller", Namespace: mesh.DefaultNamespace, Instance: instance}
}

// tell waits until the sidecar has acknowledged the snapshot.
func (m *small) tell(ctx context.Context, s *mesh.Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	addresses, err := free(1)
	if err != nil {
		return err
	}
	s.Inbound[instance] = &mesh.Inbound{Workload: workload(), Proxy: addresses[0], Unknown: mesh.RegistryOnly}
	applied, err := m.owner.Apply(ctx, wire.Change{Whole: true, Set: s})
	if err != nil {
		return err
	}
	_, err = m.owner.Await(ctx, applied.Generation, instance)
	return err
}

// compile compiles a file of rules.
func compile(path string) (*mesh.Snapshot, error) {
	docs, _, err := rules.Load([]string{path})
	if err != nil {
		return nil, err
	}
	compiled, problems := rules.Compile(docs, mesh.DefaultNamespace, nil)
	if len(problems) > 0 {
		return nil, fmt.Errorf("compiling %d documents: %w", len(docs), problems[0])
	}
	return compiled.Snapshot, nil
}
