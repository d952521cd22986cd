package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"meshtest.dev/meshtest/load"
)

// carry sends the stream and tells its driver what becomes of it, for as long as there is a driver.
func (s *Server) carry(ctx context.Context, l *link, epoch time.Time, stream load.Stream, log *slog.Logger) {
	log = log.With("stream", stream.Name)
	log.Info("load begins", "url", stream.URL, "address", stream.Address, "schedule", stream.Pacer.String(), "duration", stream.Duration.String())
	stream.Dial = s.dial

	life, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	running, stop := context.WithCancel(life)
	defer stop()
	records := make(chan load.Record)
	var driver, reports sync.WaitGroup
	driver.Go(func() {
		abandon(l.obey(stop))
		l.conn.Close() // whoever still writes to him would wait for ever
	})
	reports.Go(func() {
		if err := l.report(records); err != nil {
			abandon(err)
		}
	})
	result, err := load.RunWithin(life, running, stream, func(r load.Record) {
		select {
		case records <- r:
		case <-life.Done():
		}
	})
	close(records)
	reports.Wait()

	switch lost := context.Cause(life); {
	case ctx.Err() != nil:
		log.Warn("load given up: the agent ends")
		err = l.sendFailure(failure{codeEnding, "the load agent was stopped"})
	case lost != nil:
		log.Warn("load given up: its driver is gone", "error", lost)
		err = lost
	case errors.Is(err, context.Canceled):
		err = l.sendFailure(failure{codeCancelled, err.Error()})
	case err != nil:
		log.Error("load could not be sent", "error", err)
		err = l.sendFailure(failure{codeLoad, err.Error()})
	default:
		log.Info("load ended", "scheduled", result.Scheduled, "sent", result.Sent, "completed", result.Completed, "bad", result.Bad(), "lost", result.Lost)
		err = l.sendOutcome(result, epoch)
	}
	if err != nil {
		l.conn.Close()
	}
	driver.Wait()
}

func (l *link) sendOutcome(r *load.Result, epoch time.Time) error {
	content, err := writeOutcome(r, epoch)
	if err != nil {
		return err
	}
	return l.send(kindResult, content)
}

// obey hears the driver until he is gone, and returns why.
func (l *link) obey(stop func()) error {
	for {
		k, _, err := l.receive(maxGreeting)
		switch {
		case err == io.EOF:
			return errors.New("it hung up")
		case err != nil:
			return err
		case k == kindStop:
			stop()
		case k != kindBeat:
			return fmt.Errorf("%w: %v from a driver", errFrame, k)
		}
	}
}

// maxBatch is the size, in bytes, at which records do not wait for more. The longest possible record beside it fits into a frame.
const maxBatch = 32 << 10

// report sends records in batches until there are no more.
func (l *link) report(records <-chan load.Record) error {
	r := reporter{link: l, last: time.Now()}
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case record, more := <-records:
			if !more {
				return r.flush()
			}
			err = r.add(record)
		case <-tick.C:
			err = r.tick()
		}
		if err != nil {
			return err
		}
	}
}

// A reporter gathers records into frames.
type reporter struct {
	*link
	packer packer
	batch  []byte
	bad    bool      // a failure is in the batch
	wasBad bool      // one was in the batch before
	last   time.Time // when something was sent
}

// add takes a record. A failure is sent at once, unless others came shortly before: a stream of failures is sent as seldom as any.
func (r *reporter) add(record load.Record) error {
	r.batch = r.packer.append(r.batch, record)
	first := !record.OK && !r.bad && !r.wasBad
	r.bad = r.bad || !record.OK
	if first || len(r.batch) >= maxBatch {
		return r.flush()
	}
	return nil
}

// tick sends what there is, or, when there is nothing for a while, that all is well.
func (r *reporter) tick() error {
	if len(r.batch) == 0 {
		r.wasBad = false
		if time.Since(r.last) < beatEvery {
			return nil
		}
		r.last = time.Now()
		return r.send(kindBeat)
	}
	return r.flush()
}

func (r *reporter) flush() error {
	if len(r.batch) == 0 {
		return nil
	}
	err := r.send(kindRecords, r.batch)
	r.batch, r.packer, r.last = r.batch[:0], packer{}, time.Now()
	r.bad, r.wasBad = false, r.bad
	return err
}
