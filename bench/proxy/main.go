// Command proxy measures what the data plane costs beside those that are known to be cheap: the sidecar alone, with routing by a header, metrics and trace context on, against HAProxy, nginx and net/http/httputil's
// ReverseProxy, all in one run and in turns. It prints what was found beside what is promised; figures are never an exit code, because they are the machine's as well. docs/design/008-measuring-the-data-plane.md says how
// to read it.
//
// What is not installed of nginx, haproxy, wrk, h2load, perf and strace is named, and measured around.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"meshtest.dev/meshtest/bench/rig"
)

// The parts of the program, by the names that -only takes.
const (
	partHTTP1    = "http1"
	partTLS      = "tls"
	partHTTP2    = "http2"
	partLatency  = "latency"
	partSyscalls = "syscalls"
	partMemory   = "memory"
)

var parts = []string{partHTTP1, partTLS, partHTTP2, partLatency, partSyscalls, partMemory}

// options are what the flags say.
type options struct {
	binary  string // of the sidecar
	rounds  int
	turn    time.Duration // of one contender in a round
	open    time.Duration // of the open loops of the latency part
	threads int
	idle    int // connections
	only    []string
	verbose bool
}

func main() {
	o := options{turn: 2 * time.Second, open: 5 * time.Second, only: parts}
	quick := flag.Bool("quick", false, "few and short rounds: shows that all works, and little more")
	flag.StringVar(&o.binary, "sidecar", filepath.Join("bin", "meshtest-sidecar"), "the sidecar's binary, which make build makes")
	flag.IntVar(&o.rounds, "rounds", 0, "rounds of each comparison (7; with -quick 3)")
	flag.IntVar(&o.threads, "threads", 1, "threads of every contender: HAProxy's nbthread, nginx's worker_processes, GOMAXPROCS")
	flag.IntVar(&o.idle, "idle", 10_000, "idle connections whose memory is measured; twice as many descriptors are open, and the sidecar takes 10,000")
	flag.BoolVar(&o.verbose, "v", false, "say on standard error what is being measured")
	flag.Func("only", "comma-separated parts: "+strings.Join(parts, ", "), func(text string) error {
		o.only = strings.Split(text, ",")
		for _, part := range o.only {
			if !slices.Contains(parts, part) {
				return fmt.Errorf("there is no part %q", part)
			}
		}
		return nil
	})
	flag.Parse()
	rounds := 7
	if *quick {
		rounds, o.turn, o.open = 3, time.Second, 2*time.Second
	}
	if o.rounds <= 0 {
		o.rounds = rounds
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

// measure does it all, and returns an error for what could not be measured although it was there.
func measure(ctx context.Context, o options, w io.Writer) error {
	dir, remove, err := rig.Folder()
	if err != nil {
		return err
	}
	defer remove()
	b, err := newBed(ctx, dir, o.threads)
	if err != nil {
		return err
	}
	defer b.close()
	binaries, err := find(ctx, o.binary, dir)
	if err != nil {
		return err
	}
	describe(ctx, w, o, binaries, b.origin)
	s := &session{options: o, bed: b, programs: binaries, out: w, plain: map[string]*contender{}, secure: map[string]*contender{}}
	defer s.close()
	err = s.run(ctx)
	return errors.Join(err, printBars(w, s.bars))
}

// find finds the contenders' binaries, and builds the one that is ours to build.
func find(ctx context.Context, ours, dir string) (programs, error) {
	ours, err := filepath.Abs(ours)
	if err == nil {
		_, err = os.Stat(ours)
	}
	if err != nil {
		return nil, fmt.Errorf("finding the sidecar (make build makes it): %w", err)
	}
	found := programs{sidecar: ours, reverseProxy: filepath.Join(dir, reverseProxy)}
	build := exec.CommandContext(ctx, "go", "build", "-o", found[reverseProxy], "./bench/proxy/reverseproxy")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the reverse proxy (from the top of the repository): %w: %s", err, out)
	}
	for _, name := range []string{haproxy, nginx} {
		if path, err := exec.LookPath(name); err == nil {
			found[name] = path
		}
	}
	return found, nil
}
