// Command verdicts runs the shipped canary scenarios over many seeds and counts the verdicts: a good canary has to be promoted, and a bad one rolled back,
// whatever the seed.
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
	seeds := flag.Int("seeds", 20, "seeds of each scenario")
	parallel := flag.Int("parallel", 1, "runs at a time")
	flag.Parse()
	if err := measure(*seeds, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "verdicts:", err)
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
	wrong := 0
	fmt.Printf("%-26s %-12s %6s %10s %22s %22s\n", "scenario", "expected", "right", "s a run", "decided after (s)", "canary requests")
	for _, s := range []struct{ name, want string }{
		{"canary-promote", "promoted"}, {"canary-rollback-errors", "rolledBack"}, {"canary-rollback-latency", "rolledBack"},
	} {
		var mu sync.Mutex
		right := 0
		var took, decided []time.Duration
		var requests []uint64
		err := rig.Each(seeds, parallel, func(i int) error {
			out, err := rig.Run(context.Background(), binary, filepath.Join(dir, fmt.Sprintf("%s-%d", s.name, i)), s.name, "--seed", fmt.Sprint(i+1))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if out.Exit == 0 && out.Story.Finished.Outcome == s.want {
				right++
			} else {
				fmt.Fprintf(os.Stderr, "%s, seed %d: exit %d, %s: %s\n", s.name, i+1, out.Exit, out.Story.Finished.Verdict, out.Story.Finished.Reason)
			}
			took = append(took, out.Took)
			if at, ok := out.Decided(); ok {
				decided = append(decided, at)
				requests = append(requests, out.Story.Decision.Data.CanaryRequests)
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, medianTook, _ := rig.Spread(took)
		d0, d1, d2 := rig.Spread(decided)
		r0, r1, r2 := rig.Spread(requests)
		fmt.Printf("%-26s %-12s %3d/%2d %10.1f %8.1f %5.1f %5.1f %10d %5d %5d\n", s.name, s.want, right, seeds, medianTook.Seconds(),
			d0.Seconds(), d1.Seconds(), d2.Seconds(), r0, r1, r2)
		wrong += seeds - right
	}
	if wrong > 0 {
		return fmt.Errorf("%d runs ended otherwise", wrong)
	}
	return nil
}
