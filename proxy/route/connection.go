package route

import "math"

// connections finds the first entry that a connection satisfies of which no requests are understood. Its server name is all that can be tested, so an entry is in the lists of all its names or, without
// any, takes every connection; one that tests requests is in none.
type connections struct {
	names hostLists
	first int32 // of those that take every connection
}

const noEntry = math.MaxInt32

func newConnections(entries []entry, port int) connections {
	x := connections{first: noEntry}
	for i, e := range entries {
		switch m := e.matcher; {
		case m != nil && (!m.isFor(port) || len(m.conditions) > 0):
		case m == nil || m.servers == nil:
			x.first = min(x.first, int32(i))
		default:
			if x.names == nil {
				x.names = hostLists{}
			}
			for _, name := range m.servers {
				x.names[name] = append(x.names[name], int32(i))
			}
		}
	}
	return x
}

// LookupTLS finds the first rule for a connection of which no requests are understood, by the server name that its TLS asks for, in any case; empty: it asks for none, or is not TLS. The Hit is zero
// when there is no rule, and for a nil table. It allocates nothing.
func (t *Table) LookupTLS(sni string) Hit {
	if t == nil {
		return Hit{}
	}
	best := t.connections.first
	eachOf(t.connections.names, sni, func(l list) { best = min(best, l[0]) })
	if best == noEntry {
		return Hit{}
	}
	return t.hit(int(best))
}
