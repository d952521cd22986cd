package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Run sends the stream until its Duration is over, its Pacer ends or ctx does, waits for what is under way, and returns
// when nothing of it is left.
//
// When ctx ends, now becomes the end of the schedule: what was due is still sent and answered within the Grace, what is
// not yet due is not missing. That is no error.
//
// The sink, unless nil, gets every Record from one goroutine, in the order of completion. It may be slow for a while:
// the queue in front of it never holds up a request. Records that find the queue full do not reach the sink; they are in
// the Result all the same, and Result.Lost counts them.
//
// An error means that the stream cannot be sent. That nobody answers is no error but a Result.
func Run(ctx context.Context, s Stream, sink func(Record)) (*Result, error) {
	return RunWithin(context.WithoutCancel(ctx), ctx, s, sink)
}

// RunWithin is [Run] for a load that somebody may lose interest in. When life ends the grace is over at once: nothing more is sent, and what is under way is given up, as
// Unanswered.
func RunWithin(life, ctx context.Context, s Stream, sink func(Record)) (*Result, error) {
	if err := errors.Join(s.Validate(), ctx.Err(), life.Err()); err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	r := newRunner(s.withDefaults(), time.Now())
	flushed := r.flush(sink)
	answered := r.attack(life, ctx)
	close(r.queue)
	<-flushed
	return r.result(s.Duration, answered)
}

// A runner sends one stream once.
type runner struct {
	stream   Stream
	start    time.Time
	schedule *schedule
	exchange *exchanger
	queue    chan Record

	inFlight  atomic.Int64
	saturated atomic.Uint64
	skipped   atomic.Uint64 // handed to a worker when it was too late to send
	lost      atomic.Uint64

	mu      sync.Mutex
	summary Summary
}

func newRunner(s Stream, start time.Time) *runner {
	r := &runner{stream: s, start: start, queue: make(chan Record, s.Queue)}
	r.schedule = newSchedule(s.Pacer, s.Duration, r.since)
	r.exchange = newExchanger(s, r.since)
	return r
}

// since is the time since the start, on the monotonic clock.
func (r *runner) since() time.Duration { return time.Since(r.start) }

// attack lets vegeta send the stream and returns how many hits it made.
func (r *runner) attack(life, ctx context.Context) (hits uint64) {
	requests, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer r.exchange.transport.CloseIdleConnections()

	attacker := vegeta.NewAttacker(
		vegeta.Client(&http.Client{Transport: roundTripper(func(req *http.Request) error { return r.hit(requests, req) })}),
		vegeta.Workers(uint64(r.stream.MaxInFlight)),
		vegeta.MaxWorkers(uint64(r.stream.MaxInFlight)),
	)
	results := attacker.Attack(r.target, r.schedule, 0, "")

	deadline := newDeadline(r.stream.Duration, r.stream.Grace)
	defer deadline.Stop()
	ended, lost := ctx.Done(), life.Done()
	for {
		select {
		case _, open := <-results:
			if !open {
				return hits
			}
			hits++
		case <-ended:
			ended = nil
			r.schedule.stop()
			deadline.Reset(r.stopping())
		case <-lost:
			ended, lost = nil, nil
			r.schedule.stop()
			deadline.Reset(0)
		case <-deadline.C:
			ended, lost = nil, nil
			close(r.schedule.cut)
			attacker.Stop()
			giveUp()
		}
	}
}

// newDeadline fires when the grace after the schedule is over. For a schedule without an end that is never.
func newDeadline(duration, grace time.Duration) *time.Timer {
	return time.NewTimer(min(fallback(duration, Forever), Forever-grace) + grace)
}

// stopping is how long the grace lasts from now on, after the schedule was stopped.
func (r *runner) stopping() time.Duration { return max(r.schedule.ends()+r.stream.Grace-r.since(), 0) }

func (r *runner) target(t *vegeta.Target) error {
	t.Method, t.URL = r.stream.Method, r.stream.URL
	return nil
}

// A roundTripper carries out a request, records what became of it, and tells vegeta nothing.
type roundTripper func(req *http.Request) error

func (hit roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := hit(req); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: req}, nil
}

var errTooLate = errors.New("the grace was over")

// hit sends one request, on a worker of vegeta's.
func (r *runner) hit(ctx context.Context, req *http.Request) error {
	seq, err := sequence(req)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		r.skipped.Add(1)
		return errTooLate
	}
	intended, _ := r.schedule.pacer.At(seq)
	if r.inFlight.Add(1) >= int64(r.stream.MaxInFlight) {
		r.saturated.Add(1)
	}
	defer r.inFlight.Add(-1)
	r.record(r.exchange.do(ctx, req, seq, intended))
	return nil
}

func (r *runner) record(rec Record) {
	r.mu.Lock()
	r.summary.Add(rec)
	r.mu.Unlock()
	select {
	case r.queue <- rec:
	default:
		r.lost.Add(1)
	}
}

// flush hands the queue to the sink until it is closed.
func (r *runner) flush(sink func(Record)) (done chan struct{}) {
	if sink == nil {
		sink = func(Record) {}
	}
	done = make(chan struct{})
	go func() {
		defer close(done)
		for rec := range r.queue {
			sink(rec)
		}
	}()
	return done
}

func (r *runner) result(duration time.Duration, hits uint64) (*Result, error) {
	if recorded := r.summary.Sent + r.skipped.Load(); hits != recorded {
		return nil, fmt.Errorf("account for the load: vegeta made %d hits and %d were recorded", hits, recorded)
	}
	end := r.schedule.ends()
	return &Result{
		Stream:    r.stream.Name,
		Start:     r.start,
		End:       end,
		Elapsed:   r.since(),
		Stopped:   end != fallback(duration, Forever),
		Scheduled: max(Count(r.stream.Pacer, end), r.summary.Sent), // a hit due at the very instant of a stop may be sent
		Saturated: r.saturated.Load(),
		Lost:      r.lost.Load(),
		Summary:   r.summary,
	}, nil
}
