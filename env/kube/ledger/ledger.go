// Package ledger remembers what a run makes or changes in clusters, on this machine's disk and before it does it, so that what a killed run has left can be undone.
//
// Each run has one file, which it holds locked while it lives: whoever can take the lock knows that the run is dead.
package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Kind is what a run did.
type Kind string

// Kinds of deeds.
const (
	CreatedCluster    Kind = "created-cluster"    // Name
	CreatedObject     Kind = "created-object"     // Place, APIVersion, ObjectKind, Namespace, Name
	LabelledNamespace Kind = "labelled-namespace" // Place, Name
	ScaledDeployment  Kind = "scaled-deployment"  // Place, Namespace, Name, and how many Replicas it had
	CordonedNode      Kind = "cordoned-node"      // Place, Name
)

// Place says which cluster: one of kind's on this machine, or one of a kubeconfig. The context has to be named, and the file by its whole path: which ones are current may change before
// somebody heals.
type Place struct {
	Cluster    string `json:"cluster,omitempty"`
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Context    string `json:"context,omitempty"`
}

// Entry is one deed. Entries are compared by value.
type Entry struct {
	Kind       Kind   `json:"kind"`
	Place      Place  `json:"place,omitzero"`
	APIVersion string `json:"apiVersion,omitempty"`
	ObjectKind string `json:"objectKind,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	Replicas   int32  `json:"replicas,omitempty"`
}

// line is how an entry stands in the file: done or undone.
type line struct {
	Entry
	Undone bool `json:"undone,omitempty"`
}

// Ledger is the open one of a living run. It is safe for concurrent use.
type Ledger struct {
	path string

	mu   sync.Mutex
	file *os.File
	torn bool // the last line may not have been written to its end
}

const (
	suffix = ".ndjson"
	unborn = ".new-*" // of ledgers that are not locked yet
)

// dir is where the ledgers of this user are.
func dir() (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // also when it is not set
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding a place for the ledger: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "meshtest", "runs"), nil
}

// Open begins the ledger of a run. It appears locked, so that nobody takes a run that has just begun for a dead one.
func Open(run string) (*Ledger, error) {
	l, err := open(run)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger of run %s: %w", run, err)
	}
	return l, nil
}

func open(run string) (*Ledger, error) {
	if run == "" || filepath.Base(run) != run {
		return nil, errors.New("this is no name of a file")
	}
	in, err := dir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(in, 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(in, unborn)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(in, run+suffix)
	err = lock(file)
	if err == nil {
		err = os.Link(file.Name(), path) // fails when there is one already
	}
	if err == nil {
		err = syncDir(in)
	}
	if err = errors.Join(err, os.Remove(file.Name())); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Ledger{path: path, file: file}, nil
}

// syncDir makes the names in a folder last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Note writes a deed down; it is on the disk when Note returns, so the deed can follow.
func (l *Ledger) Note(e Entry) error { return l.append(line{Entry: e}) }

// Done strikes a deed out: it is undone.
func (l *Ledger) Done(e Entry) error { return l.append(line{Entry: e, Undone: true}) }

func (l *Ledger) append(entry line) error {
	data, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	data = append(data, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.torn {
		data = append([]byte{'\n'}, data...)
	}
	l.torn = true
	if _, err := l.file.Write(data); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	l.torn = false
	return nil
}

// Close leaves the ledger behind for the next heal.
func (l *Ledger) Close() error { return l.file.Close() }

// Remove forgets the ledger: everything is undone.
func (l *Ledger) Remove() error {
	return errors.Join(os.Remove(l.path), l.file.Close())
}

// Record is what a dead run has left, in the order in which it was done. It is held until Remove or Close, so that two heals do not meet.
type Record struct {
	Run     string
	Entries []Entry
	path    string
	file    *os.File
}

// Remove forgets what has been undone.
func (r Record) Remove() error { return errors.Join(os.Remove(r.path), r.file.Close()) }

// Close gives the record back: some of it could not be undone.
func (r Record) Close() error { return r.file.Close() }

// Dead returns what dead runs of this user have left. What can be read is returned with an error about what cannot.
func Dead() ([]Record, error) {
	in, err := dir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(in)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for ledgers: %w", err)
	}
	var dead []Record
	var errs []error
	for _, e := range entries {
		run, ours := strings.CutSuffix(e.Name(), suffix)
		if !ours {
			continue
		}
		record, alive, err := take(filepath.Join(in, e.Name()), run)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading the ledger of run %s: %w", run, err))
		} else if !alive {
			dead = append(dead, record)
		}
	}
	return dead, errors.Join(errs...)
}

// take reads the ledger of a run and holds it, if the run is dead.
func take(path, run string) (record Record, alive bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return record, true, nil // it has ended meanwhile
	}
	if err != nil {
		return record, false, err
	}
	if lock(file) != nil {
		return record, true, file.Close()
	}
	if !isAt(file, path) { // it ended, or was healed, before the lock was ours
		return record, true, file.Close()
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return record, false, errors.Join(err, file.Close())
	}
	return Record{Run: run, Entries: parse(data), path: path, file: file}, false, nil
}

// isAt reports whether a file is still the one of that name.
func isAt(file *os.File, path string) bool {
	open, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(open, named)
}

// parse reads what was done and not undone. A line may be torn: its deed was never begun.
func parse(data []byte) []Entry {
	var entries []Entry
	for text := range bytes.Lines(data) {
		var l line
		if json.Unmarshal(text, &l) != nil || l.Kind == "" {
			continue
		}
		if i := slices.Index(entries, l.Entry); i >= 0 {
			entries = slices.Delete(entries, i, i+1)
		}
		if !l.Undone {
			entries = append(entries, l.Entry)
		}
	}
	return entries
}
