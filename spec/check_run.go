package spec

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// subdomain is how Kubernetes names most objects (RFC 1123).
var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// program checks what an instance of a service, or of one of its versions, runs.
func (c *checker) program(path string, run Run, env map[string]string, ready Readiness) {
	where := join(path, "run")
	has := func(name string) bool { return c.written(join(where, name)) }
	choices := []choice{{"fixture", run.Fixture != ""}, {"command", len(run.Command) > 0}, {"image", run.Image != ""}, {"manifest", run.Manifest != ""}}
	if has("manifest") && has("image") { // the one replaces what is in the other
		choices = slices.Delete(choices, 2, 3)
	}
	c.exactlyOne(where, choices...)
	if run.Fixture != "" && c.d.fixtures != nil && !slices.Contains(c.d.fixtures, run.Fixture) {
		c.problem("MT1201", join(where, "fixture"), fmt.Sprintf("no such fixture: %q", shorten(run.Fixture)), Suggest(run.Fixture, c.d.fixtures))
	}
	if has("command") && (len(run.Command) == 0 || run.Command[0] == "") {
		c.problem("MT1105", join(where, "command"), "must name a program", "such as [./server, --port, ${self.port}]")
	}
	for i, arg := range run.Command {
		c.references(index(join(where, "command"), i), arg, true)
	}
	if strings.ContainsAny(run.Image, " \t\r\n") {
		c.problem("MT1105", join(where, "image"), "must be a reference of an image, without blanks", "such as registry.example.com/app:1.2")
	}
	if has("container") && !(has("manifest") && has("image")) {
		c.problem("MT1207", join(where, "container"), "container says which image of a manifest is replaced", "set manifest and image, too")
	}
	if has("pullSecrets") && !has("image") {
		c.problem("MT1207", join(where, "pullSecrets"), "pullSecrets is only for an image", "remove it")
	}
	for i, secret := range run.PullSecrets {
		if !subdomain.MatchString(secret) {
			c.problem("MT1109", index(join(where, "pullSecrets"), i), fmt.Sprintf("%q is not a name of a secret", shorten(secret)), "")
		}
	}
	c.variables(path, env)
	c.readiness(join(path, "readiness"), ready)
	if has("manifest") {
		c.ownBusiness(path)
	}
}

func (c *checker) variables(path string, env map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		at := join(join(path, "env"), name)
		c.variable(at, name)
		c.references(at, env[name], true)
	}
}

func (c *checker) variable(path, name string) {
	if !variable.MatchString(name) {
		c.problem("MT1109", path, fmt.Sprintf("%q is not a name of an environment variable", shorten(name)), "letters, digits and underscores, not a digit first")
	}
}

func (c *checker) readiness(path string, ready Readiness) {
	if ready.Path != "" && ready.TCP && c.written(join(path, "tcp")) {
		c.problem("MT1107", join(path, "tcp"), "only one of path and tcp can be set", "")
	}
	if ready.Path != "" && !strings.HasPrefix(ready.Path, "/") {
		c.problem("MT1105", join(path, "path"), "must begin with /", "")
	}
}

// ownBusiness reports what a manifest says itself: it is applied as it is.
func (c *checker) ownBusiness(path string) {
	for field, hint := range map[string]string{
		"env": "write it into the manifest; what the workload calls can be said by calls", "readiness.path": "its pods have a readinessProbe", "readiness.tcp": "its pods have a readinessProbe",
	} {
		if where := join(path, field); c.written(where) {
			c.problem("MT1207", where, field+" is not for a manifest, which is applied as it is", hint)
		}
	}
}

// calls checks the services that a version says it calls.
func (c *checker) calls(path, service string, names []string) {
	seen := map[string]bool{}
	for i, name := range names {
		where := index(path, i)
		switch {
		case seen[name]:
			c.problem("MT1204", where, fmt.Sprintf("%q is there already", shorten(name)), "")
		case name == service:
			c.problem("MT1207", where, "a service does not call itself through the mesh", "")
		case c.External[name] == nil:
			c.service(where, name)
		}
		seen[name] = true
	}
}

// hooks checks what is run before and after.
func (c *checker) hooks(what string, hooks []Hook) {
	seen := map[string]bool{}
	for i, h := range hooks {
		path := index(what, i)
		c.unique(join(path, "name"), "step of "+what, h.Name, seen)
		c.exactlyOne(path, choice{"command", len(h.Command) > 0}, choice{"job", h.Job != ""})
		if c.written(join(path, "command")) && (len(h.Command) == 0 || h.Command[0] == "") {
			c.problem("MT1105", join(path, "command"), "must name a program", "such as [./prepare, --all]")
		}
		for j, arg := range h.Command {
			c.references(index(join(path, "command"), j), arg, false)
		}
		if h.Job != "" {
			c.onlyFor(path, "a command", "env")
			c.job(join(path, "job"), h)
		}
		for _, name := range slices.Sorted(maps.Keys(h.Env)) {
			at := join(join(path, "env"), name)
			c.variable(at, name)
			c.references(at, h.Env[name], false)
		}
		if what == "setup" {
			c.onlyFor(path, "teardown", "required")
		}
	}
}

// job checks that a file holds one job.
func (c *checker) job(path string, h Hook) {
	if len(h.Objects) == 0 || c.isBad(path) {
		return
	}
	m := c.manifestAt(path, h.Job, h.Objects)
	if m == nil {
		return
	}
	jobs := 0
	for _, o := range m.objects {
		if o.isAJob {
			jobs++
		}
	}
	if jobs != 1 {
		c.problem("MT1213", path, fmt.Sprintf("the file has %d jobs, and one is needed", jobs), "an object with apiVersion: batch/v1 and kind: Job")
	}
}
