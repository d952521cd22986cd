package route

import (
	"bytes"
	"maps"
	"slices"
	"time"
	"unsafe"

	"meshtest.dev/meshtest/mesh"
)

// Rule is one compiled rule of a table, with everything that a request needs resolved. It is immutable.
type Rule struct {
	Name     string
	Route    *mesh.Route // as configured; of an implicit rule, what it amounts to
	Implicit bool        // the host has no rules: all requests go to all its endpoints
	Edge     mesh.Edge   // from the caller to the host that was asked for
	EdgeName string      // Edge.String(), as chance draws want it
	ID       string      // of the split's draws: LOGICAL-HOST:PORT/NAME
	Arms     []Arm       // of the split, in order; none when Route.Redirect or Route.Direct answers
	Mirrors  []Mirror    // of requests that are sent on
	CORS     *CORS       // before any action; nil: pages of other origins are not spoken of

	Timeout  time.Duration // of the whole request, retries included; 0: none
	Retry    *mesh.Retry   // nil: no retries. BackoffBase is set
	RetryOn  RetryOn       // Retry's conditions
	Response []Edit        // of the answer when no arm was chosen

	weights   []uint32
	rewriting *rewriting // of Route.Rewrite.Regex
}

// Arm is one destination of a rule's split.
type Arm struct {
	Destination *mesh.Destination // as configured
	Host        string            // fully qualified
	Port        int               // of the service
	Endpoints   string            // name of the endpoints resource: mesh.HostPort(Host, Port)
	Labels      mesh.Labels       // of the subset: the endpoints that have them; nil: all endpoints
	Version     string            // version label of the subset; empty: the version is that of the endpoint that is picked
	// Share is the chance with which the split chooses Version on this Edge, the evidence's Share: the weights of the rule's arms to that version over all weights. 1 for a lone arm; 0 when the split does not
	// decide the version.
	Share    float64
	Edge     mesh.Edge // from the caller to the destination
	EdgeName string    // Edge.String()
	Request  []Edit    // in the order in which they are applied
	Response []Edit
	Refuse   int    // status with which a request that chooses it is answered; 0: it is sent on. Such an arm leads nowhere
	Missing  string // why it leads nowhere although the route wants it to, in words; Refuse is 503 then
}

// Mirror is where copies of a share of a rule's requests go, as the chosen arm gets them. A request that is refused is not copied.
type Mirror struct {
	Arm   Arm     // where to; it has no share, and changes no headers
	Share float64 // of the requests, 0 to 1
	ID    string  // of its draws: the rule's, and the mirror's place in it
}

// Copies reports whether a request is copied: mesh.Chance(seed, mesh.PurposeSample, ID, Arm.EdgeName, key, 0) below the share. A share that grows takes no copy away.
func (m *Mirror) Copies(seed uint64, key string) bool { return m.draw(seed, key).Below(m.Share) }

func (m *Mirror) draw(seed uint64, key string) mesh.Draw {
	return mesh.Chance(seed, mesh.PurposeSample, m.ID, m.Arm.EdgeName, key, 0)
}

// EditOp is a change of a header.
type EditOp uint8

// The changes.
const (
	RemoveHeader EditOp = iota
	SetHeader           // replaces all values
	AddHeader           // adds a value
)

// Edit is one change of one header. Name is as configured; header names have no case.
type Edit struct {
	Op    EditOp
	Name  string
	Value string // empty with RemoveHeader
}

// appendEdits appends a change in its order: remove, then set, then add, each by name.
func appendEdits(edits []Edit, change mesh.HeaderChange) []Edit {
	for _, name := range change.Remove {
		edits = append(edits, Edit{Op: RemoveHeader, Name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(change.Set)) {
		edits = append(edits, Edit{SetHeader, name, change.Set[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(change.Add)) {
		edits = append(edits, Edit{AddHeader, name, change.Add[name]})
	}
	return edits
}

// Choose draws the arm of one request: its index in Arms, -1 when there are none. The draw is mesh.Chance(seed, mesh.PurposeSplit, ID, EdgeName, k, 0) picking by the
// weights, where k is the sticky value that the request carries, or else the request key.
//
// ID holds nothing but the logical host and port of the table and the rule's name, so that the same keys go to the same arms in every environment, and a change of
// weights moves only the keys that it must. With two arms a growing weight never takes a key away from its arm. A lone arm is chosen without a draw.
//
// The key is only read during the call: it may be the caller's bytes seen as a string. A connection of which no requests are understood has a nil request.
func (r *Rule) Choose(seed uint64, req Request, key string) int {
	if len(r.Arms) < 2 {
		return len(r.Arms) - 1
	}
	return r.draw(seed, req, key).Pick(r.weights)
}

func (r *Rule) draw(seed uint64, req Request, key string) mesh.Draw {
	if sticky := r.stickyValue(req); len(sticky) > 0 {
		key = unsafe.String(&sticky[0], len(sticky)) // read during the call only
	}
	return mesh.Chance(seed, mesh.PurposeSplit, r.ID, r.EdgeName, key, 0)
}

// stickyValue is what the rule's split is keyed by instead of the request key; empty when the request does not carry it.
func (r *Rule) stickyValue(req Request) []byte {
	sticky := r.Route.Sticky
	switch {
	case sticky == nil || req == nil:
		return nil
	case sticky.Header != "":
		if i := req.Find(sticky.Header); i >= 0 {
			return req.Value(i)
		}
		return nil
	default:
		return Cookie(req, sticky.Cookie)
	}
}

// Cookie gives the value of a cookie, without quotes around it (RFC 6265, 4.2.1); nil when there is none.
func Cookie(req Request, name string) []byte {
	for i := req.Find("cookie"); i >= 0; i = req.Next(i) {
		for pairs := req.Value(i); len(pairs) > 0; {
			var pair []byte
			pair, pairs, _ = bytes.Cut(pairs, []byte(";"))
			key, value, ok := bytes.Cut(bytes.TrimSpace(pair), []byte("="))
			if !ok || string(key) != name {
				continue
			}
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return value
		}
	}
	return nil
}
