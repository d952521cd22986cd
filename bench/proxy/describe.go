package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// describe prints what figures depend on: the machine, what else it does, and who takes part.
func describe(ctx context.Context, w io.Writer, o options, binaries programs, origin string) {
	busy, _, _ := strings.Cut(content("/proc/loadavg"), " ")
	fmt.Fprintf(w, "machine: %d processors (%s), Linux %s, load average %s before it began (figures of a busy machine say little)\n",
		runtime.NumCPU(), processor(), content("/proc/sys/kernel/osrelease"), busy)
	fmt.Fprintf(w, "rounds: %d, %v for each contender, everybody on %d thread(s)\norigin: %s\n", o.rounds, o.turn, o.threads, origin)
	for _, tool := range []struct {
		name string
		args []string
	}{{binaries[sidecar], []string{"version"}}, {haproxy, []string{"-v"}}, {nginx, []string{"-v"}}, {"wrk", []string{"-v"}}, {"h2load", []string{"--version"}}, {"perf", []string{"--version"}}, {"strace", []string{"--version"}}} {
		fmt.Fprintf(w, "  %s\n", version(ctx, tool.name, tool.args))
	}
	fmt.Fprintf(w, "  %s: built with %s\n\n", reverseProxy, runtime.Version())
}

// version is the first line that a program says of itself.
func version(ctx context.Context, name string, args []string) string {
	if needs(name) != nil {
		return missing(name).Error()
	}
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput() // wrk tells its version as an error
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

func processor() string {
	for line := range strings.Lines(content("/proc/cpuinfo")) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(rest, " \t:\n")
		}
	}
	return runtime.GOARCH
}

// content is that of a small file, or nothing.
func content(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
