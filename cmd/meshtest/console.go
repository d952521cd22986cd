package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"meshtest.dev/meshtest/internal/term"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/run"
)

// console shows a run as it happens: the journal's events, as lines everywhere and with a live region on a terminal.
type console struct {
	mu      sync.Mutex
	term    *term.Terminal
	silent  bool
	verbose bool
	began   time.Time

	phase     string
	waits     []*string
	steps     []stepLine
	judgement journal.Judgement
	started   int
	ready     int
	stop      chan struct{}
	stopped   sync.WaitGroup
}

type stepLine struct {
	text  string
	state string
}

func (f *runFlags) console(s streams) *console {
	c := &console{silent: f.quiet || f.progress == "none", verbose: f.verbose, began: time.Now(), stop: make(chan struct{})}
	mode := term.Mode{}
	var width func() int
	if file, ok := s.err.(*os.File); ok && f.progress == "auto" {
		mode = term.Detect(file, os.Getenv)
		width = term.Width(file)
	}
	c.term = term.New(s.err, mode, width)
	return c
}

func (c *console) begin(p *plan.Plan, out string) {
	if c.silent {
		return
	}
	if r := p.Rollout; r != nil {
		for _, step := range r.Steps {
			c.steps = append(c.steps, stepLine{text: step.Text})
		}
	}
	c.term.Println(fmt.Sprintf("%s  %s, seed %d, results in %s", c.term.Paint(term.Bold, p.Name), p.Environment, p.Seed, out))
	if p.Description != "" {
		c.term.Println(c.term.Paint(term.Faint, p.Description))
	}
	if c.term.Live() {
		c.stopped.Go(c.redraw)
	} else {
		c.stopped.Go(c.tellWaits)
	}
}

func (c *console) end() {
	close(c.stop)
	c.stopped.Wait()
	c.term.Region(nil)
}

// redraw draws the live region five times a second.
func (c *console) redraw() {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			c.mu.Lock()
			lines := c.region()
			c.mu.Unlock()
			c.term.Region(lines)
		}
	}
}

// tellWaits says every ten seconds what is being waited for, so that a log never just stops.
func (c *console) tellWaits() {
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			c.mu.Lock()
			what := c.waitsFor()
			c.mu.Unlock()
			if what != "" {
				c.line(time.Since(c.began), "waiting for "+what)
			}
		}
	}
}

// waiting shows what is being waited for until done is called.
func (c *console) waiting(what string) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &what
	c.waits = append(c.waits, w)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waits = slices.DeleteFunc(c.waits, func(other *string) bool { return other == w })
	}
}

// waitsFor is what has been waited for the longest, "" for nothing.
func (c *console) waitsFor() string {
	if len(c.waits) == 0 {
		return ""
	}
	return *c.waits[0]
}

func (c *console) region() []string {
	lines := []string{""}
	for i, s := range c.steps {
		mark, style := "·", term.Faint
		switch s.state {
		case journal.Begun:
			mark, style = "▶", term.Blue
		case journal.Ended:
			mark, style = "✓", term.Green
		case journal.Failed:
			mark, style = "✗", term.Red
		}
		lines = append(lines, c.term.Paint(style, fmt.Sprintf("  %s %d %s", mark, i+1, s.text)))
	}
	if c.judgement.Verdict != "" {
		lines = append(lines, fmt.Sprintf("  canary: %d requests, %d failed", c.judgement.CanaryRequests, c.judgement.CanaryFailed))
		for _, check := range c.judgement.Checks {
			lines = append(lines, "  "+strings.ReplaceAll(c.checkLine(check), "\n", " "))
		}
	}
	status := fmt.Sprintf("  %5.1f s  %s", time.Since(c.began).Seconds(), c.phase)
	if c.phase == "environment" {
		status += fmt.Sprintf(", %d of %d applications ready", c.ready, c.started)
	}
	if what := c.waitsFor(); what != "" {
		status += ", waiting for " + what
	}
	return append(lines, c.term.Paint(term.Faint, status))
}

func (c *console) checkLine(check journal.Check) string {
	style := map[string]term.Style{"good": term.Green, "bad": term.Red}[check.Verdict]
	return fmt.Sprintf("%s  %s: %s", c.term.Paint(style, fmt.Sprintf("%-9s", check.Verdict)), check.Name, check.Reason)
}

// line writes one line of the record.
func (c *console) line(at time.Duration, text string) {
	c.term.Println(fmt.Sprintf("%s %s", c.term.Paint(term.Faint, fmt.Sprintf("%6.1fs", at.Seconds())), text))
}

// observe hears every event of the journal.
func (c *console) observe(at time.Duration, e journal.Event) {
	if c.silent {
		return
	}
	if text := c.hear(e); text != "" {
		c.line(at, printable(text))
	}
}

// printable keeps what applications wrote, and reasons quote, from steering the terminal; our own styles pass.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && r != '\x1b' && unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// hear takes an event into the live region and returns its line, "" when it has none.
func (c *console) hear(e journal.Event) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e := e.(type) {
	case journal.Phase:
		return c.hearPhase(e)
	case journal.Process:
		return c.hearProcess(e)
	case journal.Config:
		return c.hearConfig(e)
	case journal.Load:
		if e.State == journal.Begun {
			return fmt.Sprintf("load %s to %s: %s", e.Name, e.Target, e.Rate)
		}
		return fmt.Sprintf("load %s: %d of %d requests sent, %d errors", e.Name, e.Sent, e.Scheduled, e.Errors)
	case journal.Step:
		return c.hearStep(e)
	case journal.Judgement:
		changed := e.Verdict != c.judgement.Verdict
		c.judgement = e
		if changed || c.verbose {
			return fmt.Sprintf("judgement: %s: %s", e.Verdict, e.Reason)
		}
	case journal.Decision:
		return c.term.Paint(term.Bold, fmt.Sprintf("decision: %s", actionWords(e.Action))) + fmt.Sprintf(" after %d canary requests, %d failed: %s", e.CanaryRequests, e.CanaryFailed, e.Reason)
	case journal.Fault:
		return hearFault(e)
	case journal.SelfCheck:
		if !e.OK {
			return c.term.Paint(term.Red, "self-check "+e.Name) + ": " + e.Reason
		}
		if c.verbose {
			return "self-check " + e.Name + ": " + e.Reason
		}
	case journal.Expectation:
		return fmt.Sprintf("expectation: %s: %s: %s", e.Verdict, e.Name, e.Reason)
	case journal.Note:
		return e.Level + ": " + e.Text
	}
	return ""
}

func (c *console) hearPhase(e journal.Phase) string {
	switch e.State {
	case journal.Begun:
		c.phase = e.Name
		if c.verbose {
			return e.Name
		}
	case journal.Failed:
		return c.term.Paint(term.Red, e.Name) + ": " + e.Error
	case journal.Ended:
		if e.Name == "environment" {
			return fmt.Sprintf("environment is up: %d processes", c.started)
		}
	}
	return ""
}

func (c *console) hearProcess(e journal.Process) string {
	switch e.State {
	case "started":
		c.started++
	case "ready":
		c.ready++
	case "exited":
		if c.phase != "teardown" {
			return fmt.Sprintf("%s ended: %s", e.Name, e.Exit)
		}
	}
	if c.verbose {
		return fmt.Sprintf("%s is %s (%s)", e.Name, e.State, e.Address)
	}
	return ""
}

func (c *console) hearConfig(e journal.Config) string {
	switch {
	case e.State == journal.Nacked:
		return c.term.Paint(term.Red, e.Instance+" refused generation "+e.Generation) + ": " + e.Error
	case e.Instance != "":
		return ""
	case e.State == journal.Applied:
		return fmt.Sprintf("generation %s: %s", e.Generation, e.Change)
	default:
		return fmt.Sprintf("generation %s: %s by %d sidecars", e.Generation, e.Change, e.Sidecars)
	}
}

func (c *console) hearStep(e journal.Step) string {
	line := &c.steps[e.Index-1]
	line.state = e.State
	if e.Error != "" {
		line.state = journal.Failed
	}
	if e.State == journal.Begun {
		return fmt.Sprintf("step %d of %d: %s", e.Index, len(c.steps), line.text)
	}
	if e.Error != "" {
		return fmt.Sprintf("step %d ended early: %s", e.Index, e.Error)
	}
	return ""
}

func hearFault(e journal.Fault) string {
	switch e.State {
	case journal.FaultArmed:
		return fmt.Sprintf("fault %s: %s", e.ID, e.Text)
	case journal.FaultHit:
		return fmt.Sprintf("fault %s hit %s", e.ID, strings.Join(e.Hit, ", "))
	case journal.FaultNotReached:
		return fmt.Sprintf("fault %s was not reached", e.ID)
	case journal.FaultLapsed:
		return fmt.Sprintf("fault %s lapsed at %s: nobody renewed its lease", e.ID, e.Executor)
	default:
		return fmt.Sprintf("fault %s is over: matched %d, injected %d, residue %d", e.ID, e.Matched, e.Injected, e.Residue)
	}
}

func actionWords(action string) string {
	if action == journal.RollBack {
		return "roll back"
	}
	return action
}

// verdict prints the result: the data of the command.
func (c *console) verdict(out io.Writer, p *plan.Plan, r run.Result, folder string, written []string) {
	style := map[run.Verdict]term.Style{run.Passed: term.Green, run.Failed: term.Red, run.Inconclusive: term.Yellow}[r.Verdict]
	if style == "" {
		style = term.Red
	}
	verdict := strings.ToUpper(string(r.Verdict))
	if file, ok := out.(*os.File); ok && term.Detect(file, os.Getenv).Color {
		verdict = c.term.Paint(style, verdict)
	}
	fmt.Fprintf(out, "%s  %s: %s\n", verdict, p.Name, r.Reason)
	report := folder
	if i := slices.IndexFunc(written, func(path string) bool { return filepath.Base(path) == "report.html" }); i >= 0 {
		report = written[i]
	}
	fmt.Fprintf(out, "report: %s\n", report)
}
