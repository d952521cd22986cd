package filtertest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
)

var requests = []Request{
	{Edge: mesh.Edge{From: "a", To: "b"}},
	{Edge: mesh.Edge{From: "a", To: "c"}, Path: "/x", Headers: []string{"y: z"}},
}

// everyThird is a filter that keeps the contract.
type everyThird struct{ n, active atomic.Int64 }

func (f *everyThird) Name() string { return "every_third" }

func (f *everyThird) Decide(at proxy.Point, x *proxy.Exchange) proxy.Verdict {
	if at != proxy.AtRequest || x.Edge.To != "b" || f.n.Add(1)%3 != 0 {
		return proxy.Verdict{}
	}
	f.active.Add(1)
	return proxy.Verdict{Delay: time.Millisecond, Status: 503, Reason: "third", Effect: f}
}

func (f *everyThird) Done(proxy.Carried) { f.active.Add(-1) }

func TestContractHolds(t *testing.T) {
	Run(t, func(testing.TB) proxy.Filter { return &everyThird{} }, requests...)
}

// broken is a filter made of one function.
type broken func(at proxy.Point, x *proxy.Exchange) proxy.Verdict

func (broken) Name() string { return "broken" }

func (f broken) Decide(at proxy.Point, x *proxy.Exchange) proxy.Verdict { return f(at, x) }

// observer is a require.TestingT that notes whether a check failed.
type observer struct{ failed bool }

func (o *observer) Errorf(string, ...any) { o.failed = true }

type stop struct{}

func (o *observer) FailNow() { panic(stop{}) }

func fails(check func(require.TestingT)) (failed bool) {
	o := &observer{}
	defer func() {
		if p := recover(); p != nil && p != (stop{}) {
			panic(p)
		}
		failed = o.failed
	}()
	check(o)
	return o.failed
}

func TestBreachesAreFound(t *testing.T) {
	pass := proxy.Verdict{}
	require.True(t, fails(func(t require.TestingT) {
		decidesSoundly(t, broken(func(proxy.Point, *proxy.Exchange) proxy.Verdict { return proxy.Verdict{Status: 99, Reason: "x"} }), requests)
	}), "a status that is none")
	require.True(t, fails(func(t require.TestingT) {
		decidesSoundly(t, broken(func(proxy.Point, *proxy.Exchange) proxy.Verdict { return proxy.Verdict{Status: 503} }), requests)
	}), "an answer without a reason")

	retaining := func() proxy.Filter {
		var last string
		return broken(func(_ proxy.Point, x *proxy.Exchange) proxy.Verdict {
			v := proxy.Verdict{}
			if last != "" && last[0] == 'X' {
				v = proxy.Verdict{Status: 503, Reason: "repeated"}
			}
			last = x.Key
			return v
		})
	}
	require.True(t, fails(func(t require.TestingT) { keepsNothing(t, retaining(), retaining(), requests) }), "a key that is kept")

	var sink []byte
	require.True(t, fails(func(t require.TestingT) {
		passesFreely(t, broken(func(_ proxy.Point, x *proxy.Exchange) proxy.Verdict {
			sink = fmt.Appendf(nil, "%s", x.Key)
			return pass
		}), requests)
	}), "an allocation for a request that passes")
	require.NotEmpty(t, sink)
}
