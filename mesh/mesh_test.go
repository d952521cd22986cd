package mesh

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/dchest/siphash"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the vectors")

// vector is one published draw; others can check their own implementation of chance with them.
type vector struct {
	Seed    string  `json:"seed"` // decimal
	Purpose Purpose `json:"purpose"`
	ID      string  `json:"id"`
	Edge    string  `json:"edge"`
	Key     string  `json:"key"`
	Attempt uint32  `json:"attempt"`
	Draw    string  `json:"draw"` // decimal
}

// The published vectors never change: a seed means the same in every release.
func TestChanceVectors(t *testing.T) {
	t.Parallel()
	const file = "../fixtures/vectors/chance.json"
	inputs := []struct {
		seed          uint64
		purpose       Purpose
		id, edge, key string
		attempt       uint32
	}{
		{0, PurposeSplit, "", "", "", 0},
		{42, PurposeSplit, "middleware:8080/primary", "frontend->middleware", "users-1", 0},
		{42, PurposeSplit, "middleware:8080/primary", "frontend->middleware", "users-2", 0},
		{42, PurposeFault, "unavailable:abort", "frontend->middleware", "users-1", 0},
		{42, PurposeFault, "unavailable:abort", "frontend->middleware", "users-1", 2},
		{math.MaxUint64, PurposeSample, "ä", "a->b", "k", math.MaxUint32},
	}
	var vectors []vector
	for _, in := range inputs {
		d := Chance(in.seed, in.purpose, in.id, in.edge, in.key, in.attempt)
		vectors = append(vectors, vector{fmt.Sprint(in.seed), in.purpose, in.id, in.edge, in.key, in.attempt, fmt.Sprint(uint64(d))})
	}
	if *update {
		data, err := json.MarshalIndent(vectors, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(data, '\n'), 0o644))
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var published []vector
	require.NoError(t, json.Unmarshal(data, &published))
	require.Equal(t, published, vectors)
}

// Another implementation of SipHash-2-4 is the oracle, for messages of every length around the block size.
func TestSipHashAgreesWithAnother(t *testing.T) {
	t.Parallel()
	var message []byte
	for i := range 300 {
		require.Equal(t, siphash.Hash(uint64(i), ^uint64(i), message), sipHash24(uint64(i), ^uint64(i), message), "%d bytes", len(message))
		message = append(message, byte(i*7))
	}
}

// The fields of a draw cannot run into each other.
func TestChanceFieldsAreSeparate(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, Chance(1, PurposeSplit, "ab", "c", "d", 0), Chance(1, PurposeSplit, "a", "bc", "d", 0))
	require.NotEqual(t, Chance(1, PurposeSplit, "a", "b", "c", 0), Chance(1, PurposeFault, "a", "b", "c", 0))
	require.NotEqual(t, Chance(1, PurposeSplit, "a", "b", "c", 0), Chance(1, PurposeSplit, "a", "b", "c", 1))
}

func TestBelowIsAShareAndGrowsWithIt(t *testing.T) {
	t.Parallel()
	const n = 100_000
	for _, share := range []float64{0, .01, .5, .99, 1} {
		hits := 0
		for i := range n {
			if Chance(7, PurposeFault, "f", "a->b", fmt.Sprint(i), 0).Below(share) {
				hits++
			}
		}
		require.InDelta(t, share, float64(hits)/n, 4*math.Sqrt(share*(1-share)/n)+1e-9)
	}
	require.False(t, Draw(0).Below(0))
	require.False(t, Draw(0).Below(math.NaN()))
	require.True(t, Draw(math.MaxUint64).Below(1))
}

// With two arms a growing weight only ever adds requests to the second one: nobody in a canary at 5 % leaves it at 25 %.
func TestPickIsProportionalAndMonotone(t *testing.T) {
	t.Parallel()
	const n = 20_000
	var before [n]bool
	for _, weight := range []uint32{0, 5, 25, 50, 100} {
		in := 0
		for i := range n {
			canary := Chance(3, PurposeSplit, "id", "a->b", fmt.Sprint(i), 0).Pick([]uint32{100 - weight, weight}) == 1
			require.False(t, before[i] && !canary, "request %d left the canary at %d %%", i, weight)
			before[i] = canary
			if canary {
				in++
			}
		}
		p := float64(weight) / 100
		require.InDelta(t, p, float64(in)/n, 4*math.Sqrt(p*(1-p)/n)+1e-9)
	}
	require.Equal(t, -1, Draw(1).Pick([]uint32{0, 0}))
	require.Equal(t, 1, Draw(math.MaxUint64).Pick([]uint32{1, 1}))
	require.Equal(t, 0, Draw(0).Pick([]uint32{1, 1}))
}

func TestNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a.shop.svc.cluster.local", Resolve("A", "shop"))
	require.Equal(t, "a.b.svc.cluster.local", Resolve("a.b.svc", "shop"))
	require.Equal(t, "example.com", Resolve("example.com", "shop"))
	require.Equal(t, []string{"a.shop.svc.cluster.local", "a.shop.svc", "a.shop", "a"}, Aliases(FQDN("a", "shop"), "shop"))
	require.Equal(t, []string{"a.shop.svc.cluster.local", "a.shop.svc", "a.shop"}, Aliases(FQDN("a", "shop"), "other"))
	require.Equal(t, []string{"example.com"}, Aliases("example.com", "shop"))
	require.Equal(t, []string{"a.shop.svc.cluster.local"}, Meanings("a", "shop"))
	require.Equal(t, []string{"a.other", "a.other.svc.cluster.local"}, Meanings("A.other", "shop"))
	require.Equal(t, "a", LogicalName(FQDN("a", DefaultNamespace)))
	require.Equal(t, "a.shop", LogicalName(FQDN("a", "shop")))
	require.Equal(t, "example.com", LogicalName("example.com"))
	for key, stream := range map[string]string{"users-1": "users", "my-users-12": "my-users", "users-": "", "-1": "", "users-1x": "", "7f3a-b": "", "": ""} {
		require.Equal(t, stream, Stream(key), key)
	}
}

func TestLeasesAreOrdered(t *testing.T) {
	t.Parallel()
	require.True(t, Lease{Epoch: 1, Counter: 2}.Newer(Lease{Epoch: 1, Counter: 1}))
	require.False(t, Lease{Epoch: 1, Counter: 1}.Newer(Lease{Epoch: 1, Counter: 1}))
	require.True(t, Lease{Epoch: 2, Counter: 1}.Newer(Lease{Epoch: 1, Counter: 9}))
}

func TestSnapshotValidateFindsEveryMistake(t *testing.T) {
	t.Parallel()
	s := NewSnapshot()
	host := FQDN("a", "default")
	s.Services[host] = &Service{Host: host, Ports: []Port{{Number: 80}}, Subsets: []Subset{{Name: "v1"}}}
	s.Endpoints[HostPort(host, 80)] = &Endpoints{Host: host, Port: 80}
	s.Endpoints["ghost:1"] = &Endpoints{Host: "ghost", Port: 1}
	s.Routes[HostPort(host, 80)] = &RouteTable{Host: host, Port: 80, Routes: []Route{
		{Name: "good", Split: []Destination{{Host: host, Port: 80, Subset: "v1", Weight: 1}}},
		{Name: "subset", Split: []Destination{{Host: host, Port: 80, Subset: "v9", Weight: 1}}},
		{Name: "port", Split: []Destination{{Host: host, Port: 81, Weight: 1}}},
		{Name: "nobody", Split: []Destination{{Host: "nobody", Port: 80, Weight: 1}}},
		{Name: "weights", Split: []Destination{{Host: host, Port: 80}}},
		{Name: "two actions", Split: []Destination{{Host: host, Port: 80, Weight: 1}}, Direct: &DirectResponse{Status: 200}},
		{Name: "no action"},
	}}
	s.Inbound["x"] = &Inbound{Outbound: []OutboundPort{{Host: "nobody", Port: 80}}}
	require.Len(t, s.Validate(), 8)
	require.Empty(t, NewSnapshot().Validate())
}

func TestUpdatesApplyWithoutChangingTheSnapshot(t *testing.T) {
	t.Parallel()
	before := NewSnapshot()
	before.Services["a"] = &Service{Host: "a"}
	set := NewSnapshot()
	set.Services["b"] = &Service{Host: "b"}
	after := before.Apply(Update{Kind: KindService, Set: set, Removed: []string{"a"}})
	require.Contains(t, before.Services, "a")
	require.NotContains(t, before.Services, "b")
	require.Contains(t, after.Services, "b")
	require.NotContains(t, after.Services, "a")
}

func TestGenerationsCompare(t *testing.T) {
	t.Parallel()
	require.Negative(t, Generation{1, 9}.Compare(Generation{2, 1}))
	require.Positive(t, Generation{2, 2}.Compare(Generation{2, 1}))
	require.Zero(t, Generation{2, 2}.Compare(Generation{2, 2}))
}

func BenchmarkChance(b *testing.B) {
	key := binary.LittleEndian.AppendUint64([]byte("users-"), 12345)
	text := string(key)
	b.ReportAllocs()
	for b.Loop() {
		Chance(42, PurposeSplit, "middleware:8080/primary", "frontend->middleware", text, 0)
	}
}
