package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxRSSUnit of rusage, in bytes.
const maxRSSUnit = 1024

// executable is this program also when its file was replaced or removed meanwhile.
func executable() (string, error) { return "/proc/self/exe", nil }

// adoptOrphans makes this process the parent of every descendant whose parent dies.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming a child subreaper: %w", err)
	}
	return nil
}

// setNice sets the priority of this thread, and so of the processes that it forks.
func setNice(nice int) error {
	if nice == 0 {
		return nil
	}
	return os.NewSyscallError("setpriority", unix.Setpriority(unix.PRIO_PROCESS, 0, nice))
}

func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// process is a line of the process table.
type process struct {
	pid, parent int
	dead        bool // waiting to be reaped, with all its threads
}

// processTable reads all processes. It is not a snapshot: a process that begins or changes its parent meanwhile can be missed.
func processTable() ([]process, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var table []process
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := readProcess(pid); ok {
				table = append(table, p)
			}
		}
	}
	return table, nil
}

// readProcess reads /proc/PID/stat: pid (name) state ppid ... with num_threads as the 20th field. The name may hold anything, also ")".
func readProcess(pid int) (process, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 18 {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return process{}, false
	}
	state, threads := fields[0], fields[17]
	return process{pid, parent, state == "X" || state == "Z" && (threads == "0" || threads == "1")}, true
}

// descendants lists the living descendants of the roots, which are not included, parents before their children.
func descendants(table []process, roots ...int) []int {
	children := map[int][]process{}
	for _, p := range table {
		children[p.parent] = append(children[p.parent], p)
	}
	var found []int
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			queue = append(queue, p.pid)
			if !p.dead {
				found = append(found, p.pid)
			}
		}
	}
	return found
}

// signalDescendants signals every living descendant of this process, and counts those that it may not signal. Where /proc is not
// mounted it reaches the process groups of the children only.
func signalDescendants(children []int, sig syscall.Signal) (signaled, denied int) {
	table, err := processTable()
	if err != nil {
		return signalGroups(children, sig)
	}
	self := os.Getpid()
	for _, pid := range descendants(table, self) {
		switch err := signalIf(pid, sig, func() bool { return descends(pid, self) }); {
		case err == nil:
			signaled++
		case errors.Is(err, syscall.EPERM):
			denied++
		}
	}
	return signaled, denied
}

// descends follows the parents of a process.
func descends(pid, ancestor int) bool {
	for pid > 1 {
		p, ok := readProcess(pid)
		if !ok {
			return false
		}
		if p.parent == ancestor {
			return true
		}
		pid = p.parent
	}
	return false
}

// signalIf signals the process that has the pid now, if it is the one that is meant. The order makes it safe against a pid that is
// given to another process meanwhile: what is checked is either the process that was opened, or that one is dead.
func signalIf(pid int, sig syscall.Signal, meant func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, or a filter of system calls that does not know it
		if meant() {
			return syscall.Kill(pid, sig)
		}
		return syscall.ESRCH
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !meant() {
		return syscall.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// killMarked kills the processes whose environment carries the marker of the runtime directory, and their descendants, until none is found twice in a
// row: reading /proc is not a snapshot.
func killMarked(ctx context.Context, dir string) error {
	tick := time.NewTicker(endTick)
	defer tick.Stop()
	for empty := 0; empty < 2; {
		left, err := killMarkedOnce(dir)
		if err != nil {
			return err
		}
		if left == 0 {
			empty++
			continue
		}
		empty = 0
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("killing what is left of %s, %d processes: %w", filepath.Base(dir), left, context.Cause(ctx))
		}
	}
	return nil
}

func killMarkedOnce(dir string) (left int, err error) {
	table, err := processTable()
	if err != nil {
		return 0, err
	}
	self := os.Getpid()
	for _, p := range table {
		if p.dead || p.pid == self || marker(p.pid) != dir {
			continue
		}
		left++
		for _, child := range descendants(table, p.pid) {
			if child != self {
				signalIf(child, syscall.SIGKILL, func() bool { return descends(child, p.pid) })
			}
		}
		if err := signalIf(p.pid, syscall.SIGKILL, func() bool { return marker(p.pid) == dir }); errors.Is(err, syscall.EPERM) {
			return left, fmt.Errorf("killing process %d: %w", p.pid, err)
		}
	}
	return left, nil
}

// marker is the runtime directory of the run that the process belongs to, or "". What another user runs cannot be read.
func marker(pid int) string {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return ""
	}
	for pair := range bytes.SplitSeq(env, []byte{0}) {
		if dir, ok := bytes.CutPrefix(pair, []byte(Marker+"=")); ok {
			return string(dir)
		}
	}
	return ""
}

// markedDirs are the runtime directories that processes of this user belong to.
func markedDirs() ([]string, error) {
	table, err := processTable()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, p := range table {
		if dir := marker(p.pid); dir != "" && !p.dead {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}
