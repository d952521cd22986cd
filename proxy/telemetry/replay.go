package telemetry

import (
	"context"
	"errors"
	"io"
	"iter"

	"meshtest.dev/meshtest/mesh"
)

// maxBlocks bounds the blocks that are kept, whatever their age: 30 s of blocks at the highest rate in the long run, and some.
const maxBlocks = 2048

// replay is the recent blocks, oldest first.
type replay struct {
	blocks []mesh.EvidenceBlock
	next   uint64        // number of the next block
	more   chan struct{} // closed when there is another block, or the end
	ended  bool
}

// publish numbers a block and keeps it for those who ask.
func (e *Evidence) publish(b mesh.EvidenceBlock, used map[cellID]*cell) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.options.Now()
	for id := range used {
		if _, ok := e.streams[id.stream]; ok {
			e.streams[id.stream] = now
		}
	}
	r := &e.replay
	b.Seq = r.next
	r.next++
	old := 0
	for old < len(r.blocks) && (b.End-r.blocks[old].End > e.options.Replay || len(r.blocks)-old >= maxBlocks) {
		old++
	}
	clear(r.blocks[:old])
	r.blocks = append(r.blocks[old:], b)
	close(r.more)
	r.more = make(chan struct{})
}

// end says that there will be no more blocks.
func (e *Evidence) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.replay.ended = true
	close(e.replay.more)
}

// Next returns the oldest block that is still kept whose Seq is at least from, and waits for one until ctx ends. Blocks are kept for the replay time, so that a reader who comes back
// within it misses none, and one who was slower sees the gap in Seq. The first block is number 1. io.EOF says that no more will come. The block is shared and must not be changed.
func (e *Evidence) Next(ctx context.Context, from uint64) (mesh.EvidenceBlock, error) {
	for {
		block, more, err := e.at(from)
		if more == nil {
			return block, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return mesh.EvidenceBlock{}, ctx.Err()
		}
	}
}

// at returns a block, or what to wait for.
func (e *Evidence) at(from uint64) (b mesh.EvidenceBlock, more <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &e.replay
	oldest := r.next - uint64(len(r.blocks))
	switch {
	case max(from, oldest) < r.next:
		return r.blocks[max(from, oldest)-oldest], nil, nil
	case r.ended:
		return mesh.EvidenceBlock{}, nil, io.EOF
	default:
		return mesh.EvidenceBlock{}, r.more, nil
	}
}

// Subscribe yields the blocks from number from on, as Next returns them, until Run has ended or ctx ends; then it yields ctx's error last. However slow the reader is, traffic and other readers do not wait.
func (e *Evidence) Subscribe(ctx context.Context, from uint64) iter.Seq2[mesh.EvidenceBlock, error] {
	return func(yield func(mesh.EvidenceBlock, error) bool) {
		for {
			b, err := e.Next(ctx, from)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(b, err) || err != nil {
				return
			}
			from = b.Seq + 1
		}
	}
}
