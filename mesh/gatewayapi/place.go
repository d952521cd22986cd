package gatewayapi

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// place is where routes are attached: a listener of a Gateway, or a port of a Service as the callers of one namespace, or all others, see it.
type place struct {
	host     string // of the table
	port     int
	gateway  bool
	listener string // its name
	hostname string // of the listener; empty: any
	consumer string // namespace of the callers; empty: all that have no place of their own
	wanted   []attachment
	routes   []attachment // those that are taken
}

// attachment is a route that wants to be at a place, with the hosts that it would have there.
type attachment struct {
	route  *route
	parent *parent
	hosts  []shared
}

// shared is what a hostname of a route has in common with the place; empty hosts are any.
type shared struct{ own, common string }

// servicePlaces are the places of Services, in the order in which routes came to them.
type servicePlaces struct {
	byKey   map[string]*place
	inOrder []*place
}

func (s *servicePlaces) at(host string, port int, consumer string) *place {
	key := consumer + " " + mesh.HostPort(host, port)
	p := s.byKey[key]
	if p == nil {
		p = &place{host: host, port: port, consumer: consumer}
		s.byKey[key] = p
		s.inOrder = append(s.inOrder, p)
	}
	return p
}

// want asks for a route to be attached. One that is there already by another parentRef stays as it is.
func (p *place) want(a attachment) {
	if len(a.hosts) == 0 {
		a.hosts = []shared{{}}
	}
	p.wanted = append(p.wanted, a)
}

// settle chooses among routes of both kinds. At a Service the GRPCRoutes come first, and there are no others then; at a listener a route has its hosts for its kind alone, the oldest route first.
func (p *place) settle() {
	grpc := slices.ContainsFunc(p.wanted, func(a attachment) bool { return a.route.kind == kindGRPC })
	for _, a := range p.wanted {
		taken := func(b attachment) bool { return a.route.kind != b.route.kind && a.overlaps(b) }
		if !p.gateway && grpc && a.route.kind != kindGRPC || p.gateway && slices.ContainsFunc(p.routes, taken) {
			continue
		}
		a.parent.attached++
		if !slices.ContainsFunc(p.routes, func(b attachment) bool { return a.route == b.route }) {
			p.routes = append(p.routes, a)
		}
	}
}

func (a attachment) overlaps(b attachment) bool {
	return slices.ContainsFunc(a.hosts, func(h shared) bool {
		return slices.ContainsFunc(b.hosts, func(g shared) bool { return len(overlap(h.common, g.common)) > 0 })
	})
}

// overlap is what two hosts have in common: the narrower one, if the other includes it; else it is empty. A host that is empty includes all.
func overlap(a, b string) []string {
	switch {
	case includes(a, b):
		return []string{b}
	case includes(b, a):
		return []string{a}
	default:
		return nil
	}
}

// includes reports whether every name that the narrow host stands for is one of the wide one. *.example.com stands for names of one or more labels before that suffix.
func includes(wide, narrow string) bool {
	if wide == narrow || wide == "" {
		return true
	}
	suffix, wildcard := strings.CutPrefix(wide, "*")
	return wildcard && len(narrow) > len(suffix) && strings.HasSuffix(narrow, suffix)
}

// entry is one match of a rule for some hosts, at its place in the order.
type entry struct {
	specificity int
	rank        rank
	route       mesh.Route
}

// exactHost is the specificity of a name without a wildcard. Among names the number of characters decides nothing, since a request has one.
const exactHost = 1 << 20

// specificity ranks a hostname of a route: names, then wildcards by their characters, then none.
func specificity(hostname string) int {
	if hostname == "" || strings.HasPrefix(hostname, "*") {
		return len(hostname)
	}
	return exactHost
}

// entries are all matches of the routes of a place, in the order of precedence.
func (p *place) entries(taken map[string]bool) []mesh.Route {
	var all []entry
	for _, a := range p.routes { // by age: the sort is stable
		for _, r := range a.route.rules {
			if r.fault != (fault{}) {
				continue
			}
			action := r.action(p.port, p.gateway)
			for i, m := range r.matches {
				for j, hosts := range a.byHost() {
					out := action
					out.Origin = a.route.origin()
					out.Name = free(a.route.routeName(r, i), p.suffixes(hosts.names, j), taken)
					out.Matches = p.matches(m.test, hosts.names)
					all = append(all, entry{hosts.specificity, m.rank, out})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.specificity, a.specificity), slices.Compare(b.rank[:], a.rank[:]))
	})
	out := make([]mesh.Route, len(all))
	for i, e := range all {
		out[i] = e.route
	}
	return out
}

// hostGroup is those hosts of an attachment whose order among each other says nothing, because no request has two of them.
type hostGroup struct {
	specificity int
	names       []string // none: any
}

// byHost groups the hosts of an attachment, in the order of the document.
func (a attachment) byHost() []hostGroup {
	var out []hostGroup
	for _, h := range a.hosts {
		s := specificity(h.own)
		i := slices.IndexFunc(out, func(g hostGroup) bool { return g.specificity == s })
		if i < 0 {
			out, i = append(out, hostGroup{specificity: s}), len(out)
		}
		if h.common != "" && !slices.Contains(out[i].names, h.common) {
			out[i].names = append(out[i].names, h.common)
		}
	}
	return out
}

// matches is a match for the hosts and callers of the place; nil when it has no condition at all. One on every path stays: a rewrite may replace it.
func (p *place) matches(m mesh.Match, hosts []string) []mesh.Match {
	m.Hosts, m.SourceNamespace = hosts, p.consumer
	if m.Path == nil && m.TakesAll() {
		return nil
	}
	return []mesh.Match{m}
}

// routeName is the name of one match of a rule: NAMESPACE/ROUTE/RULE, and .MATCH when there are several. It does not depend on other routes, because evidence and chance are keyed by it.
func (r *route) routeName(one *rule, match int) string {
	name := r.key() + "/" + one.label()
	if len(one.matches) > 1 {
		name += "." + strconv.Itoa(match)
	}
	return name
}

// suffixes tell apart what has one name: the same match for other hosts, or at another listener of the port.
func (p *place) suffixes(hosts []string, group int) []string {
	var out []string
	if group > 0 && len(hosts) > 0 {
		out = append(out, hosts[0])
	}
	if p.listener != "" {
		out = append(out, p.listener)
	}
	return out
}

// free is a name with as many of the suffixes, and at last a number, as it takes to be the only one.
func free(name string, suffixes []string, taken map[string]bool) string {
	try := name
	for i := 0; taken[try]; i++ {
		if i < len(suffixes) {
			name += "@" + suffixes[i]
			try = name
		} else {
			try = name + "-" + strconv.Itoa(i+2-len(suffixes))
		}
	}
	taken[try] = true
	return try
}
