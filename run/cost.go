package run

import (
	"time"

	"meshtest.dev/meshtest/journal"
)

// account works out what the mesh itself used while load ran.
func (c *conductor) account() {
	if c.usage == nil || c.mesh == nil {
		return
	}
	now := c.mesh.Usage()
	cost := journal.Cost{Sidecars: len(c.there)}
	for _, s := range c.there {
		after, alive := now[s.Process]
		if !alive {
			continue
		}
		cost.CPU += after.CPU - c.usage[s.Process].CPU
		cost.RSS += after.RSS
	}
	for _, cell := range c.tally.cells {
		cost.Requests += cell.requests + cell.attempts // at the caller's sidecar and at the callee's
	}
	if cost.Requests > 0 {
		cost.PerThousand = time.Duration(float64(cost.CPU) / float64(cost.Requests) * 1000)
	}
	c.cost = &cost
	c.rec.record(cost)
}
