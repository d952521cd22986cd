package main

import (
	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/fixtures"
)

func schemaCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "schema [scenario|report]", Short: "Print the JSON Schema of scenarios or of report.json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := "scenario"
			if len(args) == 1 {
				name = args[0]
			}
			data, err := fixtures.Schema(name)
			if err != nil {
				return usageError("the schemas are scenario and report", "%v", err)
			}
			_, err = s.out.Write(data)
			return err
		},
	}
}
