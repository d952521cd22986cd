package run

import (
	"errors"
	"regexp"
	"strings"
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

// secrets are what credentials look like in a scenario: everything behind a key that names one, to the end of the line or of the flow mapping; a block scalar behind such a key; the
// argument behind such a flag; user information in a URL.
var secrets = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?im)^(\s*(?:- )?["']?[\w.-]*` + secretWord + `[\w.-]*["']?\s*:\s*[|>][+-]?\d*)[ \t]*\n(?:[ \t]+.*\n?|[ \t]*\n)+`), "${1} [redacted]\n"},
	{regexp.MustCompile(`(?im)(\b[\w.-]*` + secretWord + `[\w.-]*["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"|'(?:[^'\n]|'')*'|[^\s,}\]][^,}\]\n]*)`), "${1}[redacted]"},
	{regexp.MustCompile(`(?i)(-{1,2}[\w-]*` + secretWord + `[\w-]*["']?\s*,\s*)("(?:[^"\\\n]|\\.)*"|'(?:[^'\n]|'')*'|[^\s,\]]+)`), "${1}[redacted]"},
	{regexp.MustCompile(`(://)[^/\s@"']*:[^/\s@"']+(@)`), "${1}[redacted]${2}"},
}

// redactSets hides the values of overrides whose path names a credential, and credentials in other values.
func redactSets(sets []string) []string {
	var out []string
	for _, set := range sets {
		path, value, _ := strings.Cut(set, "=")
		if secretPath.MatchString(path) {
			value = "[redacted]"
		}
		out = append(out, path+"="+redact(value))
	}
	return out
}

var secretPath = regexp.MustCompile(`(?i)` + secretWord)

const secretWord = `(?:password|passwd|passphrase|pass|pwd|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|authorization|credential|cookie)`

// redact hides credentials in a text that goes into the journal. It would rather hide too much.
func redact(text string) string {
	for _, s := range secrets {
		text = s.pattern.ReplaceAllString(text, s.with)
	}
	return text
}
