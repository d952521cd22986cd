package run

import (
	"fmt"
	"strings"

	"meshtest.dev/meshtest/rollout"
)

// Verdict is what a run says of the change.
type Verdict string

// Verdicts.
const (
	Passed       Verdict = "pass"
	Failed       Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
	Invalid      Verdict = "invalid"
	Aborted      Verdict = "aborted"
)

// exitCode is part of the command's contract.
func (v Verdict) exitCode() int {
	switch v {
	case Passed:
		return 0
	case Failed:
		return 1
	case Inconclusive:
		return 3
	default:
		return 4
	}
}

// finding is one thing that the verdict rests on.
type finding struct {
	verdict Verdict
	text    string
}

// rank orders verdicts: the first one among the findings decides.
var rank = []Verdict{Aborted, Invalid, Failed, Inconclusive, Passed}

// weigh makes a verdict of all findings; nothing found is nothing shown.
func weigh(findings []finding) (Verdict, string) {
	for _, v := range rank {
		var texts []string
		for _, f := range findings {
			if f.verdict == v {
				texts = append(texts, f.text)
			}
		}
		if len(texts) > 0 {
			return v, strings.Join(texts, "; ")
		}
	}
	return Inconclusive, "nothing was expected, so nothing was shown"
}

// judgeRun weighs the self-checks, the roll-out's outcome and the expectations.
func (c *conductor) judgeRun(outcome rollout.Outcome) (Verdict, string) {
	findings := c.selfChecks()
	if c.Plan.Rollout != nil {
		findings = append(findings, judgeOutcome(outcome, rollout.Outcome(c.Plan.Rollout.Expected), c.decided))
	}
	expected := c.expectations()
	verdict, reason := weigh(append(findings, expected...))
	if verdict == Passed && len(expected) > 1 {
		// What held is in the report; the verdict's own line stays short.
		_, reason = weigh(append(findings, finding{Passed, fmt.Sprintf("%d of %d expectations held", len(expected), len(expected))}))
	}
	return verdict, reason
}

// judgeOutcome compares the roll-out's outcome with the expected one.
func judgeOutcome(got, want rollout.Outcome, decided rollout.Decide) finding {
	text := fmt.Sprintf("%s: %s", outcomeWords(got), decided.Reason)
	switch {
	case got == want:
		return finding{Passed, text}
	case got == rollout.Promoted || got == rollout.RolledBack:
		return finding{Failed, fmt.Sprintf("%s (expected: %s)", text, outcomeWords(want))}
	default:
		return finding{Inconclusive, text}
	}
}

func outcomeWords(o rollout.Outcome) string {
	switch o {
	case rollout.Promoted:
		return "promoted"
	case rollout.RolledBack:
		return "rolled back"
	case rollout.Paused:
		return "paused"
	default:
		return "no roll-out"
	}
}
