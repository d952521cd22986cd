package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, events ...Event) []byte {
	t.Helper()
	dir := t.TempDir()
	var now time.Duration
	w, err := Create(dir, StatesFile, true, func() time.Duration { now += time.Second; return now })
	require.NoError(t, err)
	for _, e := range events {
		require.NoError(t, w.Append(e))
	}
	require.NoError(t, w.Close())
	data, err := os.ReadFile(filepath.Join(dir, StatesFile))
	require.NoError(t, err)
	return data
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	events := []Event{
		Started{Run: "r1", Scenario: "s", Seed: 1<<64 - 1},
		Phase{Name: "load", State: Begun},
		Decision{Action: RollBack, Reason: `5xx "quoted" <b>`},
		Finished{Verdict: "fail", ExitCode: 1},
	}
	log, err := Read(bytes.NewReader(write(t, events...)))
	require.NoError(t, err)
	require.Empty(t, log.Damage)
	require.False(t, log.Cut)
	require.Len(t, log.Entries, len(events))
	for i, e := range log.Entries {
		require.Equal(t, events[i].Kind(), e.Kind)
		require.Equal(t, uint64(i+1), e.Seq)
		require.Equal(t, time.Duration(i+1)*time.Second, e.At)
	}
	var started Started
	require.NoError(t, log.Entries[0].Decode(&started))
	require.Equal(t, events[0], started)
}

func TestACutOffLineIsACrashAndAFlippedBitIsDamage(t *testing.T) {
	t.Parallel()
	data := write(t, Started{Run: "r1"}, Phase{Name: "load", State: Begun}, Finished{Verdict: "pass"})
	for cut := range len(data) {
		log, err := Read(bytes.NewReader(data[:cut]))
		require.NoError(t, err)
		require.Empty(t, log.Damage, "cut at %d", cut)
		require.Equal(t, bytes.Count(data[:cut], []byte("\n")), lines(log, data[:cut]), "cut at %d", cut)
	}
	second := bytes.IndexByte(data, '\n') + 1
	third := second + bytes.IndexByte(data[second:], '\n') + 1
	for i := second; i < third-1; i++ {
		flipped := bytes.Clone(data)
		flipped[i] ^= 1
		if flipped[i] == '\n' {
			continue
		}
		log, err := Read(bytes.NewReader(flipped))
		require.NoError(t, err)
		require.NotEmpty(t, log.Damage, "bit flipped at %d", i)
	}
}

// lines counts the entries that end with a line break; the last one may be whole without it.
func lines(log *Log, data []byte) int {
	if len(log.Entries) > 0 && !bytes.HasSuffix(data, []byte("\n")) && !log.Cut {
		return len(log.Entries) - 1
	}
	return len(log.Entries)
}

func TestAMissingLineIsSeen(t *testing.T) {
	t.Parallel()
	all := strings.SplitAfter(string(write(t, Started{}, Phase{}, Finished{})), "\n")
	log, err := Read(strings.NewReader(all[0] + all[2]))
	require.NoError(t, err)
	require.Len(t, log.Damage, 1)
	require.ErrorContains(t, log.Damage[0], "entry 3 follows entry 1")
}

func TestOtherFilesAndFormatsAreRefused(t *testing.T) {
	t.Parallel()
	_, err := Read(strings.NewReader("hello\nworld\n"))
	require.ErrorContains(t, err, "not a journal")
	body := `"v":"2.0","seq":1,"at":0,"kind":"x","data":{}}`
	line, err := encode(Entry{Version: "2.0", Seq: 1, Kind: "x", Data: []byte("{}")})
	require.NoError(t, err)
	require.Contains(t, string(line), body)
	_, err = Read(bytes.NewReader(line))
	require.ErrorContains(t, err, "journal format 2.0")
}

func TestAWriterRefusesAnExistingFileAndStaysFailed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := Create(dir, StatesFile, false, func() time.Duration { return 0 })
	require.NoError(t, err)
	_, err = Create(dir, StatesFile, false, nil)
	require.ErrorIs(t, err, os.ErrExist)
	require.NoError(t, w.Close())
	require.ErrorIs(t, w.Append(Note{}), os.ErrClosed)
}

func FuzzRead(f *testing.F) {
	line, _ := encode(Entry{Version: "1.0", Seq: 1, Kind: "note", Data: []byte(`{"text":"x"}`)})
	f.Add(line)
	f.Add(append(line, line[:len(line)/2]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		log, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, e := range log.Entries {
			require.NotZero(t, e.Version)
		}
	})
}
