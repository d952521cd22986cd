package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// sample is what one round of load on one contender said.
type sample struct {
	requests uint64
	took     time.Duration
	cpu      time.Duration // of the contender
}

// perRequest is processor time, in microseconds.
func (s sample) perRequest() float64 {
	return float64(s.cpu) / float64(time.Microsecond) / float64(s.requests)
}

// rate is in requests per second.
func (s sample) rate() float64 { return float64(s.requests) / s.took.Seconds() }

// drive loads a contender in a closed loop for a time, over so many connections.
type drive func(ctx context.Context, c *contender, connections int, d time.Duration) (requests uint64, err error)

// streams is how many requests h2load has under way on each connection.
const streams = 10

// overHTTP1 uses wrk: one thread, one request at a time on each connection, which is kept.
func overHTTP1(ctx context.Context, c *contender, connections int, d time.Duration) (uint64, error) {
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c"+strconv.Itoa(connections), "-d"+seconds(d), "--timeout", "5s", "http://"+c.http1+"/").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("running wrk: %w: %s", err, out)
	}
	return readWrk(out)
}

// overHTTP2 uses h2load, by prior knowledge.
func overHTTP2(ctx context.Context, c *contender, connections int, d time.Duration) (uint64, error) {
	out, err := exec.CommandContext(ctx, "h2load", "-t1", "-c"+strconv.Itoa(connections), "-m"+strconv.Itoa(streams), "-D"+seconds(d), "http://"+c.http2+"/").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("running h2load: %w: %s", err, out)
	}
	return readH2load(out)
}

// seconds rounds up, as both programs know whole seconds only.
func seconds(d time.Duration) string { return strconv.Itoa(int((d + time.Second - 1) / time.Second)) }

var (
	wrkRequests = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)
	wrkFailures = regexp.MustCompile(`(?m)^\s*(Socket errors: .*|Non-2xx .*)$`)
	h2Requests  = regexp.MustCompile(`(?m)^requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
)

// readWrk reads how many requests wrk had answered. With a failure among them there is nothing to compare.
func readWrk(out []byte) (uint64, error) {
	if failed := wrkFailures.FindSubmatch(out); failed != nil {
		return 0, fmt.Errorf("wrk saw failures: %s", failed[1])
	}
	found := wrkRequests.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("wrk said something else: %s", out)
	}
	return positive(found[1])
}

// readH2load reads how many requests h2load had answered.
func readH2load(out []byte) (uint64, error) {
	found := h2Requests.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("h2load said something else: %s", out)
	}
	if string(found[3]) != "0" || string(found[4]) != "0" || string(found[5]) != "0" {
		return 0, fmt.Errorf("h2load saw failures: %s", found[0])
	}
	return positive(found[2])
}

func positive(text []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err == nil && n == 0 {
		err = fmt.Errorf("not one request was answered")
	}
	return n, err
}
