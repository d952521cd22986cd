package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// bar is one thing that the data plane promises.
type bar struct {
	what    string
	figures []float64 // that it was found to be, one a round; none: it was not measured
	atMost  float64
	digits  int // behind the point: what is printed is what is judged
	unit    string
	why     error // it was not measured
}

// verdict is "met", "not met" or why nobody knows.
func (b bar) verdict() string {
	switch {
	case len(b.figures) == 0 && b.why != nil:
		return "not measured: " + b.why.Error()
	case len(b.figures) == 0:
		return "not measured"
	case round(median(b.figures), b.digits) <= b.atMost:
		return "met"
	default:
		return "not met"
	}
}

func round(figure float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(figure*unit) / unit
}

// printBars prints what was promised beside what was found.
func printBars(w io.Writer, bars []bar) error {
	if len(bars) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "bar\tfound\tat most\tverdict")
	for _, b := range bars {
		found := "-"
		if len(b.figures) > 0 {
			found = spread(b.figures, fmt.Sprintf("%%.%df", b.digits))
		}
		fmt.Fprintf(t, "%s\t%s\t%.*f%s\t%s\n", b.what, found, b.digits, b.atMost, b.unit, b.verdict())
	}
	return t.Flush()
}
