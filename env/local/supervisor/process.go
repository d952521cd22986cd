//go:build unix

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is a process to start. It leads a process group of its own; its standard input is empty.
type Spec struct {
	// Name is what the run calls it: in errors, and in Process.Name.
	Name string
	// Path of the program. Without a slash it is looked up in the run's $PATH.
	Path string
	// Args without the program's name.
	Args []string
	// Env is the whole environment, as KEY=value; nothing is inherited. [Marker] is added.
	Env []string
	// Dir is the working directory; by default the run's.
	Dir string
	// Log is a file to which standard output and standard error are appended, by default none; Stdout and Stderr override it.
	Log            string
	Stdout, Stderr *os.File
	// ExtraFiles become the descriptors 3, 4 and so on. They stay the caller's to close.
	ExtraFiles []*os.File
	// Nice is the scheduling priority, 0 to 19 (less) without privileges. Linux only.
	Nice int
}

// Process is a process under supervision.
type Process struct {
	Name string
	PID  int

	id         uint64
	supervisor *Supervisor
	start      chan error // answered once
	done       chan struct{}
	status     ExitStatus
}

// ExitStatus is how a process ended, and what it used.
type ExitStatus struct {
	Code   int            // exit code; -1 when a signal ended it
	Signal syscall.Signal // 0 when it exited by itself
	User   time.Duration  // CPU time, with that of the children it waited for
	System time.Duration
	MaxRSS int64 // largest resident set, bytes
	Lost   bool  // the supervisor died: the kernel kills the process with it, and what it used is not known
}

// String is "exit code 3", or the name of the signal.
func (s ExitStatus) String() string {
	switch {
	case s.Lost:
		return "killed with its supervisor"
	case s.Signal != 0:
		return "killed by " + unix.SignalName(s.Signal)
	default:
		return fmt.Sprintf("exit code %d", s.Code)
	}
}

// Spawn starts a process and returns when its program runs, or could not be executed: then the error wraps the reason, such as
// fs.ErrNotExist. A process that is started when the context has just ended is killed.
func (s *Supervisor) Spawn(ctx context.Context, spec Spec) (*Process, error) {
	p, err := s.spawn(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	return p, nil
}

func (s *Supervisor) spawn(ctx context.Context, spec Spec) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	req, files, err := spec.request()
	if err != nil {
		return nil, err
	}
	p := &Process{Name: spec.Name, supervisor: s, start: make(chan error, 1), done: make(chan struct{})}
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return nil, errGone
	}
	s.lastID++
	p.id, req.ID = s.lastID, s.lastID
	s.processes[p.id] = p
	s.mu.Unlock()

	err = withDescriptors(files, func(fds []int) error { return s.link.send(request{Spawn: &req}, fds...) })
	if err != nil {
		s.mu.Lock()
		delete(s.processes, p.id)
		s.mu.Unlock()
		return nil, err
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case err := <-p.start:
		if err != nil {
			return nil, err
		}
		if ctx.Err() == nil {
			return p, nil
		}
	case <-ctx.Done():
	case <-timer.C:
		return nil, fmt.Errorf("%w (waited %s)", errStuck, s.wait)
	}
	return nil, errors.Join(context.Cause(ctx), s.abandon(p))
}

// abandon kills a process whose start nobody waits for any more. Requests are served in order, so it is there, or never will be.
func (s *Supervisor) abandon(p *Process) error {
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing it: %w", err)
	}
	return nil
}

// request makes the paths independent of the supervisor's own working directory.
func (spec Spec) request() (spawnRequest, []*os.File, error) {
	req := spawnRequest{
		Path: spec.Path, Args: spec.Args, Env: spec.Env, Dir: spec.Dir, Log: spec.Log,
		Stdout: spec.Stdout != nil, Stderr: spec.Stderr != nil, Nice: spec.Nice,
	}
	if !strings.ContainsRune(req.Path, '/') {
		path, err := exec.LookPath(req.Path)
		if err != nil {
			return req, nil, err
		}
		req.Path = path
	}
	for _, path := range []*string{&req.Dir, &req.Log} {
		if path == &req.Log && *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return req, nil, err
		}
		*path = abs
	}
	if !filepath.IsAbs(req.Path) {
		req.Path = filepath.Join(req.Dir, req.Path) // as execve would take it, after the change of directory
	}
	files := append([]*os.File(nil), spec.ExtraFiles...)
	for _, f := range []*os.File{spec.Stdout, spec.Stderr} {
		if f != nil {
			files = append(files, f)
		}
	}
	return req, files, nil
}

func (p *Process) spawned(e *spawnedEvent) {
	p.PID = e.PID
	if e.Error == nil {
		p.start <- nil
		return
	}
	p.start <- e.Error
	close(p.done)
}

func (p *Process) exited(status ExitStatus) {
	p.status = status
	close(p.done)
}

func (p *Process) lost() {
	select {
	case p.start <- errGone: // it was not answered yet
	default:
	}
	p.exited(ExitStatus{Code: -1, Signal: syscall.SIGKILL, Lost: true})
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how the process ended. Valid after Done; the zero status before.
func (p *Process) Exit() ExitStatus {
	select {
	case <-p.done:
		return p.status
	default:
		return ExitStatus{}
	}
}

// Signal sends a signal to the process. os.ErrProcessDone says that it has ended.
func (p *Process) Signal(sig syscall.Signal) error { return p.signal(sig, false) }

// Kill kills the process and its process group.
func (p *Process) Kill() error { return p.signal(syscall.SIGKILL, true) }

// Pause freezes the process and its process group, as if their machine hung; Resume lets them go on.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP, true) }

// Resume undoes Pause.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT, true) }

func (p *Process) signal(sig syscall.Signal, group bool) error {
	err := p.supervisor.signal(signalRequest{ID: p.id, Signal: sig, Group: group})
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s to %s: %w", unix.SignalName(sig), p.Name, err)
	}
	return err
}

func (s *Supervisor) signal(req signalRequest) error {
	answer := make(chan error, 1)
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return os.ErrProcessDone
	}
	s.lastID++
	req.Call = s.lastID
	s.signals[req.Call] = answer
	s.mu.Unlock()
	if err := s.link.send(request{Signal: &req}); err != nil {
		return err // the link is broken: release takes the call
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case err := <-answer:
		return err
	case <-timer.C:
		return fmt.Errorf("%w (waited %s)", errStuck, s.wait)
	}
}

// Stop asks the process to end with SIGTERM, kills it and its group when it has not after the grace or when the context ends, and returns when it has ended.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return unlessDone(err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	err := unlessDone(p.Kill())
	if err == nil {
		<-p.done
	}
	return err
}

func unlessDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
