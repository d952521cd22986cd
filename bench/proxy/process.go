package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a process may take to listen, and to end.
const patience = 30 * time.Second

// process is a program that serves while it is measured.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string // path of its output
	ended chan struct{}
}

// start starts a program whose output goes to a file in the folder.
func start(dir, name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // how it ended stands in its log
	}()
	return p, nil
}

// listening waits until somebody answers at the address.
func (p *process) listening(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended: %s", p.name, p.said())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s at %s: %w: %s", p.name, address, ctx.Err(), p.said())
		case <-tick.C:
		}
	}
}

// said is the end of what the program printed.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	text = bytes.TrimSpace(text)
	return string(text[max(0, len(text)-2000):])
}

// stop asks the program to end, and insists when it does not.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// tree is the process and all its descendants.
func (p *process) tree() []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, parent, err := parentOf(path)
		if err == nil { // else it has just ended
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// parentOf reads the third and fourth words of /proc/PID/stat; the second one, a name in brackets, may contain anything.
func parentOf(path string) (pid, parent int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return 0, 0, fmt.Errorf("%s is cut off", path)
	}
	pid, err = strconv.Atoi(first)
	parent, wrong := strconv.Atoi(fields[1])
	return pid, parent, errors.Join(err, wrong)
}

// cpu is the processor time that the process and its descendants have used, in user space and in the kernel, their ended threads' too.
//
// /proc/PID/stat knows the same in ticks of 10 ms, which is coarse for a short round; the clock of a process (clock_getcpuclockid(3)) counts nanoseconds.
func (p *process) cpu() (total time.Duration, err error) {
	for _, pid := range p.tree() {
		var now unix.Timespec
		if err := unix.ClockGettime(clockOf(pid), &now); err != nil {
			return 0, fmt.Errorf("reading the processor clock of %s: %w", p.name, err)
		}
		total += time.Duration(now.Nano())
	}
	return total, nil
}

// clockOf is what clock_getcpuclockid makes of a process: the id's complement, and CPUCLOCK_SCHED in the lowest bits.
func clockOf(pid int) int32 { return int32(^pid<<3 | 2) }

// resident is the memory of the process that is in RAM, in bytes.
func (p *process) resident() (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of %s: %w", p.name, err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("reading the memory of %s: there is no VmRSS", p.name)
}
