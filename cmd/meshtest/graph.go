package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/metrics/promql"
	"meshtest.dev/meshtest/reports"
	"meshtest.dev/meshtest/reports/graph"
)

type graphFlags struct {
	prometheus string
	window     time.Duration
	of         string
	by         string
	format     string
}

func graphCommand(s streams) *cobra.Command {
	var f graphFlags
	cmd := &cobra.Command{
		Use: "graph DIR|FILE | graph --prometheus URL", Short: "Print who calls whom, or what a service depends on, as traffic has shown",
		Long: `Print the graph of services as traffic has drawn it: of a run, from the evidence in its folder, or of now, from a Prometheus that scrapes the sidecars.
Evidence has requests, failures and latency of HTTP and gRPC, and bytes of TCP; a Prometheus has response codes and callers' versions as well.

  meshtest graph meshtest-out/canary-promote-42
  meshtest graph --prometheus http://localhost:9090 --of frontend
  meshtest graph meshtest-out/canary-promote-42 --format dot | dot -Tsvg > graph.svg`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), s, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.prometheus, "prometheus", "", "`URL` of a Prometheus to ask, instead of a run's folder")
	flags.DurationVar(&f.window, "window", 5*time.Minute, "how far a Prometheus looks `back`")
	flags.StringVar(&f.of, "of", "", "only this `service`, and everything that it depends on")
	flags.StringVar(&f.by, "by", string(graph.ByApp), "what a node is: app, version or workload")
	flags.StringVar(&f.format, "format", "text", "text, json (in Kiali's shape) or dot (for Graphviz)")
	return cmd
}

func (f *graphFlags) run(ctx context.Context, s streams, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	g, err := f.draw(ctx, args)
	if err != nil {
		return err
	}
	if len(g.Edges()) == 0 {
		fmt.Fprintln(s.err, "meshtest: there was no traffic")
	}
	if f.of != "" {
		part, ok := g.DependenciesOf(f.of)
		if !ok {
			return usageError(f.names(g), "nobody is called %q in the graph", f.of)
		}
		g = part
	}
	switch f.format {
	case "json":
		err = g.WriteJSON(s.out)
	case "dot":
		err = g.WriteDOT(s.out)
	default:
		err = g.WriteText(s.out)
	}
	return err
}

func (f *graphFlags) check(args []string) error {
	switch {
	case (f.prometheus == "") == (len(args) == 0):
		return usageError("give the folder of a run, or --prometheus URL", "either a run or a Prometheus draws the graph")
	case !slices.Contains(graph.Kinds(), graph.By(f.by)):
		return usageError("app, version or workload", "unknown node %q", f.by)
	case !slices.Contains([]string{"text", "json", "dot"}, f.format):
		return usageError("text, json or dot", "unknown format %q", f.format)
	case f.window < time.Second:
		return usageError("such as --window 5m", "--window %s is shorter than a second", f.window)
	default:
		return nil
	}
}

// draw makes the graph.
func (f *graphFlags) draw(ctx context.Context, args []string) (*graph.Graph, error) {
	if f.prometheus != "" {
		now := time.Now()
		g, err := graph.Observe(ctx, asking(&promql.Remote{URL: f.prometheus}, now), graph.By(f.by), now, f.window)
		if err != nil {
			return nil, exitError{code: exitEnvironment, text: err.Error(), hint: "--prometheus is the address of a server, such as http://localhost:9090"}
		}
		return g, nil
	}
	story, err := reports.Open(args[0])
	if err != nil {
		code := exitEnvironment
		if errors.Is(err, fs.ErrNotExist) {
			code = exitUsage
		}
		return nil, exitError{code: code, text: err.Error(), hint: "give the folder of a run, or the journal.ndjson in it"}
	}
	g, err := graph.FromEvidence(graph.By(f.by), story.Started.Wall, story.Evidence, story.Connections)
	if err != nil {
		return nil, exitError{code: exitEnvironment, text: err.Error()}
	}
	return g, nil
}

// asking asks a Prometheus at a moment.
func asking(q promql.Querier, at time.Time) graph.Ask {
	return func(ctx context.Context, query string) ([]graph.Sample, error) {
		v, err := q.Instant(ctx, query, at)
		if err != nil {
			return nil, err
		}
		var all []graph.Sample
		for _, s := range v.Series {
			for _, p := range s.Points {
				all = append(all, graph.Sample{Labels: s.Labels, Value: p.V})
			}
		}
		return all, nil
	}
}

// names is a hint that lists who is there.
func (f *graphFlags) names(g *graph.Graph) string {
	const most = 10
	var names []string
	for _, n := range g.Nodes() {
		names = append(names, n.Label())
	}
	if len(names) > most {
		names = append(names[:most], "...")
	}
	return "there are " + strings.Join(names, ", ")
}
