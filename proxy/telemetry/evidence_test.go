package telemetry

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/mesh"
)

var (
	edge   = mesh.Edge{From: "web", To: "api"}
	stable = Cell{Edge: edge, Route: "primary", Version: "v1", Share: 0.95}
	canary = Cell{Edge: edge, Route: "primary", Version: "v2", Share: 0.05}
	gen1   = mesh.Generation{Epoch: 1, Counter: 1}
	gen2   = mesh.Generation{Epoch: 1, Counter: 2}
)

// pass lets a bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// told runs an evidence in a bubble of its own time and gives the test a way to wait for the next block.
func told(t *testing.T, o EvidenceOptions, test func(e *Evidence, next func() mesh.EvidenceBlock)) {
	t.Helper()
	testbubble.Test(t, func(t *testing.T) {
		o.Instance = "web-v1-1"
		e := NewEvidence(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { e.Run(ctx); close(done) }()
		seq := uint64(0)
		test(e, func() mesh.EvidenceBlock {
			b, err := e.Next(t.Context(), seq+1)
			require.NoError(t, err)
			require.Equal(t, seq+1, b.Seq)
			seq = b.Seq
			return b
		})
		cancel()
		<-done
	})
}

func TestBlock(t *testing.T) {
	t.Parallel()
	told(t, EvidenceOptions{}, func(e *Evidence, next func() mesh.EvidenceBlock) {
		r := e.Recorder(stable)
		r.Record(Sample{Key: "users-1", Generation: gen1, Status: 200, Attempts: 2, AttemptsKO: 1, Latency: 3 * time.Millisecond})
		e.Recorder(stable).Record(Sample{Key: "users-2", Generation: gen1, Status: 404, Attempts: 1, Latency: 5 * time.Millisecond, Minted: true})
		r.Record(Sample{Key: "testers-1", Generation: gen1, Status: 200, Attempts: 1})
		r.Record(Sample{Key: "users-3", Generation: gen2, Status: 200, Attempts: 1})
		r.Record(Sample{Key: "no stream", Generation: gen1, Status: 200, Attempts: 1})
		b := next()
		require.Equal(t, "web-v1-1", b.Instance)
		require.Zero(t, b.Start)
		require.Equal(t, DefaultInterval, b.End)
		require.Equal(t, []mesh.EdgeCount{{Edge: edge, Seen: 5, Minted: 1}}, b.Edges)
		require.Empty(t, b.Errors)
		require.Len(t, b.Cells, 4)
		want := mesh.EvidenceCell{
			Edge: edge, Stream: "users", Route: "primary", Version: "v1", Share: 0.95, Generation: gen1, Requests: 2, Attempts: 3, AttemptsKO: 1,
			Latency:    []uint64{uint64(hist.Index(3 * time.Millisecond)), 1, uint64(hist.Index(5 * time.Millisecond)), 1},
			LatencySum: 8 * time.Millisecond,
		}
		require.Equal(t, want, b.Cells[2])
		require.Equal(t, gen2, b.Cells[3].Generation)
		require.Equal(t, []string{"", "testers"}, []string{b.Cells[0].Stream, b.Cells[1].Stream})

		r.Record(Sample{Key: "users-4", Generation: gen1, Status: 200, Attempts: 1, Latency: 3 * time.Millisecond})
		second := next()
		require.Equal(t, b.End, second.Start, "blocks leave no gap")
		require.Len(t, second.Cells, 1)
		require.EqualValues(t, 1, second.Cells[0].Requests, "what was told is not told again")
		require.Equal(t, []uint64{uint64(hist.Index(3 * time.Millisecond)), 1}, second.Cells[0].Latency)
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	told(t, EvidenceOptions{}, func(e *Evidence, next func() mesh.EvidenceBlock) {
		r := e.Recorder(canary)
		pass(50 * time.Millisecond)
		r.Record(Sample{Key: "users-1", Status: 500, Latency: time.Millisecond, Attempts: 1, AttemptsKO: 1})
		r.Record(Sample{Key: "users-2", Status: 503, Latency: time.Millisecond, ByFault: true, Reason: "fault"})
		r.Record(Sample{Key: "users-3", Status: 504, Latency: time.Millisecond, ByMesh: true, Reason: "timeout"})
		r.Record(Sample{Key: "users-4", Status: 200, Failed: true, Latency: time.Millisecond, Attempts: 1, AttemptsKO: 1})
		r.Record(Sample{Key: "users-5", Status: 404, ByFault: true, Latency: time.Second})
		var c mesh.EvidenceCell
		var errors []mesh.EvidenceError
		for c.Requests < 5 { // the first error ends a block at once, maybe before the others are recorded
			b := next()
			errors = append(errors, b.Errors...)
			for _, one := range b.Cells {
				c.Requests, c.Failed, c.ByFault, c.ByMesh = c.Requests+one.Requests, c.Failed+one.Failed, c.ByFault+one.ByFault, c.ByMesh+one.ByMesh
				c.Attempts, c.AttemptsKO = c.Attempts+one.Attempts, c.AttemptsKO+one.AttemptsKO
				c.LatencySum, c.FailedSum = c.LatencySum+one.LatencySum, c.FailedSum+one.FailedSum
			}
		}
		require.EqualValues(t, []uint64{5, 4, 1, 1, 2, 2}, []uint64{c.Requests, c.Failed, c.ByFault, c.ByMesh, c.Attempts, c.AttemptsKO})
		require.Equal(t, time.Second, c.LatencySum)
		require.Equal(t, 4*time.Millisecond, c.FailedSum)
		require.Len(t, errors, 4)
		require.Contains(t, errors, mesh.EvidenceError{
			At: 50 * time.Millisecond, Edge: edge, Key: "users-2", Version: "v2", Route: "primary", Status: 503, Reason: "fault", Latency: time.Millisecond,
		})
	})
}

// The first error of a cell is told at once, and so is every single one while they are rare.
func TestAnErrorCutsTheBlock(t *testing.T) {
	t.Parallel()
	told(t, EvidenceOptions{}, func(e *Evidence, next func() mesh.EvidenceBlock) {
		good, bad := e.Recorder(stable), e.Recorder(canary)
		good.Record(Sample{Key: "users-1", Status: 200})
		pass(30 * time.Millisecond)
		for i := range 3 {
			at := e.since()
			bad.Record(Sample{Key: "users-2", Status: 500})
			b := next()
			require.Equal(t, at, e.since(), "error %d is told without a wait", i)
			require.Len(t, b.Errors, 1)
			pass(5 * time.Millisecond)
		}
		bad.Record(Sample{Key: "users-3", Status: 500})
		next()
		at := e.since()
		bad.Record(Sample{Key: "users-4", Status: 500})
		next()
		require.Equal(t, minCut, e.since()-at, "but blocks keep a distance")
	})
}

func TestManyErrorsAreSampledAndBlocksBounded(t *testing.T) {
	t.Parallel()
	told(t, EvidenceOptions{}, func(e *Evidence, next func() mesh.EvidenceBlock) {
		r := e.Recorder(canary)
		const seconds, perMillisecond = 4, 5
		for range seconds * 1000 {
			for range perMillisecond {
				r.Record(Sample{Key: "users-1", Status: 500})
			}
			pass(time.Millisecond)
		}
		pass(DefaultInterval)
		synctest.Wait()
		var failed uint64
		blocks, errors := 0, 0
		for failed < seconds*1000*perMillisecond {
			b := next()
			blocks++
			errors += len(b.Errors)
			require.LessOrEqual(t, len(b.Errors), MaxErrors)
			for _, c := range b.Cells {
				failed += c.Failed
			}
		}
		require.EqualValues(t, seconds*1000*perMillisecond, failed, "counts are exact")
		require.LessOrEqual(t, errors, (seconds*10+2)*MaxErrors)
		require.GreaterOrEqual(t, errors, seconds*9*MaxErrors)
		require.LessOrEqual(t, blocks, cutsPerSecond*(seconds+1)+10*(seconds+1), "50 early ones a second after a burst of 50, and the regular ones")
	})
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	told(t, EvidenceOptions{}, func(e *Evidence, next func() mesh.EvidenceBlock) {
		for i := range 3 {
			b := next()
			require.Equal(t, time.Duration(i+1)*DefaultHeartbeat, b.End)
			require.Empty(t, b.Cells)
			require.Empty(t, b.Edges)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	told(t, EvidenceOptions{}, func(e *Evidence, next func() mesh.EvidenceBlock) {
		r := e.Recorder(stable)
		for i := range MaxStreams + 10 {
			r.Record(Sample{Key: fmt.Sprintf("stream%d-1", i), Status: 200})
		}
		b := next()
		require.Len(t, b.Cells, MaxStreams+1)
		counts := map[string]uint64{}
		for _, c := range b.Cells {
			counts[c.Stream] += c.Requests
		}
		require.EqualValues(t, 10, counts[OtherStream])

		for range 30 { // one stream lives on, the others make room
			pass(time.Second)
			r.Record(Sample{Key: "stream0-2", Status: 200})
		}
		for next().End < e.since()-time.Second {
		}
		synctest.Wait() // a block is cut at this very moment: it must not end between what comes
		for i := range MaxStreams {
			r.Record(Sample{Key: fmt.Sprintf("new%d-1", i), Status: 200})
		}
		r.Record(Sample{Key: "stream0-3", Status: 200})
		counts = map[string]uint64{}
		for counts["stream0"] == 0 || counts["new0"] == 0 {
			for _, c := range next().Cells {
				counts[c.Stream] += c.Requests
			}
		}
		require.EqualValues(t, 1, counts[OtherStream], "63 new ones have a place beside the old one")
	})
}

func TestIdleMemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	told(t, EvidenceOptions{}, func(e *Evidence, next func() mesh.EvidenceBlock) {
		r := e.Recorder(stable)
		r.Record(Sample{Key: "users-1", Status: 200})
		next()
		pass(2 * idleCell)
		synctest.Wait()
		for i := range r.shards {
			require.Empty(t, r.shards[i].cells)
			require.False(t, r.shards[i].told)
		}
		r.Record(Sample{Key: "users-2", Status: 200})
		for len(next().Cells) == 0 {
		}
	})
}

func TestReplay(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		e := NewEvidence(EvidenceOptions{Replay: 5 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		go e.Run(ctx)
		pass(20*time.Second + 1)
		synctest.Wait()

		var seqs []uint64
		for b, err := range e.Subscribe(t.Context(), 0) {
			require.NoError(t, err)
			seqs = append(seqs, b.Seq)
			if b.Seq == 20 {
				break
			}
		}
		require.Equal(t, []uint64{15, 16, 17, 18, 19, 20}, seqs, "who comes back too late sees the gap")

		b, err := e.Next(t.Context(), 18)
		require.NoError(t, err)
		require.EqualValues(t, 18, b.Seq)

		short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer stop()
		_, err = e.Next(short, 21)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		e.Recorder(stable).Record(Sample{Key: "users-1", Status: 200})
		cancel()
		var last mesh.EvidenceBlock
		for b, err := range e.Subscribe(t.Context(), 21) {
			require.NoError(t, err)
			last = b
		}
		require.EqualValues(t, 1, last.Cells[0].Requests, "the end tells what is left")
		_, err = e.Next(t.Context(), last.Seq+1)
		require.ErrorIs(t, err, io.EOF)
	})
}

// Everything that concurrent recorders record is in exactly one block, however often blocks are cut.
func TestConcurrentRecordersLoseNothing(t *testing.T) {
	t.Parallel()
	e := NewEvidence(EvidenceOptions{Interval: 2 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { e.Run(ctx); close(done) }()

	const workers, each = 8, 4000
	var want, got mesh.EvidenceCell
	var mu sync.Mutex
	var group sync.WaitGroup
	shared := []*Recorder{e.Recorder(stable), e.Recorder(canary)}
	for w := range workers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 0))
			var mine mesh.EvidenceCell
			for i := range each {
				s := Sample{Key: fmt.Sprintf("s%d-%d", random.IntN(3), i), Generation: gen1, Status: 200, Attempts: 1, Latency: time.Duration(random.IntN(1e9))}
				if random.IntN(50) == 0 {
					s.Status, s.ByFault = 503, true
					mine.Failed++
					mine.ByFault++
					mine.FailedSum += s.Latency
				} else {
					mine.LatencySum += s.Latency
				}
				shared[random.IntN(2)].Record(s)
			}
			mu.Lock()
			want.Failed += mine.Failed
			want.ByFault += mine.ByFault
			want.FailedSum += mine.FailedSum
			want.LatencySum += mine.LatencySum
			mu.Unlock()
		})
	}
	go func() { group.Wait(); cancel() }()

	var latencies, seen uint64
	seq := uint64(0)
	for b, err := range e.Subscribe(t.Context(), 0) {
		require.NoError(t, err)
		require.Equal(t, seq+1, b.Seq)
		seq = b.Seq
		for _, c := range b.Edges {
			seen += c.Seen
		}
		for _, c := range b.Cells {
			got.Requests += c.Requests
			got.Failed += c.Failed
			got.ByFault += c.ByFault
			got.Attempts += c.Attempts
			got.LatencySum += c.LatencySum
			got.FailedSum += c.FailedSum
			var h hist.Histogram
			require.NoError(t, h.AddSparse(c.Latency))
			require.Equal(t, c.Requests-c.Failed, h.Count())
			latencies += h.Count()
		}
	}
	<-done
	want.Requests, want.Attempts = workers*each, workers*each
	require.Equal(t, want, got)
	require.EqualValues(t, workers*each, seen)
	require.Equal(t, want.Requests-want.Failed, latencies)
}
