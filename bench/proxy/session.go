package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
)

// What is compared. HTTP/2 has several requests under way on each connection, as its callers do.
var fields = []field{
	{part: partHTTP1, title: "HTTP/1.1", tool: "wrk", drive: overHTTP1, connections: []int{1, 32, 256}, contenders: []string{sidecar, haproxy, nginx, reverseProxy}, bars: []promise{
		{1, haproxy, 1.2}, {32, haproxy, 1}, {256, haproxy, 1}, {1, reverseProxy, 0.35}, {32, reverseProxy, 0.35}, {256, reverseProxy, 0.35},
	}},
	{part: partTLS, title: "HTTP/1.1, TLS to the origin", tool: "wrk", drive: overHTTP1, secure: true, connections: []int{1, 32, 256}, contenders: []string{sidecar, haproxy, nginx}, bars: []promise{
		{1, haproxy, 1}, {32, haproxy, 1}, {256, haproxy, 1},
	}},
	{part: partHTTP2, title: fmt.Sprintf("HTTP/2, %d streams on each connection", streams), tool: "h2load", drive: overHTTP2, connections: []int{1, 8, 32}, contenders: []string{sidecar, nginx, haproxy, reverseProxy}, bars: []promise{
		{1, nginx, 2.5}, {8, nginx, 2.5}, {32, nginx, 2.5},
	}},
}

// promise is how many times as much as a peer's our processor time of a request may be.
type promise struct {
	connections int
	peer        string
	atMost      float64
}

// session is one run of the program.
type session struct {
	options
	bed           *bed
	programs      programs
	out           io.Writer
	plain, secure map[string]*contender // that have been started
	capacities    map[string]float64    // of the plain ones, in requests per second
	bars          []bar
}

func (s *session) close() {
	for _, entered := range []map[string]*contender{s.plain, s.secure} {
		for _, c := range entered {
			c.stop()
		}
	}
}

func (s *session) progress(text string) {
	if s.verbose {
		fmt.Fprintln(os.Stderr, text)
	}
}

// run carries out the parts that were asked for. What goes wrong in one of them does not keep it from the others.
func (s *session) run(ctx context.Context) (err error) {
	asked := func(part string) bool { return slices.Contains(s.only, part) && ctx.Err() == nil }
	for _, f := range fields {
		if asked(f.part) {
			err = errors.Join(err, s.compare(ctx, f))
		}
	}
	if asked(partLatency) {
		err = errors.Join(err, s.latency(ctx))
	}
	if asked(partSyscalls) {
		err = errors.Join(err, s.syscalls(ctx))
	}
	if asked(partMemory) {
		err = errors.Join(err, s.memory(ctx))
	}
	return errors.Join(err, ctx.Err())
}

// enter starts those contenders that are installed and not yet there.
func (s *session) enter(ctx context.Context, names []string, secure bool) (map[string]*contender, error) {
	entered := s.plain
	if secure {
		entered = s.secure
	}
	for _, name := range names {
		if entered[name] != nil || s.programs[name] == "" {
			continue
		}
		c, err := s.bed.enter(ctx, name, s.programs[name], secure)
		if err != nil {
			return nil, err
		}
		entered[name] = c
	}
	return entered, nil
}

func (s *session) compare(ctx context.Context, f field) error {
	found, err := s.standing(ctx, f)
	for _, p := range f.bars {
		b := bar{what: fmt.Sprintf("%s, %s: CPU per request / %s's", f.title, plural(p.connections), p.peer), atMost: p.atMost, digits: 2, why: err}
		if s.programs[p.peer] == "" {
			b.why = missing(p.peer)
		}
		if at := found[p.connections]; at != nil {
			b.figures = ratios(at[sidecar], at[p.peer])
		}
		s.bars = append(s.bars, b)
	}
	if f.part == partHTTP1 && found != nil {
		s.capacities = map[string]float64{}
		for name, samples := range found[32] {
			s.capacities[name] = capacity(samples)
		}
	}
	return expected(err)
}

func (s *session) standing(ctx context.Context, f field) (standing, error) {
	if err := needs(f.tool); err != nil {
		return nil, err
	}
	entered, err := s.enter(ctx, f.contenders, f.secure)
	if err != nil {
		return nil, err
	}
	found, err := f.compete(ctx, entered, s.rounds, s.turn, s.progress)
	if err != nil {
		return nil, err
	}
	return found, printStanding(s.out, f, found)
}

// latency needs to know what the contenders can do, and finds out when nobody has.
func (s *session) latency(ctx context.Context) error {
	names := fields[0].contenders
	if err := needs("wrk"); err != nil {
		fmt.Fprintf(s.out, "latency: not measured: %v\n\n", err)
		return nil
	}
	entered, err := s.enter(ctx, names, false)
	if err != nil {
		return err
	}
	if s.capacities == nil {
		s.capacities = map[string]float64{}
		for name, c := range entered {
			sample, err := fields[0].turn(ctx, c, 32, s.turn)
			if err != nil {
				return err
			}
			s.capacities[name] = sample.rate()
		}
	}
	s.progress("latency")
	return printLatency(ctx, s.out, names, entered, s.capacities, s.open)
}

func (s *session) syscalls(ctx context.Context) error {
	tallies, with, err := s.tallies(ctx)
	for _, connections := range []int{32, 256} {
		all := bar{what: fmt.Sprintf("HTTP/1.1, %s: system calls per request", plural(connections)), atMost: 7, digits: 1, why: err}
		reads := bar{what: "  of them data reads", atMost: 2, digits: 1, why: err}
		writes := bar{what: "  of them writes", atMost: 2, digits: 1, why: err}
		for _, t := range tallies {
			if t.contender == sidecar && t.connections == connections {
				all.figures = []float64{t.each(t.calls.all())}
				reads.figures = []float64{t.each(t.calls.moved(readers))}
				writes.figures = []float64{t.each(t.calls.moved(writers))}
			}
		}
		s.bars = append(s.bars, all, reads, writes)
	}
	if err != nil {
		return expected(err)
	}
	return printTallies(s.out, with, tallies)
}

func (s *session) tallies(ctx context.Context) (all []tally, with string, err error) {
	if err := needs("wrk"); err != nil {
		return nil, "", err
	}
	counting, err := newCounter()
	if err != nil {
		return nil, "", err
	}
	names := []string{sidecar, haproxy, nginx}
	entered, err := s.enter(ctx, names, false)
	if err != nil {
		return nil, "", err
	}
	for _, connections := range []int{1, 32, 256} {
		for _, name := range names {
			if entered[name] == nil {
				continue
			}
			s.progress(fmt.Sprintf("system calls: %d connections, %s", connections, name))
			t, err := counting.tally(ctx, name, entered[name], connections)
			if err != nil {
				return nil, "", err
			}
			all = append(all, t)
		}
	}
	return all, counting.name, nil
}

func (s *session) memory(ctx context.Context) error {
	f, err := s.bed.weigh(ctx, s.programs[sidecar], s.idle, s.progress)
	one := func(figure float64) []float64 {
		if err != nil {
			return nil
		}
		return []float64{figure}
	}
	s.bars = append(s.bars,
		bar{what: "memory, idle", figures: one(f.idle), atMost: 20, digits: 1, unit: " MiB", why: err},
		bar{what: fmt.Sprintf("memory, %d routes and %d endpoints", manyServices, 2*manyServices), figures: one(f.controlled), atMost: 60, digits: 1, unit: " MiB", why: err},
		bar{what: "memory of an idle connection", figures: one(f.connection), atMost: 8, digits: 1, unit: " KiB", why: err},
	)
	if err == nil {
		printFootprint(s.out, f)
	}
	return err
}

func plural(connections int) string {
	if connections == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", connections)
}

// missingError says that something is not installed, which is no failure of the measurement.
type missingError struct{ what string }

func (e missingError) Error() string { return e.what + " is not installed" }

func missing(what string) error { return missingError{what} }

func needs(tool string) error {
	if _, err := exec.LookPath(tool); err != nil {
		return missing(tool)
	}
	return nil
}

// expected leaves out what is only missing.
func expected(err error) error {
	if _, only := errors.AsType[missingError](err); only {
		return nil
	}
	return err
}
