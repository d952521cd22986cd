// Command meshtest-sidecar is the data plane as a process: it stands beside one workload and carries its traffic, in and out, as the control plane says.
//
// What it must know to begin, tokens included, is one JSON document on an inherited descriptor, so that nothing secret is in its arguments or its environment. Without the control
// plane it goes on with the last configuration that was good.
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
	"syscall"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/internal/version"
)

const usage = `meshtest-sidecar carries the traffic of one workload of a mesh.

Usage:
  meshtest-sidecar --bootstrap-fd N
  meshtest-sidecar version

It reads one JSON document from descriptor N until its end: {"run": ID, "workload": {"name": ..., "instance": ..., ...}, "control": SOCKET, "token": T,
"direct": SOCKET, "directToken": T, "admin": SOCKET, "edgeToken": T, "logLevel": "INFO", "drain": NANOSECONDS}.
Then it serves what the control plane says until SIGTERM or SIGINT, finishes the requests in flight, and logs JSON to standard error. A second signal ends it at once.

The admin socket answers GET /ready, /metrics, /stats, /config_dump, /clusters and /logging, and POST /logging?level=debug.

Exit codes: 0 stopped as asked, 1 could not serve, 2 wrong usage.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake of whoever called.
type usageError struct{ error }

func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := serve(ctx, args, stdout, stderr)
	var wrong usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "meshtest-sidecar: %v\n\n%s", err, usage)
		return 2
	default:
		fmt.Fprintf(stderr, "meshtest-sidecar: %v\n", err)
		return 1
	}
}

func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && (args[0] == "version" || args[0] == "--version") {
		_, err := fmt.Fprintln(stdout, "meshtest-sidecar", version.String(), "protocol", wire.Version)
		return err
	}
	flags := flag.NewFlagSet("meshtest-sidecar", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	fd := flags.Int("bootstrap-fd", -1, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		_, err = io.WriteString(stdout, usage)
		return err
	case err != nil:
		return usageError{err}
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	case *fd < 0:
		return usageError{errors.New("--bootstrap-fd is missing")}
	}
	b, err := readBootstrap(*fd)
	if err != nil {
		return fmt.Errorf("reading the bootstrap from descriptor %d: %w", *fd, err)
	}
	level := &slog.LevelVar{}
	level.Set(b.LogLevel)
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level}))
	log.Info("starting", "run", b.Run, "instance", b.Workload.Instance, "version", version.String())
	s, err := newSidecar(b, log, level)
	if err != nil {
		return err
	}
	return s.run(ctx)
}
