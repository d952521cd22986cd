package route

import (
	"cmp"
	"slices"
)

// index finds the first entry that a request satisfies without testing all of them.
//
// Each entry that can match at all is in exactly one list of candidates: the list of one of its own conditions that some requests fail, chosen so that the lists stay short, or the list of the
// rest. A request therefore satisfies only entries in the lists of its own path, prefixes and values. These are few; candidates are tested in full, and the smallest number wins, so that
// the result is the one of trying all entries in order.
type index struct {
	exact  map[string]list // by path
	prefix *node           // by beginnings of the path
	folded *node           // by beginnings of the path in lower case
	values []valueIndex
	rest   list
}

// list holds numbers of entries, ascending.
type list []int32

// valueIndex finds candidates by the exact value of one header or query parameter, of the method, or of the authority, or by the host that it names.
type valueIndex struct {
	of    subject
	name  string
	lists hostLists // by value; only those of hosts have wildcards
	all   list
}

// maxValueIndexes bounds how many values of a request are looked up.
const maxValueIndexes = 8

// key is what one of an entry's conditions is found by.
type key struct {
	of   subject
	name string
	op   operator
	fold bool
	text string
}

// way is one condition by which an entry can be found: by any of its keys, which differ in nothing but the text. Only a condition on hosts has several.
type way []key

func (w way) dimension() dimension { return dimension{w[0].of, w[0].name} }

// dimension is what is looked up in a request to find keys: the path, or a value.
type dimension struct {
	of   subject
	name string
}

// waysTo lists the ways to an entry.
func waysTo(m *Matcher) []way {
	if m == nil {
		return nil
	}
	var ways []way
	for i := range m.conditions {
		c := &m.conditions[i]
		k := key{of: c.of, name: c.name, op: c.test.op, fold: c.test.fold, text: c.test.text}
		switch {
		case c.of == withoutHeader:
		case c.of == ofHosts:
			var w way
			for _, host := range c.hosts {
				w = append(w, key{of: ofHosts, text: host})
			}
			ways = append(ways, w)
		case c.of == ofPath && k.op == matchesRegex:
			k.op, k.text = hasPrefix, c.test.begins
			ways = append(ways, way{k})
		case c.of == ofPath && k.op == hasPathPrefix: // which is a prefix, too
			k.op = hasPrefix
			ways = append(ways, way{k})
		case c.of == ofPath, k.op == isExact:
			ways = append(ways, way{k})
		}
	}
	return ways
}

// fewEntries are tried one after the other: looking up values costs more.
const fewEntries = 4

// newIndex sorts entries into lists. Entries that cannot match for the port are in none.
func newIndex(entries []entry, port int) index {
	sorter := &indexer{entries: entries, ways: make([][]way, len(entries)), count: map[key]int{}}
	for i, e := range entries {
		if e.matcher != nil && !e.matcher.possible(port) {
			continue
		}
		sorter.tried = append(sorter.tried, int32(i))
	}
	if sorter.few() {
		return index{rest: slices.Clip(sorter.tried)}
	}
	for _, i := range sorter.tried {
		sorter.ways[i] = waysTo(entries[i].matcher)
		for _, w := range sorter.ways[i] {
			for _, k := range w {
				sorter.count[k]++
			}
		}
	}
	return sorter.index()
}

// indexer chooses the lists.
type indexer struct {
	entries []entry
	tried   []int32
	ways    [][]way
	count   map[key]int // of entries that could be in the list of the key
}

// few reports whether trying all entries is cheap.
func (s *indexer) few() bool {
	slow := func(i int32) bool { m := s.entries[i].matcher; return m != nil && m.slow() }
	return len(s.tried) <= fewEntries && !slices.ContainsFunc(s.tried, slow)
}

func (s *indexer) index() index {
	var x index
	dimensions := s.dimensions()
	for _, d := range dimensions {
		x.values = append(x.values, valueIndex{of: d.of, name: d.name, lists: hostLists{}})
	}
	for _, i := range s.tried {
		w := s.best(i, dimensions)
		if w == nil {
			x.rest = append(x.rest, i)
			continue
		}
		switch k := w[0]; {
		case k.of != ofPath:
			v := &x.values[slices.Index(dimensions, w.dimension())]
			for _, k := range w {
				v.lists[k.text] = append(v.lists[k.text], i)
			}
			v.all = append(v.all, i)
		case k.fold:
			x.folded = x.folded.with(k.text, i)
		case k.op == isExact:
			if x.exact == nil {
				x.exact = map[string]list{}
			}
			x.exact[k.text] = append(x.exact[k.text], i)
		default:
			x.prefix = x.prefix.with(k.text, i)
		}
	}
	return x
}

// dimensions are the values that are worth looking up: those that give most entries their shortest list.
func (s *indexer) dimensions() []dimension {
	uses := map[dimension]int{}
	for _, i := range s.tried {
		if w := s.best(i, nil); w != nil && w[0].of != ofPath {
			uses[w.dimension()]++
		}
	}
	var all []dimension
	for d := range uses {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b dimension) int {
		return cmp.Or(cmp.Compare(uses[b], uses[a]), cmp.Compare(a.of, b.of), cmp.Compare(a.name, b.name))
	})
	return all[:min(len(all), maxValueIndexes)]
}

// best is the way to entry i by the shortest lists, nil when there is none; by values only in the given dimensions, nil: in any.
func (s *indexer) best(i int32, dimensions []dimension) (best way) {
	for _, w := range s.ways[i] {
		if w[0].of != ofPath && dimensions != nil && !slices.Contains(dimensions, w.dimension()) {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(s.length(w), s.length(best)), cmp.Compare(w[0].rank(), best[0].rank())) < 0 {
			best = w
		}
	}
	return best
}

// length is how many entries are at most on the way.
func (s *indexer) length(w way) (n int) {
	for _, k := range w {
		n += s.count[k]
	}
	return n
}

// rank prefers, between lists of one length, the key that fewer requests have and that is cheaper to look up.
func (k key) rank() int {
	switch {
	case k.of == ofPath && k.op == isExact:
		return 0
	case k.of == ofHeader, k.of == ofQuery:
		return 1
	case k.of == ofPath:
		return 2
	default:
		return 3
	}
}

// search is one lookup: the smallest entry that was found so far.
type search struct {
	entries []entry
	best    int32
}

// try tests candidates that could win.
func (s *search) try(candidates list, req Request) {
	for _, i := range candidates {
		if i >= s.best {
			return
		}
		if m := s.entries[i].matcher; m == nil || m.holds(req) {
			s.best = i
			return
		}
	}
}

// first returns the first entry that the request satisfies, -1 when it satisfies none.
func (x *index) first(entries []entry, req Request) int {
	s := search{entries: entries, best: int32(len(entries))}
	path := req.Path()
	if len(x.exact) > 0 {
		s.try(x.exact[string(path)], req)
	}
	for i := range x.values {
		if v := &x.values[i]; v.all[0] < s.best {
			v.search(&s, req)
		}
	}
	for n, rest := x.prefix, path; n != nil; n, rest = n.next(rest) {
		s.try(n.list, req)
	}
	for n, rest := x.folded, path; n != nil; n, rest = n.nextFolded(rest) {
		s.try(n.list, req)
	}
	s.try(x.rest, req)
	if int(s.best) == len(entries) {
		return -1
	}
	return int(s.best)
}

// search tries the entries that the request's value leads to.
func (v *valueIndex) search(s *search, req Request) {
	switch v.of {
	case ofHeader:
		i := req.Find(v.name)
		switch {
		case i < 0:
		case req.Next(i) >= 0: // the value would have to be put together
			s.try(v.all, req)
		default:
			s.try(v.lists[string(req.Value(i))], req)
		}
	case ofQuery:
		if value, ok := Parameter(req.Query(), v.name); ok {
			s.try(v.lists[string(value)], req)
		}
	case ofMethod:
		s.try(v.lists[string(req.MethodName())], req)
	case ofHosts:
		eachOf(v.lists, nameOf(req.Host()), func(l list) { s.try(l, req) })
	default:
		s.try(v.lists[string(req.Host())], req)
	}
}

// node is a node of a radix tree of beginnings of paths.
type node struct {
	label    string // what leads here from the parent
	list     list
	first    []byte // of the children's labels, in the children's order
	children []*node
}

// with returns the tree, which may be nil, with a candidate at a text.
func (n *node) with(text string, candidate int32) *node {
	if n == nil {
		n = &node{}
	}
	at := n.insert(text)
	at.list = append(at.list, candidate)
	return n
}

// insert returns the node of a text, making it when it is not there.
func (n *node) insert(text string) *node {
	for {
		if text == "" {
			return n
		}
		i := slices.Index(n.first, text[0])
		if i < 0 {
			child := &node{label: text}
			n.first, n.children = append(n.first, text[0]), append(n.children, child)
			return child
		}
		child := n.children[i]
		same := 0
		for same < len(text) && same < len(child.label) && text[same] == child.label[same] {
			same++
		}
		if same < len(child.label) {
			upper := &node{label: child.label[:same], first: []byte{child.label[same]}, children: []*node{child}}
			child.label = child.label[same:]
			n.children[i] = upper
			child = upper
		}
		n, text = child, text[same:]
	}
}

// next steps to the child whose label the rest begins with, and to what follows it; nil when there is none.
func (n *node) next(rest []byte) (*node, []byte) {
	if len(rest) == 0 {
		return nil, nil
	}
	for i, c := range n.first {
		if c != rest[0] {
			continue
		}
		child := n.children[i]
		if len(rest) < len(child.label) || string(rest[:len(child.label)]) != child.label {
			return nil, nil
		}
		return child, rest[len(child.label):]
	}
	return nil, nil
}

// nextFolded is next in a tree of texts in lower case, with ASCII letters of the rest in any case.
func (n *node) nextFolded(rest []byte) (*node, []byte) {
	if len(rest) == 0 {
		return nil, nil
	}
	for i, c := range n.first {
		if c != lower(rest[0]) {
			continue
		}
		child := n.children[i]
		if !beginsFolded(rest, child.label) {
			return nil, nil
		}
		return child, rest[len(child.label):]
	}
	return nil, nil
}
