package traces

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Call is one logical request that a service made while it served another: its attempts, in their order.
type Call struct {
	Name     string // of the spans
	Service  string // that was called; empty when that is not known
	Attempts []*Node
}

// Start is when the first attempt began.
func (c *Call) Start() time.Duration { return c.Attempts[0].Start() }

// End is when the last attempt ended.
func (c *Call) End() time.Duration {
	var end time.Duration
	for _, a := range c.Attempts {
		end = max(end, a.End())
	}
	return end
}

// Failed reports whether the last attempt failed.
func (c *Call) Failed() bool { return c.Attempts[len(c.Attempts)-1].Failed() }

// Calls lists the requests that were made on behalf of a span, in the order of their beginnings: its children of kind CLIENT. An attempt that says how many went before it ([TagRetryCount]) belongs
// to the latest call of the same name and service that has had so many.
func (n *Node) Calls() []*Call {
	var calls []*Call
	for _, c := range n.Children {
		if c.Kind != Client {
			continue
		}
		service := c.callee()
		before, _ := strconv.Atoi(c.Tags[TagRetryCount])
		i := -1
		if before > 0 {
			i = lastIndex(calls, func(k *Call) bool {
				return k.Name == c.Name && k.Service == service && len(k.Attempts) == before
			})
		}
		if i < 0 {
			calls = append(calls, &Call{Name: c.Name, Service: service, Attempts: []*Node{c}})
		} else {
			calls[i].Attempts = append(calls[i].Attempts, c)
		}
	}
	return calls
}

func lastIndex[T any](all []T, is func(T) bool) int {
	for i, v := range slices.Backward(all) {
		if is(v) {
			return i
		}
	}
	return -1
}

// callee is the service that a client's span called: what the server says of itself, or else what the client says of it.
func (n *Node) callee() string {
	for _, c := range n.Children {
		if c.Kind == Server && c.Service() != "" {
			return c.Service()
		}
	}
	return n.Remote()
}

// Attempts counts the attempts of all calls in the trace, and the calls: their difference is the retries.
func (t *Trace) Attempts() (attempts, calls int) {
	count := func(made []*Call) {
		for _, c := range made {
			attempts += len(c.Attempts)
			calls++
		}
	}
	count((&Node{Children: t.Roots}).Calls())
	for n := range t.All() {
		count(n.Calls())
	}
	return attempts, calls
}

// Shape says how the calls of one span lie in time.
type Shape string

// Shapes.
const (
	NoFanOut Shape = "none"     // less than two calls
	Serial   Shape = "serial"   // one after the other
	Parallel Shape = "parallel" // all at the same time
	Mixed    Shape = "mixed"    // some at the same time
)

// FanOut is how a span's calls lie in time.
type FanOut struct {
	Shape   Shape
	Calls   int
	Most    int           // calls at the same time
	Busy    time.Duration // during which at least one call was under way
	Sum     time.Duration // of all calls; serial calls take this long, parallel ones could take as long as the longest
	Longest time.Duration // the longest call
}

// FanOut looks at the calls that were made on behalf of a span. Two calls are at the same time when they overlap by more than a tenth of the shorter: a sidecar tells the end of a call a moment
// after its caller has seen it.
func (n *Node) FanOut() FanOut {
	calls := n.Calls()
	f := FanOut{Shape: NoFanOut, Calls: len(calls)}
	var end time.Duration
	for _, c := range calls {
		took := c.End() - c.Start()
		f.Sum += took
		f.Longest = max(f.Longest, took)
		f.Busy += max(c.End()-max(c.Start(), end), 0)
		end = max(end, c.End())
		f.Most = max(f.Most, together(c, calls))
	}
	switch {
	case f.Calls < 2:
	case f.Most == 1:
		f.Shape = Serial
	case f.Most == f.Calls:
		f.Shape = Parallel
	default:
		f.Shape = Mixed
	}
	return f
}

// together counts the calls that are under way when a call begins, itself included.
func together(c *Call, calls []*Call) (n int) {
	for _, other := range calls {
		if other == c || other.Start() <= c.Start() && overlap(other, c) {
			n++
		}
	}
	return n
}

func overlap(a, b *Call) bool {
	common := min(a.End(), b.End()) - max(a.Start(), b.Start())
	shorter := min(a.End()-a.Start(), b.End()-b.Start())
	return common*10 > shorter
}

// Link says how often one service called another, as Zipkin's /dependencies does.
type Link struct {
	Parent     string `json:"parent"`
	Child      string `json:"child"`
	CallCount  int    `json:"callCount"`
	ErrorCount int    `json:"errorCount,omitempty"`
}

// Links counts the calls between services, in the order of their names. Each attempt is a call. A call that both ends tell of is counted once.
func Links(traces []*Trace) []Link {
	type pair struct{ parent, child string }
	links := map[pair]*Link{}
	for _, t := range traces {
		for n := range t.All() {
			p := pair{}
			failed := n.Failed()
			switch {
			case n.Kind == Client && !n.served():
				p = pair{n.Service(), n.Remote()}
			case n.Kind == Server:
				p = pair{n.caller(), n.Service()}
				failed = failed || n.Parent != nil && n.Parent.Kind == Client && n.Parent.Failed()
			}
			if p.parent == "" || p.child == "" {
				continue
			}
			if links[p] == nil {
				links[p] = &Link{Parent: p.parent, Child: p.child}
			}
			links[p].CallCount++
			if failed {
				links[p].ErrorCount++
			}
		}
	}
	all := []Link{}
	for _, l := range links {
		all = append(all, *l)
	}
	slices.SortFunc(all, func(a, b Link) int {
		return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Child, b.Child))
	})
	return all
}

// served reports whether the other end tells of the call too.
func (n *Node) served() bool {
	return slices.ContainsFunc(n.Children, func(c *Node) bool { return c.Kind == Server })
}

// caller is the service that a server's span was called by.
func (n *Node) caller() string {
	for a := n.Parent; a != nil; a = a.Parent {
		if a.Kind != "" && a.Service() != "" {
			return a.Service()
		}
	}
	return n.Remote()
}
