package run

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/metrics"
)

// member is a sidecar of the mesh, from when it came until the end of the run. A pod that replaces another is another member, also when it has the same name.
type member struct {
	env.Sidecar
	source *source
	holder leaseholder // nil: none of the plan's faults is executed here
	joined time.Duration
	spans  *spanReader        // nil: no traces are recorded
	leave  context.CancelFunc // ends what watches it
	read   chan struct{}      // closed when its metrics have been read for the last time
	hide   func()             // ends that its metrics are shown outside

	gone     bool
	departed chan struct{} // closed when it has gone
	left     time.Duration
	reason   string
}

func (m *member) instance() string { return m.Workload.Instance }

// away reports whether the sidecar has gone, or has said its last word: one that is asked to end says so before it goes.
func (m *member) away() bool { return m.gone || (m.source.ended && m.source.failure == nil) }

// watch begins to hear the sidecars and the control plane, until life ends.
func (c *conductor) watch(life context.Context) {
	c.watching.Go(func() {
		err := c.mesh.Progress(life, c.hearProgress(life))
		if life.Err() == nil {
			c.tell(life, func() { c.note("warning", "the control plane went away: "+fmt.Sprint(err)) })
		}
	})
	c.watching.Go(func() {
		err := c.mesh.Follow(life, func(m env.Member) { c.tell(life, func() { c.hearOf(life, m) }) })
		if life.Err() == nil {
			c.tell(life, func() { c.blind = fmt.Errorf("it is not known any more which sidecars come and go: %w", err) })
		}
	})
}

// gather returns when every sidecar that stands is listened to.
func (c *conductor) gather(ctx context.Context) error {
	missing := map[string]bool{}
	for _, s := range c.mesh.Sidecars() {
		missing[s.Workload.Instance] = true
	}
	inTime, err := c.hearWhile(ctx, c.limit.Converge, func() bool {
		for _, m := range c.members {
			delete(missing, m.instance())
		}
		return len(missing) > 0
	})
	if err == nil && !inTime {
		err = selfCheckError{"evidence", fmt.Sprintf("the environment never told of %s (waited %s)", strings.Join(sortedNames(missing), ", "), c.limit.Converge)}
	}
	return err
}

// hearOf takes in that a sidecar came or has gone.
func (c *conductor) hearOf(life context.Context, told env.Member) {
	was := c.there[told.Workload.Instance]
	switch {
	case told.Gone && was != nil:
		c.depart(was, told.Reason)
	case !told.Gone && was == nil:
		c.join(life, told.Sidecar)
	}
}

func (c *conductor) join(life context.Context, s env.Sidecar) {
	watching, leave := context.WithCancel(life)
	m := &member{
		Sidecar: s, leave: leave, joined: c.rec.now(), departed: make(chan struct{}), read: make(chan struct{}),
		source: &source{instance: s.Workload.Instance, next: 1, seen: map[mesh.Edge]mesh.EdgeCount{}},
	}
	c.members = append(c.members, m)
	c.there[m.instance()] = m
	if len(c.loads) > 0 {
		c.note("info", "sidecar "+m.instance()+" came")
	}
	c.listen(watching, m)
	c.holdAt(watching, m)
	c.scrape(watching, m)
	c.collect(watching, m)
	m.hide = c.show(m)
}

// depart stops waiting for a sidecar. Whether it may have gone is asked at the end, when it is known what disruptions hit.
func (c *conductor) depart(m *member, reason string) {
	m.gone, m.left, m.reason = true, c.rec.now(), reason
	close(m.departed)
	m.leave()
	m.hide()
	delete(c.there, m.instance())
	c.note("info", fmt.Sprintf("sidecar %s is gone: %s", m.instance(), reason))
	c.split.forget(m.instance())
	c.converge(c.rec.now())
	for _, f := range c.faults {
		c.settleFault(f)
	}
}

// scrape reads a sidecar's metrics until ctx ends. Those of one before it by the same name come first: they are the same series.
func (c *conductor) scrape(ctx context.Context, m *member) {
	var before []chan struct{}
	for _, other := range c.members {
		if other != m && other.instance() == m.instance() {
			before = append(before, other.read)
		}
	}
	c.watching.Go(func() {
		defer close(m.read)
		for _, read := range before {
			<-read
		}
		if err := c.scraper.Run(ctx, m.target()); err != nil {
			c.tell(ctx, func() { c.note("warning", err.Error()) })
		}
	})
}

// target is where the sidecar's metrics are.
func (m *member) target() metrics.Target {
	return metrics.Target{
		URL: m.Metrics.URL, Dial: m.Metrics.Dial, Interval: scrapeInterval,
		Labels: map[string]string{"job": "sidecars", "instance": m.instance()},
	}
}

// show shows a sidecar's metrics outside, if anybody looks.
func (c *conductor) show(m *member) (hide func()) {
	if c.Gateway == nil {
		return func() {}
	}
	hide, err := c.Gateway.Add(m.instance(), m.target())
	if err != nil {
		c.note("warning", fmt.Sprintf("the metrics of %s are not shown outside: %v", m.instance(), err))
		return func() {}
	}
	return hide
}

// matters reports whether what a sidecar saw is needed for the verdict: it calls on an edge that is judged, faulted, entered by load, or asked about.
func (c *conductor) matters(m *member) bool {
	who := executorName(m.Workload)
	if who == env.Edge || (c.Plan.Rollout != nil && c.Plan.Rollout.Edge.From == who) {
		return true
	}
	if slices.ContainsFunc(c.faults, func(f *faultRun) bool { return f.From == who }) {
		return true
	}
	if e := c.Plan.Scenario.Expect; e != nil {
		for _, check := range e.Checks {
			if c.asksAbout(check, who) {
				return true
			}
		}
	}
	return false
}

// takenAway is the disruption that took a sidecar away; nil: nobody declared that.
func (c *conductor) takenAway(m *member) *disruptionRun {
	for _, d := range c.disruptions {
		if m.away() && d.ever && (!m.gone || m.left >= d.began) && d.touches(m) {
			return d
		}
	}
	return nil
}

// vanished reports whether a sidecar of the workload's service, or of one that calls it, has gone: then what both sides counted need not agree.
func (c *conductor) vanished(service string) bool {
	for _, m := range c.members {
		if !m.away() {
			continue
		}
		who := executorName(m.Workload)
		calls := func(to string) bool {
			for _, e := range c.Plan.Edges {
				if e.From == who && e.To == to {
					return true
				}
			}
			return false
		}
		if who == service || calls(service) {
			return true
		}
	}
	return false
}

// executorName is how a fault's from, or an edge, names the sidecar's workload.
func executorName(w mesh.Workload) string {
	if w.Service == "" {
		return env.Edge
	}
	return mesh.LogicalName(mesh.FQDN(w.Service, w.Namespace))
}
