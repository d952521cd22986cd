package injector_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/injector"
	"meshtest.dev/meshtest/mesh"
)

func lease(epoch, counter uint64, ttl time.Duration) mesh.Lease {
	return mesh.Lease{Run: "r", Fault: "f", Epoch: epoch, Counter: counter, TTL: ttl}
}

func TestLeaseTranscript(t *testing.T) {
	t.Parallel()
	const held, released, lapsed = mesh.LeaseHeld, mesh.LeaseReleased, mesh.LeaseLapsed
	steps := []struct {
		at    time.Duration
		take  *mesh.Lease
		taken bool
		state mesh.LeaseState
		why   string
	}{
		{0, new(lease(1, 1, 10*time.Second)), true, held, "the first one"},
		{3 * time.Second, new(lease(1, 2, 10*time.Second)), true, held, "a renewal"},
		{4 * time.Second, new(lease(1, 2, 0)), false, held, "a repetition changes nothing"},
		{4 * time.Second, new(lease(1, 1, 0)), false, held, "nor does what was overtaken"},
		{13*time.Second - 1, nil, false, held, "a nanosecond is left"},
		{13 * time.Second, nil, false, lapsed, "and over"},
		{14 * time.Second, new(lease(1, 3, time.Second)), false, lapsed, "too late: a lapse is not overlooked"},
		{14 * time.Second, new(lease(1, 4, 0)), false, lapsed, "and not glossed over"},
		{15 * time.Second, new(lease(2, 1, time.Hour)), true, held, "another life of the holder"},
		{45*time.Second - 1, nil, false, held, "a long lease is cut"},
		{45*time.Second - 1, new(lease(1, 99, 0)), false, held, "an earlier life has no say"},
		{45*time.Second - 1, new(lease(2, 2, 0)), true, released, "released"},
		{46 * time.Second, new(lease(2, 1, time.Second)), false, released, "what was overtaken does not revive it"},
		{46 * time.Second, new(lease(2, 3, time.Second)), true, held, "leased again"},
		{50 * time.Second, new(lease(2, 4, time.Second)), false, lapsed, "expires before it is renewed, also when nobody looked in between"},
	}
	l := injector.NewLeases()
	_, known := l.State("f")
	require.False(t, known)
	for _, s := range steps {
		if s.take != nil {
			taken, err := l.Take(s.at, *s.take)
			require.NoError(t, err, s.why)
			require.Equal(t, s.taken, taken, s.why)
		}
		l.Expire(s.at)
		state, known := l.State("f")
		require.True(t, known)
		require.Equal(t, s.state, state, s.why)
		_, next := l.Next()
		require.Equal(t, state == held, next, s.why)
	}
}

func TestLeasesOfOtherRuns(t *testing.T) {
	t.Parallel()
	l := injector.NewLeases()
	_, err := l.Take(0, lease(5, 5, time.Second))
	require.NoError(t, err)
	other := mesh.Lease{Run: "q", Fault: "f", Epoch: 1, Counter: 1, TTL: time.Second}
	_, err = l.Take(0, other)
	require.ErrorContains(t, err, "run r holds it")
	taken, err := l.Take(time.Second, other)
	require.NoError(t, err)
	require.True(t, taken, "the other run's lease lapsed")
	_, err = l.Take(0, lease(6, 0, -1))
	require.Error(t, err)
}

// TestNothingOutlivesItsLease: whatever arrives in whichever order, a fault that nobody renewed for its time to live is not held.
func TestNothingOutlivesItsLease(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := injector.NewLeases()
		var now, until time.Duration
		for range 200 {
			now += time.Duration(r.Int64N(int64(20 * time.Second)))
			m := lease(r.Uint64N(3), r.Uint64N(50), time.Duration(r.Int64N(int64(40*time.Second))))
			taken, err := l.Take(now, m)
			require.NoError(t, err)
			if taken {
				until = now + min(m.TTL, mesh.MaxLeaseTTL)
			}
			state, _ := l.State("f")
			require.Equal(t, now < until, state == mesh.LeaseHeld)
		}
	}
}
