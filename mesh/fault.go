package mesh

import "time"

// Fault is something that goes wrong on purpose on an edge, decided per request by [Chance].
type Fault struct {
	ID      string     `json:"id"`
	From    string     `json:"from"`              // logical name of the caller; its sidecar executes the fault
	To      string     `json:"to"`                // logical name of the callee
	Version string     `json:"version,omitempty"` // only requests that go to this version of the callee; empty: all
	Match   *Match     `json:"match,omitempty"`   // only requests that satisfy this; nil: all
	At      FaultPoint `json:"at"`
	Delay   *Delay     `json:"delay,omitempty"`
	Abort   *Abort     `json:"abort,omitempty"`
	First   uint64     `json:"first,omitempty"`     // only the first n matching requests of each sidecar; 0: no such limit
	Every   uint64     `json:"every,omitempty"`     // every nth matching request of each sidecar; 0: decided by the share
	Max     uint32     `json:"maxActive,omitempty"` // at most this many at a time in a sidecar; 0: no limit
}

// FaultPoint is where in the life of a request a fault acts.
type FaultPoint string

// Fault points.
const (
	AtRequest FaultPoint = "request" // once, above retries and timeouts: what the caller's application sees
	AtAttempt FaultPoint = "attempt" // drawn for each attempt, below retries and timeouts: what the mesh recovers from
)

// Delay holds a share of requests back before they are sent on.
type Delay struct {
	Fixed time.Duration `json:"fixed"`
	Share float64       `json:"share"` // 0 to 1
}

// Abort answers a share of requests instead of the callee.
type Abort struct {
	Status int     `json:"status"`
	Share  float64 `json:"share"` // 0 to 1
}

// Lease lets an executor hold a fault until TTL has passed on its own clock since the message arrived; whoever injects renews at a third of
// it. Order is (Epoch, Counter): an executor ignores a message that is not newer than what it has.
type Lease struct {
	Run     string        `json:"run"`
	Fault   string        `json:"fault"`
	Epoch   uint64        `json:"epoch"`   // grows when the holder restarts
	Counter uint64        `json:"counter"` // grows with each renewal
	TTL     time.Duration `json:"ttl"`     // 0 releases at once
}

// Lease durations.
const (
	DefaultLeaseTTL = 10 * time.Second
	MaxLeaseTTL     = 30 * time.Second
)

// Newer reports whether the lease supersedes the other one.
func (l Lease) Newer(than Lease) bool {
	if l.Epoch != than.Epoch {
		return l.Epoch > than.Epoch
	}
	return l.Counter > than.Counter
}

// LeaseState is where a lease is in its life at one executor.
type LeaseState string

// Lease states.
const (
	LeaseHeld     LeaseState = "held"
	LeaseReleased LeaseState = "released" // undone by its holder
	LeaseLapsed   LeaseState = "lapsed"   // undone by itself, because nobody renewed it
)

// Accounting is what one executor has done for one fault so far. Counts only grow.
type Accounting struct {
	Fault    string     `json:"fault"`
	Executor string     `json:"executor"` // workload instance
	State    LeaseState `json:"state"`
	Matched  uint64     `json:"matched"`  // requests (or attempts) on which the fault was asked
	Delayed  uint64     `json:"delayed"`  // of them, held back
	Aborted  uint64     `json:"aborted"`  // of them, answered
	Overflow uint64     `json:"overflow"` // drawn but let through because of maxActive
	Active   uint64     `json:"active"`   // in effect now; not 0 after the end is residue
}

// Injected is how often the fault acted.
func (a Accounting) Injected() uint64 { return a.Delayed + a.Aborted }
