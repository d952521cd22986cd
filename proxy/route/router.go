package route

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// Router holds the compiled tables of everything that one caller can reach. It is immutable; a new configuration is a new router.
type Router struct {
	caller   mesh.Workload
	snapshot *mesh.Snapshot
	names    *names   // of hosts, to places in tables
	tables   []*Table // by place
}

// Compile compiles a snapshot for one caller: a table for each RouteTable, and an implicit one, which sends everything to all endpoints, for each Endpoints without. The error joins all mistakes, in the
// tables' order; the snapshot must not be changed afterwards.
func Compile(snapshot *mesh.Snapshot, caller mesh.Workload) (*Router, error) {
	return Recompile(nil, snapshot, caller)
}

// Recompile is Compile, and keeps what an earlier router of the same caller compiled where the resources are the same ones (by pointer), so that one changed table costs one
// table. prev may be nil.
func Recompile(prev *Router, snapshot *mesh.Snapshot, caller mesh.Workload) (*Router, error) {
	if prev != nil && !sameCaller(prev.caller, caller) {
		prev = nil
	}
	r := &Router{caller: caller, snapshot: snapshot, names: namesOf(prev, snapshot, cmp.Or(caller.Namespace, mesh.DefaultNamespace))}
	r.tables = make([]*Table, len(r.names.ports))
	var errs []error
	from, edges, retries := CallerName(caller), map[string]namedEdge{}, map[*mesh.Retry]*mesh.Retry{}
	for place, at := range r.names.ports {
		source := snapshot.Routes[at.name]
		if prev != nil {
			if had := prev.byName(at.name); had.holds(source, snapshot) {
				r.tables[place] = had
				continue
			}
		}
		c := &tableCompiler{
			snapshot: snapshot, names: r.names, caller: sourceOf(caller), from: from, found: map[string]bool{}, edges: edges, retries: retries,
			out: &Table{Host: at.host, Port: at.port, source: source},
		}
		table, err := c.compile()
		if err != nil {
			errs = append(errs, err)
		}
		r.tables[place] = table
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, nil
}

func sameCaller(a, b mesh.Workload) bool {
	return CallerName(a) == CallerName(b) && a.Namespace == b.Namespace && maps.Equal(a.Labels, b.Labels)
}

// holds reports whether compiling would give the same table again.
func (t *Table) holds(source *mesh.RouteTable, snapshot *mesh.Snapshot) bool {
	if t == nil || t.source != source {
		return false
	}
	return !slices.ContainsFunc(t.named, func(n named) bool { return snapshot.Services[n.host] != n.service })
}

// Caller is the workload that the router was compiled for.
func (r *Router) Caller() mesh.Workload { return r.caller }

// Snapshot is what the router was compiled from.
func (r *Router) Snapshot() *mesh.Snapshot { return r.snapshot }

// Tables lists all tables, by host and port.
func (r *Router) Tables() []*Table {
	return slices.SortedFunc(slices.Values(r.tables), func(a, b *Table) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
}

// Table finds the table of a port of a fully qualified host, as listeners name it; nil when there is none.
func (r *Router) Table(host string, port int) *Table {
	place, ok := r.names.exact[hostPort{host, port}]
	if !ok {
		return nil
	}
	return r.tables[place]
}

// byName finds the table of a resource.
func (r *Router) byName(name string) *Table {
	place, ok := r.names.place(name)
	if !ok {
		return nil
	}
	return r.tables[place]
}

// TableFor finds the table by the authority of a request, as an http_proxy listener and a gateway do: any of mesh.Aliases in the caller's namespace, in any case, with or without a final dot and a port; a host *.x is any name that ends with .x and is
// no other host, the longest suffix first. Without a
// port it is port 80, or else the only HTTP port of the host. It returns nil when nothing is meant, and allocates nothing.
func (r *Router) TableFor(authority []byte) *Table {
	return r.TableOn(authority, 0)
}

// TableOn is TableFor for a request that went to a port: that is the one which is meant by an authority without any.
func (r *Router) TableOn(authority []byte, port int) *Table {
	place := r.names.find(r.tables, authority, port)
	if place < 0 {
		return nil
	}
	return r.tables[place]
}
