package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// fakeSidecar records leases, and has a few blocks of evidence.
type fakeSidecar struct {
	mu      sync.Mutex
	leases  []mesh.Lease
	states  map[string]mesh.Accounting
	changed chan struct{}
	blocks  []mesh.EvidenceBlock
	takes   int // of spans
}

func newFake() *fakeSidecar {
	return &fakeSidecar{states: map[string]mesh.Accounting{}, changed: make(chan struct{})}
}

func (f *fakeSidecar) Lease(l mesh.Lease, fault mesh.Fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leases = append(f.leases, l)
	if fault.From == "nobody" {
		return errors.New("there is nobody of that name")
	}
	a := f.states[l.Fault]
	a.Fault, a.Executor, a.State = l.Fault, "w", mesh.LeaseHeld
	if l.TTL == 0 {
		a.State = mesh.LeaseReleased
	}
	f.set(a)
	return nil
}

// set changes a fault's accounting; the caller holds mu.
func (f *fakeSidecar) set(a mesh.Accounting) {
	f.states[a.Fault] = a
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeSidecar) Account(fault string) (mesh.Accounting, <-chan struct{}, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.states[fault]
	return a, f.changed, ok
}

func (f *fakeSidecar) Next(ctx context.Context, from uint64) (mesh.EvidenceBlock, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.blocks {
		if b.Seq >= from {
			return b, nil
		}
	}
	return mesh.EvidenceBlock{}, io.EOF
}

func (f *fakeSidecar) TakeSpans() ([]byte, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takes++
	return fmt.Appendf(nil, "[%d]", f.takes), 7
}

// serve serves the sidecar, which may take its time to let go of faults, until the returned function is called.
func serve(t testing.TB, path string, f *fakeSidecar) (stop func()) {
	t.Helper()
	return serveSettling(t, path, f, time.Hour)
}

func serveSettling(t testing.TB, path string, f *fakeSidecar, settling time.Duration) (stop func()) {
	t.Helper()
	l, err := Listen(path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serveDirect(ctx, l, Verify("token"), &direct{leases: f, evidence: f, spans: f, settling: settling})
	}()
	return sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// run runs something until the returned function is called.
func run(t testing.TB, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

// await waits for the first holding that is wanted.
func await(t testing.TB, told <-chan Holding, wanted func(Holding) bool) Holding {
	t.Helper()
	for {
		select {
		case h := <-told:
			if wanted(h) {
				return h
			}
		case <-t.Context().Done():
			require.Fail(t, "the test ended")
		}
	}
}

func TestHolder(t *testing.T) {
	t.Parallel()
	path, f := socket(t), newFake()
	stop := serve(t, path, f)
	told := make(chan Holding, 1000)
	h := NewDirect(Unix(path), "token").NewHolder("run", 3, func(h Holding) { told <- h })
	defer run(t, h.Run)()
	fault := mesh.Fault{ID: "f", From: "a", To: "b", At: mesh.AtRequest, Abort: &mesh.Abort{Status: 503, Share: 1}}
	require.NoError(t, h.Hold(fault, 300*time.Millisecond))
	held := func(h Holding) bool { return h.Accounting.State == mesh.LeaseHeld }
	await(t, told, held)

	for f.count() < 4 { // renewed without being asked
		await(t, told, held)
	}
	stop()
	before := f.count()
	stop = serve(t, path, f)
	defer stop()
	for f.count() == before { // resent after a reconnect
		await(t, told, held)
	}

	require.NoError(t, h.Hold(mesh.Fault{ID: "g", From: "nobody"}, time.Second))
	refused := await(t, told, func(h Holding) bool { return h.Refused != nil })
	require.Equal(t, "g", refused.Fault)
	require.ErrorContains(t, refused.Refused, "nobody of that name")

	f.mu.Lock()
	f.set(mesh.Accounting{Fault: "f", State: mesh.LeaseHeld, Matched: 9, Active: 1})
	f.mu.Unlock()
	await(t, told, func(h Holding) bool { return h.Accounting.Matched == 9 })
	settled := make(chan mesh.Accounting, 1)
	go func() {
		a, err := h.Settle(t.Context(), "f")
		if err == nil {
			settled <- a
		}
		close(settled)
	}()
	await(t, told, func(h Holding) bool { return h.Accounting.State == mesh.LeaseReleased && h.Accounting.Active == 1 })
	f.mu.Lock()
	f.set(mesh.Accounting{Fault: "f", State: mesh.LeaseReleased, Matched: 9})
	f.mu.Unlock()
	require.Equal(t, mesh.Accounting{Fault: "f", State: mesh.LeaseReleased, Matched: 9}, <-settled, "settled when the last effect is over")

	_, err := h.Settle(t.Context(), "unknown")
	require.NoError(t, err, "a release of what was never held is known from then on")
	f.requireOrdered(t)
}

func TestHolderReportsResidue(t *testing.T) {
	t.Parallel()
	path, f := socket(t), newFake()
	defer serveSettling(t, path, f, time.Millisecond)()
	h := NewDirect(Unix(path), "token").NewHolder("run", 1, func(Holding) {})
	defer run(t, h.Run)()
	f.states["f"] = mesh.Accounting{Fault: "f", State: mesh.LeaseHeld, Active: 2}
	a, err := h.Settle(t.Context(), "f")
	require.NoError(t, err)
	require.EqualValues(t, 2, a.Active, "it never let go")
}

func (f *fakeSidecar) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.leases)
}

func (f *fakeSidecar) requireOrdered(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	last := map[string]mesh.Lease{}
	for _, l := range f.leases {
		require.Equal(t, "run", l.Run)
		if before, ok := last[l.Fault]; ok {
			require.True(t, l.Newer(before))
		}
		last[l.Fault] = l
	}
}

func TestHoldBounds(t *testing.T) {
	t.Parallel()
	h := NewDirect(nil, "").NewHolder("run", 1, nil)
	require.Error(t, h.Hold(mesh.Fault{ID: "f"}, 0))
	require.Error(t, h.Hold(mesh.Fault{ID: "f"}, mesh.MaxLeaseTTL+1))
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	path, f := socket(t), newFake()
	defer serve(t, path, f)()
	for _, seq := range []uint64{2, 3, 7} { // 1 was dropped, and so were 4 to 6
		f.blocks = append(f.blocks, mesh.EvidenceBlock{Instance: "w", Seq: seq, Cells: []mesh.EvidenceCell{{Requests: seq}}})
	}
	d := NewDirect(Unix(path), "token")
	var got []mesh.EvidenceBlock
	collect := func(b mesh.EvidenceBlock) error { got = append(got, b); return nil }
	require.NoError(t, d.Evidence(t.Context(), 0, collect))
	require.Equal(t, f.blocks, got)
	got = nil
	require.NoError(t, d.Evidence(t.Context(), 3, collect))
	require.Equal(t, f.blocks[1:], got)
	full := errors.New("the disk is full")
	require.ErrorIs(t, d.Evidence(t.Context(), 0, func(mesh.EvidenceBlock) error { return full }), full)
}

func TestSpansAreTaken(t *testing.T) {
	t.Parallel()
	path, f := socket(t), newFake()
	stop := serve(t, path, f)
	spans, err := NewDirect(Unix(path), "token").Spans()
	require.NoError(t, err)
	defer spans.Close()
	for _, want := range []string{"[1]", "[2]"} {
		text, lost, err := spans.Take(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, string(text))
		require.EqualValues(t, 7, lost)
	}
	stop()
	_, _, err = spans.Take(t.Context())
	require.ErrorContains(t, err, "taking spans: ")
	stop = serve(t, path, f)
	defer stop()
	for err != nil { // the connection is made anew
		_, _, err = spans.Take(t.Context())
	}
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	path, f := socket(t), newFake()
	defer serve(t, path, f)()
	stranger := NewDirect(Unix(path), "guess")
	require.ErrorContains(t, stranger.Evidence(t.Context(), 0, nil), "the token is not this sidecar's")
	spans, err := stranger.Spans()
	require.NoError(t, err)
	defer spans.Close()
	_, _, err = spans.Take(t.Context())
	require.ErrorContains(t, err, "the token is not this sidecar's")
	require.Zero(t, f.takes)
	require.ErrorContains(t, stranger.NewHolder("run", 1, func(Holding) {}).Run(t.Context()), "the token is not this sidecar's")
	require.Zero(t, f.count())
}
