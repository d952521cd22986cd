package run

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"meshtest.dev/meshtest/analyzer"
	"meshtest.dev/meshtest/analyzer/sequential"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/metrics"
	"meshtest.dev/meshtest/metrics/promql"
	"meshtest.dev/meshtest/metrics/traces"
	"meshtest.dev/meshtest/rollout"
)

// conductor is one run. Its fields belong to the goroutine that conducts; everybody else sends it events.
type conductor struct {
	Options
	rec   *recorder
	limit Timeouts
	mesh  env.Mesh // nil until it stands

	mu    sync.Mutex
	exits map[string]string // how processes ended, by name; guarded by mu

	events   chan event
	watching sync.WaitGroup

	// who is there
	members []*member          // all that ever were, in the order in which they came
	there   map[string]*member // those that are there now, by instance
	blind   error              // why it is not known any more who comes and goes

	// the evidence so far
	tally   *tally
	scraper *metrics.Scraper
	own     Querier // of what the scraper has read

	// the traces
	collector *traces.Collector
	traces    []*traces.Trace // once the load is over

	connections []journal.Connections // of TCP, once the load is over
	untold      error                 // why they are not known

	// the roll-out
	machine     *rollout.Machine
	edge        *analyzer.Edge
	panel       *analyzer.Panel
	decided     rollout.Decide
	step        int // entered last, from 1; more than there are once it is over
	split       convergence
	configuring sync.WaitGroup
	judged      judged
	mixture     *sequential.Split // do the versions get what the split says?
	splits      splitCheck
	queried     map[*analyzer.Query]time.Duration // when each query was asked last
	querying    sync.WaitGroup

	// load and faults
	loadBegan   time.Duration
	loads       []*streamRun
	faults      []*faultRun
	disruptions []*disruptionRun
	settling    sync.WaitGroup
	usage       map[string]env.Usage // of the processes when the load began
	cost        *journal.Cost
	diagnosed   bool
}

func newConductor(o Options, rec *recorder) *conductor {
	store := metrics.NewStore(metrics.Bounds{})
	c := &conductor{
		Options: o, rec: rec,
		events: make(chan event, 4096),
		exits:  map[string]string{},
		there:  map[string]*member{},
		tally:  newTally(), split: convergence{acked: map[string]progress{}},
		mixture: sequential.NewSplit(), queried: map[*analyzer.Query]time.Duration{},
		scraper: metrics.NewScraper(store), own: promql.NewEngine(store, promql.Options{}),
		collector: traces.NewCollector(traces.CollectorOptions{MaxSpans: maxSpans}),
	}
	c.limit = o.Timeouts.or(defaultTimeouts(o.Environment))
	if c.Prometheus == nil {
		c.Prometheus = c.own
	}
	return c
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

// event is what happens to a run; it is carried out by the goroutine that conducts.
type event func()

// tell hands an event over. After the end of ctx nobody hears.
func (c *conductor) tell(ctx context.Context, e event) {
	select {
	case c.events <- e:
	case <-ctx.Done():
	}
}

// hearWhile carries out events for as long as somebody waits for one. It is not in time when that takes longer than the limit; the error is why ctx ended.
func (c *conductor) hearWhile(ctx context.Context, limit time.Duration, waiting func() bool) (inTime bool, err error) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for waiting() {
		select {
		case e := <-c.events:
			e()
		case <-timeout.C:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	return true, nil
}

// perform drives load, faults and roll-out until both load and roll-out are over.
func (c *conductor) perform(ctx context.Context) error {
	loading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	acting, giveUp := context.WithCancelCause(ctx) // of what is asked of the environment meanwhile
	defer giveUp(nil)
	c.usage = c.mesh.Usage()
	if err := c.armFirst(ctx); err != nil {
		return err
	}
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
			c.measure(acting)
		case <-wake.C:
		case failed := <-c.mesh.Failed():
			err = failed
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err == nil {
			err = c.advance(acting)
		}
		wake.Reset(c.untilNext())
	}
	stop()
	giveUp(err)
	if loadErr := c.awaitLoads(); err == nil {
		err = loadErr
	}
	c.configuring.Wait()
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

// advance moves everything that moves with time or evidence.
func (c *conductor) advance(ctx context.Context) error {
	if err := c.checkConvergence(); err != nil {
		return err
	}
	if c.machine != nil {
		c.advanceRollout(ctx)
	}
	return c.moveFaults(ctx)
}

// untilNext is how long nothing will happen by itself.
func (c *conductor) untilNext() time.Duration {
	next := c.rec.now() + time.Second
	if c.machine != nil {
		if at, ok := c.machine.Deadline(); ok {
			next = min(next, at)
		}
	}
	for _, w := range c.windows() {
		if at, ok := nextChange(w, c.rec.now()-c.loadBegan); ok {
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
	for _, d := range c.Plan.Disruptions {
		c.disruptions = append(c.disruptions, &disruptionRun{Disruption: d})
	}
	if c.Plan.Rollout == nil {
		return nil
	}
	return c.prepareRollout()
}

// carryOutPending carries out the events that are there.
func (c *conductor) carryOutPending() {
	for {
		select {
		case e := <-c.events:
			e()
		default:
			return
		}
	}
}
