package upstream

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// clock is a time that tests move.
type clock struct{ now time.Duration }

func (c *clock) Now() time.Duration { return c.now }

func groupOf(t *testing.T, ps *Pools, list []mesh.Endpoint, policy mesh.TrafficPolicy) *Group {
	t.Helper()
	g, err := ps.NewGroup(Destination{Name: "g:80", Host: "g", Endpoints: list, Policy: policy})
	require.NoError(t, err)
	return g
}

// hashed tells where n keys go.
func hashed(g *Group, n int) []int {
	ports := make([]int, n)
	for i := range ports {
		ports[i] = g.Pick(Choice{Hash: HashOf(fmt.Appendf(nil, "key %d", i)), Hashed: true, Draw: mesh.Draw(i)}).Port
	}
	return ports
}

func moved(a, b []int) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

func tally(ports []int) map[int]int {
	counts := map[int]int{}
	for _, p := range ports {
		counts[p]++
	}
	return counts
}

func TestHashOfIsEnvoys(t *testing.T) {
	t.Parallel()
	require.Equal(t, uint64(0xef46db3751d8e999), HashOf(nil), "the published test vector of xxHash64")
	require.Equal(t, uint64(0x44bc2cf5ad770999), HashOf([]byte("abc")))
}

// Of n endpoints one goes: what it had moves, and hardly anything else.
func TestConsistentHashesMoveLittle(t *testing.T) {
	t.Parallel()
	const keys = 20_000
	for _, tc := range []struct {
		balancer mesh.Balancer
		n        int
		spread   float64 // of the shares of the keys: a ring of 1024 points is coarse for many endpoints
		extra    float64 // of the keys, that move beside those that have to
	}{
		{mesh.RingHash, 4, 0.3, 0}, {mesh.RingHash, 10, 0.4, 0}, {mesh.RingHash, 100, 1.5, 0},
		{mesh.Maglev, 4, 0.05, 0.03}, {mesh.Maglev, 10, 0.1, 0.03}, {mesh.Maglev, 100, 0.25, 0.03},
	} {
		clk := &clock{}
		g := groupOf(t, newPools(t, Options{Now: clk.Now}), endpoints(tc.n), mesh.TrafficPolicy{Balancer: tc.balancer, Outlier: &mesh.OutlierDetection{Consecutive5xx: 1}})
		before := hashed(g, keys)
		for port, count := range tally(before) {
			require.InDelta(t, float64(keys)/float64(tc.n), count, tc.spread*keys/float64(tc.n), "%s: the share of %d of %d", tc.balancer, port, tc.n)
		}
		g.Endpoints[1].Report(500)
		during := hashed(g, keys)
		gone := tally(before)[1001]
		require.Zero(t, tally(during)[1001])
		require.GreaterOrEqual(t, moved(before, during), gone)
		require.LessOrEqual(t, moved(before, during), gone+int(tc.extra*keys), "%s of %d", tc.balancer, tc.n)
		clk.now = 30 * time.Second
		require.Equal(t, before, hashed(g, keys), "when it comes back, so does all that it had")
	}
}

// A configuration without an endpoint makes the ring anew, and as in Envoy each of the others may have some points more then: here 114 for 103.
func TestConsistentHashesMoveLittleWithConfigurations(t *testing.T) {
	t.Parallel()
	const keys, n = 20_000, 10
	for balancer, extra := range map[mesh.Balancer]int{mesh.RingHash: keys * 11 / 114, mesh.Maglev: keys * 3 / 100} {
		ps := newPools(t, Options{})
		all := endpoints(n)
		before := hashed(groupOf(t, ps, all, mesh.TrafficPolicy{Balancer: balancer}), keys)
		fewer := slices.Delete(slices.Clone(all), 3, 4)
		slices.Reverse(fewer)
		after := hashed(groupOf(t, ps, fewer, mesh.TrafficPolicy{Balancer: balancer}), keys)
		require.LessOrEqual(t, moved(before, after), tally(before)[1003]+extra, balancer)
	}
}

func TestConsistentHashesRespectWeights(t *testing.T) {
	t.Parallel()
	const keys = 60_000
	for balancer, delta := range map[mesh.Balancer]float64{mesh.RingHash: 0.25, mesh.Maglev: 0.04} {
		g := groupOf(t, newPools(t, Options{}), endpoints(3, 1, 2, 3), mesh.TrafficPolicy{Balancer: balancer})
		counts := tally(hashed(g, keys))
		for i := range 3 {
			require.InEpsilon(t, keys*(i+1)/6, counts[1000+i], delta, "%s %d", balancer, i)
		}
	}
}

func TestHashesDecide(t *testing.T) {
	t.Parallel()
	for _, balancer := range []mesh.Balancer{mesh.RingHash, mesh.Maglev} {
		g := groupOf(t, newPools(t, Options{}), endpoints(5), mesh.TrafficPolicy{Balancer: balancer, Hash: &mesh.HashPolicy{Header: "x-user"}})
		require.Equal(t, "x-user", g.HashPolicy().Header)
		c := Choice{Hash: HashOf([]byte("me")), Hashed: true}
		mine := g.Pick(c)
		for i := range 100 {
			c.Draw, c.Tried = mix(mesh.Draw(i)), []*Pool{mine.Pool}
			require.Same(t, mine, g.Pick(c), "whatever the chance, and again after it has been tried")
		}
		require.Len(t, picks(g, 1000), 5, "a request without what is hashed goes anywhere")
		elsewhere := g.Pick(Choice{Draw: mesh.Draw(c.Hash), Tried: []*Pool{mine.Pool}})
		require.NotSame(t, mine, elsewhere)
	}
	require.Nil(t, groupOf(t, newPools(t, Options{}), endpoints(2), mesh.TrafficPolicy{Balancer: mesh.Random, Hash: &mesh.HashPolicy{SourceIP: true}}).HashPolicy())
}

// The points of the arcs are only a short cut: what they find is what a search of all points finds.
func TestRingFindsTheNextPoint(t *testing.T) {
	t.Parallel()
	for n := 1; n < 40; n++ {
		g := groupOf(t, newPools(t, Options{}), endpoints(n, 1, 5), mesh.TrafficPolicy{Balancer: mesh.RingHash, Hash: &mesh.HashPolicy{MinRingSize: n}})
		r := newRing(g.Endpoints, n)
		require.GreaterOrEqual(t, len(r.points), n)
		check := func(hash uint64) {
			i := sort.Search(len(r.points), func(i int) bool { return r.points[i].hash >= hash })
			require.Equal(t, int(r.points[i%len(r.points)].to), r.at(hash), "%d of %d", hash, n)
		}
		for i := range 500 {
			check(uint64(mix(mesh.Draw(i))))
		}
		for _, p := range r.points {
			check(p.hash)
			check(p.hash + 1)
			check(p.hash - 1)
		}
		check(0)
		check(^uint64(0))
	}
}

// The first points are those that Envoy gives: xxHash64 of ADDRESS_NUMBER, and as many for each as the smallest weight asks for.
func TestRingIsEnvoys(t *testing.T) {
	t.Parallel()
	g := groupOf(t, newPools(t, Options{}), endpoints(3, 1, 2, 1), mesh.TrafficPolicy{Balancer: mesh.RingHash})
	r := newRing(g.Endpoints, 6)
	counts := map[uint32]int{}
	for _, p := range r.points {
		counts[p.to]++
	}
	require.Equal(t, map[uint32]int{0: 2, 1: 4, 2: 2}, counts, "ceil(6/4) points for a weight of 1")
	for i := range 2 {
		require.Contains(t, r.points, point{HashOf(fmt.Appendf(nil, "127.0.0.1:1002_%d", i)), 2})
	}
}

func TestMaglevFillsItsTable(t *testing.T) {
	t.Parallel()
	g := groupOf(t, newPools(t, Options{}), endpoints(7), mesh.TrafficPolicy{Balancer: mesh.Maglev})
	table := newMaglev(g.Endpoints, &mesh.HashPolicy{TableSize: 251})
	require.Len(t, table, 251)
	counts := map[uint32]int{}
	for _, to := range table {
		counts[to]++
	}
	for to, n := range counts {
		require.InDelta(t, 251.0/7, n, 1, "%d: they take turns", to)
	}
	require.Len(t, newMaglev(g.Endpoints, nil), 65537)
}

func TestBalancingPolicesAreChecked(t *testing.T) {
	t.Parallel()
	for want, policy := range map[string]mesh.TrafficPolicy{
		"no such balancer":          {Balancer: "BEST"},
		"at most 8388608":           {Balancer: mesh.RingHash, Hash: &mesh.HashPolicy{MinRingSize: 8388609}},
		"must be a prime":           {Balancer: mesh.Maglev, Hash: &mesh.HashPolicy{TableSize: 256}},
		"prime up to 5000011":       {Balancer: mesh.Maglev, Hash: &mesh.HashPolicy{TableSize: 5000077}},
		"take some time":            {Warmup: &mesh.Warmup{}},
		"0 to 100 %":                {Warmup: &mesh.Warmup{Duration: 1, MinPercent: 101}},
		"must not be negative":      {Warmup: &mesh.Warmup{Duration: 1, Aggression: -1}},
		"HTTP, TCP and gRPC":        {HealthCheck: &mesh.HealthCheck{}},
		"an interval and a timeout": {HealthCheck: &mesh.HealthCheck{TCP: true}},
		"thresholds":                {HealthCheck: &mesh.HealthCheck{TCP: true, Interval: 1, Timeout: 1}},
		"no such port":              {HealthCheck: &mesh.HealthCheck{TCP: true, Interval: 1, Timeout: 1, HealthyThreshold: 1, UnhealthyThreshold: 1, Port: 65536}},
		"no path to ask for":        {HealthCheck: &mesh.HealthCheck{HTTP: &mesh.HTTPCheck{Path: "a b"}, Interval: 1, Timeout: 1, HealthyThreshold: 1, UnhealthyThreshold: 1}},
	} {
		_, err := newPools(t, Options{}).NewGroup(Destination{Name: "g", Endpoints: endpoints(2), Policy: policy})
		require.ErrorContains(t, err, want)
	}
}

// The guide is only a short cut: what it finds is the first sum above the point.
func TestWeightedDrawsFindTheirEndpoint(t *testing.T) {
	t.Parallel()
	for n := 1; n < 70; n++ {
		weights := make([]uint64, n)
		var total uint64
		for i := range weights {
			weights[i] = uint64(mix(mesh.Draw(i*i*n))>>40) % 9
			if i%7 == 1 {
				weights[i] = 1 << 40
			}
			weights[i]++
			total += weights[i]
		}
		s := &selection{usable: make([]*Endpoint, n)}
		s.weigh(weights)
		for k := range 2000 {
			draw := mix(mesh.Draw(k))
			if k < 3 {
				draw = []mesh.Draw{0, 1, math.MaxUint64}[k]
			}
			point, _ := bits.Mul64(uint64(draw), total)
			want := 0
			for sum := weights[0]; sum <= point; sum += weights[want] {
				want++
			}
			if s.upTo == nil { // all the same
				want = s.at(draw)
			}
			require.Equal(t, want, s.at(draw), "%d of %v", draw, weights)
		}
		for i := range weights {
			require.True(t, s.upTo == nil || s.weight(i) == weights[i])
		}
	}
}

// With everybody busy, endpoints hold requests in proportion to their weights; with nobody, they get them so.
func TestLeastRequestRespectsWeights(t *testing.T) {
	t.Parallel()
	g := groupOf(t, newPools(t, Options{}), endpoints(4, 1, 1, 2, 4), mesh.TrafficPolicy{})
	for i := range 8000 {
		g.Pick(Choice{Draw: mix(mesh.Draw(i))}).Pool.Begin()
	}
	for i, want := range []float64{1000, 1000, 2000, 4000} {
		require.InEpsilon(t, want, g.Endpoints[i].Pool.Active(), 0.02, "%d", i)
		for range g.Endpoints[i].Pool.Active() {
			g.Endpoints[i].Pool.End()
		}
	}
}

// A turn goes on where the last configuration left it, so that frequent configurations do not favour the first endpoint.
func TestTurnsOutliveConfigurations(t *testing.T) {
	t.Parallel()
	ps := newPools(t, Options{})
	counts := map[int]int{}
	for range 30 {
		counts[groupOf(t, ps, endpoints(3), mesh.TrafficPolicy{Balancer: mesh.RoundRobin}).Pick(Choice{}).Port]++
	}
	require.Equal(t, map[int]int{1000: 10, 1001: 10, 1002: 10}, counts)
}

func TestWarmupFormula(t *testing.T) {
	t.Parallel()
	const d = 100 * time.Second
	for _, tc := range []struct {
		warmup mesh.Warmup
		age    time.Duration
		want   float64 // share of the weight
	}{
		{mesh.Warmup{}, 0, 0.1}, {mesh.Warmup{}, 5 * time.Second, 0.1}, {mesh.Warmup{}, 50 * time.Second, 0.5}, {mesh.Warmup{}, d, 1}, {mesh.Warmup{}, 2 * d, 1},
		{mesh.Warmup{MinPercent: 25}, 0, 0.25}, {mesh.Warmup{Aggression: 2}, 25 * time.Second, 0.5}, {mesh.Warmup{Aggression: 0.5}, 50 * time.Second, 0.25},
		{mesh.Warmup{}, -time.Second, 0.1},
	} {
		tc.warmup.Duration = d
		require.InDelta(t, tc.want*fullWeight, warmed(&tc.warmup, tc.age), 1, "%+v", tc)
	}
}

// An endpoint that comes into a running destination is warmed up, whatever configurations come meanwhile; those that were there are not.
func TestNewEndpointsWarmUp(t *testing.T) {
	t.Parallel()
	const n = 30_000
	for _, b := range []mesh.Balancer{mesh.LeastRequest, mesh.RoundRobin} {
		clk := &clock{}
		ps := newPools(t, Options{Now: clk.Now})
		policy := mesh.TrafficPolicy{Balancer: b, Warmup: &mesh.Warmup{Duration: 100 * time.Second}}
		g := groupOf(t, ps, endpoints(2), policy)
		for port, count := range picks(g, n) {
			require.InDelta(t, n/2, count, n/50, "%s: %d, all are new and so equal", b, port)
		}
		clk.now = 200 * time.Second
		g = groupOf(t, ps, endpoints(3), policy)
		share := func() float64 { return float64(picks(g, n)[1002]) / n }
		require.InDelta(t, 0.1/2.1, share(), 0.01, b)
		clk.now += 50 * time.Second
		require.InDelta(t, 0.5/2.5, share(), 0.02, "%s: within one configuration", b)
		g = groupOf(t, ps, endpoints(3), policy)
		require.InDelta(t, 0.5/2.5, share(), 0.02, "%s: and over two", b)
		clk.now += 50 * time.Second
		require.InDelta(t, 1.0/3, share(), 0.02, b)
		require.Nil(t, g.selection().upTo)
		require.Equal(t, never, g.selection().until, "nothing is to come: time is not asked any more")
	}
}

func TestPickAllocatesNothingWhateverTheBalancer(t *testing.T) {
	for name := range balancers {
		g := groupOf(t, newPools(t, Options{}), endpoints(50, 1, 2, 3), mesh.TrafficPolicy{Balancer: name, Outlier: &mesh.OutlierDetection{}})
		tried := []*Pool{g.Endpoints[0].Pool}
		n := 0
		require.Zero(t, testing.AllocsPerRun(100, func() {
			n++
			e := g.Pick(Choice{Draw: mix(mesh.Draw(n)), Hash: uint64(n) * golden, Hashed: n%2 == 0, Tried: tried})
			e.Report(200)
		}), name)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, name := range []mesh.Balancer{mesh.LeastRequest, mesh.RoundRobin, mesh.Random, mesh.RingHash, mesh.Maglev} {
		for _, n := range []int{10, 1000, 10_000} {
			for kind, weights := range map[string][]uint32{"same": nil, "weighted": {1, 2, 3}} {
				b.Run(fmt.Sprintf("%s/%d/%s", name, n, kind), func(b *testing.B) {
					ps := NewPools(Options{})
					defer ps.Close()
					g, err := ps.NewGroup(Destination{Name: "g", Endpoints: endpoints(n, weights...), Policy: mesh.TrafficPolicy{Balancer: name, Outlier: &mesh.OutlierDetection{}}})
					require.NoError(b, err)
					g.Pick(Choice{})
					b.ReportAllocs()
					draw := mesh.Draw(1)
					for b.Loop() {
						draw = draw*6364136223846793005 + 1442695040888963407
						g.Pick(Choice{Draw: draw, Hash: uint64(draw), Hashed: true}).Report(200)
					}
				})
			}
		}
	}
}

// BenchmarkSelect is what a change costs: one endpoint goes.
func BenchmarkSelect(b *testing.B) {
	for _, name := range []mesh.Balancer{mesh.LeastRequest, mesh.RingHash, mesh.Maglev} {
		for _, n := range []int{10, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				ps := NewPools(Options{})
				defer ps.Close()
				g, err := ps.NewGroup(Destination{Name: "g", Endpoints: endpoints(n), Policy: mesh.TrafficPolicy{Balancer: name}})
				require.NoError(b, err)
				g.Pick(Choice{})
				for b.Loop() {
					g.roster.version.Add(1)
					g.Pick(Choice{})
				}
			})
		}
	}
}
