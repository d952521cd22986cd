package graph

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// WriteText writes the graph as trees, one below each node that nobody calls; where all call each other, one below the first. A node's own calls are listed where it comes first. Who is no
// workload of the mesh comes last.
func (g *Graph) WriteText(w io.Writer) error {
	t := teller{g: g, w: bufio.NewWriter(w), told: map[*Node]bool{}}
	nodes := slices.SortedFunc(slices.Values(g.Nodes()), compareLabels)
	for _, n := range nodes {
		if len(n.In) == 0 {
			t.root(n)
		}
	}
	for _, n := range nodes {
		if !t.told[n] {
			t.root(n)
		}
	}
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("writing the graph: %w", err)
	}
	return nil
}

// compareLabels orders nodes for people.
func compareLabels(a, b *Node) int {
	last := func(n *Node) int {
		if n.outside() {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a.Label(), b.Label()))
}

// teller writes trees. Its writer keeps the first error.
type teller struct {
	g    *Graph
	w    *bufio.Writer
	told map[*Node]bool
}

func (t *teller) root(n *Node) {
	fmt.Fprintln(t.w, n.Label())
	t.below(n, "")
}

// below writes the calls of a node.
func (t *teller) below(n *Node, indent string) {
	t.told[n] = true
	out := slices.SortedFunc(slices.Values(n.Out), func(a, b *Edge) int {
		return cmp.Or(compareLabels(a.To, b.To), cmp.Compare(a.Protocol, b.Protocol))
	})
	for i, e := range out {
		branch, next := "├─ ", "│  "
		if i == len(out)-1 {
			branch, next = "└─ ", "   "
		}
		fmt.Fprintf(t.w, "%s%s%s  %s", indent, branch, e.To.Label(), t.g.Says(e))
		if t.told[e.To] && len(e.To.Out) > 0 {
			fmt.Fprintln(t.w, "  (see above)")
			continue
		}
		fmt.Fprintln(t.w)
		if !t.told[e.To] {
			t.below(e.To, indent+next)
		}
	}
}

// Says is an edge in words.
func (g *Graph) Says(e *Edge) string {
	if e.Protocol == tcp {
		return "tcp " + size(g.perSecond(e.Count)) + "/s"
	}
	parts := []string{e.Protocol + " " + strconv.FormatFloat(g.perSecond(e.Count), 'f', 1, 64) + "/s"}
	if e.Failed > 0 {
		parts = append(parts, percent(e.Failed, e.Count)+" % failed")
	}
	if p := e.Quantile95(); p > 0 {
		parts = append(parts, "p95 "+round(p).String())
	}
	return strings.Join(parts, ", ")
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Microsecond; unit /= 10 {
		if d >= 10*unit {
			return d.Round(unit / 10)
		}
	}
	return d.Round(time.Microsecond)
}

func size(bytes float64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	i := 0
	for ; bytes >= 1024 && i < len(units)-1; i++ {
		bytes /= 1024
	}
	return strconv.FormatFloat(bytes, 'f', 1, 64) + " " + units[i]
}

// WriteDOT writes the graph for Graphviz: dot -Tsvg. Edges on which one request in a hundred fails, or more, are red.
func (g *Graph) WriteDOT(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprint(b, "digraph mesh {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n")
	names := map[*Node]string{}
	for i, n := range g.Nodes() {
		names[n] = "n" + strconv.Itoa(i)
		style := ""
		if n.outside() {
			style = ", style=dashed"
		}
		fmt.Fprintf(b, "  %s [label=%s%s];\n", names[n], quoted(n.Label()), style)
	}
	for _, e := range g.Edges() {
		style := ""
		if e.Failed*100 >= e.Count {
			style = ", color=red"
		}
		fmt.Fprintf(b, "  %s -> %s [label=%s%s];\n", names[e.From], names[e.To], quoted(g.Says(e)), style)
	}
	fmt.Fprint(b, "}\n")
	if err := b.Flush(); err != nil {
		return fmt.Errorf("writing the graph: %w", err)
	}
	return nil
}

// quoted is a string of the DOT language, in which only quotes and, at the end, backslashes are special.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ", "\r", " ").Replace(s) + `"`
}
