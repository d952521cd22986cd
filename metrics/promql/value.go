package promql

import (
	"math"
	"time"
)

// Kind is the type of a query's result.
type Kind string

const (
	Scalar Kind = "scalar" // a number: one Series without labels, with one Point
	Vector Kind = "vector" // one Point for each Series
	Matrix Kind = "matrix" // Points over time for each Series
	Text   Kind = "string" // a string: no Series
)

// A Value is what a query found. No Series is a proper answer: there is no data for it.
type Value struct {
	Kind     Kind
	Series   []Series
	Text     string   // of a Text
	Warnings []string // what the engine had to remark, such as a rate over something that is no counter
}

// A Series is one element of a Value, its Points in order of time.
type Series struct {
	Labels map[string]string // __name__ among them, when the query kept it
	Points []Point
}

// A Point is a value at a time, to the millisecond. V may be NaN or infinite: 0/0 and 1/0 are what a query about a
// service without traffic finds.
type Point struct {
	T time.Time
	V float64
}

// Found says what a Value holds when one number was asked for.
type Found string

const (
	Number Found = "number"  // one, which may be infinite
	NaN    Found = "nan"     // one that is not a number: typically 0/0, no traffic
	NoData Found = "no data" // none: the series do not exist, or ended
	Many   Found = "many"    // more than one: the query does not aggregate
)

// One is the value as a single number. The number counts only when found says Number; otherwise it is NaN.
func (v Value) One() (n float64, found Found) {
	switch {
	case len(v.Series) == 0 || len(v.Series) == 1 && len(v.Series[0].Points) == 0:
		return math.NaN(), NoData
	case len(v.Series) > 1 || len(v.Series[0].Points) > 1:
		return math.NaN(), Many
	case math.IsNaN(v.Series[0].Points[0].V):
		return math.NaN(), NaN
	default:
		return v.Series[0].Points[0].V, Number
	}
}
