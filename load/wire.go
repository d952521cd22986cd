package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Bounds of what is read from a wire form.
const (
	maxWireSteps   = 1_000
	maxWireHeaders = 1_000
	maxWireNames   = 64
	maxWireFlight  = 1 << 16
	maxWireQueue   = 1 << 18
)

// streamWire is a Stream as data. Durations are in nanoseconds.
type streamWire struct {
	Name        string        `json:"name"`
	GRPC        bool          `json:"grpc,omitempty"`
	Method      string        `json:"method,omitempty"`
	URL         string        `json:"url"`
	Headers     http.Header   `json:"headers,omitempty"`
	Body        []byte        `json:"body,omitempty"`
	Pacer       pacerWire     `json:"pacer"`
	Duration    time.Duration `json:"duration,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"`
	Grace       time.Duration `json:"grace,omitempty"`
	MaxInFlight int           `json:"maxInFlight,omitempty"`
	MaxBody     int64         `json:"maxBody,omitempty"`
	Queue       int           `json:"queue,omitempty"`
	Expect      []StatusRange `json:"expect,omitempty"`
	Capture     []string      `json:"capture,omitempty"`
	Address     string        `json:"address,omitempty"`
}

// pacerWire is a Pacer as data: one curve, and whether its arrivals are random.
type pacerWire struct {
	Constant *float64  `json:"constant,omitempty"` // hits per second
	Ramp     *rampWire `json:"ramp,omitempty"`
	Sine     *Wave     `json:"sine,omitempty"`
	Steps    []Step    `json:"steps,omitempty"`
	Poisson  *uint64   `json:"poisson,omitempty"` // seed
}

type rampWire struct {
	From float64       `json:"from"`
	To   float64       `json:"to"`
	Over time.Duration `json:"over"`
}

// MarshalJSON writes the stream so that another process can run it. A stream with a Dial of its own, or a schedule that is not one of this package's, cannot be written.
func (s Stream) MarshalJSON() ([]byte, error) {
	if s.Dial != nil {
		return nil, fmt.Errorf("stream %q has a way to dial of its own, which is no data: want an address", s.Name)
	}
	pacer, err := toWire(s.Pacer)
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w", s.Name, err)
	}
	return json.Marshal(streamWire{
		Name: s.Name, GRPC: s.GRPC, Method: s.Method, URL: s.URL, Headers: s.Headers, Body: s.Body, Pacer: pacer,
		Duration: s.Duration, Timeout: s.Timeout, Grace: s.Grace, MaxInFlight: s.MaxInFlight, MaxBody: s.MaxBody, Queue: s.Queue,
		Expect: s.Expect, Capture: s.Capture, Address: s.Address,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote. A field that it does not know is an error, and so is a stream that does not pass Validate or asks for an absurd amount of memory:
// what cannot be run as it was meant is not run.
func (s *Stream) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var w streamWire
	if err := dec.Decode(&w); err != nil {
		return fmt.Errorf("read a stream: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("read a stream: something follows it")
	}
	if err := w.check(); err != nil {
		return fmt.Errorf("read stream %q: %w", w.Name, err)
	}
	pacer, err := w.Pacer.pacer()
	if err != nil {
		return fmt.Errorf("read stream %q: %w", w.Name, err)
	}
	read := Stream{
		Name: w.Name, GRPC: w.GRPC, Method: w.Method, URL: w.URL, Headers: w.Headers, Body: w.Body, Pacer: pacer,
		Duration: w.Duration, Timeout: w.Timeout, Grace: w.Grace, MaxInFlight: w.MaxInFlight, MaxBody: w.MaxBody, Queue: w.Queue,
		Expect: w.Expect, Capture: w.Capture, Address: w.Address,
	}
	if err := read.Validate(); err != nil {
		return fmt.Errorf("read a stream: %w", err)
	}
	*s = read
	return nil
}

func (w streamWire) check() error {
	for _, bound := range []struct {
		what      string
		have, max int
	}{
		{"headers", len(w.Headers), maxWireHeaders},
		{"expected ranges of statuses", len(w.Expect), maxWireNames},
		{"captured headers", len(w.Capture), maxWireNames},
		{"requests in flight", w.MaxInFlight, maxWireFlight},
		{"records in the queue", w.Queue, maxWireQueue},
		{"steps", len(w.Pacer.Steps), maxWireSteps},
	} {
		if bound.have > bound.max {
			return fmt.Errorf("%d %s: want at most %d", bound.have, bound.what, bound.max)
		}
	}
	return nil
}

// toWire is the data that a schedule is made of.
func toWire(p Pacer) (pacerWire, error) {
	switch p := p.(type) {
	case constant:
		rate := float64(p)
		return pacerWire{Constant: &rate}, nil
	case ramp:
		return pacerWire{Ramp: &rampWire{p.from, p.to, p.over}}, nil
	case sine:
		wave := Wave(p)
		return pacerWire{Sine: &wave}, nil
	case stepped:
		return pacerWire{Steps: p.steps()}, nil
	case *poisson:
		w, err := toWire(p.Curve)
		w.Poisson = &p.seed
		return w, err
	default:
		return pacerWire{}, fmt.Errorf("schedule of type %T is not known elsewhere", p)
	}
}

// steps are what Steps made the schedule of.
func (c stepped) steps() []Step {
	steps := make([]Step, len(c))
	for i, s := range c {
		steps[i] = s.Step
		if s.end() == Forever {
			steps[i].For = 0
		}
	}
	return steps
}

func (w pacerWire) pacer() (Pacer, error) {
	c, err := w.curve()
	if err != nil || w.Poisson == nil {
		return c, err
	}
	return Poisson(c, *w.Poisson), nil
}

func (w pacerWire) curve() (Curve, error) {
	given := 0
	for _, is := range []bool{w.Constant != nil, w.Ramp != nil, w.Sine != nil, w.Steps != nil} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, fmt.Errorf("%d schedules: want one", given)
	case w.Constant != nil:
		return Constant(*w.Constant)
	case w.Ramp != nil:
		return Ramp(w.Ramp.From, w.Ramp.To, w.Ramp.Over)
	case w.Sine != nil:
		return Sine(*w.Sine)
	default:
		return Steps(w.Steps...)
	}
}
