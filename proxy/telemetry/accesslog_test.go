package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

func TestAccessLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := NewAccessLog(AccessLogOptions{Share: 1})
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- log.Run(ctx, &out) }()
		require.True(t, log.Wants("users-1"))
		log.Log(&Access{
			Start: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600)), Method: "GET", Path: "/a\"b\\\x01\xff\u2028é<", Authority: "api",
			Protocol: "HTTP/1.1", Status: 200, Received: 1, Sent: 2, Duration: 1234567 * time.Nanosecond, Upstream: "127.0.0.1:80", Route: "primary",
			Version: "v1", Key: "users-1", Attempts: 2, Generation: mesh.Generation{Epoch: 1, Counter: 7},
		})
		pass(logFlush + 1)
		synctest.Wait()
		var line map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &line))
		require.Equal(t, map[string]any{
			"start_time": "2026-01-02T02:04:05.000006Z", "method": "GET", "path": "/a\"b\\\x01\ufffd\u2028é<", "authority": "api", "protocol": "HTTP/1.1",
			"response_code": 200.0, "response_flags": "-", "bytes_received": 1.0, "bytes_sent": 2.0, "duration": 1.234, "upstream_host": "127.0.0.1:80",
			"route_name": "primary", "version": "v1", "request_id": "users-1", "reason": nil, "attempts": 2.0, "generation": "1.7",
		}, line)
		log.Log(&Access{Method: "POST"})
		cancel()
		require.NoError(t, <-done)
		require.Equal(t, 2, strings.Count(out.String(), "\n"), "what is left is written in the end")
	})
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }

func TestAccessLogDropsRatherThanWaits(t *testing.T) {
	t.Parallel()
	dropped := &Counter{}
	log := NewAccessLog(AccessLogOptions{Share: 1, Dropped: dropped})
	long := Access{Path: strings.Repeat("x", maxPending)}
	log.Log(&long)
	log.Log(&long)
	require.EqualValues(t, 1, dropped.Value())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	full := errors.New("disk full")
	require.ErrorIs(t, log.Run(ctx, failing{full}), full)
	require.EqualValues(t, 2, dropped.Value())
}

func TestAccessLogSample(t *testing.T) {
	t.Parallel()
	var off *AccessLog
	require.False(t, off.Wants("users-1"))
	require.False(t, NewAccessLog(AccessLogOptions{}).Wants("users-1"))
	one, same, other := NewAccessLog(AccessLogOptions{Share: 0.1, Seed: 1}), NewAccessLog(AccessLogOptions{Share: 0.1, Seed: 1}), NewAccessLog(AccessLogOptions{Share: 0.1, Seed: 2})
	wanted, differ := 0, 0
	for i := range 10000 {
		key := "users-" + strconv.Itoa(i)
		require.Equal(t, one.Wants(key), same.Wants(key))
		if one.Wants(key) {
			wanted++
		}
		if one.Wants(key) != other.Wants(key) {
			differ++
		}
	}
	require.InDelta(t, 1000, wanted, 150)
	require.NotZero(t, differ)
}
