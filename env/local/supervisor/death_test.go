//go:build linux

package supervisor

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// run is a fake run in a process of its own.
type run struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startRun(t *testing.T, tag tag, root, id string) *run {
	cmd := helperCommand("run", root, id)
	cmd.Env = append(os.Environ(), tagEnv+"="+string(tag))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	r := &run{cmd: cmd, lines: bufio.NewScanner(out)}
	t.Cleanup(r.kill)
	return r
}

func (r *run) kill() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// until reads the run's steps up to the one that begins with the word.
func (r *run) until(t *testing.T, word string) {
	t.Helper()
	for r.lines.Scan() {
		if strings.HasPrefix(r.lines.Text(), word) {
			return
		}
	}
	t.Fatalf("the run ended before it said %q", word)
}

func TestKilledRunLeavesNothing(t *testing.T) {
	t.Parallel()
	// Each step that the run says is a moment to die; it goes on while it is being killed, so that repeats hit different moments.
	steps := []string{"", "begin", "supervisor", "wait", "stubborn", "daemon", "parent", "ready"}
	for _, step := range append(steps, steps...) {
		t.Run("after "+step, func(t *testing.T) {
			t.Parallel()
			root, tag := newRoot(t), newTag(t)
			r := startRun(t, tag, root, "killed")
			if step != "" {
				r.until(t, step)
			}
			r.kill()
			tag.requireGone(t, root)
		})
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	root, tag := newRoot(t), newTag(t)
	s := startIn(t, root, "stopped")
	other := startIn(t, root, "other")
	survivor := spawnUp(t, other, tag.spec("wait"))
	for _, kind := range []string{"wait", "stubborn", "daemon", "parent"} {
		spawnUp(t, s, tag.spec(kind))
	}
	ended := spawnUp(t, s, tag.spec("wait"))
	locked := filepath.Join(s.Dir(), "locked")
	require.NoError(t, os.MkdirAll(filepath.Join(locked, "in"), 0o700))
	require.NoError(t, os.Chmod(locked, 0o500))

	require.NoError(t, s.Stop(t.Context(), 200*time.Millisecond))
	require.NoError(t, s.Err())
	require.Equal(t, []int{survivor.PID}, tag.alive(t), "all are gone, and nobody of the other run is")
	require.Equal(t, []string{other.Dir()}, list(root))

	_, err := s.Spawn(t.Context(), tag.spec("wait"))
	require.ErrorIs(t, err, errGone)
	require.ErrorIs(t, ended.Kill(), os.ErrProcessDone)
	require.NoError(t, s.Stop(t.Context(), 0), "again")
	require.NoError(t, other.Stop(t.Context(), 0))
	tag.requireGone(t, root)
	require.NoDirExists(t, root, "it went with its last run")
}

// Who is paused is let go, to hear that he is asked to end. The grace is longer than any machine is slow.
func TestStopLetsThePausedGo(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "paused"), newTag(t)
	paused := spawnUp(t, s, tag.spec("wait"))
	require.NoError(t, paused.Pause())
	require.NoError(t, s.Stop(t.Context(), time.Hour))
	require.Equal(t, syscall.SIGTERM, paused.Exit().Signal)
}

// A process that makes daemons as fast as it can, and does not stop when it is asked.
func TestStopIsFasterThanABreeder(t *testing.T) {
	t.Parallel()
	root, tag := newRoot(t), newTag(t)
	s := startIn(t, root, "breeder")
	spec := tag.spec("breeder")
	spec.Path, spec.Args = "/bin/sh", []string{"-c", `trap "" TERM; n=0; while [ $n -lt 2000 ]; do n=$((n+1)); (setsid sleep 300 &); done; sleep 300`}
	_, err := s.Spawn(t.Context(), spec)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(tag.alive(t)) > 100 }, patience, 50*time.Millisecond)
	require.NoError(t, s.Stop(t.Context(), 10*time.Millisecond))
	require.Empty(t, tag.alive(t))
	require.Empty(t, list(root))
}

func TestStopThatRunsOutOfTime(t *testing.T) {
	t.Parallel()
	root, tag := newRoot(t), newTag(t)
	s, err := Start(t.Context(), Options{Root: root, RunID: "late", OrphanGrace: time.Millisecond})
	require.NoError(t, err)
	p := spawnUp(t, s, tag.spec("stubborn"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Stop(ctx, time.Hour), context.DeadlineExceeded)
	<-s.Done()
	require.Equal(t, syscall.SIGKILL, wait(t, p).Signal, "the hour was cut short")
	tag.requireGone(t, root)
}

func TestTheSupervisorIgnoresWhatTheTerminalSends(t *testing.T) {
	t.Parallel()
	s, tag := startIn(t, newRoot(t), "signals"), newTag(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		require.NoError(t, syscall.Kill(s.PID(), sig))
	}
	p := spawnUp(t, s, tag.spec("wait"))
	require.NoError(t, p.Signal(syscall.SIGTERM), "and its children do not inherit that")
	require.Equal(t, syscall.SIGTERM, wait(t, p).Signal)

	sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(s.PID()), 0, 0)
	require.Zero(t, errno)
	require.Equal(t, s.PID(), int(sid), "a session of its own")
}

func TestKilledSupervisor(t *testing.T) {
	t.Parallel()
	root, tag := newRoot(t), newTag(t)
	s := startIn(t, root, "orphaned")
	p := spawnUp(t, s, tag.spec("stubborn"))
	spawnUp(t, s, tag.spec("daemon"))
	spawnUp(t, s, tag.spec("parent"))
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGKILL))
	<-s.Done()
	require.ErrorContains(t, s.Err(), "the supervisor died: signal: killed")
	require.True(t, wait(t, p).Lost)
	require.ErrorIs(t, p.Kill(), os.ErrProcessDone)
	require.Empty(t, tag.alive(t), "swept when Done is closed")
	require.Empty(t, list(root))
}

func TestSweepAfterBothWereKilled(t *testing.T) {
	t.Parallel()
	root, tag := newRoot(t), newTag(t)
	alive := startIn(t, root, "alive")
	survivor := spawnUp(t, alive, tag.spec("wait"))
	r := startRun(t, tag, root, "dead")
	r.until(t, "supervisor ")
	var pid int
	for _, p := range mustTable(t) {
		if p.parent == r.cmd.Process.Pid {
			pid = p.pid
		}
	}
	r.until(t, "ready")
	roots := []string{filepath.Join(root, "none"), root}
	require.ErrorIs(t, sweep(t.Context(), roots, "dead"), ErrAlive)

	require.NoError(t, r.cmd.Process.Signal(syscall.SIGSTOP)) // it does not get to sweep
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	r.kill()
	require.NotEmpty(t, list(root))
	require.Eventually(t, func() bool { p, ok := readProcess(pid); return !ok || p.dead }, patience, time.Millisecond, "its lock goes with it")

	swept, err := sweepDead(t.Context(), roots)
	require.NoError(t, err)
	require.Equal(t, []string{"dead"}, swept)
	require.Equal(t, []int{survivor.PID}, tag.alive(t))
	require.Equal(t, []string{alive.Dir()}, list(root))
	require.NoError(t, sweep(t.Context(), roots, "dead"), "nothing is left to sweep")
	require.ErrorIs(t, sweep(t.Context(), roots, "alive"), ErrAlive)
	require.Error(t, sweep(t.Context(), roots, "../dead"))
}

// The directory can be gone while processes live: something cleaned /tmp.
func TestSweepFindsProcessesWithoutADirectory(t *testing.T) {
	t.Parallel()
	root, tag := newRoot(t), newTag(t)
	dir := filepath.Join(root, "lost")
	cmd := helperCommand("stubborn")
	cmd.Env = []string{tagEnv + "=" + string(tag), Marker + "=" + dir}
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return len(tag.alive(t)) == 1 }, patience, time.Millisecond)
	swept, err := sweepDead(t.Context(), []string{root})
	require.NoError(t, err)
	require.Equal(t, []string{"lost"}, swept)
	require.ErrorContains(t, cmd.Wait(), "killed")
}

func mustTable(t *testing.T) []process {
	table, err := processTable()
	require.NoError(t, err)
	return table
}

// A supervisor that somebody has stopped answers nothing. Nobody waits for it for long, and nothing of it is left.
func TestAStoppedSupervisor(t *testing.T) {
	t.Parallel()
	root, tag := newRoot(t), newTag(t)
	s, err := Start(t.Context(), Options{Root: root, RunID: "stuck"})
	require.NoError(t, err)
	p := spawnUp(t, s, tag.spec("stubborn"))
	require.NoError(t, syscall.Kill(s.PID(), syscall.SIGSTOP))
	s.wait = 50 * time.Millisecond // from now on: until it is stopped it may take its time
	_, err = s.Spawn(t.Context(), tag.spec("wait"))
	require.ErrorIs(t, err, errStuck)
	require.ErrorIs(t, p.Kill(), errStuck)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = s.Stop(ctx, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "it did not answer, and was killed")
	require.True(t, wait(t, p).Lost)
	tag.requireGone(t, root)
}
