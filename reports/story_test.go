package reports

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/journal"
)

func TestStories(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		verdict, outcome, reason string
		exit                     int
		notReached               []string
	}{
		"promoted":    {verdict: "pass", outcome: "promoted", reason: "as expected", notReached: []string{}},
		"rolled-back": {verdict: "fail", outcome: "rolledBack", reason: "the canary fails more", exit: 1, notReached: []string{"step 7", "step 8"}},
		"killed":      {verdict: "aborted", outcome: "none", reason: `in the phase "load", without an end of the run`, exit: 4, notReached: []string{"step 3", "step 4", "step 5", "step 6", "step 7", "step 8"}},
		"invalid":     {verdict: "invalid", outcome: "none", reason: "it had nothing to act on", exit: 4, notReached: []string{"step 4", "step 5", "step 6", "step 7", "step 8"}},
		"no-rollout":  {verdict: "pass", outcome: "none", reason: "all expectations held", notReached: []string{}},
	} {
		r := NewReport(open(t, name))
		require.Equal(t, want.verdict, r.Verdict, name)
		require.Equal(t, want.outcome, r.Rollout.Outcome, name)
		require.Contains(t, r.Reason, want.reason, name)
		require.Equal(t, want.exit, r.ExitCode, name)
		require.Equal(t, want.notReached, r.NotReached, name)
	}
}

func TestCountsOfTheJudgedEdgeAreThoseOfTheEvidence(t *testing.T) {
	t.Parallel()
	r := NewReport(open(t, "rolled-back")).Rollout
	require.Len(t, r.Versions, 2)
	require.Equal(t, r.CanaryRequests, r.Versions[1].Requests)
	require.Equal(t, r.CanaryFailed, r.Versions[1].Failed)
	require.Positive(t, r.CanaryFailed)
	require.Greater(t, *r.Versions[1].LatencyMs.P50, 1.2**r.Versions[0].LatencyMs.P50)
	require.Positive(t, *r.DecidedAfterMs)
}

// copied is a recorded run in a folder of the test's own.
func copied(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(journals, name))))
	return dir
}

func TestADamagedJournalIsInvalidWhateverItSays(t *testing.T) {
	t.Parallel()
	for _, file := range []string{journal.StatesFile, journal.EvidenceFile} {
		dir := copied(t, "promoted")
		path := filepath.Join(dir, file)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		for place, damaged := range map[string][]byte{
			"a flipped bit":    flip(data, len(data)/2),
			"the first line":   flip(data, 20),
			"a missing line":   cutLineOut(data, 5),
			"a cut-off ending": data[:len(data)-9],
		} {
			require.NoError(t, os.WriteFile(path, damaged, 0o644))
			s, err := Open(dir)
			require.NoError(t, err, place)
			want := "invalid"
			if file == journal.StatesFile && place == "a cut-off ending" {
				want = "aborted" // what a crash leaves
			}
			require.Equal(t, want, s.Finished.Verdict, "%s: %s", file, place)
			require.Equal(t, 4, s.Finished.ExitCode)
			renders(t, s)
		}
	}
}

func flip(data []byte, at int) []byte {
	out := bytes.Clone(data)
	if out[at] ^= 1; out[at] == '\n' {
		out[at] ^= 2
	}
	return out
}

func cutLineOut(data []byte, n int) []byte {
	lines := bytes.SplitAfter(data, []byte("\n"))
	return bytes.Join(append(lines[:n:n], lines[n+1:]...), nil)
}

func TestAJournalWithoutEvidenceKeepsItsVerdictAndSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := copied(t, "promoted")
	require.NoError(t, os.Remove(filepath.Join(dir, journal.EvidenceFile)))
	s, err := Open(filepath.Join(dir, journal.StatesFile))
	require.NoError(t, err)
	require.Equal(t, "pass", s.Finished.Verdict)
	require.Len(t, s.Gaps, 1)
	var b bytes.Buffer
	require.NoError(t, WriteHTML(&b, s))
	require.Contains(t, b.String(), s.Gaps[0])
	require.NotNil(t, NewReport(s).Rollout.DecidedAfterMs)
}

func TestAnEmptyJournalIsOfARunThatWasKilledAsItBegan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, journal.StatesFile)
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	for _, open := range []string{dir, path} {
		s, err := Open(open)
		require.NoError(t, err)
		require.Equal(t, "aborted", s.Finished.Verdict)
		renders(t, s)
	}
}

func TestOtherFilesAreRefused(t *testing.T) {
	t.Parallel()
	dir := copied(t, "promoted")
	_, err := Open(filepath.Join(dir, journal.EvidenceFile))
	require.ErrorContains(t, err, `begins with "evidence"`)
	other := filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(other, []byte("hello"), 0o644))
	_, err = Open(other)
	require.ErrorContains(t, err, "no line of a journal")
	_, err = Open(filepath.Join(dir, "nowhere"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestWhatANewerMinorVersionAddsIsPassedOver(t *testing.T) {
	t.Parallel()
	states := log(t, started(true), journal.Fault{ID: "f", State: journal.FaultArmed}, journal.Fault{ID: "f", State: "renewed"}, journal.Finished{Verdict: "pass", Outcome: "none"})
	states.Entries[0].Data = append([]byte(`{"later":{"a":[1]},`), states.Entries[0].Data[1:]...)
	states.Entries = append(states.Entries[:1:1], append([]journal.Entry{{Kind: "weather", Data: []byte(`"rain"`)}}, states.Entries[1:]...)...)
	s, err := Tell(states, log(t))
	require.NoError(t, err)
	require.Equal(t, "pass", s.Finished.Verdict)
	require.True(t, s.Faults[0].Windows[0].Open, "a state that is not known ends nothing")
	renders(t, s)
}

func TestAnEventThatCannotBeReadIsDamage(t *testing.T) {
	t.Parallel()
	states := log(t, started(true), journal.Finished{Verdict: "pass"})
	states.Entries = append(states.Entries, journal.Entry{Seq: 3, Kind: journal.Step{}.Kind(), Data: []byte(`{"index":"one"}`)})
	s, err := Tell(states, nil)
	require.NoError(t, err)
	require.Equal(t, "invalid", s.Finished.Verdict)
	require.ErrorContains(t, s.Damage[0], "event 3 (step)")
	two, err := Tell(log(t, started(true), started(true), journal.Finished{Verdict: "pass"}), nil)
	require.NoError(t, err)
	require.ErrorContains(t, two.Damage[0], "a second run begins")
	require.Len(t, two.Steps, len(steps))
}

func TestFaultsAreAccountedForOverAllTheirWindows(t *testing.T) {
	t.Parallel()
	s := story(t, started(false),
		journal.Fault{ID: "twice", Text: "words", State: journal.FaultArmed, TTL: time.Second},
		journal.Fault{ID: "twice", State: journal.FaultHealed, Matched: 10, Injected: 4},
		journal.Fault{ID: "twice", State: journal.FaultArmed},
		journal.Fault{ID: "lapsed", State: journal.FaultArmed},
		journal.Fault{ID: "lapsed", State: journal.FaultLapsed, Matched: 3},
		journal.Fault{ID: "never", State: "notReached"},
	)
	require.Equal(t, []Window{{Start: time.Second, End: 2 * time.Second}, {Start: 3 * time.Second, End: 6 * time.Second, Open: true}}, s.Faults[0].Windows)
	r := NewReport(s)
	require.Equal(t, []string{"armed", "lapsed", "notReached"}, []string{r.Faults[0].State, r.Faults[1].State, r.Faults[2].State})
	require.Equal(t, []string{"fault never"}, r.NotReached)
	require.Equal(t, uint64(10), r.Faults[0].Matched)
}

func TestTheMeshIsConvergedWhenTheNewestConfigurationIs(t *testing.T) {
	t.Parallel()
	converged := func(states ...string) bool {
		events := []journal.Event{started(false)}
		for _, state := range states {
			events = append(events, journal.Config{State: state})
		}
		return NewReport(story(t, events...)).Mesh.Converged
	}
	require.False(t, converged())
	require.True(t, converged(journal.Converged))
	require.True(t, converged(journal.Converged, journal.Applied, journal.Acked, journal.Converged))
	require.False(t, converged(journal.Converged, journal.Applied, journal.Acked))
	require.False(t, converged(journal.Converged, journal.Applied, journal.Nacked))
}

func TestJUnitCountsAgreeWithItsCases(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]junitCounts{
		"promoted": {}, "rolled-back": {Failures: 3, Skipped: 2}, "killed": {Errors: 2, Skipped: 9},
		"invalid": {Errors: 2, Skipped: 7}, "no-rollout": {},
	} {
		var b bytes.Buffer
		require.NoError(t, WriteJUnit(&b, open(t, name)))
		var read junitSuites
		require.NoError(t, xml.Unmarshal(b.Bytes(), &read))
		require.Len(t, read.Suites, 1)
		suite := read.Suites[0]
		want.Tests = len(suite.Cases)
		require.Equal(t, want, count(suite.Cases), name)
		want.Time = suite.Cases[0].Time // of the verdict: all of the run
		require.Equal(t, want, suite.junitCounts, name)
		require.Equal(t, want, read.junitCounts, name)
	}
}

func TestABadCanaryThatWasExpectedFailsNothing(t *testing.T) {
	t.Parallel()
	bad := journal.Check{Name: "c", Verdict: "bad", Critical: true, Reason: "worse"}
	for verdict, want := range map[string]junitCounts{"pass": {}, "fail": {Failures: 2}, "invalid": {Errors: 1, Skipped: 1}, "aborted": {Errors: 1, Skipped: 1}, "inconclusive": {Failures: 1, Skipped: 1}} {
		s := story(t, started(false), journal.Judgement{Checks: []journal.Check{bad}}, journal.Finished{Verdict: verdict, Reason: "r"})
		want.Tests = 2
		require.Equal(t, want, count(junitCases(NewReport(s))), verdict)
	}
}

func TestFilesAreReplacedAsAWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	dir := copied(t, "no-rollout")
	written, err := Write(dir, Kinds())
	require.NoError(t, err)
	require.Len(t, written, 4)
	for _, path := range written {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o644), info.Mode().Perm())
	}
	files, err := filepath.Glob(filepath.Join(dir, ".*"))
	require.NoError(t, err)
	require.Empty(t, files, "nothing temporary is left")
	_, err = WriteStory(open(t, "promoted"), filepath.Join(dir, "nowhere"), []string{"json"})
	require.ErrorContains(t, err, "rendering report.json")
	_, err = WriteStory(open(t, "promoted"), dir, []string{"pdf"})
	require.ErrorContains(t, err, `unknown report "pdf"`)
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(data), "}\n"))
}

// A fault of what carries the mesh names what it hit, and a baseline of 0 is one.
func TestWhatWasHitIsTold(t *testing.T) {
	t.Parallel()
	killed := func(state string, hit ...string) journal.Fault {
		return journal.Fault{ID: "killed", What: "podKill", Text: "delete 2 pods of backend", State: state, Matched: uint64(len(hit)), Injected: uint64(len(hit)), Hit: hit}
	}
	zero := 0.0
	s := story(t,
		journal.Started{Run: "r", Sets: []string{"seed=7"}},
		killed(journal.FaultArmed), killed(journal.FaultHit, "backend-1"),
		journal.Expectation{Check: journal.Check{Name: "a", Verdict: "pass", Samples: 1, Baseline: &zero}},
		journal.Expectation{Check: journal.Check{Name: "b", Verdict: "pass", Samples: 1}},
	)
	r := NewReport(s)
	require.Equal(t, []string{"seed=7"}, r.Sets)
	require.Equal(t, journal.FaultArmed, r.Faults[0].State, "it was never healed")
	require.Len(t, s.Faults[0].Windows, 1)
	require.Equal(t, &zero, r.Checks[0].Baseline)
	require.Nil(t, r.Checks[1].Baseline)
	healed := NewReport(story(t, journal.Started{Run: "r"}, killed(journal.FaultArmed), killed(journal.FaultHit, "backend-1", "backend-2"), killed(journal.FaultHealed, "backend-1", "backend-2"))).Faults[0]
	require.True(t, healed.Healed)
	require.Equal(t, uint64(2), healed.Injected)
	require.Equal(t, "delete 2 pods of backend; hit backend-1, backend-2", healed.What())
}
