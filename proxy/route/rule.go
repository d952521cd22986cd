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

	Timeout  time.Duration // of the whole request, retries included; 0: none
	Retry    *mesh.Retry   // nil: no retries. BackoffBase is set
	Response []Edit        // of the answer when no arm was chosen

	weights []uint32
}

// Arm is one destination of a rule's split.
type Arm struct {
	Destination mesh.Destination
	Host        string      // fully qualified
	Port        int         // of the service
	Endpoints   string      // name of the endpoints resource: mesh.HostPort(Host, Port)
	Labels      mesh.Labels // of the subset: the endpoints that have them; nil: all endpoints
	Version     string      // version label of the subset; empty: the version is that of the endpoint that is picked
	// Share is the chance with which the split chooses Version on this Edge, the evidence's Share: the weights of the rule's arms to that version over all weights. 1 for a lone arm; 0 when the split does not
	// decide the version.
	Share    float64
	Edge     mesh.Edge // from the caller to the destination
	EdgeName string    // Edge.String()
	Request  []Edit    // in the order in which they are applied
	Response []Edit
	Missing  string // why there is no such destination, in words; empty: there is one. A request that chooses it is answered 503
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
// The key is only read during the call: it may be the caller's bytes seen as a string.
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
	case sticky == nil:
		return nil
	case sticky.Header != "":
		if i := req.Find(sticky.Header); i >= 0 {
			return req.Value(i)
		}
		return nil
	default:
		return cookie(req, sticky.Cookie)
	}
}

// cookie gives the value of a cookie, without quotes around it (RFC 6265, 4.2.1); nil when there is none.
func cookie(req Request, name string) []byte {
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

// Hit is the outcome of a lookup: the first rule that matched, and by which of its matches. The zero value says that no rule did.
type Hit struct {
	Rule  *Rule
	Match *mesh.Match // nil when the rule has no matches, and takes every request
}

// AppendPath appends the path with which the request goes on, without the query: the given normalised path as the rule's rewrite changes it.
//
// A rewrite replaces the prefix that matched, which is "/" when the match does not test the path, or the whole path on an exact or regex match. It is a replacement
// of text, as in Istio, but two slashes never meet: "/reviews" to "/" makes "/reviews/1" to "/1", where Istio makes "//1".
func (h Hit) AppendPath(dst, path []byte) []byte {
	rewrite := h.Rule.Route.Rewrite
	if rewrite == nil || rewrite.Path == "" {
		return append(dst, path...)
	}
	dst = append(dst, rewrite.Path...)
	replaced := 1
	if h.Match != nil && h.Match.Path != nil {
		if h.Match.Path.Prefix == nil {
			return dst
		}
		replaced = len(*h.Match.Path.Prefix)
	}
	rest := path[min(replaced, len(path)):]
	if len(rest) > 0 && rest[0] == '/' && rewrite.Path[len(rewrite.Path)-1] == '/' {
		rest = rest[1:]
	}
	return append(dst, rest...)
}
