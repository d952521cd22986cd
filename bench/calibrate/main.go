// Program calibrate measures the statistics that judge a roll-out: how often healthy canaries are rolled back, how many canary requests it takes to
// find bad ones and to accept good ones. It simulates with a fixed seed, prints one table with the bars, and exits 1 when an error rate is above its
// alpha by more than chance explains. It takes 200 s of CPU and uses all processors.
package main

import (
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"meshtest.dev/meshtest/analyzer/sequential"
)

func main() {
	seed := flag.Uint64("seed", 42, "of all chance")
	runs := flag.Int("runs", 10_000, "healthy canaries simulated per row; other rows take a part of it")
	flag.Parse()
	t := &table{out: tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0), seed: *seed, runs: max(*runs, 200)}
	for _, section := range []func(*table){hardDown, errorPower, latencyPower, falseRollbacks, acceptPower, latencyAcceptPower, falseAccepts, splits} {
		section(t)
		if err := t.out.Flush(); err != nil {
			fmt.Fprintln(os.Stderr, "write the table:", err)
			os.Exit(2)
		}
	}
	if t.invalid > 0 {
		fmt.Fprintln(os.Stderr, t.invalid, "error rates are above their alpha")
		os.Exit(1)
	}
}

// table is what the sections print to.
type table struct {
	out     *tabwriter.Writer
	seed    uint64
	runs    int
	purpose uint64 // numbers the rows, so that each has chance of its own
	invalid int
}

func (t *table) title(format string, args ...any) {
	fmt.Fprintf(t.out, "\n"+format+"\n", args...)
}

func (t *table) row(name, format string, args ...any) {
	fmt.Fprintf(t.out, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
}

// next returns the purpose of the next row's chance.
func (t *table) next() uint64 { t.purpose++; return t.purpose }

// rate prints how often an error was made, and remembers when it was more often than chance explains (99.9 %, one-sided).
func (t *table) rate(name string, wrong, n int, alpha float64) {
	share, verdict := float64(wrong)/float64(n), "ok"
	switch {
	case sequential.BinomialInterval(uint64(wrong), uint64(n), 0.998).Lower > alpha:
		verdict = "TOO OFTEN"
		t.invalid++
	case share > alpha:
		verdict = "above, by chance perhaps"
	}
	t.row(name, "%d of %d = %.3f %%\tbar %.2g %%\t%s", wrong, n, 100*share, 100*alpha, verdict)
}

// took prints how many canary requests it took, with a bar in words.
func (t *table) took(name string, s summary, bar string) {
	t.row(name, "mean %.0f\tmedian %.0f\tp95 %.0f\tp99 %.0f\tpower %.4f\t%s", s.mean, s.median, s.p95, s.p99, s.power, bar)
}
