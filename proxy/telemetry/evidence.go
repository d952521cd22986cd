package telemetry

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"time"

	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/mesh"
)

// Defaults and limits of evidence.
const (
	DefaultInterval  = 100 * time.Millisecond // between blocks while there is traffic
	DefaultReplay    = 30 * time.Second       // for how long blocks are kept for those who come back
	DefaultHeartbeat = time.Second            // between blocks while there is none

	// OtherStream stands for every stream beyond the first MaxStreams.
	OtherStream = "other"
	MaxStreams  = 64

	// MaxErrors bounds the sampled errors in a block, and in all blocks of an interval together.
	MaxErrors = 100

	// Errors cut a block at once, but not two within minCut, and not more often than cutsPerSecond in the long run.
	minCut        = 2 * time.Millisecond
	cutsPerSecond = 50

	// idleCell is how long a cell without requests is kept ready.
	idleCell = 10 * time.Second
)

// EvidenceOptions are choices of an Evidence; only Instance is needed.
type EvidenceOptions struct {
	Instance  string           // of the workload
	Interval  time.Duration    // 0: DefaultInterval
	Heartbeat time.Duration    // 0: DefaultHeartbeat
	Replay    time.Duration    // 0: DefaultReplay
	Now       func() time.Time // nil: time.Now
}

// Evidence gathers what the sidecar saw as a caller, and tells it in blocks: each request is in exactly one cell of one block.
//
// A block ends every interval in which there were requests. An error in a cell that had none in the block ends the block at once, so that whoever judges hears of the first
// errors of a version within milliseconds, and of every single one while they are rare (up to 50 a second).
type Evidence struct {
	options EvidenceOptions
	start   time.Time
	wake    chan struct{} // there is an error that cannot wait

	mu      sync.Mutex
	fresh   []*shard             // have something to tell, and are not in Run's list
	streams map[string]time.Time // that are told by name, and when they were last used
	replay  replay
}

// NewEvidence returns an evidence that is told once Run runs; recording may begin before.
func NewEvidence(o EvidenceOptions) *Evidence {
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Heartbeat = cmp.Or(o.Heartbeat, DefaultHeartbeat)
	o.Replay = cmp.Or(o.Replay, DefaultReplay)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Evidence{
		options: o, start: o.Now(), wake: make(chan struct{}, 1), streams: map[string]time.Time{},
		replay: replay{next: 1, more: make(chan struct{})},
	}
}

// since is the time since the sidecar started.
func (e *Evidence) since() time.Duration { return e.options.Now().Sub(e.start) }

// Cell is what a Recorder records about.
type Cell struct {
	Edge    mesh.Edge
	Route   string
	Version string  // of the destination that was chosen
	Share   float64 // with which the route's split chooses the version; 0: not by a split
}

// Recorder records the requests of one cell. It is safe for concurrent use, and needs no closing: drop it when the configuration that it belongs to goes.
type Recorder struct {
	evidence *Evidence
	cell     Cell
	shards   []shard // a power of two
}

// Recorder returns a recorder. Requests recorded by several recorders of the same cell add up.
func (e *Evidence) Recorder(c Cell) *Recorder {
	n := 1 << (bits.Len(uint(min(runtime.GOMAXPROCS(0), 8))) - 1)
	r := &Recorder{evidence: e, cell: c, shards: make([]shard, n)}
	for i := range r.shards {
		r.shards[i].recorder = r
	}
	return r
}

// Sample is one logical request that ended.
type Sample struct {
	Key        string // request key; only read during the call, so it may be the caller's bytes
	Generation mesh.Generation
	Status     int    // of the answer; 0: none
	Failed     bool   // also when the status is not 5xx: there was no whole answer
	ByFault    bool   // an injected fault answered
	ByMesh     bool   // the mesh answered for another reason
	Reason     string // of x-meshtest-reason, when the mesh answered
	Attempts   int    // sent upstream
	AttemptsKO int    // of them, failed
	Latency    time.Duration
	Minted     bool // the sidecar had to make the key
}

// shard is a part of a recorder's memory, so that cores do not wait for each other.
type shard struct {
	recorder *Recorder

	mu           sync.Mutex
	told         bool // it is in Run's list, or about to be
	cells        map[cellKey]*cell
	seen, minted uint64
	errors       []mesh.EvidenceError
	_            [32]byte
}

// cellKey is what parts the requests of a recorder.
type cellKey struct {
	stream     string
	generation mesh.Generation
}

// cell counts requests since the last block.
type cell struct {
	tally
	used    time.Duration        // when it was last told
	latency [hist.Buckets]uint32 // of requests that succeeded
}

// tally is the small part of a cell.
type tally struct {
	requests, failed, byFault, byMesh uint64
	attempts, attemptsKO              uint64
	latencySum, failedSum             time.Duration
	low, high                         int // buckets of latency outside [low, high) are 0
}

// Record counts one request. Unless it failed it allocates nothing once its stream and generation are known.
func (r *Recorder) Record(s Sample) {
	failed := s.Failed || mesh.Failed(s.Status)
	h := &r.shards[rand.Uint32()&uint32(len(r.shards)-1)]
	h.mu.Lock()
	if !h.told {
		h.told = true
		r.evidence.tell(h)
	}
	c := h.cell(mesh.Stream(s.Key), s.Generation)
	h.seen++
	if s.Minted {
		h.minted++
	}
	c.requests++
	c.attempts += uint64(s.Attempts)
	c.attemptsKO += uint64(s.AttemptsKO)
	if failed {
		h.fail(c, s)
	} else {
		c.succeed(s.Latency)
	}
	h.mu.Unlock()
}

func (c *cell) succeed(latency time.Duration) {
	i := hist.Index(latency)
	if c.high == 0 {
		c.low, c.high = i, i+1
	}
	c.low, c.high = min(c.low, i), max(c.high, i+1)
	c.latency[i]++
	c.latencySum += latency
}

func (h *shard) fail(c *cell, s Sample) {
	c.failed++
	c.failedSum += s.Latency
	if s.ByFault {
		c.byFault++
	} else if s.ByMesh {
		c.byMesh++
	}
	e := h.recorder.evidence
	if len(h.errors) < MaxErrors {
		cell := &h.recorder.cell
		h.errors = append(h.errors, mesh.EvidenceError{
			At: e.since(), Edge: cell.Edge, Key: strings.Clone(s.Key), Version: cell.Version, Route: cell.Route,
			Status: s.Status, Reason: strings.Clone(s.Reason), Latency: s.Latency,
		})
	}
	if c.failed == 1 {
		select {
		case e.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// cell finds or makes the cell of a stream and a generation.
func (h *shard) cell(stream string, g mesh.Generation) *cell {
	if c := h.cells[cellKey{stream, g}]; c != nil {
		return c
	}
	k := cellKey{h.recorder.evidence.admit(stream), g}
	if c := h.cells[k]; c != nil {
		return c
	}
	if h.cells == nil {
		h.cells = map[cellKey]*cell{}
	}
	c := &cell{used: h.recorder.evidence.since()}
	h.cells[k] = c
	return c
}

// tell puts a shard on the list of those that have something to tell.
func (e *Evidence) tell(h *shard) {
	e.mu.Lock()
	e.fresh = append(e.fresh, h)
	e.mu.Unlock()
}

// admit returns the name under which a stream is told: its own, or OtherStream when there are too many. It may keep the name, so it copies it.
func (e *Evidence) admit(stream string) string {
	if stream == "" {
		return ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.options.Now()
	if _, ok := e.streams[stream]; !ok && len(e.streams) >= MaxStreams {
		for name, used := range e.streams {
			if now.Sub(used) > 2*idleCell {
				delete(e.streams, name)
			}
		}
		if len(e.streams) >= MaxStreams {
			return OtherStream
		}
	}
	stream = strings.Clone(stream)
	e.streams[stream] = now
	return stream
}
