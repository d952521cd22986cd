package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"meshtest.dev/meshtest/internal/hist"
)

// shares of its own capacity at which a contender's latency is looked at.
var shares = []float64{0.3, 0.6}

// printLatency sends every contender an open loop of requests at shares of what it can do itself, and prints how long they took, from when each was due. The slip is how late the load itself was: where it is not small
// beside the latency, that says more about the load, or the machine, than about the contender.
func printLatency(ctx context.Context, w io.Writer, names []string, entered map[string]*contender, capacities map[string]float64, d time.Duration) error {
	fmt.Fprintf(w, "latency in us at shares of the contender's own capacity (with 32 connections), open loop of %v, from when a request was due\n", d)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "contender\tshare\tper second\tp50\tp90\tp99\tmax\tslip p50\tslip p99")
	for _, name := range names {
		for _, share := range shares {
			if entered[name] == nil || capacities[name] == 0 {
				continue
			}
			rate := share * capacities[name]
			r, err := openLoop(ctx, entered[name], rate, d)
			if err != nil {
				return err
			}
			us := func(h *hist.Histogram, q float64) int64 { return h.Quantile(q).Microseconds() }
			fmt.Fprintf(t, "%s\t%.0f %%\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\n", name, 100*share, rate,
				us(&r.latency, 0.5), us(&r.latency, 0.9), us(&r.latency, 0.99), us(&r.latency, 1), us(&r.slip, 0.5), us(&r.slip, 0.99))
		}
	}
	fmt.Fprintln(t)
	return t.Flush()
}
