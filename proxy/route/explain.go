package route

import (
	"cmp"
	"math"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// Ask says about which request an explanation is wanted.
type Ask struct {
	Host string `json:"host,omitempty"` // fully qualified, as a listener names it; empty: the request's authority decides
	Port int    `json:"port,omitempty"` // with Host
	Seed uint64 `json:"seed"`
	Key  string `json:"key"` // request key
	// Scheme is how the request comes, http or https, for redirections; empty: http.
	Scheme string `json:"scheme,omitempty"`
	// Connection asks about a connection of which no requests are understood, and SNI says which server name its TLS asks for; empty: none. There is no request then.
	Connection bool   `json:"connection,omitempty"`
	SNI        string `json:"sni,omitempty"`
}

// Explanation says why a request goes where it goes.
type Explanation struct {
	Caller string    `json:"caller"`         // logical name
	Host   string    `json:"host,omitempty"` // whose table decided; empty: nothing is known under what was asked for
	Port   int       `json:"port,omitempty"`
	Asked  string    `json:"asked"` // host:port or authority
	Rules  []Tried   `json:"rules"` // in order, up to the winner
	Winner string    `json:"winner,omitempty"`
	Action Action    `json:"action"`
	Status int       `json:"status,omitempty"` // of the mesh's own answer; 0: the request is sent on
	CORS   *CORSSeen `json:"cors,omitempty"`   // when the winner has CORS
	Draw   *DrawMade `json:"draw,omitempty"`   // when the split has several arms
	Arms   []ArmSeen `json:"arms,omitempty"`   // of the winner's split

	Path      string       `json:"path,omitempty"`      // with which the request goes on, when the winner rewrites it
	Authority string       `json:"authority,omitempty"` // the same
	Location  string       `json:"location,omitempty"`  // to which it is redirected
	Mirrors   []MirrorSeen `json:"mirrors,omitempty"`   // of a request that is sent on

	Rule *Rule `json:"-"` // the winner
	Arm  int   `json:"-"` // of Rule.Arms; -1: none
}

// Action is what happens to the request.
type Action string

// Actions.
const (
	ActionSplit     Action = "split"
	ActionRefuse    Action = "refuse" // the chosen arm leads nowhere
	ActionRedirect  Action = "redirect"
	ActionDirect    Action = "direct"
	ActionPreflight Action = "preflight" // answered by CORS
	ActionNoRule    Action = "no rule"   // the host's rules match nothing: a request is answered 404, a connection closed
	ActionNoHost    Action = "no host"   // no such host; answered 502
)

// Tried is one rule that was tried.
type Tried struct {
	Rule     string       `json:"rule"`
	Origin   string       `json:"origin,omitempty"`
	Implicit bool         `json:"implicit,omitempty"`
	Matched  bool         `json:"matched"`
	Matches  []MatchTried `json:"matches,omitempty"` // none: the rule takes every request
}

// MatchTried is one match of a rule that was tried, up to the one that held.
type MatchTried struct {
	Matched bool        `json:"matched"`
	Tests   []TestTried `json:"tests"` // all of them, in the order of being tried
}

// TestTried is one condition.
type TestTried struct {
	Field string `json:"field"` // of mesh.Match
	Name  string `json:"name,omitempty"`
	Want  string `json:"want"`
	Got   string `json:"got"` // quoted, or "absent"
	Held  bool   `json:"held"`
}

// DrawMade is the draw that chose the arm: mesh.Chance(Seed, mesh.PurposeSplit, ID, Edge, Key, 0).
type DrawMade struct {
	Seed   uint64  `json:"seed"`
	ID     string  `json:"id"`
	Edge   string  `json:"edge"`
	Key    string  `json:"key"`
	KeyOf  string  `json:"keyOf"` // "request key", "header NAME" or "cookie NAME"
	Chance float64 `json:"chance"`
}

// ArmSeen is one arm of the winner's split.
type ArmSeen struct {
	Host      string         `json:"host"`
	Port      int            `json:"port"`
	Subset    string         `json:"subset,omitempty"`
	Version   string         `json:"version,omitempty"`
	Labels    mesh.Labels    `json:"labels,omitempty"`
	Weight    uint32         `json:"weight"`
	From      float64        `json:"from"` // draws in [From, To) choose it
	To        float64        `json:"to"`
	Chosen    bool           `json:"chosen,omitempty"`
	Refuse    int            `json:"refuse,omitempty"`
	Missing   string         `json:"missing,omitempty"`
	Endpoints []EndpointSeen `json:"endpoints,omitempty"` // that the balancer picks from
}

// MirrorSeen is one mirror of the winner: the request is copied when the chance is below the share.
type MirrorSeen struct {
	Host    string  `json:"host"`
	Port    int     `json:"port"`
	Subset  string  `json:"subset,omitempty"`
	ID      string  `json:"id"`
	Share   float64 `json:"share"`
	Chance  float64 `json:"chance"`
	Copied  bool    `json:"copied"`
	Missing string  `json:"missing,omitempty"`
}

// CORSSeen is what CORS has to say about the request.
type CORSSeen struct {
	Origin    string   `json:"origin,omitempty"` // empty: the request is of no other origin
	Allowed   bool     `json:"allowed"`
	Preflight bool     `json:"preflight,omitempty"` // it is answered here
	Headers   []Header `json:"headers,omitempty"`   // of the answer
}

// EndpointSeen is one endpoint of an arm.
type EndpointSeen struct {
	Instance string      `json:"instance"`
	Address  string      `json:"address,omitempty"` // host:port; empty: nobody knows it yet
	Version  string      `json:"version,omitempty"`
	Health   mesh.Health `json:"health"`
}

// Explain says where the request goes and why. It tries the rules that Lookup or LookupTLS try, one after the other instead of through the index, and its winner is theirs. The request may be nil when a
// connection is asked about.
func (r *Router) Explain(ask Ask, req Request) Explanation {
	if req == nil {
		req = &View{}
	}
	x := Explanation{Caller: CallerName(r.caller), Asked: string(req.Host()), Arm: -1, Action: ActionNoHost, Status: 502}
	table := r.TableFor(req.Host())
	if ask.Host != "" {
		x.Asked = mesh.HostPort(ask.Host, ask.Port)
		table = r.Table(ask.Host, ask.Port)
	}
	var hit Hit
	if table != nil {
		x.Host, x.Port, x.Action, x.Status = table.Host, table.Port, ActionNoRule, 404
		hit = x.try(ask, req, table, r.caller)
	}
	if ask.Connection {
		x.Status = 0
	}
	if x.Rule == nil {
		return x
	}
	x.Winner = x.Rule.Name
	x.CORS = x.Rule.CORS.seen(req)
	switch to := x.Rule.Route; {
	case x.CORS != nil && x.CORS.Preflight:
		x.Action, x.Status = ActionPreflight, 200
	case to.Redirect != nil:
		x.Action, x.Status = ActionRedirect, to.Redirect.Code
		x.Location = string(hit.AppendLocation(nil, cmp.Or(ask.Scheme, "http"), req))
	case to.Direct != nil:
		x.Action, x.Status = ActionDirect, to.Direct.Status
	default:
		x.split(ask, req, hit, r.snapshot)
	}
	return x
}

// try tries the entries in order, up to the winner.
func (x *Explanation) try(ask Ask, req Request, t *Table, caller mesh.Workload) (hit Hit) {
	for i := range t.entries {
		e := &t.entries[i]
		if i == 0 || t.entries[i-1].rule != e.rule {
			rule := &t.Rules[e.rule]
			x.Rules = append(x.Rules, Tried{Rule: rule.Name, Origin: rule.Route.Origin, Implicit: rule.Implicit})
		}
		last := &x.Rules[len(x.Rules)-1]
		last.Matched = true
		if e.matcher != nil {
			m := e.matcher.explain(ask, req, t.Port, caller)
			last.Matches = append(last.Matches, m)
			last.Matched = m.Matched
		}
		if last.Matched {
			x.Rule = &t.Rules[e.rule]
			return t.hit(i)
		}
	}
	return Hit{}
}

// split explains which arm is chosen, and what it gets.
func (x *Explanation) split(ask Ask, req Request, hit Hit, snapshot *mesh.Snapshot) {
	x.Action, x.Status = ActionSplit, 0
	x.Arm = x.Rule.Choose(ask.Seed, req, ask.Key)
	x.Draw = x.Rule.drawMade(ask, req)
	x.Arms = x.Rule.armsSeen(snapshot, x.Arm)
	if refuse := x.Rule.Arms[x.Arm].Refuse; refuse != 0 {
		x.Action, x.Status = ActionRefuse, refuse
		return
	}
	if w := x.Rule.Route.Rewrite; w != nil {
		x.Authority = w.Authority
		if path := string(hit.AppendPath(nil, req.Path())); path != string(req.Path()) {
			x.Path = path
		}
	}
	for i := range x.Rule.Mirrors {
		x.Mirrors = append(x.Mirrors, x.Rule.Mirrors[i].seen(ask))
	}
}

func (m *Mirror) seen(ask Ask) MirrorSeen {
	return MirrorSeen{
		Host: m.Arm.Host, Port: m.Arm.Port, Subset: m.Arm.Destination.Subset, ID: m.ID, Share: m.Share,
		Chance: chance(m.draw(ask.Seed, ask.Key)), Copied: m.Copies(ask.Seed, ask.Key), Missing: m.Arm.Missing,
	}
}

func (c *CORS) seen(req Request) *CORSSeen {
	if c == nil {
		return nil
	}
	origin, allowed := c.origin(req)
	out := &CORSSeen{Origin: string(origin), Allowed: allowed}
	var headers []Edit
	if headers, out.Preflight = c.Preflight(nil, req); !out.Preflight {
		headers = c.Actual(nil, req)
	}
	for _, h := range headers {
		out.Headers = append(out.Headers, Header{h.Name, strings.Clone(h.Value)})
	}
	return out
}

func (m *Matcher) explain(ask Ask, req Request, port int, caller mesh.Workload) MatchTried {
	out := MatchTried{Matched: true, Tests: []TestTried{}}
	add := func(t TestTried) {
		out.Tests = append(out.Tests, t)
		out.Matched = out.Matched && t.Held
	}
	for _, t := range m.explainContext(port, caller) {
		add(t)
	}
	if m.servers != nil {
		held := ask.Connection && m.servers.hold([]byte(ask.SNI))
		add(TestTried{Field: "sni", Want: m.servers.want(), Got: quoted(ask.SNI, ask.Connection && ask.SNI != ""), Held: held})
	}
	for i := range m.conditions {
		t := m.conditions[i].explain(req)
		if ask.Connection {
			t.Got, t.Held = "absent", false
		}
		add(t)
	}
	return out
}

func (r *Rule) drawMade(ask Ask, req Request) *DrawMade {
	if len(r.Arms) < 2 {
		return nil
	}
	d := &DrawMade{Seed: ask.Seed, ID: r.ID, Edge: r.EdgeName, Key: ask.Key, KeyOf: "request key"}
	if sticky := r.stickyValue(req); len(sticky) > 0 {
		d.Key, d.KeyOf = string(sticky), "cookie "+r.Route.Sticky.Cookie
		if r.Route.Sticky.Header != "" {
			d.KeyOf = "header " + r.Route.Sticky.Header
		}
	}
	d.Chance = chance(r.draw(ask.Seed, req, ask.Key))
	return d
}

// chance is a draw as a number from 0 to 1.
func chance(d mesh.Draw) float64 { return float64(d) / (1 << 63) / 2 }

func (r *Rule) armsSeen(snapshot *mesh.Snapshot, chosen int) []ArmSeen {
	var sum, before float64
	for _, w := range r.weights {
		sum += float64(w)
	}
	var seen []ArmSeen
	for i := range r.Arms {
		arm := &r.Arms[i]
		from := before / sum
		before += float64(r.weights[i])
		seen = append(seen, ArmSeen{
			Host: arm.Host, Port: arm.Port, Subset: arm.Destination.Subset, Version: arm.Version, Labels: arm.Labels,
			Weight: r.weights[i], From: from, To: math.Min(before/sum, 1), Chosen: i == chosen, Refuse: arm.Refuse, Missing: arm.Missing,
			Endpoints: arm.endpointsSeen(snapshot),
		})
	}
	return seen
}

func (a *Arm) endpointsSeen(snapshot *mesh.Snapshot) []EndpointSeen {
	resource := snapshot.Endpoints[a.Endpoints]
	if resource == nil || a.Refuse != 0 {
		return nil
	}
	var seen []EndpointSeen
	for _, e := range resource.Endpoints {
		if !e.Labels.Match(a.Labels) {
			continue
		}
		health := e.Health
		if health == "" {
			health = mesh.Healthy
		}
		one := EndpointSeen{Instance: e.Instance, Version: e.Version(), Health: health}
		if e.Port != 0 { // of a plan, only an environment knows it
			one.Address = mesh.HostPort(e.Address, e.Port)
		}
		seen = append(seen, one)
	}
	return seen
}
