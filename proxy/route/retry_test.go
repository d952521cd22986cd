package route

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

func TestRetryConditions(t *testing.T) {
	t.Parallel()
	all := []Failure{Unreached, NotBegun, Refused, Interrupted}
	for word, c := range map[mesh.RetryOn]struct {
		statuses []int
		grpc     []string
		fails    []Failure
	}{
		mesh.On5xx:               {statuses: []int{500, 501, 502, 503, 504, 599}, fails: all},
		mesh.OnGatewayError:      {statuses: []int{502, 503, 504}, fails: all},
		mesh.OnReset:             {fails: all},
		mesh.OnConnectFailure:    {fails: []Failure{Unreached}},
		mesh.OnRetriable4xx:      {statuses: []int{409}},
		mesh.OnRetriableStatus:   {statuses: []int{404, 429}},
		mesh.OnRefusedStream:     {fails: []Failure{Refused}},
		mesh.OnResetBefore:       {fails: []Failure{Unreached, NotBegun}},
		mesh.OnCancelled:         {grpc: []string{"1"}},
		mesh.OnDeadlineExceeded:  {grpc: []string{"4"}},
		mesh.OnResourceExhausted: {grpc: []string{"8"}},
		mesh.OnInternal:          {grpc: []string{"13"}},
		mesh.OnUnavailable:       {grpc: []string{"14"}},
	} {
		on, err := compileRetryOn(&mesh.Retry{On: []mesh.RetryOn{word}, Statuses: []int{404, 429}})
		require.NoError(t, err)
		var statuses []int
		for status := 200; status < 600; status++ {
			if on.Status(status) && status != 505 && (status <= 504 || status == 599) {
				statuses = append(statuses, status)
			}
		}
		var grpc []string
		for _, status := range []string{"", "-1", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "x"} {
			if on.GRPC([]byte(status)) {
				grpc = append(grpc, status)
			}
		}
		var fails []Failure
		for _, f := range all {
			if on.Fails(f) {
				fails = append(fails, f)
			}
		}
		require.Equal(t, c.statuses, statuses, word)
		require.Equal(t, c.grpc, grpc, word)
		require.Equal(t, c.fails, fails, word)
	}
	_, err := compileRetryOn(&mesh.Retry{On: []mesh.RetryOn{"5xx", "nonsense"}})
	require.EqualError(t, err, `retry: unknown condition "nonsense"`)
}

func TestDefaultRetry(t *testing.T) {
	t.Parallel()
	on, err := compileRetryOn(mesh.DefaultRetry())
	require.NoError(t, err)
	require.True(t, on.Fails(Unreached))
	require.True(t, on.Fails(Refused))
	require.True(t, on.GRPC([]byte("14")))
	require.False(t, on.Fails(Interrupted), "what may have been processed is not repeated")
	require.False(t, on.Status(503))
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	r := &mesh.Retry{BackoffBase: 10 * time.Millisecond}
	const last = mesh.Draw(1<<64 - 1)
	for attempt, ceiling := range map[uint32]time.Duration{1: 10, 2: 30, 3: 70, 4: 100, 5: 100, 60: 100} {
		require.Zero(t, Backoff(r, attempt, 0))
		require.InDelta(t, float64(ceiling*time.Millisecond), float64(Backoff(r, attempt, last)), 2)
		require.InDelta(t, float64(ceiling*time.Millisecond)/2, float64(Backoff(r, attempt, last/2)), 2)
	}
	r.BackoffMin = 20 * time.Millisecond
	require.Equal(t, 20*time.Millisecond, Backoff(r, 3, 0), "the jitter does not go below the minimum")
	require.InDelta(t, float64(70*time.Millisecond), float64(Backoff(r, 3, last)), 2)
}
