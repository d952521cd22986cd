package proxy

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

func TestApplyKindByKind(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, answering(200, "ok"))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
	at := r.outbound(host, mesh.HTTP)
	r.routes(host, split(host, "v1"))
	require.False(t, r.srv.Ready())
	apply := func(n uint64, kind mesh.Kind, set *mesh.Snapshot, removed ...string) {
		g := mesh.Generation{Epoch: 2, Counter: n}
		require.NoError(t, r.srv.Apply(mesh.Update{Generation: g, Kind: kind, Set: set, Removed: removed}))
		require.Equal(t, g, r.srv.Generation())
	}
	apply(1, mesh.KindService, &mesh.Snapshot{Services: r.snapshot.Services})
	apply(2, mesh.KindEndpoints, &mesh.Snapshot{Endpoints: r.snapshot.Endpoints})
	apply(3, mesh.KindRouteTable, &mesh.Snapshot{Routes: r.snapshot.Routes})
	require.False(t, r.srv.Ready())
	apply(4, mesh.KindInbound, &mesh.Snapshot{Inbound: map[string]*mesh.Inbound{instance: r.inbound}})
	require.True(t, r.srv.Ready())
	resp, _ := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)

	apply(5, mesh.KindRouteTable, nil, mesh.HostPort(host, 80))
	apply(6, mesh.KindEndpoints, nil, mesh.HostPort(host, 80))
	resp, _ = call(t, at).get("/")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, ReasonNoDestination, resp.Header.Get(mesh.HeaderReason))
	require.Empty(t, r.srv.pools.Stats(), "connections to endpoints that have gone are closed")

	apply(7, mesh.KindInbound, nil, instance)
	_, err := net.Dial("tcp", at)
	require.Error(t, err)
}

func TestRefusedUpdatesChangeNothing(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, "ok"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	bad, other := "[", testport.Loopback(t)
	for name, spoil := range map[string]func(*rig){
		"a regular expression": func(r *rig) {
			route := split(host, "v1")
			route.Matches = []mesh.Match{{Path: &mesh.StringMatch{Regex: &bad}}}
			r.routes(host, route)
		},
		"a header that frames": func(r *rig) {
			route := split(host, "v1")
			route.Request.Set = map[string]string{"content-length": "5"}
			r.routes(host, route)
		},
		"a rewrite": func(r *rig) {
			route := split(host, "v1")
			route.Rewrite = &mesh.Rewrite{Path: "no slash"}
			r.routes(host, route)
		},
		"a balancer": func(r *rig) {
			svc := *r.snapshot.Services[host]
			svc.Traffic.Balancer = "PASSTHROUGH"
			r.snapshot.Services[host] = &svc
		},
		"an address that is taken": func(r *rig) {
			r.inbound.Outbound = append(r.inbound.Outbound,
				mesh.OutboundPort{Bind: other, Host: host, Port: 80}, mesh.OutboundPort{Bind: taken.Addr().String(), Host: host, Port: 80})
		},
		"an address twice": func(r *rig) {
			r.inbound.Listen = append(r.inbound.Listen, mesh.InboundPort{Bind: at, App: "127.0.0.1:1"})
		},
		"a protocol": func(r *rig) {
			r.inbound.Outbound = append(r.inbound.Outbound, mesh.OutboundPort{Bind: testport.Loopback(r.t), Host: host, Port: 80, Protocol: "udp"})
		},
		"an application": func(r *rig) {
			r.inbound.Listen = append(r.inbound.Listen, mesh.InboundPort{Bind: testport.Loopback(r.t), App: "nowhere"})
		},
	} {
		snapshot, inbound := r.snapshot.Clone(), *r.inbound
		spoil(r)
		require.Error(t, r.tryApply(), name)
		r.snapshot, r.inbound = snapshot, &inbound
		require.Equal(t, mesh.Generation{Epoch: 1, Counter: 1}, r.srv.Generation(), name)
		resp, _ := call(t, at).get("/")
		require.Equal(t, 200, resp.StatusCode, name)
		_, err := net.Dial("tcp", other)
		require.Error(t, err, "%s: nothing is bound of an update that is refused", name)
	}
}

func TestListenersComeAndGo(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, "ok"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	kept := call(t, at)
	resp, _ := kept.get("/")
	require.Equal(t, 200, resp.StatusCode)
	first := r.inbound.Outbound
	r.inbound.Outbound = nil
	second := r.outbound(host, mesh.HTTP)
	r.apply()
	resp, _ = call(t, second).get("/")
	require.Equal(t, 200, resp.StatusCode)
	_, err := net.Dial("tcp", at)
	require.Error(t, err)
	resp, _ = kept.get("/")
	require.Equal(t, 200, resp.StatusCode, "a connection outlives its listener by one request")
	require.True(t, resp.Close)

	r.inbound.Outbound = append(r.inbound.Outbound, first...)
	r.apply()
	resp, _ = call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
}

func TestConnectionsSurviveChangesOfRoutes(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, "ok"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	c := call(t, at)
	for i := range 10 {
		route := split(host, "v1")
		route.Name = fmt.Sprint(i)
		r.routes(host, route)
		r.apply()
		resp, _ := c.get("/")
		require.Equal(t, 200, resp.StatusCode)
	}
	require.Equal(t, 1, o.connections())
	cells, _, _ := r.evidenceOf(10)
	require.Len(t, cells, 10, "each under its route and generation")
}

// load calls an address over kept connections until it is stopped, and counts.
type load struct {
	asked, failed atomic.Int64
	stop          atomic.Bool
	all           sync.WaitGroup
	first         atomic.Pointer[string] // failure
}

func newLoad(t *testing.T, at string, connections int) *load {
	l := &load{}
	for w := range connections {
		l.all.Go(func() {
			var c *caller
			for i := 0; !l.stop.Load(); i++ {
				if c == nil {
					c = call(t, at)
				}
				resp, body := c.get("/", fmt.Sprintf("x-request-id: w%d-%d", w, i))
				l.asked.Add(1)
				if resp.StatusCode != 200 {
					l.failed.Add(1)
					what := fmt.Sprint(resp.StatusCode, " ", body)
					l.first.CompareAndSwap(nil, &what)
				}
				if resp.Close {
					c.Close()
					c = nil
				}
			}
		})
	}
	return l
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	l.all.Wait()
	if what := l.first.Load(); what != nil {
		t.Fatalf("%d of %d failed, first with %s", l.failed.Load(), l.asked.Load(), *what)
	}
}

func TestLiveChangesOfRoutesFailNothing(t *testing.T) {
	t.Parallel()
	v1, v2 := newOrigin(t, answering(200, "v1")), newOrigin(t, answering(200, "v2"))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {v1.address}, "v2": {v2.address}})
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	l := newLoad(t, at, 4)
	for i := range 200 {
		before := l.asked.Load()
		switch i % 4 {
		case 0:
			r.routes(host, mesh.Route{Name: "split", Split: []mesh.Destination{
				{Host: host, Subset: "v1", Port: 80, Weight: uint32(100 - i%100)}, {Host: host, Subset: "v2", Port: 80, Weight: uint32(i % 100)},
			}})
		case 1:
			r.routes(host, split(host, "v2"))
		case 2: // an endpoint goes, with its pool
			eps := *r.snapshot.Endpoints[mesh.HostPort(host, 80)]
			eps.Endpoints = eps.Endpoints[:1]
			r.routes(host, split(host, ""))
			r.snapshot.Endpoints[mesh.HostPort(host, 80)] = &eps
		default:
			r.service("backend", mesh.HTTP, map[string][]string{"v1": {v1.address}, "v2": {v2.address}})
		}
		r.apply()
		require.Eventually(t, func() bool { return l.asked.Load() > before }, patience, 50*time.Microsecond)
	}
	l.end(t)
}

func TestDrainFailsNothing(t *testing.T) {
	t.Parallel()
	slow := make(chan struct{})
	var inFlight sync.WaitGroup
	inFlight.Add(3)
	r, _, at := simple(t, func(k *talk) {
		for {
			req, _ := k.request()
			if req == nil {
				return
			}
			if req.URL.Path == "/slow" {
				inFlight.Done()
				<-slow
			}
			k.say(answer(200, "ok"))
		}
	}, nil)
	r.srv.idleGrace = patience // for the request that comes just after the end began
	idle := call(t, at)
	resp, _ := idle.get("/")
	require.False(t, resp.Close)
	var callers []*caller
	for range 3 {
		c := call(t, at)
		c.say("GET /slow HTTP/1.1\r\nHost: b\r\n\r\n")
		callers = append(callers, c)
	}
	inFlight.Wait()
	r.stop()
	require.Eventually(t, r.srv.draining.Load, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		return err != nil
	}, patience, time.Millisecond)
	resp, _ = idle.get("/")
	require.Equal(t, 200, resp.StatusCode, "a request that comes just after the end began")
	require.True(t, resp.Close)
	close(slow)
	for _, c := range callers {
		resp, body := c.reply("GET")
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "ok", body)
		require.True(t, resp.Close)
		require.Empty(t, c.ends())
	}
	<-r.done
	require.ErrorContains(t, r.tryApply(), "stopping")
	require.False(t, r.srv.Ready())
}

func TestDrainEnds(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"waiting":   "GET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"uploading": "POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000\r\n\r\nx",
		"reading":   "GET / HTTP/1.1\r\n",
		"silent":    "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			came := make(chan struct{}, 1)
			r, _, at := simple(t, func(k *talk) {
				_ = k.head()
				came <- struct{}{}
				_ = k.head()
			}, func(o *Options) { o.Timeouts.Drain = 30 * time.Millisecond })
			c := call(t, at)
			c.say(request)
			if name == "waiting" || name == "uploading" {
				<-came
			}
			require.Eventually(t, func() bool { return r.srv.connections() == 1 }, patience, time.Millisecond)
			r.stop()
			<-r.done
		})
	}
}
