package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"meshtest.dev/meshtest/load"
)

// A Client has load sent by an agent. It is safe for concurrent use; every stream takes a connection of its own.
type Client struct {
	// Dial opens a connection to the agent.
	Dial func(context.Context) (net.Conn, error)
	// Token is what the agent wants to see.
	Token string
}

// Run is load.Run, at the agent: the same meaning of the context, the sink, the records and the result. It differs in this:
//
//   - The stream is sent as data, so it has an Address instead of a Dial.
//   - Records come in batches, 50 ms late at most; a first failure comes at once.
//   - Result.Start is on this process's clock, and right to within Result.StartError.
//   - What is on the way to a slow sink waits in more places than one: more than Stream.Queue records may.
//   - When the connection breaks there is no result but an error, which wraps [ErrLost]; the load at the agent is then over, too. Other errors wrap [ErrToken] or [ErrVersion],
//     or say that the stream cannot be sent.
func (c Client) Run(ctx context.Context, s load.Stream, sink func(load.Record)) (*load.Result, error) {
	if err := errors.Join(s.Validate(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	if sink == nil {
		sink = func(load.Record) {}
	}
	d := driver{client: c, stream: s.Name, sink: sink, epoch: time.Now()}
	result, err := d.run(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("load %s from an agent: %w", s.Name, err)
	}
	return result, nil
}

// A driver drives one stream.
type driver struct {
	*link
	client    Client
	stream    string
	sink      func(load.Record)
	epoch     time.Time // of the client's clock
	clock     offset
	delivered uint64
}

func (d *driver) run(ctx context.Context, s load.Stream) (*load.Result, error) {
	content, err := s.MarshalJSON()
	if err != nil {
		return nil, err
	}
	if len(content) >= maxStart {
		return nil, fmt.Errorf("the stream takes %d bytes: want less than %d", len(content), maxStart)
	}
	if err := d.connect(ctx); err != nil {
		return nil, fmt.Errorf("reach the agent: %w", err)
	}
	defer d.close()
	if err := d.start(ctx, content); err != nil {
		return nil, err
	}
	over, silenced := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(silenced)
		d.hold(ctx, over)
	}()
	result, err := d.follow(ctx)
	close(over)
	d.close()
	<-silenced
	return result, err
}

func (d *driver) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	conn, err := d.client.Dial(ctx)
	if err != nil {
		return err
	}
	d.link = newLink(conn)
	return nil
}

// start shows the token, compares clocks, and has the load begun. When ctx ends meanwhile nothing begins.
func (d *driver) start(ctx context.Context, stream []byte) error {
	limited, cancel := context.WithTimeoutCause(ctx, greeting, fmt.Errorf("the agent did not begin within %v", greeting))
	defer cancel()
	stop := context.AfterFunc(limited, func() { d.conn.Close() })
	err := d.greet()
	if err == nil {
		err = lost(d.send(kindStart, stream))
	}
	if !stop() {
		return context.Cause(limited)
	}
	return err
}

func (d *driver) greet() error {
	first, err := json.Marshal(hello{Version: Version, Token: d.client.Token})
	if err != nil {
		return err
	}
	if err := d.send(kindHello, first); err != nil {
		return lost(err)
	}
	content, err := d.expect(kindWelcome, maxFrame)
	if err != nil {
		return lost(err)
	}
	var w welcome
	if err := json.Unmarshal(content, &w); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	if major(w.Version) != major(Version) {
		return fmt.Errorf("%w: it speaks %q, this is %s", ErrVersion, cut(w.Version), Version)
	}
	d.clock, err = d.measure(func() time.Duration { return time.Since(d.epoch) })
	return lost(err)
}

// hold tells the agent that somebody is there, and that the load is to stop when ctx ends. Where sending fails, receiving does, too, and says why.
func (d *driver) hold(ctx context.Context, over <-chan struct{}) {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	ended := ctx.Done()
	for {
		var err error
		select {
		case <-over:
			return
		case <-beat.C:
			err = d.send(kindBeat)
		case <-ended:
			ended = nil
			err = d.send(kindStop)
		}
		if err != nil {
			return
		}
	}
}

// follow hands records to the sink until the result comes.
func (d *driver) follow(ctx context.Context) (*load.Result, error) {
	for {
		k, content, err := d.receive(maxFrame)
		if err != nil {
			return nil, fmt.Errorf("after %d records: %w", d.delivered, lost(err))
		}
		switch k {
		case kindBeat:
		case kindRecords:
			err = unpack(content, d.take)
		case kindResult:
			return d.finish(content)
		case kindFailure:
			return nil, failed(ctx, readFailure(content))
		default:
			err = fmt.Errorf("%w: %v from an agent", errFrame, k)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (d *driver) take(r load.Record) {
	d.delivered++
	d.sink(r)
}

// finish puts the result onto this process's clock.
func (d *driver) finish(content []byte) (*load.Result, error) {
	o, err := readOutcome(content)
	if err != nil {
		return nil, err
	}
	r := o.Result
	if r.Stream != d.stream || r.Sent != d.delivered+r.Lost {
		return nil, fmt.Errorf("account for the load: the agent sent %d requests of %q and lost %d records, %d arrived", r.Sent, r.Stream, r.Lost, d.delivered)
	}
	r.Start, r.StartError = d.epoch.Add(o.Began-d.clock.ahead), d.clock.within
	return r, nil
}

// failed is what the agent says, unless it only says that it was stopped before it began.
func failed(ctx context.Context, err error) error {
	var f failure
	if errors.As(err, &f) && f.Code == codeCancelled && ctx.Err() != nil {
		return fmt.Errorf("start the load: %w", ctx.Err())
	}
	return err
}

// lost makes the end of a connection an ErrLost, unless the agent said why.
func lost(err error) error {
	var f failure
	switch {
	case err == nil, errors.As(err, &f), errors.Is(err, errFrame):
		return err
	case err == io.EOF:
		return fmt.Errorf("%w: it hung up", ErrLost)
	default:
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
}
