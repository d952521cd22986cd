package reports

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// MaxMarkdown bounds summary.md, in bytes: CI systems drop a job summary above 1 MiB without a word.
const MaxMarkdown = 900 << 10

// WriteMarkdown writes summary.md, fit for a CI job's summary: the verdict and its reason first, then what speaks against the run, then what it rests on.
func WriteMarkdown(w io.Writer, s *Story) error {
	r := NewReport(s)
	var b bytes.Buffer
	fmt.Fprintf(&b, "## %s %s: %s\n\n%s\n\n", symbol(r.Verdict), md(r.Scenario), md(r.Verdict), md(r.Reason))
	if r.Description != "" {
		fmt.Fprintf(&b, "> %s\n\n", md(r.Description))
	}
	fmt.Fprintf(&b, "seed %d · environment %s · %.1f s · exit code %d\n\n", r.Seed, md(r.Environment), s.Took.Seconds(), r.ExitCode)
	for _, c := range r.SelfChecks {
		if !c.OK {
			fmt.Fprintf(&b, "⚠️ **%s**: %s\n\n", md(c.Name), md(c.Reason))
		}
	}
	markdownRollout(&b, r.Rollout)
	markdownChecks(&b, r.Checks)
	markdownFaults(&b, r.Faults)
	markdownLoad(&b, r.Load)
	_, err := w.Write(bound(b.Bytes(), MaxMarkdown))
	return err
}

// bound cuts after a line.
func bound(text []byte, limit int) []byte {
	if len(text) <= limit {
		return text
	}
	end := bytes.LastIndexByte(text[:limit], '\n') + 1
	return append(text[:end:end], "\n… cut here; the HTML report has all of it.\n"...)
}

// heading begins a section with a table. A column that ends with ">" is aligned to the right.
func heading(b *bytes.Buffer, title string, columns ...string) {
	fmt.Fprintf(b, "### %s\n\n", title)
	names, rules := "|", "|"
	for _, c := range columns {
		name, right := strings.CutSuffix(c, ">")
		names += " " + name + " |"
		if right {
			rules += "---:|"
		} else {
			rules += "---|"
		}
	}
	fmt.Fprintf(b, "%s\n%s\n", names, rules)
}

func markdownRollout(b *bytes.Buffer, r Rollout) {
	if r.Service == "" {
		return
	}
	heading(b, fmt.Sprintf("Roll-out of %s: %s", md(r.Service), md(verdictWord(r.Outcome))), "version", "requests>", "failed>", "p50>", "p90>", "p99>")
	for _, v := range r.Versions {
		fmt.Fprintf(b, "| %s (%s) | %d | %s | %s | %s | %s |\n", md(v.Version), v.Role, v.Requests, failedShare(v.Failed, v.Requests),
			value(v.LatencyMs.P50, "ms"), value(v.LatencyMs.P90, "ms"), value(v.LatencyMs.P99, "ms"))
	}
	fmt.Fprintf(b, "\nRequests from %s to %s until the decision.\n\n", md(r.From), md(r.Service))
	heading(b, "Steps", "#>", "step", "canary's share>", "state", "from>", "to>")
	for _, s := range r.Steps {
		state := verdictWord(s.State)
		if s.Reason != "" {
			state += ": " + md(s.Reason)
		}
		fmt.Fprintf(b, "| %d | %s | %s | %s | %s | %s |\n", s.Index, md(s.Text), value(s.Weight, "%"), state, moment(s.StartMs), moment(s.EndMs))
	}
	b.WriteByte('\n')
}

// moment is a time of the run in seconds.
func moment(ms *int64) string {
	if ms == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f s", float64(*ms)/1000)
}

func markdownChecks(b *bytes.Buffer, checks []Check) {
	if len(checks) == 0 {
		return
	}
	heading(b, "Checks", "verdict", "check", "value>", "baseline>", "threshold>", "samples>", "why")
	for _, c := range checks {
		fmt.Fprintf(b, "| %s %s | %s | %s | %s | %s | %d | %s |\n", symbol(c.Verdict), md(verdictWord(c.Verdict)), md(c.Name),
			md(value(c.Value, c.Unit)), md(value(c.Baseline, c.Unit)), md(limit(c)), c.Samples, md(c.Reason))
	}
	b.WriteByte('\n')
}

func markdownFaults(b *bytes.Buffer, faults []Fault) {
	if len(faults) == 0 {
		return
	}
	heading(b, "Faults", "fault", "what it does", "matched>", "injected>", "state", "residue>")
	for _, f := range faults {
		fmt.Fprintf(b, "| %s | %s | %d | %d | %s | %d |\n", md(f.ID), md(f.What()), f.Matched, f.Injected, md(verdictWord(f.State)), f.Residue)
	}
	b.WriteByte('\n')
}

func markdownLoad(b *bytes.Buffer, load []Load) {
	if len(load) == 0 {
		return
	}
	heading(b, "Load", "stream", "schedule", "scheduled>", "completed>", "errors>", "p50>", "p90>", "p99>")
	for _, l := range load {
		fmt.Fprintf(b, "| %s | %s | %d | %d | %d | %s | %s | %s |\n", md(l.Name), md(l.Rate), l.Scheduled, l.Completed, l.Errors,
			value(l.LatencyMs.P50, "ms"), value(l.LatencyMs.P90, "ms"), value(l.LatencyMs.P99, "ms"))
	}
	b.WriteByte('\n')
}

// escapes are what Markdown and its tables would read as markup, and what would break a line. Angle brackets and ampersands become entities, so that no HTML is left.
var escapes = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "{", `\{`, "}", `\}`, "[", `\[`, "]", `\]`, "#", `\#`, "|", `\|`, "~", `\~`, "$", `\$`, "!", `\!`,
	"<", "&lt;", ">", "&gt;", "&", "&amp;", "\r\n", " ", "\n", " ", "\r", " ", "\u2028", " ", "\u2029", " ", "://", ":\u200b//", "@", "@\u200b",
)

// md makes one line of plain text of what comes from outside. It also keeps addresses and names from turning into links and mentions.
func md(text string) string {
	return escapes.Replace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\r' || r == 0x7f {
			return ' '
		}
		return r
	}, text))
}
