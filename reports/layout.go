package reports

import (
	"cmp"
	"slices"

	"meshtest.dev/meshtest/reports/graph"
)

// layout is where the nodes stand: in columns, each one to the right of the last of its callers. An edge that passes a column has a place there, too, so that it crosses no box.
type layout struct {
	of   map[*graph.Node]*slot
	ways map[*graph.Edge][]*slot // from its first to its last
	all  []*slot
}

// slot is a place.
type slot struct {
	column, row int
	before      []*slot // to the left
}

func newLayout(nodes []*graph.Node, edges []*graph.Edge) *layout {
	l := &layout{of: map[*graph.Node]*slot{}, ways: map[*graph.Edge][]*slot{}}
	depth := depths(nodes)
	for _, n := range nodes {
		l.of[n] = l.add(depth[n], nil)
	}
	for _, e := range edges {
		from, to := l.of[e.From], l.of[e.To]
		way := []*slot{from}
		for column := from.column + 1; column < to.column; column++ {
			way = append(way, l.add(column, way[len(way)-1]))
		}
		if to.column > from.column {
			to.before = append(to.before, way[len(way)-1])
		}
		l.ways[e] = append(way, to)
	}
	l.arrange()
	return l
}

func (l *layout) add(column int, before *slot) *slot {
	s := &slot{column: column}
	if before != nil {
		s.before = []*slot{before}
	}
	l.all = append(l.all, s)
	return s
}

// arrange gives the places of each column their rows, by the mean of the rows to which they are joined on the left, so that few edges cross.
func (l *layout) arrange() {
	var columns [][]*slot
	for _, s := range l.all {
		for len(columns) <= s.column {
			columns = append(columns, nil)
		}
		columns[s.column] = append(columns[s.column], s)
	}
	for _, column := range columns {
		slices.SortStableFunc(column, func(a, b *slot) int { return cmp.Compare(a.wants(), b.wants()) })
		for row, s := range column {
			s.row = row
		}
	}
}

// wants is the row where the slot would be best.
func (s *slot) wants() float64 {
	sum := 0
	for _, b := range s.before {
		sum += b.row
	}
	return float64(sum) / float64(max(len(s.before), 1))
}

// depths is the longest way to each node that does not lead back.
func depths(nodes []*graph.Node) map[*graph.Node]int {
	var order []*graph.Node // callees before their callers, but for edges that lead back
	state := map[*graph.Node]int{}
	back := map[*graph.Edge]bool{}
	var visit func(*graph.Node)
	visit = func(n *graph.Node) {
		state[n] = 1
		for _, e := range n.Out {
			switch state[e.To] {
			case 0:
				visit(e.To)
			case 1:
				back[e] = true
			}
		}
		state[n] = 2
		order = append(order, n)
	}
	roots := slices.Clone(nodes)
	slices.SortStableFunc(roots, func(a, b *graph.Node) int { return cmp.Compare(min(len(a.In), 1), min(len(b.In), 1)) })
	for _, n := range roots {
		if state[n] == 0 {
			visit(n)
		}
	}
	depth := map[*graph.Node]int{}
	for _, n := range slices.Backward(order) {
		for _, e := range n.Out {
			if !back[e] {
				depth[e.To] = max(depth[e.To], depth[n]+1)
			}
		}
	}
	return depth
}
