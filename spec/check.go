package spec

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// checker looks at what a scenario means, after its shape has been checked.
type checker struct {
	*Scenario
	d *decoder
}

func check(s *Scenario, d *decoder) {
	c := &checker{Scenario: s, d: d}
	c.services()
	c.hooks("setup", s.Setup)
	c.hooks("teardown", s.Teardown)
	c.streams()
	if s.Rollout != nil {
		c.rollout()
	}
	c.faults()
	c.expect()
}

// problem reports something at the value of a path, unless something was wrong with that value or with what it is part of already.
func (c *checker) problem(code, path, message, hint string) {
	if c.isBad(path) {
		return
	}
	line, col := c.source.find(path, false)
	c.d.bad[path] = true
	c.d.diags = append(c.d.diags, c.source.at(SeverityError, code, c.source.file, line, col, path, message, hint))
}

// isBad reports whether there is a problem with the value of a path or with anything it is part of.
func (c *checker) isBad(path string) bool {
	for path != "" {
		if c.d.bad[path] {
			return true
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return c.d.bad[""]
}

// incomplete reports whether something below a mapping was not understood, so that nothing can be said about what is missing there.
func (c *checker) incomplete(path string) bool {
	return c.isBad(path) || len(c.d.unknown[path]) > 0
}

// choice is one of several fields of which one must be set.
type choice struct {
	name string
	set  bool
}

// exactlyOne reports when not exactly one of the fields of a mapping is set. A field that was written and is wrong counts as set.
func (c *checker) exactlyOne(path string, choices ...choice) {
	var names, set []string
	for _, o := range choices {
		names = append(names, o.name)
		if o.set || c.d.bad[join(path, o.name)] || c.written(join(path, o.name)) {
			set = append(set, o.name)
		}
	}
	switch {
	case len(set) == 0 && !c.incomplete(path):
		c.problem("MT1107", path, "one of "+orList(names)+" is needed", "")
	case len(set) > 1:
		c.problem("MT1107", join(path, set[1]), fmt.Sprintf("only one of %s can be set, and %s is set already", orList(names), set[0]), "")
	}
}

func (c *checker) services() {
	if len(c.Services) == 0 {
		c.problem("MT1103", "services", "at least one service is needed", "")
	}
	workloads := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		path, svc := join("services", name), c.Services[name]
		if name == EdgeName {
			c.problem("MT1204", path, `"edge" is the name of the gateway through which load enters`, "choose another name")
		}
		if len(svc.Versions) == 0 {
			c.problem("MT1103", join(path, "versions"), "at least one version is needed", "")
		}
		for _, version := range slices.Sorted(maps.Keys(svc.Versions)) {
			where := join(join(path, "versions"), version)
			workload := name + "-" + version
			if other := workloads[workload]; other != "" {
				c.problem("MT1204", where, fmt.Sprintf("the workload %s is also that of %s", workload, other), "rename one of them")
			}
			workloads[workload] = where
			v := svc.Versions[version]
			c.program(where, v.Run, v.Env, v.Readiness)
			c.calls(join(where, "calls"), name, v.Calls)
			if o, ok := c.manifestOf(where, name, version, len(svc.Versions) == 1, v.Run); ok {
				c.replicas(join(where, "replicas"), v, o)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.External)) {
		path, e := join("external", name), c.External[name]
		if c.Services[name] != nil || name == EdgeName || workloads[name] != "" {
			c.problem("MT1204", path, fmt.Sprintf("the name %q is taken by a service or a workload", name), "choose another name")
		}
		c.program(path, e.Run, e.Env, e.Readiness)
		c.manifestOf(path, name, "", true, e.Run)
	}
}

// replicas takes the number of instances from the manifest, unless the scenario says it too; then they must agree.
func (c *checker) replicas(path string, v *Version, o object) {
	n, said := o.replicas()
	switch {
	case !said:
	case !c.written(path):
		v.Replicas = n
	case v.Replicas != n:
		c.problem("MT1203", path, fmt.Sprintf("%s %s of the manifest has %d replicas", o.kind, o.name, n), "leave it out")
	}
}

// references checks the ${...} references in a text. Where there is no instance of ours that would call anything, only ${seed} makes sense.
func (c *checker) references(path, text string, instance bool) {
	refs, err := References(text)
	if err != nil {
		c.problem("MT1205", path, err.Error(),
			"known: ${service.NAME.url}, ${service.NAME.host}, ${service.NAME.port}, ${external.NAME.url}, ${self.host}, ${self.port}, ${self.name}, ${self.version}, ${seed}; $${ stands for ${")
		return
	}
	for _, r := range refs {
		switch {
		case r.Kind == RefSeed:
		case !instance:
			c.problem("MT1205", path, r.Text+" cannot be known here", "only ${seed} can be used here")
		case r.Kind == RefService:
			c.known(path, "service", r.Name, c.Services, "services")
		case r.Kind == RefExternal:
			known(c, path, "external service", r.Name, c.External, "external")
		}
	}
}

// known reports a name that is not among a map's keys, and whether it is. It keeps silent when the map itself could not be read.
func known[V any](c *checker, path, what, name string, among map[string]V, where string) bool {
	if _, ok := among[name]; ok || name == "" || c.isBad(where) {
		return ok
	}
	names := slices.Sorted(maps.Keys(among))
	hint := suggest(nearest(name, names), names)
	if len(names) == 0 {
		hint = fmt.Sprintf("the scenario has no %ss", what)
	}
	c.problem("MT1201", path, fmt.Sprintf("no such %s: %q", what, shorten(name)), hint)
	return false
}

func (c *checker) known(path, what, name string, among map[string]*Service, where string) bool {
	return known(c, path, what, name, among, where)
}

// service reports a name that is not a service.
func (c *checker) service(path, name string) bool {
	return c.known(path, "service", name, c.Services, "services")
}

// caller reports a name that is neither a service nor the edge.
func (c *checker) caller(path, name string) bool {
	return name == EdgeName || c.service(path, name)
}

// version reports a name that is not a version of a service. It keeps silent about a service that does not exist.
func (c *checker) version(path, service, name string) bool {
	svc := c.Services[service]
	if svc == nil || name == "" {
		return false
	}
	where := join(join("services", service), "versions")
	if _, ok := svc.Versions[name]; ok || c.isBad(where) {
		return ok
	}
	names := slices.Sorted(maps.Keys(svc.Versions))
	c.problem("MT1202", path, fmt.Sprintf("%s has no version %q", service, shorten(name)), suggest(nearest(name, names), names))
	return false
}

// unique reports the second use of a name in a list.
func (c *checker) unique(path, what, name string, seen map[string]bool) {
	if name != "" && seen[name] {
		c.problem("MT1204", path, fmt.Sprintf("there is another %s named %q", what, shorten(name)), "")
	}
	seen[name] = true
}

// stringMatch checks one test of a string; an empty one is allowed where it asks for presence.
func (c *checker) stringMatch(path string, m StringMatch, mayBeEmpty bool) {
	set := 0
	for _, p := range []*string{m.Exact, m.Prefix, m.Regex} {
		if p != nil {
			set++
		}
	}
	if set > 0 || !mayBeEmpty {
		c.exactlyOne(path, choice{"exact", m.Exact != nil}, choice{"prefix", m.Prefix != nil}, choice{"regex", m.Regex != nil})
	}
	if m.Regex != nil {
		if _, err := regexp.Compile(*m.Regex); err != nil {
			c.problem("MT1208", join(path, "regex"), "not a regular expression: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "RE2 syntax")
		}
	}
}

var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// header checks the name of a header and that a value can be sent.
func (c *checker) header(path, name, value string) {
	if !token.MatchString(name) {
		c.problem("MT1105", path, fmt.Sprintf("%q is not a name of a header", shorten(name)), "")
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		c.problem("MT1105", path, "the value of a header is one line", "")
	}
}
