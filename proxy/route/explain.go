package route

import (
	"math"

	"meshtest.dev/meshtest/mesh"
)

// Ask says about which request an explanation is wanted.
type Ask struct {
	Host string `json:"host,omitempty"` // fully qualified, as a listener names it; empty: the request's authority decides
	Port int    `json:"port,omitempty"` // with Host
	Seed uint64 `json:"seed"`
	Key  string `json:"key"` // request key
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
	Draw   *DrawMade `json:"draw,omitempty"` // when the split has several arms
	Arms   []ArmSeen `json:"arms,omitempty"` // of the winner's split
	Rule   *Rule     `json:"-"`              // the winner
	Arm    int       `json:"-"`              // of Rule.Arms; -1: none
}

// Action is what happens to the request.
type Action string

// Actions.
const (
	ActionSplit    Action = "split"
	ActionRedirect Action = "redirect"
	ActionDirect   Action = "direct"
	ActionNoRule   Action = "no rule" // the host's rules match nothing; answered 404
	ActionNoHost   Action = "no host" // no such host; answered 502
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
	Missing   string         `json:"missing,omitempty"`
	Endpoints []EndpointSeen `json:"endpoints,omitempty"` // that the balancer picks from
}

// EndpointSeen is one endpoint of an arm.
type EndpointSeen struct {
	Instance string      `json:"instance"`
	Address  string      `json:"address"` // host:port
	Version  string      `json:"version,omitempty"`
	Health   mesh.Health `json:"health"`
}

// Explain says where the request goes and why. It tries the rules that Lookup tries, one after the other instead of through the index, and its winner is Lookup's.
func (r *Router) Explain(ask Ask, req Request) Explanation {
	x := Explanation{Caller: CallerName(r.caller), Asked: string(req.Host()), Arm: -1, Action: ActionNoHost}
	table := r.TableFor(req.Host())
	if ask.Host != "" {
		x.Asked = mesh.HostPort(ask.Host, ask.Port)
		table = r.Table(ask.Host, ask.Port)
	}
	if table == nil {
		return x
	}
	x.Host, x.Port, x.Action = table.Host, table.Port, ActionNoRule
	x.Rules, x.Rule = table.explain(req, r.caller.Labels)
	if x.Rule == nil {
		return x
	}
	x.Winner = x.Rule.Name
	switch {
	case x.Rule.Route.Redirect != nil:
		x.Action = ActionRedirect
	case x.Rule.Route.Direct != nil:
		x.Action = ActionDirect
	default:
		x.Action = ActionSplit
		x.Arm = x.Rule.Choose(ask.Seed, req, ask.Key)
		x.Draw = x.Rule.drawMade(ask, req)
		x.Arms = x.Rule.armsSeen(r.snapshot, x.Arm)
	}
	return x
}

// explain tries the entries in order, up to the winner.
func (t *Table) explain(req Request, caller mesh.Labels) (tried []Tried, winner *Rule) {
	for i := range t.entries {
		e := &t.entries[i]
		if i == 0 || t.entries[i-1].rule != e.rule {
			rule := &t.Rules[e.rule]
			tried = append(tried, Tried{Rule: rule.Name, Origin: rule.Route.Origin, Implicit: rule.Implicit})
		}
		last := &tried[len(tried)-1]
		last.Matched = true
		if e.matcher != nil {
			m := e.matcher.explain(req, t.Port, caller)
			last.Matches = append(last.Matches, m)
			last.Matched = m.Matched
		}
		if last.Matched {
			return tried, &t.Rules[e.rule]
		}
	}
	return tried, nil
}

func (m *Matcher) explain(req Request, port int, caller mesh.Labels) MatchTried {
	out := MatchTried{Matched: true, Tests: []TestTried{}}
	add := func(t TestTried) {
		out.Tests = append(out.Tests, t)
		out.Matched = out.Matched && t.Held
	}
	for _, t := range m.explainContext(port, caller) {
		add(t)
	}
	for i := range m.conditions {
		add(m.conditions[i].explain(req))
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
	d.Chance = float64(r.draw(ask.Seed, req, ask.Key)) / (1 << 63) / 2
	return d
}

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
			Weight: r.weights[i], From: from, To: math.Min(before/sum, 1), Chosen: i == chosen, Missing: arm.Missing,
			Endpoints: arm.endpointsSeen(snapshot),
		})
	}
	return seen
}

func (a *Arm) endpointsSeen(snapshot *mesh.Snapshot) []EndpointSeen {
	resource := snapshot.Endpoints[a.Endpoints]
	if resource == nil || a.Missing != "" {
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
		seen = append(seen, EndpointSeen{Instance: e.Instance, Address: mesh.HostPort(e.Address, e.Port), Version: e.Version(), Health: health})
	}
	return seen
}
