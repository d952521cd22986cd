// Command meshtest-control is the control plane as a process: on one machine it serves configuration to sidecars on a Unix socket; in a cluster it finds out what runs there, serves that with
// the rules of the run, and has pods injected.
//
// On one machine, what it must know, tokens included, is one JSON document on an inherited descriptor, so that nothing secret is in its arguments or its environment. In a cluster, secrets are files of a volume.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/internal/version"
)

// bootstrap is the document on the bootstrap descriptor.
type bootstrap struct {
	Socket      string        `json:"socket"`      // path to listen on
	OwnerToken  string        `json:"ownerToken"`  // who shows it may change the configuration
	InstanceKey string        `json:"instanceKey"` // sidecars show what wire.InstanceToken derives from it
	Epoch       uint64        `json:"epoch"`       // grows with every start; 0: the milliseconds since 1970
	Drain       time.Duration `json:"drain"`       // nanoseconds; 0: control.DefaultDrain
	LogLevel    slog.Level    `json:"logLevel"`    // DEBUG, INFO, WARN or ERROR
}

const usage = `meshtest-control serves configuration to the sidecars of a meshtest run.

Usage:
  meshtest-control --bootstrap-fd N
  meshtest-control --kubernetes --namespace REAL[=LOGICAL]... --sidecar-image REF [--run ID] [--secrets DIR] [--log-level LEVEL] [--kubeconfig FILE]
  meshtest-control version

On one machine it reads one JSON document from descriptor N until its end:
  {"socket": PATH, "ownerToken": T, "instanceKey": K, "epoch": E, "drain": NANOSECONDS, "logLevel": "INFO"}

In a cluster (--kubernetes) the environment says which pod it is (POD_NAME, POD_NAMESPACE).
  --namespace REAL[=LOGICAL]  a namespace with applications, and what the mesh calls it; again for each
  --sidecar-image REF         what is injected into pods
  --run ID                    of the run that it belongs to; told to sidecars
  --secrets DIR               with tls.crt, tls.key, owner-token and instance-key (` + names.SecretsDir + `)
  --log-level LEVEL           its own and the sidecars': DEBUG, INFO, WARN or ERROR (INFO)
  --kubeconfig FILE           how to reach the API server from outside the cluster
Ports: 15012 sidecars and the run (TLS), 15014 /metrics, 15017 the injection webhook (HTTPS), 15021 /healthz/live and /healthz/ready.

It serves until SIGTERM or SIGINT, and logs JSON to standard error.

Exit codes: 0 stopped as asked, 1 could not serve, 2 wrong usage.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
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
		fmt.Fprintf(stderr, "meshtest-control: %v\n\n%s", err, usage)
		return 2
	default:
		fmt.Fprintf(stderr, "meshtest-control: %v\n", err)
		return 1
	}
}

func serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && (args[0] == "version" || args[0] == "--version") {
		_, err := fmt.Fprintln(stdout, "meshtest-control", version.String(), "protocol", wire.Version)
		return err
	}
	flags := flag.NewFlagSet("meshtest-control", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	fd := flags.Int("bootstrap-fd", -1, "")
	inCluster := flags.Bool("kubernetes", false, "")
	options := clusterFlags(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		_, err = io.WriteString(stdout, usage)
		return err
	case err != nil:
		return usageError{err}
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	case *inCluster && *fd >= 0:
		return usageError{errors.New("--kubernetes and --bootstrap-fd exclude each other")}
	case *inCluster:
		return serveCluster(ctx, options, stderr)
	case *fd < 0:
		return usageError{errors.New("--bootstrap-fd is missing, or --kubernetes")}
	}
	return serveSocket(ctx, *fd, stderr)
}

// serveSocket is the control plane of one machine.
func serveSocket(ctx context.Context, fd int, stderr io.Writer) error {
	b, err := readBootstrap(fd)
	if err != nil {
		return fmt.Errorf("reading the bootstrap from descriptor %d: %w", fd, err)
	}
	listener, err := wire.Listen(b.Socket)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: b.LogLevel}))
	log.Info("serving", "socket", b.Socket, "epoch", b.Epoch, "version", version.String())
	server := control.New(control.Options{Epoch: b.Epoch, Drain: b.Drain, OwnerToken: b.OwnerToken, InstanceKey: b.InstanceKey, Log: log})
	return server.Serve(ctx, listener)
}

func readBootstrap(fd int) (bootstrap, error) {
	file := os.NewFile(uintptr(fd), "bootstrap descriptor "+strconv.Itoa(fd))
	if file == nil {
		return bootstrap{}, errors.New("there is no such descriptor")
	}
	defer file.Close()
	var b bootstrap
	dec := json.NewDecoder(file)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		return bootstrap{}, err
	}
	if b.Socket == "" || b.OwnerToken == "" || b.InstanceKey == "" {
		return bootstrap{}, errors.New("socket, ownerToken and instanceKey must not be empty")
	}
	if b.Epoch == 0 {
		b.Epoch = uint64(time.Now().UnixMilli())
	}
	return b, nil
}
