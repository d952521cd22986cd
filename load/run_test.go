package load_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryHitIsSentWhenItIsDue(t *testing.T) {
	t.Parallel()
	ramp, err := load.Ramp(0, 400, 2*time.Second)
	require.NoError(t, err)
	pause, err := load.Steps(load.Step{Rate: 50, For: time.Second}, load.Step{For: time.Second}, load.Step{Rate: 100})
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		pacer load.Pacer
		for_  time.Duration
		want  uint64
	}{
		"constant":    {constant(t, 500), 2 * time.Second, 1000},
		"one":         {constant(t, 0.1), 2 * time.Second, 1},
		"ramp":        {ramp, 2 * time.Second, 400},
		"with pauses": {pause, 3 * time.Second, 150},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				server := serve(t, func(http.ResponseWriter, *http.Request) { time.Sleep(5 * time.Millisecond) })
				sink, records := collect()
				got, err := load.Run(t.Context(), load.Stream{
					Name: "users", URL: "http://shop", Pacer: tc.pacer, Duration: tc.for_, Dial: server.dial,
				}, sink)
				require.NoError(t, err)
				require.Equal(t, tc.want, got.Scheduled)
				require.Equal(t, tc.want, got.Sent)
				require.Equal(t, tc.want, got.OK.Count())
				require.Equal(t, 1.0, got.Achieved())
				require.Zero(t, got.Slip.Max, "nothing but the schedule decides when a hit is sent")
				require.Equal(t, 5*time.Millisecond, got.OK.Max)
				require.False(t, got.Stopped)

				require.Len(t, *records, int(tc.want))
				for i, r := range *records {
					require.EqualValues(t, i, r.Seq)
					at, _ := tc.pacer.At(r.Seq)
					require.Equal(t, load.Record{
						Seq: r.Seq, Intended: at, Sent: at, Answered: at + 5*time.Millisecond, Done: at + 5*time.Millisecond, Status: 200, OK: true,
					}, r)
				}
			})
		})
	}
}

// A server that answers nothing for a second: users who come in that second wait for the rest of it. Whether the
// generator has places enough to send to it meanwhile makes no difference to them.
func TestAStallIsSeenFromTheSchedule(t *testing.T) {
	t.Parallel()
	for name, places := range map[string]int{"open": 1000, "all places taken": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				start := time.Now()
				server := serve(t, func(http.ResponseWriter, *http.Request) {
					if at := time.Since(start); at >= time.Second && at < 2*time.Second {
						time.Sleep(2*time.Second - at)
					}
				})
				sink, records := collect()
				got, err := load.Run(t.Context(), load.Stream{
					Name: "users", URL: "http://shop", Pacer: constant(t, 100), Duration: 3 * time.Second, MaxInFlight: places, Dial: server.dial,
				}, sink)
				require.NoError(t, err)
				require.EqualValues(t, 300, got.OK.Count())
				require.Equal(t, 1.0, got.Achieved())
				for _, r := range *records {
					want := time.Duration(0)
					if r.Intended >= time.Second && r.Intended < 2*time.Second {
						want = 2*time.Second - r.Intended
					}
					require.Equal(t, want, r.Latency(), "intended at %v", r.Intended)
				}
				require.InDelta(t, time.Second, got.OK.Quantile(0.999), float64(20*time.Millisecond))
				if places == 1 {
					require.EqualValues(t, 300, got.Saturated)
					require.EqualValues(t, 90, got.Late, "those that were due 100 ms or more before the stall was over, but the first")
					require.Equal(t, 990*time.Millisecond, got.Slip.Max)
				} else {
					require.Zero(t, got.Saturated)
					require.Zero(t, got.Slip.Max)
				}
			})
		})
	}
}

func TestTheGraceEnds(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		server := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		sink, records := collect()
		got, err := load.Run(t.Context(), load.Stream{
			Name: "users", URL: "http://shop", Pacer: constant(t, 100), Duration: time.Second,
			MaxInFlight: 10, Timeout: time.Minute, Grace: 500 * time.Millisecond, Dial: server.dial,
		}, sink)
		require.NoError(t, err)
		require.Equal(t, 1500*time.Millisecond, got.Elapsed)
		require.EqualValues(t, 100, got.Scheduled)
		require.EqualValues(t, 10, got.Sent)
		require.EqualValues(t, 10, got.Unanswered)
		require.EqualValues(t, 90, got.Unsent())
		require.Zero(t, got.Completed)
		require.InDelta(t, 0.1, got.Achieved(), 1e-9)
		require.Equal(t, map[load.Class]uint64{load.Unanswered: 10}, got.Errors)
		require.Len(t, *records, 10)
	})
}

func TestStoppedEarly(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		duration time.Duration
		rate     float64
		stop     time.Duration
		want     uint64
	}{
		"before its duration":      {10 * time.Second, 100, 1005 * time.Millisecond, 101},
		"without a duration":       {0, 100, 1005 * time.Millisecond, 101},
		"while it waits for long":  {0, 0.01, 150 * time.Second, 2},
		"at the first hit":         {0, 100, time.Millisecond, 1},
		"between schedule and end": {time.Second, 100, 1010 * time.Millisecond, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				server := serve(t, func(http.ResponseWriter, *http.Request) { time.Sleep(50 * time.Millisecond) })
				ctx, cancel := context.WithTimeout(t.Context(), tc.stop)
				defer cancel()
				got, err := load.Run(ctx, load.Stream{
					Name: "users", URL: "http://shop", Pacer: constant(t, tc.rate), Duration: tc.duration, Dial: server.dial,
				}, nil)
				require.NoError(t, err)
				require.Equal(t, tc.want, got.Scheduled)
				require.Equal(t, tc.want, got.Sent)
				require.Equal(t, tc.want, got.OK.Count(), "what was under way is answered")
				require.Equal(t, 1.0, got.Achieved())
				require.Equal(t, tc.duration != time.Second, got.Stopped)
				require.Less(t, got.Elapsed, tc.stop+50*time.Millisecond, "no wait is slept through")
			})
		})
	}
}

// Hits that are due when the stop comes are not forgotten: a load that is stopped in the middle of a stall has fallen
// behind, and catches up.
func TestStoppedWhileBehind(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		start := time.Now()
		server := serve(t, func(http.ResponseWriter, *http.Request) {
			if at := time.Since(start); at < 2*time.Second {
				time.Sleep(2*time.Second - at)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 995*time.Millisecond)
		defer cancel()
		got, err := load.Run(ctx, load.Stream{
			Name: "users", URL: "http://shop", Pacer: constant(t, 100), MaxInFlight: 3, Dial: server.dial,
		}, nil)
		require.NoError(t, err)
		require.EqualValues(t, 100, got.Scheduled)
		require.EqualValues(t, 100, got.OK.Count())
		require.EqualValues(t, 97, got.Late)
	})
}

func TestASecondStopAfterTheGraceIsHarmless(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		server := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
		defer close(release)
		ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond)
		defer cancel()
		got, err := load.Run(ctx, load.Stream{
			Name: "users", URL: "http://shop", Pacer: constant(t, 10), Duration: time.Second, Grace: 100 * time.Millisecond, Dial: server.dial,
		}, nil)
		require.NoError(t, err)
		require.EqualValues(t, 10, got.Unanswered)
	})
}

func TestTheScheduleMayEndBeforeTheDuration(t *testing.T) {
	t.Parallel()
	down, err := load.Ramp(100, 0, 2*time.Second)
	require.NoError(t, err)
	for _, duration := range []time.Duration{0, time.Minute} {
		testbubble.Test(t, func(t *testing.T) {
			server := serve(t, func(http.ResponseWriter, *http.Request) {})
			got, err := load.Run(t.Context(), load.Stream{Name: "users", URL: "http://shop", Pacer: down, Duration: duration, Dial: server.dial}, nil)
			require.NoError(t, err)
			require.EqualValues(t, 100, got.Scheduled)
			require.EqualValues(t, 100, got.OK.Count())
			require.False(t, got.Stopped)
		})
	}
}

// A sink that does not take anything holds up neither the requests nor the counts.
func TestASlowSink(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		server := serve(t, func(http.ResponseWriter, *http.Request) {})
		const queue = 10
		seen := 0
		got, err := load.Run(t.Context(), load.Stream{
			Name: "users", URL: "http://shop", Pacer: constant(t, 100), Duration: time.Second, Queue: queue, Dial: server.dial,
		}, func(load.Record) {
			if seen++; seen == 1 {
				time.Sleep(10 * time.Second)
			}
		})
		require.NoError(t, err)
		require.EqualValues(t, 100, got.OK.Count())
		require.Zero(t, got.Slip.Max)
		require.EqualValues(t, 100-1-queue, got.Lost)
		require.Equal(t, 1+queue, seen)
	})
}

func TestRunTwice(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		server := serve(t, func(http.ResponseWriter, *http.Request) {})
		stream := load.Stream{Name: "users", URL: "http://shop", Pacer: constant(t, 100), Duration: time.Second, Dial: server.dial}
		for range 2 {
			got, err := load.Run(t.Context(), stream, nil)
			require.NoError(t, err)
			require.EqualValues(t, 100, got.OK.Count())
		}
	})
}

func TestNothingCanBeSent(t *testing.T) {
	t.Parallel()
	good := load.Stream{Name: "users", URL: "http://shop", Pacer: constant(t, 1), Duration: time.Second}
	for want, spoil := range map[string]func(*load.Stream){
		`name ""`:                         func(s *load.Stream) { s.Name = "" },
		`name "a b"`:                      func(s *load.Stream) { s.Name = "a b" },
		`method "G T" is not a token`:     func(s *load.Stream) { s.Method = "G T" },
		`method CONNECT is not supported`: func(s *load.Stream) { s.Method = "CONNECT" },
		`url: parse`:                      func(s *load.Stream) { s.URL = "http://%zz" },
		`want an absolute http or https`:  func(s *load.Stream) { s.URL = "/path" },
		`header "x y": not a header name`: func(s *load.Stream) { s.Headers = http.Header{"x y": {"1"}} },
		`header X: its value cannot be`:   func(s *load.Stream) { s.Headers = http.Header{"X": {"a\r\nb"}} },
		`expected statuses 300 to 200`:    func(s *load.Stream) { s.Expect = []load.StatusRange{{300, 200}} },
		`no schedule`:                     func(s *load.Stream) { s.Pacer = nil },
		`negative duration`:               func(s *load.Stream) { s.Timeout = -1 },
		`negative bound`:                  func(s *load.Stream) { s.MaxInFlight = -1 },
	} {
		s := good
		spoil(&s)
		_, err := load.Run(t.Context(), s, nil)
		require.ErrorContains(t, err, want)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := load.Run(cancelled, good, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// On a real network and clock.
func TestFiveHundredPerSecond(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }))
	defer server.Close()
	sink, records := collect()
	got, err := load.Run(t.Context(), load.Stream{
		Name: "users", URL: server.URL, Pacer: load.Poisson(constant(t, 500), 1), Duration: 2 * time.Second, Timeout: time.Minute, // a machine that stops for a while is slow then
	}, sink)
	require.NoError(t, err)
	require.Equal(t, got.Scheduled, got.Sent)
	require.Len(t, *records, int(got.Sent))
	seqs := map[uint64]bool{}
	for _, r := range *records {
		seqs[r.Seq] = true
		require.True(t, r.OK, "%+v", r)
		require.EqualValues(t, 5, r.BytesIn)
		require.True(t, slices.IsSorted([]time.Duration{r.Intended, r.Sent, r.Answered, r.Done}), "%+v", r)
	}
	require.Len(t, seqs, int(got.Sent))
	require.Equal(t, got.Sent, got.OK.Count())
	t.Logf("slip p50 %v p99 %v max %v", got.Slip.Quantile(.5), got.Slip.Quantile(.99), got.Slip.Max)
	t.Logf("latency p50 %v p99 %v max %v", got.OK.Quantile(.5), got.OK.Quantile(.99), got.OK.Max)
}
