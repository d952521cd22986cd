package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

func validateCommand(s streams) *cobra.Command {
	var f scenarioFlags
	cmd := &cobra.Command{
		Use: "validate FILE|DIR|NAME...", Short: "Check scenarios without running anything",
		Long: `Check scenarios: their form, their references, their mesh rules and whether the plan can work. All problems are reported at once, with
file, line and column. Nothing is executed, and nothing outside a scenario's folder is read.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return f.validate(s, args) },
	}
	f.add(cmd, false)
	return cmd
}

func (f *scenarioFlags) validate(s streams, args []string) error {
	names, err := find(args)
	if err != nil {
		return err
	}
	var all spec.Diagnostics
	for _, name := range names {
		scenario, problems := f.load(name)
		if problems.Err() == nil {
			_, planned := plan.New(scenario.Scenario, plan.Options{})
			problems = append(problems, planned...)
		}
		if problems.Err() == nil {
			fmt.Fprintf(s.out, "%s: ok\n", name)
		}
		all = append(all, problems...)
	}
	return f.complain(s, all)
}
