package spec

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

var streamName = regexp.MustCompile(`^[a-z][a-z0-9]{0,30}$`)

func (c *checker) streams() {
	seen := map[string]bool{}
	for i, l := range c.Load {
		path := index("load", i)
		if l.Name != "" && !streamName.MatchString(l.Name) {
			c.problem("MT1109", join(path, "name"), fmt.Sprintf("%q is not a name of a stream", shorten(l.Name)),
				"a lower-case letter, then lower-case letters and digits, at most 31: the name is part of every request's key")
		}
		c.unique(join(path, "name"), "stream", l.Name, seen)
		if c.service(join(path, "target"), l.Target) && c.Services[l.Target].Protocol == "tcp" {
			c.problem("MT1211", join(path, "target"), fmt.Sprintf("load is HTTP, and %s speaks tcp", l.Target), "")
		}
		c.request(path, l)
		c.rates(path, l)
		if c.Rollout == nil && l.Duration == 0 && !c.isBad("rollout") {
			c.problem("MT1103", join(path, "duration"), "a duration is needed, as there is no roll-out whose end could end the stream", "such as duration: 10s")
		}
	}
}

func (c *checker) request(path string, l Stream) {
	if !token.MatchString(l.Method) {
		c.problem("MT1105", join(path, "method"), fmt.Sprintf("%q is not a method", shorten(l.Method)), "such as GET")
	}
	if !strings.HasPrefix(l.Path, "/") || strings.ContainsAny(l.Path, " \t\r\n#") {
		c.problem("MT1105", join(path, "path"), "must begin with / and have no blanks and no #", "")
	}
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		where := join(join(path, "headers"), name)
		c.header(where, name, l.Headers[name])
		c.references(where, l.Headers[name], false)
	}
}

func (c *checker) rates(path string, l Stream) {
	c.exactlyOne(path, choice{"rate", l.Rate != 0}, choice{"ramp", l.Ramp != nil}, choice{"steps", len(l.Steps) > 0}, choice{"sine", l.Sine != nil})
	if c.written(join(path, "steps")) && len(l.Steps) == 0 {
		c.problem("MT1103", join(path, "steps"), "at least one step is needed", "")
	}
	if s := l.Sine; s != nil {
		if s.Amplitude > s.Mean {
			c.problem("MT1203", join(path, "sine.amplitude"), "must be at most the mean", "a rate cannot be negative")
		}
	}
}

func (c *checker) faults() {
	seen := map[string]bool{}
	for i, f := range c.Faults {
		path := index("faults", i)
		c.unique(join(path, "name"), "fault", f.Name, seen)
		c.caller(join(path, "from"), f.From)
		c.callee(path, f)
		if f.From != "" && f.From == f.To {
			c.problem("MT1207", join(path, "to"), "a service does not call itself through the mesh", "")
		}
		if f.Abort == nil && f.Delay == nil && !c.incomplete(path) && !c.written(join(path, "abort")) && !c.written(join(path, "delay")) {
			c.problem("MT1107", path, "abort or delay is needed", "such as abort: {httpStatus: 503, percentage: {value: 5}}")
		}
		c.percentages(path, f)
		if f.Match != nil {
			c.httpMatch(join(path, "match"), *f.Match)
		}
		if f.Window != nil {
			c.window(join(path, "window"), *f.Window)
		}
		if f.Lease < time.Second || f.Lease > 30*time.Second {
			c.problem("MT1203", join(path, "lease"), "must be 1s to 30s", "")
		}
	}
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
		if c.Services[f.To].Protocol == "tcp" {
			c.problem("MT1211", join(path, "to"), fmt.Sprintf("abort and delay act on HTTP requests, and %s speaks tcp", f.To), "")
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
