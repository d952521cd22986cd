package plan

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// reach says how often each service is called for one request to the target, if every caller calls each of its upstreams once for each request. A call back to
// a service that is already on its way is not followed.
func (b *builder) reach(target string) map[string]float64 {
	// A depth-first search gives the services in an order in which every caller stands before its callees, once calls that would close a circle are left out.
	var order []string
	state := map[string]int{} // 1: on the way, 2: done
	forward := map[string][]string{}
	var visit func(name string)
	visit = func(name string) {
		state[name] = 1
		for _, to := range b.calls[name] {
			if state[to] == 1 {
				continue
			}
			forward[name] = append(forward[name], to)
			if state[to] == 0 {
				visit(to)
			}
		}
		state[name] = 2
		order = append(order, name)
	}
	visit(target)
	visits := map[string]float64{target: 1}
	for _, from := range slices.Backward(order) {
		for _, to := range forward[from] {
			visits[to] += visits[from]
		}
	}
	return visits
}

// streamsThrough are the streams that can flow through an edge, as they are written.
func (b *builder) streamsThrough(from, to string) []string {
	var names []string
	for _, l := range b.scenario.Load {
		if b.perRequest(l, from, to) > 0 {
			names = append(names, l.Name)
		}
	}
	return names
}

// perRequest is how often an edge is used for one request of a stream.
func (b *builder) perRequest(l spec.Stream, from, to string) float64 {
	if !slices.Contains(b.calls[from], to) {
		return 0
	}
	if from == spec.EdgeName {
		for _, e := range b.entered[l.Name] {
			if e.service == to {
				return e.share
			}
		}
		return 0
	}
	return b.visits[l.Name][from]
}

// sent is the number of requests that a stream sends between two moments since the load began, both within its duration.
func sent(l spec.Stream, from, to time.Duration) float64 {
	if l.Duration > 0 {
		to = min(to, l.Duration)
	}
	if to <= from {
		return 0
	}
	return sentUntil(l, to.Seconds()) - sentUntil(l, from.Seconds())
}

// sentUntil integrates a stream's rate over its first t seconds.
func sentUntil(l spec.Stream, t float64) float64 {
	switch {
	case l.Ramp != nil:
		over := l.Ramp.Over.Seconds()
		from, to := float64(l.Ramp.From), float64(l.Ramp.To)
		in := min(t, over)
		return from*in + (to-from)*in*in/(2*over) + to*(t-in)
	case l.Sine != nil:
		w := 2 * math.Pi / l.Sine.Period.Seconds()
		return float64(l.Sine.Mean)*t + float64(l.Sine.Amplitude)*(1-math.Cos(w*t))/w
	case len(l.Steps) > 0:
		var n float64
		for i, s := range l.Steps {
			d := min(t, s.Duration.Seconds())
			if i == len(l.Steps)-1 {
				d = t
			}
			n += float64(s.Rate) * d
			t -= d
		}
		return n
	default:
		return float64(l.Rate) * t
	}
}

// shape says a stream's rate in words.
func shape(l spec.Stream) string {
	arrival := "evenly spaced"
	if l.Arrival == spec.ArrivalPoisson {
		arrival = "poisson arrivals"
	}
	switch {
	case l.Ramp != nil:
		return fmt.Sprintf("%s to %s in %s, %s", l.Ramp.From, l.Ramp.To, l.Ramp.Over, arrival)
	case l.Sine != nil:
		return fmt.Sprintf("%s ± %s every %s, %s", l.Sine.Mean, l.Sine.Amplitude, l.Sine.Period, arrival)
	case len(l.Steps) > 0:
		var steps []string
		for _, s := range l.Steps {
			steps = append(steps, fmt.Sprintf("%s for %s", s.Rate, s.Duration))
		}
		return strings.Join(steps, ", then ") + ", " + arrival
	default:
		return fmt.Sprintf("%s, %s", l.Rate, arrival)
	}
}

// destined is where a route table sends a stream's requests: the route they take and the share of each version.
type destined struct {
	route    mesh.Route
	versions map[string]float64
}

// follow follows a stream's requests through a route table, to the versions of a host.
func (b *builder) follow(table *mesh.RouteTable, caller string, l spec.Stream, host string) destined {
	out := destined{versions: map[string]float64{}}
	route, ok := b.taken(table, caller, l)
	if !ok {
		return out
	}
	out.route = route
	var sum float64
	for _, d := range route.Split {
		if d.Host == host && d.Refuse == 0 {
			sum += float64(d.Weight)
		}
	}
	for _, d := range route.Split {
		if d.Host != host || d.Weight == 0 || d.Refuse != 0 {
			continue
		}
		for version, part := range b.subsetShares(d) {
			out.versions[version] += part * float64(d.Weight) / sum
		}
	}
	return out
}

// taken is the route that a stream's requests take in a table, by the headers that the stream sends. Conditions on anything else count as not met: behind the first service
// only the application knows its paths.
func (b *builder) taken(table *mesh.RouteTable, caller string, l spec.Stream) (mesh.Route, bool) {
	for _, r := range table.Routes {
		if len(r.Matches) == 0 || catchAll(r) || slices.ContainsFunc(r.Matches, func(m mesh.Match) bool { return b.meets(m, caller, l) }) {
			return r, true
		}
	}
	return mesh.Route{}, false
}

// subsetShares are the shares of the versions in a destination, by their numbers of instances.
func (b *builder) subsetShares(d mesh.Destination) map[string]float64 {
	var labels mesh.Labels
	for _, s := range b.plan.Snapshot.Services[d.Host].Subsets {
		if s.Name == d.Subset {
			labels = s.Labels
		}
	}
	out, n := map[string]float64{}, 0.0
	for _, e := range b.plan.Snapshot.Endpoints[mesh.HostPort(d.Host, d.Port)].Endpoints {
		if e.Labels.Match(labels) {
			out[e.Version()]++
			n++
		}
	}
	for version := range out {
		out[version] /= n
	}
	return out
}

// meets reports whether a stream's requests certainly meet a condition when they come from a caller. Headers are taken to be handed on from service to service;
// the method and the path are known only at the edge.
func (b *builder) meets(m mesh.Match, caller string, l spec.Stream) bool {
	headers := map[string]string{}
	for name, value := range l.Headers {
		headers[strings.ToLower(name)] = value
	}
	for name, test := range m.Headers {
		if value, ok := headers[name]; !ok || !passes(test, value) {
			return false
		}
	}
	for name, test := range m.WithoutHeaders {
		if value, ok := headers[name]; ok && passes(test, value) {
			return false
		}
	}
	if len(m.SourceLabels) > 0 && m.SourceLabels[mesh.LabelApp] != caller || m.SourceNamespace != "" && m.SourceNamespace != b.namespaceOf(caller) {
		return false
	}
	path, _, _ := strings.Cut(l.Path, "?")
	for _, known := range []struct {
		test  *mesh.StringMatch
		value string
	}{{m.Method, l.Method}, {m.Path, path}} {
		if known.test != nil && (caller != spec.EdgeName || !known.test.Holds(known.value)) {
			return false
		}
	}
	if known := caller == spec.EdgeName && l.Gateway != ""; m.Authority != nil && !(known && m.Authority.Holds(l.Host)) || len(m.Hosts) > 0 && !(known && isHost(m.Hosts, l.Host)) {
		return false
	}
	return len(m.Query) == 0 && len(m.SNI) == 0
}

// namespaceOf is the namespace of a caller; the edge is the mesh's own.
func (b *builder) namespaceOf(caller string) string {
	if caller == spec.EdgeName {
		return mesh.DefaultNamespace
	}
	return b.plan.Namespace
}

// isHost reports whether an authority names one of the hosts.
func isHost(hosts []string, authority string) bool {
	name := strings.ToLower(authority)
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return slices.ContainsFunc(hosts, func(host string) bool {
		suffix, wildcard := strings.CutPrefix(host, "*")
		return name == host || wildcard && len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	})
}

func passes(t mesh.HeaderTest, value string) bool { return t.Present || t.Value.Holds(value) }
