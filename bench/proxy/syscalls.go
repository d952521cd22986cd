package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// calls are the system calls that a process has made, by name.
type calls map[string]call

// call is how often one was made, and how often the kernel refused.
type call struct{ made, refused uint64 }

// readers and writers are the calls that move data of a connection. A read that was refused found none.
var (
	readers = []string{"read", "readv", "recvfrom", "recvmsg"}
	writers = []string{"write", "writev", "sendto", "sendmsg"}
)

// moved is how often calls of these names moved data.
func (c calls) moved(names []string) (n uint64) {
	for _, name := range names {
		n += c[name].made - c[name].refused
	}
	return n
}

func (c calls) all() (n uint64) {
	for _, one := range c {
		n += one.made
	}
	return n
}

// counter counts the system calls of processes while load is on them.
type counter struct {
	name  string
	count func(ctx context.Context, pids []int, during func() error) (calls, error)
}

// newCounter prefers perf, which counts in the kernel: strace stops the process at every call, and a proxy that is slowed down that much finds more to do at once.
func newCounter() (counter, error) {
	if exec.Command("perf", "stat", "-e", perfAll, "true").Run() == nil {
		return counter{"perf", countWithPerf}, nil
	}
	if exec.Command("strace", "-c", "-f", "-o", "/dev/null", "true").Run() == nil {
		return counter{"strace, which slows down what it counts", countWithStrace}, nil
	}
	return counter{}, missing("perf that may use tracepoints, or strace,")
}

// perfAll is the tracepoint of every system call.
const perfAll = "raw_syscalls:sys_enter"

// others is what the calls that have no name of their own below are counted as.
const others = "others"

// named are the calls that perf counts by name; each costs two events.
var named = slices.Concat(readers, writers, []string{"epoll_wait", "epoll_pwait", "epoll_ctl", "futex", "nanosleep"})

func countWithPerf(ctx context.Context, pids []int, during func() error) (calls, error) {
	args := []string{"stat", "-x", ",", "-p", join(pids), "-e", perfAll}
	for _, name := range named {
		args = append(args, "-e", "syscalls:sys_enter_"+name, "-e", "syscalls:sys_exit_"+name, "--filter", "ret < 0")
	}
	out, err := attached(ctx, exec.Command("perf", args...), during)
	if err != nil {
		return nil, err
	}
	return readPerf(out)
}

// readPerf reads the lines of perf stat -x: VALUE,UNIT,EVENT,...
func readPerf(out string) (calls, error) {
	lines := csv.NewReader(strings.NewReader(out))
	lines.FieldsPerRecord, lines.Comment, lines.LazyQuotes = -1, '#', true
	rows, err := lines.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("reading what perf said: %w: %s", err, out)
	}
	found, all, seen := calls{}, uint64(0), false
	for _, row := range rows {
		if len(row) < 3 {
			continue
		}
		n, err := strconv.ParseUint(row[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("perf did not count %s: %s", row[2], row[0])
		}
		_, event, _ := strings.Cut(row[2], ":")
		name, entered := strings.CutPrefix(event, "sys_enter_")
		switch refused, left := strings.CutPrefix(event, "sys_exit_"); {
		case row[2] == perfAll:
			all, seen = n, true
		case entered:
			found[name] = call{n, found[name].refused}
		case left:
			found[refused] = call{found[refused].made, n}
		}
	}
	if !seen {
		return nil, fmt.Errorf("perf did not count system calls: %s", out)
	}
	found[others] = call{made: all - min(all, found.all())}
	return found, nil
}

func countWithStrace(ctx context.Context, pids []int, during func() error) (calls, error) {
	args := []string{"-c", "-f"}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	out, err := attached(ctx, exec.Command("strace", args...), during)
	if err != nil {
		return nil, err
	}
	return readStrace(out)
}

// readStrace reads the table of strace -c: % time, seconds, usecs/call, calls, errors (which may be empty), syscall.
func readStrace(out string) (calls, error) {
	found := calls{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 5 || len(f) > 6 || f[len(f)-1] == "total" {
			continue
		}
		made, err := strconv.ParseUint(f[3], 10, 64)
		if err != nil {
			continue // the heading, or "strace: Process N attached"
		}
		var refused uint64
		if len(f) == 6 {
			if refused, err = strconv.ParseUint(f[4], 10, 64); err != nil {
				return nil, fmt.Errorf("reading what strace said: %s", line)
			}
		}
		found[f[len(f)-1]] = call{made, refused}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("strace counted nothing: %s", out)
	}
	return found, nil
}

// settling is how long a counter gets to attach itself.
const settling = 500 * time.Millisecond

// attached runs a program that counts until it is interrupted, and returns what it said then. Both report to standard error.
func attached(ctx context.Context, cmd *exec.Cmd, during func() error) (string, error) {
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	wait(ctx, settling)
	err := during()
	err = errors.Join(err, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait() // interrupted, as asked
	return said.String(), err
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func join(pids []int) string {
	var all []string
	for _, pid := range pids {
		all = append(all, strconv.Itoa(pid))
	}
	return strings.Join(all, ",")
}

// tally is what the system calls of one contender were, for each request.
type tally struct {
	contender   string
	connections int
	requests    uint64
	calls       calls
}

func (t tally) each(n uint64) float64 { return float64(n) / float64(t.requests) }

// minus is what was called in the longer of two counts and not in the shorter one.
func (c calls) minus(shorter calls) calls {
	left := calls{}
	for name, long := range c {
		short := shorter[name]
		left[name] = call{long.made - min(long.made, short.made), long.refused - min(long.refused, short.refused)}
	}
	return left
}

// tally counts a contender's system calls under load. It does so twice, for a shorter time and for a longer one: the difference is without what it takes to accept and to make connections, and to end them.
func (c counter) tally(ctx context.Context, name string, of *contender, connections int) (tally, error) {
	t := tally{contender: name, connections: connections, calls: calls{}}
	for _, turn := range []time.Duration{time.Second, 4 * time.Second} {
		var requests uint64
		counted, err := c.count(ctx, of.tree(), func() (err error) {
			requests, err = overHTTP1(ctx, of, connections, turn)
			return err
		})
		if err == nil && requests <= t.requests {
			err = fmt.Errorf("%v of load were no more requests than a second", turn)
		}
		if err != nil {
			return t, fmt.Errorf("counting the system calls of %s: %w", name, err)
		}
		t.requests, t.calls = requests-t.requests, counted.minus(t.calls)
	}
	return t, nil
}

func printTallies(w io.Writer, with string, tallies []tally) error {
	fmt.Fprintf(w, "system calls per request, counted with %s\n", with)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "connections\tcontender\tall\tdata reads\twrites\tmost frequent, refused ones behind a slash")
	for _, one := range tallies {
		fmt.Fprintf(t, "%d\t%s\t%.2f\t%.2f\t%.2f\t%s\n", one.connections, one.contender, one.each(one.calls.all()), one.each(one.calls.moved(readers)), one.each(one.calls.moved(writers)), one.frequent())
	}
	fmt.Fprintln(t)
	return t.Flush()
}

// frequent lists the calls that are made at least once in a hundred requests.
func (t tally) frequent() string {
	names := make([]string, 0, len(t.calls))
	for name, c := range t.calls {
		if t.each(c.made) >= 0.01 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if t.calls[a].made != t.calls[b].made {
			return int(t.calls[b].made) - int(t.calls[a].made)
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		text := fmt.Sprintf("%s %.2f", name, t.each(t.calls[name].made))
		if refused := t.each(t.calls[name].refused); refused >= 0.01 {
			text += fmt.Sprintf("/%.2f", refused)
		}
		names[i] = text
	}
	return strings.Join(names, ", ")
}
