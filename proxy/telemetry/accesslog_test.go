package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/mesh"
)

// lineOf reads one line as whoever collects logs does.
func lineOf(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var line map[string]any
	require.NoError(t, json.Unmarshal(text, &line), "%q", text)
	return line
}

func TestAccessLogLines(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	request := Access{
		Start: start, Method: "GET", Path: "/a\"b\\\x01\xff\u2028é<", Protocol: "HTTP/2", Status: 503, GRPCStatus: "14", Flags: "UF,URX", Reason: "connect_failure", Unreached: errors.New("dial tcp 127.0.0.1:80: connection refused"),
		Received: 1, Sent: 2, Duration: 1234567 * time.Nanosecond, UpstreamTime: time.Millisecond, ForwardedFor: "10.0.0.1", UserAgent: "curl/8", Key: "users-1", Authority: "api",
		Upstream: "127.0.0.1:80", UpstreamFrom: netip.MustParseAddrPort("127.0.0.1:4321"), Cluster: "outbound|80||api.default.svc.cluster.local", Route: "primary", ServerName: "api.example",
		Downstream: netip.MustParseAddrPort("127.0.0.2:1234"), Local: netip.MustParseAddrPort("[::1]:80"), TraceID: "463ac35c9f6413ad48485a3953bb6124", Attempts: 2, Version: "v1",
		Generation: mesh.Generation{Epoch: 1, Counter: 7},
	}
	for name, c := range map[string]struct {
		access Access
		want   map[string]any
	}{
		"a request": {request, map[string]any{
			"start_time": "2026-01-02T02:04:05.000006Z", "method": "GET", "path": "/a\"b\\\x01\ufffd\u2028é<", "protocol": "HTTP/2", "response_code": 503.0, "grpc_status_number": "14",
			"response_flags": "UF,URX", "response_code_details": "connect_failure", "connection_termination_details": nil,
			"upstream_transport_failure_reason": "dial tcp 127.0.0.1:80: connection refused", "upstream_local_address": "127.0.0.1:4321", "bytes_received": 1.0, "bytes_sent": 2.0, "duration": 1.234, "upstream_service_time": 1.0,
			"x_forwarded_for": "10.0.0.1", "user_agent": "curl/8", "request_id": "users-1", "authority": "api", "upstream_host": "127.0.0.1:80",
			"upstream_cluster": "outbound|80||api.default.svc.cluster.local", "route_name": "primary", "requested_server_name": "api.example",
			"downstream_remote_address": "127.0.0.2:1234", "downstream_local_address": "[::1]:80", "trace_id": "463ac35c9f6413ad48485a3953bb6124", "attempts": 2.0, "version": "v1",
			"generation": "1.7",
		}},
		"a connection": {Access{Start: start, Protocol: ProtocolNameTCP, Received: 3, Sent: 4, Duration: time.Hour, UpstreamTime: -1, Attempts: 1, Termination: "idle"}, map[string]any{
			"start_time": "2026-01-02T02:04:05.000006Z", "method": nil, "path": nil, "protocol": "TCP", "response_code": 0.0, "grpc_status_number": nil, "response_flags": "-",
			"response_code_details": nil, "connection_termination_details": "idle", "upstream_transport_failure_reason": nil, "upstream_local_address": nil, "bytes_received": 3.0, "bytes_sent": 4.0, "duration": 3600000.0, "upstream_service_time": nil, "x_forwarded_for": nil, "user_agent": nil,
			"request_id": nil, "authority": nil, "upstream_host": nil, "upstream_cluster": nil, "route_name": nil, "requested_server_name": nil, "downstream_remote_address": nil,
			"downstream_local_address": nil, "trace_id": nil, "attempts": 1.0, "version": nil, "generation": "0.0",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, lineOf(t, c.access.append(nil)))
		})
	}
	require.Equal(t, "via_upstream", lineOf(t, (&Access{Status: 200}).append(nil))["response_code_details"])
}

func TestAccessLogIsWritten(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		counters := &Counters{}
		log := NewAccessLog(AccessLogOptions{Mode: LogComplete, Counters: counters})
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- log.Run(ctx, &out) }()
		require.True(t, log.Wants("users-1", false))
		log.Log(&Access{Method: "GET"})
		pass(logFlush + 1)
		synctest.Wait()
		require.Equal(t, "GET", lineOf(t, out.Bytes())["method"])
		log.Log(&Access{Method: "POST"})
		cancel()
		require.NoError(t, <-done)
		require.Equal(t, 2, strings.Count(out.String(), "\n"), "what is left is written in the end")
		log.Log(&Access{Method: "PUT"})
		require.EqualValues(t, 2, counters.Counter("access_log_lines_total").Value())
		require.EqualValues(t, 1, counters.Counter("access_log_dropped_total", "reason", "queue").Value(), "nobody writes any more")
	})
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }

func TestAccessLogDropsRatherThanWaits(t *testing.T) {
	t.Parallel()
	counters := &Counters{}
	log := NewAccessLog(AccessLogOptions{Mode: LogComplete, Counters: counters})
	log.Log(&Access{Path: strings.Repeat("x", maxLine)})
	require.Empty(t, log.pending, "one that is too long is dropped")
	long := Access{Path: strings.Repeat("x", maxLine/2)}
	const all = 100
	for range all {
		log.Log(&long)
	}
	require.LessOrEqual(t, len(log.pending), maxPending+maxLine)
	waiting := log.lines
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	full := errors.New("disk full")
	require.ErrorIs(t, log.Run(ctx, failing{full}), full)
	require.EqualValues(t, all+1-waiting, counters.Counter("access_log_dropped_total", "reason", "queue").Value())
	require.EqualValues(t, waiting, counters.Counter("access_log_dropped_total", "reason", "write").Value())
	require.Zero(t, counters.Counter("access_log_lines_total").Value())
}

func TestAccessLogEndsThoughNobodyReads(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	log := NewAccessLog(AccessLogOptions{Mode: LogComplete})
	for range 100 { // more than a pipe holds
		log.Log(&Access{Path: strings.Repeat("x", 8<<10)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, log.Run(ctx, w), os.ErrDeadlineExceeded)
}

func TestAccessLogModes(t *testing.T) {
	t.Parallel()
	var none *AccessLog
	require.False(t, none.Wants("users-1", true))
	require.False(t, NewAccessLog(AccessLogOptions{}).Wants("users-1", true))
	require.False(t, NewAccessLog(AccessLogOptions{Mode: LogOff, Share: 1}).Wants("users-1", true))
	share := func(o AccessLogOptions) (share float64) {
		o.Mode = LogSampled
		log := NewAccessLog(o)
		for i := range 10000 {
			if key := "users-" + strconv.Itoa(i); log.Wants(key, false) {
				share += 0.0001
			} else {
				require.True(t, log.Wants(key, true), "failures are always logged")
			}
		}
		return share
	}
	require.InDelta(t, 0.1, share(AccessLogOptions{Share: 0.1}), 0.015)
	require.InDelta(t, DefaultLogShare, share(AccessLogOptions{}), 0.005)
	require.Zero(t, share(AccessLogOptions{Share: -1}))
	require.InDelta(t, 1, share(AccessLogOptions{Share: 1}), 1e-9)

	one, same, other := AccessLogOptions{Mode: LogSampled, Share: 0.1, Seed: 1}, AccessLogOptions{Mode: LogSampled, Share: 0.1, Seed: 1}, AccessLogOptions{Mode: LogSampled, Share: 0.1, Seed: 2}
	differ := 0
	for i := range 1000 {
		key := "users-" + strconv.Itoa(i)
		require.Equal(t, NewAccessLog(one).Wants(key, false), NewAccessLog(same).Wants(key, false), "all sidecars log the same requests")
		if NewAccessLog(one).Wants(key, false) != NewAccessLog(other).Wants(key, false) {
			differ++
		}
	}
	require.NotZero(t, differ)

	for _, name := range []string{"off", "sampled", "complete"} {
		mode, err := ParseLogMode(name)
		require.NoError(t, err)
		require.Equal(t, LogMode(name), mode)
	}
	_, err := ParseLogMode("all")
	require.ErrorContains(t, err, `"all"`)
}

func FuzzAccess(f *testing.F) {
	f.Add("GET", "/a\"b\\\x01\xff\u2028é<", "curl\r\n{}", "users-1", int64(5), 200)
	f.Fuzz(func(t *testing.T, method, path, agent, key string, n int64, status int) {
		a := Access{Method: method, Path: path, UserAgent: agent, Key: key, Received: n, Sent: n, Duration: time.Duration(n), UpstreamTime: time.Duration(n), Status: status}
		b := a.append(nil)
		require.Equal(t, 1, bytes.Count(b, []byte("\n")), "one line")
		line := lineOf(t, b)
		for name, want := range map[string]string{"method": method, "path": path, "user_agent": agent, "request_id": key} {
			if want == "" {
				require.Nil(t, line[name])
				continue
			}
			require.Equal(t, string([]rune(want)), line[name])
		}
	})
}

func TestLoggingAllocatesNothing(t *testing.T) {
	log := NewAccessLog(AccessLogOptions{Mode: LogSampled, Share: 1})
	a := Access{
		Start: time.Now(), Method: "GET", Path: "/orders?id=1", Key: "users-1", Authority: "api", Status: 200, Duration: time.Millisecond,
		Downstream: netip.MustParseAddrPort("127.0.0.2:1234"), Local: netip.MustParseAddrPort("[::1]:80"),
	}
	log.pending = make([]byte, 0, maxPending)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if log.Wants(a.Key, false) {
			log.Log(&a)
		}
	}))
	require.NotEmpty(t, log.pending)
}

// istioFields are those of Istio's default access log in JSON (pilot/pkg/model/telemetry_logging.go, EnvoyJSONLogFormatIstio).
var istioFields = []string{
	"start_time", "route_name", "method", "path", "protocol", "response_code", "response_flags", "response_code_details", "connection_termination_details", "bytes_received", "bytes_sent", "duration",
	"upstream_service_time", "x_forwarded_for", "user_agent", "request_id", "authority", "upstream_host", "upstream_cluster", "upstream_local_address", "downstream_local_address", "downstream_remote_address",
	"requested_server_name", "upstream_transport_failure_reason",
}

// Whoever reads Istio's access log finds all of its fields, null where nothing is known.
func TestAccessLogHasIstiosFields(t *testing.T) {
	t.Parallel()
	line := lineOf(t, (&Access{}).append(nil))
	for _, name := range istioFields {
		require.Contains(t, line, name)
	}
}
