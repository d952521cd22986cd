// Command meshtest-fixture is the sample applications that scenarios put into a mesh, in one binary: each is a sub-command, and its
// settings are environment variables.
//
// Exit codes: 0 stopped as asked, 1 could not serve or sent /crash (CRASHABLE), 2 wrong usage or settings, 3 crashed as configured (CRASH_AFTER).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/internal/fixture"
	"meshtest.dev/meshtest/internal/fixture/bookinfo"
	"meshtest.dev/meshtest/internal/fixture/chain"
	"meshtest.dev/meshtest/internal/fixture/clock"
	"meshtest.dev/meshtest/internal/fixture/database"
	"meshtest.dev/meshtest/internal/fixture/echo"
	"meshtest.dev/meshtest/internal/fixture/grpcecho"
	"meshtest.dev/meshtest/internal/fixture/names"
	"meshtest.dev/meshtest/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// serveError tells what went wrong while serving from what was wrong with the call.
type serveError struct{ error }

func (e serveError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	var serving serveError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &serving):
		fmt.Fprintln(stderr, "meshtest-fixture:", err)
		return 1
	default:
		fmt.Fprintln(stderr, "meshtest-fixture:", err)
		return 2
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "meshtest-fixture",
		Short:         "The sample applications of meshtest's scenarios",
		Long:          "The sample applications of meshtest's scenarios: small services that know nothing of the mesh.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("name an application (see --help): %s", strings.Join(names.All(), ", "))
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		application(names.Chain, "Call the next services and sign their answer", chainHelp, func(env *fixture.Env) (fixture.Config, func() fixture.Handler) {
			config := chain.Read(env)
			return config.Config, func() fixture.Handler { return chain.New(config) }
		}),
		application(names.Time, "Tell the time: a service outside the mesh", timeHelp, func(env *fixture.Env) (fixture.Config, func() fixture.Handler) {
			config := env.Config("time")
			return config, func() fixture.Handler { return clock.New(config, time.Now) }
		}),
		application(names.Echo, "Answer with the request as it arrived", echoHelp, func(env *fixture.Env) (fixture.Config, func() fixture.Handler) {
			config := env.Config("echo")
			return config, func() fixture.Handler { return echo.New(config) }
		}),
		fallible(names.GRPCEcho, "Echo by gRPC", grpcEchoHelp, func(env *fixture.Env) (fixture.Config, func() (fixture.Handler, error)) {
			config := grpcecho.Read(env)
			return config.Config, func() (fixture.Handler, error) { return grpcecho.New(config) }
		}),
		databaseCommand(),
		application(names.Visits, "Count visits in a database", visitsHelp, func(env *fixture.Env) (fixture.Config, func() fixture.Handler) {
			config := database.ReadVisits(env)
			return config.Config, func() fixture.Handler { return database.NewVisits(config) }
		}),
		application(names.BookinfoProductpage, "Bookinfo: the page about a book", productpageHelp, func(env *fixture.Env) (fixture.Config, func() fixture.Handler) {
			config := bookinfo.ReadProductpage(env)
			return config.Config, func() fixture.Handler { return bookinfo.NewProductpage(config) }
		}),
		application(names.BookinfoDetails, "Bookinfo: the facts about the book", detailsHelp, func(env *fixture.Env) (fixture.Config, func() fixture.Handler) {
			return env.Config("details"), bookinfo.NewDetails
		}),
		application(names.BookinfoReviews, "Bookinfo: what readers think of the book", reviewsHelp, func(env *fixture.Env) (fixture.Config, func() fixture.Handler) {
			config := bookinfo.ReadReviews(env)
			return config.Config, func() fixture.Handler { return bookinfo.NewReviews(config) }
		}),
		application(names.BookinfoRatings, "Bookinfo: the stars of the book", ratingsHelp, func(env *fixture.Env) (fixture.Config, func() fixture.Handler) {
			return env.Config("ratings"), bookinfo.NewRatings
		}),
		&cobra.Command{
			Use:   "version",
			Short: "Print the version",
			Args:  cobra.NoArgs,
			Run: func(cmd *cobra.Command, _ []string) {
				fmt.Fprintln(cmd.OutOrStdout(), "meshtest-fixture", version.String())
			},
		},
	)
	return root
}

// application is the sub-command of one application: read gets all its settings, then make builds it.
func application(name, short, help string, read func(*fixture.Env) (config fixture.Config, make func() fixture.Handler)) *cobra.Command {
	return fallible(name, short, help, func(env *fixture.Env) (fixture.Config, func() (fixture.Handler, error)) {
		config, make := read(env)
		return config, func() (fixture.Handler, error) { return make(), nil }
	})
}

// fallible is that of one that may turn out to be impossible to build.
func fallible(name, short, help string, read func(*fixture.Env) (config fixture.Config, make func() (fixture.Handler, error))) *cobra.Command {
	return subcommand(name, short, help+"\n"+sharedHelp, func(env *fixture.Env) func(context.Context) error {
		config, make := read(env)
		return func(ctx context.Context) error {
			app, err := make()
			if err != nil {
				return fmt.Errorf("starting %s: %w", config, err)
			}
			return fixture.New(config, app, os.Exit).Run(ctx)
		}
	})
}

func databaseCommand() *cobra.Command {
	return subcommand(names.Database, "A database: Redis, or what resembles it", databaseHelp, func(env *fixture.Env) func(context.Context) error {
		config := database.Read(env)
		return func(ctx context.Context) error { return database.Run(ctx, config) }
	})
}

// subcommand runs what the settings say, unless there is something wrong with them.
func subcommand(name, short, long string, read func(*fixture.Env) (run func(context.Context) error)) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Long:  long,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env := fixture.NewEnv(os.LookupEnv)
			run := read(env)
			if err := env.Err(); err != nil {
				return fmt.Errorf("wrong settings in the environment:\n%w", err)
			}
			if err := run(cmd.Context()); err != nil {
				return serveError{err}
			}
			return nil
		},
	}
}
