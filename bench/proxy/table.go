package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// spread is a median, and in brackets the least and the most when they are several.
func spread(figures []float64, format string) string {
	middle := fmt.Sprintf(format, median(figures))
	if len(figures) < 2 {
		return middle
	}
	return fmt.Sprintf("%s ["+format+" "+format+"]", middle, slices.Min(figures), slices.Max(figures))
}

// printStanding prints the costs of a field, ours first, and what ours costs beside each other one.
func printStanding(w io.Writer, f field, s standing) error {
	fmt.Fprintf(w, "%s\nCPU per request in us, median [least most] of the rounds; in the right half the sidecar's beside the others', median of the rounds' ratios\n", f.title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	names := slices.DeleteFunc(slices.Clone(f.contenders), func(name string) bool { return len(s[f.connections[0]][name]) == 0 })
	head := []string{"connections"}
	head = append(head, names...)
	for _, name := range names[min(1, len(names)):] {
		head = append(head, "/ "+name)
	}
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for _, n := range f.connections {
		row := []string{fmt.Sprint(n)}
		for _, name := range names {
			row = append(row, spread(costs(s[n][name]), "%.1f"))
		}
		for _, name := range names[min(1, len(names)):] {
			row = append(row, fmt.Sprintf("%.2f", median(ratios(s[n][f.contenders[0]], s[n][name]))))
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	fmt.Fprintln(t)
	return t.Flush()
}
