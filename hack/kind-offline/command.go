package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command runs a program; its zero values are those of exec.Cmd.
type command struct {
	name      string
	arguments []string
	folder    string
	env       []string // added to this process's
	stdin     io.Reader
	log       string // a file that gets what it prints, appended; empty: only an error quotes it
	root      string // the folder that the program takes for the root of the file system
	isolated  bool   // with mounts and processes of its own: nothing it mounts or starts is there afterwards
}

// quoted is how many lines of a program's output an error quotes.
const quoted = 15

// run returns what the program printed on stdout. When ctx is done the program is killed with everything it started; when this process is killed,
// the program is too.
func (c command) run(ctx context.Context) (string, error) {
	runtime.LockOSThread() // the kernel takes the end of the thread that started the program for the end of its parent
	defer runtime.UnlockOSThread()
	var stdout bytes.Buffer
	var all transcript
	cmd := exec.CommandContext(ctx, c.name, c.arguments...)
	cmd.Dir, cmd.Env, cmd.Stdin = c.folder, append(os.Environ(), c.env...), c.stdin
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, &all), &all
	if c.log != "" {
		log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return "", err
		}
		defer log.Close()
		fmt.Fprintf(log, "\n$ %s\n", strings.Join(cmd.Args, " "))
		all.log = log
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: c.root}
	if c.isolated {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	where := ""
	if c.log != "" {
		where = " (all of it: " + c.log + ")"
	}
	said := strings.TrimSpace(lastLines(all.text.String(), quoted))
	if said == "" || errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s: %w", filepath.Base(c.name), err)
	}
	return "", fmt.Errorf("%s %s: %w%s\n%s", filepath.Base(c.name), firstWord(c.arguments), err, where, said)
}

// transcript collects what a program prints on both of its outputs, which come at the same time.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
	log  io.Writer // nil: nowhere else
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p)
	if t.log == nil {
		return len(p), nil
	}
	return t.log.Write(p)
}

func firstWord(arguments []string) string {
	if len(arguments) == 0 {
		return ""
	}
	return arguments[0]
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
