package run

import (
	"fmt"
	"math"
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// asked is a weight that the run asked for.
type asked struct {
	generation mesh.Generation
	share      float64 // of the canary
}

// splitCheck compares what the versions got with what the run itself asked for, whatever the sidecars say of it.
type splitCheck struct {
	routes []string // that the roll-out weights
	asked  []asked
	wrong  string // the first contradiction that chance cannot explain
}

// want is the share of the canary that the run asked for in a generation.
func (s *splitCheck) want(g mesh.Generation) float64 {
	share := 0.0
	for _, a := range s.asked {
		if a.generation.Compare(g) <= 0 {
			share = a.share
		}
	}
	return share
}

// watchSplit counts the requests of a block that the roll-out's split sent. While the control plane has not said yet which generation a new split has, the block waits.
func (c *conductor) watchSplit(b mesh.EvidenceBlock) error {
	if c.split.asking {
		c.split.pending = append(c.split.pending, b)
		return nil
	}
	r := c.Plan.Rollout
	got := map[float64][]uint64{}
	for _, cell := range b.Cells {
		if cell.Edge != c.edge.Edge || !slices.Contains(c.splits.routes, cell.Route) || (cell.Version != r.Canary && cell.Version != r.Stable) {
			continue
		}
		want := c.splits.want(cell.Generation)
		arm, share := 0, cell.Share
		if cell.Version == r.Stable {
			arm, share = 1, 1-cell.Share
		}
		if math.Abs(share-want) > 1e-6 && c.splits.wrong == "" {
			c.splits.wrong = fmt.Sprintf("%s says that it sends %.4g %% to the canary by generation %s, and %.4g %% were asked for", b.Instance, 100*share, cell.Generation, 100*want)
		}
		if got[want] == nil {
			got[want] = make([]uint64, 2)
		}
		got[want][arm] += cell.Requests
	}
	for want, counts := range got {
		if err := c.mixture.Add([]float64{want, 1 - want}, counts); err != nil {
			return fmt.Errorf("comparing the split: %w", err)
		}
	}
	return nil
}
