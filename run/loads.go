package run

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/agent"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

// loadWindow is the width of the windows in which reports show what users felt.
const loadWindow = 250 * time.Millisecond

// streamRun is one stream of load under way.
type streamRun struct {
	plan.Stream
	timeline *load.Timeline
	ended    bool
	result   *load.Result // nil until it ended, or when it could not be sent
	err      error
}

// loader sends streams: from this process, or from inside the mesh.
type loader interface {
	// Run is [load.Run].
	Run(ctx context.Context, s load.Stream, sink func(load.Record)) (*load.Result, error)
}

// ownLoader sends from this process.
type ownLoader struct{}

func (ownLoader) Run(ctx context.Context, s load.Stream, sink func(load.Record)) (*load.Result, error) {
	return load.Run(ctx, s, sink)
}

// loader chooses where load comes from: an agent inside the mesh, if it has one.
func (c *conductor) loader() loader {
	if c.sender != nil {
		return c.sender
	}
	if inside, ok := c.mesh.(env.Loader); ok {
		if dial, token, ok := inside.LoadAgent(); ok {
			return agent.Client{Dial: dial, Token: token}
		}
	}
	return ownLoader{}
}

// startLoads starts every stream, or none. They end when stopped, or by themselves; awaitLoads waits for them.
func (c *conductor) startLoads(ctx context.Context) error {
	from := c.loader()
	var streams []load.Stream
	for _, planned := range c.Plan.Streams {
		s, err := c.stream(planned)
		if err != nil {
			return err
		}
		streams = append(streams, s)
	}
	for i, planned := range c.Plan.Streams {
		run := &streamRun{Stream: planned, timeline: load.NewTimeline(loadWindow)}
		c.loads = append(c.loads, run)
		c.rec.record(journal.Load{Name: planned.Name, Target: planned.Target, Rate: planned.Shape, State: journal.Begun})
		go func() { // awaitLoads hears its last event
			result, err := from.Run(ctx, streams[i], run.timeline.Add)
			c.events <- func() { run.ended, run.result, run.err = true, result, err }
		}()
	}
	return nil
}

// stream is what load sends: to the edge, under the service's own name.
func (c *conductor) stream(p plan.Stream) (load.Stream, error) {
	address, ok := c.mesh.Entry(p.Host, p.Port)
	if !ok {
		return load.Stream{}, fmt.Errorf("load %s: the edge has no way to %s", p.Name, p.Host)
	}
	pacer, err := pacer(p.Load, c.Plan.Seed)
	if err != nil {
		return load.Stream{}, fmt.Errorf("load %s: %w", p.Name, err)
	}
	headers := http.Header{}
	for name, text := range p.Load.Headers {
		value, err := spec.Expand(text, c.loadReference)
		if err != nil {
			return load.Stream{}, fmt.Errorf("load %s: header %s: %w", p.Name, name, err)
		}
		headers.Set(name, value)
	}
	headers.Set(mesh.HeaderToken, c.mesh.Token())
	body := []byte(p.Load.Body)
	if p.Load.GRPC != nil {
		body = p.Load.GRPC.Encoded
	}
	return load.Stream{
		Name: p.Name, GRPC: p.Load.GRPC != nil, Method: p.Load.Method, Headers: headers, Body: body,
		URL:   "http://" + p.Authority + p.Load.Path,
		Pacer: pacer, Duration: p.Load.Duration, Timeout: p.Load.Timeout, MaxInFlight: p.Load.MaxInFlight,
		Expect: []load.StatusRange{{Min: 200, Max: 499}}, Capture: []string{mesh.HeaderReason},
		Address: address,
	}, nil
}

// loadReference is what a header of the load may refer to.
func (c *conductor) loadReference(r spec.Ref) (string, error) {
	if r.Kind == spec.RefSeed {
		return strconv.FormatUint(c.Plan.Seed, 10), nil
	}
	return "", fmt.Errorf("load knows only ${seed}")
}

// pacer makes the schedule of a stream.
func pacer(s spec.Stream, seed uint64) (load.Pacer, error) {
	curve, err := curve(s)
	if err != nil {
		return nil, err
	}
	if s.Arrival == spec.ArrivalPoisson {
		return load.Poisson(curve, seed), nil
	}
	return curve, nil
}

func curve(s spec.Stream) (load.Curve, error) {
	switch {
	case s.Ramp != nil:
		return load.Ramp(float64(s.Ramp.From), float64(s.Ramp.To), s.Ramp.Over)
	case s.Sine != nil:
		return load.Sine(load.Wave{Mean: float64(s.Sine.Mean), Amplitude: float64(s.Sine.Amplitude), Period: s.Sine.Period})
	case len(s.Steps) > 0:
		var steps []load.Step
		for _, step := range s.Steps {
			steps = append(steps, load.Step{Rate: float64(step.Rate), For: step.Duration})
		}
		return load.Steps(steps...)
	default:
		return load.Constant(float64(s.Rate))
	}
}

// loading reports whether a stream is under way.
func (c *conductor) loading() bool {
	return slices.ContainsFunc(c.loads, func(s *streamRun) bool { return !s.ended })
}

// awaitLoads waits until every stream has ended, and records what each did. An error is that of a stream that could not be sent.
func (c *conductor) awaitLoads() error {
	for c.loading() {
		(<-c.events)()
	}
	var errs []error
	for _, s := range c.loads {
		errs = append(errs, s.err)
		c.recordLoad(s)
	}
	return errors.Join(errs...)
}

func (c *conductor) recordLoad(s *streamRun) {
	r := s.result
	if r == nil {
		return
	}
	byError := map[string]uint64{}
	for class, n := range r.Errors {
		byError[string(class)] = n
	}
	c.rec.record(journal.Load{
		Name: s.Name, Target: s.Target, Rate: s.Shape, State: journal.Ended,
		Scheduled: r.Scheduled, Sent: r.Sent, Completed: r.Completed, Errors: r.Bad(), ByStatus: r.Statuses, ByError: byError,
		SlipP99: r.Slip.Quantile(.99), Latency: r.OK.Hist.AppendSparse(nil), LatencyMax: r.OK.Max,
	})
	for _, w := range s.timeline.Windows() {
		c.rec.record(journal.LoadWindow{
			Name: s.Name, Start: r.Start.Sub(c.rec.begin) + w.Start, Length: w.Width, Requests: w.Intended, Errors: w.Bad, Latency: w.OK.Hist.AppendSparse(nil),
		})
	}
}
