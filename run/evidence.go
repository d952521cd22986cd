package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meshtest.dev/meshtest/analyzer"
	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/rollout"
)

// source is one sidecar's stream of evidence.
type source struct {
	instance string
	next     uint64        // sequence number of the block that is due
	lost     uint64        // blocks that never came
	offset   time.Duration // the sidecar's clock plus this is the run's: the smallest difference seen
	heard    bool
	ended    bool          // the sidecar says that there will be no more
	until    time.Duration // on the run's clock: everything that ended before has been told
	failure  error
	seen     map[mesh.Edge]mesh.EdgeCount
}

// listen hears a sidecar's evidence until ctx ends. A sidecar that is asked to end says so first, and what it told until then has been heard.
func (c *conductor) listen(ctx context.Context, m *member) {
	src := m.source
	c.watching.Go(func() {
		err := m.Direct.Evidence(ctx, 0, func(b mesh.EvidenceBlock) error {
			at := c.rec.now()
			c.tell(ctx, func() { c.hear(src, b, at) })
			return nil
		})
		if ctx.Err() == nil {
			c.tell(ctx, func() { src.ended, src.failure = true, err })
		}
	})
}

// hear takes a block in.
func (c *conductor) hear(src *source, b mesh.EvidenceBlock, at time.Duration) {
	if b.Seq < src.next {
		return // told again after a broken connection
	}
	src.lost += b.Seq - src.next
	if d := at - b.End; !src.heard || d < src.offset {
		src.offset = d
	}
	src.heard, src.next = true, b.Seq+1
	src.until = b.End + src.offset
	for _, e := range b.Edges {
		sum := src.seen[e.Edge]
		src.seen[e.Edge] = mesh.EdgeCount{Edge: e.Edge, Seen: sum.Seen + e.Seen, Minted: sum.Minted + e.Minted}
	}
	if len(b.Cells) == 0 && len(b.Errors) == 0 {
		return
	}
	if err := c.tally.add(b); err != nil {
		src.failure = err
	}
	c.rec.recordFrom(journal.Source{Name: src.instance, At: b.End, Offset: src.offset, Error: at - src.offset - b.End}, journalBlock(b, src.offset))
	if c.edge == nil {
		return
	}
	if err := c.watchSplit(b); err != nil {
		src.failure = err
	}
	if c.machine.Outcome() != rollout.None {
		return // after the decision evidence decides nothing any more
	}
	c.edge.Disturbed = c.disturbed(at)
	observed, err := c.edge.Observe(b, src.until)
	if err != nil {
		src.failure = err
	}
	c.panel.Observe(observed)
}

// journalBlock is a block in the journal's words, on the run's clock.
func journalBlock(b mesh.EvidenceBlock, offset time.Duration) journal.Evidence {
	e := journal.Evidence{Instance: b.Instance, Seq: b.Seq, Start: b.Start + offset, End: b.End + offset}
	for _, cell := range b.Cells {
		e.Cells = append(e.Cells, journal.Cell{
			From: cell.Edge.From, To: cell.Edge.To, Stream: cell.Stream, Route: cell.Route, Version: cell.Version, Share: cell.Share,
			Requests: cell.Requests, Failed: cell.Failed, ByFault: cell.ByFault, ByMesh: cell.ByMesh, Attempts: cell.Attempts, Latency: cell.Latency,
		})
	}
	for _, f := range b.Errors {
		e.Errors = append(e.Errors, journal.Failure{
			At: f.At + offset, From: f.Edge.From, To: f.Edge.To, Key: f.Key, Version: f.Version, Status: f.Status, Reason: f.Reason, Latency: f.Latency,
		})
	}
	return e
}

// settle waits until every sidecar has told everything that happened while load ran.
func (c *conductor) settle(ctx context.Context) error {
	ended := max(c.rec.now(), c.loadEndedAt())
	defer c.Waiting("the last evidence of the sidecars")()
	_, err := c.hearWhile(ctx, c.limit.Quiet, func() bool { return c.late(ended) })
	return err // the self-check on evidence says who is silent
}

// late reports whether a sidecar that is there has not told yet what happened before a moment.
func (c *conductor) late(than time.Duration) bool {
	for _, m := range c.there {
		if !m.source.ended && m.joined < than && m.source.until < than {
			return true
		}
	}
	return false
}

// tally adds all evidence up.
type tally struct {
	cells map[tallyKey]*tallied
}

type tallyKey struct {
	edge    mesh.Edge
	stream  string
	version string
}

type tallied struct {
	requests, failed, byFault, byMesh, attempts uint64
	latency                                     hist.Histogram
}

func newTally() *tally { return &tally{cells: map[tallyKey]*tallied{}} }

func (t *tally) add(b mesh.EvidenceBlock) error {
	for _, cell := range b.Cells {
		k := tallyKey{cell.Edge, cell.Stream, cell.Version}
		sum := t.cells[k]
		if sum == nil {
			sum = &tallied{}
			t.cells[k] = sum
		}
		sum.requests += cell.Requests
		sum.failed += cell.Failed
		sum.byFault += cell.ByFault
		sum.byMesh += cell.ByMesh
		sum.attempts += cell.Attempts
		if err := sum.latency.AddSparse(cell.Latency); err != nil {
			return fmt.Errorf("evidence of %s: %w", b.Instance, err)
		}
	}
	return nil
}

// sum adds up what matches; an empty field matches everything.
func (t *tally) sum(from, to, stream, version string) tallied {
	var total tallied
	for k, cell := range t.cells {
		if (from == "" || k.edge.From == from) && (to == "" || k.edge.To == to) && (stream == "" || k.stream == stream) && (version == "" || k.version == version) {
			total.requests += cell.requests
			total.failed += cell.failed
			total.byFault += cell.byFault
			total.byMesh += cell.byMesh
			total.attempts += cell.attempts
			total.latency.Merge(&cell.latency)
		}
	}
	return total
}

// measure starts the queries that are due. Answers come as events.
func (c *conductor) measure(ctx context.Context) {
	if c.panel == nil {
		return
	}
	for _, q := range c.panel.Queries {
		if !c.due(q) {
			continue
		}
		c.queried[q] = c.rec.now()
		c.querying.Go(func() {
			value, ok, err := ask(ctx, c.Prometheus, q.Text)
			if errors.Is(err, context.Canceled) {
				return
			}
			c.tell(ctx, func() { q.Take(value, ok, err) })
		})
	}
}

// due reports whether a query is to be measured: at its interval, once the canary can have had traffic for that long.
func (c *conductor) due(q *analyzer.Query) bool {
	if c.step == 0 || c.machine.Outcome() != rollout.None {
		return false
	}
	last, asked := c.queried[q]
	if !asked {
		c.queried[q] = c.rec.now()
		return false
	}
	return c.rec.now() >= last+q.Interval
}
