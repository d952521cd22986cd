package reports

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"meshtest.dev/meshtest/journal"
)

// log is a log of events, a second apart.
func log(t testing.TB, events ...journal.Event) *journal.Log {
	t.Helper()
	l := &journal.Log{}
	for i, e := range events {
		data, err := json.Marshal(e)
		require.NoError(t, err)
		l.Entries = append(l.Entries, journal.Entry{Version: "1.0", Seq: uint64(i + 1), At: time.Duration(i) * time.Second, Kind: e.Kind(), Data: data})
	}
	return l
}

// story tells a run of events without evidence.
func story(t testing.TB, events ...journal.Event) *Story {
	t.Helper()
	s, err := Tell(log(t, events...), nil)
	require.NoError(t, err)
	return s
}

const evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"`\x00\x1b|[a](http://evil.example)\n# h\n{{.}}-->]]>"

// hostile is a story in which every text is made to break out of where it stands, and every number is as bad as a journal can have it.
func hostile(t testing.TB) *Story {
	t.Helper()
	check := journal.Check{Name: evil, Verdict: "bad", Critical: true, Query: evil, Unit: evil, Reason: evil, Value: math.MaxFloat64, Threshold: -math.MaxFloat64, Samples: math.MaxUint64}
	states := log(t,
		journal.Started{Run: evil, Scenario: evil, Description: evil, Source: evil, Environment: "local", Version: evil, Plan: evil, Sets: []string{evil},
			Rollout: &journal.Rollout{Service: evil, Stable: evil, Canary: "canary" + evil, From: evil, Steps: []string{evil, evil}}},
		journal.Phase{Name: evil, State: journal.Begun, Note: evil},
		journal.Phase{Name: evil, State: journal.Failed, Error: evil},
		journal.Process{Name: evil, Address: evil, State: evil, Exit: evil, RSS: math.MinInt64},
		journal.Config{Generation: evil, Instance: evil, State: journal.Nacked, Error: evil, Change: evil},
		journal.Load{Name: evil, Target: evil, Rate: evil, State: journal.Ended, ByError: map[string]uint64{evil: 1}, Latency: []uint64{3}, SlipP99: math.MinInt64, LatencyMax: math.MinInt64},
		journal.LoadWindow{Name: evil, Start: math.MinInt64, Length: math.MaxInt64, Requests: math.MaxUint64, Errors: math.MaxUint64, Latency: []uint64{1, 1 << 60}},
		journal.LoadWindow{Name: evil, Start: math.MaxInt64, Length: math.MaxInt64},
		journal.LoadWindow{Name: evil, Length: 1, Requests: 1},
		journal.Step{Index: 1, State: journal.Begun, Weight: math.MaxFloat64},
		journal.Step{Index: -5, Text: evil, State: journal.Ended, Error: evil},
		journal.Fault{ID: evil, What: evil, Text: evil, State: journal.FaultArmed, Executor: evil, TTL: math.MaxInt64, Hit: []string{evil}},
		journal.Judgement{Verdict: evil, Reason: evil, Checks: []journal.Check{check}},
		journal.Decision{Action: evil, Reason: evil, Check: evil},
		journal.SelfCheck{Name: evil, Reason: evil, Voids: evil},
		journal.Expectation{Check: check},
		journal.Cost{CPU: math.MaxInt64, RSS: math.MaxInt64, PerThousand: math.MaxInt64},
		journal.Traces{Sampling: math.MaxFloat64, Traces: math.MinInt64, Spans: -1, Lost: math.MaxUint64,
			FanOuts: []journal.FanOut{{Workload: evil, Requests: math.MinInt64, Calls: math.MaxInt64, Busy: math.MinInt64, Longest: math.MaxInt64}},
			Examples: []journal.Trace{{ID: evil, Stream: evil, Key: evil, Why: evil, Start: math.MinInt64, Took: math.MinInt64, Cut: true, Spans: []journal.Span{
				{Parent: 0, Kind: evil, Workload: evil, Start: math.MaxInt64, Took: math.MaxInt64},
				{Parent: math.MaxInt64, Kind: "CLIENT", Workload: evil, Remote: evil, Start: math.MinInt64, Took: math.MinInt64, Status: evil, Retry: evil, Reason: evil, Failed: true},
				{Parent: 1, Kind: "SERVER", Workload: evil, Start: math.MinInt64, Took: math.MaxInt64},
				{Parent: math.MinInt64, Kind: "SERVER", Workload: evil}}}}},
		journal.Connections{From: evil, To: evil, Opened: math.MaxUint64, Received: math.MaxUint64, Sent: math.MaxUint64},
		journal.Note{Level: evil, Text: evil},
		journal.Finished{Verdict: evil, Reason: evil, Outcome: "none", Took: math.MinInt64},
	)
	states.Entries[3].At, states.Entries[5].At = math.MaxInt64, math.MinInt64
	evidence := log(t,
		journal.Evidence{Instance: evil, Start: math.MinInt64, End: math.MaxInt64,
			Cells:  []journal.Cell{{From: evil, To: evil, Stream: evil, Route: evil, Version: evil, Requests: math.MaxUint64, Failed: math.MaxUint64, Latency: []uint64{9, 1 << 52}}},
			Errors: []journal.Failure{{From: evil, To: evil, Key: evil, Version: evil, Status: math.MinInt64, Reason: evil, Latency: math.MinInt64}}},
		journal.Evidence{Instance: evil, Start: math.MaxInt64, End: math.MinInt64, Cells: []journal.Cell{{From: evil, To: evil, Version: evil, Requests: 1}}},
	)
	s, err := Tell(states, evidence)
	require.NoError(t, err)
	return s
}

func TestNothingFromTheJournalIsMarkupInHTML(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, WriteHTML(&b, hostile(t)))
	require.NotContains(t, b.String(), "<img")
	require.NotContains(t, b.String(), "alert(1)</script>")
	z := html.NewTokenizer(bytes.NewReader(b.Bytes()))
	scripts := 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			require.ErrorIs(t, z.Err(), io.EOF)
			require.Equal(t, 2, scripts, "the data and our script")
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			token := z.Token()
			require.Contains(t, elements, token.Data)
			if token.Data == "script" {
				scripts++
			}
			for _, a := range token.Attr {
				require.NotContains(t, []string{"style", "src", "srcset", "srcdoc", "action", "formaction"}, a.Key)
				require.False(t, strings.HasPrefix(a.Key, "on"), a.Key)
				require.True(t, a.Key != "href" || a.Val == "data:,", a.Val)
			}
		}
	}
}

// elements are all that a report is made of.
var elements = strings.Fields(`html head meta link title style body header main section footer div p b i h1 h2 dl dt dd table thead tbody tr th td small code pre br span
	details summary figure figcaption svg g rect line path text script`)

func TestContentPolicyIsOfExactlyWhatStandsInThePage(t *testing.T) {
	t.Parallel()
	for _, s := range []*Story{open(t, "promoted"), hostile(t)} {
		var b bytes.Buffer
		require.NoError(t, WriteHTML(&b, s))
		page := html.UnescapeString(regexp.MustCompile(`Content-Security-Policy" content="([^"]*)"`).FindStringSubmatch(b.String())[1])
		style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(b.String(), -1)
		script := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(b.String(), -1)
		require.Len(t, style, 1)
		require.Len(t, script, 1)
		require.Equal(t, "default-src 'none'; style-src "+sourceHash(style[0][1])+"; script-src "+sourceHash(script[0][1])+"; img-src data:; base-uri 'none'; form-action 'none'", page)
		require.Less(t, strings.Index(b.String(), "Content-Security-Policy"), strings.Index(b.String(), "<style>"), "the policy comes before what it governs")
		require.NotRegexp(t, `(?i)(src|href)\s*=\s*["']?(https?:)?//`, b.String())
		require.NotContains(t, style[0][1], "url(")
		require.NotContains(t, style[0][1], "@import")
	}
}

func TestNothingFromTheJournalIsMarkupInMarkdown(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, WriteMarkdown(&b, hostile(t)))
	text := b.String()
	require.NotRegexp(t, `[<>]`, strings.ReplaceAll(text, "\n> ", "\n"), "no HTML")
	require.NotContains(t, text, "[a](http://")
	require.NotContains(t, text, "\n# h")
	columns := 0
	for _, row := range strings.Split(text, "\n") {
		if !strings.HasPrefix(row, "|") {
			columns = 0
			continue
		}
		n := strings.Count(strings.ReplaceAll(strings.ReplaceAll(row, `\\`, ""), `\|`, ""), "|")
		require.True(t, columns == 0 || n == columns, "a text breaks out of its cell: %s", row)
		columns = n
	}
}

func TestMarkdownIsBounded(t *testing.T) {
	t.Parallel()
	checks := make([]journal.Check, 5000)
	for i := range checks {
		checks[i] = journal.Check{Name: strings.Repeat("ä", 100), Reason: strings.Repeat("é", 100)}
	}
	s := story(t, journal.Started{Run: "r"}, journal.Judgement{Checks: checks})
	var b bytes.Buffer
	require.NoError(t, WriteMarkdown(&b, s))
	require.Less(t, b.Len(), 1<<20)
	require.True(t, strings.HasSuffix(b.String(), " |\n\n… cut here; the HTML report has all of it.\n"), "cut after a whole line")
}

func TestHostileJournalsRender(t *testing.T) {
	t.Parallel()
	s := hostile(t)
	require.Equal(t, "invalid", s.Finished.Verdict)
	for _, f := range forms {
		require.NoError(t, f.write(io.Discard, s), f.file)
	}
	var b bytes.Buffer
	require.NoError(t, WriteJUnit(&b, s))
	require.NoError(t, xml.Unmarshal(b.Bytes(), &junitSuites{}))
}

func TestReportsStaySmallWhateverTheRunDid(t *testing.T) {
	t.Parallel()
	events := []journal.Event{journal.Started{Run: "r", Source: strings.Repeat("x", 1<<22), Plan: strings.Repeat("y", 1<<22), Rollout: &journal.Rollout{From: "a", Service: "b", Stable: "1", Canary: "2"}}}
	for range 20_000 {
		events = append(events, journal.Note{Text: "again"})
	}
	var blocks []journal.Event
	for i := range 20_000 {
		at := time.Duration(i) * time.Second
		blocks = append(blocks, journal.Evidence{Start: at, End: at + time.Second, Cells: []journal.Cell{{From: "a", To: "b", Version: "1", Requests: 9, Failed: 1, Latency: []uint64{400, 8}}},
			Errors: []journal.Failure{{From: "a", To: "b", Version: "1", Key: fmt.Sprint(i)}}})
	}
	s, err := Tell(log(t, events...), log(t, blocks...))
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, WriteHTML(&b, s))
	require.Less(t, b.Len(), 2<<20)
	require.Contains(t, b.String(), "the first 50 of 20000")
}

// FuzzOpen changes entries of recorded journals, with checksums that are right: whatever a program with a bug may have written is told and rendered.
func FuzzOpen(f *testing.F) {
	for _, name := range names() {
		for _, file := range []string{journal.StatesFile, journal.EvidenceFile} {
			data, err := os.ReadFile(filepath.Join(journals, name, file))
			require.NoError(f, err)
			entries, err := journal.Read(bytes.NewReader(data))
			require.NoError(f, err)
			lines := bytes.SplitAfterN(data, []byte("\n"), 4)
			few := bytes.Join(lines[:3], nil) // small, because the fuzzer tries to make it smaller
			for i, e := range entries.Entries {
				if i%7 == 0 {
					f.Add(string(e.Kind), []byte(e.Data), int64(e.At), few)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind string, data []byte, at int64, file []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, journal.StatesFile), file, 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, journal.EvidenceFile), file, 0o644))
		if s, err := Open(dir); err == nil {
			renders(t, s)
		}
		states := log(t, started(true), journal.Step{Index: 1, State: journal.Begun})
		states.Entries = append(states.Entries, journal.Entry{Kind: journal.Kind(kind), Data: data, At: time.Duration(at)})
		evidence := log(t)
		evidence.Entries = append(evidence.Entries, journal.Entry{Kind: journal.Kind(kind), Data: data, At: time.Duration(at)})
		s, err := Tell(states, evidence)
		require.NoError(t, err)
		renders(t, s)
	})
}

func renders(t *testing.T, s *Story) {
	t.Helper()
	for _, f := range forms {
		require.NoError(t, f.write(io.Discard, s), f.file)
	}
}

var errDisk = errors.New("disk full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errDisk }

func TestAReportThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		require.ErrorIs(t, f.write(fullDisk{}, open(t, "promoted")), errDisk, f.file)
	}
}
