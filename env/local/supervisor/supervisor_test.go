//go:build linux

package supervisor

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func wait(t *testing.T, p *Process) ExitStatus {
	t.Helper()
	select {
	case <-p.Done():
	case <-t.Context().Done():
		t.Fatal("the test ended first")
	}
	return p.Exit()
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "exits"), newTag(t)

	p, err := s.Spawn(t.Context(), tag.spec("exit", "7"))
	require.NoError(t, err)
	status := wait(t, p)
	require.Equal(t, 7, status.Code)
	require.Zero(t, status.Signal)
	require.Equal(t, "exit code 7", status.String())

	p = spawnUp(t, s, tag.spec("wait"))
	require.Equal(t, ExitStatus{}, p.Exit(), "it runs")
	require.NoError(t, p.Signal(syscall.SIGTERM))
	status = wait(t, p)
	require.Equal(t, -1, status.Code)
	require.Equal(t, syscall.SIGTERM, status.Signal)
	require.Equal(t, "killed by SIGTERM", status.String())
	require.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)
	require.ErrorIs(t, p.Kill(), os.ErrProcessDone)

	p, err = s.Spawn(t.Context(), tag.spec("burn"))
	require.NoError(t, err)
	status = wait(t, p)
	require.Positive(t, status.User)
	require.Greater(t, status.MaxRSS, int64(64<<20))
	require.Less(t, status.MaxRSS, int64(4<<30))
}

// writeProgram writes a file that is executed next. Nothing is forked meanwhile: a child that is about to execute something else would have the file open for writing, and so it could not be executed
// (ETXTBSY).
func writeProgram(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
}

func TestExecErrors(t *testing.T) {
	t.Parallel()
	s := startIn(t, newRoot(t), "errors")
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		writeProgram(t, path, text, mode)
		return path
	}
	tests := map[string]struct {
		spec Spec
		is   error
		says string
	}{
		"no such program":     {Spec{Path: filepath.Join(dir, "nothing")}, fs.ErrNotExist, "execute " + dir + "/nothing: no such file"},
		"not in the path":     {Spec{Path: "meshtest-no-such-program"}, nil, "executable file not found in $PATH"},
		"not executable":      {Spec{Path: write("plain", "#!/bin/sh\n", 0o644)}, fs.ErrPermission, "plain: permission denied"},
		"not a program":       {Spec{Path: write("text", "hello", 0o755)}, syscall.ENOEXEC, "text: exec format error"},
		"no such interpreter": {Spec{Path: write("script", "#!/no/such/thing\n", 0o755)}, fs.ErrNotExist, "find the interpreter or loader of " + dir + "/script"},
		"no such directory":   {Spec{Path: "/bin/true", Dir: dir + "/none"}, fs.ErrNotExist, "change the directory to " + dir + "/none"},
		"no such log":         {Spec{Path: "/bin/true", Log: dir + "/none/log"}, fs.ErrNotExist, "open " + dir + "/none/log"},
		"a broken variable":   {Spec{Path: "/bin/true", Dir: dir, Env: []string{"A=\x00"}}, syscall.EINVAL, "invalid argument"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.spec.Name = "app"
			_, err := s.Spawn(t.Context(), test.spec)
			require.ErrorContains(t, err, "starting app: ")
			require.ErrorContains(t, err, test.says)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
		})
	}
	p, err := s.Spawn(t.Context(), Spec{Name: "true", Path: "true"})
	require.NoError(t, err, "the supervisor goes on")
	require.Zero(t, wait(t, p).Code)
}

func TestWhatAProcessGets(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "gets"), newTag(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)

	log := filepath.Join(dir, "log")
	require.NoError(t, os.WriteFile(log, []byte("before\n"), 0o644))
	spec := tag.spec("env")
	spec.Log = log
	p, err := s.Spawn(t.Context(), spec)
	require.NoError(t, err)
	wait(t, p)
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("before\n[%s=%s %s=%s]\nand on stderr\n", tagEnv, tag, Marker, s.Dir()), string(text), "appended; its environment is what was given and the marker")

	spec = tag.spec("where")
	spec.Log, spec.Dir, spec.Nice = log+"2", dir, 5
	p, err = s.Spawn(t.Context(), spec)
	require.NoError(t, err)
	wait(t, p)
	text, err = os.ReadFile(log + "2")
	require.NoError(t, err)
	require.Equal(t, dir+" 5 true\n", string(text), "directory, priority, leads a process group")
}

func TestDescriptorsArePassed(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "fds"), newTag(t)
	in, inW, err := os.Pipe()
	require.NoError(t, err)
	outR, out, err := os.Pipe()
	require.NoError(t, err)
	defer outR.Close()

	spec := tag.spec("copy")
	spec.ExtraFiles = []*os.File{in, out}
	p, err := s.Spawn(t.Context(), spec)
	require.NoError(t, err)
	in.Close()
	out.Close()
	_, err = inW.WriteString("through a descriptor")
	require.NoError(t, err)
	inW.Close()
	text, err := io.ReadAll(outR) // ends when no other process has a copy of the pipe
	require.NoError(t, err)
	require.Equal(t, "through a descriptor", string(text))
	require.Zero(t, wait(t, p).Code)
}

func TestPassingAListenerDoesNotBlockIt(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "listener"), newTag(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	file, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer file.Close()
	spec := tag.spec("wait")
	spec.ExtraFiles = []*os.File{file}
	spawnUp(t, s, spec)

	accepted := make(chan error)
	go func() { _, err := l.Accept(); accepted <- err }()
	l.Close() // does not interrupt an Accept in blocking mode
	require.ErrorIs(t, <-accepted, net.ErrClosed)
}

func TestHoldLastsAsLongAsTheSupervisor(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	s, err := Start(t.Context(), Options{Root: newRoot(t), RunID: "hold", Hold: []*os.File{w}})
	require.NoError(t, err)
	w.Close()
	require.NoError(t, r.SetReadDeadline(time.Now()))
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "somebody has the other end")
	require.NoError(t, s.Stop(t.Context(), 0))
	require.NoError(t, r.SetReadDeadline(time.Time{}))
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	root, tag := newRoot(t), newTag(t)
	s := startIn(t, root, "many")
	const n = 50
	var wg sync.WaitGroup
	processes := make([]*Process, n)
	for i := range n {
		wg.Go(func() {
			p, err := s.Spawn(t.Context(), tag.spec("wait"))
			if err != nil {
				t.Error(err)
			}
			processes[i] = p
		})
	}
	wg.Wait()
	pids := map[int]bool{}
	for _, p := range processes {
		pids[p.PID] = true
	}
	require.Len(t, pids, n)
	require.Eventually(t, func() bool { return len(tag.alive(t)) == n }, patience, time.Millisecond, "a program that was just loaded shows no environment for a moment")
	require.NoError(t, s.Stop(t.Context(), time.Hour))
	require.Empty(t, tag.alive(t), "gone when Stop returns")
	for _, p := range processes {
		require.Equal(t, syscall.SIGTERM, wait(t, p).Signal)
	}
	require.Empty(t, list(root))
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "pause"), newTag(t)
	p := spawnUp(t, s, tag.spec("parent"))
	states := func() string {
		var all []string
		for _, pid := range tag.alive(t) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			require.NoError(t, err)
			all = append(all, strings.Fields(string(stat))[2])
		}
		return strings.Join(all, "")
	}
	require.NoError(t, p.Pause())
	require.Eventually(t, func() bool { return states() == "TT" }, patience, time.Millisecond, "both are stopped: the process and its child")
	require.NoError(t, p.Resume())
	require.Eventually(t, func() bool { return !strings.Contains(states(), "T") }, patience, time.Millisecond)
}

func TestAGroupEndsWithItsLeader(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "group"), newTag(t)
	p := spawnUp(t, s, tag.spec("parent"))
	require.Len(t, tag.alive(t), 2)
	require.NoError(t, p.Signal(syscall.SIGKILL)) // the leader only
	wait(t, p)
	require.Eventually(t, func() bool { return len(tag.alive(t)) == 0 }, patience, time.Millisecond)
}

func TestProcessStop(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "stop"), newTag(t)
	polite, rude := spawnUp(t, s, tag.spec("wait")), spawnUp(t, s, tag.spec("stubborn"))
	require.NoError(t, polite.Stop(t.Context(), time.Hour))
	require.Equal(t, syscall.SIGTERM, polite.Exit().Signal)
	require.NoError(t, rude.Stop(t.Context(), time.Millisecond))
	require.Equal(t, syscall.SIGKILL, rude.Exit().Signal)
	require.NoError(t, rude.Stop(t.Context(), time.Hour), "it has ended already")
}

func TestSpawnAfterItsContext(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "context"), newTag(t)
	why := fmt.Errorf("no more")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err := s.Spawn(ctx, tag.spec("wait"))
	require.ErrorIs(t, err, why)
	require.Empty(t, tag.alive(t))

	// A context that ends while the supervisor is busy: the answer cannot come, it is stopped.
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGSTOP))
	ctx, cancel = context.WithCancelCause(t.Context())
	failed := make(chan error)
	go func() { _, err := s.Spawn(ctx, tag.spec("stubborn")); failed <- err }()
	require.Eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.processes) == 1 }, patience, time.Millisecond)
	cancel(why)
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGCONT))
	require.ErrorIs(t, <-failed, why)
	require.Eventually(t, func() bool { return len(tag.alive(t)) == 0 }, patience, time.Millisecond)
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	startIn(t, root, "taken")
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 60))
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.Mkdir(open, 0o777))
	require.NoError(t, os.Chmod(open, 0o777))
	tests := map[string]struct {
		opts Options
		says string
	}{
		"a run that is there":           {Options{Root: root, RunID: "taken"}, "file exists"},
		"an id that is a path":          {Options{Root: root, RunID: "../x"}, `run id "../x": want`},
		"a path too long for sockets":   {Options{Root: long, RunID: "x"}, "for the names of sockets"},
		"a root that others can change": {Options{Root: open, RunID: "x"}, "mode 0700"},
		"no such executable":            {Options{Root: root, RunID: "x", Executable: "/no/such"}, "no such file"},
		"an executable without Main":    {Options{Root: root, RunID: "x", Executable: "/bin/false"}, "ended at once: exit status 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Start(t.Context(), test.opts)
			require.ErrorContains(t, err, "starting the supervisor of run "+test.opts.RunID)
			require.ErrorContains(t, err, test.says)
		})
	}
	require.Len(t, list(root), 1, "a refused start takes nothing from the run that is there")
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	deaf := filepath.Join(t.TempDir(), "deaf")
	started := filepath.Join(t.TempDir(), "started")
	require.NoError(t, syscall.Mkfifo(started, 0o600))
	writeProgram(t, deaf, "#!/bin/sh\n: >"+started+"\nexec sleep 1000\n", 0o755)
	go func() {
		os.ReadFile(started)
		cancel()
	}()
	_, err := Start(ctx, Options{Root: newRoot(t), RunID: "deaf", Executable: deaf})
	require.ErrorIs(t, err, context.Canceled)
}

func TestSocketPathsFit(t *testing.T) {
	t.Parallel()
	s := startIn(t, newRoot(t), "sockets")
	path, err := s.Socket(strings.Repeat("n", maxSocketName))
	require.NoError(t, err)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	_, err = s.Socket(strings.Repeat("n", 100))
	require.ErrorContains(t, err, "at most 107")
	info, err := os.Stat(s.Dir())
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|0o700, info.Mode())
}
