//go:build unix

package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// DefaultOrphanGrace is how long processes get between SIGTERM and SIGKILL when the run has died.
const DefaultOrphanGrace = time.Second

// sweepTimeout bounds the sweep after a supervisor's own death.
const sweepTimeout = 5 * time.Second

// DefaultAnswer is how long a supervisor may take to answer. It does nothing that takes time, so one that does not answer is stuck: somebody stopped it, or the machine stands.
const DefaultAnswer = 10 * time.Second

// Options of a supervisor.
type Options struct {
	// RunID names the run on this machine: 1 to 48 letters, digits, '_', '-' and '.'. Two runs of one user cannot have the same.
	RunID string
	// Root is the folder that holds the runtime directory; by default the first of [Roots] that can be used.
	Root string
	// Hold are files that the supervisor keeps open as long as it lives, such as a claim on addresses. They stay the caller's to close.
	Hold []*os.File
	// OrphanGrace is the time between SIGTERM and SIGKILL when the run has died; [DefaultOrphanGrace] when 0.
	OrphanGrace time.Duration
	// Answer bounds the wait for an answer of the supervisor; [DefaultAnswer] when 0.
	Answer time.Duration
	// Log is the file that the supervisor's own complaints are appended to; none by default.
	Log string
	// Executable is a program that calls [Main] first; by default the one that is running.
	Executable string
}

// Supervisor is the run's side of a supervisor process. Its methods may be called from several goroutines.
type Supervisor struct {
	dir  string
	wait time.Duration // for an answer
	cmd  *exec.Cmd
	link *link
	done chan struct{}
	err  error // after done

	mu        sync.Mutex
	lastID    uint64                // of processes and calls
	processes map[uint64]*Process   // asked for and not known to have ended
	signals   map[uint64]chan error // calls that wait for their answers
	stopped   *stoppedEvent         // its last word
	gone      bool                  // nothing answers any more
}

// Start starts a supervisor with a runtime directory of its own, mode 0700. The context bounds the start only. The caller must call [Supervisor.Stop].
func Start(ctx context.Context, opts Options) (*Supervisor, error) {
	s, err := start(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor of run %s: %w", opts.RunID, err)
	}
	return s, nil
}

func start(ctx context.Context, opts Options) (*Supervisor, error) {
	if os.Getenv(guardEnv) != "" {
		return nil, errors.New("this process was started as a supervisor, but its main does not call supervisor.Main first")
	}
	roots := Roots()
	if opts.Root != "" {
		root, err := filepath.Abs(opts.Root)
		if err != nil {
			return nil, err
		}
		roots = []string{root}
	}
	root, dir, err := chooseDir(roots, opts.RunID)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{dir: dir, wait: cmp.Or(opts.Answer, DefaultAnswer), done: make(chan struct{}), processes: map[uint64]*Process{}, signals: map[uint64]chan error{}}
	if err := s.exec(opts); err != nil {
		return nil, err
	}
	ready := make(chan error, 1) // answered once
	go s.listen(root, ready)
	hello := helloRequest{Root: root, Dir: dir, OrphanGrace: cmp.Or(opts.OrphanGrace, DefaultOrphanGrace)}
	err = withDescriptors(opts.Hold, func(fds []int) error { return s.link.send(request{Hello: &hello}, fds...) })
	if err == nil {
		select {
		case err = <-ready:
		case <-ctx.Done():
			s.cmd.Process.Kill() // listen sweeps
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		s.link.close()
		<-s.done
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
			err = <-ready // it is gone, before or while it was spoken to, and this says why
		}
		return nil, err
	}
	return s, nil
}

// exec starts the process, with its end of the socket pair as descriptor 3.
func (s *Supervisor) exec(opts Options) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	if s.link, err = newLink(ours); err != nil {
		return err
	}
	self := opts.Executable
	if self == "" {
		if self, err = executable(); err != nil {
			s.link.close()
			return err
		}
	}
	s.cmd = exec.Command(self)
	s.cmd.Args = []string{"meshtest", hiddenArg, opts.RunID}
	s.cmd.Env = append(os.Environ(), guardEnv+"=1")
	s.cmd.Dir = "/"
	s.cmd.ExtraFiles = []*os.File{theirs}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if opts.Log != "" {
		log, err := openLog(opts.Log)
		if err != nil {
			s.link.close()
			return fmt.Errorf("opening its log: %w", err)
		}
		defer log.Close()
		s.cmd.Stdout, s.cmd.Stderr = log, log
	}
	if err := s.cmd.Start(); err != nil {
		s.link.close()
		return err
	}
	return nil
}

func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
}

func socketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), "supervisor"), os.NewFile(uintptr(fds[1]), "run"), nil
}

// Dir is the run's runtime directory. It is gone when the supervisor is.
func (s *Supervisor) Dir() string { return s.dir }

// PID of the supervisor process.
func (s *Supervisor) PID() int { return s.cmd.Process.Pid }

// Socket is the path of a Unix socket in the runtime directory. A name of up to 32 bytes always fits.
func (s *Supervisor) Socket(name string) (string, error) {
	path := filepath.Join(s.dir, name)
	if len(path) > maxSocketPath() {
		return "", fmt.Errorf("%s: %d bytes, the path of a Unix socket has at most %d", path, len(path), maxSocketPath())
	}
	return path, nil
}

// Done is closed when the supervisor and all its processes are gone: because of Stop, or because it died, which [Supervisor.Err] tells apart.
// What a dead supervisor left has been swept by then.
func (s *Supervisor) Done() <-chan struct{} { return s.done }

// Err is nil until Done, and after a Stop that ended everything; otherwise it says how the supervisor died, or what it could not end.
func (s *Supervisor) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop ends every process and every descendant: SIGTERM, then after the grace SIGKILL until none is left; removes the runtime
// directory; and returns when the supervisor itself is gone. An error says what is left. A context that ends first cuts the grace short; a
// supervisor that is not gone soon after that is stuck: it is killed, and what it leaves is swept. Stopping again waits for the same end.
func (s *Supervisor) Stop(ctx context.Context, grace time.Duration) error {
	s.link.send(request{Stop: &stopRequest{grace}}) // refused when the supervisor is gone, which done tells
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
	}
	s.link.close() // to it, the run has died: it ends everything by itself
	if !s.goneWithin(DefaultOrphanGrace + time.Second) {
		s.cmd.Process.Kill() // listen sweeps
		if s.goneWithin(sweepTimeout + time.Second) {
			return fmt.Errorf("stopping the supervisor: it did not answer, and was killed: %w", context.Cause(ctx))
		}
	}
	return fmt.Errorf("stopping the supervisor: %w", context.Cause(ctx))
}

// goneWithin reports whether the supervisor is gone before some time has passed.
func (s *Supervisor) goneWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-timer.C:
		return false
	}
}

// listen takes the supervisor's events until it is gone, then clears up behind it.
func (s *Supervisor) listen(root string, ready chan<- error) {
	defer close(s.done)
	var err error
	for err == nil {
		var e event
		var fds []int
		if fds, err = s.link.receive(&e); err == nil {
			s.handle(e, ready)
		}
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}
	s.link.close()
	waitErr := s.cmd.Wait()
	stopped := s.release()
	select {
	case ready <- fmt.Errorf("it ended at once: %w", cmp.Or(waitErr, unlessEOF(err), errUnasked)): // to Start, if that still waits
	default:
	}
	switch {
	case stopped == nil:
		ctx, cancel := context.WithTimeout(context.Background(), sweepTimeout)
		defer cancel()
		s.err = errors.Join(fmt.Errorf("the supervisor died: %w", cmp.Or(waitErr, unlessEOF(err), errUnasked)), sweepDir(ctx, root, s.dir))
	case stopped.Error != "":
		s.err = fmt.Errorf("stopping the supervisor: %s", stopped.Error)
	}
}

var errUnasked = errors.New("nobody asked it to")

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *Supervisor) handle(e event, ready chan<- error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Ready != nil:
		if e.Ready.Error != "" {
			ready <- errors.New(e.Ready.Error)
			s.stopped = &stoppedEvent{}
		} else {
			ready <- nil
		}
	case e.Spawned != nil:
		if p := s.processes[e.Spawned.ID]; p != nil {
			p.spawned(e.Spawned)
			if e.Spawned.Error != nil {
				delete(s.processes, p.id)
			}
		}
	case e.Signaled != nil:
		var err error
		if errno := e.Signaled.Errno; errno == syscall.ESRCH {
			err = os.ErrProcessDone
		} else if errno != 0 {
			err = errno
		}
		s.signals[e.Signaled.Call] <- err
		delete(s.signals, e.Signaled.Call)
	case e.Exited != nil:
		if p := s.processes[e.Exited.ID]; p != nil {
			p.exited(e.Exited.Status)
			delete(s.processes, p.id)
		}
	case e.Stopped != nil:
		s.stopped = e.Stopped
	}
}

// release ends every wait for the supervisor: it will not answer any more.
func (s *Supervisor) release() *stoppedEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	for _, p := range s.processes {
		p.lost()
	}
	s.processes = nil
	for _, c := range s.signals {
		c <- errGone
	}
	s.signals = nil
	return s.stopped
}

var (
	errGone  = errors.New("the supervisor is gone")
	errStuck = errors.New("the supervisor does not answer: it was stopped, or the machine stands")
)
