package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/internal/fixture/names"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/scenarios"
	"meshtest.dev/meshtest/spec"
)

// scenarioFlags are what decides which scenario a command sees.
type scenarioFlags struct {
	sets        []string
	environment string
	seed        string
	format      string
	clusterFlags
}

func (f *scenarioFlags) add(cmd *cobra.Command, withPlan bool) {
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "set a value of the scenario: `PATH=VALUE`, such as rollout.steps[2].setWeight=10")
	cmd.Flags().StringVar(&f.format, "format", "text", "form of the problems that are found: text, json or github")
	if withPlan {
		cmd.Flags().StringVar(&f.environment, "env", "", "`environment`: local, kind or kubernetes (default: the first that the scenario names)")
		cmd.Flags().StringVar(&f.seed, "seed", "", "`seed` of every chance draw (default: the scenario's, else random)")
	}
}

// loaded is a scenario with where it came from.
type loaded struct {
	*spec.Scenario
	file   string // as the user named it
	dir    string // folder that commands run in
	source string
}

// find expands FILE, DIR and NAME arguments to scenario files; a name of the catalogue is loaded from the binary.
func find(args []string) ([]string, error) {
	var found []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		switch {
		case err == nil && info.IsDir() && !slices.Contains(scenarios.Names(), arg):
			in, err := scenarioFiles(arg)
			if err != nil {
				return nil, err
			}
			found = append(found, in...)
		case err == nil && !info.IsDir():
			found = append(found, arg)
		case slices.Contains(scenarios.Names(), arg):
			found = append(found, arg)
		case errors.Is(err, fs.ErrNotExist):
			return nil, usageError(spec.Suggest(arg, scenarios.Names()), "%s is neither a file nor the name of a shipped scenario", arg)
		default:
			return nil, usageError("", "reading %s: %v", arg, err)
		}
	}
	return found, nil
}

// scenarioFiles are the YAML files of a folder that hold a scenario.
func scenarioFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, usageError("", "reading %s: %v", dir, err)
	}
	var files []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if ext := filepath.Ext(path); e.Type().IsRegular() && (ext == ".yaml" || ext == ".yml") && holdsScenario(path) {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil, usageError("scenarios are *.yaml files; folders below are not searched", "no scenario in %s", dir)
	}
	return files, nil
}

// holdsScenario reports whether a file says that it is ours: rules and other objects may stand beside scenarios.
func holdsScenario(path string) bool {
	data, err := os.ReadFile(path)
	return err != nil || regexp.MustCompile(`(?m)^["']?apiVersion["']?:\s*["']?meshtest\.dev/`).Match(data)
}

// load reads one scenario.
func (f *scenarioFlags) load(name string) (loaded, spec.Diagnostics) {
	opts := spec.Options{Sets: f.sets, Fixtures: names.All()}
	if info, err := os.Stat(name); (err != nil || info.IsDir()) && slices.Contains(scenarios.Names(), name) {
		file := name + ".yaml"
		source, _ := fs.ReadFile(scenarios.FS(), file)
		s, problems := spec.LoadFS(scenarios.FS(), file, opts)
		return loaded{Scenario: s, file: name, dir: ".", source: string(source)}, problems
	}
	info, err := os.Stat(name)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > spec.MaxFileSize) {
		return loaded{file: name}, spec.Diagnostics{{
			Code: "MT1001", Severity: spec.SeverityError, File: name, Message: "not a regular file of at most 1 MiB", Hint: "a scenario is a YAML file",
		}}
	}
	source, _ := os.ReadFile(name) // an error comes back from Load, with its place
	s, problems := spec.Load(name, opts)
	return loaded{Scenario: s, file: name, dir: filepath.Dir(name), source: string(source)}, problems
}

// planFor plans a scenario for an environment.
func (f *scenarioFlags) planFor(s loaded, e env.Environment, seed uint64) (*plan.Plan, spec.Diagnostics) {
	return plan.New(s.Scenario, plan.Options{Environment: e.Name(), Seed: seed, Capabilities: e.Capabilities()})
}

// complain writes problems to standard error and returns the error that ends the command, nil when they are only warnings.
func (f *scenarioFlags) complain(s streams, problems spec.Diagnostics) error {
	if len(problems) == 0 {
		return nil
	}
	if err := problems.Write(s.err, spec.Format(f.format)); err != nil {
		return usageError("", "%v", err)
	}
	if problems.Err() == nil {
		return nil
	}
	errors := 0
	for _, p := range problems {
		if p.Severity == spec.SeverityError {
			errors++
		}
	}
	return exitError{code: exitUsage, text: fmt.Sprintf("%d problem%s; nothing was started", errors, map[bool]string{true: "", false: "s"}[errors == 1])}
}
