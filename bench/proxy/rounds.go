package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// field is contenders that are compared under the same load.
type field struct {
	part        string
	title       string
	tool        string // that drive needs
	drive       drive
	connections []int
	contenders  []string // the first one is ours
	secure      bool     // TLS to the origin
	bars        []promise
}

// standing is what a field's rounds said: by connections, by contender, one sample a round.
type standing map[int]map[string][]sample

// compete carries out rounds. In each, every contender has its turn at every number of connections, one right after the other, so that what changes on the machine from minute to minute changes for all of them;
// who begins goes round too.
func (f field) compete(ctx context.Context, entered map[string]*contender, rounds int, turn time.Duration, progress func(string)) (standing, error) {
	s := standing{}
	for _, n := range f.connections {
		s[n] = map[string][]sample{}
	}
	present := slices.DeleteFunc(slices.Clone(f.contenders), func(name string) bool { return entered[name] == nil })
	for _, name := range present {
		if _, err := f.turn(ctx, entered[name], slices.Max(f.connections), time.Second); err != nil { // connections are made, memory grows to what it will be
			return nil, err
		}
	}
	for round := range rounds {
		for _, n := range f.connections {
			for i := range present {
				name := present[(i+round)%len(present)]
				progress(fmt.Sprintf("%s: round %d of %d, %d connections, %s", f.title, round+1, rounds, n, name))
				took, err := f.turn(ctx, entered[name], n, turn)
				if err != nil {
					return nil, err
				}
				s[n][name] = append(s[n][name], took)
			}
		}
	}
	return s, nil
}

// turn is one contender under load.
func (f field) turn(ctx context.Context, c *contender, connections int, d time.Duration) (s sample, err error) {
	before, err := c.cpu()
	if err != nil {
		return s, err
	}
	began := time.Now()
	s.requests, err = f.drive(ctx, c, connections, d)
	s.took = time.Since(began)
	after, wrong := c.cpu()
	if err := errors.Join(err, wrong); err != nil {
		return s, fmt.Errorf("%s, %d connections to %s: %w", f.title, connections, c.name, err)
	}
	s.cpu = after - before
	return s, nil
}

// costs are the processor time of a request in each round, in microseconds.
func costs(samples []sample) []float64 {
	all := make([]float64, len(samples))
	for i, s := range samples {
		all[i] = s.perRequest()
	}
	return all
}

// ratios are how much more than its peer ours costs, in each round.
func ratios(ours, peers []sample) []float64 {
	all := make([]float64, min(len(ours), len(peers)))
	for i := range all {
		all[i] = ours[i].perRequest() / peers[i].perRequest()
	}
	return all
}

// capacity is the median rate of a contender, in requests per second.
func capacity(samples []sample) float64 {
	rates := make([]float64, len(samples))
	for i, s := range samples {
		rates[i] = s.rate()
	}
	return median(rates)
}

// median of an even number of figures is the mean of the two in the middle; of none it is 0.
func median(figures []float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}
