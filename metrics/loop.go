package metrics

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// A loop scrapes one target.
type loop struct {
	scraper *Scraper
	target  Target
	labels  Labels
	health  *Health // guarded by the scraper's mutex

	last  map[uint64]Labels // the series of the last scrape, by hash; nil when it failed or there was none
	ended map[uint64]bool   // the series that were gone at the last scrape
	at    int64             // the time of the last scrape, in milliseconds
}

func (l *loop) run(ctx context.Context, client *http.Client) {
	ticker := time.NewTicker(l.target.Interval)
	defer ticker.Stop()
	uncancelled := context.WithoutCancel(ctx) // a scrape that has begun is finished; it has its own timeout
	for {
		l.scrape(uncancelled, client)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			l.scrape(uncancelled, client)
			return
		}
	}
}

// scrape reads the target once and writes what it found, or that it found nothing.
func (l *loop) scrape(ctx context.Context, client *http.Client) {
	began := time.Now()
	at := max(began.UnixMilli(), l.at+1)
	series, err := l.read(ctx, client)
	took := time.Since(began)

	samples := l.samples(at, series)
	samples = append(samples, l.stale(at, series, err)...)
	samples = append(samples, l.report(at, len(series), took, err)...)
	refused := l.scraper.store.AppendAll(samples)

	l.remember(at, series, err)
	l.note(began, len(series), err, refused)
}

func (l *loop) read(ctx context.Context, client *http.Client) ([]exposed, error) {
	body, contentType, err := l.target.fetch(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("scrape %v: %w", l.labels, err)
	}
	series, err := parse(body, contentType)
	if err != nil {
		return nil, fmt.Errorf("scrape %v: parse the exposition: %w", l.labels, err)
	}
	for i := range series {
		series[i].labels = within(l.labels, series[i].labels)
	}
	return series, nil
}

// samples are the values, and a 0 at the time of the scrape before for the counters that it did not show.
func (l *loop) samples(at int64, series []exposed) []Sample {
	all := make([]Sample, 0, len(series))
	for _, s := range series {
		if l.began(s) {
			all = append(all, Sample{s.labels, Point{l.at, 0}})
		}
		all = append(all, Sample{s.labels, Point{at, s.value}})
	}
	return all
}

// began is true for a counter that was not there at the last scrape. One that was just gone, and is back, continues: its
// series still ends in a value.
func (l *loop) began(s exposed) bool {
	if !s.cumulative || l.last == nil {
		return false
	}
	hash := s.labels.Hash()
	_, known := l.last[hash]
	return !known && !l.ended[hash]
}

// stale ends the series of the last scrape that this one does not show.
func (l *loop) stale(at int64, series []exposed, err error) []Sample {
	gone := l.last
	if err == nil {
		gone = l.gone(series)
	}
	var all []Sample
	for _, l := range gone {
		all = append(all, Sample{l, Point{at, Stale}})
	}
	return all
}

func (l *loop) gone(series []exposed) map[uint64]Labels {
	now := byHash(series)
	gone := map[uint64]Labels{}
	for hash, labels := range l.last {
		if _, still := now[hash]; !still {
			gone[hash] = labels
		}
	}
	return gone
}

func byHash(series []exposed) map[uint64]Labels {
	all := make(map[uint64]Labels, len(series))
	for _, s := range series {
		all[s.labels.Hash()] = s.labels
	}
	return all
}

// report is what Prometheus writes about every scrape.
func (l *loop) report(at int64, series int, took time.Duration, err error) []Sample {
	up := 1.0
	if err != nil {
		up = 0
	}
	return []Sample{
		l.sample("up", at, up),
		l.sample("scrape_duration_seconds", at, took.Seconds()),
		l.sample("scrape_samples_scraped", at, float64(series)),
	}
}

func (l *loop) sample(name string, at int64, v float64) Sample {
	return Sample{labels.NewBuilder(l.labels).Set(model.MetricNameLabel, name).Labels(), Point{at, v}}
}

func (l *loop) remember(at int64, series []exposed, err error) {
	l.at, l.ended = at, nil
	if err != nil {
		l.last = nil
		return
	}
	l.ended = map[uint64]bool{}
	for hash := range l.gone(series) {
		l.ended[hash] = true
	}
	l.last = byHash(series)
}

// note counts the scrape in the target's health.
func (l *loop) note(at time.Time, series int, err, refused error) {
	l.scraper.mu.Lock()
	defer l.scraper.mu.Unlock()
	l.health.Scrapes++
	if err != nil {
		l.health.Failed++
		l.health.LastErr = err
		return
	}
	l.health.LastOK, l.health.Series = at, series
	if many, ok := refused.(interface{ Unwrap() []error }); ok {
		l.health.Rejected += len(many.Unwrap())
		l.health.LastErr = refused
	}
}
