package spec

import (
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

func (c *checker) rollout() {
	r := c.Rollout
	if c.service("rollout.service", r.Service) && !c.speaksHTTP(r.Service) {
		c.problem("MT1211", "rollout.service", fmt.Sprintf("only HTTP requests can be split and judged, and %s speaks %s", r.Service, c.Services[r.Service].Protocol), "")
	}
	c.version("rollout.stable", r.Service, r.Stable)
	c.version("rollout.canary", r.Service, r.Canary)
	if r.Canary != "" && r.Canary == r.Stable {
		c.problem("MT1207", "rollout.canary", "must be another version than stable", "")
	}
	if r.From != "" {
		c.caller("rollout.from", r.From)
		if r.From == r.Service {
			c.problem("MT1207", "rollout.from", "a service does not call itself through the mesh", "")
		}
	}
	if len(r.Steps) == 0 {
		c.problem("MT1103", "rollout.steps", "at least one step is needed", "such as - setWeight: 10")
	}
	routes := map[string]bool{}
	for i, s := range r.Steps {
		c.step(index("rollout.steps", i), s, routes)
	}
	if len(r.Analysis.Checks) == 0 {
		c.problem("MT1103", "rollout.analysis.checks", "at least one check is needed", "leave checks out for the default ones")
	}
	seen := map[string]bool{}
	for i, k := range r.Analysis.Checks {
		path := index("rollout.analysis.checks", i)
		c.unique(join(path, "name"), "check", k.Name, seen)
		c.check(path, k)
	}
}

// reservedRoute is the name of the weighted route of a roll-out.
const reservedRoute = "canary-split"

func (c *checker) step(path string, s Step, routes map[string]bool) {
	c.exactlyOne(path, choice{"setWeight", s.SetWeight != nil}, choice{"setHeaderRoute", s.SetHeaderRoute != nil}, choice{"pause", s.Pause != nil},
		choice{"analysis", s.Analysis != nil})
	h := s.SetHeaderRoute
	if h == nil {
		return
	}
	path = join(path, "setHeaderRoute")
	switch {
	case h.Name == reservedRoute:
		c.problem("MT1204", join(path, "name"), reservedRoute+" is the name of the weighted route", "choose another name")
	case len(h.Match) == 0 && !routes[h.Name] && !c.incomplete(path):
		c.problem("MT1201", join(path, "name"), fmt.Sprintf("no step before this one sets the route %q, so it cannot be removed", h.Name), "a route is set by a match")
	}
	routes[h.Name] = len(h.Match) > 0
	headers := map[string]bool{}
	for i, m := range h.Match {
		at := index(join(path, "match"), i)
		c.unique(join(at, "headerName"), "condition on a header", strings.ToLower(m.HeaderName), headers)
		if m.HeaderName != "" {
			c.header(join(at, "headerName"), m.HeaderName, "")
		}
		c.stringMatch(join(at, "headerValue"), m.HeaderValue, false)
	}
}

// check checks one check of the analysis: a field that has no meaning for its kind is an error.
func (c *checker) check(path string, k Check) {
	if !k.IsBuiltIn() {
		c.onlyFor(path, "a built-in check", "compare", "maxDegradation", "tolerance", "thresholdRange", "quantile", "quantiles", "promoteOn")
		c.query(path, k.Query, k.Condition)
		return
	}
	c.onlyFor(path, "a check with a query", "query", "condition", "interval", "failureLimit", "onNoData")
	if k.Name == CheckSuccessRate {
		c.onlyFor(path, CheckDuration, "quantile", "quantiles", "promoteOn", "tolerance")
	}
	if k.Compare == CompareThreshold {
		c.onlyFor(path, "compare: baseline", "maxDegradation", "tolerance", "quantiles", "promoteOn")
		c.thresholds(path, k)
		return
	}
	c.onlyFor(path, "compare: threshold", "thresholdRange", "quantile")
	if p := k.MaxDegradation; p != nil && (*p <= 0 || k.Name == CheckSuccessRate && *p >= 100 || *p > 10000) {
		c.problem("MT1203", join(path, "maxDegradation"), p.String()+" is out of range", "more than 0%: equality can never be shown")
	}
	if p := k.Tolerance; p != nil && (*p < 0 || k.MaxDegradation != nil && *p >= *k.MaxDegradation) {
		c.problem("MT1203", join(path, "tolerance"), p.String()+" is out of range", "at least 0%, and less than maxDegradation")
	}
}

func (c *checker) onlyFor(path, what string, names ...string) {
	for _, name := range names {
		if where := join(path, name); c.written(where) {
			c.problem("MT1207", where, fmt.Sprintf("%s is only for %s", name, what), "remove it")
		}
	}
}

// thresholds checks the fixed bound of a built-in check: a least success rate, or a longest duration.
func (c *checker) thresholds(path string, k Check) {
	where := join(path, "thresholdRange")
	if k.ThresholdRange == nil {
		c.problem("MT1103", where, "compare: threshold needs a thresholdRange", "such as thresholdRange: {min: 99} or {max: 500ms}")
		return
	}
	bound, name, other, otherName := k.ThresholdRange.Min, "min", k.ThresholdRange.Max, "max"
	if k.Name == CheckDuration {
		bound, name, other, otherName = other, otherName, bound, name
	}
	if other != nil {
		c.problem("MT1207", join(where, otherName), fmt.Sprintf("%s has no %s", k.Name, otherName), "remove it")
	}
	switch {
	case bound == nil && !c.incomplete(where):
		c.problem("MT1107", where, name+" is needed", map[string]string{"min": "such as min: 99", "max": "such as max: 500ms"}[name])
	case bound == nil:
	case k.Name == CheckDuration && (!bound.IsDuration || bound.Duration <= 0):
		c.problem("MT1105", join(where, name), "must be a duration", "such as 500ms")
	case k.Name == CheckSuccessRate && (bound.IsDuration || bound.Percent <= 0 || bound.Percent >= 100):
		c.problem("MT1105", join(where, name), "must be a percentage above 0 and below 100", "such as 99: that nothing ever fails can never be shown")
	}
}

// query checks that a PromQL query and its condition are there and compile.
func (c *checker) query(path, query, condition string) {
	if query == "" {
		c.problem("MT1103", join(path, "query"), "a query is needed", fmt.Sprintf("or name a built-in check: %s or %s", CheckSuccessRate, CheckDuration))
	} else if e, err := parser.NewParser(parser.Options{}).ParseExpr(query); err != nil {
		c.problem("MT1209", join(path, "query"), "not a PromQL query: "+firstLine(err), "")
	} else if t := e.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		c.problem("MT1209", join(path, "query"), fmt.Sprintf("the query gives a %s, and a condition needs a number", parser.DocumentedType(t)),
			"such as sum(rate(...[1m]))")
	}
	if condition == "" {
		c.problem("MT1103", join(path, "condition"), "a condition on the query's result is needed", "such as result < 500")
	} else if _, err := CompileCondition(condition); err != nil {
		c.problem("MT1208", join(path, "condition"), "not a condition: "+strings.TrimPrefix(firstLine(err), "compile condition: "), "such as result < 500")
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func (c *checker) expect() {
	if c.Expect.Rollout != OutcomeNone && c.Rollout == nil && c.written("expect.rollout") && !c.isBad("rollout") {
		c.problem("MT1207", "expect.rollout", "there is no roll-out", "remove it")
	}
	seen := map[string]bool{}
	for i, e := range c.Expect.Checks {
		path := index("expect.checks", i)
		c.unique(join(path, "name"), "check", e.Name, seen)
		c.exactlyOne(path, choice{"successRate", e.SuccessRate != nil}, choice{"trafficShare", e.TrafficShare != nil}, choice{"latency", e.Latency != nil},
			choice{"attempts", e.Attempts != nil}, choice{"fanOut", e.FanOut != nil}, choice{"graph", e.Graph != nil}, choice{"query", e.Query != ""})
		switch {
		case e.SuccessRate != nil:
			s := e.SuccessRate
			at := join(path, "successRate")
			c.stream(join(at, "load"), s.Load, true)
			c.rateBounds(at, s.Equals, s.Min, s.Max, s.Confidence)
		case e.TrafficShare != nil:
			c.trafficShare(join(path, "trafficShare"), *e.TrafficShare)
		case e.Latency != nil:
			at := join(path, "latency")
			c.stream(join(at, "load"), e.Latency.Load, true)
			if e.Latency.Min == 0 && e.Latency.Max == 0 && !c.written(join(at, "min")) && !c.written(join(at, "max")) && !c.incomplete(at) {
				c.problem("MT1107", at, "min or max is needed", "such as max: 800ms")
			}
		case e.Attempts != nil:
			c.attempts(join(path, "attempts"), *e.Attempts)
		case e.FanOut != nil:
			c.fanOut(join(path, "fanOut"), *e.FanOut)
		case e.Graph != nil:
			c.graph(join(path, "graph"), *e.Graph)
		case e.Query != "" || c.written(join(path, "query")):
			c.query(path, e.Query, e.Condition)
		}
	}
}

func (c *checker) attempts(path string, a Attempts) {
	if a.From != "" {
		c.caller(join(path, "from"), a.From)
	}
	c.service(join(path, "to"), a.To)
	c.version(join(path, "version"), a.To, a.Version)
	c.stream(join(path, "load"), a.Load, false)
	switch {
	case a.Min == nil && a.Max == nil && !c.incomplete(path) && !c.written(join(path, "min")) && !c.written(join(path, "max")):
		c.problem("MT1107", path, "min or max is needed", "such as min: 1.2")
	case a.Min != nil && a.Max != nil && *a.Min > *a.Max:
		c.problem("MT1203", join(path, "min"), "must be at most max", "")
	}
}

func (c *checker) trafficShare(path string, t TrafficShare) {
	if t.From != "" {
		c.caller(join(path, "from"), t.From)
	}
	c.service(join(path, "to"), t.To)
	c.version(join(path, "version"), t.To, t.Version)
	c.stream(join(path, "load"), t.Load, false)
	c.rateBounds(path, t.Equals, t.Min, t.Max, t.Confidence)
}

// stream reports a name that is not a stream of load.
func (c *checker) stream(path, name string, needed bool) {
	if c.isBad("load") {
		return
	}
	if name == "" {
		if needed && len(c.Load) != 1 {
			c.problem("MT1103", path, "the load must be named", "there is not exactly one stream")
		}
		return
	}
	among := map[string]bool{}
	for i, l := range c.Load {
		if c.isBad(join(index("load", i), "name")) {
			return
		}
		among[l.Name] = true
	}
	known(c, path, "stream of load", name, among, "load")
}

// rateBounds checks a share that is expected: equals, or min and max.
func (c *checker) rateBounds(path string, equals, low, high *Percent, confidence Percent) {
	for name, p := range map[string]*Percent{"equals": equals, "min": low, "max": high} {
		if p != nil && (*p < 0 || *p > 100) {
			c.problem("MT1203", join(path, name), p.String()+" is out of range", "0% to 100%")
		}
	}
	switch {
	case equals != nil && (low != nil || high != nil):
		c.problem("MT1107", join(path, "equals"), "equals stands instead of min and max", "")
	case equals == nil && low == nil && high == nil && !c.incomplete(path):
		c.problem("MT1107", path, "equals, min or max is needed", "")
	case low != nil && high != nil && *low > *high:
		c.problem("MT1203", join(path, "min"), "must be at most max", "")
	}
	if confidence < 50 || confidence >= 100 {
		c.problem("MT1203", join(path, "confidence"), confidence.String()+" is out of range", "50% to less than 100%")
	}
}
