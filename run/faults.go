package run

import (
	"context"
	"fmt"
	"sync"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
)

// faultRun is one fault over the whole run.
type faultRun struct {
	plan.Fault
	armed    bool
	ever     bool
	refused  error
	lapsed   string                     // the executor at which a lease lapsed
	accounts map[string]mesh.Accounting // newest, by executor
	settled  map[string]bool            // executors that gave their last accounting
	ended    time.Duration              // when it was healed last, on the run's clock
}

func newFaultRun(f plan.Fault) *faultRun {
	return &faultRun{Fault: f, accounts: map[string]mesh.Accounting{}, settled: map[string]bool{}}
}

// wanted reports whether the fault is to be in force, so long after the load began and in the given step.
func (f *faultRun) wanted(since time.Duration, step int) bool {
	if f.Window.BySteps() {
		return step >= f.Window.FromStep && step < f.Window.UntilStep
	}
	return since >= f.Window.Start && (f.Window.End == 0 || since < f.Window.End)
}

// nextChange is when the window opens or closes by itself.
func (f *faultRun) nextChange(since time.Duration) (time.Duration, bool) {
	switch {
	case f.Window.BySteps():
		return 0, false
	case since < f.Window.Start:
		return f.Window.Start, true
	case f.Window.End > 0 && since < f.Window.End:
		return f.Window.End, true
	default:
		return 0, false
	}
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

// holder is the run's end of the leases at one sidecar.
type holder struct {
	*wire.Holder
	instance string
	service  string
}

// holdAt prepares to lease faults to a sidecar, if one of the plan's faults is executed there.
func (c *conductor) holdAt(life context.Context, s env.Sidecar) {
	if !c.executes(s.Workload) {
		return
	}
	instance := s.Workload.Instance
	h := s.Direct.NewHolder(c.ID, 1, func(told wire.Holding) {
		c.tell(life, func() { c.heldAt(instance, told) })
	})
	c.holders = append(c.holders, holder{Holder: h, instance: instance, service: executorName(s.Workload)})
	c.watching.Go(func() {
		if err := h.Run(life); err != nil && life.Err() == nil {
			c.tell(life, func() { c.note("warning", instance+": "+err.Error()) })
		}
	})
}

// executorName is how a fault's from names the sidecar's workload.
func executorName(w mesh.Workload) string {
	if w.Service == "" {
		return env.Edge
	}
	return mesh.LogicalName(mesh.FQDN(w.Service, w.Namespace))
}

func (c *conductor) executes(w mesh.Workload) bool {
	for _, f := range c.Plan.Faults {
		if f.From == executorName(w) {
			return true
		}
	}
	return false
}

func (c *conductor) heldAt(instance string, told wire.Holding) {
	for _, f := range c.faults {
		if f.ID != told.Fault {
			continue
		}
		if told.Refused != nil {
			if f.refused == nil {
				f.refused = fmt.Errorf("%s: %w", instance, told.Refused)
			}
			return
		}
		if f.settled[instance] {
			return // told before its last accounting, and heard after it
		}
		f.accounts[instance] = told.Accounting
		if told.Accounting.State == mesh.LeaseLapsed && f.lapsed == "" {
			f.lapsed = instance
			total := f.total()
			c.rec.record(journal.Fault{
				ID: f.ID, What: faultKind(f.Fault.Fault), Text: faultText(f.Fault.Fault), State: journal.FaultLapsed, Executor: instance, Matched: total.Matched, Injected: total.Injected(),
			})
		}
	}
}

// moveFaults puts faults in force and ends them as their windows say.
func (c *conductor) moveFaults(ctx context.Context) error {
	since := c.rec.now() - c.loadBegan
	for _, f := range c.faults {
		switch wanted := f.wanted(since, c.step); {
		case f.refused != nil:
			return selfCheckError{"fault " + f.ID, f.refused.Error()}
		case wanted && !f.armed:
			if err := c.arm(f); err != nil {
				return err
			}
		case !wanted && f.armed:
			c.heal(ctx, f)
		}
	}
	return nil
}

func (c *conductor) arm(f *faultRun) error {
	f.armed, f.ever = true, true
	for _, h := range c.holdersOf(f) {
		if err := h.Hold(f.Fault.Fault, f.Lease); err != nil {
			return err
		}
	}
	c.rec.record(journal.Fault{ID: f.ID, What: faultKind(f.Fault.Fault), Text: faultText(f.Fault.Fault), State: journal.FaultArmed, TTL: f.Lease})
	return nil
}

// heal ends a fault without waiting for its last accounting, so that nothing else is held up.
func (c *conductor) heal(ctx context.Context, f *faultRun) {
	f.armed, f.ended = false, c.rec.now()
	clear(f.settled)
	for _, h := range c.holdersOf(f) {
		c.settling.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
			defer cancel()
			a, err := h.Settle(ctx, f.ID)
			c.events <- func() { c.settledAt(f, h.instance, a, err) }
		})
	}
}

func (c *conductor) settledAt(f *faultRun, instance string, a mesh.Accounting, err error) {
	if err != nil {
		c.note("warning", fmt.Sprintf("fault %s at %s: %v; its lease ends by itself within %s", f.ID, instance, err, f.Lease))
		return
	}
	f.accounts[instance] = a
	f.settled[instance] = true
	if len(f.settled) < len(c.holdersOf(f)) {
		return
	}
	total := f.total()
	c.rec.record(journal.Fault{
		ID: f.ID, What: faultKind(f.Fault.Fault), Text: faultText(f.Fault.Fault), State: journal.FaultHealed, Matched: total.Matched, Injected: total.Injected(), Residue: total.Active,
	})
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
	return false
}

// healAll ends every fault that is in force and waits until each sidecar has said so, or does not answer.
func (c *conductor) healAll(ctx context.Context) {
	for _, f := range c.faults {
		if f.armed {
			c.heal(ctx, f)
		}
	}
	done := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() { c.settling.Wait(); close(done) })
	defer waiter.Wait()
	for {
		select {
		case e := <-c.events:
			e()
		case <-done:
			c.carryOutPending()
			return
		}
	}
}

func (c *conductor) holdersOf(f *faultRun) []holder {
	var of []holder
	for _, h := range c.holders {
		if h.service == f.From {
			of = append(of, h)
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
