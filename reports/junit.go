package reports

import (
	"encoding/xml"
	"fmt"
	"io"
	"meshtest.dev/meshtest/journal"
	"time"
)

// The JUnit form that CI systems read, as the XSD of Jenkins's xunit plugin has it: a scenario is a suite; its verdict, checks, expectations, steps, faults and
// self-checks are cases. What was judged bad is a failure, what could not be decided is skipped with its reason, and what voids the run is an error.
type junitSuites struct {
	XMLName xml.Name `xml:"testsuites"`
	Name    string   `xml:"name,attr"`
	junitCounts
	Suites []junitSuite `xml:"testsuite"`
}

type junitCounts struct {
	Tests    int    `xml:"tests,attr"`
	Failures int    `xml:"failures,attr"`
	Errors   int    `xml:"errors,attr"`
	Skipped  int    `xml:"skipped,attr"`
	Time     string `xml:"time,attr"` // seconds
}

type junitSuite struct {
	Name string `xml:"name,attr"`
	junitCounts
	Timestamp  string          `xml:"timestamp,attr,omitempty"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	Classname string        `xml:"classname,attr"`
	Time      string        `xml:"time,attr"`
	Failure   *junitMessage `xml:"failure,omitempty"`
	Error     *junitMessage `xml:"error,omitempty"`
	Skipped   *junitMessage `xml:"skipped,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes junit.xml.
func WriteJUnit(w io.Writer, s *Story) error {
	r := NewReport(s)
	suite := junitSuite{
		Name: r.Scenario,
		Properties: []junitProperty{
			{"run", r.Run}, {"seed", fmt.Sprint(r.Seed)}, {"environment", r.Environment}, {"version", r.Version},
			{"verdict", r.Verdict}, {"exitCode", fmt.Sprint(r.ExitCode)}, {"reason", r.Reason},
		},
		Cases: junitCases(r),
	}
	if r.StartedAt != nil {
		suite.Timestamp = r.StartedAt.Format("2006-01-02T15:04:05")
	}
	suite.junitCounts = count(suite.Cases)
	suite.Time = seconds(r.DurationMs)
	all := junitSuites{Name: "meshtest", junitCounts: suite.junitCounts, Suites: []junitSuite{suite}}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func count(cases []junitCase) junitCounts {
	n := junitCounts{Tests: len(cases)}
	for _, c := range cases {
		switch {
		case c.Failure != nil:
			n.Failures++
		case c.Error != nil:
			n.Errors++
		case c.Skipped != nil:
			n.Skipped++
		}
	}
	return n
}

func seconds(ms int64) string {
	return fmt.Sprintf("%.3f", (time.Duration(ms) * time.Millisecond).Seconds())
}

func junitCases(r Report) []junitCase {
	cases := []junitCase{verdictCase(r)}
	for _, c := range r.Checks {
		cases = append(cases, checkCase(r, c))
	}
	for _, s := range r.Rollout.Steps {
		cases = append(cases, stepCase(r, s))
	}
	for _, f := range r.Faults {
		cases = append(cases, faultCase(r, f))
	}
	for _, c := range r.SelfChecks {
		one := newCase(r, "self-check", c.Name)
		if !c.OK {
			one.Error = message(c.Reason, "")
		}
		cases = append(cases, one)
	}
	return cases
}

func newCase(r Report, kind, name string) junitCase {
	return junitCase{Name: name, Classname: r.Scenario + "." + kind, Time: "0.000"}
}

func message(summary, detail string) *junitMessage {
	if detail == "" {
		detail = summary
	}
	return &junitMessage{Message: summary, Text: detail}
}

func verdictCase(r Report) junitCase {
	one := newCase(r, "run", "verdict")
	one.Time = seconds(r.DurationMs)
	because := message(r.Reason, r.Verdict+": "+r.Reason)
	switch r.Verdict {
	case verdictPass:
	case verdictFail:
		one.Failure = because
	case verdictInconclusive:
		one.Skipped = because
	default:
		one.Error = because
	}
	return one
}

// believed reports whether what was measured in the run counts at all.
func believed(r Report) bool { return r.Verdict != verdictInvalid && r.Verdict != verdictAborted }

func checkCase(r Report, c Check) junitCase {
	one := newCase(r, c.Kind, c.Name)
	detail := fmt.Sprintf("%s\nvalue %s, threshold %s, %d samples", c.Reason, value(c.Value, c.Unit), limit(c), c.Samples)
	if c.Query != "" {
		detail += "\n" + c.Query
	}
	switch {
	case !believed(r):
		one.Skipped = message("the run is "+r.Verdict+", so this does not count: "+c.Reason, detail)
	case c.Verdict == verdictFail:
		one.Failure = message(c.Reason, detail)
	case c.Verdict == "bad" && c.Critical && r.Verdict != verdictPass: // a canary that was expected to be bad fails nothing
		one.Failure = message(c.Reason, detail)
	case c.Verdict == "undecided" || c.Verdict == "noData" || c.Verdict == verdictInconclusive:
		one.Skipped = message(c.Reason, detail)
	}
	return one
}

func stepCase(r Report, s Step) junitCase {
	one := newCase(r, "step", fmt.Sprintf("%d: %s", s.Index, s.Text))
	if s.StartMs != nil && s.EndMs != nil {
		one.Time = seconds(*s.EndMs - *s.StartMs)
	}
	switch {
	case s.State == StepNotReached:
		one.Skipped = message("not reached", "")
	case s.State == StepCut && r.Verdict == verdictFail:
		one.Failure = message(s.Reason, "")
	case s.State == StepCut:
		one.Skipped = message(s.Reason, "")
	}
	return one
}

func faultCase(r Report, f Fault) junitCase {
	one := newCase(r, "fault", f.ID)
	account := fmt.Sprintf("%s: matched %d, injected %d, residue %d", f.Text, f.Matched, f.Injected, f.Residue)
	switch {
	case f.State == journal.FaultNotReached:
		one.Skipped = message("not reached", account)
	case f.State == "lapsed":
		one.Error = message("its lease lapsed", account)
	case !f.Healed:
		one.Error = message("it is not known to be healed", account)
	case f.Residue > 0:
		one.Error = message("effects of it are left", account)
	}
	return one
}
