package analyzer

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
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

	program  *vm.Program
	measured int
	failures int
	empty    int
	last     float64
	lastErr  error
}

// environment is what a condition can use, in Argo Rollouts' words.
func environment(result float64) map[string]any {
	return map[string]any{
		"result":  result,
		"isNaN":   math.IsNaN,
		"isInf":   func(f float64) bool { return math.IsInf(f, 0) },
		"asFloat": func(f float64) float64 { return f },
		"asInt":   func(f float64) int { return int(f) },
		"default": func(f, otherwise float64) float64 {
			if math.IsNaN(f) {
				return otherwise
			}
			return f
		},
	}
}

// Compile prepares the condition; it must be called before Take.
func (q *Query) Compile() error {
	program, err := expr.Compile(q.Condition, expr.Env(environment(0)), expr.AsBool(), expr.MaxNodes(1000))
	if err != nil {
		return fmt.Errorf("check %s: compiling condition %q: %w", q.Name, q.Condition, err)
	}
	q.program = program
	return nil
}

// Holds evaluates the condition once.
func (q *Query) Holds(result float64) (bool, error) {
	out, err := expr.Run(q.program, environment(result))
	if err != nil {
		return false, fmt.Errorf("check %s: evaluating %q: %w", q.Name, q.Condition, err)
	}
	holds, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("check %s: %q is no condition", q.Name, q.Condition)
	}
	return holds, nil
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
