package ratelimit

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
)

const (
	second = time.Second
	port   = 8080
)

func limiter(t testing.TB, limits ...mesh.RateLimit) *Limiter {
	t.Helper()
	l, err := New(limits, nil)
	require.NoError(t, err)
	return l
}

// ask is one request: a GET of a path with headers as name, value, name, value.
func ask(path string, headers ...string) *route.View {
	v := &route.View{Method: "GET", URLPath: path, Authority: "backend"}
	for i := 0; i < len(headers); i += 2 {
		v.Headers = append(v.Headers, route.Header{Name: headers[i], Value: headers[i+1]})
	}
	return v
}

// passes counts how many of n requests at a time pass.
func passes(l *Limiter, n int, now time.Duration, req route.Request, caller string) int {
	passed := 0
	for range n {
		if v := l.Allow(now, req, port, caller); !v.Refused {
			passed++
		}
	}
	return passed
}

func prefix(p string) mesh.Match { return mesh.Match{Path: &mesh.StringMatch{Prefix: &p}} }

func TestABucketRefillsSteadily(t *testing.T) {
	t.Parallel()
	l := limiter(t, mesh.RateLimit{Name: "all", Requests: 3, Per: second, Burst: 5})
	require.Equal(t, 5, passes(l, 20, 10*second, ask("/"), ""))
	third := second / 3 // rounded down: a nanosecond too early
	require.Equal(t, 0, passes(l, 20, 10*second+third, ask("/"), ""))
	require.Equal(t, 1, passes(l, 20, 10*second+third+1, ask("/"), ""))
	require.Equal(t, 2, passes(l, 20, 11*second, ask("/"), ""), "the remainder of the first token was not lost")
	require.Equal(t, 5, passes(l, 20, time.Hour, ask("/"), ""), "and no more than the burst comes back")
	require.Equal(t, 0, passes(l, 20, time.Minute, ask("/"), ""), "a clock that is read late adds nothing")
}

func TestVerdictsSayHowMuchIsLeft(t *testing.T) {
	t.Parallel()
	l := limiter(t, mesh.RateLimit{Name: "all", Requests: 2, Per: 5 * second, Headers: true})
	v := l.Allow(0, ask("/"), port, "")
	require.False(t, v.Refused)
	require.Equal(t, 1, v.Remaining)
	require.Equal(t, 0, v.Reset())
	v = l.Allow(0, ask("/"), port, "")
	require.False(t, v.Refused)
	require.Equal(t, 0, v.Remaining)
	require.Equal(t, 3, v.Reset(), "2.5 s, rounded up")
	v = l.Allow(second, ask("/"), port, "")
	require.True(t, v.Refused)
	require.Equal(t, "all", v.Limit.Name)
	require.Equal(t, 429, v.Limit.Status)
	require.Equal(t, 2, v.Limit.Size)
	require.True(t, v.Limit.Tell)
	require.Equal(t, 1500*time.Millisecond, v.Next)
	require.Equal(t, Counts{Allowed: 2, Refused: 1, Keys: 1}, v.Limit.Counts())
}

func TestKeysHaveBucketsOfTheirOwn(t *testing.T) {
	t.Parallel()
	one := mesh.RateLimit{Name: "one", Requests: 1, Per: second}
	for name, test := range map[string]struct {
		caller bool
		header string
		same   [][2]any // request, caller: each pair of neighbours shares a bucket
		others [][2]any // and none of these has been used
	}{
		"nothing": {same: [][2]any{{ask("/a"), "web"}, {ask("/b", "x-key", "1"), "jobs"}}},
		"the caller": {
			caller: true,
			same:   [][2]any{{ask("/a", "x-key", "1"), "web"}, {ask("/b", "x-key", "2"), "web"}},
			others: [][2]any{{ask("/a"), "jobs"}, {ask("/a"), ""}},
		},
		"a header": {
			header: "X-Key",
			same:   [][2]any{{ask("/a", "x-key", "1"), "web"}, {ask("/b", "X-KEY", "1"), "jobs"}},
			others: [][2]any{{ask("/a", "x-key", "2"), "web"}, {ask("/a", "x-key", ""), "web"}, {ask("/a"), "web"}},
		},
		"a header that is not there": {
			header: "x-key",
			same:   [][2]any{{ask("/a"), "web"}, {ask("/b"), "jobs"}},
			others: [][2]any{{ask("/a", "x-key", ""), "web"}},
		},
		"a header that is there twice": {
			header: "x-key",
			same:   [][2]any{{ask("/a", "x-key", "1", "y", "z", "x-key", "2"), ""}, {ask("/a", "x-key", "1,2"), ""}},
			others: [][2]any{{ask("/a", "x-key", "1"), ""}, {ask("/a", "x-key", "2"), ""}},
		},
		"both": {
			caller: true, header: "x-key",
			same:   [][2]any{{ask("/a", "x-key", "1"), "web"}, {ask("/b", "x-key", "1"), "web"}},
			others: [][2]any{{ask("/a", "x-key", "1"), "jobs"}, {ask("/a", "x-key", "2"), "web"}, {ask("/a"), "web"}, {ask("/a"), "jobs"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := one
			limit.Caller, limit.Header = test.caller, test.header
			l := limiter(t, limit)
			for i, r := range test.same {
				require.Equal(t, i > 0, l.Allow(0, r[0].(*route.View), port, r[1].(string)).Refused)
			}
			for _, r := range test.others {
				require.False(t, l.Allow(0, r[0].(*route.View), port, r[1].(string)).Refused, "%v", r)
			}
		})
	}
}

func TestOnlyWhatMatchesIsLimited(t *testing.T) {
	t.Parallel()
	l := limiter(t, mesh.RateLimit{Name: "writes", Requests: 1, Per: second, Matches: []mesh.Match{prefix("/write"), prefix("/delete")}, Status: 503})
	require.Equal(t, 9, passes(l, 9, 0, ask("/read"), ""))
	require.Nil(t, l.Allow(0, ask("/read"), port, "").Limit)
	require.Equal(t, 1, passes(l, 9, 0, ask("/write/1"), ""))
	v := l.Allow(0, ask("/delete/1"), port, "")
	require.True(t, v.Refused, "one bucket for all matches")
	require.Equal(t, 503, v.Limit.Status)

	only := mesh.Match{Port: 9090}
	l = limiter(t, mesh.RateLimit{Name: "other port", Requests: 1, Per: second, Matches: []mesh.Match{only}})
	require.Equal(t, 9, passes(l, 9, 0, ask("/"), ""))
}

func TestARefusedRequestCostsNothing(t *testing.T) {
	t.Parallel()
	l := limiter(t,
		mesh.RateLimit{Name: "wide", Requests: 10, Per: second},
		mesh.RateLimit{Name: "narrow", Requests: 2, Per: second, Matches: []mesh.Match{prefix("/narrow")}},
	)
	require.Equal(t, 2, passes(l, 50, 0, ask("/narrow"), ""))
	require.Equal(t, "narrow", l.Allow(0, ask("/narrow"), port, "").Limit.Name)
	v := l.Allow(0, ask("/"), port, "")
	require.Equal(t, "wide", v.Limit.Name)
	require.Equal(t, 7, v.Remaining)
	require.Equal(t, 7, passes(l, 50, 0, ask("/"), ""))
	v = l.Allow(second/2, ask("/narrow"), port, "")
	require.False(t, v.Refused)
	require.Equal(t, "narrow", v.Limit.Name, "it has fewer tokens left")
	wide, narrow := l.Limits()[0].Counts(), l.Limits()[1].Counts()
	require.Equal(t, uint64(11), wide.Allowed)
	require.Equal(t, uint64(43), wide.Refused)
	require.Equal(t, uint64(3), narrow.Allowed)
	require.Equal(t, uint64(49), narrow.Refused)
}

func TestStateOutlivesConfigurations(t *testing.T) {
	t.Parallel()
	limit := mesh.RateLimit{Name: "all", Requests: 2, Per: second, Header: "x-key"}
	old := limiter(t, limit)
	require.Equal(t, 2, passes(old, 5, 0, ask("/a"), ""))

	same := limit
	same.Matches, same.Status, same.Header = []mesh.Match{prefix("/a")}, 503, "X-Key"
	next, err := New([]mesh.RateLimit{{Name: "other", Requests: 1, Per: second}, same}, old)
	require.NoError(t, err)
	require.Equal(t, 0, passes(next, 1, 0, ask("/a"), ""), "requests that still go by the old configuration share the buckets")
	require.Equal(t, uint64(4), next.Limits()[1].Counts().Refused)

	for what, change := range map[string]func(*mesh.RateLimit){
		"requests": func(r *mesh.RateLimit) { r.Requests = 3 },
		"per":      func(r *mesh.RateLimit) { r.Per = 2 * second },
		"burst":    func(r *mesh.RateLimit) { r.Burst = 3 },
		"caller":   func(r *mesh.RateLimit) { r.Caller = true },
		"header":   func(r *mesh.RateLimit) { r.Header = "x-other" },
	} {
		changed := limit
		change(&changed)
		l, err := New([]mesh.RateLimit{changed}, next)
		require.NoError(t, err)
		require.Equal(t, 1, passes(l, 1, 0, ask("/a"), ""), what)
		require.NotZero(t, l.Limits()[0].Counts().Refused, "counts go on")
	}
}

func TestMistakesAreReportedTogether(t *testing.T) {
	t.Parallel()
	bad := "("
	_, err := New([]mesh.RateLimit{
		{Name: "a", Per: second},
		{Name: "b", Requests: 1},
		{Name: "c", Requests: 1, Per: second, Burst: -1},
		{Name: "d", Requests: 1, Per: second, Status: 200},
		{Name: "e", Requests: 1, Per: second, Matches: []mesh.Match{{Path: &mesh.StringMatch{Regex: &bad}}}},
		{Name: "f", Requests: 1, Per: second, Matches: []mesh.Match{{SourceLabels: mesh.Labels{"app": "web"}}}},
		{Name: "g", Requests: 999_999_937, Per: 24 * time.Hour * 365, Burst: 1 << 30},
		{Name: "h", Requests: 1, Per: second}, {Name: "h", Requests: 1, Per: second},
		{Requests: 1, Per: second},
	}, nil)
	for _, want := range []string{
		`limit "a": 0 requests: at least 1`, `limit "b": per 0s`, `limit "c": burst -1`, `limit "d": status 200`, `limit "e": match: path: regex "("`,
		`limit "f": match: the labels`, `limit "g": burst and per are too large`, `limit "h": there are two`, `limit "": a name is needed`,
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = New(make([]mesh.RateLimit, MaxLimits+1), nil)
	require.ErrorContains(t, err, "at most 64")
}

func TestNobodyIsNoLimit(t *testing.T) {
	t.Parallel()
	var l *Limiter
	require.Zero(t, l.Allow(0, ask("/"), port, ""))
	require.Empty(t, l.Limits())
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	l := limiter(t, mesh.RateLimit{Name: "keyed", Requests: 1, Per: second, Header: "x-key"})
	for i := range 5 * MaxKeys {
		l.Allow(time.Duration(i), ask("/", "x-key", strconv.Itoa(i)), port, "")
	}
	c := l.Limits()[0].Counts()
	require.Equal(t, MaxKeys, c.Keys)
	require.Equal(t, uint64(4*MaxKeys), c.Evicted, "none of them was full again")

	for i := range 5 * MaxKeys {
		l.Allow(time.Minute+time.Duration(i)*second, ask("/", "x-key", strconv.Itoa(i)), port, "")
	}
	require.Equal(t, uint64(4*MaxKeys), l.Limits()[0].Counts().Evicted, "all of them were: nothing was lost")
}

func TestTheLeastRecentlyUsedKeyGoes(t *testing.T) {
	t.Parallel()
	r, err := newRate(mesh.RateLimit{Requests: 1, Per: time.Hour})
	require.NoError(t, err)
	b := newBuckets(r)
	var evictions atomic.Uint64
	shardKey := func(i int) uint64 { return uint64(i * numShards) } // all in one shard
	for i := range keysPerShard {
		require.True(t, b.take(shardKey(i), 0, &evictions).ok)
	}
	require.False(t, b.take(shardKey(0), 1, &evictions).ok, "used again")
	require.True(t, b.take(shardKey(keysPerShard), 2, &evictions).ok)
	require.Equal(t, uint64(1), evictions.Load())
	require.False(t, b.take(shardKey(0), 3, &evictions).ok, "not forgotten")
	require.True(t, b.take(shardKey(1), 3, &evictions).ok, "forgotten")
	b.giveBack(shardKey(2)) // that went for it: nothing happens
	require.Equal(t, uint64(2), evictions.Load())
	require.Equal(t, keysPerShard, b.keys())
}

// TestManyAtOnceGetNoMore asks from many goroutines, which is worth the most under the race detector.
func TestManyAtOnceGetNoMore(t *testing.T) {
	t.Parallel()
	l := limiter(t,
		mesh.RateLimit{Name: "keyed", Requests: 100, Per: time.Hour, Header: "x-key"},
		mesh.RateLimit{Name: "all", Requests: 250, Per: time.Hour},
	)
	var passed [4]atomic.Int64
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range 1000 {
				key := i % len(passed)
				if !l.Allow(0, ask("/", "x-key", strconv.Itoa(key)), port, "").Refused {
					passed[key].Add(1)
				}
			}
		})
	}
	wait.Wait()
	sum := int64(0)
	for i := range passed {
		require.LessOrEqual(t, passed[i].Load(), int64(100))
		sum += passed[i].Load()
	}
	require.LessOrEqual(t, sum, int64(250))
	require.Positive(t, sum)
	c := l.Limits()
	require.Equal(t, uint64(8000-sum), c[0].Counts().Refused+c[1].Counts().Refused)
	for i := range passed { // what is left is exactly what was not taken
		more := passes(l, 300, 0, ask("/", "x-key", strconv.Itoa(i)), "")
		sum += int64(more)
	}
	require.Equal(t, int64(250), sum)
}

func head(t testing.TB, lines string) *http1.Head {
	t.Helper()
	var h http1.Head
	_, err := http1.ParseRequest([]byte("GET /write/7 HTTP/1.1\r\nHost: backend\r\nAccept: */*\r\n"+lines+"\r\n"), &h, http1.DefaultLimits())
	require.NoError(t, err)
	return &h
}

func threeLimits(t testing.TB) *Limiter {
	return limiter(t,
		mesh.RateLimit{Name: "all", Requests: 1 << 30, Per: second},
		mesh.RateLimit{Name: "writes by key", Requests: 1 << 30, Per: second, Header: "x-api-key", Matches: []mesh.Match{prefix("/write")}},
		mesh.RateLimit{Name: "by caller", Requests: 1 << 30, Per: second, Caller: true, Header: "x-api-key"},
	)
}

func TestAskingAllocatesNothing(t *testing.T) {
	l, req := threeLimits(t), head(t, "X-Api-Key: 42\r\n")
	twice, none := head(t, "X-Api-Key: 42\r\nX-Api-Key: 43\r\n"), head(t, "")
	now := time.Duration(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		now += time.Microsecond
		for _, r := range []*http1.Head{req, twice, none} {
			if l.Allow(now, r, port, "web").Refused {
				panic("refused")
			}
		}
	}))
	narrow := limiter(t, mesh.RateLimit{Name: "wide", Requests: 1 << 30, Per: second}, mesh.RateLimit{Name: "narrow", Requests: 1, Per: time.Hour, Caller: true})
	require.Zero(t, testing.AllocsPerRun(1000, func() { narrow.Allow(0, req, port, "web") }), "refusing neither")
}

func BenchmarkAllow(b *testing.B) {
	for name, l := range map[string]*Limiter{
		"one":   limiter(b, mesh.RateLimit{Name: "all", Requests: 1 << 30, Per: second}),
		"keyed": limiter(b, mesh.RateLimit{Name: "all", Requests: 1 << 30, Per: second, Header: "x-api-key"}),
		"three": threeLimits(b),
	} {
		b.Run(name, func(b *testing.B) {
			req := head(b, "X-Api-Key: 42\r\n")
			now := time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				now += time.Microsecond
				l.Allow(now, req, port, "web")
			}
		})
	}
	b.Run("new keys", func(b *testing.B) {
		l := limiter(b, mesh.RateLimit{Name: "all", Requests: 1, Per: second, Header: "x-api-key"})
		heads := make([]*http1.Head, 2*MaxKeys)
		for i := range heads {
			heads[i] = head(b, fmt.Sprintf("X-Api-Key: %d\r\n", i))
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			l.Allow(0, heads[i%len(heads)], port, "web")
			i++
		}
	})
}
