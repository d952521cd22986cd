package control

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// BenchmarkChange is one change of an endpoint among 2,000 services and 10,000 sidecars, each of which reaches 20 services: pushed to and acknowledged by the 100 that it
// concerns.
func BenchmarkChange(b *testing.B) {
	const services, sidecars, reach = 2000, 10_000, 20
	c := newCore(1, 0)
	config := mesh.NewSnapshot()
	for i := range services {
		put(config, service(i))
		put(config, endpoints(i, "10.0.0.1", "10.0.0.2"))
	}
	for i := range sidecars {
		var upstreams []int
		for j := range reach {
			upstreams = append(upstreams, (i*reach+j)%services)
		}
		put(config, inbound(i, upstreams...))
	}
	var deliver func(output) int
	deliver = func(out output) (n int) {
		for _, d := range out.updates {
			answered, err := c.answer(0, d.to, &pb.Ack{Kind: d.update.Kind, Nonce: d.update.Nonce})
			require.NoError(b, err)
			n += 1 + deliver(answered)
		}
		return n
	}
	_, _, err := c.apply(0, wire.Change{Whole: true, Set: config})
	require.NoError(b, err)
	for i := range sidecars {
		id, _ := c.connect(&pb.Hello{Instance: instance(i)})
		sub := &pb.Subscribe{}
		for _, kind := range mesh.Kinds() {
			sub.Interests = append(sub.Interests, &pb.Interest{Kind: string(kind), Add: []string{wire.Everything}})
		}
		out, err := c.subscribe(0, id, sub)
		require.NoError(b, err)
		deliver(out)
	}
	require.Zero(b, len(c.lagging))
	b.ReportAllocs()
	pushed := 0
	for i := 0; b.Loop(); i++ {
		_, out, err := c.apply(0, wire.Change{Set: snapshot(endpoints(7, fmt.Sprint(i)))})
		require.NoError(b, err)
		pushed += deliver(out)
	}
	b.ReportMetric(float64(pushed)/float64(b.N), "pushes/op")
}
