//go:build unix

package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/local/supervisor"
	"meshtest.dev/meshtest/mesh"
)

const controlName = "control"

func sidecarName(instance string) string { return instance + ".sidecar" }

// Sockets of a sidecar in the runtime directory.
const (
	directSocket = "d"
	adminSocket  = "a"
)

// socket is the path of one of an instance's sockets. Numbers keep paths short: a Unix socket's has little room.
func (m *Mesh) socket(kind string, in *instance) string {
	return filepath.Join(m.supervisor.Dir(), kind+strconv.Itoa(slices.Index(m.plan.instances, in)))
}

// logFile is where the output of a process goes.
func (m *Mesh) logFile(name string) string { return filepath.Join(m.deployment.Logs, name+".log") }

// spawn starts a process and watches it. ended is called with how it ended, unless that is because everything ends.
func (m *Mesh) spawn(ctx context.Context, spec supervisor.Spec, address string, ended func(supervisor.ExitStatus)) (*supervisor.Process, error) {
	spec.Log = m.logFile(spec.Name)
	p, err := m.supervisor.Spawn(ctx, spec)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.processes[spec.Name] = p
	m.mu.Unlock()
	told := env.Process{Name: spec.Name, PID: p.PID, Address: address, State: env.ProcessStarted, Log: spec.Log}
	m.watch.Process(told)
	m.watchers.Go(func() {
		<-p.Done()
		exit := p.Exit()
		m.mu.Lock()
		delete(m.processes, spec.Name)
		m.mu.Unlock()
		told.State, told.Exit = env.ProcessExited, exit.String()
		told.CPU, told.MaxRSS = exit.User+exit.System, exit.MaxRSS
		m.watch.Process(told)
		ended(exit)
	})
	return p, nil
}

// must is for processes that may not end before the run does.
func (m *Mesh) must(name string) func(supervisor.ExitStatus) {
	return func(exit supervisor.ExitStatus) {
		m.fail(fmt.Errorf("%s ended: %s%s", name, exit, tailText(m.logFile(name))))
	}
}

// bootstrapped starts one of our own programs with its bootstrap document on descriptor 3: secrets stand neither in arguments nor in the environment.
func (m *Mesh) bootstrapped(ctx context.Context, name, path, address string, document any) error {
	read, err := documentPipe(document)
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	defer read.Close()
	_, err = m.spawn(ctx, supervisor.Spec{
		Name: name, Path: path, Args: []string{"--bootstrap-fd", "3"}, Env: baseEnvironment(), ExtraFiles: []*os.File{read},
	}, address, m.must(name))
	return err
}

// documentPipe is the reading end of a pipe that holds the document, which has to fit into a pipe's 64 KiB.
func documentPipe(document any) (*os.File, error) {
	data, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	if len(data) > 60<<10 {
		return nil, fmt.Errorf("a bootstrap document of %d bytes does not fit into a pipe", len(data))
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = write.Write(data)
	if closeErr := write.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		read.Close()
		return nil, err
	}
	return read, nil
}

// sidecarBootstrap is what a sidecar's process is told; see its usage.
type sidecarBootstrap struct {
	Run         string        `json:"run"`
	Workload    mesh.Workload `json:"workload"`
	Control     string        `json:"control"`
	Token       string        `json:"token"`
	Direct      string        `json:"direct"`
	DirectToken string        `json:"directToken"`
	Admin       string        `json:"admin"`
	EdgeToken   string        `json:"edgeToken"`
	LogLevel    string        `json:"logLevel"`
}

// controlBootstrap is what the control plane's process is told; see its usage.
type controlBootstrap struct {
	Socket      string `json:"socket"`
	OwnerToken  string `json:"ownerToken"`
	InstanceKey string `json:"instanceKey"`
	LogLevel    string `json:"logLevel"`
}

// startControl starts the control plane and returns when it listens.
func (e *Environment) startControl(ctx context.Context, m *Mesh) error {
	err := m.bootstrapped(ctx, controlName, e.Binaries.Control, "unix:"+m.control, controlBootstrap{
		Socket: m.control, OwnerToken: m.owner, InstanceKey: m.key, LogLevel: e.Log.String(),
	})
	if err != nil {
		return err
	}
	return m.listening(ctx, m.control)
}

// listening returns when somebody listens on a socket of the mesh.
func (m *Mesh) listening(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, convergeTimeout, fmt.Errorf("nobody listens on %s (waited %s)", filepath.Base(socket), convergeTimeout))
	defer cancel()
	for {
		conn, err := wire.Unix(socket)(ctx)
		if err == nil {
			return conn.Close()
		}
		timer := time.NewTimer(firstLook)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (e *Environment) startSidecar(ctx context.Context, m *Mesh, in *instance) error {
	address := ""
	if len(in.inbound.Listen) > 0 {
		address = in.inbound.Listen[0].Bind
	}
	edgeToken := ""
	if in.inbound.Trusted {
		edgeToken = m.edge
	}
	return m.bootstrapped(ctx, sidecarName(in.name), e.Binaries.Sidecar, address, sidecarBootstrap{
		Run: m.deployment.Run, Workload: in.inbound.Workload,
		Control: m.control, Token: wire.InstanceToken(m.key, in.name),
		Direct: m.socket(directSocket, in), DirectToken: m.direct,
		Admin: m.socket(adminSocket, in), EdgeToken: edgeToken, LogLevel: e.Log.String(),
	})
}

// startApplication starts an application and returns when it is ready.
func (e *Environment) startApplication(ctx context.Context, m *Mesh, in *instance) error {
	start, err := in.app.Resolve(addresses{m.plan, in})
	if err != nil {
		return fmt.Errorf("starting %s: %w", in.name, err)
	}
	command := start.Command
	if in.app.Program.Fixture != "" {
		command = []string{e.Binaries.Fixture, in.app.Program.Fixture}
	}
	if len(command) == 0 {
		return fmt.Errorf("starting %s: the local environment runs fixtures and commands only", in.name)
	}
	p, err := m.spawn(ctx, supervisor.Spec{
		Name: in.name, Path: command[0], Args: command[1:], Dir: m.deployment.Dir, Env: in.environment(start.Env),
	}, net.JoinHostPort(in.host, strconv.Itoa(in.port)), func(supervisor.ExitStatus) {})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, exec.ErrNotFound) || errors.Is(err, syscall.ENOEXEC) {
		return &env.NotReady{Workload: in.app.Workload, Reason: err.Error()} // the program's own fault
	}
	if err != nil {
		return err
	}
	return m.awaitReady(ctx, in, p)
}

// environment is what an application gets: what programs need to run at all, where to listen, the sidecar as http_proxy, and what the author declared.
func (in *instance) environment(declared map[string]string) []string {
	vars := map[string]string{"HOST": in.host, "PORT": strconv.Itoa(in.port)}
	if in.inbound != nil && in.inbound.Proxy != "" {
		vars["http_proxy"] = "http://" + in.inbound.Proxy
		vars["no_proxy"] = "localhost,127.0.0.1," + in.host
	}
	maps.Copy(vars, declared)
	list := baseEnvironment()
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		list = append(list, name+"="+vars[name])
	}
	return list
}

// baseEnvironment is what is inherited: what programs need to find others, their home and their language, and nothing that could be a secret.
func baseEnvironment() []string {
	var list []string
	for _, name := range []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value, ok := os.LookupEnv(name); ok {
			list = append(list, name+"="+value)
		}
	}
	return list
}
