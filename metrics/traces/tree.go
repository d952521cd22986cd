package traces

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Trace is the spans of one trace as trees: one, when every span arrived and every application passed the trace context on.
type Trace struct {
	ID    string // 32 digits
	Roots []*Node
}

// Node is one span and those that it caused, in the order of their beginnings.
type Node struct {
	Span
	Parent   *Node // nil: a root
	Children []*Node
}

// All yields the node and everything below it, parents before their children.
func (n *Node) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) { n.walk(yield) }
}

func (n *Node) walk(yield func(*Node) bool) bool {
	if !yield(n) {
		return false
	}
	for _, c := range n.Children {
		if !c.walk(yield) {
			return false
		}
	}
	return true
}

// All yields all spans of the trace, parents before their children.
func (t *Trace) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		for _, r := range t.Roots {
			if !r.walk(yield) {
				return
			}
		}
	}
}

// Assemble makes trees of spans, in the order in which traces began. A server's span that shares the client's id becomes the client's child, and what names that id as its parent becomes the
// server's. A span whose parent is not there is a root. Spans that were sent twice are taken once.
func Assemble(spans []Span) []*Trace {
	byTrace := map[string][]*Node{}
	for _, s := range spans {
		id := wholeID(s.TraceID)
		byTrace[id] = append(byTrace[id], &Node{Span: s})
	}
	var all []*Trace
	for id, nodes := range byTrace {
		all = append(all, grow(id, nodes))
	}
	slices.SortFunc(all, func(a, b *Trace) int {
		return cmp.Or(cmp.Compare(a.Roots[0].Timestamp, b.Roots[0].Timestamp), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// wholeID is a trace's id in 32 digits.
func wholeID(id string) string {
	return strings.Repeat("0", max(32-len(id), 0)) + id
}

// spanKey tells the two sides apart that share an id.
type spanKey struct {
	id     string
	shared bool
}

func grow(id string, nodes []*Node) *Trace {
	slices.SortStableFunc(nodes, byBeginning)
	there := map[spanKey]*Node{}
	kept := nodes[:0]
	for _, n := range nodes {
		key := spanKey{n.ID, n.Shared}
		if there[key] == nil {
			there[key] = n
			kept = append(kept, n)
		}
	}
	t := &Trace{ID: id}
	for _, n := range kept {
		if n.Parent = parent(n, there); n.Parent == nil {
			t.Roots = append(t.Roots, n)
		} else {
			n.Parent.Children = append(n.Parent.Children, n)
		}
	}
	return t.uproot(kept)
}

// parent finds the span that caused another.
func parent(n *Node, there map[spanKey]*Node) *Node {
	if n.Shared {
		if client := there[spanKey{n.ID, false}]; client != nil {
			return client
		}
	}
	if server := there[spanKey{n.ParentID, true}]; server != nil {
		return server
	}
	return there[spanKey{n.ParentID, false}]
}

// uproot makes roots of spans that are each other's parents, one of each circle, so that no span is lost.
func (t *Trace) uproot(nodes []*Node) *Trace {
	reached := map[*Node]bool{}
	mark := func(r *Node) {
		for n := range r.All() {
			reached[n] = true
		}
	}
	for _, r := range t.Roots {
		mark(r)
	}
	for _, n := range nodes {
		if reached[n] {
			continue
		}
		n.Parent.Children = slices.DeleteFunc(n.Parent.Children, func(c *Node) bool { return c == n })
		n.Parent = nil
		t.Roots = append(t.Roots, n)
		mark(n)
	}
	slices.SortStableFunc(t.Roots, byBeginning)
	return t
}

// byBeginning orders spans by their time; a client's before the server's that began in the same microsecond.
func byBeginning(a, b *Node) int {
	shared := func(n *Node) int {
		if n.Shared {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(shared(a), shared(b)), cmp.Compare(a.ID, b.ID))
}
