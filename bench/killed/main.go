//go:build unix

// Command killed kills meshtest with SIGKILL at random moments of a run, and looks 15 seconds later for what is left: processes that carry the run's mark, sockets, files
// outside the run's folder. The journal that remains has to render a report that says "aborted".
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"meshtest.dev/meshtest/bench/rig"
	"meshtest.dev/meshtest/env/local/supervisor"
	"meshtest.dev/meshtest/reports"
)

// grace is how long after the kill everything must be gone.
const grace = 15 * time.Second

func main() {
	kills := flag.Int("kills", 10, "runs to kill")
	within := flag.Duration("within", 26*time.Second, "kill at a random moment within this time; a run takes about 25 s")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random moments")
	flag.Parse()
	fmt.Println("seed", *seed)
	if err := measure(*kills, *within, rand.New(rand.NewPCG(*seed, 0))); err != nil {
		fmt.Fprintln(os.Stderr, "killed:", err)
		os.Exit(1)
	}
}

func measure(kills int, within time.Duration, random *rand.Rand) error {
	binary, err := rig.Binary()
	if err != nil {
		return err
	}
	dir, remove, err := rig.Folder()
	if err != nil {
		return err
	}
	defer remove()
	bad := 0
	for i := range kills {
		out := filepath.Join(dir, fmt.Sprint(i))
		after := time.Duration(random.Int64N(int64(within)))
		left, verdict, err := killOne(binary, out, after)
		if err != nil {
			return err
		}
		fmt.Printf("killed after %5.2f s: %d things left, report says %s\n", after.Seconds(), len(left), verdict)
		for _, thing := range left {
			fmt.Println("   ", thing)
		}
		if len(left) > 0 || verdict != "aborted" {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d kills left something behind", bad, kills)
	}
	return nil
}

func killOne(binary, out string, after time.Duration) (left []string, verdict string, err error) {
	before := marked()
	cmd := exec.Command(binary, "run", "canary-promote", "--progress", "none", "--out", out)
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	timer := time.NewTimer(after)
	<-timer.C
	if err := cmd.Process.Kill(); err != nil {
		return nil, "", err
	}
	_ = cmd.Wait() // killed, so an error
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	<-ctx.Done()
	for thing := range marked() {
		if !before[thing] {
			left = append(left, thing)
		}
	}
	story, err := reports.Open(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		verdict = "aborted" // killed before there was a journal
	case err != nil:
		verdict = err.Error()
	case !story.Killed:
		verdict = "aborted" // it was faster than the kill
	default:
		verdict = story.Finished.Verdict
	}
	return left, verdict, nil
}

// marked are all processes that carry a run's mark, and all runtime directories, whatever their run.
func marked() map[string]bool {
	found := map[string]bool{}
	mark := []byte(supervisor.Marker + "=")
	processes, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range processes {
		environ, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for _, variable := range bytes.Split(environ, []byte{0}) {
			if bytes.HasPrefix(variable, mark) {
				name, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
				found[filepath.Dir(path)+" "+string(bytes.ReplaceAll(name, []byte{0}, []byte{' '}))] = true
			}
		}
	}
	for _, root := range supervisor.Roots() {
		runs, _ := os.ReadDir(root)
		for _, run := range runs {
			found[filepath.Join(root, run.Name())] = true
		}
	}
	return found
}
