package plan

import (
	"maps"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/spec"
)

// faults says each fault in the mesh's words, when it is held, and what it is expected to hit.
func (b *builder) faults() {
	for i, f := range b.scenario.Faults {
		if f.Disruption() != "" {
			continue
		}
		b.written = append(b.written, i)
		out := Fault{Fault: b.meshFault(f), Lease: f.Lease, MinMatched: f.MinMatched, Window: b.window(f.Window)}
		out.Blast = b.blast(f, out)
		b.plan.Faults = append(b.plan.Faults, out)
	}
}

func (b *builder) meshFault(f spec.Fault) mesh.Fault {
	out := mesh.Fault{
		ID: f.Name, From: b.logical(f.From), To: b.logical(f.To), Version: f.Version, At: mesh.FaultPoint(f.At),
		First: f.First, Every: f.Every, Max: f.MaxActive,
	}
	if f.Match != nil {
		m := meshMatch(*f.Match)
		out.Match = &m
	}
	if f.Delay != nil {
		out.Delay = &mesh.Delay{Fixed: f.Delay.FixedDelay, Share: faultShare(f.Delay.Percentage)}
	}
	if f.Abort != nil {
		out.Abort = &mesh.Abort{Status: f.Abort.HTTPStatus, Share: faultShare(f.Abort.Percentage)}
	}
	return out
}

// faultShare is everything when there is no percentage: the fault then counts requests.
func faultShare(p *spec.Percentage) float64 {
	if p == nil {
		return 1
	}
	return p.Value.Share()
}

func meshMatch(m spec.HTTPMatch) mesh.Match {
	return mesh.Match{
		Path: stringMatch(m.URI), IgnorePathCase: m.IgnoreURICase, Method: stringMatch(m.Method), Authority: stringMatch(m.Authority),
		Headers: tests(m.Headers, strings.ToLower), WithoutHeaders: tests(m.WithoutHeaders, strings.ToLower), Query: tests(m.QueryParams, strings.Clone),
	}
}

func tests(in map[string]spec.StringMatch, name func(string) string) map[string]mesh.HeaderTest {
	if len(in) == 0 {
		return nil
	}
	out := map[string]mesh.HeaderTest{}
	for _, key := range slices.Sorted(maps.Keys(in)) {
		m := in[key]
		if m.Exact == nil && m.Prefix == nil && m.Regex == nil {
			out[name(key)] = mesh.HeaderTest{Present: true}
		} else {
			out[name(key)] = mesh.HeaderTest{Value: stringMatch(&m)}
		}
	}
	return out
}

// window says when a fault is held. A step that changes a route takes no time of its own, so its window lasts through the pauses and analyses after it, until
// the next change; the window of a pause or an analysis is that step alone.
func (b *builder) window(w *spec.Window) Window {
	switch {
	case w == nil:
		return Window{}
	case w.Step == 0 && w.Duration == 0:
		return Window{Start: w.Start}
	case w.Step == 0:
		return Window{Start: w.Start, End: w.Start + w.Duration}
	}
	steps := b.scenario.Rollout.Steps
	until := w.Step + 1
	if s := steps[w.Step-1]; s.SetWeight != nil || s.SetHeaderRoute != nil {
		for until <= len(steps) && (steps[until-1].Pause != nil || steps[until-1].Analysis != nil) {
			until++
		}
	}
	out := Window{FromStep: w.Step, UntilStep: until, Start: b.plan.Rollout.Duration, End: b.plan.Rollout.Duration}
	for _, s := range b.plan.Rollout.Steps {
		switch s.Number {
		case w.Step:
			out.Start = s.Start
		case until:
			out.End = s.Start
		}
	}
	return out
}

// blast predicts what a fault hits.
func (b *builder) blast(f spec.Fault, planned Fault) Blast {
	start, end := planned.Window.Start, planned.Window.End
	if end == 0 {
		end = b.length
	}
	var out Blast
	var users, usersMeanwhile float64
	for _, l := range b.scenario.Load {
		users += sent(l, 0, b.length)
		usersMeanwhile += sent(l, start, end)
		if planned.Match != nil && !b.meets(*planned.Match, f.From, l) {
			continue
		}
		for _, p := range b.stretches(start, end) {
			out.Matched += sent(l, p.start, p.end) * b.perRequest(l, f.From, f.To) * b.versionShare(f.From, f.To, f.Version, p, l)
		}
	}
	out.Affected = b.affected(f, planned, out.Matched)
	if users > 0 {
		out.Share = min(out.Affected/users, 1)
	}
	if usersMeanwhile > 0 {
		out.Peak = min(out.Affected/usersMeanwhile, 1)
	}
	return out
}

// stretches cuts a stretch of time where the roll-out changes its route table.
func (b *builder) stretches(start, end time.Duration) []phase {
	var out []phase
	at := start
	for _, p := range b.phases {
		if cut := min(p.end, end); cut > at {
			out = append(out, phase{at, cut, p.table})
			at = cut
		}
	}
	if at < end {
		last := phase{start: at, end: end}
		if n := len(b.phases); n > 0 {
			last.table = b.phases[n-1].table
		}
		out = append(out, last)
	}
	return out
}

// versionShare is the share of a stream's requests on an edge that go to a version, empty for all, during a stretch of time.
func (b *builder) versionShare(from, to, version string, p phase, l spec.Stream) float64 {
	if version == "" {
		return 1
	}
	table := b.plan.Snapshot.Routes[mesh.HostPort(b.host(to), b.scenario.Services[to].Port)]
	switch {
	case from == spec.EdgeName && l.Gateway != "":
		table = b.entryTable(l)
	case b.plan.Rollout != nil && b.plan.Rollout.Service == to && p.table != nil:
		table = p.table
	}
	return b.follow(table, from, l, b.host(to)).versions[version]
}

// affected is how many of the matched requests are aborted or delayed. First and every count in each sidecar of the caller.
func (b *builder) affected(f spec.Fault, planned Fault, matched float64) float64 {
	switch {
	case f.First > 0:
		return min(float64(f.First)*float64(b.sidecars(f.From)), matched)
	case f.Every > 0:
		return matched / float64(f.Every)
	}
	untouched := 1.0
	if planned.Abort != nil {
		untouched *= 1 - planned.Abort.Share
	}
	if planned.Delay != nil {
		untouched *= 1 - planned.Delay.Share
	}
	return matched * (1 - untouched)
}

func (b *builder) sidecars(service string) int {
	if service == spec.EdgeName {
		return 1
	}
	n := 0
	for _, v := range b.scenario.Services[service].Versions {
		n += v.Replicas
	}
	return n
}
