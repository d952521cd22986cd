package spec

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

func (c *checker) faults() {
	seen := map[string]bool{}
	for i, f := range c.Faults {
		path := index("faults", i)
		c.unique(join(path, "name"), "fault", f.Name, seen)
		if f.Window != nil {
			c.window(join(path, "window"), *f.Window)
		}
		if c.disrupts(path) {
			c.disruption(path, f)
		} else {
			c.requestFault(path, f)
		}
	}
}

// disrupts reports whether a fault is written as one of what carries the mesh.
func (c *checker) disrupts(path string) bool {
	return slices.ContainsFunc(disruptions, func(word string) bool { return c.written(join(path, word)) })
}

// disruption checks a fault of what carries the mesh. What says which requests are hit, and how they are leased, has no meaning for it.
func (c *checker) disruption(path string, f Fault) {
	var choices []choice
	for _, word := range append([]string{FaultAbort, FaultDelay}, disruptions...) {
		choices = append(choices, choice{word, c.written(join(path, word))})
	}
	c.exactlyOne(path, choices...)
	c.onlyFor(path, "faults of requests, abort and delay", "from", "to", "version", "match", "first", "every", "maxActive", "at", "lease", "minMatched")
	service, version := f.Target()
	where := join(path, f.Disruption())
	if service != "" && c.service(join(where, "service"), service) {
		c.version(join(where, "version"), service, version)
	}
}

// requestFault checks a fault of requests between a caller and a service.
func (c *checker) requestFault(path string, f Fault) {
	if f.Abort == nil && f.Delay == nil && !c.incomplete(path) && !c.written(join(path, "abort")) && !c.written(join(path, "delay")) {
		c.problem("MT1107", path, orList(append([]string{FaultAbort, FaultDelay}, disruptions...))+" is needed", "such as abort: {httpStatus: 503, percentage: {value: 5}}")
	}
	c.missing(path, "from", f.From)
	c.missing(path, "to", f.To)
	c.caller(join(path, "from"), f.From)
	c.callee(path, f)
	if f.From != "" && f.From == f.To {
		c.problem("MT1207", join(path, "to"), "a service does not call itself through the mesh", "")
	}
	c.percentages(path, f)
	if f.Match != nil {
		c.httpMatch(join(path, "match"), *f.Match)
	}
	if f.Lease < time.Second || f.Lease > 30*time.Second {
		c.problem("MT1203", join(path, "lease"), "must be 1s to 30s", "")
	}
}

// missing reports a text that has to be there.
func (c *checker) missing(path, name, value string) {
	where := join(path, name)
	switch {
	case value != "" || c.d.bad[where] || slices.Contains(c.d.unknown[path], name) || c.meantToDisrupt(path):
		return
	case c.written(where):
		c.problem("MT1105", where, "must not be empty", "")
		return
	}
	c.d.bad[where] = true
	line, col := c.source.find(path, true)
	c.d.diags = append(c.d.diags, c.source.at(SeverityError, "MT1103", c.source.file, line, col, path, fmt.Sprintf("the field %q is missing", name), ""))
}

// meantToDisrupt reports whether an unknown word of a fault is probably one for a disruption, which has neither from nor to.
func (c *checker) meantToDisrupt(path string) bool {
	return slices.ContainsFunc(c.d.unknown[path], func(near string) bool { return slices.Contains(disruptions, near) })
}

// callee checks who is called: a service in some version, or an external service.
func (c *checker) callee(path string, f Fault) {
	if c.External[f.To] != nil {
		if f.Version != "" {
			c.problem("MT1202", join(path, "version"), fmt.Sprintf("%s is outside the mesh and has no versions", f.To), "remove the version")
		}
		return
	}
	if c.service(join(path, "to"), f.To) {
		c.version(join(path, "version"), f.To, f.Version)
		if !c.speaksHTTP(f.To) {
			c.problem("MT1211", join(path, "to"), fmt.Sprintf("abort and delay act on HTTP requests, and %s speaks %s", f.To, c.Services[f.To].Protocol), "")
		}
	}
}

// percentages checks that what decides which requests are hit is said once.
func (c *checker) percentages(path string, f Fault) {
	counted := c.written(join(path, "first")) || c.written(join(path, "every"))
	if f.First > 0 && f.Every > 0 {
		c.problem("MT1107", join(path, "every"), "only one of first and every can be set", "")
	}
	check := func(name string, p *Percentage) {
		where := join(join(path, name), "percentage")
		switch {
		case p == nil && !counted && !c.incomplete(join(path, name)):
			c.problem("MT1103", where, "a percentage is needed", "such as percentage: {value: 5}, or first: 10 or every: 5 in the fault")
		case p != nil && counted:
			c.problem("MT1107", where, "first and every stand instead of a percentage", "remove one of them")
		case p != nil && p.Value == 0:
			c.problem("MT1203", where, "a fault of 0% does nothing", "remove the fault")
		}
	}
	if f.Abort != nil {
		check("abort", f.Abort.Percentage)
	}
	if f.Delay != nil {
		check("delay", f.Delay.Percentage)
	}
}

func (c *checker) httpMatch(path string, m HTTPMatch) {
	for _, o := range []struct {
		name string
		test *StringMatch
	}{{"uri", m.URI}, {"method", m.Method}, {"authority", m.Authority}} {
		if o.test != nil {
			c.stringMatch(join(path, o.name), *o.test, false)
		}
	}
	for _, o := range []struct {
		name  string
		tests map[string]StringMatch
	}{{"headers", m.Headers}, {"withoutHeaders", m.WithoutHeaders}, {"queryParams", m.QueryParams}} {
		for _, key := range slices.Sorted(maps.Keys(o.tests)) {
			c.stringMatch(join(join(path, o.name), key), o.tests[key], true)
		}
	}
}

func (c *checker) window(path string, w Window) {
	step := join(path, "step")
	switch {
	case !c.written(step) && !c.incomplete(path) && w.Start == 0 && w.Duration == 0:
		c.problem("MT1107", path, "a window needs a step, or start and duration", "such as {step: 3} or {start: 5s, duration: 4s}")
	case !c.written(step):
	case c.written(join(path, "start")) || c.written(join(path, "duration")):
		c.problem("MT1107", step, "a window is either a step or start and duration", "")
	case c.Rollout == nil:
		c.problem("MT1206", step, "there is no roll-out whose step it could be", "use {start: 5s, duration: 4s}")
	case w.Step > len(c.Rollout.Steps) && !c.isBad("rollout.steps"):
		c.problem("MT1206", step, fmt.Sprintf("the roll-out has only %d steps", len(c.Rollout.Steps)), "the first step is 1")
	}
}
