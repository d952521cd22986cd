package promql

import (
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	prom "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// fromProm copies an engine's value: what the engine returned is reused when the query is closed.
func fromProm(v parser.Value) (Value, error) {
	switch v := v.(type) {
	case prom.Scalar:
		return Value{Kind: Scalar, Series: []Series{{Labels: map[string]string{}, Points: []Point{point(v.T, v.V)}}}}, nil
	case prom.String:
		return Value{Kind: Text, Text: v.V}, nil
	case prom.Vector:
		return fromVector(v)
	case prom.Matrix:
		return fromMatrix(v)
	default:
		return Value{}, fmt.Errorf("result of type %T is not known", v)
	}
}

func fromVector(v prom.Vector) (Value, error) {
	out := Value{Kind: Vector, Series: make([]Series, len(v))}
	for i, s := range v {
		if s.H != nil {
			return Value{}, errHistogram(s.Metric)
		}
		out.Series[i] = Series{Labels: s.Metric.Map(), Points: []Point{point(s.T, s.F)}}
	}
	return out, nil
}

func fromMatrix(m prom.Matrix) (Value, error) {
	out := Value{Kind: Matrix, Series: make([]Series, len(m))}
	for i, s := range m {
		if len(s.Histograms) > 0 {
			return Value{}, errHistogram(s.Metric)
		}
		points := make([]Point, len(s.Floats))
		for j, p := range s.Floats {
			points[j] = point(p.T, p.F)
		}
		out.Series[i] = Series{Labels: s.Metric.Map(), Points: points}
	}
	return out, nil
}

func point(ms int64, v float64) Point { return Point{T: time.UnixMilli(ms).UTC(), V: v} }

func errHistogram(l labels.Labels) error {
	return fmt.Errorf("%w: %v is a native histogram, and no number", ErrQuery, l)
}
