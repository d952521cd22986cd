package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"meshtest.dev/meshtest/mesh"
)

// Table is the compiled route table of one port of a host, for one caller. It is immutable.
type Table struct {
	Host     string
	Port     int
	Protocol mesh.Protocol // of the port; HTTP when the service does not say
	Rules    []Rule        // in order of precedence

	entries     []entry
	index       index       // for requests
	connections connections // of which no requests are understood

	// What it was compiled from, to know when it still holds.
	source *mesh.RouteTable // nil: the host has no rules
	named  []named
}

// named is a service that a table names; nil: there is none.
type named struct {
	host    string
	service *mesh.Service
}

// entry is one match of one rule; a rule without matches is one entry. Entries are in the order in which they are tried.
type entry struct {
	rule    int
	match   *mesh.Match // nil: the rule has none
	matcher *Matcher
}

// Lookup finds the first rule that the request satisfies; the Hit is zero when there is none, and for a nil table. It allocates nothing, unless a tested header occurs several times.
func (t *Table) Lookup(req Request) Hit {
	if t == nil {
		return Hit{}
	}
	i := t.index.first(t.entries, req)
	if i < 0 {
		return Hit{}
	}
	return t.hit(i)
}

func (t *Table) hit(i int) Hit {
	e := &t.entries[i]
	return Hit{Rule: &t.Rules[e.rule], Match: e.match}
}

// tableCompiler compiles one table.
type tableCompiler struct {
	snapshot *mesh.Snapshot
	names    *names
	caller   source
	from     string                      // the caller's logical name
	edges    map[string]namedEdge        // by host, for all tables of a router
	retries  map[*mesh.Retry]*mesh.Retry // with their back-off, for all tables of a router
	found    map[string]bool             // hosts in out.named
	out      *Table
	errs     []error
}

// ImplicitRule is the name of the rule of a host that has none.
const ImplicitRule = "default"

func (c *tableCompiler) compile() (*Table, error) {
	t := c.out
	t.Protocol = c.protocol()
	if t.source == nil {
		t.Rules = []Rule{c.implicit()}
		t.entries = []entry{{}}
	} else {
		t.Rules = make([]Rule, len(t.source.Routes))
		for i := range t.source.Routes {
			c.rule(i, &t.source.Routes[i])
		}
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	t.index = newIndex(t.entries, t.Port)
	t.connections = newConnections(t.entries, t.Port)
	return t, nil
}

func (c *tableCompiler) protocol() mesh.Protocol {
	if svc := c.service(c.out.Host); svc != nil {
		for _, p := range svc.Ports {
			if p.Number == c.out.Port && p.Protocol != "" {
				return p.Protocol
			}
		}
	}
	return mesh.HTTP
}

// service resolves a host, and remembers that the table depends on it.
func (c *tableCompiler) service(host string) *mesh.Service {
	svc := c.snapshot.Services[host]
	if !c.found[host] {
		c.found[host] = true
		c.out.named = append(c.out.named, named{host, svc})
	}
	return svc
}

// rule compiles rule i, and its matches to entries.
func (c *tableCompiler) rule(i int, r *mesh.Route) {
	before := len(c.errs)
	c.out.Rules[i] = c.resolve(r)
	if len(r.Matches) == 0 {
		c.out.entries = append(c.out.entries, entry{rule: i})
	}
	for j := range r.Matches {
		m, err := compileMatch(&r.Matches[j], c.caller)
		if err != nil {
			c.errs = append(c.errs, fmt.Errorf("match %d: %w", j, err))
		}
		c.out.entries = append(c.out.entries, entry{rule: i, match: &r.Matches[j], matcher: m})
	}
	for j, err := range c.errs[before:] {
		c.errs[before+j] = fmt.Errorf("routes %s: route %d (%s): %w", mesh.HostPort(c.out.Host, c.out.Port), i, r.Name, err)
	}
}

// resolve compiles all of a rule but its matches.
func (c *tableCompiler) resolve(r *mesh.Route) Rule {
	rule := Rule{
		Name: r.Name, Route: r, ID: SplitID(c.out.Host, c.out.Port, r.Name),
		Timeout: r.Timeout, Retry: c.withBackoff(r.Retry), Response: appendEdits(nil, r.Response),
	}
	rule.Edge, rule.EdgeName = c.edge(c.out.Host)
	actions := 0
	for _, acts := range []bool{len(r.Split) > 0, r.Redirect != nil, r.Direct != nil} {
		if acts {
			actions++
		}
	}
	if actions != 1 {
		c.errs = append(c.errs, fmt.Errorf("exactly one of split, redirect and direct must act, not %d", actions))
	}
	c.split(&rule)
	for i, m := range r.Mirrors {
		to := c.arm(&mesh.Destination{Host: m.Host, Subset: m.Subset, Port: m.Port})
		rule.Mirrors = append(rule.Mirrors, Mirror{Arm: to, Share: m.Share, ID: rule.ID + "/mirror/" + strconv.Itoa(i)})
	}
	var errs [3]error
	rule.CORS, errs[0] = compileCORS(r.CORS)
	rule.RetryOn, errs[1] = compileRetryOn(r.Retry)
	rule.rewriting, errs[2] = compileRewrite(r.Rewrite)
	for _, err := range errs {
		if err != nil {
			c.errs = append(c.errs, err)
		}
	}
	return rule
}

// split compiles the arms.
func (c *tableCompiler) split(rule *Rule) {
	r := rule.Route
	if len(r.Split) > 0 {
		rule.Arms, rule.weights = make([]Arm, 0, len(r.Split)), make([]uint32, 0, len(r.Split))
	}
	var sum uint64
	for i, d := range r.Split {
		arm := c.arm(&r.Split[i])
		// Envoy applies the most specific level first, so that the route has the last word.
		arm.Request = appendEdits(appendEdits(nil, d.Request), r.Request)
		arm.Response = appendEdits(appendEdits(nil, d.Response), r.Response)
		rule.Arms = append(rule.Arms, arm)
		rule.weights = append(rule.weights, d.Weight)
		sum += uint64(d.Weight)
	}
	if len(r.Split) > 0 && sum == 0 {
		c.errs = append(c.errs, errors.New("the weights add up to 0"))
	}
	if sum > 0 {
		rule.share(sum)
	}
}

// share sets the arms' shares: what the split decides is the version at the end of an edge, so arms that agree in both add up.
func (r *Rule) share(sum uint64) {
	for i := range r.Arms {
		arm := &r.Arms[i]
		if arm.Version == "" {
			continue
		}
		var same uint64
		for j := range r.Arms {
			if other := &r.Arms[j]; other.Version == arm.Version && other.Edge == arm.Edge {
				same += uint64(r.weights[j])
			}
		}
		arm.Share = float64(same) / float64(sum)
	}
}

// arm resolves one destination. One that does not exist (yet, or any more) is not a mistake of the table: the other arms go on working, and Validate told whoever wrote it.
func (c *tableCompiler) arm(d *mesh.Destination) Arm {
	arm := Arm{Destination: d, Host: d.Host, Port: d.Port}
	if d.Refuse != 0 { // evidence of what is refused is of the edge to the host that was asked for
		arm.Refuse = d.Refuse
		arm.Edge, arm.EdgeName = c.edge(c.out.Host)
		return arm
	}
	arm.Endpoints = c.names.resource(d.Host, d.Port)
	arm.Edge, arm.EdgeName = c.edge(d.Host)
	svc := c.service(d.Host)
	if svc == nil {
		return arm.missing("no such service: " + d.Host)
	}
	if d.Subset == "" {
		return arm
	}
	i := slices.IndexFunc(svc.Subsets, func(s mesh.Subset) bool { return s.Name == d.Subset })
	if i < 0 {
		return arm.missing(fmt.Sprintf("%s has no subset %q", mesh.LogicalName(d.Host), d.Subset))
	}
	arm.Labels = svc.Subsets[i].Labels
	arm.Version = arm.Labels[mesh.LabelVersion]
	return arm
}

// missing is the arm when it leads nowhere.
func (a Arm) missing(why string) Arm {
	a.Missing, a.Refuse = why, 503
	return a
}

// implicit is the rule of a host without rules.
func (c *tableCompiler) implicit() Rule {
	r := &mesh.Route{
		Name:  ImplicitRule,
		Split: []mesh.Destination{{Host: c.out.Host, Port: c.out.Port, Weight: 100}},
		Retry: mesh.DefaultRetry(),
	}
	rule := c.resolve(r)
	rule.Implicit = true
	return rule
}

type namedEdge struct {
	mesh.Edge
	name string
}

// edge is the edge from the caller to a host, the same strings for all rules.
func (c *tableCompiler) edge(host string) (mesh.Edge, string) {
	e, ok := c.edges[host]
	if !ok {
		e.Edge = mesh.Edge{From: c.from, To: mesh.LogicalName(host)}
		e.name = e.Edge.String()
		c.edges[host] = e
	}
	return e.Edge, e.name
}

// SplitID is the id of the chance draws of a rule's split: LOGICAL-HOST:PORT/RULE.
func SplitID(host string, port int, rule string) string {
	return mesh.LogicalName(host) + ":" + strconv.Itoa(port) + "/" + rule
}

// CallerName is the logical name by which edges refer to a caller: its service, or else its own name, with ".namespace" appended outside the default namespace.
func CallerName(w mesh.Workload) string {
	return mesh.LogicalName(mesh.FQDN(cmp.Or(w.Service, w.Name), cmp.Or(w.Namespace, mesh.DefaultNamespace)))
}
