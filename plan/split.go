package plan

import (
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// SplitRouteName is the name of the weighted route of a roll-out whose rules have none of their own. It never changes during a run, so that neither do the chance
// draws that are made in its name.
const SplitRouteName = "canary-split"

// OriginRollout is the Origin of routes that a roll-out made.
const OriginRollout = "rollout"

// Split names the two arms of a roll-out. Its methods edit the route table of the service: they return a new table and leave the given one as it is.
type Split struct {
	Host   string `json:"host"` // fully qualified
	Port   int    `json:"port"`
	Stable string `json:"stable"` // subset
	Canary string `json:"canary"` // subset
}

// WithWeights sends the given percentage (0 to 100) of every weighted route to the canary and the rest to stable. Routes that do not split between exactly
// these two stay as they are.
func (s Split) WithWeights(table *mesh.RouteTable, percent int) *mesh.RouteTable {
	percent = min(max(percent, 0), 100)
	next := cloneTable(table)
	for i, r := range next.Routes {
		if !s.weighted(r) {
			continue
		}
		arms := slices.Clone(r.Split)
		for j := range arms {
			if arms[j].Subset == s.Canary {
				arms[j].Weight = uint32(percent)
			} else {
				arms[j].Weight = uint32(100 - percent)
			}
		}
		next.Routes[i].Split = arms
	}
	return next
}

// Routes are the names of the routes that WithWeights edits: the roll-out's own split.
func (s Split) Routes(table *mesh.RouteTable) []string {
	var names []string
	for _, r := range table.Routes {
		if s.weighted(r) {
			names = append(names, r.Name)
		}
	}
	return names
}

// WithHeaderRoute puts a route to the canary first in the table, for requests that satisfy any of the matches, in place of an earlier one of that name. Without
// matches it removes the route. Apart from its destination the route is like the weighted one: same timeout, retries, rewrite and header changes.
func (s Split) WithHeaderRoute(table *mesh.RouteTable, name string, matches []mesh.Match) *mesh.RouteTable {
	next := cloneTable(table)
	at := slices.IndexFunc(next.Routes, func(r mesh.Route) bool { return r.Origin == OriginRollout && r.Name == name })
	if len(matches) == 0 {
		if at >= 0 {
			next.Routes = slices.Delete(next.Routes, at, at+1)
		}
		return next
	}
	route := mesh.Route{}
	if i := slices.IndexFunc(next.Routes, s.weighted); i >= 0 {
		route = next.Routes[i]
	}
	route.Name, route.Origin, route.Matches, route.Sticky = name, OriginRollout, matches, nil
	route.Split = []mesh.Destination{{Host: s.Host, Subset: s.Canary, Port: s.Port, Weight: 100}}
	if at >= 0 {
		next.Routes[at] = route
		return next
	}
	next.Routes = slices.Insert(next.Routes, s.headerRoutes(next), route)
	return next
}

// WithoutHeaderRoutes removes every header route of the roll-out, as its end does.
func (s Split) WithoutHeaderRoutes(table *mesh.RouteTable) *mesh.RouteTable {
	next := cloneTable(table)
	next.Routes = slices.DeleteFunc(next.Routes, s.headerRoute)
	return next
}

// headerRoutes counts the header routes, which stand first, in the order in which they came.
func (s Split) headerRoutes(t *mesh.RouteTable) int {
	n := 0
	for n < len(t.Routes) && s.headerRoute(t.Routes[n]) {
		n++
	}
	return n
}

func (s Split) headerRoute(r mesh.Route) bool {
	return r.Origin == OriginRollout && r.Name != SplitRouteName
}

// weighted reports whether a route splits between exactly the two arms.
func (s Split) weighted(r mesh.Route) bool {
	if len(r.Split) != 2 {
		return false
	}
	a, b := r.Split[0], r.Split[1]
	return a.Host == s.Host && b.Host == s.Host &&
		(a.Subset == s.Stable && b.Subset == s.Canary || a.Subset == s.Canary && b.Subset == s.Stable)
}

func cloneTable(t *mesh.RouteTable) *mesh.RouteTable {
	next := *t
	next.Routes = slices.Clone(t.Routes)
	return &next
}
