package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// fanOut checks what is expected of a service's calls.
func (c *checker) fanOut(path string, f FanOut) {
	c.service(join(path, "service"), f.Service)
	c.version(join(path, "version"), f.Service, f.Version)
	c.stream(join(path, "load"), f.Load, false)
	if c.Tracing.Sampling != nil && *c.Tracing.Sampling == 0 {
		c.problem("MT1207", path, "no traces are recorded, so nobody knows how calls lie in time", "such as tracing: {sampling: 100%}")
	}
}

// graph checks who is expected to call whom.
func (c *checker) graph(path string, g Graph) {
	if g.Of != "" {
		c.caller(join(path, "of"), g.Of)
	}
	for _, caller := range slices.Sorted(maps.Keys(g.Calls)) {
		where := join(join(path, "calls"), caller)
		c.caller(where, caller)
		seen := map[string]bool{}
		for i, callee := range g.Calls[caller] {
			at := index(where, i)
			switch {
			case seen[callee]:
				c.problem("MT1204", at, fmt.Sprintf("%q is there already", shorten(callee)), "")
			case callee == caller:
				c.problem("MT1207", at, "a service does not call itself through the mesh", "")
			case c.External[callee] == nil && !strings.Contains(callee, "."):
				c.service(at, callee)
			}
			seen[callee] = true
		}
	}
}
