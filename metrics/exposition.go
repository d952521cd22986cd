package metrics

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// exposed is one series as a target shows it.
type exposed struct {
	labels     Labels
	value      float64
	cumulative bool // it counts from 0: a counter, or a part of a histogram or summary
}

// Take appends an exposition as a scrape at that time would, with the target's labels: for one that was read in another way. Of counters that begin it does not know that they were 0 before.
func (s *Store) Take(at time.Time, target map[string]string, body []byte, contentType string) error {
	series, err := parse(body, contentType)
	if err != nil {
		return fmt.Errorf("parse the exposition: %w", err)
	}
	samples := make([]Sample, 0, len(series))
	for _, e := range series {
		samples = append(samples, Sample{within(LabelsOf(target), e.labels), Point{at.UnixMilli(), e.value}})
	}
	return s.AppendAll(samples)
}

// parse reads a whole exposition, in Prometheus's text format or OpenMetrics. Timestamps in it are not used: a target
// that reports values of another time would have them out of step with everybody else's. Native histograms are refused,
// since they cannot be kept: a target that asks is told to send text, which has none.
func parse(body []byte, contentType string) ([]exposed, error) {
	parser, err := textparse.New(body, contentType, labels.NewSymbolTable(), textparse.ParserOptions{
		FallbackContentType:     "text/plain",
		OpenMetricsSkipSTSeries: true,
	})
	if parser == nil {
		return nil, fmt.Errorf("choose a parser: %w", err)
	}
	var all []exposed
	var family string
	var kind model.MetricType
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("after %d series: %w", len(all), err)
		}
		switch entry {
		case textparse.EntryType:
			name, t := parser.Type()
			family, kind = string(name), t
		case textparse.EntryHistogram:
			return nil, errors.New("native histograms are not supported")
		case textparse.EntrySeries:
			_, _, v := parser.Series()
			var l Labels
			parser.Labels(&l)
			all = append(all, exposed{labels: l, value: v, cumulative: cumulative(l.Get(model.MetricNameLabel), family, kind)})
		}
	}
}

// cumulative is true when a series of that name, in a family of that kind, starts at 0 and only grows.
func cumulative(name, family string, kind model.MetricType) bool {
	suffix, ok := strings.CutPrefix(name, family)
	if !ok {
		return false
	}
	switch kind {
	case model.MetricTypeCounter:
		return suffix == "" || suffix == "_total"
	case model.MetricTypeHistogram:
		return suffix == "_bucket" || suffix == "_count" || suffix == "_sum"
	case model.MetricTypeSummary:
		return suffix == "_count" || suffix == "_sum"
	default:
		return false
	}
}

// within adds the target's labels to a series' own. Where both have one, the series' own becomes exported_NAME, as in
// Prometheus: a target cannot pass for another.
func within(target, own Labels) Labels {
	b := labels.NewBuilder(own)
	target.Range(func(l labels.Label) {
		if clash := own.Get(l.Name); clash != "" {
			name := model.ExportedLabelPrefix + l.Name
			for own.Get(name) != "" || target.Get(name) != "" {
				name = model.ExportedLabelPrefix + name
			}
			b.Set(name, clash)
		}
		b.Set(l.Name, l.Value)
	})
	return b.Labels()
}
