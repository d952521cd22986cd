package analyzer

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Querier answers a PromQL query at the current moment with one number; ok is false when there is none.
type Querier interface {
	Query(ctx context.Context, query string) (value float64, ok bool, err error)
}

// OnNoData says what a query without an answer means.
type OnNoData string

// Meanings of no data.
const (
	Inconclusive OnNoData = "inconclusive"
	Fail         OnNoData = "fail"
	Pass         OnNoData = "pass"
)

// Query is a check by PromQL: a condition on a figure that is measured at intervals. Like Argo Rollouts' failureLimit, the limit is how many failed measurements are tolerated. It makes no
// statistical claim.
type Query struct {
	Name         string
	Critical     bool
	Text         string
	Condition    string
	Interval     time.Duration
	FailureLimit int
	OnNoData     OnNoData
	Holds        func(result float64) (bool, error) // evaluates the condition

	measured int
	failures int
	empty    int
	last     float64
	lastErr  error
}

// Take takes one measurement.
func (q *Query) Take(value float64, ok bool, err error) {
	if err == nil && ok {
		var holds bool
		if holds, err = q.Holds(value); err == nil {
			q.measured++
			q.last, q.lastErr = value, nil
			if !holds {
				q.failures++
			}
			return
		}
	}
	q.empty++
	q.lastErr = err
	if q.OnNoData == Fail {
		q.failures++
	}
}

// Check is the state of the check.
func (q *Query) Check() Check {
	check := Check{
		Name: q.Name, Critical: q.Critical, Query: q.Text, Value: finite(q.last), Threshold: float64(q.FailureLimit), Samples: uint64(q.measured),
		Reason: fmt.Sprintf("%s was %s at the last of %d measurements; %d failed, %d are tolerated", q.Condition, strconv.FormatFloat(q.last, 'g', 5, 64), q.measured, q.failures, q.FailureLimit),
	}
	switch {
	case q.failures > q.FailureLimit:
		check.Verdict = Bad
	case q.measured > 0:
		check.Verdict = Good
	case q.OnNoData == Pass && q.empty > 0:
		check.Verdict, check.Reason = Good, "the query has no data, which counts as good"
	default:
		check.Verdict, check.Reason = NoData, "the query has no data yet"
	}
	if q.measured == 0 && q.lastErr != nil {
		check.Reason = q.lastErr.Error()
	}
	return check
}
