// Command meshtest decides whether a change is safe to ship: it stands a service mesh up around an application, drives load, injects faults, shifts traffic to a new
// version step by step, judges the version on evidence, promotes it or rolls it back, and reports.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/env/local/supervisor"
	"meshtest.dev/meshtest/internal/version"
	"meshtest.dev/meshtest/run"
)

// Exit codes. They are part of the contract: a CI job gates on them.
const (
	exitOK           = 0
	exitBad          = 1 // judged bad
	exitUsage        = 2 // wrong usage or invalid scenario
	exitInconclusive = 3
	exitEnvironment  = 4 // environment or harness failure, invalid evidence, guard stop
)

const exitCodesHelp = `Exit codes:
  0    all expectations held; without "expect", the roll-out was promoted
  1    judged bad; a candidate that never becomes ready included
  2    wrong usage or an invalid scenario: nothing was started
  3    inconclusive: not enough evidence
  4    environment or harness failure, invalid evidence, or a guard stop
  130  interrupted by SIGINT, and healed
  143  interrupted by SIGTERM, and healed`

func main() {
	supervisor.Main()                                       // does not return when this process is a run's supervisor
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // whoever stops reading the narration does not end the run
	ctx, stop := untilSignal()
	code := execute(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// streams are where a command reads and writes: data on out, narration on err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// untilSignal ends with the first SIGINT or SIGTERM, which a run answers by healing and taking down; the second ends the process at once, and then the
// supervisor cleans up.
func untilSignal() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for first := true; ; first = false {
			sig, ok := <-signals
			if !ok {
				return
			}
			interrupt := run.Interrupt{Signal: "SIGINT", Code: 130}
			if sig == syscall.SIGTERM {
				interrupt = run.Interrupt{Signal: "SIGTERM", Code: 143}
			}
			if !first {
				os.Exit(interrupt.Code)
			}
			cancel(interrupt)
		}
	}()
	return ctx, func() { signal.Stop(signals); close(signals); cancel(nil) }
}

// exitError ends the command with a code. Its text, if any, is printed.
type exitError struct {
	code int
	text string
	hint string
}

func (e exitError) Error() string { return e.text }

// usageError is wrong usage with a hint.
func usageError(hint, format string, args ...any) error {
	return exitError{code: exitUsage, text: fmt.Sprintf(format, args...), hint: hint}
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, s streams) int {
	root := rootCommand(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit exitError
	if !errors.As(err, &exit) {
		// Whatever cobra refuses is wrong usage.
		exit = exitError{code: exitUsage, text: err.Error(), hint: "meshtest --help lists commands and flags"}
	}
	if exit.text != "" {
		fmt.Fprintf(s.err, "meshtest: error: %s\n", exit.text)
	}
	if exit.hint != "" {
		fmt.Fprintf(s.err, "meshtest: hint: %s\n", exit.hint)
	}
	return exit.code
}

func rootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "meshtest",
		Short: "Decide whether a change is safe to ship",
		Long: `meshtest stands a service mesh up around an application, drives load, injects faults, shifts traffic to a
new version step by step, judges the version on evidence, promotes it or rolls it back, and reports.

  meshtest run canary-promote     a shipped scenario, by name
  meshtest run my-scenario.yaml   your own
  meshtest explain FILE           what would happen, without doing it

` + exitCodesHelp,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(runCommand(s), validateCommand(s), explainCommand(s), whyCommand(s), reportCommand(s), healCommand(s), envCommand(s), injectCommand(s), schemaCommand(s), versionCommand(s), graphCommand(s))
	return root
}

func versionCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, "meshtest", version.String())
			return err
		},
	}
}
