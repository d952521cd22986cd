// Package ledger remembers what a run makes or changes in clusters, on this machine's disk and before it does it, so that what a killed run has left can be undone.
//
// Each run has one file, which it holds locked while it lives: whoever can take the lock knows that the run is dead.
package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

// Place says which cluster: one of kind's on this machine, or one of a kubeconfig.
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
	mu   sync.Mutex
	file *os.File
}

const suffix = ".ndjson"

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

// Open begins the ledger of a run.
func Open(run string) (*Ledger, error) {
	in, err := dir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(in, 0o700); err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(in, run+suffix), os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	if err := lock(file); err != nil {
		return nil, errors.Join(fmt.Errorf("locking the ledger: %w", err), file.Close())
	}
	return &Ledger{file: file}, nil
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	return nil
}

// Close leaves the ledger behind for the next heal.
func (l *Ledger) Close() error { return l.file.Close() }

// Remove forgets the ledger: everything is undone.
func (l *Ledger) Remove() error {
	return errors.Join(os.Remove(l.file.Name()), l.file.Close())
}

// Record is what a dead run has left, in the order in which it was done. It is held until Remove or Close, so that two heals do not meet.
type Record struct {
	Run     string
	Entries []Entry
	file    *os.File
}

// Remove forgets what has been undone.
func (r Record) Remove() error { return errors.Join(os.Remove(r.file.Name()), r.file.Close()) }

// Close gives the record back: some of it could not be undone.
func (r Record) Close() error { return r.file.Close() }

// Dead returns what dead runs of this user have left.
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
	for _, e := range entries {
		run, ours := strings.CutSuffix(e.Name(), suffix)
		if !ours {
			continue
		}
		record, alive, err := open(filepath.Join(in, e.Name()), run)
		if err != nil {
			return dead, err
		}
		if !alive {
			dead = append(dead, record)
		}
	}
	return dead, nil
}

// open reads the ledger of a run, if it is dead.
func open(path, run string) (record Record, alive bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return record, true, nil // it has ended meanwhile
	}
	if err != nil {
		return record, false, fmt.Errorf("reading a ledger: %w", err)
	}
	if err := lock(file); err != nil {
		return record, true, file.Close()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return record, true, errors.Join(file.Close(), ignoreMissing(err))
	}
	return Record{Run: run, Entries: parse(data), file: file}, false, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("reading a ledger: %w", err)
}

// parse reads what was done and not undone. The last line may be torn: its deed was never begun.
func parse(data []byte) []Entry {
	var entries []Entry
	for scanner := bufio.NewScanner(bytes.NewReader(data)); scanner.Scan(); {
		var l line
		if json.Unmarshal(scanner.Bytes(), &l) != nil {
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
