package run

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"meshtest.dev/meshtest/analyzer"
	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/metrics"
	"meshtest.dev/meshtest/metrics/promql"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/rollout"
	"meshtest.dev/meshtest/spec"
)

// scrapeInterval is how often each sidecar's metrics are read.
const scrapeInterval = time.Second

// conductor is one run. Its fields belong to the goroutine that conducts; everybody else sends it events.
type conductor struct {
	Options
	rec      *recorder
	mesh     env.Mesh
	sidecars []env.Sidecar

	mu    sync.Mutex
	exits map[string]string // how processes ended, by name; guarded by mu

	events   chan event
	watching sync.WaitGroup

	// the evidence so far
	sources map[string]*source // by instance
	tally   *tally
	scraper *metrics.Scraper
	store   *metrics.Store
	engine  *promql.Engine

	// the roll-out
	machine  *rollout.Machine
	edge     *analyzer.Edge
	panel    *analyzer.Panel
	decided  rollout.Decide
	step     int // entered last, from 1; more than there are once it is over
	split    convergence
	judged   judged
	mixture  *sequential.Split // do the versions get what the split says?
	splits   splitCheck
	queried  map[*analyzer.Query]time.Duration // when each query was asked last
	querying sync.WaitGroup

	// load and faults
	loadBegan time.Duration
	loads     []*streamRun
	faults    []*faultRun
	holders   []holder
	settling  sync.WaitGroup
	usage     map[string]env.Usage // of the processes when the load began
	cost      *journal.Cost
}

func newConductor(o Options, rec *recorder) *conductor {
	store := metrics.NewStore(metrics.Bounds{})
	return &conductor{
		Options: o, rec: rec,
		events:  make(chan event, 4096),
		exits:   map[string]string{},
		sources: map[string]*source{},
		tally:   newTally(),
		mixture: sequential.NewSplit(), queried: map[*analyzer.Query]time.Duration{},
		store: store, scraper: metrics.NewScraper(store), engine: promql.NewEngine(store, promql.Options{}),
	}
}

// Process hears of a process of the environment.
func (c *conductor) Process(p env.Process) {
	if p.State == env.ProcessExited {
		c.mu.Lock()
		c.exits[p.Name] = p.Exit
		c.mu.Unlock()
	}
	c.rec.record(journal.Process{
		Name: p.Name, PID: p.PID, Address: p.Address, State: string(p.State), Exit: p.Exit, CPU: p.CPU, RSS: p.MaxRSS,
	})
}

// Waiting hears what the environment waits for.
func (c *conductor) Waiting(what string) (done func()) {
	if c.Options.Waiting == nil {
		return func() {}
	}
	return c.Options.Waiting(what)
}

// deployment is what the environment is asked for.
func (c *conductor) deployment() env.Deployment {
	d := env.Deployment{Run: c.ID, Dir: c.Dir, Logs: c.logs(), Snapshot: c.Plan.Snapshot}
	for _, w := range c.Plan.Workloads {
		for _, instance := range w.Instances {
			d.Workloads = append(d.Workloads, c.workload(w, instance))
		}
	}
	return d
}

func (c *conductor) workload(w plan.Workload, instance string) env.Workload {
	out := env.Workload{
		Workload: mesh.Workload{
			Name: w.Name, Namespace: c.Plan.Namespace, Service: w.Service, Version: w.Version, Instance: instance, Identity: w.Identity, Labels: w.Labels,
		},
		External: w.External, Host: w.Host, Port: w.Port, Protocol: w.Protocol,
		Program:   env.Program{Fixture: w.Run.Fixture, Command: w.Run.Command, Image: w.Run.Image, Manifest: w.Run.Manifest},
		Readiness: env.Readiness{Path: w.Readiness.Path, Timeout: w.Readiness.Timeout},
	}
	for _, u := range w.Upstreams {
		out.Upstreams = append(out.Upstreams, env.Upstream{Name: u.Name, Host: u.Host, Port: u.Port, Protocol: u.Protocol})
	}
	out.Resolve = func(a env.Addresses) (env.Start, error) { return c.resolve(w, a) }
	return out
}

// resolve fills addresses into what the author wrote.
func (c *conductor) resolve(w plan.Workload, a env.Addresses) (env.Start, error) {
	value := func(r spec.Ref) (string, error) { return c.reference(r, w, a) }
	start := env.Start{Env: map[string]string{
		"SERVICE_NAME": w.Service, "SERVICE_VERSION": w.Version, "SEED": strconv.FormatUint(c.Plan.Seed, 10),
	}}
	for name, text := range w.Env {
		expanded, err := spec.Expand(text, value)
		if err != nil {
			return env.Start{}, fmt.Errorf("environment variable %s: %w", name, err)
		}
		start.Env[name] = expanded
	}
	for _, arg := range w.Run.Command {
		expanded, err := spec.Expand(arg, value)
		if err != nil {
			return env.Start{}, fmt.Errorf("command: %w", err)
		}
		start.Command = append(start.Command, expanded)
	}
	return start, nil
}

func (c *conductor) reference(r spec.Ref, w plan.Workload, a env.Addresses) (string, error) {
	host, port := a.Self()
	switch r.Kind {
	case spec.RefSeed:
		return strconv.FormatUint(c.Plan.Seed, 10), nil
	case spec.RefService, spec.RefExternal:
		var ok bool
		if host, port, ok = a.Upstream(r.Name); !ok {
			return "", fmt.Errorf("%s has no way to %s", w.Name, r.Name)
		}
	}
	switch r.Field {
	case "url":
		return "http://" + net.JoinHostPort(host, strconv.Itoa(port)), nil
	case "host":
		return host, nil
	case "port":
		return strconv.Itoa(port), nil
	case "name":
		return w.Service, nil
	case "version":
		return w.Version, nil
	default:
		return "", fmt.Errorf("no such field")
	}
}

// event is what happens to a run; it is carried out by the goroutine that conducts.
type event func()

// tell hands an event over. After the end of ctx nobody hears.
func (c *conductor) tell(ctx context.Context, e event) {
	select {
	case c.events <- e:
	case <-ctx.Done():
	}
}

// perform drives load, faults and roll-out until both load and roll-out are over.
func (c *conductor) perform(ctx context.Context) error {
	loading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	c.usage = c.mesh.Usage()
	c.loadBegan = c.rec.now()
	if err := c.startLoads(loading); err != nil {
		return err
	}
	ticker := time.NewTicker(c.interval())
	defer ticker.Stop()
	wake := time.NewTimer(0)
	defer wake.Stop()
	var err error
	for err == nil && !c.over() {
		select {
		case e := <-c.events:
			e()
		case <-ticker.C:
			c.measure(ctx)
		case <-wake.C:
		case failed := <-c.mesh.Failed():
			err = failed
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err == nil {
			err = c.advance(ctx)
		}
		wake.Reset(c.untilNext())
	}
	stop()
	if loadErr := c.awaitLoads(); err == nil {
		err = loadErr
	}
	c.recordSelfCheck(err)
	return err
}

// logs is the folder for the output of processes.
func (c *conductor) logs() string { return filepath.Join(c.Out, "logs") }

// over reports whether there is nothing left to do: the roll-out has ended or, without one, the load.
func (c *conductor) over() bool {
	if c.machine != nil {
		return c.machine.Done()
	}
	return !c.loading()
}

func (c *conductor) interval() time.Duration {
	if r := c.Plan.Rollout; r != nil && r.Analysis.Interval > 0 {
		return r.Analysis.Interval
	}
	return 200 * time.Millisecond
}

// untilNext is how long nothing will happen by itself.
func (c *conductor) untilNext() time.Duration {
	next := c.rec.now() + time.Second
	if c.machine != nil {
		if at, ok := c.machine.Deadline(); ok {
			next = min(next, at)
		}
	}
	for _, f := range c.faults {
		if at, ok := f.nextChange(c.rec.now() - c.loadBegan); ok {
			next = min(next, c.loadBegan+at)
		}
	}
	return max(next-c.rec.now(), 0)
}

// prepare makes the parts that judge and break.
func (c *conductor) prepare() error {
	for _, f := range c.Plan.Faults {
		c.faults = append(c.faults, newFaultRun(f))
	}
	if c.Plan.Rollout == nil {
		return nil
	}
	return c.prepareRollout()
}

// watch begins to hear the sidecars and the control plane, until life ends.
func (c *conductor) watch(life context.Context) {
	c.watching.Go(func() {
		err := c.mesh.Progress(life, c.hearProgress(life))
		if life.Err() == nil {
			c.tell(life, func() { c.note("warning", "the control plane went away: "+fmt.Sprint(err)) })
		}
	})
	for _, s := range c.sidecars {
		c.listen(life, s)
		c.holdAt(life, s)
	}
	c.watching.Go(func() {
		if err := c.scraper.Run(life, c.targets()...); err != nil {
			c.tell(life, func() { c.note("warning", err.Error()) })
		}
	})
}

// targets are the sidecars' metrics.
func (c *conductor) targets() []metrics.Target {
	var all []metrics.Target
	for _, s := range c.sidecars {
		all = append(all, metrics.Target{
			URL: s.Metrics.URL, Dial: s.Metrics.Dial, Interval: scrapeInterval,
			Labels: map[string]string{"job": "sidecars", "instance": s.Workload.Instance},
		})
	}
	return all
}
