package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/env/kube/cluster"
)

// envCommand looks after kind clusters that runs keep for the next one.
func envCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{Use: "env", Short: "Look after clusters that are kept for several runs", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(envUpCommand(s), envListCommand(s), envDownCommand(s))
	return cmd
}

func envUpCommand(s streams) *cobra.Command {
	var f clusterFlags
	cmd := &cobra.Command{
		Use: "up NAME", Short: "Make a kind cluster for `meshtest run --env kind --cluster NAME`", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.cluster = args[0]
			c, err := cluster.Create(cmd.Context(), f.clusterOptions())
			if err != nil {
				return exitError{code: exitEnvironment, text: err.Error()}
			}
			if err := c.Touch(cmd.Context()); err != nil {
				return exitError{code: exitEnvironment, text: err.Error()}
			}
			_, err = fmt.Fprintln(s.out, c.Name())
			return err
		},
	}
	f.addKind(cmd)
	return cmd
}

func envListCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the kind clusters of this machine that are meshtest's", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := cluster.List(cmd.Context())
			if err != nil {
				return exitError{code: exitEnvironment, text: err.Error()}
			}
			for _, name := range names {
				fmt.Fprintln(s.out, name)
			}
			return nil
		},
	}
}

func envDownCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "down NAME", Short: "Delete a kind cluster", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
			defer cancel()
			c, err := cluster.Find(ctx, args[0])
			if err == nil {
				err = c.Delete(ctx)
			}
			if err != nil {
				return exitError{code: exitEnvironment, text: err.Error(), hint: "meshtest env list shows what is there"}
			}
			_, err = fmt.Fprintf(s.out, "%s: deleted\n", args[0])
			return err
		},
	}
}
