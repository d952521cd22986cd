package analyzer

import (
	"fmt"
	"slices"
	"time"

	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/mesh"
)

// Unit is what is judged.
type Unit string

// Units.
const (
	Requests Unit = "requests" // logical requests, after retries
	Attempts Unit = "attempts" // every attempt
)

// Edge is the judged edge: it turns the evidence of the caller's sidecars into observations.
type Edge struct {
	Edge   mesh.Edge
	Stable string // version of the baseline arm
	Canary string // version of the canary arm
	Unit   Unit
	Routes []string // of the roll-out: its split and its header routes; what other routes send is no comparison
	block  uint64

	Disturbed bool // a fault is in force, see [Observation]
}

// Observe returns the observations in a block of evidence; at is the block's end on the run's clock. Cells of other edges and versions are no evidence here.
func (e *Edge) Observe(b mesh.EvidenceBlock, at time.Duration) ([]Observation, error) {
	e.block++
	var observed []Observation
	for _, c := range b.Cells {
		if c.Edge != e.Edge || !slices.Contains(e.Routes, c.Route) || (c.Version != e.Stable && c.Version != e.Canary) {
			continue
		}
		o := Observation{
			Block: e.block, At: at,
			Stream: c.Stream,
			Arm:    Baseline, Share: 1 - c.Share,
			Requests: c.Requests, Failed: c.Failed, ByFault: c.ByFault, Disturbed: e.Disturbed,
		}
		if c.Version == e.Canary {
			o.Arm, o.Share = Canary, c.Share
		}
		o.Stratum = stratum(c.Route, o.Share)
		if e.Unit == Attempts {
			o.Requests, o.Failed, o.ByFault = c.Attempts, c.AttemptsKO, min(c.ByFault, c.AttemptsKO)
		}
		if len(c.Latency) > 0 {
			o.Latency = &hist.Histogram{}
			if err := o.Latency.AddSparse(c.Latency); err != nil {
				return nil, fmt.Errorf("reading evidence of %s: %w", b.Instance, err)
			}
		}
		observed = append(observed, o)
	}
	return observed, nil
}

// stratum names the rule that sent requests: a route at one split of it. Generations that leave the split alone do not part what belongs together.
func stratum(route string, share float64) string { return fmt.Sprintf("%s@%.6g", route, share) }
