package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"meshtest.dev/meshtest/env/local/supervisor"
)

func TestMain(m *testing.M) {
	supervisor.Main()
	testscript.Main(m, map[string]func(){
		"meshtest": func() {
			ctx, stop := untilSignal()
			code := execute(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
			stop()
			os.Exit(code)
		},
	})
}

// The command line is a contract: what it prints where, and how it exits.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// code N PROGRAM ARGS: the program exits with N.
			"code": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: code N PROGRAM ARGS")
				}
				err := ts.Exec(args[1], args[2:]...)
				if got := exitCode(err); got != args[0] {
					ts.Fatalf("exit code %s, not %s", got, args[0])
				}
			},
		},
		RequireExplicitExec: false,
		RequireUniqueNames:  true,
		ContinueOnError:     true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NO_COLOR", "1")
			return nil
		},
	})
}

func TestUnknownCommandsAreWrongUsage(t *testing.T) {
	t.Parallel()
	devNull, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer devNull.Close()
	if code := execute(context.Background(), []string{"frobnicate"}, streams{devNull, devNull, devNull}); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}
