// Package analyzer judges: it turns what sidecars saw into a judgement of the canary, with its reason.
//
// A judgement has four values, because "no evidence" is neither good nor bad. It is a function of the observations alone: the same evidence gives
// the same judgement, bit for bit, however often it is asked for.
package analyzer

import (
	"fmt"
	"math"
	"strings"
	"time"

	"meshtest.dev/meshtest/internal/hist"
)

// Verdict is what a check, or all of them, say of the canary.
type Verdict string

// Verdicts.
const (
	Good      Verdict = "good"      // shown to be no worse than declared
	Bad       Verdict = "bad"       // shown to be worse
	Undecided Verdict = "undecided" // there is evidence, and not enough of it
	NoData    Verdict = "noData"    // there is none
)

// Arm is one side of the comparison.
type Arm int

// Arms.
const (
	Baseline Arm = iota
	Canary
)

// Observation counts the judged units of one arm that ended in a short stretch of time under one rule of routing. Observations that share a Block and a
// Stratum are of the same stretch of time, so that the two arms can be compared in it.
type Observation struct {
	Block    uint64        // which stretch of time
	At       time.Duration // its end, on the run's clock
	Stratum  string        // the rule that sent the requests: a route at one split
	Stream   string        // the load stream; header routes are compared within it
	Arm      Arm
	Share    float64 // the chance with which the rule's split chooses the canary; 0 or 1: it does not split
	Requests uint64
	Failed   uint64
	ByFault  uint64 // of the failed: an injected fault on the judged edge answered
	// Disturbed says that a fault was in force that changes more than what ByFault counts. Both arms of a split feel it alike; a stream that is compared with its own past does not.
	Disturbed bool
	Latency   *hist.Histogram // of requests that succeeded; nil: none did
}

// Check is the state of one check.
type Check struct {
	Name      string
	Verdict   Verdict
	Critical  bool // false: reported, and never decides
	Query     string
	Value     float64 // of the canary
	Baseline  float64 // of the baseline; NaN where there is no comparison
	Threshold float64
	Unit      string  // "%", "ms", or nothing
	Samples   uint64  // canary's
	Evidence  float64 // log10 of the e-value against the canary
	Needed    uint64  // forecast: further canary requests until the check can be good; 0: none, or unknown
	Reason    string
}

// Judgement is the state of all checks together.
type Judgement struct {
	Verdict        Verdict
	Reason         string
	Checks         []Check
	CanaryRequests uint64
	CanaryFailed   uint64
}

// Judge is a plug point: one check that can be observed and asked. Implementations pass analyzertest.
type Judge interface {
	// Observe takes observations of one block; blocks come in order.
	Observe(block []Observation)
	// Check returns the state of the check after all that was observed.
	Check() Check
}

// combine makes one judgement of several checks: bad when a critical check is, good when all critical ones are, and otherwise undecided; no data
// counts as undecided as long as another check has some.
func combine(checks []Check) (Verdict, string) {
	var waiting []string
	critical, empty := 0, 0
	for _, c := range checks {
		if !c.Critical {
			continue
		}
		critical++
		switch c.Verdict {
		case Bad:
			return Bad, c.Name + ": " + c.Reason
		case NoData:
			empty++
			waiting = append(waiting, c.Name+": "+c.Reason)
		case Undecided:
			waiting = append(waiting, c.Name+": "+c.Reason)
		}
	}
	switch {
	case critical == 0:
		return NoData, "no critical check"
	case empty == critical:
		return NoData, strings.Join(waiting, "; ")
	case len(waiting) > 0:
		return Undecided, strings.Join(waiting, "; ")
	default:
		return Good, fmt.Sprintf("%d of %d checks are good", critical, critical)
	}
}

// finite keeps a figure that cannot be computed out of reports.
func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}
