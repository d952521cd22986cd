package reports

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"meshtest.dev/meshtest/journal"
)

//go:embed assets/report.html.tmpl
var pageText string

//go:embed assets/report.css
var pageStyle string

//go:embed assets/report.js
var pageScript string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"sign": sign, "word": verdictWord, "figure": figure, "value": value, "limit": limit, "contains": strings.Contains, "action": actionWord, "mib": mebibytes, "moment": moment,
	"secs":    func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) },
	"ms":      func(d time.Duration) string { return figure(milliseconds(d), "ms") },
	"percent": func(v float64) string { return short(v) + " %" },
	"failed":  failedShare,
	"whole":   whole,
	"add":     func(a, b int) int { return a + b },
}).Parse(pageText))

// Bounds of what is listed, so that a report stays a small file whatever the run did.
const (
	maxFailures = 50
	maxNotes    = 200
	maxText     = 256 << 10 // bytes of the plan, and of the scenario
)

// page is what the template sees.
type page struct {
	*Story
	Report   Report
	Style    template.CSS // ours, without anything from the journal, as is Script
	Script   template.JS
	CSP      string
	Timeline *timeline
	Charts   []*chart
	Data     []curves
	Failures failures
	Topology *topology // nil: there was no traffic
	Traces   []waterfall
	Notes    []Timed[journal.Note] // the first ones
	Plan     string
	Source   string
}

// failures are failed requests that were recorded one by one: the first ones, and how many there were.
type failures struct {
	First []journal.Failure
	All   int
}

// WriteHTML writes report.html: one file that needs no network, no server and no script, shows the verdict and its reason first, and says under every
// chart how to read it. All that comes from the journal is escaped by html/template.
func WriteHTML(w io.Writer, s *Story) error {
	p := page{
		Story: s, Report: NewReport(s), Style: template.CSS(pageStyle), Script: template.JS(pageScript), CSP: contentPolicy(),
		Timeline: newTimeline(s), Charts: newCharts(s), Data: []curves{}, Failures: s.failures(), Topology: newTopology(s), Traces: newWaterfalls(s),
		Notes: s.Notes[:min(len(s.Notes), maxNotes)], Plan: cut(s.Started.Plan, maxText), Source: cut(s.Started.Source, maxText),
	}
	for _, c := range p.Charts {
		p.Data = append(p.Data, c.curves())
	}
	return pageTemplate.Execute(w, p)
}

// contentPolicy allows the page its own style and script, by their hashes, and nothing else: no other script, no network.
func contentPolicy() string {
	return fmt.Sprintf("default-src 'none'; style-src %s; script-src %s; img-src data:; base-uri 'none'; form-action 'none'",
		sourceHash(pageStyle), sourceHash(pageScript))
}

func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// cut shortens a text and says so.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "\n… cut here"
}

// value is a measured number with its unit, or a dash.
func value(v *float64, unit string) string {
	if v == nil {
		return "–"
	}
	return figure(*v, unit)
}

// limit is what a check's value was compared with. The analysis counts the failed measurements of a query, so there the threshold is not one of the value.
func limit(c Check) string {
	if c.Kind == KindAnalysis && c.Query != "" {
		return "–"
	}
	return value(c.Threshold, c.Unit)
}

// failedShare is how many of the requests failed, in words.
func failedShare(failed, requests uint64) string {
	if requests == 0 {
		return "–"
	}
	return fmt.Sprintf("%d (%s %%)", failed, short(100*float64(failed)/float64(requests)))
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// failures of the judged edge or, without one, of all edges.
func (s *Story) failures() failures {
	var out failures
	for _, e := range s.Evidence {
		for _, f := range e.Errors {
			if s.Started.Rollout != nil && !s.judged(f.From, f.To) {
				continue
			}
			out.All++
			if len(out.First) < maxFailures {
				out.First = append(out.First, f)
			}
		}
	}
	return out
}
