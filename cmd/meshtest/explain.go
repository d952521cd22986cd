package main

import (
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
)

func explainCommand(s streams) *cobra.Command {
	var f scenarioFlags
	var output string
	cmd := &cobra.Command{
		Use: "explain FILE|NAME", Short: "Print what a run would do: times, blast radius, capabilities, seed",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return f.explain(s, args[0], output) },
	}
	f.add(cmd, true)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`form`: text or json")
	return cmd
}

func (f *scenarioFlags) explain(s streams, name, output string) error {
	names, err := find([]string{name})
	if err != nil {
		return err
	}
	scenario, problems := f.load(names[0])
	if problems.Err() != nil {
		return f.complain(s, problems)
	}
	environment, err := f.chooseEnvironment(scenario, slog.LevelWarn)
	if err != nil {
		return err
	}
	seed, err := f.chooseSeed(scenario)
	if err != nil {
		return err
	}
	p, planned := f.planFor(scenario, environment, seed)
	if err := f.complain(s, append(problems, planned...)); err != nil {
		return err
	}
	switch output {
	case "text":
		_, err = fmt.Fprintln(s.out, p)
	case "json":
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(p)
	default:
		return usageError("text or json", "unknown form %q", output)
	}
	return err
}
