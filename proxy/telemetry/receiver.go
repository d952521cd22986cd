package telemetry

import (
	"cmp"
	"strings"
	"sync"
)

// maxCallers bounds the callers that a Receiver remembers. Those beyond are remembered by their connections alone.
const maxCallers = 1024

// Receiver tells the metrics of one kind of traffic that arrives, apart by who sent it. Resolve it once per configuration, and protocol; it is safe for concurrent use.
type Receiver struct {
	metrics *Metrics
	traffic Traffic

	mu      sync.RWMutex
	callers map[callerKey]*caller
}

// callerKey is what a sender says of himself, and what he has proven.
type callerKey struct{ said, principal string }

// caller is the handles on the traffic of one sender.
type caller struct {
	key  callerKey
	to   *Receiver
	kind *kind
}

// Receiver returns a receiver of the traffic, whose Source is that of each sender. An empty Protocol is HTTP.
func (m *Metrics) Receiver(t Traffic) *Receiver {
	t.Protocol = cmp.Or(t.Protocol, ProtocolHTTP)
	return &Receiver{metrics: m, traffic: t, callers: map[callerKey]*caller{}}
}

// PeerCache is a connection's memory of who sends on it, a word long. The zero value remembers nobody. It is not safe for concurrent use.
type PeerCache struct{ last *caller }

// Requests gives the metrics of requests that arrive for a receiver of HTTP or gRPC, from a sender who says to be what the value of [mesh.HeaderPeer] says (empty: says nothing; malformed:
// the same) and has proven the principal (empty: none). It compares the value with that of the request before, and allocates nothing while that is the same. The value is only read during
// the call.
func (c *PeerCache) Requests(to *Receiver, principal string, value []byte) Requests {
	return Requests{c.of(to, principal, value).kind}
}

// Connections is Requests for a receiver of TCP.
func (c *PeerCache) Connections(to *Receiver, principal string, value []byte) Connections {
	return Connections{c.of(to, principal, value).kind}
}

// Service names the service of the sender: his canonical service; empty when nobody knows. The arguments are those of Requests.
func (c *PeerCache) Service(to *Receiver, principal string, value []byte) string {
	return c.of(to, principal, value).kind.traffic.Source.CanonicalService
}

func (c *PeerCache) of(to *Receiver, principal string, value []byte) *caller {
	if l := c.last; l == nil || l.to != to || l.key.principal != principal || l.key.said != string(value) {
		c.last = to.caller(principal, value)
	}
	return c.last
}

// caller finds or makes the handles of a sender.
func (r *Receiver) caller(principal string, value []byte) *caller {
	if len(value) > MaxPeer {
		value = value[:MaxPeer+1] // malformed all the same
	}
	r.mu.RLock()
	had := r.callers[callerKey{string(value), principal}]
	r.mu.RUnlock()
	if had != nil {
		return had
	}
	made := r.resolve(callerKey{string(value), strings.Clone(principal)})
	r.mu.Lock()
	defer r.mu.Unlock()
	if had := r.callers[made.key]; had != nil {
		return had
	}
	if len(r.callers) < maxCallers {
		r.callers[made.key] = made
	}
	return made
}

func (r *Receiver) resolve(key callerKey) *caller {
	t := r.traffic
	t.Source, _ = ParsePeer([]byte(key.said)) // of one who says what is none, nothing is known
	t.Source.Principal = key.principal
	return &caller{key: key, to: r, kind: r.metrics.kind(t)}
}
