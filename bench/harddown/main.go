// Command harddown measures how soon a canary that fails every request is out: how many requests it fails until the decision, how long after the first failure that
// is, and how long after the decision every sidecar has acknowledged a weight of 0. All times are read from the journal, on the run's own clock.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"meshtest.dev/meshtest/bench/rig"
)

func main() {
	seeds := flag.Int("seeds", 20, "seeds of each weight")
	parallel := flag.Int("parallel", 1, "runs at a time")
	flag.Parse()
	if err := measure(*seeds, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "harddown:", err)
		os.Exit(1)
	}
}

func measure(seeds, parallel int) error {
	binary, err := rig.Binary()
	if err != nil {
		return err
	}
	dir, remove, err := rig.Folder()
	if err != nil {
		return err
	}
	defer remove()
	fmt.Printf("%7s %9s %28s %28s %28s\n", "weight", "canary/s", "failed requests", "after first failure (ms)", "decision to last ack (ms)")
	for _, c := range []struct{ weight, rate int }{{1, 500}, {5, 400}, {10, 500}, {50, 100}} {
		var mu sync.Mutex
		var failed []uint64
		var after, carried []time.Duration
		err := rig.Each(seeds, parallel, func(i int) error {
			out, err := rig.Run(context.Background(), binary, filepath.Join(dir, fmt.Sprintf("%d-%d", c.weight, i)), "fixtures/gate/bad-canary.yaml",
				"--seed", fmt.Sprint(i+1), "--set", fmt.Sprintf("rollout.steps[0].setWeight=%d", c.weight), "--set", fmt.Sprintf("load[0].rate=%d/s", c.rate))
			if err != nil {
				return err
			}
			decided, ok := out.Decided()
			first, failing := out.FirstFailure()
			ack, converged := out.CarriedOut()
			if out.Exit != 1 || !ok || !failing || !converged {
				return fmt.Errorf("weight %d, seed %d: exit %d: %s", c.weight, i+1, out.Exit, out.Story.Finished.Reason)
			}
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, out.Story.Decision.Data.CanaryFailed)
			after = append(after, decided-first)
			carried = append(carried, ack)
			return nil
		})
		if err != nil {
			return err
		}
		f0, f1, f2 := rig.Spread(failed)
		a0, a1, a2 := rig.Spread(after)
		k0, k1, k2 := rig.Spread(carried)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		fmt.Printf("%6d%% %9.0f %10d %8d %8d %10.1f %8.1f %8.1f %10.1f %8.1f %8.1f\n", c.weight, float64(c.rate*c.weight)/100,
			f0, f1, f2, ms(a0), ms(a1), ms(a2), ms(k0), ms(k1), ms(k2))
	}
	fmt.Println("(least, median, most)")
	return nil
}
