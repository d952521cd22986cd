//go:build linux

package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// helperArg makes the test binary one of the programs of helper.
const helperArg = "__helper"

// patience is how long what has to come may take on a busy machine.
const patience = time.Minute

// tagEnv marks all processes of one test, whoever started them.
const tagEnv = "SUPERVISOR_TEST_TAG"

func TestMain(m *testing.M) {
	Main()
	if len(os.Args) > 2 && os.Args[1] == helperArg {
		helper(os.Args[2], os.Args[3:])
		os.Exit(0)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // supervisors need not wait for reports of races after their end
	goleak.VerifyTestMain(m)
}

func helper(kind string, args []string) {
	switch kind {
	case "wait":
		say("up")
		forever()
	case "stubborn":
		stubborn()
	case "daemon":
		daemon()
	case "parent":
		parent()
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "burn":
		burn()
	case "copy":
		io.Copy(os.NewFile(4, "4"), os.NewFile(3, "3"))
	case "env":
		fmt.Println(os.Environ())
		fmt.Fprintln(os.Stderr, "and on stderr")
	case "where":
		where()
	case "run":
		fakeRun(args[0], args[1])
	}
}

func say(word string) { os.Stdout.WriteString(word + "\n") }

func forever() {
	for {
		<-time.After(time.Hour)
	}
}

// stubborn ignores whatever can be ignored.
func stubborn() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	say("up")
	forever()
}

// daemon leaves a stubborn process in a session of its own, and goes away.
func daemon() {
	cmd := helperCommand("stubborn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout = os.Stdout // says "up"
	if err := cmd.Start(); err != nil {
		say(err.Error())
	}
}

// parent has a child in its process group.
func parent() {
	cmd := helperCommand("stubborn")
	cmd.Stdout = os.Stdout
	if err := cmd.Start(); err != nil {
		say(err.Error())
	}
	cmd.Wait()
}

func burn() {
	b := bytes.Repeat([]byte{1}, 64<<20)
	var sum byte
	for range 10 {
		for _, x := range b {
			sum += x
		}
	}
	say(strconv.Itoa(int(sum)))
}

func where() {
	dir, _ := os.Getwd()
	nice, _ := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	fmt.Println(dir, 20-nice, syscall.Getpgrp() == os.Getpid())
}

// fakeRun starts a supervisor with all kinds of processes, and says each step.
func fakeRun(root, id string) {
	ctx := context.Background()
	say("begin")
	s, err := Start(ctx, Options{Root: root, RunID: id})
	if err != nil {
		say(err.Error())
		return
	}
	say("supervisor " + strconv.Itoa(s.PID()))
	if path, err := s.Socket("control.sock"); err == nil {
		_, err = net.Listen("unix", path)
		if err != nil {
			say(err.Error())
		}
	}
	for _, kind := range []string{"wait", "stubborn", "daemon", "parent"} {
		if _, err := s.Spawn(ctx, helperSpec(kind)); err != nil {
			say(err.Error())
		}
		say(kind)
	}
	say("ready")
	forever()
}

func helperCommand(args ...string) *exec.Cmd {
	return exec.Command("/proc/self/exe", append([]string{helperArg}, args...)...)
}

// helperSpec passes the tag on, and nothing else.
func helperSpec(args ...string) Spec {
	return Spec{
		Name: args[0],
		Path: "/proc/self/exe",
		Args: append([]string{helperArg}, args...),
		Env:  []string{tagEnv + "=" + os.Getenv(tagEnv)},
	}
}

// tag is unique to the test; spec is helperSpec with it.
type tag string

func newTag(t *testing.T) tag { return tag(fmt.Sprintf("%s-%d", t.Name(), os.Getpid())) }

func (g tag) spec(args ...string) Spec {
	spec := helperSpec(args...)
	spec.Env = []string{tagEnv + "=" + string(g)}
	return spec
}

// alive lists the living processes with the tag, besides this one.
func (g tag) alive(t *testing.T) []int {
	table, err := processTable()
	require.NoError(t, err)
	var pids []int
	for _, p := range table {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err == nil && !p.dead && bytes.Contains(env, []byte(tagEnv+"="+string(g)+"\x00")) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// requireGone waits until no process with the tag lives and the root holds nothing.
func (g tag) requireGone(t *testing.T, root string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(g.alive(t)) == 0 }, patience, 10*time.Millisecond, "processes are left: %v", lazy(func() any { return g.alive(t) }))
	require.Eventually(t, func() bool { return len(list(root)) == 0 }, patience, 10*time.Millisecond, "files are left: %v", lazy(func() any { return list(root) }))
}

type lazy func() any

func (l lazy) String() string { return fmt.Sprint(l()) }

func list(root string) []string {
	found, _ := filepath.Glob(filepath.Join(root, "*"))
	return found
}

// newRoot is a short folder: the path of the test's own would be too long for sockets.
func newRoot(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "sup")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "r")
}

func startIn(t *testing.T, root, id string) *Supervisor {
	s, err := Start(t.Context(), Options{Root: root, RunID: id})
	require.NoError(t, err)
	t.Cleanup(func() { s.Stop(context.Background(), 0) })
	return s
}

// spawnUp starts a helper that says "up", and waits for that word.
func spawnUp(t *testing.T, s *Supervisor, spec Spec) *Process {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	spec.Stdout = w
	p, err := s.Spawn(t.Context(), spec)
	w.Close()
	require.NoError(t, err)
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "up\n", line)
	return p
}
