package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/mesh"
)

func TestVerdicts(t *testing.T) {
	t.Parallel()
	silent, wrong := errors.New("no answer"), fmt.Errorf("%w: status 500", errAnswer)
	for name, tc := range map[string]struct {
		answers []error
		want    []verdict
	}{
		"the first good answer is enough":              {[]error{nil}, []verdict{passed}},
		"the first bad answer is enough":               {[]error{silent}, []verdict{failed}},
		"later it takes the thresholds":                {[]error{nil, silent, silent, silent, nil, nil}, []verdict{passed, passed, passed, failed, failed, passed}},
		"in a row":                                     {[]error{nil, silent, silent, nil, silent, silent, silent}, []verdict{passed, passed, passed, passed, passed, passed, failed}},
		"and good ones in a row":                       {[]error{silent, nil, silent, nil, nil}, []verdict{failed, failed, failed, failed, passed}},
		"a wrong answer is enough at once":             {[]error{nil, wrong, nil, nil, wrong}, []verdict{passed, failed, failed, passed, failed}},
		"a failure at the start does not cost twice":   {[]error{silent, nil, nil}, []verdict{failed, failed, passed}},
		"failures while failed do not count for later": {[]error{silent, silent, silent, nil, nil, silent, silent, silent}, []verdict{failed, failed, failed, failed, passed, passed, passed, failed}},
	} {
		a := &asking{check: &check{question: question{HealthCheck: mesh.HealthCheck{UnhealthyThreshold: 3, HealthyThreshold: 2}}}}
		had := unasked
		for i, err := range tc.answers {
			had = a.hear(had, err)
			require.Equal(t, tc.want[i].String(), had.String(), "%s: answer %d", name, i)
		}
	}
}

// town is the endpoints that checks dial: whether each can be reached, and when it was.
type town struct {
	mu    sync.Mutex
	down  map[string]bool
	asked map[string][]time.Duration
	since time.Time
}

// dial takes a nanosecond, so that no answer is there before time passes.
func (w *town) dial(_ context.Context, address string) (net.Conn, error) {
	<-time.After(time.Nanosecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[address] = append(w.asked[address], time.Since(w.since).Round(time.Millisecond))
	if w.down[address] {
		return nil, errors.New("refused")
	}
	near, far := net.Pipe()
	_ = far.Close()
	return near, nil
}

func (w *town) set(address string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[address] = down
}

func (w *town) times(address string) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked[address])
}

const home, neighbour = "127.0.0.1:1000", "127.0.0.1:1001"

var tcpCheck = mesh.HealthCheck{TCP: true, Interval: 10 * time.Second, Timeout: time.Second, UnhealthyThreshold: 2, HealthyThreshold: 2}

// checked runs a test with pools of a town, where time passes as the test says.
func checked(t *testing.T, do func(t *testing.T, ps *Pools, w *town)) {
	testbubble.Test(t, func(t *testing.T) {
		w := &town{down: map[string]bool{}, asked: map[string][]time.Duration{}, since: time.Now()}
		ps := NewPools(Options{Dial: w.dial, Chance: func() mesh.Draw { return 0 }})
		defer ps.Close()
		do(t, ps, w)
	})
}

// pass lets time pass, and a little more in which what it brings is answered.
func pass(d time.Duration) {
	timer := time.NewTimer(d + time.Microsecond)
	<-timer.C
	synctest.Wait()
}

// used are the ports of the endpoints that get requests.
func used(g *Group) []int {
	ports := []int{}
	for port := range tally(carried(g, 200)) {
		ports = append(ports, port)
	}
	slices.Sort(ports)
	return ports
}

func TestChecksDecideWhoIsUsed(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		w.set(neighbour, true)
		g := groupOf(t, ps, endpoints(2), mesh.TrafficPolicy{HealthCheck: &tcpCheck})
		require.Empty(t, used(g), "not before the first answer")
		require.Equal(t, "pending", g.Health().Endpoints[0].Check)
		ps.Follow([]*Group{g})
		pass(0)
		require.Equal(t, []int{1000}, used(g))
		h := ps.Health()[0]
		require.Equal(t, []EndpointHealth{{Address: home, Check: "passed"}, {Address: neighbour, Check: "failed", CheckError: "refused"}}, h.Endpoints)

		pass(time.Minute)
		w.set(neighbour, false)
		w.set(home, true)
		pass(10 * time.Second)
		require.Equal(t, []int{1000}, used(g), "it takes two")
		require.Equal(t, "refused", g.Health().Endpoints[0].CheckError)
		pass(10 * time.Second)
		require.Equal(t, []int{1001}, used(g))
		require.Equal(t, []time.Duration{0, 10 * time.Second, 20 * time.Second}, w.times(home)[:3])
		require.Equal(t, HealthTotals{Checks: 9 + 15, Passed: 7 + 2, Failed: 2 + 13}, ps.HealthTotals())
	})
}

// Who has never been well is asked soon again, and ever less often; who has is asked at the interval.
func TestWhoWasNeverWellIsAskedSoonAgain(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		w.set(home, true)
		g := groupOf(t, ps, endpoints(1), mesh.TrafficPolicy{HealthCheck: &tcpCheck})
		ps.Follow([]*Group{g})
		pass(30 * time.Second)
		var gaps []time.Duration
		times := w.times(home)
		for i := range times[1:] {
			gaps = append(gaps, times[i+1]-times[i])
		}
		require.Equal(t, []time.Duration{50e6, 100e6, 200e6, 400e6, 800e6, 1600e6, 3200e6, 6400e6, 10e9}, gaps)

		w.set(home, false)
		pass(20 * time.Second) // it takes two
		require.Equal(t, []int{1000}, used(g))
		w.set(home, true)
		before := len(w.times(home))
		pass(30 * time.Second)
		require.Empty(t, used(g))
		require.Len(t, w.times(home), before+3, "it was well once")
	})
}

// waited is how long Warm takes.
func waited(ps *Pools) time.Duration {
	begin := time.Now()
	ps.Warm(time.Second)
	return time.Since(begin).Round(time.Millisecond)
}

func TestWarm(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		require.Zero(t, waited(ps))
		once := tcpCheck
		once.HealthyThreshold = 1
		policy := mesh.TrafficPolicy{HealthCheck: &once}
		ps.Follow([]*Group{groupOf(t, ps, nil, policy)})
		require.Zero(t, waited(ps), "for nobody")

		w.set(home, true)
		w.set(neighbour, true)
		ps.Follow([]*Group{groupOf(t, ps, endpoints(2), policy)})
		time.AfterFunc(100*time.Millisecond, func() { w.set(home, false) })
		require.Equal(t, 150*time.Millisecond, waited(ps), "for the first that is well")
		w.set(home, true)
		ps.Follow([]*Group{groupOf(t, ps, endpoints(3), policy)})
		require.Zero(t, waited(ps), "it was well once")
	})
}

func TestWarmGivesUp(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		w.set(home, true)
		ps.Follow([]*Group{groupOf(t, ps, endpoints(1), mesh.TrafficPolicy{HealthCheck: &tcpCheck})})
		require.Equal(t, time.Second, waited(ps))
		require.Zero(t, waited(ps), "once")
	})
}

func TestWarmEndsWithItsPools(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		w.set(home, true)
		ps.Follow([]*Group{groupOf(t, ps, endpoints(1), mesh.TrafficPolicy{HealthCheck: &tcpCheck})})
		time.AfterFunc(100*time.Millisecond, ps.Close)
		require.Equal(t, 100*time.Millisecond, waited(ps))
	})
}

func TestChecksFollowConfigurations(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		follow := func(n int, c *mesh.HealthCheck) *Group {
			g := groupOf(t, ps, endpoints(n), mesh.TrafficPolicy{HealthCheck: c})
			ps.Follow([]*Group{g})
			return g
		}
		follow(2, &tcpCheck)
		pass(15 * time.Second)
		same := tcpCheck
		g := follow(2, &same)
		require.Equal(t, []int{1000, 1001}, used(g), "the same check goes on with its state")
		pass(10 * time.Second)
		require.Equal(t, []time.Duration{0, 10 * time.Second, 20 * time.Second}, w.times(home), "and its rhythm")

		follow(1, &same)
		pass(time.Minute)
		require.Len(t, w.times(neighbour), 3, "who has gone is not asked any more")
		g = follow(2, &same)
		require.Equal(t, []int{1000}, used(g), "and is new when it comes back")
		pass(0)
		require.Equal(t, []int{1000, 1001}, used(g))

		faster := tcpCheck
		faster.Interval, faster.Port = time.Second, 7
		w.set("127.0.0.1:7", true)
		g = follow(2, &faster)
		require.Equal(t, []int{1000, 1001}, used(g), "another check: who was good is, until its answer")
		pass(0)
		require.Empty(t, used(g), "which decides at once")

		g = follow(2, nil)
		require.Equal(t, []int{1000, 1001}, used(g))
		asked := len(w.times(home))
		pass(time.Minute)
		require.Len(t, w.times(home), asked, "nobody is asked")
		w.set(home, true)
		g = follow(3, &tcpCheck)
		require.Equal(t, []int{1000, 1001}, used(g), "a check of what was used without one: it is used on until its answer, and what is new is not")
		pass(0)
		require.Equal(t, []int{1001, 1002}, used(g))
	})
}

func TestChecksOfGroupsThatComeBack(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		g := groupOf(t, ps, endpoints(1), mesh.TrafficPolicy{HealthCheck: &tcpCheck})
		for round := range 3 {
			ps.Follow([]*Group{g})
			pass(time.Second)
			require.Len(t, w.times(home), round+1)
			require.Len(t, ps.Health(), 1)
			ps.Follow(nil)
			pass(time.Minute)
			require.Len(t, w.times(home), round+1)
			require.Empty(t, ps.Health())
		}
	})
}

func TestChecksEndWithTheirPools(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		g := groupOf(t, ps, endpoints(2), mesh.TrafficPolicy{HealthCheck: &tcpCheck})
		ps.Follow([]*Group{g})
		pass(time.Second)
		ps.Close() // returns when all have ended; synctest sees to it that nothing is left
		ps.Follow([]*Group{groupOf(t, ps, endpoints(3), mesh.TrafficPolicy{HealthCheck: &tcpCheck})})
		pass(time.Minute)
		require.Len(t, w.times(home), 1)
		require.Empty(t, w.times("127.0.0.1:1002"))
	})
}

func TestGoodAnswersEndEjections(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		g := groupOf(t, ps, endpoints(2), mesh.TrafficPolicy{HealthCheck: &tcpCheck, Outlier: &mesh.OutlierDetection{Consecutive5xx: 1}})
		ps.Follow([]*Group{g})
		pass(0)
		g.Endpoints[0].Report(500)
		require.Equal(t, []int{1001}, used(g))
		require.Equal(t, 1, ps.Ejected())
		pass(10 * time.Second)
		require.Equal(t, []int{1000, 1001}, used(g))
		require.Zero(t, ps.Ejected())
		g.Endpoints[0].Report(500)
		require.Equal(t, 70*time.Second, g.Health().Endpoints[0].EjectedFor.Round(time.Second), "the second time in a row: twice the base, and until the next sweep")
	})
}

// Who has answered wrongly is used when everybody panics, but not who has not answered yet.
func TestPanicWaitsForTheFirstAnswer(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		w.set(home, true)
		g := groupOf(t, ps, endpoints(2), mesh.TrafficPolicy{HealthCheck: &tcpCheck, Outlier: &mesh.OutlierDetection{MinHealthPercent: 60}})
		require.Empty(t, used(g))
		ps.Follow([]*Group{g})
		pass(0)
		require.Equal(t, []int{1000, 1001}, used(g))
		require.True(t, g.Health().Panic)
	})
}

// An endpoint that comes back by its checks is warmed up again.
func TestWarmupBeginsWithTheGoodAnswer(t *testing.T) {
	checked(t, func(t *testing.T, ps *Pools, w *town) {
		w.set(home, true)
		g := groupOf(t, ps, endpoints(2), mesh.TrafficPolicy{Balancer: mesh.Random, HealthCheck: &tcpCheck, Warmup: &mesh.Warmup{Duration: 100 * time.Second}})
		ps.Follow([]*Group{g})
		pass(200 * time.Second)
		require.Equal(t, []int{1001}, used(g))
		w.set(home, false)
		pass(20 * time.Second)
		require.InDelta(t, 0.1/1.1, float64(tally(carried(g, 20_000))[1000])/20_000, 0.01)
	})
}

func TestJitterSpreadsChecks(t *testing.T) {
	testbubble.Test(t, func(t *testing.T) {
		w := &town{down: map[string]bool{}, asked: map[string][]time.Duration{}, since: time.Now()}
		ps := NewPools(Options{Dial: w.dial, Chance: func() mesh.Draw { return 1 << 63 }})
		defer ps.Close()
		ps.Follow([]*Group{groupOf(t, ps, endpoints(1), mesh.TrafficPolicy{HealthCheck: &tcpCheck})})
		pass(25 * time.Second)
		require.Equal(t, []time.Duration{0, 10500 * time.Millisecond, 21 * time.Second}, w.times(home), "half of a tenth of the interval more")
	})
}

// An endpoint that does not answer is failed when the time for it is up.
func TestChecksTimeOut(t *testing.T) {
	testbubble.Test(t, func(t *testing.T) {
		ps := NewPools(Options{Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		defer ps.Close()
		g := groupOf(t, ps, endpoints(1), mesh.TrafficPolicy{HealthCheck: &tcpCheck})
		ps.Follow([]*Group{g})
		pass(time.Second - time.Millisecond)
		require.Equal(t, "pending", g.Health().Endpoints[0].Check)
		pass(time.Millisecond)
		require.Equal(t, "failed", g.Health().Endpoints[0].Check)
	})
}
