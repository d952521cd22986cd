package proxy

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/proxy/socket"
)

// bell is a target that notes when it was interrupted.
type bell struct {
	alarm *alarm
	at    []time.Duration
}

func (b *bell) Interrupt() { b.at = append(b.at, b.alarm.clock()) }

func newAlarm() (*alarm, *bell) {
	a := &alarm{}
	start := time.Now()
	a.init(func() time.Duration { return time.Since(start) })
	return a, &bell{alarm: a}
}

func TestAlarmRingsAtTheDeadline(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a, b := newAlarm()
		defer a.stop()
		a.enter(waiting, 50*time.Millisecond, nil, b, nil)
		<-a.wake
		require.Equal(t, []time.Duration{50 * time.Millisecond}, b.at)
		require.Equal(t, waiting, a.leave())
		require.Equal(t, waiting, a.why(), "why is known until the next phase")
		a.enter(idling, 0, nil, b, nil)
		require.Equal(t, none, a.leave())
	})
}

func TestAlarmMovesItsTimerOnlyForward(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a, b := newAlarm()
		defer a.stop()
		const timeout = time.Second
		for range 10_000 { // requests of 1 ms each, with a timeout of 1 s that none reaches
			a.enter(waiting, a.clock()+timeout, nil, b, nil)
			time.Sleep(time.Millisecond)
			require.Equal(t, none, a.leave())
		}
		require.Empty(t, b.at)
		a.enter(waiting, a.clock()+timeout, nil, b, nil)
		begin := a.clock()
		<-a.wake
		require.Equal(t, timeout, a.clock()-begin, "the last one does, exactly")
	})
}

func TestAlarmWithAnEarlierDeadline(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a, b := newAlarm()
		defer a.stop()
		a.enter(idling, time.Hour, nil, b, nil)
		require.Equal(t, none, a.leave())
		a.enter(trying, a.clock()+time.Millisecond, nil, b, nil)
		a.extend(a.clock() + 3*time.Millisecond)
		<-a.wake
		require.Equal(t, []time.Duration{3 * time.Millisecond}, b.at)
	})
}

func TestAlarmShutdownLasts(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a, b := newAlarm()
		defer a.stop()
		a.enter(waiting, 0, nil, b, nil)
		require.False(t, a.endIf(idling, idling))
		require.Empty(t, b.at)
		a.end(shuttingDown)
		require.Len(t, b.at, 1)
		require.Equal(t, shuttingDown, a.leave())
		a.enter(streaming, 0, nil, b, nil)
		require.Len(t, b.at, 2, "every later wait ends at once")
		require.Equal(t, shuttingDown, a.leave())
	})
}

func TestAlarmThatHasStoppedRingsNoMore(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a, b := newAlarm()
		a.enter(waiting, time.Millisecond, nil, b, nil)
		a.stop()
		time.Sleep(time.Second)
		require.Empty(t, b.at)
	})
}

func TestAlarmNoticesACallerWhoGoes(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err := l.Accept()
	require.NoError(t, err)
	defer near.Close()
	a, b := newAlarm()
	defer a.stop()
	a.enter(waiting, time.Hour, socket.New(near), b, nil)
	require.NoError(t, far.Close())
	select {
	case <-a.wake:
	case <-time.After(patience):
		t.Fatal("nobody looked")
	}
	require.Equal(t, callerGone, a.leave())
}
