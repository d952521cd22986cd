package zipkin_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/metrics/traces"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/zipkin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var began = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func full() zipkin.Span {
	return zipkin.Span{
		Trace: zipkin.TraceID{High: 0x463ac35c9f6413ad, Low: 0x48485a3953bb6124}, ID: 0xa2fb4a1d1a96d312, Parent: 0x0020000000000001, Kind: zipkin.Client,
		Name: "Api.default.svc.cluster.local:80/*", Start: began, Duration: 1500 * time.Microsecond,
		Remote: zipkin.Endpoint{Service: "API.default", Addr: netip.MustParseAddrPort("127.0.0.1:80")}, Debug: true,
		Method: "GET", Path: "/a\"b\x00", Status: 503, GRPCStatus: "14", Flags: "UF,URX", Cluster: "outbound|80||api", RequestID: "users-1", Reason: "connect_failure", Error: "true", Attempt: 3,
		Annotations: []zipkin.Annotation{{At: began.Add(time.Millisecond), Value: "first byte"}},
	}
}

// started runs an exporter until the test ends, or stop is called.
func started(t *testing.T, o zipkin.Options) (x *zipkin.Exporter, count func(series string) float64, stop func()) {
	t.Helper()
	o.Counters = &telemetry.Counters{}
	x, err := zipkin.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { x.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return x, func(series string) float64 { return value(t, o.Counters, series) }, stop
}

// counted waits until a series has come to a number: what the end sends has little time for it, which a slow machine exceeds.
func counted(t *testing.T, count func(string) float64, series string, want float64) {
	t.Helper()
	require.Eventually(t, func() bool { return count(series) == want }, 30*time.Second, time.Millisecond, "%s is not %g", series, want)
}

func TestSpansAsTheCollectorReadsThem(t *testing.T) {
	t.Parallel()
	collector := traces.NewCollector(traces.CollectorOptions{})
	server := httptest.NewServer(collector)
	defer server.Close()
	x, count, stop := started(t, zipkin.Options{URL: server.URL, Interval: time.Millisecond, Local: zipkin.Endpoint{Service: "Web.default", Addr: netip.MustParseAddrPort("[::1]:15001")}})
	one := full()
	x.Record(&one)
	x.Record(&zipkin.Span{Trace: zipkin.TraceID{Low: 1}, ID: 2, Kind: zipkin.Server, Shared: true, Start: began})
	counted(t, count, "spans_sent_total", 2)
	stop()
	spans, _ := collector.Spans()
	require.Equal(t, []traces.Span{
		{
			TraceID: "463ac35c9f6413ad48485a3953bb6124", ID: "a2fb4a1d1a96d312", ParentID: "0020000000000001", Kind: traces.Client, Name: "api.default.svc.cluster.local:80/*",
			Timestamp: began.UnixMicro(), Duration: 1500, Debug: true,
			LocalEndpoint:  &traces.Endpoint{ServiceName: "web.default", IPv6: "::1", Port: 15001},
			RemoteEndpoint: &traces.Endpoint{ServiceName: "api.default", IPv4: "127.0.0.1", Port: 80},
			Annotations:    []traces.Annotation{{Timestamp: began.UnixMicro() + 1000, Value: "first byte"}},
			Tags: map[string]string{
				"component": "proxy", "http.method": "GET", "http.path": "/a\"b\x00", traces.TagStatus: "503", "grpc.status_code": "14", "response_flags": "UF,URX",
				"upstream_cluster": "outbound|80||api", traces.TagRequestID: "users-1", "meshtest.reason": "connect_failure", traces.TagError: "true", traces.TagRetryCount: "2",
			},
		},
		{
			TraceID: "0000000000000001", ID: "0000000000000002", Kind: traces.Server, Shared: true, Timestamp: began.UnixMicro(), Duration: 1,
			LocalEndpoint: &traces.Endpoint{ServiceName: "web.default", IPv6: "::1", Port: 15001}, Tags: map[string]string{"component": "proxy"},
		},
	}, spans)
	require.Equal(t, 2.0, count("spans_sent_total"))
}

func TestWhatIsRecordedIsCopied(t *testing.T) {
	t.Parallel()
	collector := traces.NewCollector(traces.CollectorOptions{})
	server := httptest.NewServer(collector)
	defer server.Close()
	x, count, stop := started(t, zipkin.Options{URL: server.URL, Interval: time.Millisecond, Timeout: 30 * time.Second})
	const rounds = 1000
	for range rounds {
		s := full()
		s.Path, s.Annotations = "/"+strings.Repeat("é", 500), nil
		for range 20 {
			s.Annotations = append(s.Annotations, zipkin.Annotation{At: began, Value: "x"})
		}
		x.Record(&s)
		clear(s.Annotations)
		s = zipkin.Span{}
	}
	counted(t, count, "spans_sent_total", rounds)
	stop()
	spans, _ := collector.Spans()
	require.Len(t, spans, rounds)
	for _, s := range spans {
		require.Equal(t, "/"+strings.Repeat("é", 127), s.Tags["http.path"], "cut to 256 bytes, between characters")
		require.Len(t, s.Annotations, 8)
	}
}

func TestWhatIsNoSpanIsCounted(t *testing.T) {
	t.Parallel()
	x, count, stop := started(t, zipkin.Options{URL: "http://127.0.0.1:1"})
	for _, spoil := range []func(*zipkin.Span){
		func(s *zipkin.Span) { s.Trace = zipkin.TraceID{} },
		func(s *zipkin.Span) { s.ID = 0 },
		func(s *zipkin.Span) { s.Kind = 0 },
		func(s *zipkin.Span) { s.Start = time.Time{} },
	} {
		s := full()
		spoil(&s)
		x.Record(&s)
	}
	stop()
	require.Equal(t, 4.0, count(`spans_dropped_total{reason="invalid"}`))
	var off *zipkin.Exporter
	s := full()
	off.Record(&s)
}

func TestBatches(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		sizes := make(chan int, 100)
		pipe := serve(t, func(w http.ResponseWriter, r *http.Request) {
			text, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			spans, err := traces.Decode(text)
			if err != nil || r.Header.Get("Content-Type") != "application/json" || r.URL.Path != zipkin.Path {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			sizes <- len(spans)
			w.WriteHeader(http.StatusAccepted)
		})
		x, count, stop := started(t, zipkin.Options{URL: "http://zipkin", Dial: pipe, Batch: 10, Interval: time.Second})
		s := full()
		x.Record(&s)
		synctest.Wait()
		require.Empty(t, sizes, "it waits for others")
		pass(time.Second)
		require.Equal(t, 1, <-sizes)
		for range 10 {
			x.Record(&s)
		}
		synctest.Wait()
		require.Equal(t, 10, <-sizes, "a whole batch is sent at once")
		for range 23 {
			x.Record(&s)
		}
		stop()
		x.Record(&s)
		close(sizes)
		total := 0
		for n := range sizes {
			require.LessOrEqual(t, n, 10)
			total += n
		}
		require.Equal(t, 23, total, "what is left is sent in the end")
		require.Equal(t, 34.0, count("spans_sent_total"))
		require.Equal(t, 1.0, count(`spans_dropped_total{reason="queue"}`), "it is over")
	})
}

func TestNobodyWaitsForTheCollector(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		pipe := serve(t, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
		x, count, stop := started(t, zipkin.Options{URL: "http://zipkin", Dial: pipe, Batch: 10, Queue: 50, Timeout: time.Minute})
		s := full()
		for range 10 {
			x.Record(&s)
		}
		synctest.Wait() // these are being sent
		for range 100 {
			x.Record(&s)
		}
		require.Equal(t, 60.0, count(`spans_dropped_total{reason="queue"}`))
		before := time.Now()
		stop()
		require.Equal(t, 2*time.Second, time.Since(before), "the end is bounded")
		require.Equal(t, 50.0, count(`spans_dropped_total{reason="unreachable"}`))
		require.Zero(t, count("spans_sent_total"))
		close(release)
	})
}

func TestEverySpanIsCountedOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		series string
	}{
		"taken":      {202, "spans_sent_total"},
		"refused":    {400, `spans_dropped_total{reason="refused"}`},
		"redirected": {301, `spans_dropped_total{reason="refused"}`},
		"gone":       {0, `spans_dropped_total{reason="unreachable"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
			}))
			defer server.Close()
			x, count, stop := started(t, zipkin.Options{URL: server.URL, Batch: 7, Interval: time.Millisecond, Timeout: 30 * time.Second})
			var recording sync.WaitGroup
			for range 4 {
				recording.Go(func() {
					s := full()
					for range 100 {
						x.Record(&s)
					}
				})
			}
			recording.Wait()
			counted(t, count, c.series, 400)
			stop()
			require.Equal(t, 400.0, count(c.series))
		})
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"", "zipkin:9411", "/api/v2/spans", "ftp://zipkin", "http://", "http://a b"} {
		_, err := zipkin.New(zipkin.Options{URL: wrong})
		require.ErrorContains(t, err, "address of the trace collector", wrong)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	id, ok := zipkin.ParseTraceID([]byte("463ac35c9f6413ad48485a3953bb6124"))
	require.True(t, ok)
	require.Equal(t, zipkin.TraceID{High: 0x463ac35c9f6413ad, Low: 0x48485a3953bb6124}, id)
	id, ok = zipkin.ParseTraceID([]byte("48485A3953bb6124"))
	require.True(t, ok)
	require.Equal(t, zipkin.TraceID{Low: 0x48485a3953bb6124}, id)
	span, ok := zipkin.ParseID([]byte("a2fb4a1d1a96d312"))
	require.True(t, ok)
	require.Equal(t, zipkin.ID(0xa2fb4a1d1a96d312), span)
	for _, wrong := range []string{"", "1", "0000000000000000", "000000000000000g", "00000000000000000000000000000000", "463ac35c9f6413ad48485a3953bb612"} {
		_, ok := zipkin.ParseTraceID([]byte(wrong))
		require.False(t, ok, wrong)
		_, ok = zipkin.ParseID([]byte(wrong))
		require.False(t, ok, wrong)
	}
}

// pass lets the bubble's time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// serve answers on pipes, for a bubble has no network.
func serve(t *testing.T, h http.HandlerFunc) func(context.Context) (net.Conn, error) {
	pipes := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: h}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(pipes) })
	t.Cleanup(func() {
		_ = server.Close()
		running.Wait()
	})
	return func(ctx context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		select {
		case pipes.accept <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type pipes struct {
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestSpansAreTaken(t *testing.T) {
	t.Parallel()
	counters := &telemetry.Counters{}
	x := zipkin.NewBuffer(2, counters)
	web := zipkin.Endpoint{Service: "web-v1"}
	take := func() ([]traces.Span, uint64) {
		text, lost := x.Take(web)
		spans, err := traces.Decode(text)
		require.NoError(t, err)
		return spans, lost
	}
	spans, lost := take()
	require.Empty(t, spans)
	require.Zero(t, lost)
	for round := range 3 {
		for range 3 { // one more than wait
			one := full()
			x.Record(&one)
		}
		spans, lost = take()
		require.Len(t, spans, 2)
		require.Equal(t, "web-v1", spans[1].Service())
		require.EqualValues(t, round+1, lost)
	}
	spans, _ = take()
	require.Empty(t, spans, "they are told once")
	require.Equal(t, 6.0, value(t, counters, "spans_sent_total"))
}
