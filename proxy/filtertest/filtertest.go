// Package filtertest holds the contract of the proxy's filters as a suite of tests, for whoever writes one.
package filtertest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
	"meshtest.dev/meshtest/proxy/http1"
)

// Request describes the exchange that a filter is asked about. The zero value of a field means what [Request.exchange] puts there.
type Request struct {
	Key     string // default: users-N, N counting
	Edge    mesh.Edge
	Version string   // default: v1
	Path    string   // default: /
	Headers []string // lines, "name: value"
}

// New makes a filter for one test. It has to be in force already: a filter of faults with a fault, for example.
type New func(t testing.TB) proxy.Filter

// Run runs the contract against filters that new makes. The requests are some that the filter lets pass and some that it acts on, if it acts on any; none of its delays may be
// longer than a minute. It counts allocations, so the calling test must not be parallel.
func Run(t *testing.T, fresh New, requests ...Request) {
	t.Helper()
	require.NotEmpty(t, requests)
	t.Run("has a name", func(t *testing.T) {
		f := fresh(t)
		require.Regexp(t, `^[a-z][a-z0-9_]*$`, f.Name())
		require.Equal(t, f.Name(), f.Name())
	})
	t.Run("decides soundly", func(t *testing.T) { decidesSoundly(t, fresh(t), requests) })
	t.Run("does not block", func(t *testing.T) { doesNotBlock(t, fresh(t), requests) })
	t.Run("keeps nothing", func(t *testing.T) { keepsNothing(t, fresh(t), fresh(t), requests) })
	t.Run("is safe for concurrent use", func(t *testing.T) { isConcurrent(t, fresh(t), requests) })
	t.Run("passes without allocating", func(t *testing.T) { passesFreely(t, fresh(t), requests) })
}

// asked is an exchange in memory of its own, which can be overwritten as a connection's is.
type asked struct {
	memory []byte
	key    []byte
	head   http1.Head
	x      proxy.Exchange
}

func newAsked(t require.TestingT, r Request, n int) *asked {
	if r.Key == "" {
		r.Key = fmt.Sprintf("users-%d", n)
	}
	if r.Path == "" {
		r.Path = "/"
	}
	if r.Version == "" {
		r.Version = "v1"
	}
	lines := append([]string{"GET " + r.Path + " HTTP/1.1", "Host: " + r.Edge.To, "x-request-id: " + r.Key}, r.Headers...)
	a := &asked{memory: []byte(strings.Join(lines, "\r\n") + "\r\n\r\n"), key: []byte(r.Key)}
	_, err := http1.ParseRequest(a.memory, &a.head, http1.DefaultLimits())
	require.NoError(t, err)
	a.x = proxy.Exchange{
		Key: unsafe.String(unsafe.SliceData(a.key), len(a.key)), Seed: 1, Edge: r.Edge, Route: "route", Host: mesh.FQDN(r.Edge.To, mesh.DefaultNamespace), Port: 80,
		Version: r.Version, Caller: &mesh.Workload{Name: r.Edge.From + "-v1", Service: r.Edge.From, Instance: r.Edge.From + "-v1-0"}, Request: &a.head,
	}
	return a
}

// ask asks at a point, as the core would.
func (a *asked) ask(f proxy.Filter, at proxy.Point) proxy.Verdict {
	a.x.Attempt = 0
	if at == proxy.AtAttempt {
		a.x.Attempt = 1
	}
	return f.Decide(at, &a.x)
}

// overwrite does to the memory what the connection's next request does.
func (a *asked) overwrite() {
	for _, b := range [][]byte{a.memory, a.key} {
		for i := range b {
			b[i] = 'X'
		}
	}
	a.x = proxy.Exchange{}
}

var points = []proxy.Point{proxy.AtRequest, proxy.AtAttempt}

// finish is what the core owes to a verdict.
func finish(v proxy.Verdict) {
	if v.Effect != nil {
		v.Effect.Done(proxy.Carried{Delayed: v.Delay, Answered: v.Status != 0})
	}
}

func decidesSoundly(t require.TestingT, f proxy.Filter, requests []Request) {
	for n := range 200 {
		for _, r := range requests {
			for _, at := range points {
				v := newAsked(t, r, n).ask(f, at)
				require.GreaterOrEqual(t, v.Delay, time.Duration(0))
				require.LessOrEqual(t, v.Delay, time.Minute)
				if v.Status != 0 {
					require.GreaterOrEqual(t, v.Status, 200)
					require.LessOrEqual(t, v.Status, 599)
					require.Regexp(t, `^[a-z][a-z0-9_]*$`, v.Reason, "an answer says why")
				}
				finish(v)
			}
		}
	}
}

// patience is how long a hundred decisions may take.
const patience = 5 * time.Second

// doesNotBlock has many verdicts in force at once: none of them may hold up the next.
func doesNotBlock(t require.TestingT, f proxy.Filter, requests []Request) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		var open []proxy.Verdict
		for n := range 100 {
			for _, r := range requests {
				open = append(open, newAsked(t, r, n).ask(f, proxy.AtRequest))
			}
		}
		for _, v := range open {
			finish(v)
		}
	}()
	select {
	case <-over:
	case <-time.After(patience):
		require.FailNow(t, "a decision waits for something")
	}
}

// keepsNothing compares a filter whose exchanges are overwritten after each call with one whose exchanges stay: they must decide alike.
func keepsNothing(t require.TestingT, clean, dirty proxy.Filter, requests []Request) {
	for n := range 200 {
		for _, r := range requests {
			for _, at := range points {
				want := newAsked(t, r, n).ask(clean, at)
				a := newAsked(t, r, n)
				got := a.ask(dirty, at)
				a.overwrite()
				require.Equal(t, want.Delay, got.Delay)
				require.Equal(t, want.Status, got.Status)
				require.Equal(t, want.Reason, got.Reason)
				require.Equal(t, want.Flags, got.Flags)
				finish(want)
				finish(got)
			}
		}
	}
}

func isConcurrent(t require.TestingT, f proxy.Filter, requests []Request) {
	var all sync.WaitGroup
	for w := range 8 {
		var mine []*asked
		for _, r := range requests {
			for n := range 10 {
				mine = append(mine, newAsked(t, r, w*1000+n))
			}
		}
		all.Go(func() {
			for range 50 {
				for _, a := range mine {
					for _, at := range points {
						v := a.ask(f, at)
						runtime.Gosched()
						finish(v)
					}
				}
			}
		})
	}
	all.Wait()
}

func passesFreely(t require.TestingT, f proxy.Filter, requests []Request) {
	var passing []*asked
	for _, r := range requests {
		a := newAsked(t, r, 1)
		acts := slices.ContainsFunc(points, func(at proxy.Point) bool {
			v := a.ask(f, at)
			defer finish(v)
			return !v.IsZero()
		})
		if !acts {
			passing = append(passing, a)
		}
	}
	allocated := testing.AllocsPerRun(100, func() {
		for _, a := range passing {
			for _, at := range points {
				a.ask(f, at)
			}
		}
	})
	require.Zero(t, allocated)
}
