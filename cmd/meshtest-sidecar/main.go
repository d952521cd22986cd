// Command meshtest-sidecar is the data plane as a process: it stands beside one workload and carries its traffic, in and out, as the control plane says.
//
// On one machine, what it must know to begin, tokens included, is one JSON document on an inherited descriptor, so that nothing secret is in its arguments or its environment. In a pod it is the pod's
// environment and a volume of secrets, and an init container brings the application's traffic to it first. Without the control plane it goes on with the last configuration that was good.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/internal/version"
)

const usage = `meshtest-sidecar carries the traffic of one workload of a mesh.

Usage:
  meshtest-sidecar -f RULES --listen ADDRESS [flags]
  meshtest-sidecar --bootstrap-fd N
  meshtest-sidecar pod
  meshtest-sidecar capture [flags]
  meshtest-sidecar version

It serves what the control plane says until SIGTERM or SIGINT, finishes the requests in flight, and logs JSON to standard error. A second signal ends it at once.

On one machine it reads one JSON document from descriptor N until its end: {"run": ID, "workload": {"name": ..., "instance": ..., ...}, "control": SOCKET, "token": T,
"direct": SOCKET, "directToken": T, "admin": SOCKET, "edgeToken": T, "logLevel": "INFO", "drain": NANOSECONDS}. The admin socket answers GET / with what may be asked: /ready,
/metrics, /stats, /config_dump, /clusters and /logging, and POST /logging?level=debug.

` + standaloneUsage + `
` + podUsage + `
` + captureUsage + `
Exit codes: 0 stopped as asked, or installed; 1 could not; 2 wrong usage, or rules that are wrong.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake of whoever called.
type usageError struct{ error }

func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdout, stderr)
	var wrong usageError
	var rules invalidRules
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "meshtest-sidecar: %v\nmeshtest-sidecar --help lists commands and flags\n", err) // the usage would push the mistake off the screen
		return 2
	case errors.As(err, &rules):
		fmt.Fprintln(stderr, err)
		return 2
	default:
		fmt.Fprintf(stderr, "meshtest-sidecar: %v\n", err)
		return 1
	}
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	verb := ""
	if len(args) > 0 {
		verb, _, _ = strings.Cut(args[0], "=")
	}
	switch verb {
	case "version", "--version":
		_, err := fmt.Fprintln(stdout, "meshtest-sidecar", version.String(), "protocol", wire.Version)
		return err
	case "capture":
		return captureTraffic(ctx, args[1:], os.Getenv, stdout)
	case "pod":
		return servePod(ctx, args[1:], os.Getenv, stdout, stderr)
	case "--bootstrap-fd", "-bootstrap-fd":
		return serveBootstrap(ctx, args, stdout, stderr)
	default:
		return serveStandalone(ctx, args, stdout, stderr)
	}
}

// parse parses the flags of a verb, which takes no other arguments. It reports false when the answer was help.
func parse(flags *flag.FlagSet, args []string, stdout io.Writer) (goOn bool, err error) {
	flags.SetOutput(io.Discard)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		_, err = io.WriteString(stdout, usage)
		return false, err
	case err != nil:
		return false, usageError{err}
	case flags.NArg() > 0:
		return false, usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	}
	return true, nil
}

// newLog returns the process's log, and its level.
func newLog(to io.Writer, at slog.Level) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	level.Set(at)
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level})), level
}

func serveBootstrap(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("meshtest-sidecar", flag.ContinueOnError)
	fd := flags.Int("bootstrap-fd", -1, "")
	if goOn, err := parse(flags, args, stdout); !goOn {
		return err
	}
	if *fd < 0 {
		return usageError{errors.New("--bootstrap-fd is missing")}
	}
	b, err := readBootstrap(*fd)
	if err != nil {
		return fmt.Errorf("reading the bootstrap from descriptor %d: %w", *fd, err)
	}
	log, level := newLog(stderr, b.LogLevel)
	log.Info("starting", "run", b.Run, "instance", b.Workload.Instance, "version", version.String())
	s, err := b.sidecar(log, level)
	if err != nil {
		return err
	}
	return s.run(ctx)
}
