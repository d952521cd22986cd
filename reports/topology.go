package reports

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"meshtest.dev/meshtest/reports/graph"
)

// Geometry of the graph of services, in pixels; boxes are as large in the template.
const (
	boxWidth, boxHeight    = 150, 40
	columnWidth, rowHeight = 212, 56
	graphMargin            = 4
	bend                   = 40 // how far an edge keeps its first direction
)

// Bounds of what is drawn and listed.
const (
	maxBoxes    = 60 // beyond, the table tells more than a drawing
	maxEdgeRows = 200
	maxLabel    = 20   // runes that fit into a box
	failing     = 0.01 // share of failures from which an edge is drawn as a bad one
)

// topology shows who calls whom, as traffic has shown.
type topology struct {
	Width, Height int
	Boxes         []box
	Arrows        []arrow
	Rows          []GraphEdge
	All           int // edges
}

// box is a node, with what it is asked.
type box struct {
	X, Y        int
	Label, Name string
	Asked       string
	Outside     bool
}

// Middle is where the box's texts are.
func (b box) Middle() int { return b.X + boxWidth/2 }

// LabelY is the line that the label stands on.
func (b box) LabelY() int {
	if b.Asked == "" {
		return b.Y + boxHeight/2 + 4
	}
	return b.Y + 17
}

// AskedY is the line that the rate stands on.
func (b box) AskedY() int { return b.Y + 32 }

// arrow is an edge.
type arrow struct {
	Path, Name string
	Bad        bool
}

// newTopology draws the graph of a run; nil when there was no traffic, or when evidence cannot be read.
func newTopology(s *Story) *topology {
	g := serviceGraph(s)
	if g == nil {
		return nil
	}
	edges := g.Edges()
	t := &topology{All: len(edges)}
	for _, e := range edges[:min(len(edges), maxEdgeRows)] {
		t.Rows = append(t.Rows, newGraphEdge(e))
	}
	if nodes := g.Nodes(); len(nodes) <= maxBoxes {
		t.draw(nodes, edges, g)
	}
	return t
}

// serviceGraph is the graph of a run; nil when there is none.
func serviceGraph(s *Story) *graph.Graph {
	g, err := graph.FromEvidence(graph.ByApp, s.Started.Wall, s.Evidence, s.Connections)
	if err != nil || len(g.Edges()) == 0 {
		return nil
	}
	return g
}

func (t *topology) draw(nodes []*graph.Node, edges []*graph.Edge, g *graph.Graph) {
	l := newLayout(nodes, edges)
	at := func(s *slot) (x, y int) { return graphMargin + s.column*columnWidth, graphMargin + s.row*rowHeight }
	for _, n := range nodes {
		x, y := at(l.of[n])
		t.Boxes = append(t.Boxes, box{X: x, Y: y, Label: clip(n.Label(), maxLabel), Name: n.Label(), Asked: asked(n, g), Outside: n.App == ""})
	}
	for _, s := range l.all {
		x, y := at(s)
		t.Width, t.Height = max(t.Width, x+boxWidth+graphMargin), max(t.Height, y+boxHeight+graphMargin)
	}
	for _, e := range edges {
		a := arrow{Name: e.From.Label() + " calls " + e.To.Label() + ": " + g.Says(e), Bad: e.Count > 0 && e.Failed >= failing*e.Count}
		for i, s := range l.ways[e][1:] {
			x1, y1 := at(l.ways[e][i])
			x2, y2 := at(s)
			if i == 0 {
				a.Path = fmt.Sprintf("M%d,%d", x1+boxWidth, y1+boxHeight/2)
			} else {
				a.Path += fmt.Sprintf(" H%d", x1+boxWidth) // past the boxes of a column between
			}
			a.Path += fmt.Sprintf(" C%d,%d %d,%d %d,%d", x1+boxWidth+bend, y1+boxHeight/2, x2-bend, y2+boxHeight/2, x2, y2+boxHeight/2)
		}
		t.Arrows = append(t.Arrows, a)
	}
}

// asked is how much is asked of a node; empty when nothing is.
func asked(n *graph.Node, g *graph.Graph) string {
	var requests, failed, bytes float64
	for _, e := range n.In {
		if e.Protocol == protocolTCP {
			bytes += e.Count
		} else {
			requests, failed = requests+e.Count, failed+e.Failed
		}
	}
	window := g.Window.Seconds()
	switch {
	case window <= 0:
		return ""
	case requests > 0 && failed > 0:
		return fmt.Sprintf("%s/s, %s %% failed", digits(requests/window, 3), digits(100*failed/requests, 2))
	case requests > 0:
		return digits(requests/window, 3) + "/s"
	case bytes > 0:
		return "tcp " + digits(bytes/window/1024, 3) + " KiB/s"
	default:
		return ""
	}
}

const protocolTCP = "tcp"

// clip shortens a label.
func clip(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + "…"
}

// newGraphEdge is an edge in report.json.
func newGraphEdge(e *graph.Edge) GraphEdge {
	out := GraphEdge{From: e.From.Label(), To: e.To.Label(), Protocol: e.Protocol}
	if e.Protocol == protocolTCP {
		out.Bytes = &e.Count
		return out
	}
	out.Requests, out.Failed = &e.Count, &e.Failed
	if p := e.Quantile95(); p > 0 {
		out.P95Ms = number(milliseconds(p))
	}
	return out
}

// newGraph is the graph in report.json.
func newGraph(s *Story) []GraphEdge {
	edges := []GraphEdge{}
	if g := serviceGraph(s); g != nil {
		for _, e := range g.Edges() {
			edges = append(edges, newGraphEdge(e))
		}
	}
	return edges
}

// whole is a whole number, or a dash.
func whole(v *float64) string {
	if v == nil {
		return "–"
	}
	return strconv.FormatFloat(*v, 'f', 0, 64)
}
