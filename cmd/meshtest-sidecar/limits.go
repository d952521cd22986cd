package main

import (
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// A sidecar that runs alone stands before services and not beside one, so it holds callers to the limits of those that it leads to.

// limitsOf are the limits of several services at a listener that leads to all of them. A limit's name is its own within one service only, so where several have limits it says of whom.
func limitsOf(byHost map[string][]mesh.RateLimit) []mesh.RateLimit {
	var all []mesh.RateLimit
	for _, host := range slices.Sorted(maps.Keys(byHost)) {
		for _, l := range byHost[host] {
			if len(byHost) > 1 {
				l.Name = mesh.LogicalName(host) + "/" + l.Name
			}
			all = append(all, l)
		}
	}
	return all
}

// limitsByAuthority are the limits of several services where a request's authority says for which it is: each is for the requests that name its service.
func limitsByAuthority(byHost map[string][]mesh.RateLimit) []mesh.RateLimit {
	named := map[string][]mesh.RateLimit{}
	for host, limits := range byHost {
		names := mesh.Aliases(host, mesh.DefaultNamespace)
		for _, l := range limits {
			l.Matches = slices.Clone(l.Matches)
			if len(l.Matches) == 0 {
				l.Matches = []mesh.Match{{}}
			}
			for i := range l.Matches {
				l.Matches[i].Hosts = names
			}
			named[host] = append(named[host], l)
		}
	}
	return limitsOf(named)
}
