// Command startup measures how long the mesh of canary-promote takes to stand, and the whole run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"meshtest.dev/meshtest/bench/rig"
)

func main() {
	runs := flag.Int("runs", 5, "runs")
	flag.Parse()
	if err := measure(*runs); err != nil {
		fmt.Fprintln(os.Stderr, "startup:", err)
		os.Exit(1)
	}
}

func measure(runs int) error {
	binary, err := rig.Binary()
	if err != nil {
		return err
	}
	dir, remove, err := rig.Folder()
	if err != nil {
		return err
	}
	defer remove()
	var ready, took []time.Duration
	processes := 0
	for i := range runs {
		out, err := rig.Run(context.Background(), binary, filepath.Join(dir, fmt.Sprint(i)), "canary-promote", "--seed", fmt.Sprint(i+1))
		if err != nil {
			return err
		}
		if out.Exit != 0 {
			return fmt.Errorf("run %d: exit %d: %s", i, out.Exit, out.Story.Finished.Reason)
		}
		ready = append(ready, out.Phase("environment"))
		took = append(took, out.Took)
		processes = len(out.Story.Processes)
	}
	r0, r1, r2 := rig.Spread(ready)
	t0, t1, t2 := rig.Spread(took)
	fmt.Printf("mesh of %d processes ready after %.2f %.2f %.2f s, whole run %.1f %.1f %.1f s (least, median, most of %d)\n",
		processes, r0.Seconds(), r1.Seconds(), r2.Seconds(), t0.Seconds(), t1.Seconds(), t2.Seconds(), runs)
	return nil
}
