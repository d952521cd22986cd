package proxy

import (
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
)

// Filter looks at requests on their way to an upstream and says what shall become of them. It decides; the core acts: it waits, answers, retries, counts.
//
// Filters are asked in the order of the chain. The verdict of one is carried out before the next is asked, so that a filter behind one that answers never sees
// the request. A filter is called by many connections at once; it must not block, and must not keep the exchange or anything that it points to. For a request
// that it lets pass it should allocate nothing. Package filtertest holds the contract as a suite of tests.
type Filter interface {
	// Name is stable and fit for a label.
	Name() string
	// Decide judges one request at one point of its life. The zero Verdict lets it pass.
	Decide(at Point, x *Exchange) Verdict
}

// Point is where in the life of a request a filter is asked.
type Point uint8

// The points.
const (
	AtRequest Point = iota // once per logical request, when route and version are chosen: above retries and timeouts
	AtAttempt              // before each attempt: below them, so that an answer is an attempt that failed
)

// String gives the point's name, as in [mesh.FaultPoint].
func (p Point) String() string {
	if p == AtAttempt {
		return string(mesh.AtAttempt)
	}
	return string(mesh.AtRequest)
}

// Exchange is what a filter may know of a request. It lives in its connection's memory and is valid only during the call: strings too, so clone what you keep.
type Exchange struct {
	Key     string         // request key; never empty
	Attempt uint32         // from 1; 0 at the request
	Seed    uint64         // of the run's chance
	Edge    mesh.Edge      // caller and callee, by logical names
	Route   string         // name of the route taken
	Host    string         // of the chosen destination, fully qualified
	Port    int            // of the chosen destination
	Version string         // of the chosen destination; empty when the destination has no one version
	Caller  *mesh.Workload // whose sidecar this is
	Request *http1.Head    // the request as it came, its path normalised
}

// Verdict is what shall be done with a request: first it is held back, then perhaps answered. The zero value lets it pass.
type Verdict struct {
	Delay  time.Duration   // hold it back that long
	Cut    <-chan struct{} // closing it ends the delay early and lets the request pass: the verdict is not in force any more; nil: nobody does
	Status int             // answer with it instead of going on; 0: go on
	Reason string          // of the answer, for [mesh.HeaderReason]
	Flags  Flags           // Envoy's flags for what was done
	Effect Effect          // is told when it is over; may be nil
}

// IsZero reports whether the request passes untouched.
func (v *Verdict) IsZero() bool { return v.Delay <= 0 && v.Status == 0 && v.Effect == nil }

// Effect is a verdict's life after the decision. An Effect that is a pointer costs no allocation.
type Effect interface {
	// Done is called exactly once for a verdict that carries the effect, when nothing of it is in force any more: the delay is over and the answer, if any, was written or
	// the caller has gone. It must not block.
	Done(Carried)
}

// Carried is what really happened.
type Carried struct {
	Delayed  time.Duration // how long the request was held back; less than the verdict's delay when something ended it early
	Answered bool          // the verdict's answer took the upstream's place
}
