package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// New plans a scenario. The plan is nil when there is an error among the diagnostics; warnings are also in the plan.
func New(s *spec.Scenario, o Options) (*Plan, spec.Diagnostics) {
	b := &builder{scenario: s, options: o, entered: map[string][]entry{}, visits: map[string]map[string]float64{}}
	b.plan = &Plan{
		Name:        s.Metadata.Name,
		Description: s.Metadata.Description,
		Environment: o.Environment,
		Namespace:   s.Namespace,
		Seed:        o.Seed,
		Timeout:     s.Timeout,
		Snapshot:    mesh.NewSnapshot(),
		Scenario:    s,
	}
	b.environment()
	b.workloads()
	b.edges()
	b.snapshot()
	b.rules()
	if b.diags.Err() == nil {
		b.entries()
		b.rollout()
	}
	if b.diags.Err() == nil {
		b.schedule()
		b.faults()
		b.disruptions()
		b.power()
		b.lint()
		b.timeline()
	}
	b.diags = b.diags.Sort()
	if b.diags.Err() != nil {
		return nil, b.diags
	}
	b.plan.Warnings = b.diags
	return b.plan, b.diags
}

// Underpowered lists the checks that cannot get the evidence that promotion needs.
func (p *Plan) Underpowered() []Power {
	var short []Power
	if p.Rollout != nil {
		for _, w := range p.Rollout.Power {
			if !w.Enough {
				short = append(short, w)
			}
		}
	}
	return short
}

// Workload returns the workload of a name, nil when there is none.
func (p *Plan) Workload(name string) *Workload {
	i := slices.IndexFunc(p.Workloads, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		return nil
	}
	return &p.Workloads[i]
}

// builder fills a plan in, part after part.
type builder struct {
	scenario *spec.Scenario
	options  Options
	plan     *Plan
	diags    spec.Diagnostics
	calls    map[string][]string           // by caller: the services it calls by its references, or the edge by load; sorted
	entered  map[string][]entry            // by stream: the services that its requests enter at
	visits   map[string]map[string]float64 // by stream: how often one of its requests reaches each service
	written  []int                         // of each planned fault and disruption, in order: its index in the scenario
	phases   []phase                       // of the roll-out, in order
	length   time.Duration                 // expected, of the load
	judged   string                        // caller of the judged edge, by its name in the scenario
}

func (b *builder) fail(code, path, hint, format string, args ...any) {
	b.diags = append(b.diags, b.scenario.Problem(spec.SeverityError, code, path, fmt.Sprintf(format, args...), hint))
}

func (b *builder) warn(code, path, hint, format string, args ...any) {
	b.diags = append(b.diags, b.scenario.Problem(spec.SeverityWarning, code, path, fmt.Sprintf(format, args...), hint))
}

// host is the fully qualified host of one of the scenario's services.
func (b *builder) host(name string) string { return mesh.FQDN(name, b.scenario.Namespace) }

// logical is the name of a service, or of the edge, in edges.
func (b *builder) logical(name string) string {
	if name == spec.EdgeName {
		return name
	}
	return mesh.LogicalName(b.host(name))
}

func (b *builder) edge(from, to string) mesh.Edge {
	return mesh.Edge{From: b.logical(from), To: b.logical(to)}
}

// environment checks that the scenario runs where it is asked to, and that the environment can do what it needs.
func (b *builder) environment() {
	s, p := b.scenario, b.plan
	if p.Environment == "" {
		p.Environment = s.Environments[0]
	}
	inCluster := p.Environment == spec.EnvKubernetes && slices.Contains(s.Environments, spec.EnvKind) // what runs in kind runs in any cluster
	if !slices.Contains(s.Environments, p.Environment) && !inCluster {
		b.fail("MT1404", "environments", "add it to environments", "the scenario does not run in %s", p.Environment)
	}
	b.needs()
	if b.options.Capabilities == nil {
		return
	}
	for _, n := range b.options.Capabilities.Missing(p.Needs) {
		b.fail("MT1401", n.Path, fmt.Sprintf("it can do: %s", b.options.Capabilities), "the environment %s cannot do this: %s: %s", p.Environment, n.Capability, n.Reason)
	}
}

// needs lists each thing that an environment must be able to do, with the first reason for it.
func (b *builder) needs() {
	seen := capability.Set{}
	need := func(c capability.Capability, path, format string, args ...any) {
		if !seen.Has(c) {
			seen[c] = true
			b.plan.Needs = append(b.plan.Needs, capability.Requirement{Capability: c, Reason: fmt.Sprintf(format, args...), Path: path})
		}
	}
	port := func(path, what string, number int, protocol string) {
		if number < 1024 {
			need(capability.PrivilegedPorts, path+".port", "%s listens on port %d", what, number)
		}
		carried := capability.TCP
		if mesh.Protocol(protocol).IsHTTP() {
			carried = capability.HTTP
		}
		need(carried, path+".protocol", "%s speaks %s", what, protocol)
	}
	s := b.scenario
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		path, svc := "services."+name, s.Services[name]
		port(path, "service "+name, svc.Port, svc.Protocol)
		for _, v := range slices.Sorted(maps.Keys(svc.Versions)) {
			capabilities, what := program(svc.Versions[v].Run)
			for _, c := range capabilities {
				need(c, path+".versions."+v+".run", "%s runs %s", mesh.WorkloadName(name, v), what)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.External)) {
		path, e := "external."+name, s.External[name]
		need(capability.External, path, "%s is outside the mesh", name)
		port(path, "external service "+name, e.Port, e.Protocol)
		capabilities, what := program(e.Run)
		for _, c := range capabilities {
			need(c, path+".run", "%s runs %s", name, what)
		}
	}
	for _, h := range b.hooks() {
		if h.Job != "" {
			need(capability.Manifest, h.path+".job", "%s runs the job %s", h.path, h.Job)
		}
	}
	for i, f := range s.Faults {
		path := "faults[" + strconv.Itoa(i) + "]"
		if f.Abort != nil {
			need(capability.FaultAbort, path+".abort", "fault %s aborts requests", f.Name)
		}
		if f.Delay != nil {
			need(capability.FaultDelay, path+".delay", "fault %s delays requests", f.Name)
		}
		if word := f.Disruption(); word != "" {
			d := disruptionKinds[word]
			need(d.capability, path+"."+word, "fault %s %s", f.Name, d.does)
		}
	}
}

// disruptionKinds are what a disruption takes, and what it does in words.
var disruptionKinds = map[string]struct {
	capability capability.Capability
	does       string
}{
	spec.FaultPodKill:     {capability.PodKill, "deletes pods"},
	spec.FaultNodeDrain:   {capability.NodeDrain, "drains nodes"},
	spec.FaultControlKill: {capability.ControlKill, "deletes the control plane"},
	spec.FaultScale:       {capability.Scale, "changes a number of replicas"},
}

// hook is one of what is run before or after, with its place in the scenario.
type hook struct {
	spec.Hook
	path string
}

func (b *builder) hooks() []hook {
	var all []hook
	for i, h := range b.scenario.Setup {
		all = append(all, hook{h, "setup[" + strconv.Itoa(i) + "]"})
	}
	for i, h := range b.scenario.Teardown {
		all = append(all, hook{h, "teardown[" + strconv.Itoa(i) + "]"})
	}
	return all
}

// program says what an instance runs, as the capabilities it takes and in words.
func program(r spec.Run) ([]capability.Capability, string) {
	switch {
	case r.Fixture != "":
		return []capability.Capability{capability.Fixture}, "the fixture " + r.Fixture
	case len(r.Command) > 0:
		return []capability.Capability{capability.Command}, "the command " + r.Command[0]
	case r.Manifest != "" && r.Image != "":
		return []capability.Capability{capability.Manifest, capability.Image}, "the manifest " + r.Manifest + " with the image " + r.Image
	case r.Image != "":
		return []capability.Capability{capability.Image}, "the image " + r.Image
	default:
		return []capability.Capability{capability.Manifest}, "the manifest " + r.Manifest
	}
}

func (b *builder) workloads() {
	s := b.scenario
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		svc := s.Services[name]
		for _, version := range slices.Sorted(maps.Keys(svc.Versions)) {
			v := svc.Versions[version]
			w := Workload{
				Name: mesh.WorkloadName(name, version), Service: name, Version: version, Host: b.host(name), Port: svc.Port, Protocol: mesh.Protocol(svc.Protocol),
				Identity: mesh.SPIFFE(TrustDomain, s.Namespace, name),
				Labels:   mesh.Labels{mesh.LabelApp: name, mesh.LabelVersion: version},
				Run:      v.Run, Env: v.Env, Calls: v.Calls, Readiness: v.Readiness,
			}
			w.Instances = instances(w.Name, v.Replicas)
			b.plan.Workloads = append(b.plan.Workloads, w)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.External)) {
		e := s.External[name]
		b.plan.Workloads = append(b.plan.Workloads, Workload{
			Name: name, Service: name, External: true, Host: b.host(name), Port: e.Port, Protocol: mesh.Protocol(e.Protocol),
			Labels: mesh.Labels{mesh.LabelApp: name}, Instances: instances(name, 1),
			Run: e.Run, Env: e.Env, Readiness: e.Readiness,
		})
	}
}

func instances(workload string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = workload + "-" + strconv.Itoa(i+1)
	}
	return names
}

// edges finds who calls whom: by the references in the workloads' environments and commands, by what they say that they call, and by the targets of load.
func (b *builder) edges() {
	b.calls = map[string][]string{}
	for _, l := range b.scenario.Load {
		if l.Target != "" {
			b.call(spec.EdgeName, l.Target)
		}
	}
	for i := range b.plan.Workloads {
		w := &b.plan.Workloads[i]
		names := append(referenced(w.Env, w.Run.Command), w.Calls...)
		names = slices.DeleteFunc(names, func(n string) bool { return n == w.Service })
		for _, name := range names {
			b.call(w.Service, name)
		}
		if !w.External { // an external service has no sidecar to call through
			w.Upstreams = b.upstreams(append(names, b.declared(w.Service)...))
		}
	}
}

func (b *builder) call(from, to string) {
	if !slices.Contains(b.calls[from], to) {
		b.calls[from] = append(b.calls[from], to)
		slices.Sort(b.calls[from])
	}
}

// drawGraph draws the static graph, once it is known where load enters.
func (b *builder) drawGraph() {
	for _, from := range slices.Sorted(maps.Keys(b.calls)) {
		for _, to := range b.calls[from] {
			b.plan.Edges = append(b.plan.Edges, Edge{Edge: b.edge(from, to), Streams: b.streamsThrough(from, to)})
		}
	}
}

// declared are the services that a caller calls because the roll-out or a fault says so, although nothing refers to them: the caller may use its sidecar as a
// proxy.
func (b *builder) declared(from string) []string {
	var names []string
	if r := b.scenario.Rollout; r != nil && r.From == from {
		names = append(names, r.Service)
	}
	for _, f := range b.scenario.Faults {
		if f.From == from {
			names = append(names, f.To)
		}
	}
	return names
}

// referenced are the services that texts refer to, sorted.
func referenced(env map[string]string, command []string) []string {
	names := map[string]bool{}
	for _, text := range slices.Concat(slices.Collect(maps.Values(env)), command) {
		refs, _ := spec.References(text) // a malformed one has been refused before
		for _, r := range refs {
			if r.Kind == spec.RefService || r.Kind == spec.RefExternal {
				names[r.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// upstreams are the services of the given names, sorted and without repetition.
func (b *builder) upstreams(names []string) []Upstream {
	var ups []Upstream
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if svc := b.scenario.Services[name]; svc != nil {
			ups = append(ups, Upstream{Name: name, Host: b.host(name), Port: svc.Port, Protocol: mesh.Protocol(svc.Protocol)})
		} else if e := b.scenario.External[name]; e != nil {
			ups = append(ups, Upstream{Name: name, Host: b.host(name), Port: e.Port, Protocol: mesh.Protocol(e.Protocol), External: true})
		}
	}
	return ups
}
