package analyzer

import (
	"math"
	"slices"

	"meshtest.dev/meshtest/internal/hist"
)

// tally is what one arm did in a block.
type tally struct {
	requests, failed uint64
	latency          hist.Histogram
}

func (t *tally) add(o Observation) {
	t.requests += o.Requests
	t.failed += o.Failed
	if o.Latency != nil {
		t.latency.Merge(o.Latency)
	}
}

// comparison is what both arms did in a block under one randomised split.
type comparison struct {
	stratum          string
	share            float64
	canary, baseline tally
}

// sorted parts a block by what can be said of it: what a split sent can be compared at once; what only a header sent to the canary needs the same stream on stable; and
// what only the baseline got teaches what is normal.
type sorted struct {
	splits  []*comparison
	headers []Observation
	alone   []Observation
}

func sortBlock(block []Observation) sorted {
	var s sorted
	for _, o := range block {
		switch {
		case o.Share > 0 && o.Share < 1:
			i := slices.IndexFunc(s.splits, func(c *comparison) bool { return c.stratum == o.Stratum })
			if i < 0 {
				s.splits = append(s.splits, &comparison{stratum: o.Stratum, share: o.Share})
				i = len(s.splits) - 1
			}
			if o.Arm == Canary {
				s.splits[i].canary.add(o)
			} else {
				s.splits[i].baseline.add(o)
			}
		case o.Arm == Canary:
			s.headers = append(s.headers, o)
		default:
			s.alone = append(s.alone, o)
		}
	}
	return s
}

// bankRatio is the part of a bank that one canary request is compared with: so a failing canary is found while the bank is full, and something is left for later.
const bankRatio = 1.0 / 20

// bankLimit bounds the outcomes that are kept of a stream.
const bankLimit = 1 << 16

// bank keeps what a stream did on stable, for comparison with what it does on the canary once a header sends it there. An outcome is drawn once, in order, and how
// many are drawn depends on nothing but numbers of requests; so under the null hypothesis, that the stream fails on both alike, drawn and new outcomes are exchangeable.
// What it assumes is that the stream itself has not changed since.
type bank struct {
	failed []bool
	drawn  int
}

func (b *bank) put(requests, failed uint64) {
	for i := range requests {
		if len(b.failed)-b.drawn >= bankLimit {
			return
		}
		b.failed = append(b.failed, i >= requests-failed)
	}
}

// draw takes outcomes for the comparison with one canary request.
func (b *bank) draw() (requests, failed uint64) {
	left := len(b.failed) - b.drawn
	n := min(int(math.Ceil(float64(left)*bankRatio)), left)
	for _, f := range b.failed[b.drawn : b.drawn+n] {
		requests++
		if f {
			failed++
		}
	}
	b.drawn += n
	return requests, failed
}

// latencyBank is a bank of latencies: whole blocks, drawn in order.
type latencyBank struct {
	blocks []*hist.Histogram
	left   uint64
}

func (b *latencyBank) put(h *hist.Histogram) {
	if h == nil || b.left > bankLimit {
		return
	}
	b.blocks = append(b.blocks, h)
	b.left += h.Count()
}

// draw takes blocks for the comparison with so many canary requests.
func (b *latencyBank) draw(requests uint64) *hist.Histogram {
	var drawn hist.Histogram
	want := max(requests, uint64(math.Ceil(float64(b.left)*bankRatio)))
	for len(b.blocks) > 0 && drawn.Count() < want {
		drawn.Merge(b.blocks[0])
		b.left -= b.blocks[0].Count()
		b.blocks = b.blocks[1:]
	}
	return &drawn
}
