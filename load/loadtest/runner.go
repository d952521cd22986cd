package loadtest

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/load"
)

// Runner sends a stream: load.Run, or whatever has it sent elsewhere.
type Runner func(ctx context.Context, s load.Stream, sink func(load.Record)) (*load.Result, error)

// Runs checks what every Runner promises. Make makes one, inside a synctest bubble, whose streams connect by dial. Within is how late a record may reach the sink.
func Runs(t *testing.T, within time.Duration, make func(t *testing.T, dial load.DialFunc) Runner) {
	t.Helper()
	for name, check := range map[string]func(*testing.T, bench){
		"records arrive in order and add up":           complete,
		"records arrive soon":                          soon,
		"failures are told apart":                      failures,
		"what is sent is what the stream says":         faithful,
		"calls of gRPC":                                calls,
		"it stops early, in grace":                     stopsEarly,
		"the grace ends":                               graceEnds,
		"it does not begin when it is already stopped": neverBegins,
		"what cannot be sent is refused":               refuses,
		"a slow sink holds up nothing":                 slowSink,
		"no sink":                                      noSink,
		"streams side by side":                         sideBySide,
		"a quiet stream":                               quiet,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				check(t, bench{within: within, make: func(h http.HandlerFunc) Runner { return make(t, Serve(t, h)) }})
			})
		})
	}
}

// A bench makes the Runner under test, and the server that it sends to.
type bench struct {
	within time.Duration
	make   func(http.HandlerFunc) Runner
}

func stream(t *testing.T, rate float64, d time.Duration) load.Stream {
	t.Helper()
	c, err := load.Constant(rate)
	require.NoError(t, err)
	return load.Stream{Name: "users", URL: "http://shop/", Pacer: c, Duration: d}
}

// pause takes no time outside the bubble.
func pause(d time.Duration) { <-time.After(d) }

// taken is what a sink got, and when.
type taken struct {
	records []load.Record
	at      []time.Time
}

func (s *taken) take(r load.Record) { s.records, s.at = append(s.records, r), append(s.at, time.Now()) }

func (s *taken) sum() load.Summary {
	var sum load.Summary
	for _, r := range s.records {
		sum.Add(r)
	}
	return sum
}

func complete(t *testing.T, b bench) {
	var began time.Time
	run := b.make(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Request-Id") == "users-0" {
			began = time.Now()
		}
		pause(5 * time.Millisecond)
		io.WriteString(w, "hello")
	})
	s := stream(t, 500, 2*time.Second)
	s.Pacer = load.Poisson(s.Pacer.(load.Curve), 7)
	var sink taken
	got, err := run(t.Context(), s, sink.take)
	require.NoError(t, err)
	require.Equal(t, load.Count(s.Pacer, s.Duration), got.Scheduled)
	require.Equal(t, got.Scheduled, got.OK.Count())
	require.Equal(t, sink.sum(), got.Summary, "the result is the sum of the records")
	require.Zero(t, got.Lost)
	require.Zero(t, got.Slip.Max, "nothing but the schedule decides when a hit is sent")
	require.False(t, got.Stopped)
	require.Equal(t, "users", got.Stream)
	require.Equal(t, 2*time.Second, got.End)
	require.Equal(t, sink.records[len(sink.records)-1].Done, got.Elapsed)
	require.WithinDuration(t, began, got.Start.Add(sink.records[0].Sent), got.StartError, "the start is on this clock")
	for i, r := range sink.records {
		at, _ := s.Pacer.At(uint64(i))
		require.Equal(t, load.Record{Seq: uint64(i), Intended: at, Sent: at, Answered: at + 5*time.Millisecond, Done: at + 5*time.Millisecond, Status: 200, OK: true, BytesIn: 5}, r)
	}
}

func soon(t *testing.T, b bench) {
	run := b.make(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Request-Id") == "users-55" {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	var sink taken
	got, err := run(t.Context(), stream(t, 100, time.Second), sink.take)
	require.NoError(t, err)
	require.Len(t, sink.records, 100)
	for i, r := range sink.records {
		late := sink.at[i].Sub(got.Start.Add(r.Done))
		require.LessOrEqual(t, late, b.within, "record %d", i)
		if !r.OK {
			require.Zero(t, late, "a first failure comes at once")
			require.EqualValues(t, 55, i)
		}
	}
}

func failures(t *testing.T, b bench) {
	run := b.make(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Request-Id") {
		case "users-3":
			panic(http.ErrAbortHandler)
		case "users-5":
			<-r.Context().Done()
		case "users-7":
			w.Header().Set("X-Why", "fault")
			w.Header().Set("X-Where", "here")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "users-8":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
		}
	})
	s := stream(t, 100, 100*time.Millisecond)
	s.Timeout, s.Capture = time.Second, []string{"x-why", "x-where", "x-other"}
	var sink taken
	got, err := run(t.Context(), s, sink.take)
	require.NoError(t, err)
	require.Equal(t, sink.sum(), got.Summary)
	require.Equal(t, map[load.Class]uint64{load.EOF: 2, load.Timeout: 1}, got.Errors)
	require.Equal(t, map[int]uint64{200: 7, 503: 1}, got.Statuses)
	require.EqualValues(t, 6, got.OK.Count())
	require.Contains(t, got.Examples[load.EOF], "EOF")
	bySeq := map[uint64]load.Record{}
	for _, r := range sink.records {
		bySeq[r.Seq] = r
	}
	require.Equal(t, load.EOF, bySeq[3].Class)
	require.Equal(t, load.Timeout, bySeq[5].Class)
	require.Zero(t, bySeq[5].Answered)
	require.Equal(t, map[string]string{"x-why": "fault", "x-where": "here"}, bySeq[7].Captured)
	require.Equal(t, 503, bySeq[7].Status)
	require.Equal(t, load.EOF, bySeq[8].Class)
	require.EqualValues(t, 4, bySeq[8].BytesIn)
}

func faithful(t *testing.T, b bench) {
	var mu sync.Mutex
	bodies := map[string]int{}
	run := b.make(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies[r.Method+" "+r.Host+r.RequestURI+" "+r.Header.Get("X-Dev-User")+" "+string(body)]++
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "too long")
	})
	s := stream(t, 100, 100*time.Millisecond)
	s.Method, s.URL, s.Body, s.MaxBody = "PUT", "http://shop/buy?item=1", []byte("x\x00\xffy"), 7
	s.Headers = http.Header{"x-dev-user": {"tester"}, "Host": {"shop.example"}}
	s.Expect = []load.StatusRange{{Min: 418, Max: 418}}
	got, err := run(t.Context(), s, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"PUT shop.example/buy?item=1 tester x\x00\xffy": 10}, bodies)
	require.Equal(t, map[load.Class]uint64{load.Oversize: 10}, got.Errors)
	s.MaxBody = 0
	got, err = run(t.Context(), s, nil)
	require.NoError(t, err)
	require.EqualValues(t, 10, got.OK.Count())
}

// Calls of gRPC are told as requests are, by the statuses in their trailers.
func calls(t *testing.T, b bench) {
	run := b.make(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ProtoMajor != 2 || r.Method != "POST" || r.URL.Path != "/shop.Cart/Add" || r.Header.Get("Content-Type") != "application/grpc" ||
			r.Header.Get("Te") != "trailers" || string(body) != "\x00\x00\x00\x00\x03\x0a\x01x" {
			t.Errorf("%s %s %s %v %q %v", r.Proto, r.Method, r.URL, r.Header, body, err)
		}
		w.Header().Set("Content-Type", "application/grpc")
		switch r.Header.Get("X-Request-Id") {
		case "users-1": // without a message
			w.Header().Set("Grpc-Status", "5")
			return
		case "users-2":
			w.Header().Set("X-Meshtest-Reason", "fault")
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "14")
		case "users-3":
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "99")
		case "users-4": // no status at all
		case "users-5":
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusBadGateway)
		case "users-6":
			panic(http.ErrAbortHandler)
		default:
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		}
		io.WriteString(w, "\x00\x00\x00\x00\x00")
	})
	s := stream(t, 100, 100*time.Millisecond)
	s.GRPC, s.URL, s.Body, s.Capture = true, "http://shop/shop.Cart/Add", []byte("\x0a\x01x"), []string{"grpc-status", "x-meshtest-reason"}
	s.Expect = []load.StatusRange{{Min: 200, Max: 499}}
	var sink taken
	got, err := run(t.Context(), s, sink.take)
	require.NoError(t, err)
	require.Equal(t, sink.sum(), got.Summary)
	require.Equal(t, map[int]uint64{200: 4, 404: 1, 503: 1, 500: 2, 502: 1}, got.Statuses)
	require.Equal(t, map[load.Class]uint64{load.Reset: 1}, got.Errors)
	require.EqualValues(t, 5, got.OK.Count())
	for _, r := range sink.records {
		switch r.Seq {
		case 0:
			require.EqualValues(t, 5, r.BytesIn)
			require.Equal(t, map[string]string{"grpc-status": "0"}, r.Captured)
		case 1:
			require.Equal(t, map[string]string{"grpc-status": "5"}, r.Captured)
		case 2:
			require.Equal(t, map[string]string{"grpc-status": "14", "x-meshtest-reason": "fault"}, r.Captured)
		}
	}
}

func stopsEarly(t *testing.T, b bench) {
	run := b.make(func(http.ResponseWriter, *http.Request) { pause(300 * time.Millisecond) })
	for _, duration := range []time.Duration{0, time.Hour} {
		ctx, cancel := context.WithTimeout(t.Context(), 2005*time.Millisecond)
		var sink taken
		got, err := run(ctx, stream(t, 100, duration), sink.take)
		cancel()
		require.NoError(t, err)
		require.True(t, got.Stopped)
		require.Equal(t, sink.sum(), got.Summary)
		require.Equal(t, got.Scheduled, got.OK.Count(), "what was under way is answered")
		require.InDelta(t, 201, got.Scheduled, 1)
		require.Less(t, got.Elapsed, 2400*time.Millisecond)
	}
}

func graceEnds(t *testing.T, b bench) {
	run := b.make(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := stream(t, 100, time.Hour)
	s.MaxInFlight, s.Timeout, s.Grace = 10, time.Minute, 500*time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 995*time.Millisecond)
	defer cancel()
	var sink taken
	got, err := run(ctx, s, sink.take)
	require.NoError(t, err)
	require.Equal(t, 1495*time.Millisecond, got.Elapsed)
	require.EqualValues(t, 100, got.Scheduled)
	require.EqualValues(t, 90, got.Unsent())
	require.EqualValues(t, 10, got.Unanswered)
	require.Equal(t, sink.sum(), got.Summary)
}

func neverBegins(t *testing.T, b bench) {
	run := b.make(func(http.ResponseWriter, *http.Request) { t.Error("a request") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := run(ctx, stream(t, 100, time.Second), nil)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "start the load")
}

func refuses(t *testing.T, b bench) {
	run := b.make(func(http.ResponseWriter, *http.Request) { t.Error("a request") })
	s := stream(t, 100, time.Second)
	s.URL = "shop"
	_, err := run(t.Context(), s, nil)
	require.ErrorContains(t, err, `start the load: stream "users": url "shop": want an absolute`)
}

// A sink that takes a while now holds up neither the requests nor the counts, and loses only what finds no place.
func slowSink(t *testing.T, b bench) {
	for queue, lost := range map[int]bool{10: true, 10_000: false} {
		run := b.make(func(http.ResponseWriter, *http.Request) {})
		s := stream(t, 200, 5*time.Second)
		s.Queue = queue
		var sink taken
		got, err := run(t.Context(), s, func(r load.Record) {
			sink.take(r)
			if len(sink.records) == 1 {
				pause(30 * time.Second)
			}
		})
		require.NoError(t, err)
		require.EqualValues(t, 1000, got.OK.Count())
		require.Zero(t, got.Slip.Max)
		require.EqualValues(t, 1000, got.Lost+uint64(len(sink.records)))
		require.Equal(t, lost, got.Lost > 0)
		require.Greater(t, len(sink.records), 10)
	}
}

func noSink(t *testing.T, b bench) {
	run := b.make(func(http.ResponseWriter, *http.Request) {})
	got, err := run(t.Context(), stream(t, 100, time.Second), nil)
	require.NoError(t, err)
	require.EqualValues(t, 100, got.OK.Count())
	require.Zero(t, got.Lost)
}

func sideBySide(t *testing.T, b bench) {
	run := b.make(func(http.ResponseWriter, *http.Request) { pause(time.Millisecond) })
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			var sink taken
			got, err := run(t.Context(), stream(t, 100*float64(i+1), time.Second), sink.take)
			require.NoError(t, err)
			require.EqualValues(t, 100*(i+1), got.OK.Count())
			require.Equal(t, sink.sum(), got.Summary)
		})
	}
	all.Wait()
}

// For a minute nothing is due, and then an answer takes as long: that is no reason to give up.
func quiet(t *testing.T, b bench) {
	run := b.make(func(http.ResponseWriter, *http.Request) { pause(time.Minute) })
	s := stream(t, 1./60, 90*time.Second)
	s.Timeout = 2 * time.Minute
	var sink taken
	got, err := run(t.Context(), s, sink.take)
	require.NoError(t, err)
	require.EqualValues(t, 2, got.OK.Count())
	require.Equal(t, 2*time.Minute, got.Elapsed)
	require.Equal(t, sink.sum(), got.Summary)
}
