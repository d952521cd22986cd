package injector_test

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/injector"
	"meshtest.dev/meshtest/mesh"
)

func fault(change func(*mesh.Fault)) mesh.Fault {
	f := mesh.Fault{ID: "f", From: "a", To: "b", At: mesh.AtRequest}
	change(&f)
	return f
}

func key(i int) string { return fmt.Sprintf("users-%d", i) }

func TestShareIsBinomial(t *testing.T) {
	t.Parallel()
	const n = 20_000
	for _, share := range []float64{0, 0.001, 0.05, 0.5, 0.9, 1} {
		for _, at := range []mesh.FaultPoint{mesh.AtRequest, mesh.AtAttempt} {
			t.Run(fmt.Sprint(share, at), func(t *testing.T) {
				t.Parallel()
				f := fault(func(f *mesh.Fault) {
					f.At, f.Abort, f.Delay = at, &mesh.Abort{Status: 503, Share: share}, &mesh.Delay{Fixed: time.Second, Share: share}
				})
				var aborted, delayed, both float64
				d := injector.NewDecider(f)
				for i := range n {
					e := d.Decide(42, key(i), 1, uint64(i+1))
					require.Equal(t, e, injector.Decide(f, 42, key(i), 1, uint64(i+1)))
					if e.Abort == 503 {
						aborted++
					}
					if e.Delay == time.Second {
						delayed++
					}
					if e.Abort == 503 && e.Delay == time.Second {
						both++
					}
				}
				within(t, aborted, n, share)
				within(t, delayed, n, share)
				within(t, both, n, share*share) // the two draws are independent
			})
		}
	}
}

// within checks a count against five standard deviations of the binomial distribution.
func within(t *testing.T, count, n, share float64) {
	t.Helper()
	require.InDelta(t, n*share, count, 5*math.Sqrt(n*share*(1-share)))
}

func TestAttemptsAreDrawnAgainOnlyBelowRetries(t *testing.T) {
	t.Parallel()
	half := func(at mesh.FaultPoint) mesh.Fault {
		return fault(func(f *mesh.Fault) { f.At, f.Abort = at, &mesh.Abort{Status: 500, Share: 0.5} })
	}
	differ := 0
	for i := range 1000 {
		require.Equal(t, injector.Decide(half(mesh.AtRequest), 1, key(i), 0, 1), injector.Decide(half(mesh.AtRequest), 1, key(i), 7, 9))
		if injector.Decide(half(mesh.AtAttempt), 1, key(i), 1, 1) != injector.Decide(half(mesh.AtAttempt), 1, key(i), 2, 1) {
			differ++
		}
	}
	within(t, float64(differ), 1000, 0.5)
}

func TestDrawsDependOnTheFaultAlone(t *testing.T) {
	t.Parallel()
	f := fault(func(f *mesh.Fault) { f.Abort = &mesh.Abort{Status: 503, Share: 0.3} })
	other := f
	other.ID = "g"
	edge := f
	edge.From = "c"
	delayed := f
	delayed.Delay = &mesh.Delay{Fixed: time.Second, Share: 0.3}
	otherID, otherEdge, otherSeed := 0, 0, 0
	for i := range 2000 {
		e := injector.Decide(f, 1, key(i), 0, 1)
		require.Equal(t, e.Abort, injector.Decide(delayed, 1, key(i), 0, 1).Abort, "a delay moves no abort")
		if e != injector.Decide(other, 1, key(i), 0, 1) {
			otherID++
		}
		if e != injector.Decide(edge, 1, key(i), 0, 1) {
			otherEdge++
		}
		if e != injector.Decide(f, 2, key(i), 0, 1) {
			otherSeed++
		}
	}
	for _, differ := range []int{otherID, otherEdge, otherSeed} {
		within(t, float64(differ), 2000, 2*0.3*0.7)
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	acts := func(f mesh.Fault, n int) (acted []int) {
		for i := range n {
			if !injector.Decide(f, 1, key(i), 0, uint64(i+1)).IsZero() {
				acted = append(acted, i+1)
			}
		}
		return acted
	}
	abort := &mesh.Abort{Status: 503, Share: 1}
	require.Equal(t, []int{1, 2, 3}, acts(fault(func(f *mesh.Fault) { f.Abort, f.First = abort, 3 }), 10))
	require.Equal(t, []int{4, 8}, acts(fault(func(f *mesh.Fault) { f.Abort, f.Every = &mesh.Abort{Status: 503}, 4 }), 10), "every does not look at the share")
	require.Equal(t, []int{2, 4}, acts(fault(func(f *mesh.Fault) { f.Abort, f.Every, f.First = abort, 2, 5 }), 10))
	require.Len(t, acts(fault(func(f *mesh.Fault) { f.Abort = abort }), 10), 10)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, injector.Validate(fault(func(f *mesh.Fault) { f.Delay = &mesh.Delay{Fixed: time.Second, Share: 1} })))
	err := injector.Validate(mesh.Fault{At: "never", Delay: &mesh.Delay{Share: 2}, Abort: &mesh.Abort{Status: 99, Share: math.NaN()}})
	for _, text := range []string{"no id", "both ends", `"never"`, "a delay of 0s", "status 99", "delay share of 2", "abort share of NaN"} {
		require.ErrorContains(t, err, text)
	}
	require.ErrorContains(t, injector.Validate(fault(func(*mesh.Fault) {})), "neither delays nor aborts")
}

func TestTallyIsExact(t *testing.T) {
	t.Parallel()
	var tally injector.Tally
	var wg sync.WaitGroup
	const workers, each = 8, 1000
	for range workers {
		wg.Go(func() {
			for range each {
				tally.Matched()
				if tally.Begin(3) {
					tally.Delayed()
					tally.End()
				}
			}
		})
	}
	wg.Wait()
	a := tally.Accounting("f", "w", mesh.LeaseReleased)
	require.EqualValues(t, workers*each, a.Matched)
	require.EqualValues(t, workers*each, a.Delayed+a.Overflow)
	require.Zero(t, a.Active)
}

func TestMaxActive(t *testing.T) {
	t.Parallel()
	var tally injector.Tally
	require.True(t, tally.Begin(2))
	require.True(t, tally.Begin(2))
	require.False(t, tally.Begin(2))
	require.False(t, tally.End())
	require.True(t, tally.Begin(2))
	require.False(t, tally.End())
	require.True(t, tally.End(), "the last one")
	require.EqualValues(t, 1, tally.Accounting("", "", "").Overflow)
}
