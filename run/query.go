package run

import (
	"context"
	"fmt"
	"time"

	"meshtest.dev/meshtest/metrics/promql"
)

// Querier answers PromQL queries.
type Querier interface {
	Instant(ctx context.Context, query string, t time.Time) (promql.Value, error)
}

// ask answers a query now. ok is false when there is no data for it.
func ask(ctx context.Context, of Querier, query string) (value float64, ok bool, err error) {
	answer, err := of.Instant(ctx, query, time.Now())
	if err != nil {
		return 0, false, err
	}
	n, found := answer.One()
	switch found {
	case promql.Number:
		return n, true, nil
	case promql.Many:
		return 0, false, fmt.Errorf("the query has more than one value: aggregate it, with sum() or max()")
	default:
		return 0, false, nil
	}
}
