package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"meshtest.dev/meshtest/internal/hist"
)

// callers are the connections of an open loop. A request that finds all of them busy is late.
const callers = 64

// response is what an open loop found.
type response struct {
	latency hist.Histogram // from when a request was due to the last byte of its answer
	slip    hist.Histogram // from when it was due to when it was sent
}

// openLoop sends requests at a steady rate, in requests per second, whatever becomes of those before, and returns when all are answered.
//
// Package load does the same with everything that a test of a mesh wants to know of a request, and takes as much of the processor for it as the contender does; here it would be measuring itself.
func openLoop(ctx context.Context, c *contender, rate float64, d time.Duration) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, d+patience)
	defer cancel()
	connections, err := dial(ctx, c.http1, callers)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", c.name, err)
	}
	stop := context.AfterFunc(ctx, func() { hangUp(connections) })
	defer func() {
		stop()
		hangUp(connections)
	}()
	n := int(rate * d.Seconds())
	due, began := make(chan time.Time, n), time.Now() // it never fills up, so nobody who is slow holds up the schedule
	found, failed := make([]response, callers), make([]error, callers)
	var all sync.WaitGroup
	for i, conn := range connections {
		all.Go(func() { failed[i] = found[i].ask(conn, due) })
	}
	for k := range n {
		at := began.Add(time.Duration(float64(k) / rate * float64(time.Second)))
		sleepUntil(at)
		due <- at
	}
	close(due)
	all.Wait()
	for i := range found[1:] {
		found[0].latency.Merge(&found[i+1].latency)
		found[0].slip.Merge(&found[i+1].slip)
	}
	if err := errors.Join(append(failed, ctx.Err())...); err != nil {
		return nil, fmt.Errorf("sending %.0f requests per second to %s: %w", rate, c.name, err)
	}
	return &found[0], nil
}

// ask sends a request whenever one is due, over one connection, one after the other.
func (r *response) ask(conn net.Conn, due <-chan time.Time) error {
	answers, request := bufio.NewReader(conn), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"
	for at := range due {
		r.slip.Record(time.Since(at))
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		if err := readAnswer(answers); err != nil {
			return err
		}
		r.latency.Record(time.Since(at))
	}
	return nil
}

// readAnswer reads what the origin answers, to its end. It looks for no more than it must: what the load takes of the processor the contender does not have.
func readAnswer(from *bufio.Reader) error {
	status, err := from.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("the answer is %s", bytes.TrimSpace(status))
	}
	for {
		switch line, err := from.ReadSlice('\n'); {
		case err != nil:
			return err
		case len(line) == len("\r\n"):
			_, err := from.Discard(bodySize)
			return err
		}
	}
}

func dial(ctx context.Context, address string, n int) (open []net.Conn, err error) {
	for range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			hangUp(open)
			return nil, fmt.Errorf("opening connection %d: %w", len(open)+1, err)
		}
		open = append(open, conn)
	}
	return open, nil
}

func hangUp(connections []net.Conn) {
	for _, conn := range connections {
		_ = conn.Close()
	}
}

// sleepUntil is as exact as the kernel's timers; the runtime's wait for whole milliseconds. A signal may end it early.
func sleepUntil(at time.Time) {
	if d := time.Until(at); d > 0 {
		tv := unix.NsecToTimeval(d.Nanoseconds())
		_, _ = unix.Select(0, nil, nil, nil, &tv)
	}
}
