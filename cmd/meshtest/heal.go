package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/env/local/supervisor"
)

func healCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "heal", Short: "End what dead runs have left behind",
		Long: `End processes and remove sockets that runs of this user left behind when they died. Runs that are alive are not touched. Twice is as good
as once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			healed, err := supervisor.SweepDead(ctx)
			for _, id := range healed {
				fmt.Fprintf(s.out, "%s: healed\n", id)
			}
			if err != nil {
				return exitError{code: exitEnvironment, text: "healing: " + err.Error()}
			}
			if len(healed) == 0 {
				fmt.Fprintln(s.err, "nothing was left")
			}
			return nil
		},
	}
}
