package metrics

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// A Scraper reads targets into a Store. Every scrape also writes, with the target's labels and as Prometheus does, `up`
// (1 or 0), `scrape_duration_seconds` and `scrape_samples_scraped`.
//
// A counter that a target did not show at one scrape and shows at the next was 0 before: the Scraper says so at the
// time of the earlier one. Without that, increase() and rate() would miss a counter's first value, and with it the
// first errors of a canary. (Prometheus has the same behind its feature flag created-timestamp-zero-ingestion.)
type Scraper struct {
	store *Store

	mu     sync.Mutex
	health map[string]*Health // by the target's labels
}

// NewScraper makes a Scraper into store.
func NewScraper(store *Store) *Scraper {
	return &Scraper{store: store, health: map[string]*Health{}}
}

// Health says how the scrapes of one target went.
type Health struct {
	Labels   map[string]string
	Scrapes  int // tried
	Failed   int // of these, those that brought nothing
	Rejected int // samples that the Store refused
	Series   int // in the last scrape that succeeded
	LastOK   time.Time
	LastErr  error // of the last scrape that failed, even if others succeeded since
}

// Health returns how every target's scrapes went, in order of their labels.
func (s *Scraper) Health() []Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Health
	for _, h := range s.health {
		all = append(all, *h)
	}
	slices.SortFunc(all, func(a, b Health) int { return labels.Compare(LabelsOf(a.Labels), LabelsOf(b.Labels)) })
	return all
}

// Run scrapes the targets, each at once and then at its interval, until ctx ends; then it scrapes each a last time, so
// that nothing that was counted is missing, and returns. End it before the targets: a last scrape that finds nobody ends
// their series. It may be called again, also at the same time, with other targets. An error means that a target cannot be scraped at all; a scrape that fails is no error but visible in the
// Store and in Health.
func (s *Scraper) Run(ctx context.Context, targets ...Target) error {
	loops, err := s.loops(targets)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for _, l := range loops {
		all.Go(func() {
			client := l.target.client()
			defer client.CloseIdleConnections()
			l.run(ctx, client)
		})
	}
	all.Wait()
	return nil
}

// loops makes a loop for each target, after all were found to be sound.
func (s *Scraper) loops(targets []Target) ([]*loop, error) {
	var wrong []error
	for _, t := range targets {
		wrong = append(wrong, t.validate())
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loops := make([]*loop, len(targets))
	for i, t := range targets {
		l := LabelsOf(t.Labels)
		key := l.String()
		if s.health[key] == nil {
			s.health[key] = &Health{Labels: t.Labels}
		}
		loops[i] = &loop{scraper: s, target: t.withDefaults(), labels: l, health: s.health[key]}
	}
	return loops, nil
}
