package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/env/kube"
	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/local/supervisor"
)

// healTimeout bounds a healing: a cluster's namespaces take their time to go.
const healTimeout = 5 * time.Minute

type healFlags struct {
	sweep      bool
	stale      time.Duration
	kubeconfig string
	context    string
}

func healCommand(s streams) *cobra.Command {
	var f healFlags
	cmd := &cobra.Command{
		Use: "heal", Short: "End what dead runs have left behind",
		Long: `End what runs of this user left behind when they died: processes, sockets, kind clusters, and whatever they made or changed in a
cluster. Runs that are alive are not touched. Twice is as good as once.

With --sweep, remove from a cluster what runs of any machine made there and have not renewed for two minutes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.heal(cmd.Context(), s) },
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.stale, "stale", 0, "delete kind clusters that runs have kept and not used for so `long`, such as 168h (default: none)")
	flags.BoolVar(&f.sweep, "sweep", false, "look for what runs of any machine have left in a cluster, too")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "with --sweep: `file` (default: as kubectl finds it)")
	flags.StringVar(&f.context, "context", "", "with --sweep: `context` of the kubeconfig (default: its current one)")
	return cmd
}

func (f *healFlags) heal(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	processes, err := supervisor.SweepDead(ctx)
	clusters, clusterErr := kube.Heal(ctx)
	healed := append(processes, clusters...)
	for _, id := range healed {
		fmt.Fprintf(s.out, "%s: healed\n", id)
	}
	var sweepErr error
	if f.sweep {
		var swept []string
		swept, sweepErr = kube.Sweep(ctx, f.kubeconfig, f.context)
		for _, object := range swept {
			fmt.Fprintf(s.out, "%s: swept\n", object)
		}
		healed = append(healed, swept...)
	}
	unused, staleErr := f.deleteStale(ctx)
	for _, name := range unused {
		fmt.Fprintf(s.out, "cluster %s: deleted\n", name)
	}
	healed = append(healed, unused...)
	if err := errors.Join(err, clusterErr, sweepErr, staleErr); err != nil {
		return exitError{code: exitEnvironment, text: "healing: " + err.Error()}
	}
	if len(healed) == 0 {
		fmt.Fprintln(s.err, "nothing was left")
	}
	return nil
}

// deleteStale deletes the clusters that nobody has used for long.
func (f *healFlags) deleteStale(ctx context.Context) (names []string, err error) {
	if f.stale <= 0 {
		return nil, nil
	}
	unused, err := cluster.Stale(ctx, f.stale)
	if err != nil {
		return nil, err
	}
	for _, c := range unused {
		if err := c.Delete(ctx); err != nil {
			return names, err
		}
		names = append(names, c.Name())
	}
	return names, nil
}
