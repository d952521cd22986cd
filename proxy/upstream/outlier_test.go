package upstream

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// watched is a group of n endpoints with outlier detection, and its clock.
func watched(t *testing.T, n int, o mesh.OutlierDetection) (*Group, *Pools, *clock) {
	t.Helper()
	clk := &clock{}
	ps := newPools(t, Options{Now: clk.Now})
	g := groupOf(t, ps, endpoints(n), mesh.TrafficPolicy{Outlier: &o})
	ps.Follow([]*Group{g})
	return g, ps, clk
}

func report(e *Endpoint, results ...Result) {
	for _, r := range results {
		e.Report(r)
	}
}

func repeat(r Result, n int) []Result {
	all := make([]Result, n)
	for i := range all {
		all[i] = r
	}
	return all
}

// ejected are the indices of the endpoints that are out.
func ejected(g *Group) []int {
	out := []int{}
	for i, e := range g.Health().Endpoints {
		if e.Ejected {
			out = append(out, i)
		}
	}
	return out
}

func TestWhatEjects(t *testing.T) {
	t.Parallel()
	split := mesh.OutlierDetection{SplitLocalOrigin: true}
	for name, tc := range map[string]struct {
		policy  mesh.OutlierDetection
		results []Result
		want    map[string]uint64
	}{
		"the default is five 5xx":             {mesh.OutlierDetection{}, repeat(500, 5), map[string]uint64{"consecutive_5xx": 1}},
		"four are not enough":                 {mesh.OutlierDetection{}, repeat(500, 4), nil},
		"a success in between":                {mesh.OutlierDetection{}, []Result{500, 500, 500, 500, 200, 500, 500, 500, 500}, nil},
		"4xx are the caller's":                {mesh.OutlierDetection{}, append(repeat(429, 50), repeat(500, 4)...), nil},
		"one is enough":                       {mesh.OutlierDetection{Consecutive5xx: 1}, []Result{501}, map[string]uint64{"consecutive_5xx": 1}},
		"off":                                 {mesh.OutlierDetection{Consecutive5xx: -1}, repeat(500, 50), nil},
		"failed connections are 5xx":          {mesh.OutlierDetection{}, []Result{ConnectFailed, Broken, TimedOut, 503, 500}, map[string]uint64{"consecutive_5xx": 1}},
		"gateway errors":                      {mesh.OutlierDetection{ConsecutiveGateway: 3}, []Result{502, 503, 504}, map[string]uint64{"consecutive_gateway_failure": 1}},
		"failed connections are 502 to 504":   {mesh.OutlierDetection{ConsecutiveGateway: 3}, []Result{ConnectFailed, Broken, TimedOut}, map[string]uint64{"consecutive_gateway_failure": 1}},
		"500 is no gateway error":             {mesh.OutlierDetection{ConsecutiveGateway: 3, Consecutive5xx: -1}, []Result{502, 503, 500, 504, 502}, nil},
		"gateway errors without a threshold":  {mesh.OutlierDetection{Consecutive5xx: -1}, repeat(503, 50), nil},
		"both at once eject once":             {mesh.OutlierDetection{ConsecutiveGateway: 2, Consecutive5xx: 2}, []Result{503, 503}, map[string]uint64{"consecutive_gateway_failure": 1}},
		"local failures by themselves":        {split, repeat(ConnectFailed, 5), map[string]uint64{"consecutive_local_origin_failure": 1}},
		"of any kind":                         {split, []Result{ConnectFailed, Broken, TimedOut, Broken, TimedOut}, map[string]uint64{"consecutive_local_origin_failure": 1}},
		"any answer ends local failures":      {split, []Result{ConnectFailed, ConnectFailed, ConnectFailed, ConnectFailed, 500, ConnectFailed}, nil},
		"and they do not count as 5xx":        {split, []Result{500, 500, ConnectFailed, ConnectFailed, ConnectFailed, 500, 500}, nil},
		"5xx go on over local failures":       {split, []Result{500, 500, 500, ConnectFailed, 500, 500}, map[string]uint64{"consecutive_5xx": 1}},
		"a threshold of local failures":       {mesh.OutlierDetection{SplitLocalOrigin: true, ConsecutiveLocalFailures: 2}, repeat(TimedOut, 2), map[string]uint64{"consecutive_local_origin_failure": 1}},
		"failures after the ejection are old": {mesh.OutlierDetection{}, repeat(500, 50), map[string]uint64{"consecutive_5xx": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, ps, _ := watched(t, 3, tc.policy)
			report(g.Endpoints[1], tc.results...)
			h := ps.Health()[0]
			if tc.want == nil {
				tc.want = map[string]uint64{}
			}
			require.Equal(t, tc.want, h.Ejections)
			require.Equal(t, len(tc.want), h.Ejected)
			require.Equal(t, 3-len(tc.want), h.Usable)
			require.Zero(t, h.Overflows)
			require.Equal(t, len(tc.want) == 0, tally(carried(g, 300))[1001] > 0)
		})
	}
}

// carried tells where n requests go; those that get no endpoint go nowhere.
func carried(g *Group, n int) (ports []int) {
	for i := range n {
		if e := g.Pick(Choice{Draw: mix(mesh.Draw(i))}); e != nil {
			ports = append(ports, e.Port)
		}
	}
	return ports
}

// A transcript of one endpoint: times and what happens then, in Envoy's rules. Interval 10 s, base 30 s.
func TestEjectionsGrowAndAreForgiven(t *testing.T) {
	t.Parallel()
	g, ps, clk := watched(t, 2, mesh.OutlierDetection{Consecutive5xx: 1})
	e := g.Endpoints[0]
	out := func(at time.Duration) bool {
		clk.now = at
		return len(ejected(g)) > 0
	}
	eject := func(at, until time.Duration) {
		t.Helper()
		clk.now = at
		e.Report(500)
		require.Equal(t, until-at, g.Health().Endpoints[0].EjectedFor, "from %s", at)
		require.True(t, out(until-1))
		require.False(t, out(until))
	}
	const s = time.Second
	eject(1*s, 40*s)    // 30 s, to the end of the interval
	eject(45*s, 110*s)  // the second: 60 s
	eject(110*s, 200*s) // the third, at once: 90 s
	eject(209*s, 330*s) // 120 s
	eject(345*s, 470*s) // the end of an interval was without ejection, so it is the fourth again
	eject(515*s, 550*s) // four ends: the first
	eject(10_000*s, 10_030*s)
	for n, at := 2, 10_030*s; n < 13; n++ {
		length := min(time.Duration(n)*30*s, 300*s)
		eject(at, at+length)
		at += length
	}
	last := clk.now
	eject(last, last+300*s) // it is bounded
	require.Equal(t, 19, g.Health().Endpoints[0].Ejections)
	require.Equal(t, uint64(19), ps.HealthTotals().Ejections[Ejected5xx])
	require.Zero(t, ps.Ejected())
}

func TestEjectionLengths(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		policy mesh.OutlierDetection
		want   []time.Duration // one ejection behind the other
	}{
		{mesh.OutlierDetection{Interval: time.Second, BaseEjection: 2 * time.Second, MaxEjection: 5 * time.Second}, []time.Duration{2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second}},
		{mesh.OutlierDetection{Interval: time.Second, BaseEjection: 400 * time.Second}, []time.Duration{400 * time.Second, 400 * time.Second}},
		{mesh.OutlierDetection{Interval: 3 * time.Second, BaseEjection: time.Second}, []time.Duration{3 * time.Second, 3 * time.Second, 3 * time.Second, 6 * time.Second}},
	} {
		tc.policy.Consecutive5xx = 1
		g, _, clk := watched(t, 2, tc.policy)
		for _, want := range tc.want {
			g.Endpoints[0].Report(500)
			got := g.Health().Endpoints[0].EjectedFor
			require.Equal(t, want, got)
			clk.now += got
			require.NotNil(t, g.Pick(Choice{}), "the next request finds it back")
		}
	}
}

// One may always go; more only up to the percentage. Others are counted, and their failures begin anew.
func TestMaxEjectionPercent(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ n, percent, want int }{
		{1, 0, 1}, {3, 0, 1}, {10, 0, 1}, {19, 0, 1}, {20, 0, 2}, {4, 50, 2}, {5, 50, 2}, {3, 66, 1}, {3, 67, 2}, {4, 100, 4}, {100, 1, 1},
	} {
		g, ps, _ := watched(t, tc.n, mesh.OutlierDetection{MaxEjectionPercent: tc.percent})
		for _, e := range g.Endpoints {
			report(e, repeat(503, 5)...)
		}
		require.Len(t, ejected(g), tc.want, "%+v", tc)
		require.Equal(t, tc.want, ps.Ejected())
		require.EqualValues(t, tc.n-tc.want, ps.HealthTotals().Overflows)
		require.EqualValues(t, tc.n-tc.want, g.Health().Overflows)
		report(g.Endpoints[tc.n-1], repeat(503, 4)...)
		require.EqualValues(t, tc.n-tc.want, g.Health().Overflows, "the count began anew")
		if tc.want == tc.n {
			require.Nil(t, g.Pick(Choice{}), "none is left, and nobody panics")
		}
	}
}

// With fewer usable than the threshold all are used; draining ones never are.
func TestPanicThreshold(t *testing.T) {
	t.Parallel()
	clk := &clock{}
	ps := newPools(t, Options{Now: clk.Now})
	list := endpoints(6)
	list[4].Health, list[5].Health = mesh.Unhealthy, mesh.Draining
	g := groupOf(t, ps, list, mesh.TrafficPolicy{Outlier: &mesh.OutlierDetection{MaxEjectionPercent: 100, MinHealthPercent: 50, Consecutive5xx: 1}})
	used := func() map[int]int { return tally(carried(g, 500)) }
	require.Len(t, used(), 4)
	g.Endpoints[0].Report(500)
	require.Len(t, used(), 3, "3 of 5 are 60 %%")
	require.False(t, g.Health().Panic)
	g.Endpoints[1].Report(500)
	require.Len(t, used(), 5, "2 of 5 are not half")
	require.NotContains(t, used(), 1005)
	require.True(t, g.Health().Panic)
	clk.now = 30 * time.Second
	require.Len(t, used(), 4)
	require.False(t, g.Health().Panic)
}

// What is known of an address stays through configurations of its destination, and is forgotten with it.
func TestEjectionsOutliveConfigurations(t *testing.T) {
	t.Parallel()
	policy := mesh.TrafficPolicy{Outlier: &mesh.OutlierDetection{Consecutive5xx: 2, MaxEjectionPercent: 100}}
	clk := &clock{}
	ps := newPools(t, Options{Now: clk.Now})
	old := groupOf(t, ps, endpoints(4), policy)
	ps.Follow([]*Group{old})
	report(old.Endpoints[1], 500, 500)
	old.Endpoints[2].Report(500)

	next := groupOf(t, ps, endpoints(3), policy)
	require.Equal(t, []int{1}, ejected(next))
	next.Endpoints[2].Report(500)
	require.Equal(t, []int{1, 2}, ejected(next), "the failures before count, too")
	require.Equal(t, []int{1, 2}, ejected(old), "and requests that are still on the old configuration see it")
	require.NotContains(t, tally(carried(old, 100)), 1002)

	subset, err := ps.NewGroup(Destination{Name: "g:80", Endpoints: endpoints(3), Labels: mesh.Labels{mesh.LabelVersion: "v1"}, Policy: policy})
	require.NoError(t, err)
	require.Empty(t, ejected(subset), "a subset is a destination of its own")
	ps.Follow([]*Group{next, subset})
	require.Equal(t, []string{"g:80", "g:80{version=v1}"}, []string{ps.Health()[0].Destination, ps.Health()[1].Destination})

	old.Endpoints[3].Report(500)
	report(old.Endpoints[3], 500, 500)
	require.Equal(t, 2, ps.Ejected(), "what is in no configuration any more is not counted")
	lax := groupOf(t, ps, endpoints(3), mesh.TrafficPolicy{})
	require.Len(t, tally(carried(lax, 100)), 3, "without the policy all are used")

	ps.Follow([]*Group{subset})
	back := groupOf(t, ps, endpoints(3), policy)
	require.Empty(t, ejected(back), "it was forgotten")
	require.Equal(t, uint64(2), ps.HealthTotals().Ejections[Ejected5xx], "but for the counts")
}

func TestEjectionsNeedAPolicy(t *testing.T) {
	t.Parallel()
	ps := newPools(t, Options{})
	g := groupOf(t, ps, endpoints(2), mesh.TrafficPolicy{})
	lone := ps.NewLone(mesh.Endpoint{Address: "127.0.0.1", Port: 1})
	defer lone.Close()
	for range 100 {
		g.Endpoints[0].Report(500)
		lone.Endpoints[0].Report(ConnectFailed)
	}
	require.Len(t, tally(carried(g, 100)), 2)
	require.NotNil(t, lone.Pick(Choice{}))
	ps.Follow([]*Group{g})
	require.Empty(t, ps.Health(), "there is nothing to tell")
}

// Many report and pick at once, while time passes and configurations change. The sums hold at the end.
func TestReportsAndPicksAtOnce(t *testing.T) {
	t.Parallel()
	ps := newPools(t, Options{})
	policy := mesh.TrafficPolicy{
		Balancer: mesh.Maglev, Hash: &mesh.HashPolicy{TableSize: 251},
		Outlier: &mesh.OutlierDetection{Consecutive5xx: 3, Interval: time.Microsecond, BaseEjection: 50 * time.Microsecond, MaxEjection: 100 * time.Microsecond, MaxEjectionPercent: 50},
	}
	current := groupOf(t, ps, endpoints(8), policy)
	ps.Follow([]*Group{current})
	var carriers sync.WaitGroup
	var mu sync.Mutex
	for w := range 4 {
		carriers.Go(func() {
			for i := range 3000 {
				mu.Lock()
				g := current
				mu.Unlock()
				e := g.Pick(Choice{Draw: mix(mesh.Draw(i*4 + w)), Hash: HashOf(fmt.Append(nil, i)), Hashed: i%2 == 0})
				if e == nil {
					t.Error("half of them must be left")
					return
				}
				if e.Port%2 == 0 {
					e.Report(503)
				} else {
					e.Report(200)
				}
			}
		})
	}
	for i := range 50 {
		next := groupOf(t, ps, endpoints(6+i%4), policy)
		mu.Lock()
		current = next
		mu.Unlock()
		ps.Follow([]*Group{next})
		require.LessOrEqual(t, ps.Ejected(), 4)
	}
	carriers.Wait()
	require.Positive(t, ps.HealthTotals().Ejections[Ejected5xx])
	require.Eventually(t, func() bool { return ps.Ejected() == 0 }, 30*time.Second, time.Millisecond)
}
