// Package journal records: versioned, append-only events that say what a run did and why. Everything that is shown later
// is a function of these files; nothing is rendered from memory, so a run that was killed still reports.
//
// Two files stand in a run's folder. journal.ndjson holds states, decisions and results; evidence.ndjson holds blocks of counts, which are many. A line is
// written before the run goes on, so the death of the process loses none. Against the death of the machine states are synced to the disk at once, and whoever must
// not act before a state is safe there waits for [Writer.Sync]. Every line carries a checksum, so that damage is seen; a last line that was cut off is
// what a crash leaves, and is not damage.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// File names in a run's folder.
const (
	StatesFile   = "journal.ndjson"
	EvidenceFile = "evidence.ndjson"
)

// Version of the format, major.minor. Another major is refused; a newer minor may add kinds and fields.
const (
	Major = 1
	Minor = 1
)

// Entry is one line.
type Entry struct {
	Version string          `json:"v"`
	Seq     uint64          `json:"seq"` // 1, 2, 3 ... within its file
	At      time.Duration   `json:"at"`  // since the run began, on the run's monotonic clock
	Source  *Source         `json:"source,omitempty"`
	Kind    Kind            `json:"kind"`
	Data    json.RawMessage `json:"data"`
}

// Source tells who saw the event when it was not the run itself, and when on the source's own clock. The source's time plus Offset is the run's
// time, give or take Error.
type Source struct {
	Name   string        `json:"name"`
	At     time.Duration `json:"at"`
	Offset time.Duration `json:"offset"`
	Error  time.Duration `json:"error"`
}

// Decode reads the entry's data into v.
func (e Entry) Decode(v any) error {
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("reading event %d (%s): %w", e.Seq, e.Kind, err)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A line is {"crc":"0123abcd", followed by the entry without its opening brace; the checksum (CRC-32C) is of all that follows.
const (
	crcPrefix = `{"crc":"`
	crcSuffix = `",`
	crcLen    = len(crcPrefix) + 8 + len(crcSuffix)
)

func encode(e Entry) ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	body = append(body[1:], '\n') // without the brace
	line := fmt.Appendf(make([]byte, 0, crcLen+len(body)), "%s%08x%s", crcPrefix, crc32.Checksum(body[:len(body)-1], castagnoli), crcSuffix)
	return append(line, body...), nil
}

// errDamaged says that a line is not what was written.
var errDamaged = errors.New("checksum does not match")

func decode(line []byte) (Entry, error) {
	if len(line) < crcLen || string(line[:len(crcPrefix)]) != crcPrefix || string(line[crcLen-len(crcSuffix):crcLen]) != crcSuffix {
		return Entry{}, fmt.Errorf("not a journal line: %w", errDamaged)
	}
	want, err := strconv.ParseUint(string(line[len(crcPrefix):len(crcPrefix)+8]), 16, 32)
	body := line[crcLen:]
	if err != nil || uint32(want) != crc32.Checksum(body, castagnoli) {
		return Entry{}, errDamaged
	}
	var e Entry
	if err := json.Unmarshal(append([]byte("{"), body...), &e); err != nil {
		return Entry{}, err
	}
	var major, minor int
	if _, err := fmt.Sscanf(e.Version, "%d.%d", &major, &minor); err != nil || major != Major {
		return Entry{}, fmt.Errorf("journal format %s: this program reads %d.x", e.Version, Major)
	}
	return e, nil
}

// Writer appends entries to one file. It is safe for concurrent use.
type Writer struct {
	mu   sync.Mutex
	file *os.File
	seq  uint64
	sync bool
	now  func() time.Duration
	err  error // the first error; everything after it fails with it
}

// Create opens a new file in the folder; it fails when the file exists. With durable, every entry is on the disk before Append returns; without, after the next Sync. now is the run's clock.
func Create(dir, name string, durable bool, now func() time.Duration) (*Writer, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("creating the journal: %w", err)
	}
	return &Writer{file: f, sync: durable, now: now}, nil
}

// Append writes one event of the run itself, now.
func (w *Writer) Append(data Event) error { return w.AppendFrom(nil, data) }

// AppendFrom writes one event that a source saw.
func (w *Writer) AppendFrom(source *Source, data Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.err = w.append(source, data)
	return w.err
}

func (w *Writer) append(source *Source, data Event) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("recording %s: %w", data.Kind(), err)
	}
	w.seq++
	line, err := encode(Entry{
		Version: fmt.Sprintf("%d.%d", Major, Minor),
		Seq:     w.seq, At: w.now(), Source: source, Kind: data.Kind(), Data: raw,
	})
	if err != nil {
		return fmt.Errorf("recording %s: %w", data.Kind(), err)
	}
	if _, err := w.file.Write(line); err != nil {
		return fmt.Errorf("recording %s: %w", data.Kind(), err)
	}
	if w.sync {
		if err := w.file.Sync(); err != nil {
			return fmt.Errorf("recording %s: %w", data.Kind(), err)
		}
	}
	return nil
}

// Sync returns when everything that was appended before is on the disk.
func (w *Writer) Sync() error {
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("syncing the journal: %w", err)
	}
	return nil
}

// Close syncs and closes the file.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := errors.Join(w.err, w.file.Sync(), w.file.Close())
	w.err = os.ErrClosed
	return err
}

// Log is a file that was read back.
type Log struct {
	Entries []Entry
	Cut     bool    // the last line was not finished: the writer was killed
	Damage  []error // lines that are not what was written, and missing sequence numbers
}

// Read reads a whole file. It returns an error only when the input cannot be read or is of another format; damaged lines are in Log.Damage.
func Read(r io.Reader) (*Log, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	log := &Log{}
	var last uint64
	for number := 1; len(data) > 0; number++ {
		line, rest, whole := cutLine(data)
		data = rest
		entry, err := decode(line)
		switch {
		case err != nil && !whole:
			log.Cut = true
			continue
		case err != nil:
			log.Damage = append(log.Damage, fmt.Errorf("line %d: %w", number, err))
			continue
		case entry.Seq != last+1:
			log.Damage = append(log.Damage, fmt.Errorf("line %d: entry %d follows entry %d", number, entry.Seq, last))
		}
		last = entry.Seq
		log.Entries = append(log.Entries, entry)
	}
	if len(log.Entries) == 0 && len(log.Damage) > 0 {
		return nil, fmt.Errorf("not a journal: %w", log.Damage[0])
	}
	return log, nil
}

func cutLine(data []byte) (line, rest []byte, whole bool) {
	for i, c := range data {
		if c == '\n' {
			return data[:i], data[i+1:], true
		}
	}
	return data, nil, false
}
