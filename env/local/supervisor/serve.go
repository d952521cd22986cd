//go:build unix

package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

const (
	hiddenArg = "__supervise"         // argv[1] of a supervisor, followed by the run's id for those who read process lists
	guardEnv  = "MESHTEST_SUPERVISOR" // set for a supervisor, so that a program without Main does not start itself for ever
	linkFD    = 3
)

// Pace of the end: how often the tree is looked at between the deaths that are told, and how long processes that may not be
// killed (a setuid program among the descendants) are waited for.
const (
	endTick    = 20 * time.Millisecond
	deniedWait = 2 * time.Second
)

// Main makes this process a supervisor when it was started as one, and then does not return. Every program that calls
// [Start] calls it first in main, or in TestMain.
func Main() {
	if len(os.Args) < 2 || os.Args[1] != hiddenArg {
		return
	}
	if err := serve(os.NewFile(linkFD, "run")); err != nil {
		slog.Error("supervisor", "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// server is the supervisor process: one loop that forks, reaps and kills. Nobody else waits for children, so a pid that it knows
// cannot be reused under its hands.
type server struct {
	link      *link
	dir       *runtimeDir
	null      *os.File
	grace     time.Duration // when the run has died
	children  map[int]uint64
	pids      map[uint64]int
	launchers map[int]launcher

	ending      bool
	killAt      time.Time
	deniedSince time.Time // when all that is left may not be killed
}

func serve(f *os.File) error {
	syscall.CloseOnExec(linkFD)
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	// Caught and dropped, not ignored: what is ignored would be ignored by the children too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	link, err := newLink(f)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s := &server{link: link, null: null, children: map[int]uint64{}, pids: map[uint64]int{}, launchers: map[int]launcher{}}
	if up, err := s.hello(); err != nil || !up {
		return err
	}
	return s.loop(died)
}

// hello prepares what the run asks for. It reports whether there is something to supervise.
func (s *server) hello() (bool, error) {
	var req request
	if _, err := s.link.receive(&req); err != nil { // the descriptors stay open: that is what they are sent for
		return false, nil // the run died already
	}
	hello := req.Hello
	if hello == nil {
		return false, errors.New("the run did not say hello")
	}
	s.grace = hello.OrphanGrace
	err := adoptOrphans()
	if err == nil {
		s.dir, err = createDir(hello.Root, hello.Dir)
	}
	if err != nil {
		s.tell(event{Ready: &readyEvent{err.Error()}})
		return false, err
	}
	s.tell(event{Ready: &readyEvent{}})
	return true, nil
}

func (s *server) loop(died <-chan os.Signal) error {
	requests := make(chan incoming)
	go s.read(requests)
	tick := time.NewTicker(endTick)
	defer tick.Stop()
	for {
		var ticks <-chan time.Time
		if s.ending {
			ticks = tick.C
		}
		select {
		case in, ok := <-requests:
			if !ok {
				requests = nil
				s.end(s.grace)
			} else {
				s.do(in)
			}
		case <-died:
		case <-ticks:
		}
		childless := s.reap()
		if s.ending && (childless || s.press()) {
			return s.finish()
		}
	}
}

type incoming struct {
	request
	fds []int
}

// read ends with the run. The process ends with the loop.
func (s *server) read(to chan<- incoming) {
	defer close(to)
	for {
		var in incoming
		var err error
		if in.fds, err = s.link.receive(&in.request); err != nil {
			return
		}
		to <- in
	}
}

func (s *server) do(in incoming) {
	switch {
	case in.Spawn != nil:
		s.spawn(in.Spawn, in.fds)
	case in.Signal != nil:
		s.tell(event{Signaled: &signaledEvent{in.Signal.Call, s.signal(in.Signal)}})
	case in.Stop != nil:
		s.end(in.Stop.Grace)
	}
	for _, fd := range in.fds {
		syscall.Close(fd)
	}
}

// tell does not fail: when the run is gone there is nobody to tell, and the end of its socket says so to read.
func (s *server) tell(e event) { _ = s.link.send(e) }

func (s *server) signal(req *signalRequest) syscall.Errno {
	pid, ok := s.pids[req.ID]
	if !ok {
		return syscall.ESRCH
	}
	if req.Group {
		pid = -pid
	}
	var errno syscall.Errno
	errors.As(syscall.Kill(pid, req.Signal), &errno)
	return errno
}

// reap takes in every dead child, ours and adopted, and reports whether none is left. On Linux that means that no
// descendant is left at all, since orphans are adopted.
func (s *server) reap() (childless bool) {
	for {
		var status syscall.WaitStatus
		var usage syscall.Rusage
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, &usage)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return true // ECHILD
		case pid == 0:
			return false
		default:
			s.buried(pid, status, &usage)
		}
	}
}

func (s *server) buried(pid int, status syscall.WaitStatus, usage *syscall.Rusage) {
	id, ours := s.children[pid]
	if !ours {
		return
	}
	delete(s.children, pid)
	delete(s.pids, id)
	// What is left of the group. Its number cannot mean another group yet: the kernel does not give out the number while
	// the group has members, and takes it up again only after all other numbers.
	syscall.Kill(-pid, syscall.SIGKILL)
	s.tell(event{Exited: &exitedEvent{id, exitStatus(status, usage)}})
}

func exitStatus(status syscall.WaitStatus, usage *syscall.Rusage) ExitStatus {
	e := ExitStatus{
		Code:   status.ExitStatus(),
		User:   time.Duration(usage.Utime.Nano()),
		System: time.Duration(usage.Stime.Nano()),
		MaxRSS: int64(usage.Maxrss) * maxRSSUnit,
	}
	if status.Signaled() {
		e.Signal = status.Signal()
	}
	return e
}

// end begins the end, or hastens it.
func (s *server) end(grace time.Duration) {
	killAt := time.Now().Add(grace)
	if s.ending {
		if killAt.Before(s.killAt) {
			s.killAt = killAt
		}
		return
	}
	s.ending, s.killAt = true, killAt
	s.signalAll(syscall.SIGTERM)
	s.signalAll(syscall.SIGCONT) // who is paused could not hear
}

// press kills what is left when the grace is over. It reports true to give up, when nothing is left but processes that it may not kill.
func (s *server) press() (hopeless bool) {
	if time.Now().Before(s.killAt) {
		return false
	}
	signaled, denied := s.signalAll(syscall.SIGKILL)
	switch {
	case signaled > 0 || denied == 0:
		s.deniedSince = time.Time{}
	case s.deniedSince.IsZero():
		s.deniedSince = time.Now()
	}
	return !s.deniedSince.IsZero() && time.Since(s.deniedSince) > deniedWait
}

func (s *server) signalAll(sig syscall.Signal) (signaled, denied int) {
	return signalDescendants(slices.Collect(maps.Keys(s.children)), sig)
}

func signalGroups(leaders []int, sig syscall.Signal) (signaled, denied int) {
	for _, pid := range leaders {
		switch err := syscall.Kill(-pid, sig); {
		case err == nil:
			signaled++
		case errors.Is(err, syscall.EPERM):
			denied++
		}
	}
	return signaled, denied
}

func (s *server) finish() error {
	var errs []error
	if !s.deniedSince.IsZero() {
		errs = append(errs, errors.New("descendants are left that may not be killed (a setuid program?)"))
	}
	errs = append(errs, s.dir.remove())
	err := errors.Join(errs...)
	stopped := &stoppedEvent{}
	if err != nil {
		stopped.Error = err.Error()
	}
	s.tell(event{Stopped: stopped})
	if err != nil {
		return fmt.Errorf("ending: %w", err)
	}
	return nil
}
