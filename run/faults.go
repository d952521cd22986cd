package run

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
)

// leaseholder is the run's end of the leases at one sidecar.
type leaseholder interface {
	Hold(fault mesh.Fault, ttl time.Duration) error
	Settle(ctx context.Context, fault string) (mesh.Accounting, error)
}

// faultRun is one fault of requests over the whole run.
type faultRun struct {
	plan.Fault
	armed    bool
	ever     bool
	refused  error
	lapsed   string                      // the executor at which a lease lapsed
	accounts map[*member]mesh.Accounting // newest
	asked    map[*member]bool            // executors that were asked for their last accounting
	settled  map[*member]bool            // executors that gave it
	told     bool                        // that it is over
	ended    time.Duration               // when it was healed last, on the run's clock
}

func newFaultRun(f plan.Fault) *faultRun {
	return &faultRun{Fault: f, accounts: map[*member]mesh.Accounting{}, asked: map[*member]bool{}, settled: map[*member]bool{}}
}

// opens reports whether a window is open, so long after the load began and in the given step.
func opens(w plan.Window, since time.Duration, step int) bool {
	if w.BySteps() {
		return step >= w.FromStep && step < w.UntilStep
	}
	return since >= w.Start && (w.End == 0 || since < w.End)
}

// nextChange is when a window opens or closes by itself.
func nextChange(w plan.Window, since time.Duration) (time.Duration, bool) {
	switch {
	case w.BySteps():
		return 0, false
	case since < w.Start:
		return w.Start, true
	case w.End > 0 && since < w.End:
		return w.End, true
	default:
		return 0, false
	}
}

// windows are those of everything that breaks.
func (c *conductor) windows() []plan.Window {
	var all []plan.Window
	for _, f := range c.faults {
		all = append(all, f.Window)
	}
	for _, d := range c.disruptions {
		all = append(all, d.Window)
	}
	return all
}

// total adds the executors' accounts up.
func (f *faultRun) total() mesh.Accounting {
	sum := mesh.Accounting{Fault: f.ID}
	for _, a := range f.accounts {
		sum.Matched += a.Matched
		sum.Delayed += a.Delayed
		sum.Aborted += a.Aborted
		sum.Overflow += a.Overflow
		sum.Active += a.Active
	}
	return sum
}

// unsettled counts the executors that are there and have not given their last accounting.
func (f *faultRun) unsettled() int {
	n := 0
	for m := range f.asked {
		if !m.away() && !f.settled[m] {
			n++
		}
	}
	return n
}

// event is what the journal says of the fault now.
func (f *faultRun) event(state string) journal.Fault {
	total := f.total()
	return journal.Fault{ID: f.ID, What: faultKind(f.Fault.Fault), Text: faultText(f.Fault.Fault), State: state, Matched: total.Matched, Injected: total.Injected()}
}

// holdAt prepares to lease faults to a sidecar, if one of the plan's faults is executed there, and leases those that are in force.
func (c *conductor) holdAt(ctx context.Context, m *member) {
	if !c.executes(m.Workload) {
		return
	}
	h := m.Direct.NewHolder(c.ID, 1, func(told wire.Holding) {
		c.tell(ctx, func() { c.heldAt(m, told) })
	})
	m.holder = h
	c.watching.Go(func() {
		if err := h.Run(ctx); err != nil && ctx.Err() == nil {
			c.tell(ctx, func() { c.note("warning", m.instance()+": "+err.Error()) })
		}
	})
	for _, f := range c.faults {
		if f.armed && f.From == executorName(m.Workload) {
			f.hold(m)
		}
	}
}

func (c *conductor) executes(w mesh.Workload) bool {
	for _, f := range c.Plan.Faults {
		if f.From == executorName(w) {
			return true
		}
	}
	return false
}

func (c *conductor) heldAt(m *member, told wire.Holding) {
	for _, f := range c.faults {
		if f.ID != told.Fault {
			continue
		}
		if told.Refused != nil {
			if f.refused == nil {
				f.refused = fmt.Errorf("%s: %w", m.instance(), told.Refused)
			}
			return
		}
		if f.settled[m] {
			return // told before its last accounting, and heard after it
		}
		f.accounts[m] = told.Accounting
		if told.Accounting.State == mesh.LeaseLapsed && f.lapsed == "" {
			f.lapsed = m.instance()
			lapsed := f.event(journal.FaultLapsed)
			lapsed.Executor = m.instance()
			c.rec.record(lapsed)
		}
	}
}

// armFirst puts the faults in force that are there from the beginning, and waits until they are: a request before that would pass them by.
func (c *conductor) armFirst(ctx context.Context) error {
	for _, f := range c.faults {
		if !f.Window.BySteps() && opens(f.Window, 0, 0) {
			c.arm(f)
		}
	}
	defer c.Waiting("the faults that are there from the beginning")()
	_, err := c.hearWhile(ctx, c.limit.Converge, c.arming)
	return err // the self-checks say where they were not in force
}

// arming reports whether an executor has not told yet that it holds a fault which is in force.
func (c *conductor) arming() bool {
	return slices.ContainsFunc(c.faults, func(f *faultRun) bool {
		return f.armed && f.refused == nil && slices.ContainsFunc(c.holdersOf(f), func(m *member) bool {
			_, told := f.accounts[m]
			return !told
		})
	})
}

// moveFaults puts faults in force and ends them as their windows say.
func (c *conductor) moveFaults(ctx context.Context) error {
	since := c.rec.now() - c.loadBegan
	for _, f := range c.faults {
		switch wanted := opens(f.Window, since, c.step); {
		case f.refused != nil:
			return selfCheckError{"fault " + f.ID, f.refused.Error()}
		case wanted && !f.armed:
			c.arm(f)
		case !wanted && f.armed:
			c.heal(ctx, f)
		}
	}
	return c.moveDisruptions(ctx, since)
}

func (c *conductor) arm(f *faultRun) {
	f.armed, f.ever, f.told = true, true, false
	for _, m := range c.holdersOf(f) {
		f.hold(m)
	}
	armed := f.event(journal.FaultArmed)
	armed.TTL = f.Lease
	c.rec.record(armed)
}

func (f *faultRun) hold(m *member) {
	if err := m.holder.Hold(f.Fault.Fault, f.Lease); err != nil && f.refused == nil {
		f.refused = fmt.Errorf("%s: %w", m.instance(), err)
	}
}

// heal ends a fault without waiting for its last accounting, so that nothing else is held up.
func (c *conductor) heal(ctx context.Context, f *faultRun) {
	f.armed, f.ended = false, c.rec.now()
	clear(f.settled)
	clear(f.asked)
	for _, m := range c.holdersOf(f) {
		f.asked[m] = true
		c.settling.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limit.Heal)
			defer cancel()
			var waiting sync.WaitGroup
			defer waiting.Wait()
			defer cancel()
			waiting.Go(func() { // who has gone does not answer
				select {
				case <-m.departed:
					cancel()
				case <-ctx.Done():
				}
			})
			a, err := m.holder.Settle(ctx, f.ID)
			c.events <- func() { c.settledAt(f, m, a, err) }
		})
	}
	c.settleFault(f)
}

func (c *conductor) settledAt(f *faultRun, m *member, a mesh.Accounting, err error) {
	switch {
	case err == nil:
		f.accounts[m] = a
		f.settled[m] = true
	case !m.away():
		c.note("warning", fmt.Sprintf("fault %s at %s: %v; its lease ends by itself within %s", f.ID, m.instance(), err, f.Lease))
	}
	c.settleFault(f)
}

// settleFault notes that a fault is over, when every executor that is there has said so.
func (c *conductor) settleFault(f *faultRun) {
	if !f.ever || f.armed || f.told || f.unsettled() > 0 {
		return
	}
	f.told = true
	healed := f.event(journal.FaultHealed)
	healed.Residue = f.total().Active
	c.rec.record(healed)
}

// aftermath is how long after its end a fault may still show in the evidence.
const aftermath = 2 * time.Second

// disturbed reports whether a fault is in force, or just was, that changes more on the judged edge than what its own answers are.
func (c *conductor) disturbed(now time.Duration) bool {
	for _, f := range c.faults {
		onlyAnswers := f.From == c.edge.Edge.From && f.To == c.edge.Edge.To && f.Delay == nil
		if f.ever && !onlyAnswers && (f.armed || now < f.ended+aftermath) {
			return true
		}
	}
	for _, d := range c.disruptions {
		if d.ever && d.disturbs() && (d.armed || now < d.ended+aftermath) {
			return true
		}
	}
	return false
}

// healAll ends everything that is in force and waits until it is undone, or whoever has to undo it does not answer.
func (c *conductor) healAll(ctx context.Context) {
	for _, f := range c.faults {
		if f.armed {
			c.heal(ctx, f)
		}
	}
	for _, d := range c.disruptions {
		if d.armed {
			c.endDisruption(ctx, d)
		}
	}
	for {
		c.awaitSettling()
		c.carryOutPending()
		if !c.undoing() {
			return
		}
	}
}

// awaitSettling waits until nothing is being undone, and carries out events meanwhile.
func (c *conductor) awaitSettling() {
	done := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() { c.settling.Wait(); close(done) })
	defer waiter.Wait()
	for {
		select {
		case e := <-c.events:
			e()
		case <-done:
			return
		}
	}
}

// holdersOf are the sidecars that are there and execute a fault.
func (c *conductor) holdersOf(f *faultRun) []*member {
	var of []*member
	for _, m := range c.members {
		if !m.gone && m.holder != nil && executorName(m.Workload) == f.From {
			of = append(of, m)
		}
	}
	return of
}

func faultKind(f mesh.Fault) string {
	switch {
	case f.Abort != nil && f.Delay != nil:
		return "abort+delay"
	case f.Abort != nil:
		return "abort"
	default:
		return "delay"
	}
}

// faultText says in words what a fault does.
func faultText(f mesh.Fault) string {
	text := ""
	if f.Delay != nil {
		text = fmt.Sprintf("delay %.4g %% by %s", 100*f.Delay.Share, f.Delay.Fixed)
	}
	if f.Abort != nil {
		if text != "" {
			text += " and "
		}
		text += fmt.Sprintf("answer %.4g %% with %d", 100*f.Abort.Share, f.Abort.Status)
	}
	text += fmt.Sprintf(" of the %ss from %s to %s", f.At, f.From, f.To)
	if f.Version != "" {
		text += " " + f.Version
	}
	switch {
	case f.First > 0:
		text += fmt.Sprintf(", the first %d", f.First)
	case f.Every > 0:
		text += fmt.Sprintf(", every %dth", f.Every)
	}
	return text
}
