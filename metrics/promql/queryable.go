package promql

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"meshtest.dev/meshtest/metrics"
)

// queryable shows a Store to the engine.
type queryable struct{ *metrics.Store }

var _ storage.Queryable = queryable{}

func (q queryable) Querier(mint, maxt int64) (storage.Querier, error) {
	return querier{store: q.Store, mint: mint, maxt: maxt}, nil
}

type querier struct {
	store      *metrics.Store
	mint, maxt int64
}

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return &seriesSet{found: q.store.Select(q.mint, q.maxt, ms...)}
}

func (q querier) LabelValues(_ context.Context, name string, _ *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.collect(ms, func(l labels.Label) (string, bool) { return l.Value, l.Name == name }), nil, nil
}

func (q querier) LabelNames(_ context.Context, _ *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.collect(ms, func(l labels.Label) (string, bool) { return l.Name, true }), nil, nil
}

// collect gathers something of every label of the matching series, sorted and without repetition.
func (q querier) collect(ms []*labels.Matcher, pick func(labels.Label) (string, bool)) []string {
	var all []string
	for _, s := range q.store.Select(q.mint, q.maxt, ms...) {
		s.Labels.Range(func(l labels.Label) {
			if picked, ok := pick(l); ok {
				all = append(all, picked)
			}
		})
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (q querier) Close() error { return nil }

type seriesSet struct {
	found []metrics.Series
	next  int
}

func (s *seriesSet) Next() bool                        { s.next++; return s.next <= len(s.found) }
func (s *seriesSet) At() storage.Series                { return entry(s.found[s.next-1]) }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

func entry(s metrics.Series) storage.Series {
	return &storage.SeriesEntry{Lset: s.Labels, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return storage.NewListSeriesIterator(points(s.Points))
	}}
}

// points are samples without a copy; the store has no native histograms.
type points []metrics.Point

func (p points) Len() int                { return len(p) }
func (p points) Get(i int) chunks.Sample { return sample{&p[i]} }

type sample struct{ p *metrics.Point }

func (s sample) T() int64                      { return s.p.T }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.p.V }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { p := *s.p; return sample{&p} }
