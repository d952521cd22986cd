package reports

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/reports/graph"
)

// graphOf draws edges, each CALLER>CALLEE.
func graphOf(edges ...string) *graph.Graph {
	g := graph.New(graph.ByApp, time.Unix(0, 0), time.Second)
	for _, e := range edges {
		from, to, _ := strings.Cut(e, ">")
		g.Add(graph.Flow{From: graph.Workload{App: from}, To: graph.Workload{App: to}, Protocol: "http", Count: 1})
	}
	return g
}

// sketch writes the columns of a layout from left to right; a dot is an edge that passes.
func sketch(l *layout) string {
	name := map[*slot]string{}
	for n, s := range l.of {
		name[s] = n.Label()
	}
	var columns [][]string
	for _, s := range l.all {
		for len(columns) <= s.column {
			columns = append(columns, nil)
		}
		for len(columns[s.column]) <= s.row {
			columns[s.column] = append(columns[s.column], ".")
		}
		if name[s] != "" {
			columns[s.column][s.row] = name[s]
		}
	}
	var text []string
	for _, c := range columns {
		text = append(text, strings.Join(c, " "))
	}
	return strings.Join(text, " | ")
}

func TestLayout(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		edges []string
		want  string
	}{
		{[]string{"a>b", "b>c"}, "a | b | c"},
		{[]string{"a>b", "b>c", "a>c"}, "a | b . | c"},
		{[]string{"a>b", "a>c", "b>d", "c>d"}, "a | b c | d"},
		{[]string{"a>z", "b>y"}, "a b | z y"}, // edges do not cross
		{[]string{"a>b", "b>c", "c>d", "b>d"}, "a | b | c . | d"},
		{[]string{"a>b", "b>c", "c>a"}, "a | b | c"}, // a way back
		{[]string{"a>b", "b>b"}, "a | b"},            // to itself
		{[]string{"edge>a", "edge>b", "b>c", "c>d", "a>d"}, "edge | a b | . c | d"},
		{[]string{"a>b", "b>c", "c>d", "a>c", "a>d"}, "a | b . . | c . | d"},
	} {
		g := graphOf(test.edges...)
		require.Equal(t, test.want, sketch(newLayout(g.Nodes(), g.Edges())), test.edges)
	}
}

func TestTopology(t *testing.T) {
	t.Parallel()
	require.Nil(t, newTopology(&Story{}))
	s := &Story{
		Evidence: []journal.Evidence{{Start: time.Second, End: 11 * time.Second, Cells: []journal.Cell{
			{From: "edge", To: "web", Version: "v1", Requests: 100, Failed: 2}, {From: "edge", To: "web", Version: "v2", Requests: 100}, {From: "web", To: "time.example.com", Requests: 50},
		}}},
		Connections: []journal.Connections{{From: "web", To: "a-store-with-a-very-long-name", Opened: 1, Sent: 20 << 10}},
	}
	top := newTopology(s)
	boxes := map[string]box{}
	for _, b := range top.Boxes {
		boxes[b.Name] = b
		require.LessOrEqual(t, b.X+boxWidth, top.Width)
		require.LessOrEqual(t, b.Y+boxHeight, top.Height)
	}
	require.Equal(t, "20/s, 1 % failed", boxes["web"].Asked)
	require.Equal(t, "5/s", boxes["time.example.com"].Asked)
	require.True(t, boxes["time.example.com"].Outside)
	require.Equal(t, "tcp 2 KiB/s", boxes["a-store-with-a-very-long-name"].Asked)
	require.Equal(t, "a-store-with-a-very…", boxes["a-store-with-a-very-long-name"].Label)
	require.Empty(t, boxes["edge"].Asked)
	bad := 0
	for _, a := range top.Arrows {
		if a.Bad {
			bad++
			require.Equal(t, "edge calls web: http 20.0/s, 1.0 % failed", a.Name)
		}
	}
	require.Equal(t, 1, bad)
	require.Len(t, top.Rows, 3)
	require.Equal(t, top.Rows, newGraph(s))

	for i := range maxBoxes {
		s.Connections = append(s.Connections, journal.Connections{From: "web", To: "store" + strings.Repeat("x", i), Sent: 1})
	}
	top = newTopology(s)
	require.Empty(t, top.Boxes, "too many to be drawn")
	require.Len(t, top.Rows, maxBoxes+3)
}
