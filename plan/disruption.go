package plan

import (
	"fmt"

	"meshtest.dev/meshtest/spec"
)

// disruptions says what carries the mesh is broken, when, and what that can take away.
func (b *builder) disruptions() {
	for i, f := range b.scenario.Faults {
		if f.Disruption() == "" {
			continue
		}
		b.written = append(b.written, i)
		d := Disruption{ID: f.Name, Kind: f.Disruption(), Window: b.window(f.Window)}
		d.Service, d.Version = f.Target()
		switch {
		case f.PodKill != nil:
			d.Count, d.Grace = f.PodKill.Count, f.PodKill.GracePeriod
		case f.NodeDrain != nil:
			d.Count = f.NodeDrain.Count
		case f.Scale != nil:
			d.Replicas = &f.Scale.Replicas
		}
		d.Reach = b.reachOf(d)
		b.plan.Disruptions = append(b.plan.Disruptions, d)
	}
}

// reachOf predicts what a disruption can take away. A node may carry all instances of a service.
func (b *builder) reachOf(d Disruption) Reach {
	if d.Kind == spec.FaultControlKill {
		return Reach{}
	}
	var out Reach
	for version, v := range b.scenario.Services[d.Service].Versions {
		if d.Version != "" && version != d.Version {
			continue
		}
		out.Of += v.Replicas
		if d.Replicas != nil {
			out.Instances += max(v.Replicas-*d.Replicas, 0)
		}
	}
	switch d.Kind {
	case spec.FaultPodKill:
		out.Instances = min(d.Count, out.Of)
	case spec.FaultNodeDrain:
		out.Instances = out.Of
	}
	if passing, all := b.passing(d); all > 0 && out.Of > 0 {
		out.Share = min(passing/all, 1) * float64(out.Instances) / float64(out.Of)
	}
	return out
}

// passing is how many of the requests that users send while a disruption lasts pass what it is about.
func (b *builder) passing(d Disruption) (passing, all float64) {
	start, end := d.Window.Start, d.Window.End
	if end == 0 {
		end = b.length
	}
	for _, l := range b.scenario.Load {
		all += sent(l, start, end)
		for from := range b.calls {
			for _, p := range b.stretches(start, end) {
				passing += sent(l, p.start, p.end) * b.perRequest(l, from, d.Service) * b.versionShare(from, d.Service, d.Version, p, l)
			}
		}
	}
	return passing, all
}

// What is the disruption in words.
func (d Disruption) What() string {
	of := d.Service
	if d.Version != "" {
		of += " " + d.Version
	}
	switch d.Kind {
	case spec.FaultPodKill:
		text := fmt.Sprintf("delete %s of %s", plural(d.Count, "pod"), of)
		if d.Grace > 0 {
			text += fmt.Sprintf(", which gets %s to end", d.Grace)
		}
		return text
	case spec.FaultNodeDrain:
		return fmt.Sprintf("drain %s with pods of %s", plural(d.Count, "node"), of)
	case spec.FaultScale:
		return fmt.Sprintf("scale %s to %s", of, plural(*d.Replicas, "replica"))
	default:
		return "delete the control plane's pods"
	}
}

// heals reports whether something is undone as the window closes.
func (d Disruption) heals() bool { return d.Kind == spec.FaultNodeDrain || d.Kind == spec.FaultScale }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
