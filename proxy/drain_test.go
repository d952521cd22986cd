package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// The log says what is in flight when the end begins, and what of it was cut; what the counter says is in the log before.
func TestTheLogTellsOfTheEnd(t *testing.T) {
	t.Parallel()
	const get = "GET / HTTP/1.1\r\nHost: b\r\n\r\n"
	hold := func(k *talk) {
		if k.head() != "" {
			_, _ = io.Copy(io.Discard, k.r)
		}
	}
	halfAHead := func(t *testing.T, r *rig, at string) {
		call(t, at).say("GET / HTTP/1.1\r\n")
		require.Eventually(t, func() bool { // between the idle connection and the half head that was read nobody knows yet what has come
			read := false
			r.srv.each(func(c *conn) {
				c.alarm.mu.Lock()
				read = c.alarm.phase == readingHead
				c.alarm.mu.Unlock()
			})
			return read
		}, patience, time.Millisecond)
	}
	twoStreams := func(t *testing.T, _ *rig, at string) {
		f := callFramer(t, at)
		f.get(1)
		f.get(3)
	}
	say := func(text string) func(*testing.T, *rig, string) {
		return func(t *testing.T, _ *rig, at string) { call(t, at).say(text) }
	}
	for name, test := range map[string]struct {
		protocol      mesh.Protocol
		origin        func(*talk)
		ask           func(t *testing.T, r *rig, at string)
		reached       string // what origins have seen then
		times         int
		inFlight, cut int
	}{
		"nobody asks":         {mesh.HTTP, answering(200, ""), func(t *testing.T, _ *rig, at string) { call(t, at) }, "", 0, 0, 0},
		"between requests":    {mesh.HTTP, answering(200, ""), func(t *testing.T, _ *rig, at string) { call(t, at).get("/") }, "GET / ", 1, 0, 0},
		"half a head":         {mesh.HTTP, answering(200, ""), halfAHead, "", 0, 0, 0},
		"an answer to come":   {mesh.HTTP, hold, say(get), "GET / ", 1, 1, 1},
		"an upload":           {mesh.HTTP, hold, say("POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100000)), "POST / ", 1, 1, 1},
		"streams of HTTP/2":   {mesh.HTTP2, hold, twoStreams, "PRI ", 1, 2, 2},
		"streams to HTTP/1.1": {mesh.HTTP, hold, twoStreams, "GET / ", 2, 2, 2},
		"bytes":               {mesh.TCP, hold, say("hello\r\n\r\n"), "hello", 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said bytes.Buffer
			access := telemetry.NewAccessLog(telemetry.AccessLogOptions{Mode: telemetry.LogComplete})
			r := newRig(t, func(o *Options) {
				o.AccessLog = access
				o.Timeouts.Drain = 50 * time.Millisecond
				o.Log = slog.New(slog.NewJSONHandler(&said, nil))
			})
			o := newOrigin(t, test.origin)
			at := r.outbound(r.service("backend", test.protocol, map[string][]string{"v1": {o.address}}), test.protocol)
			r.apply()
			test.ask(t, r, at)
			require.Eventually(t, func() bool {
				return r.srv.connections() == 1 && strings.Count(o.bytes(), test.reached) >= test.times && r.srv.inFlight() == test.inFlight
			}, patience, time.Millisecond)
			r.stop()
			<-r.done
			var begins struct{ Msg, Drain string }
			var ends struct{ Msg string }
			begin, end, both := strings.Cut(said.String(), "\n")
			require.True(t, both, said.String())
			require.NoError(t, json.Unmarshal([]byte(begin), &begins))
			require.NoError(t, json.Unmarshal([]byte(end), &ends))
			require.Equal(t, "stopping", begins.Msg)
			require.Equal(t, "50ms", begins.Drain)
			require.Equal(t, test.inFlight, number(t, begin, "inFlight"))
			require.Equal(t, "stopped", ends.Msg)
			require.Equal(t, test.cut, number(t, end, "cut"))
			require.EqualValues(t, test.cut, r.srv.count.cut.Value())
			require.Equal(t, test.cut, strings.Count(written(t, access), `_details":"shutdown"`))
		})
	}
}

// written is what an access log holds that nobody has written yet. It ends it.
func written(t *testing.T, log *telemetry.AccessLog) string {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, log.Run(ctx, &out))
	return out.String()
}

// number is that of a line of the log.
func number(t *testing.T, line, name string) int {
	t.Helper()
	fields := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(line), &fields))
	n, is := fields[name].(float64)
	require.True(t, is, line)
	return int(n)
}

// What ends in time was not cut.
func TestTheLogTellsThatNothingWasCut(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var said bytes.Buffer
	r, o, at := simple(t, func(k *talk) {
		if req, _ := k.request(); req != nil {
			<-release
			k.say(answer(200, "late", "Connection: close"))
		}
	}, func(o *Options) { o.Log = slog.New(slog.NewJSONHandler(&said, nil)) })
	c := call(t, at)
	c.say("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
	require.Eventually(t, func() bool { return strings.Contains(o.bytes(), "\r\n\r\n") }, patience, time.Millisecond)
	r.stop()
	require.Eventually(t, r.srv.draining.Load, patience, time.Millisecond)
	close(release)
	_, body := c.reply("GET")
	require.Equal(t, "late", body)
	<-r.done
	_, end, _ := strings.Cut(said.String(), "\n")
	require.Equal(t, 0, number(t, end, "cut"))
}
