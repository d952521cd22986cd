// Command meshtest-load sends load from where it runs, a pod for instance, for a run of meshtest that is elsewhere.
//
// It needs no files but the one with its token, no privileges, and nothing that it could write to.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"meshtest.dev/meshtest/internal/version"
	"meshtest.dev/meshtest/load/agent"
)

// tokenVariable is where the token is when no file is named.
const tokenVariable = "MESHTEST_LOAD_TOKEN"

const usage = `meshtest-load sends load for a run of meshtest that is elsewhere, and tells it of every request.

Usage:
  meshtest-load serve --listen HOST:PORT [--token-file FILE] [--log-level LEVEL]
  meshtest-load version

  --listen      TCP address to listen on; it is not encrypted, so keep it on 127.0.0.1 and come through a port-forward
  --token-file  file with the token that clients must show; without it the token is in ` + tokenVariable + `
  --log-level   DEBUG, INFO (the default), WARN or ERROR

It serves until SIGTERM or SIGINT, and logs JSON to standard error. Load whose driver is gone stops by itself.

Exit codes: 0 stopped as asked, 1 could not serve, 2 wrong usage.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := command(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// usageError is a mistake of whoever called.
type usageError struct{ error }

func command(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	err := run(ctx, args, getenv, stdout, stderr)
	var wrong usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "meshtest-load: %v\n\n%s", err, usage)
		return 2
	default:
		fmt.Fprintf(stderr, "meshtest-load: %v\n", err)
		return 1
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usageError{errors.New("say what to do: serve or version")}
	}
	switch args[0] {
	case "version", "--version":
		_, err := fmt.Fprintln(stdout, "meshtest-load", version.String(), "protocol", agent.Version)
		return err
	case "help", "--help", "-h":
		_, err := io.WriteString(stdout, usage)
		return err
	case "serve":
		o, err := parse(args[1:])
		if errors.Is(err, flag.ErrHelp) {
			_, err = io.WriteString(stdout, usage)
			return err
		}
		if err != nil {
			return usageError{err}
		}
		return o.serve(ctx, getenv, stderr)
	default:
		return usageError{fmt.Errorf("unknown command %q", args[0])}
	}
}

// options of serve.
type options struct {
	listen    string
	tokenFile string
	level     slog.Level
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.listen, "listen", "", "")
	flags.StringVar(&o.tokenFile, "token-file", "", "")
	flags.TextVar(&o.level, "log-level", slog.LevelInfo, "")
	switch err := flags.Parse(args); {
	case err != nil:
		return options{}, err
	case flags.NArg() > 0:
		return options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.listen == "":
		return options{}, errors.New("--listen is missing")
	}
	return o, nil
}

func (o options) serve(ctx context.Context, getenv func(string) string, stderr io.Writer) error {
	token, err := o.token(getenv)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: o.level}))
	log.Info("serving", "address", l.Addr().String(), "version", version.String(), "protocol", agent.Version)
	server := agent.Server{Token: token, Log: log}
	if err := server.Serve(ctx, l); err != nil {
		return err
	}
	log.Info("stopped as asked")
	return nil
}

// token is read once: a run's agent lives no longer than its token.
func (o options) token(getenv func(string) string) (string, error) {
	where, token := tokenVariable, getenv(tokenVariable)
	if o.tokenFile != "" {
		content, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		where, token = o.tokenFile, string(content)
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", fmt.Errorf("there is no token in %s", where)
	}
	return token, nil
}
