package metrics

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// Labels name a series. They are sorted and cannot change.
type Labels = labels.Labels

// LabelsOf makes Labels of a map. The metric's name is the label __name__; labels with an empty value do not exist.
func LabelsOf(m map[string]string) Labels {
	b := labels.NewScratchBuilder(len(m))
	for name, v := range m {
		if v != "" {
			b.Add(name, v)
		}
	}
	b.Sort()
	return b.Labels()
}

// A Point is a series' value at a time, in milliseconds since the Unix epoch. Stale marks the end of a series.
type Point struct {
	T int64
	V float64
}

// Stale is the value that ends a series: from its time on queries no longer see the value before. It is a NaN of its own
// bit pattern; IsStale recognises it.
var Stale = math.Float64frombits(value.StaleNaN)

// IsStale is true for Stale and false for every other NaN.
func IsStale(v float64) bool { return value.IsStaleNaN(v) }

// A Sample is a Point and the series that it belongs to.
type Sample struct {
	Labels Labels
	Point
}

// A Series is what the Store holds of one series, in order of time.
type Series struct {
	Labels Labels
	Points []Point
}

// Errors of Append.
var (
	ErrOutOfOrder = errors.New("sample is older than the series' last")
	ErrConflict   = errors.New("series has another value at that time")
	ErrFull       = errors.New("store holds as many series as it may")
	ErrNoName     = errors.New("series has no metric name")
)

// Bounds of a Store. Zero values take the defaults.
type Bounds struct {
	// Retention is how far before a series' newest point its older points are kept. DefaultRetention when 0.
	Retention time.Duration
	// MaxSeries is how many series there may be; further ones are refused with ErrFull. DefaultMaxSeries when 0.
	MaxSeries int
}

// Defaults of Bounds. A thousand series of a proxy (Istio's have some 550) times a hundred proxies fit.
const (
	DefaultRetention = time.Hour
	DefaultMaxSeries = 100_000
)

// A Store keeps series in memory. It is safe for concurrent use, and readers see all samples of one Append or none.
type Store struct {
	bounds Bounds

	mu     sync.RWMutex
	byHash map[uint64][]*series // more than one only when hashes collide
	byName map[string][]*series
	count  int
}

// series holds points in order of time. Points once written are never changed, so a slice of them can be read after
// the lock is gone.
type series struct {
	labels Labels
	points []Point
}

// NewStore makes an empty Store.
func NewStore(b Bounds) *Store {
	if b.Retention == 0 {
		b.Retention = DefaultRetention
	}
	if b.MaxSeries == 0 {
		b.MaxSeries = DefaultMaxSeries
	}
	return &Store{bounds: b, byHash: map[uint64][]*series{}, byName: map[string][]*series{}}
}

// Append adds a value to a series, which begins with its first. Times are kept in milliseconds.
func (s *Store) Append(l Labels, t time.Time, v float64) error {
	return s.AppendAll([]Sample{{Labels: l, Point: Point{T: t.UnixMilli(), V: v}}})
}

// AppendAll adds samples at once. The good ones are added even when others are refused; the error names every refusal.
// A sample that is already there, with the same value, is no error.
func (s *Store) AppendAll(samples []Sample) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var refused []error
	for _, sample := range samples {
		if err := s.append(sample); err != nil {
			refused = append(refused, fmt.Errorf("append to %v: %w", sample.Labels, err))
		}
	}
	return errors.Join(refused...)
}

func (s *Store) append(sample Sample) error {
	series, err := s.series(sample.Labels)
	if err != nil {
		return err
	}
	if n := len(series.points); n > 0 {
		switch last := series.points[n-1]; {
		case sample.T < last.T:
			return ErrOutOfOrder
		case sample.T == last.T && math.Float64bits(sample.V) == math.Float64bits(last.V):
			return nil
		case sample.T == last.T:
			return ErrConflict
		}
	}
	series.points = append(series.points, sample.Point)
	series.forget(sample.T - s.bounds.Retention.Milliseconds())
	return nil
}

// series finds the series of that name or begins it.
func (s *Store) series(l Labels) (*series, error) {
	hash := l.Hash()
	for _, candidate := range s.byHash[hash] {
		if labels.Equal(candidate.labels, l) {
			return candidate, nil
		}
	}
	name := l.Get(model.MetricNameLabel)
	switch {
	case name == "":
		return nil, ErrNoName
	case s.count >= s.bounds.MaxSeries:
		return nil, ErrFull
	}
	made := &series{labels: l}
	s.byHash[hash] = append(s.byHash[hash], made)
	s.byName[name] = append(s.byName[name], made)
	s.count++
	return made, nil
}

// forget drops the points before t, once they are half of all, into a new array: readers may still hold the old one.
func (s *series) forget(t int64) {
	old := sort.Search(len(s.points), func(i int) bool { return s.points[i].T >= t })
	if old > 16 && old >= len(s.points)/2 {
		s.points = slices.Clone(s.points[old:])
	}
}

// Len is the number of series.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.count
}

// Select returns the series that every matcher accepts and that have points from one time to another, both included, in
// milliseconds, sorted by their labels. The points are shared with the Store: they are not to be changed.
func (s *Store) Select(from, to int64, matchers ...*labels.Matcher) []Series {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []Series
	for _, candidate := range s.candidates(matchers) {
		if !matches(candidate.labels, matchers) {
			continue
		}
		if points := between(candidate.points, from, to); len(points) > 0 {
			found = append(found, Series{Labels: candidate.labels, Points: points})
		}
	}
	slices.SortFunc(found, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) })
	return found
}

// candidates narrows the search to a metric's name when the matchers give one.
func (s *Store) candidates(matchers []*labels.Matcher) []*series {
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			return s.byName[m.Value]
		}
	}
	var all []*series
	for _, named := range s.byName {
		all = append(all, named...)
	}
	return all
}

func matches(l Labels, matchers []*labels.Matcher) bool {
	for _, m := range matchers {
		if !m.Matches(l.Get(m.Name)) {
			return false
		}
	}
	return true
}

func between(points []Point, from, to int64) []Point {
	first := sort.Search(len(points), func(i int) bool { return points[i].T >= from })
	end := sort.Search(len(points), func(i int) bool { return points[i].T > to })
	if end <= first {
		return nil
	}
	return points[first:end:end]
}
