package telemetry

import (
	"cmp"
	"context"
	"slices"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// Run cuts blocks until ctx ends. Then it cuts the last one, and Next says that no more will come.
func (e *Evidence) Run(ctx context.Context) {
	c := &cutter{evidence: e, cuts: cutsPerSecond, errors: MaxErrors}
	tick := time.NewTicker(e.options.Interval)
	defer tick.Stop()
	early := time.NewTimer(0)
	early.Stop()
	defer early.Stop()
	for {
		select {
		case <-ctx.Done():
			c.cut(e.since(), true)
			e.end()
			return
		case <-tick.C:
			now := e.since()
			c.errors = MaxErrors
			c.cut(now, now-c.end >= e.options.Heartbeat)
		case <-e.wake:
			early.Reset(c.wait(e.since()))
		case <-early.C:
			now := e.since()
			if c.cut(now, false) {
				c.spend(now)
			}
		}
	}
}

// cutter makes blocks. It belongs to Run alone.
type cutter struct {
	evidence *Evidence
	shards   []*shard
	end      time.Duration // of the last block
	errors   int           // that may still be sampled in the interval
	cuts     float64       // early cuts that may be made now
	refilled time.Duration // when cuts was right
}

// wait is how long an error has to wait for its block.
func (c *cutter) wait(now time.Duration) time.Duration {
	wait := minCut - (now - c.end)
	if have := c.refill(now); have < 1 {
		wait = max(wait, time.Duration((1-have)*float64(time.Second)/cutsPerSecond))
	}
	return max(wait, 0)
}

// spend takes one early cut.
func (c *cutter) spend(now time.Duration) {
	c.cuts = max(c.refill(now)-1, 0)
	c.refilled = now
}

func (c *cutter) refill(now time.Duration) float64 {
	return min(c.cuts+(now-c.refilled).Seconds()*cutsPerSecond, cutsPerSecond)
}

// cut ends the block: what was recorded since the last one is told. A block without content is told only if always. It reports whether there was a block.
func (c *cutter) cut(now time.Duration, always bool) bool {
	e := c.evidence
	e.mu.Lock()
	c.shards = append(c.shards, e.fresh...)
	e.fresh = nil
	e.mu.Unlock()

	m := merger{now: now, cells: map[cellID]*cell{}, edges: map[mesh.Edge]mesh.EdgeCount{}}
	c.shards = slices.DeleteFunc(c.shards, func(h *shard) bool { return !m.drain(h) })
	if len(m.edges) == 0 && !always {
		return false
	}
	block := m.block(c.errors)
	block.Instance, block.Start, block.End = e.options.Instance, c.end, now
	c.errors -= len(block.Errors)
	c.end = now
	e.publish(block, m.cells)
	return true
}

// cellID is what the cells of a block differ in.
type cellID struct {
	Cell
	cellKey
}

// merger puts the shards' counts together.
type merger struct {
	now    time.Duration
	cells  map[cellID]*cell
	edges  map[mesh.Edge]mesh.EdgeCount
	errors []mesh.EvidenceError
}

// drain takes what a shard has, and reports whether the shard may have more later without telling so again.
func (m *merger) drain(h *shard) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, c := range h.cells {
		if c.requests > 0 {
			m.merge(cellID{h.recorder.cell, k}, c)
			c.used = m.now
		} else if m.now-c.used >= idleCell {
			delete(h.cells, k)
		}
	}
	if h.seen > 0 {
		edge := h.recorder.cell.Edge
		count := m.edges[edge]
		m.edges[edge] = mesh.EdgeCount{Edge: edge, Seen: count.Seen + h.seen, Minted: count.Minted + h.minted}
	}
	m.errors = append(m.errors, h.errors...)
	h.seen, h.minted = 0, 0
	h.errors = h.errors[:0]
	h.told = len(h.cells) > 0
	return h.told
}

// merge adds a cell to the block's and leaves it empty.
func (m *merger) merge(id cellID, c *cell) {
	sum := m.cells[id]
	if sum == nil {
		sum = &cell{}
		m.cells[id] = sum
	}
	sum.requests += c.requests
	sum.failed += c.failed
	sum.byFault += c.byFault
	sum.byMesh += c.byMesh
	sum.attempts += c.attempts
	sum.attemptsKO += c.attemptsKO
	sum.latencySum += c.latencySum
	sum.failedSum += c.failedSum
	if c.high > 0 {
		if sum.high == 0 {
			sum.low, sum.high = c.low, c.high
		}
		sum.low, sum.high = min(sum.low, c.low), max(sum.high, c.high)
		for i := c.low; i < c.high; i++ {
			sum.latency[i] += c.latency[i]
		}
		clear(c.latency[c.low:c.high])
	}
	c.tally = tally{}
}

// block writes the block, with at most so many errors: the first ones.
func (m *merger) block(errors int) mesh.EvidenceBlock {
	var b mesh.EvidenceBlock
	for id, c := range m.cells {
		b.Cells = append(b.Cells, c.told(id))
	}
	slices.SortFunc(b.Cells, compareCells)
	for _, count := range m.edges {
		b.Edges = append(b.Edges, count)
	}
	slices.SortFunc(b.Edges, func(x, y mesh.EdgeCount) int { return compareEdges(x.Edge, y.Edge) })
	slices.SortStableFunc(m.errors, func(x, y mesh.EvidenceError) int { return cmp.Compare(x.At, y.At) })
	b.Errors = m.errors[:min(len(m.errors), max(errors, 0))]
	return b
}

func (c *cell) told(id cellID) mesh.EvidenceCell {
	out := mesh.EvidenceCell{
		Edge: id.Edge, Stream: id.stream, Route: id.Route, Version: id.Version, Share: id.Share, Generation: id.generation,
		Requests: c.requests, Failed: c.failed, ByFault: c.byFault, ByMesh: c.byMesh, Attempts: c.attempts, AttemptsKO: c.attemptsKO,
		LatencySum: c.latencySum, FailedSum: c.failedSum,
	}
	for i := c.low; i < c.high; i++ {
		if n := c.latency[i]; n > 0 {
			out.Latency = append(out.Latency, uint64(i), uint64(n))
		}
	}
	return out
}

func compareEdges(a, b mesh.Edge) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
}

func compareCells(a, b mesh.EvidenceCell) int {
	return cmp.Or(compareEdges(a.Edge, b.Edge), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Share, b.Share), cmp.Compare(a.Stream, b.Stream), a.Generation.Compare(b.Generation))
}
