// Package promql asks what metrics remembers: PromQL over the in-memory store, by Prometheus's own engine, or over the
// HTTP API of a Prometheus that is there. Both are a [Querier] with results of their own type, so that what judges
// depends on neither.
//
// A question that cannot be answered is an error; an answer without data is a [Value] without series.
package promql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	prom "github.com/prometheus/prometheus/promql"

	"meshtest.dev/meshtest/metrics"
)

// A Querier answers PromQL queries.
type Querier interface {
	// Instant evaluates the query at t.
	Instant(ctx context.Context, query string, t time.Time) (Value, error)
	// Range evaluates the query at start and then every step until end, which is included if a step falls on it. The
	// Value is a Matrix.
	Range(ctx context.Context, query string, start, end time.Time, step time.Duration) (Value, error)
}

// Errors of a Querier. Any other says that the source did not answer.
var (
	ErrQuery   = errors.New("the query is wrong") // it cannot be parsed or evaluated; asking again does not help
	ErrTimeout = errors.New("the query took too long")
)

// Options of an Engine. Zero values take the defaults.
type Options struct {
	// Lookback is how old a series' newest value may be to count as its value now. DefaultLookback when 0.
	Lookback time.Duration
	// Timeout is the longest that a query may take. DefaultTimeout when 0.
	Timeout time.Duration
	// MaxSamples is how many samples a query may hold in memory. DefaultMaxSamples when 0.
	MaxSamples int
}

// Defaults of Options: Prometheus's lookback and sample limit (query.lookback-delta, query.max-samples). Its timeout is
// 2 minutes; a run that asks every second cannot wait so long.
const (
	DefaultLookback   = 5 * time.Minute
	DefaultTimeout    = 10 * time.Second
	DefaultMaxSamples = 50_000_000
)

// An Engine answers from a metrics.Store. It is safe for concurrent use.
type Engine struct {
	engine *prom.Engine
	store  queryable
}

var _ Querier = (*Engine)(nil)

// NewEngine makes an Engine over store.
func NewEngine(store *metrics.Store, o Options) *Engine {
	return &Engine{store: queryable{store}, engine: prom.NewEngine(prom.EngineOpts{
		LookbackDelta:            orDefault(o.Lookback, DefaultLookback),
		Timeout:                  orDefault(o.Timeout, DefaultTimeout),
		MaxSamples:               orDefault(o.MaxSamples, DefaultMaxSamples),
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Second.Milliseconds() },
	})}
}

func orDefault[T int | time.Duration](value, otherwise T) T {
	if value == 0 {
		return otherwise
	}
	return value
}

// Instant implements Querier.
func (e *Engine) Instant(ctx context.Context, query string, t time.Time) (Value, error) {
	q, err := e.engine.NewInstantQuery(ctx, e.store, nil, query, t)
	return e.exec(ctx, query, q, err)
}

// Range implements Querier.
func (e *Engine) Range(ctx context.Context, query string, start, end time.Time, step time.Duration) (Value, error) {
	if err := checkRange(start, end, step); err != nil {
		return Value{}, err
	}
	q, err := e.engine.NewRangeQuery(ctx, e.store, nil, query, start, end, step)
	return e.exec(ctx, query, q, err)
}

func checkRange(start, end time.Time, step time.Duration) error {
	switch {
	case step < time.Millisecond:
		return fmt.Errorf("%w: step %v is below a millisecond", ErrQuery, step)
	case end.Before(start):
		return fmt.Errorf("%w: it ends %v before it begins", ErrQuery, start.Sub(end))
	default:
		return nil
	}
}

func (e *Engine) exec(ctx context.Context, query string, q prom.Query, err error) (Value, error) {
	if err != nil {
		return Value{}, fmt.Errorf("%w: parse %q: %w", ErrQuery, query, err)
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return Value{}, fmt.Errorf("evaluate %q: %w", query, kindOf(result.Err))
	}
	v, err := fromProm(result.Value)
	if err != nil {
		return Value{}, fmt.Errorf("evaluate %q: %w", query, err)
	}
	warnings, infos := result.Warnings.AsStrings(query, 0, 0)
	v.Warnings = slices.Concat(warnings, infos)
	return v, nil
}

// kindOf adds ErrTimeout or ErrQuery to an error of the engine's. What was cancelled is neither.
func kindOf(err error) error {
	var timeout prom.ErrQueryTimeout
	var cancelled prom.ErrQueryCanceled
	var storage prom.ErrStorage
	switch {
	case errors.As(err, &timeout):
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	case errors.As(err, &cancelled):
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case errors.As(err, &storage):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrQuery, err)
	}
}
