package hist_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/hist"
)

func TestIndexGolden(t *testing.T) {
	t.Parallel()
	// The layout is on the wire and in journals: these numbers may change only with the journal's version.
	for d, want := range map[time.Duration]int{
		-time.Second: 0, 0: 0, 511: 0, 512: 1, 527: 1, 528: 2, 1023: 32, 1024: 33,
		time.Microsecond: 31, time.Millisecond: 350, time.Second: 668, 5 * time.Minute: 931,
		hist.Longest - 1: 960, hist.Longest: 961, math.MaxInt64: 961,
	} {
		require.Equal(t, want, hist.Index(d), "index of %d ns", d)
	}
	require.Equal(t, 962, hist.Buckets)
}

func TestBucketsTileTheLine(t *testing.T) {
	t.Parallel()
	require.Zero(t, hist.Lower(0))
	for i := range hist.Buckets {
		lower, upper := hist.Lower(i), hist.Upper(i)
		require.Less(t, lower, upper)
		require.Equal(t, i, hist.Index(lower))
		require.Equal(t, i, hist.Index(upper-1))
		require.Equal(t, i, hist.Index(hist.Mid(i)))
		if i == 0 || i == hist.Buckets-1 {
			continue
		}
		require.Equal(t, i+1, hist.Index(upper))
		require.LessOrEqual(t, float64(upper-lower)/float64(lower), hist.RelativeWidth)
	}
	require.LessOrEqual(t, hist.RelativeWidth, 0.032)
	require.Equal(t, time.Duration(math.MaxInt64), hist.Upper(hist.Buckets+5))
	require.Equal(t, hist.Lower(hist.Buckets-1), hist.Lower(hist.Buckets+5))
	require.Zero(t, hist.Lower(-1))
}

func TestDoublingShiftsByOneOctave(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		d := hist.Shortest + time.Duration(r.Int64N(int64(hist.Longest/2-hist.Shortest)))
		require.Equal(t, hist.Index(d)+32, hist.Index(2*d))
	}
}

// durations are log-uniform over the whole range and a little outside.
func durations(r *rand.Rand, n int) []time.Duration {
	ds := make([]time.Duration, n)
	for i := range ds {
		ds[i] = time.Duration(math.Exp(r.Float64() * math.Log(1e12)))
	}
	return ds
}

func record(ds []time.Duration) *hist.Histogram {
	var h hist.Histogram
	for _, d := range ds {
		h.Record(d)
	}
	return &h
}

func TestCountsAreExact(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		ds := durations(r, r.IntN(300))
		h := record(ds)
		require.EqualValues(t, len(ds), h.Count())
		i := r.IntN(hist.Buckets + 1)
		var above uint64
		for _, d := range ds {
			if i < hist.Buckets && d >= hist.Lower(i) {
				above++
			}
		}
		require.Equal(t, above, h.CountAbove(i))
		require.Equal(t, h.CountAbove(i)-h.CountAbove(i+1), h.CountIn(i))
	}
	require.Zero(t, record(nil).CountIn(-1))
}

func TestMergeEqualsRecordingEverything(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		ds := durations(r, 200)
		cut := r.IntN(len(ds))
		a, b := record(ds[:cut]), record(ds[cut:])
		b.Merge(a)
		require.Equal(t, record(ds), b)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		ds := durations(r, 1+r.IntN(200))
		for i := range ds {
			ds[i] = min(max(ds[i], hist.Shortest), hist.Longest-1)
		}
		h := record(ds)
		slices.Sort(ds)
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 1} {
			exact := ds[max(0, int(math.Ceil(q*float64(len(ds))))-1)]
			require.InEpsilon(t, float64(exact), float64(h.Quantile(q)), hist.RelativeWidth/2+1e-9)
		}
	}
	require.Zero(t, record(nil).Quantile(0.5))
	one := record([]time.Duration{time.Hour})
	require.Equal(t, hist.Longest, one.Quantile(0.5))
	require.Equal(t, one.Quantile(0), one.Quantile(math.NaN()))
	require.Equal(t, one.Quantile(1), one.Quantile(math.Inf(1)))
}

func TestSparseRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 10))
	for range 100 {
		h := record(durations(r, r.IntN(300)))
		var back hist.Histogram
		require.NoError(t, back.AddSparse(h.AppendSparse(nil)))
		require.Equal(t, h, &back)

		text, err := json.Marshal(h)
		require.NoError(t, err)
		again := *record(durations(r, 3))
		require.NoError(t, json.Unmarshal(text, &again))
		require.Equal(t, h, &again)
	}
	text, err := json.Marshal(record(nil))
	require.NoError(t, err)
	require.Equal(t, "[]", string(text))
}

func TestSparseRefuses(t *testing.T) {
	t.Parallel()
	for name, pairs := range map[string][]uint64{
		"odd length":      {1},
		"out of range":    {hist.Buckets, 1},
		"repeated index":  {3, 1, 3, 1},
		"falling index":   {3, 1, 2, 1},
		"empty bucket":    {3, 0},
		"too many":        {3, hist.MaxCount + 1},
		"too many in all": {3, hist.MaxCount, 4, 1},
		"overflow":        {3, math.MaxUint64, 4, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := record([]time.Duration{time.Second})
			want := *h
			require.ErrorIs(t, h.AddSparse(pairs), hist.ErrEncoding)
			require.Equal(t, want, *h)
		})
	}
	full := new(hist.Histogram)
	require.NoError(t, full.AddSparse([]uint64{3, hist.MaxCount}))
	require.ErrorIs(t, full.AddSparse([]uint64{3, 1}), hist.ErrEncoding)
	require.ErrorIs(t, json.Unmarshal([]byte(`[1,-2]`), full), hist.ErrEncoding)
	require.ErrorIs(t, json.Unmarshal([]byte(`[5000,2]`), full), hist.ErrEncoding)
	require.EqualValues(t, hist.MaxCount, full.Count())
}

func TestRecordDoesNotAllocate(t *testing.T) {
	var h hist.Histogram
	var c hist.Concurrent
	require.Zero(t, testing.AllocsPerRun(100, func() { h.Record(time.Millisecond); c.Record(time.Millisecond) }))
}

func TestConcurrentLosesNothing(t *testing.T) {
	t.Parallel()
	ds := durations(rand.New(rand.NewPCG(11, 12)), 4000)
	var c hist.Concurrent
	var h hist.Histogram
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for _, d := range ds[k*1000 : (k+1)*1000] {
				c.Record(d)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		c.Drain(&h)
	}
	require.Equal(t, record(ds), &h)
	var rest hist.Histogram
	c.Drain(&rest)
	require.Zero(t, rest.Count())
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`[]`))
	f.Add([]byte(`[1,2,30,4]`))
	f.Add([]byte(`[1,2,1,2]`))
	f.Add([]byte(`[961,9007199254740992]`))
	f.Add([]byte(`[1,1e3]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var h hist.Histogram
		if err := h.UnmarshalJSON(data); err != nil {
			require.ErrorIs(t, err, hist.ErrEncoding)
			require.Zero(t, h.Count())
			return
		}
		require.LessOrEqual(t, h.Count(), uint64(hist.MaxCount))
		text, err := json.Marshal(&h)
		require.NoError(t, err)
		var back hist.Histogram
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, h, back)
	})
}

func BenchmarkRecord(b *testing.B) {
	var h hist.Histogram
	for i := 0; b.Loop(); i++ {
		h.Record(time.Duration(i) << 10)
	}
}
