package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/internal/version"
	"meshtest.dev/meshtest/metrics"
	"meshtest.dev/meshtest/metrics/promql"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/reports"
	"meshtest.dev/meshtest/run"
	"meshtest.dev/meshtest/spec"
)

type runFlags struct {
	scenarioFlags
	out          string
	report       []string
	timeout      time.Duration
	keep         bool
	metrics      string
	requirePower bool
	progress     string
	quiet        bool
	verbose      bool
}

func runCommand(s streams) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use: "run FILE|DIR|NAME...", Short: "Run scenarios and judge them",
		Long: `Run scenarios: a file, every scenario of a folder, or a shipped one by its name. Each run ends with a verdict, its reason, reports in
its folder and an exit code; several scenarios run one after the other, and the worst exit code counts.

` + exitCodesHelp,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), s, args) },
	}
	f.add(cmd, true)
	f.addCluster(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "", "`folder` for journal, logs and reports (default meshtest-out/SCENARIO-SEED)")
	flags.StringSliceVar(&f.report, "report", reports.Kinds(), "reports to `write`")
	flags.DurationVar(&f.timeout, "timeout", 0, "longest `time` of a run after its environment is up (default: the scenario's)")
	flags.BoolVar(&f.keep, "keep-env", false, "leave the environment standing after the verdict, until Ctrl-C")
	flags.StringVar(&f.metrics, "metrics-listen", "", "`address` at which a Prometheus finds the sidecars' metrics, such as 127.0.0.1:9464")
	flags.BoolVar(&f.requirePower, "require-power", false, "refuse a plan that cannot get the evidence it needs")
	flags.StringVar(&f.progress, "progress", "auto", "progress on standard error: auto, plain or none")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no progress: only the verdict")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "more progress, and more in the logs")
	return cmd
}

// job is one scenario that is ready to run.
type job struct {
	loaded
	plan        *plan.Plan
	environment env.Environment
}

func (f *runFlags) run(ctx context.Context, s streams, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	jobs, err := f.jobs(s, args)
	if err != nil {
		return err
	}
	gateway, stop, err := f.serveMetrics(s)
	if err != nil {
		return err
	}
	defer stop()
	if f.prometheus != "" {
		if err := (&promql.Remote{URL: f.prometheus}).Check(ctx); err != nil {
			return exitError{code: exitEnvironment, text: err.Error(), hint: "--prometheus is the address of a server, such as http://localhost:9090"}
		}
	}
	for _, j := range jobs {
		if p, ok := j.environment.(env.Preflighter); ok {
			if err := p.Preflight(ctx); err != nil {
				return exitError{code: exitEnvironment, text: err.Error()}
			}
		}
	}
	worst := exitOK
	for _, j := range jobs {
		code, err := f.one(ctx, s, j, gateway, len(jobs) > 1)
		if err != nil {
			return err
		}
		worst = worse(worst, code)
		if ctx.Err() != nil {
			break
		}
	}
	if worst != exitOK {
		return exitError{code: worst}
	}
	return nil
}

func (f *runFlags) check() error {
	if !slices.Contains([]string{"auto", "plain", "none"}, f.progress) {
		return usageError("auto, plain or none", "unknown progress %q", f.progress)
	}
	for _, kind := range f.report {
		if !slices.Contains(reports.Kinds(), kind) {
			return usageError("the reports are "+strings.Join(reports.Kinds(), ", "), "unknown report %q", kind)
		}
	}
	if f.timeout < 0 {
		return usageError("such as --timeout 90s", "--timeout %s is negative", f.timeout)
	}
	return nil
}

// jobs loads and plans everything before anything starts.
func (f *runFlags) jobs(s streams, args []string) ([]job, error) {
	names, err := find(args)
	if err != nil {
		return nil, err
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelInfo
	}
	var all spec.Diagnostics
	var jobs []job
	for _, name := range names {
		scenario, problems := f.load(name)
		all = append(all, problems...)
		if problems.Err() != nil {
			continue
		}
		j := job{loaded: scenario}
		if j.environment, err = f.chooseEnvironment(scenario, level); err != nil {
			return nil, err
		}
		seed, err := f.chooseSeed(scenario)
		if err != nil {
			return nil, err
		}
		var planned spec.Diagnostics
		j.plan, planned = f.planFor(scenario, j.environment, seed)
		all = append(all, planned...)
		jobs = append(jobs, j)
	}
	if err := f.complain(s, all); err != nil {
		return nil, err
	}
	for _, j := range jobs {
		if short := j.plan.Underpowered(); f.requirePower && len(short) > 0 {
			return nil, usageError("longer steps or more load give more evidence", "%s: check %s needs at least %d requests to the canary and gets about %d",
				j.file, short[0].Check, short[0].Needed, short[0].Have)
		}
		if f.timeout > 0 {
			j.plan.Timeout = f.timeout
		}
	}
	return jobs, nil
}

// one runs one scenario.
func (f *runFlags) one(ctx context.Context, s streams, j job, gateway *metrics.Gateway, several bool) (int, error) {
	out, err := f.folder(j, several)
	if err != nil {
		return 0, err
	}
	console := f.console(s)
	console.begin(j.plan, out)
	result, err := run.Run(ctx, run.Options{
		Prometheus: f.querier(), Gateway: gateway,
		ID: runID(), Plan: j.plan, Environment: j.environment, Dir: j.dir, Out: out,
		File: j.file, Source: j.source, Version: version.String(), Keep: f.keep,
		Observe: console.observe, Waiting: console.waiting,
	})
	console.end()
	if err != nil {
		return 0, exitError{code: exitEnvironment, text: err.Error()}
	}
	written, err := reports.Write(out, f.report)
	if err != nil {
		fmt.Fprintf(s.err, "meshtest: error: writing reports: %v\n", err)
		result.ExitCode = worse(result.ExitCode, exitEnvironment)
	}
	if path := os.Getenv("GITHUB_STEP_SUMMARY"); path != "" {
		if err := appendSummary(path, out); err != nil {
			fmt.Fprintf(s.err, "meshtest: warning: %v\n", err)
		}
	}
	console.verdict(s.out, j.plan, result, out, written)
	return result.ExitCode, nil
}

// querier answers the scenario's queries, if it is not the run itself.
func (f *runFlags) querier() run.Querier {
	if f.prometheus == "" {
		return nil
	}
	return &promql.Remote{URL: f.prometheus}
}

// folder makes the folder of a run. Nobody else's is touched: the default name gets a number when it is used.
func (f *runFlags) folder(j job, several bool) (string, error) {
	base := f.out
	switch {
	case base == "":
		base = filepath.Join("meshtest-out", fmt.Sprintf("%s-%d", j.plan.Name, j.plan.Seed))
	case several:
		base = filepath.Join(base, j.plan.Name)
	}
	path := base
	for n := 2; ; n++ {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", exitError{code: exitEnvironment, text: "making the run's folder: " + err.Error()}
		}
		err := os.Mkdir(path, 0o755)
		if err == nil || (errors.Is(err, os.ErrExist) && emptyFolder(path) && f.out != "") {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return "", exitError{code: exitEnvironment, text: "making the run's folder: " + err.Error()}
		}
		path = fmt.Sprintf("%s-%d", base, n)
	}
	if err := os.MkdirAll(filepath.Join(path, "logs"), 0o755); err != nil {
		return "", exitError{code: exitEnvironment, text: "making the run's folder: " + err.Error()}
	}
	return path, nil
}

func emptyFolder(path string) bool {
	entries, err := os.ReadDir(path)
	return err == nil && len(entries) == 0
}

// runID is unique on this machine and short, because sockets are named after it.
func runID() string { return "r-" + strings.ToLower(rand.Text()[:10]) }

// worse is the worse of two exit codes.
func worse(a, b int) int {
	order := []int{exitOK, exitInconclusive, exitBad, exitEnvironment, 143, 130}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}
