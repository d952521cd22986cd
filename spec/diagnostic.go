package spec

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Severity says what a diagnostic does to a run.
type Severity string

// Severities.
const (
	SeverityError   Severity = "error"   // nothing starts
	SeverityWarning Severity = "warning" // the run starts, but may not say what its author hopes
)

// Diagnostic is one problem of a scenario, at its place.
type Diagnostic struct {
	Code     string   `json:"code"` // stable, MT and four digits
	Severity Severity `json:"severity"`
	File     string   `json:"file"`           // as it was named; "--set PATH=VALUE" when an override is to blame
	Line     int      `json:"line,omitempty"` // from 1; 0 when there is no place
	Col      int      `json:"col,omitempty"`  // from 1, in characters
	Path     string   `json:"path,omitempty"` // dotted, such as rollout.steps[2].setWeight
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`   // what would be right
	Source   string   `json:"source,omitempty"` // the line itself
}

// Place returns file:line:col, without what is not known.
func (d Diagnostic) Place() string {
	switch {
	case d.Line == 0:
		return d.File
	case d.Col == 0:
		return fmt.Sprintf("%s:%d", d.File, d.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Col)
	}
}

// String returns the diagnostic in one line, "file:line:col: MT1101 message".
func (d Diagnostic) String() string {
	message := d.Message
	if d.Path != "" {
		message = d.Path + ": " + message
	}
	return fmt.Sprintf("%s: %s %s", d.Place(), d.Code, message)
}

// Diagnostics are the problems of a scenario, sorted by place.
type Diagnostics []Diagnostic

// Err returns the errors among the diagnostics as an error with one line each, nil when there are only warnings or nothing.
func (ds Diagnostics) Err() error {
	var lines []string
	for _, d := range ds {
		if d.Severity == SeverityError {
			lines = append(lines, d.String())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("the scenario is not valid:\n%s", strings.Join(lines, "\n"))
}

// Sort orders diagnostics by file, line and column, and drops those that repeat one.
func (ds Diagnostics) Sort() Diagnostics {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Code, b.Code))
	})
	return slices.Compact(ds)
}

// Format is a way to print diagnostics.
type Format string

// Formats.
const (
	FormatText   Format = "text"   // for people: the line itself with a caret, and the hint
	FormatJSON   Format = "json"   // one array
	FormatGitHub Format = "github" // workflow commands, which GitHub shows in the changed files
)

// Write prints the diagnostics. It fails on an unknown format and when w does.
func (ds Diagnostics) Write(w io.Writer, format Format) error {
	var text string
	switch format {
	case FormatText:
		text = ds.text()
	case FormatGitHub:
		text = ds.github()
	case FormatJSON:
		all := ds
		if all == nil {
			all = Diagnostics{}
		}
		b, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return fmt.Errorf("encode diagnostics: %w", err)
		}
		text = string(b) + "\n"
	default:
		return fmt.Errorf("unknown format %q: text, json or github", format)
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	return nil
}

// maxExcerpt bounds the characters of a source line that text output shows.
const maxExcerpt = 160

func (ds Diagnostics) text() string {
	var b strings.Builder
	for _, d := range ds {
		line := printable(d.String())
		if d.Severity == SeverityWarning {
			line += " (warning)"
		}
		b.WriteString(line + "\n")
		if d.Source != "" && d.Col > 0 && d.Col <= maxExcerpt {
			gutter := fmt.Sprintf("%6d | ", d.Line)
			source := []rune(d.Source)
			fmt.Fprintf(&b, "%s%s\n", gutter, printable(string(source[:min(len(source), maxExcerpt)])))
			fmt.Fprintf(&b, "%s| %s^\n", strings.Repeat(" ", len(gutter)-2), strings.Repeat(" ", d.Col-1))
		}
		if d.Hint != "" {
			fmt.Fprintf(&b, "    hint: %s\n", printable(d.Hint))
		}
	}
	return b.String()
}

// printable replaces what could move the cursor of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
}

func (ds Diagnostics) github() string {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	var b strings.Builder
	for _, d := range ds {
		message := d.Message
		if d.Path != "" {
			message = d.Path + ": " + message
		}
		if d.Hint != "" {
			message += "\nhint: " + d.Hint
		}
		fmt.Fprintf(&b, "::%s file=%s", d.Severity, property.Replace(d.File))
		if d.Line > 0 {
			fmt.Fprintf(&b, ",line=%d,col=%d", d.Line, max(d.Col, 1))
		}
		fmt.Fprintf(&b, ",title=%s::%s\n", d.Code, data.Replace(message))
	}
	return b.String()
}
