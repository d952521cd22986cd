package upstream

import (
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// at makes an endpoint of an address.
func at(t testing.TB, address string) mesh.Endpoint {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return mesh.Endpoint{Address: host, Port: n}
}

// connecting makes a group whose endpoints have the addresses.
func connecting(t testing.TB, ps *Pools, d Destination, addresses ...string) *Group {
	t.Helper()
	if d.Name == "" {
		d.Name, d.Host = "backend.default.svc.cluster.local:80", "backend.default.svc.cluster.local"
	}
	for _, a := range addresses {
		d.Endpoints = append(d.Endpoints, at(t, a))
	}
	g, err := ps.NewGroup(d)
	require.NoError(t, err)
	return g
}

// limited is a destination with limits.
func limited(l mesh.ConnectionPool) Destination {
	return Destination{Policy: mesh.TrafficPolicy{Pool: l}}
}

// connect gets a connection to a group's first endpoint.
func connect(t testing.TB, g *Group) *Conn {
	t.Helper()
	c, err := g.Connect(t.Context(), g.Endpoints[0], Want{})
	require.NoError(t, err)
	return c
}

// fresh makes one.
func fresh(t testing.TB, g *Group) *Conn {
	t.Helper()
	c, err := g.Connect(t.Context(), g.Endpoints[0], Want{Fresh: true})
	require.NoError(t, err)
	return c
}

// take takes a connection to a group's first endpoint that is there.
func take(t testing.TB, g *Group, w Want) *Conn {
	t.Helper()
	c, err := g.Take(g.Endpoints[0], w)
	require.NoError(t, err)
	return c
}

func TestPoolKeepsTheConnectionUsedLast(t *testing.T) {
	t.Parallel()
	address, _ := listening(t)
	g := connecting(t, newPools(t, Options{}), Destination{}, address)
	require.Nil(t, take(t, g, Want{}))
	first, second := connect(t, g), connect(t, g)
	require.False(t, first.Reused)
	first.Put()
	second.Put()
	require.Same(t, second, take(t, g, Want{}))
	require.True(t, second.Reused)
	require.Same(t, first, take(t, g, Want{}))
	first.Put()
	third := fresh(t, g)
	require.NotSame(t, first, third)
	require.False(t, third.Reused)
	require.Same(t, first, connect(t, g))
	for _, c := range []*Conn{first, second, third} {
		c.Discard()
	}
	require.Equal(t, Stats{Address: address, Destination: "backend.default.svc.cluster.local:80", Protocol: "http/1.1", Connects: 3}, g.Endpoints[0].Pool.stats())
}

func TestPoolDropsWhatDied(t *testing.T) {
	t.Parallel()
	address, hangUp := listening(t)
	g := connecting(t, newPools(t, Options{}), Destination{}, address)
	var all []*Conn
	for range 3 {
		all = append(all, connect(t, g))
	}
	for _, c := range all {
		c.Put()
	}
	require.Eventually(t, func() bool { hangUp(); return all[0].Look() != 0 && all[1].Look() != 0 && all[2].Look() != 0 }, 30*time.Second, time.Millisecond)
	require.Nil(t, take(t, g, Want{}))
	require.Zero(t, g.Endpoints[0].Pool.stats().Connections)
}

func TestPoolReapsWhatIsUnused(t *testing.T) {
	t.Parallel()
	address, _ := listening(t)
	for name, o := range map[string]struct {
		Options
		mesh.ConnectionPool
	}{
		"the sidecar's timeout":     {Options{MaxIdle: 2, IdleTimeout: 20 * time.Millisecond}, mesh.ConnectionPool{}},
		"the destination's timeout": {Options{MaxIdle: 2, IdleTimeout: time.Hour}, mesh.ConnectionPool{IdleTimeout: 20 * time.Millisecond}},
		"its duration":              {Options{MaxIdle: 2, IdleTimeout: time.Hour}, mesh.ConnectionPool{MaxDuration: 20 * time.Millisecond, IdleTimeout: 10 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := connecting(t, newPools(t, o.Options), limited(o.ConnectionPool), address)
			all := []*Conn{connect(t, g), connect(t, g), connect(t, g)}
			for _, c := range all {
				c.Put()
			}
			pool := g.Endpoints[0].Pool
			require.LessOrEqual(t, pool.stats().Idle, 2)
			require.Eventually(t, func() bool { return pool.stats().Connections == 0 }, 30*time.Second, time.Millisecond)
		})
	}
}

func TestConnectionsWearOut(t *testing.T) {
	t.Parallel()
	address, _ := listening(t)
	now := time.Duration(0)
	ps := newPools(t, Options{Now: func() time.Duration { return now }})
	g := connecting(t, ps, limited(mesh.ConnectionPool{MaxRequestsPerConnection: 2, MaxDuration: time.Minute}), address)
	c := connect(t, g)
	require.Equal(t, time.Minute, c.Ends())
	c.Put()
	require.Same(t, c, connect(t, g))
	c.Put()
	require.Nil(t, take(t, g, Want{}), "it carried two requests")

	c = connect(t, g)
	now += time.Minute
	c.Put()
	require.Nil(t, take(t, g, Want{}), "it is a minute old")
	require.Zero(t, ps.Stats()[0].Connections)
}

func TestPoolsRetire(t *testing.T) {
	t.Parallel()
	address, _ := listening(t)
	other, _ := listening(t)
	ps := newPools(t, Options{})
	g := connecting(t, ps, Destination{}, address, other)
	again := connecting(t, ps, Destination{}, address)
	p, kept := g.Endpoints[0].Pool, g.Endpoints[1].Pool
	require.Same(t, p, again.Endpoints[0].Pool, "connections outlive a configuration")
	idle, busy := connect(t, g), connect(t, g)
	idle.Put()
	ps.Retain(map[*Pool]bool{kept: true})
	require.EqualValues(t, 1, p.stats().Connections, "one is in use")
	busy.Put()
	require.Zero(t, p.stats().Connections)
	later := connecting(t, ps, Destination{}, address, other)
	require.NotSame(t, p, later.Endpoints[0].Pool)
	require.Same(t, kept, later.Endpoints[1].Pool)
}

func TestPoolsAreApart(t *testing.T) {
	t.Parallel()
	ps := newPools(t, Options{})
	pool := func(d Destination) *Pool { return connecting(t, ps, d, "127.0.0.1:1").Endpoints[0].Pool }
	name := Destination{Name: "a:80", Host: "a"}
	with := func(change func(*Destination)) Destination {
		d := name
		change(&d)
		return d
	}
	plain := pool(name)
	require.Same(t, plain, pool(with(func(d *Destination) { d.Labels = mesh.Labels{} })))
	require.Same(t, plain, pool(with(func(d *Destination) { d.Policy.Pool.MaxConnections = 5 })), "limits change, connections stay")
	require.Same(t, plain, pool(with(func(d *Destination) { d.Protocol = mesh.HTTP })))
	seen := map[*Pool]bool{plain: true}
	for what, d := range map[string]Destination{
		"the name":     with(func(d *Destination) { d.Name = "b:80" }),
		"the subset":   with(func(d *Destination) { d.Subset = "v1" }),
		"the protocol": with(func(d *Destination) { d.Protocol = mesh.GRPC }),
		"TLS":          with(func(d *Destination) { d.Policy.TLS = &mesh.ClientTLS{Mode: mesh.SimpleTLS} }),
		"other TLS":    with(func(d *Destination) { d.Policy.TLS = &mesh.ClientTLS{Mode: mesh.SimpleTLS, SNI: "x"} }),
	} {
		p := pool(d)
		require.False(t, seen[p], what)
		seen[p] = true
		require.Same(t, p, pool(d), what)
	}
}

func TestDialFailures(t *testing.T) {
	t.Parallel()
	ps := newPools(t, Options{Dial: func(ctx context.Context, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	g := connecting(t, ps, Destination{Policy: mesh.TrafficPolicy{ConnectTimeout: time.Millisecond}}, "127.0.0.1:1")
	_, err := g.Connect(t.Context(), g.Endpoints[0], Want{})
	require.True(t, IsTimeout(err))
	require.EqualValues(t, 1, ps.Stats()[0].ConnectFailures)
	require.False(t, IsTimeout(errors.New("refused")))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = g.Connect(ctx, g.Endpoints[0], Want{})
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 1, ps.Stats()[0].ConnectFailures, "it was not the endpoint's fault")
	require.Zero(t, ps.Stats()[0].Connections)
}

func BenchmarkTakeAndPut(b *testing.B) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	for name, l := range map[string]mesh.ConnectionPool{
		"free":    {},
		"limited": {MaxConnections: 10, MaxPending: 10, MaxRequests: 10, MaxRetries: 10, MaxRequestsPerConnection: 1 << 40},
	} {
		b.Run(name, func(b *testing.B) {
			ps := NewPools(Options{Dial: func(context.Context, string) (net.Conn, error) { return near, nil }})
			g := connecting(b, ps, limited(l), "127.0.0.1:1")
			connect(b, g).Put()
			b.ReportAllocs()
			for b.Loop() {
				c, err := g.Take(g.Endpoints[0], Want{})
				if err != nil {
					b.Fatal(err)
				}
				c.Put()
			}
		})
	}
}

func TestTakingAllocatesNothing(t *testing.T) {
	address, _ := listening(t)
	g := connecting(t, newPools(t, Options{}), limited(mesh.ConnectionPool{MaxConnections: 1, MaxRequests: 1}), address)
	connect(t, g).Put()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		c, err := g.Take(g.Endpoints[0], Want{Authority: []byte("backend:80")})
		if err != nil {
			t.Fatal(err)
		}
		c.Put()
	}))
}
