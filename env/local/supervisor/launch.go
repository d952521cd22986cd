//go:build unix

package supervisor

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// launcher forks from one OS thread, which lives as long as this process: it is this thread that the children's parent death signal
// watches, and its priority that they inherit.
type launcher chan<- func()

func newLauncher(nice int) (launcher, error) {
	jobs, up := make(chan func()), make(chan error)
	go func() {
		runtime.LockOSThread()
		err := setNice(nice)
		up <- err
		if err != nil {
			return // without unlocking: the thread, whose priority is not known, ends too
		}
		for job := range jobs {
			job()
		}
	}()
	return jobs, <-up
}

// do runs f on the launcher's thread.
func (l launcher) do(f func()) {
	done := make(chan struct{})
	l <- func() { f(); close(done) }
	<-done
}

func (s *server) launcher(nice int) (launcher, error) {
	if l, ok := s.launchers[nice]; ok {
		return l, nil
	}
	l, err := newLauncher(nice)
	if err == nil {
		s.launchers[nice] = l
	}
	return l, err
}

func (s *server) spawn(req *spawnRequest, fds []int) {
	e := &spawnedEvent{ID: req.ID}
	if pid, err := s.fork(req, fds); err != nil {
		e.Error = err
	} else {
		e.PID = pid
		s.children[pid], s.pids[req.ID] = req.ID, pid
	}
	s.tell(event{Spawned: e})
}

func (s *server) fork(req *spawnRequest, fds []int) (int, *spawnError) {
	if s.ending {
		return 0, &spawnError{"execute", req.Path, syscall.ECANCELED}
	}
	files, log, err := s.childFiles(req, fds)
	if err != nil {
		return 0, newSpawnError("open", req.Log, err)
	}
	if log != nil {
		defer log.Close()
	}
	launcher, err := s.launcher(req.Nice)
	if err != nil {
		return 0, newSpawnError("set the priority of", req.Path, err)
	}
	attr := &syscall.ProcAttr{Dir: req.Dir, Env: append(req.Env, Marker+"="+s.dir.path), Files: files, Sys: processAttributes()}
	var pid int
	launcher.do(func() { pid, err = syscall.ForkExec(req.Path, append([]string{req.Path}, req.Args...), attr) })
	if err != nil {
		return 0, explain(req, err)
	}
	return pid, nil
}

// childFiles are the child's descriptors in order. The log, when it is not nil, was opened for the child; the descriptors that came with
// the request stay the caller's.
func (s *server) childFiles(req *spawnRequest, fds []int) (files []uintptr, log *os.File, err error) {
	null := s.null.Fd()
	files = []uintptr{null, null, null}
	if req.Log != "" {
		if log, err = openLog(req.Log); err != nil {
			return nil, nil, err
		}
		files[1], files[2] = log.Fd(), log.Fd()
	}
	passed := make([]uintptr, len(fds))
	for i, fd := range fds {
		passed[i] = uintptr(fd)
	}
	pop := func(to *uintptr) {
		last := len(passed) - 1
		*to, passed = passed[last], passed[:last]
	}
	if req.Stderr {
		pop(&files[2])
	}
	if req.Stdout {
		pop(&files[1])
	}
	return append(files, passed...), log, nil
}

// explain says which of the paths an error is about.
func explain(req *spawnRequest, err error) *spawnError {
	if _, dirErr := os.Stat(req.Dir); dirErr != nil {
		return newSpawnError("change the directory to", req.Dir, dirErr)
	}
	if _, pathErr := os.Stat(req.Path); pathErr == nil && errors.Is(err, syscall.ENOENT) {
		return newSpawnError("find the interpreter or loader of", req.Path, err)
	}
	return newSpawnError("execute", req.Path, err)
}

func newSpawnError(op, path string, err error) *spawnError {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		errno = syscall.EIO
	}
	return &spawnError{op, path, errno}
}
