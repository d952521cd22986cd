package run

import (
	"errors"
	"sync"
	"time"

	"meshtest.dev/meshtest/journal"
)

// recorder writes the journal and lets others watch.
type recorder struct {
	begin    time.Time
	states   *journal.Writer
	evidence *journal.Writer
	observe  func(time.Duration, journal.Event)
	order    sync.Mutex // of the file and of whoever observes: both see the same
	mu       sync.Mutex
	err      error
	closed   bool
	dirty    chan struct{} // holds one token when there are states that are not on the disk
	synced   sync.WaitGroup
}

func newRecorder(o Options) (*recorder, error) {
	r := &recorder{begin: time.Now(), observe: o.Observe, dirty: make(chan struct{}, 1)}
	var err error
	if r.states, err = journal.Create(o.Out, journal.StatesFile, false, r.now); err != nil {
		return nil, err
	}
	if r.evidence, err = journal.Create(o.Out, journal.EvidenceFile, false, r.now); err != nil {
		return nil, errors.Join(err, r.states.Close())
	}
	r.synced.Go(func() {
		for range r.dirty {
			r.keep(r.states.Sync())
		}
	})
	return r, nil
}

// now is the run's clock.
func (r *recorder) now() time.Duration { return time.Since(r.begin) }

// record writes a state, and has it synced to the disk beside the run: a slow disk must not keep traffic on a bad canary. An error is kept: it makes the run invalid at its
// end, and nothing can be told before.
func (r *recorder) record(e journal.Event) {
	r.order.Lock()
	defer r.order.Unlock()
	r.keep(r.states.Append(e))
	r.mu.Lock()
	if !r.closed {
		select {
		case r.dirty <- struct{}{}:
		default: // the sync that is due takes this one along
		}
	}
	r.mu.Unlock()
	if r.observe != nil {
		r.observe(r.now(), e)
	}
}

// recordFrom writes a block of evidence that a sidecar saw.
func (r *recorder) recordFrom(s journal.Source, e journal.Event) {
	r.keep(r.evidence.AppendFrom(&s, e))
}

func (r *recorder) keep(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *recorder) close() error {
	r.mu.Lock()
	r.closed = true
	close(r.dirty)
	r.mu.Unlock()
	r.synced.Wait()
	return errors.Join(r.err, r.states.Close(), r.evidence.Close())
}
