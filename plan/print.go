package plan

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// tree prints numbered parts with numbered lines.
type tree struct {
	strings.Builder
	part, line int
}

func (t *tree) head(format string, args ...any) {
	t.part, t.line = t.part+1, 0
	fmt.Fprintf(t, "%d. %s\n", t.part, fmt.Sprintf(format, args...))
}

func (t *tree) item(format string, args ...any) {
	t.line++
	fmt.Fprintf(t, "   %d.%d %s\n", t.part, t.line, fmt.Sprintf(format, args...))
}

func (t *tree) more(format string, args ...any) {
	fmt.Fprintf(t, "       %s\n", fmt.Sprintf(format, args...))
}

// String returns the plan as a numbered tree, for people.
func (p *Plan) String() string {
	t := &tree{}
	fmt.Fprintf(t, "%s in %s, seed %d\n", p.Name, p.Environment, p.Seed)
	if p.Description != "" {
		fmt.Fprintf(t, "%s\n", p.Description)
	}
	t.WriteString("\n")
	p.printWorkloads(t)
	p.printHooks(t, "setup", p.Scenario.Setup)
	p.printEdges(t)
	p.printRoutes(t)
	p.printLoad(t)
	p.printRollout(t)
	p.printFaults(t)
	p.printDisruptions(t)
	p.printTimeline(t)
	p.printExpectations(t)
	p.printHooks(t, "teardown", p.Scenario.Teardown)
	t.head("the environment must be able to")
	for _, n := range p.Needs {
		t.item("%s: %s", n.Capability, n.Reason)
	}
	if len(p.Warnings) > 0 {
		t.head("warnings")
		for _, w := range p.Warnings {
			t.item("%s", w)
			if w.Hint != "" {
				t.more("hint: %s", w.Hint)
			}
		}
	}
	return t.String()
}

func (p *Plan) printWorkloads(t *tree) {
	inside, outside := 0, 0
	for _, w := range p.Workloads {
		if w.External {
			outside += len(w.Instances)
		} else {
			inside += len(w.Instances)
		}
	}
	t.head("workloads: %d with a sidecar, %d outside the mesh, and the edge; namespace %s", inside, outside, p.Namespace)
	for _, w := range p.Workloads {
		_, what := program(w.Run)
		line := fmt.Sprintf("%s: %s on port %d, %s", w.Name, w.Protocol, w.Port, what)
		if n := len(w.Instances); n > 1 {
			line += fmt.Sprintf(", %d instances", n)
		}
		if w.External {
			line += ", outside the mesh"
		}
		if len(w.Upstreams) > 0 {
			var names []string
			for _, u := range w.Upstreams {
				names = append(names, u.Name)
			}
			line += "; calls " + strings.Join(names, ", ")
		}
		t.item("%s", line)
	}
}

// printHooks prints what is run before or after, with what stands meanwhile.
func (p *Plan) printHooks(t *tree, what string, hooks []spec.Hook) {
	if len(hooks) == 0 {
		return
	}
	t.head("%s", what)
	isJob := func(h spec.Hook) bool { return h.Job != "" }
	for i, h := range hooks {
		does, when := "the command "+strings.Join(h.Command, " "), "while the mesh stands"
		if isJob(h) {
			does = "the job " + h.Job
		}
		switch {
		case what == "setup" && !slices.ContainsFunc(hooks[:i+1], isJob):
			when = "before anything is started"
		case what == "teardown" && !slices.ContainsFunc(hooks[i:], isJob):
			when = "when the mesh is gone"
		}
		t.item("%s: %s, %s, at most %s", h.Name, does, when, h.Timeout)
	}
}

func (p *Plan) printEdges(t *tree) {
	t.head("calls")
	if len(p.Edges) == 0 {
		t.item("none is declared")
	}
	for _, e := range p.Edges {
		line := e.String() + ": no load"
		if len(e.Streams) > 0 {
			line = e.String() + ": load " + strings.Join(e.Streams, ", ")
		}
		if e.Judged {
			line += "; judged"
		}
		t.item("%s", line)
	}
}

// printRoutes prints the tables that somebody wrote or that the roll-out edits.
func (p *Plan) printRoutes(t *tree) {
	t.head("routes at the beginning")
	for _, w := range p.Workloads {
		table := p.Snapshot.Routes[mesh.HostPort(w.Host, w.Port)]
		if table == nil || (len(table.Routes) == 1 && table.Routes[0].Name == DefaultRouteName) || w.Name != p.firstOf(w.Host) {
			continue
		}
		for _, r := range table.Routes {
			t.item("%s, route %s: %s", mesh.LogicalName(w.Host), r.Name, routeText(r))
		}
	}
	if t.line == 0 {
		t.item("every service has one route, to all its instances")
	}
}

// firstOf is the first workload of a host.
func (p *Plan) firstOf(host string) string {
	return p.Workloads[slices.IndexFunc(p.Workloads, func(w Workload) bool { return w.Host == host })].Name
}

func routeText(r mesh.Route) string {
	condition := ""
	if n := len(r.Matches); n == 1 {
		condition = "on 1 condition, "
	} else if n > 1 {
		condition = fmt.Sprintf("on any of %d conditions, ", n)
	}
	switch {
	case r.Redirect != nil:
		return condition + fmt.Sprintf("redirect with %d", r.Redirect.Code)
	case r.Direct != nil:
		return condition + fmt.Sprintf("answer %d", r.Direct.Status)
	}
	var arms []string
	for _, d := range r.Split {
		arm := mesh.LogicalName(d.Host)
		switch {
		case d.Refuse != 0:
			arm = fmt.Sprintf("answer %d", d.Refuse)
		case d.Subset != "":
			arm = d.Subset
		}
		arms = append(arms, fmt.Sprintf("%s %d", arm, d.Weight))
	}
	text := condition + strings.Join(arms, ", ")
	if r.Timeout > 0 {
		text += fmt.Sprintf("; timeout %s", r.Timeout)
	}
	if r.Retry != nil {
		text += fmt.Sprintf("; retries %d", r.Retry.Attempts)
	}
	for _, m := range r.Mirrors {
		text += fmt.Sprintf("; %v%% copied to %s", m.Share*100, strings.TrimSpace(mesh.LogicalName(m.Host)+" "+m.Subset))
	}
	return text
}

func (p *Plan) printLoad(t *tree) {
	t.head("load")
	if len(p.Streams) == 0 {
		t.item("none")
	}
	for _, s := range p.Streams {
		until := "for " + s.Duration.String()
		if s.UntilEnd {
			until = fmt.Sprintf("until the roll-out has ended (about %s)", round10ms(s.Duration))
		}
		method := s.Load.Method
		if s.Load.GRPC != nil {
			method = "gRPC"
		}
		t.item("%s: %s %s of %s, %s, %s: about %d requests", s.Name, method, s.Load.Path, s.Target, s.Shape, until, s.Requests)
	}
}

func (p *Plan) printRollout(t *tree) {
	r := p.Rollout
	if r == nil {
		return
	}
	t.head("roll-out of %s from %s to %s, judged on %s by %s, expected to be %s", r.Service, r.Stable, r.Canary, r.Edge, r.Judge, r.Expected)
	t.item("warm-up of %s, %d steps, about %s in all; about %d requests to %s by weight", r.Warmup, len(r.Steps), round10ms(r.Duration), r.Requests, r.Canary)
	for _, c := range r.Analysis.Checks {
		t.item("check %s", checkText(c))
	}
	t.item("at most %v of good canaries are rolled back; promotion needs evidence of confidence %v", spec.Percent(100*r.Analysis.Alpha),
		spec.Percent(roundTo(100*(1-r.Analysis.Beta), 6)))
	for _, w := range r.Power {
		verdict := "enough"
		if !w.Enough {
			verdict = "not enough"
		}
		t.item("power of %s: at least %s requests to %s are needed, about %d are expected: %s", w.Check, neededText(w.Needed), r.Canary, w.Have, verdict)
	}
}

func neededText(n int) string {
	if n == math.MaxInt32 {
		return "infinitely many"
	}
	return strconv.Itoa(n)
}

func roundTo(x float64, digits int) float64 {
	scale := math.Pow(10, float64(digits))
	return math.Round(x*scale) / scale
}

func checkText(c spec.Check) string {
	suffix := ""
	if !c.IsCritical() {
		suffix = " (only reported)"
	}
	switch {
	case !c.IsBuiltIn():
		return fmt.Sprintf("%s: %s of %s, every %s%s", c.Name, c.Condition, c.Query, c.Interval, suffix)
	case c.Compare == spec.CompareThreshold:
		return fmt.Sprintf("%s: %s%s", c.Name, thresholdText(c), suffix)
	case c.Name == spec.CheckDuration:
		return fmt.Sprintf("%s: rolled back when slower than the baseline by more than %s, promoted when quantile %v is at most %s above it%s",
			c.Name, c.Tolerance, c.PromoteOn, c.MaxDegradation, suffix)
	default:
		return fmt.Sprintf("%s: at most %s percentage points below the baseline's%s", c.Name, strings.TrimSuffix(c.MaxDegradation.String(), "%"), suffix)
	}
}

func thresholdText(c spec.Check) string {
	var parts []string
	if c.ThresholdRange.Min != nil {
		parts = append(parts, "at least "+c.ThresholdRange.Min.String())
	}
	if c.ThresholdRange.Max != nil {
		parts = append(parts, "at most "+c.ThresholdRange.Max.String())
	}
	text := strings.Join(parts, ", ")
	if c.Name == spec.CheckDuration {
		text = fmt.Sprintf("quantile %v %s", c.Quantile, text)
	}
	return text
}

func (p *Plan) printFaults(t *tree) {
	if len(p.Faults) == 0 {
		return
	}
	t.head("faults: each is a lease, which ends by itself when the run is gone")
	for _, f := range p.Faults {
		t.item("%s on %s->%s: %s", f.ID, f.From, f.To, faultText(f))
		t.more("%s; lease %s", windowText(f.Window), f.Lease)
		t.more("blast radius: about %d of %d requests on the edge; %s of all that users send, %s meanwhile", round(f.Blast.Affected), round(f.Blast.Matched),
			percent(f.Blast.Share), percent(f.Blast.Peak))
	}
}

func (p *Plan) printDisruptions(t *tree) {
	if len(p.Disruptions) == 0 {
		return
	}
	t.head("faults of what carries the mesh")
	for _, d := range p.Disruptions {
		t.item("%s: %s", d.ID, d.What())
		t.more("%s", windowText(d.Window))
		if d.Kind == spec.FaultControlKill {
			t.more("blast radius: no request; sidecars keep the configuration that they have")
			continue
		}
		upTo := ""
		if d.Kind == spec.FaultNodeDrain {
			upTo = "up to "
		}
		t.more("blast radius: %s%d of %s; %s of all that users send meanwhile would pass them", upTo, d.Reach.Instances, plural(d.Reach.Of, "instance"), percent(d.Reach.Share))
	}
}

func faultText(f Fault) string {
	var parts []string
	if f.Abort != nil {
		parts = append(parts, fmt.Sprintf("answer %d", f.Abort.Status)+shareText(f, f.Abort.Share))
	}
	if f.Delay != nil {
		parts = append(parts, fmt.Sprintf("delay by %s", f.Delay.Fixed)+shareText(f, f.Delay.Share))
	}
	text := strings.Join(parts, ", ")
	if f.Version != "" {
		text += ", version " + f.Version
	}
	if f.Match != nil {
		text += ", matching ones only"
	}
	return text
}

func shareText(f Fault, share float64) string {
	unit := string(f.At)
	switch {
	case f.First > 0:
		return fmt.Sprintf(" for the first %d %ss of each sidecar", f.First, unit)
	case f.Every > 0:
		return fmt.Sprintf(" for every %d. %s of each sidecar", f.Every, unit)
	default:
		return fmt.Sprintf(" for %s of %ss", percent(share), unit)
	}
}

func windowText(w Window) string {
	switch {
	case w.BySteps() && w.UntilStep == w.FromStep+1:
		return fmt.Sprintf("during step %d (about %s to %s)", w.FromStep, round10ms(w.Start), round10ms(w.End))
	case w.BySteps():
		return fmt.Sprintf("during steps %d to %d (about %s to %s)", w.FromStep, w.UntilStep-1, round10ms(w.Start), round10ms(w.End))
	case w.End > 0:
		return fmt.Sprintf("from %s to %s", w.Start, w.End)
	case w.Start > 0:
		return fmt.Sprintf("from %s until the load ends", w.Start)
	default:
		return "during the whole load"
	}
}

func percent(share float64) string {
	return strconv.FormatFloat(roundTo(100*share, 2), 'f', -1, 64) + "%"
}

func (p *Plan) printTimeline(t *tree) {
	t.head("timeline, since the load begins; the run ends after %s at the latest", p.Timeout)
	for _, e := range p.Timeline {
		t.item("%s: %s", when(e), e.Text)
	}
}

func when(e Event) string {
	text := strconv.FormatFloat(e.At.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	if e.About {
		return "about " + text
	}
	return text
}

func (p *Plan) printExpectations(t *tree) {
	e := p.Scenario.Expect
	if p.Rollout == nil && len(e.Checks) == 0 {
		return
	}
	t.head("the run passes when")
	if p.Rollout != nil {
		t.item("the roll-out is %s", e.Rollout)
	}
	for _, c := range e.Checks {
		t.item("%s: %s", c.Name, expectationText(c))
	}
}

func expectationText(e spec.Expectation) string {
	switch {
	case e.SuccessRate != nil:
		return fmt.Sprintf("success rate of load %s %s", e.SuccessRate.Load,
			boundsText(e.SuccessRate.Equals, e.SuccessRate.Min, e.SuccessRate.Max, e.SuccessRate.Confidence))
	case e.TrafficShare != nil:
		s := e.TrafficShare
		return fmt.Sprintf("share of %s in the requests%s to %s %s", s.Version, callerText(s.From, s.Load), s.To, boundsText(s.Equals, s.Min, s.Max, s.Confidence))
	case e.Latency != nil:
		var parts []string
		if e.Latency.Min > 0 {
			parts = append(parts, fmt.Sprintf("at least %s", e.Latency.Min))
		}
		if e.Latency.Max > 0 {
			parts = append(parts, fmt.Sprintf("at most %s", e.Latency.Max))
		}
		return fmt.Sprintf("latency quantile %v of load %s %s", e.Latency.Quantile, e.Latency.Load, strings.Join(parts, ", "))
	case e.Attempts != nil:
		a := e.Attempts
		to := strings.TrimSpace(a.To + " " + a.Version)
		var parts []string
		if a.Min != nil {
			parts = append(parts, fmt.Sprintf("at least %g", *a.Min))
		}
		if a.Max != nil {
			parts = append(parts, fmt.Sprintf("at most %g", *a.Max))
		}
		return fmt.Sprintf("mean attempts of the requests%s to %s %s", callerText(a.From, a.Load), to, strings.Join(parts, ", "))
	case e.FanOut != nil:
		return fanOutText(*e.FanOut)
	case e.Graph != nil:
		return graphText(*e.Graph)
	default:
		return fmt.Sprintf("%s of %s", e.Condition, e.Query)
	}
}

func fanOutText(f spec.FanOut) string {
	calls, how := "its upstreams", "one after the other"
	if f.Calls > 0 {
		calls = fmt.Sprintf("%d upstreams", f.Calls)
	}
	if f.Shape == spec.FanOutParallel {
		how = "at the same time"
	}
	load := ""
	if f.Load != "" {
		load = " of load " + f.Load
	}
	return fmt.Sprintf("%s calls %s %s, in at least %s of its requests%s that are traced", strings.TrimSpace(f.Service+" "+f.Version), calls, how, f.Min, load)
}

func graphText(g spec.Graph) string {
	var calls []string
	for _, caller := range slices.Sorted(maps.Keys(g.Calls)) {
		if len(g.Calls[caller]) > 0 {
			calls = append(calls, caller+" calls "+strings.Join(g.Calls[caller], ", "))
		}
	}
	who := "nobody else calls anybody"
	if g.Of != "" {
		who = g.Of + " depends on nobody else"
	}
	return strings.Join(append(calls, who), "; ")
}

// callerText says whose requests an expectation is about; empty for all.
func callerText(from, load string) string {
	text := ""
	if from != "" {
		text = " from " + from
	}
	if load != "" {
		text += " of load " + load
	}
	return text
}

func boundsText(equals, low, high *spec.Percent, confidence spec.Percent) string {
	if equals != nil {
		if *equals == 0 || *equals == 100 {
			return "exactly " + equals.String()
		}
		return fmt.Sprintf("compatible with %s at confidence %s", equals, confidence)
	}
	var parts []string
	if low != nil {
		parts = append(parts, "at least "+low.String())
	}
	if high != nil {
		parts = append(parts, "at most "+high.String())
	}
	return strings.Join(parts, ", ")
}
