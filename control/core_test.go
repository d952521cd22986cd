package control

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// transcript drives a core by hand and notes what it does in words.
type transcript struct {
	t     *testing.T
	core  *core
	now   time.Duration
	sent  map[stream][]*pb.Update
	lines []string
}

func newTranscript(t *testing.T) *transcript {
	return &transcript{t: t, core: newCore(1, time.Second), sent: map[stream][]*pb.Update{}}
}

func (tr *transcript) note(out output) {
	for _, d := range out.updates {
		tr.sent[d.to] = append(tr.sent[d.to], d.update)
		words := []string{tr.core.sidecars[d.to].instance, d.update.Kind}
		for _, r := range d.update.Resources {
			words = append(words, "+"+short(r.Name))
		}
		for _, name := range d.update.Removed {
			words = append(words, "-"+short(name))
		}
		tr.lines = append(tr.lines, strings.Join(words, " "))
	}
	for _, p := range out.progress {
		words := []string{string(p.State), p.Generation.String()}
		if p.Instance != "" {
			words = append([]string{p.Instance}, words...)
		}
		tr.lines = append(tr.lines, strings.Join(words, " "))
	}
}

// short cuts the domain away.
func short(name string) string { return strings.Replace(name, ".default.svc.cluster.local", "", 1) }

// expect compares what happened since the last time.
func (tr *transcript) expect(lines ...string) {
	tr.t.Helper()
	require.Equal(tr.t, lines, tr.lines)
	tr.lines = nil
}

func (tr *transcript) apply(change wire.Change) wire.Applied {
	tr.t.Helper()
	applied, out, err := tr.core.apply(tr.now, change)
	require.NoError(tr.t, err)
	tr.note(out)
	return applied
}

func (tr *transcript) set(resources ...any) wire.Applied {
	tr.t.Helper()
	return tr.apply(wire.Change{Set: snapshot(resources...)})
}

func (tr *transcript) connect(i int, held ...*resource) stream {
	tr.t.Helper()
	id, out := tr.core.connect(&pb.Hello{Instance: instance(i)})
	tr.note(out)
	sub := &pb.Subscribe{}
	for _, kind := range mesh.Kinds() {
		interest := &pb.Interest{Kind: string(kind), Add: []string{wire.Everything}}
		for _, r := range held {
			if tr.core.store.resources[key{kind, r.GetName()}] == r {
				interest.Held = append(interest.Held, &pb.Held{Name: r.GetName(), Version: r.GetVersion()})
			}
		}
		sub.Interests = append(sub.Interests, interest)
	}
	out, err := tr.core.subscribe(tr.now, id, sub)
	require.NoError(tr.t, err)
	tr.note(out)
	return id
}

// ack answers the oldest open update.
func (tr *transcript) ack(id stream, refusal string) {
	tr.t.Helper()
	require.NotEmpty(tr.t, tr.sent[id])
	u := tr.sent[id][0]
	tr.sent[id] = tr.sent[id][1:]
	out, err := tr.core.answer(tr.now, id, &pb.Ack{Kind: u.Kind, Nonce: u.Nonce, Error: refusal})
	require.NoError(tr.t, err)
	tr.note(out)
}

func (tr *transcript) settle(ids ...stream) {
	tr.t.Helper()
	for _, id := range ids {
		for len(tr.sent[id]) > 0 {
			tr.ack(id, "")
		}
	}
	tr.lines = nil
}

func TestMakeBeforeBreak(t *testing.T) {
	t.Parallel()
	tr := newTranscript(t)
	w0 := tr.connect(0)
	tr.expect("w0 connected 1.0")
	applied := tr.apply(wire.Change{Whole: true, Set: snapshot(
		service(0, "v1"), endpoints(0, "10.0.0.1"), service(1), endpoints(1, "10.0.0.2"), service(2), endpoints(2), routes(0, to(0, "v1", 1)), inbound(0, 0),
	)})
	require.Equal(t, wire.Applied{Generation: mesh.Generation{Epoch: 1, Counter: 1}, Affected: []string{"w0"}}, applied)
	tr.expect("w0 service +s0")
	tr.ack(w0, "")
	tr.expect("w0 endpoints +s0:8000")
	tr.ack(w0, "")
	tr.expect("w0 routes +s0:8000")
	tr.ack(w0, "")
	tr.expect("w0 inbound +w0")
	tr.ack(w0, "")
	tr.expect("w0 acked 1.1", "converged 1.1")

	tr.set(routes(0, to(1, "", 1))) // s1 comes into scope
	tr.expect("w0 service +s1")
	tr.ack(w0, "")
	tr.expect("w0 endpoints +s1:8001")
	tr.ack(w0, "")
	tr.expect("w0 routes +s0:8000")
	tr.ack(w0, "")
	tr.expect("w0 acked 1.2", "converged 1.2")

	tr.set(routes(0, to(0, "v1", 1))) // and leaves it, after the drain
	tr.expect("w0 routes +s0:8000")
	tr.ack(w0, "")
	tr.expect("w0 acked 1.3", "converged 1.3")
	tr.now += time.Second - 1
	tr.note(tr.core.tick(tr.now))
	tr.expect()
	tr.now++
	tr.note(tr.core.tick(tr.now))
	tr.expect("w0 endpoints -s1:8001")
	tr.ack(w0, "")
	tr.expect("w0 service -s1")
	tr.ack(w0, "")
	tr.expect()
	require.Empty(t, tr.core.sidecars[w0].pending)
}

func (tr *transcript) whole(resources ...any) {
	tr.apply(wire.Change{Whole: true, Set: snapshot(resources...)})
}

// twoSidecars is a converged mesh in which w0 reaches s0, and w1 reaches s1.
func twoSidecars(t *testing.T) (tr *transcript, w0, w1 stream) {
	tr = newTranscript(t)
	w0, w1 = tr.connect(0), tr.connect(1)
	tr.whole(service(0), endpoints(0), service(1), endpoints(1), inbound(0, 0), inbound(1, 1))
	tr.settle(w0, w1)
	return tr, w0, w1
}

func TestOnlyTheAffectedAreTold(t *testing.T) {
	t.Parallel()
	tr, _, w1 := twoSidecars(t)
	require.Equal(t, []string{"w1"}, tr.set(endpoints(1, "10.0.0.7")).Affected)
	tr.expect("w1 endpoints +s1:8001")
	tr.ack(w1, "")
	tr.expect("w1 acked 1.2", "converged 1.2")

	require.Equal(t, wire.Applied{Generation: mesh.Generation{Epoch: 1, Counter: 2}}, tr.set(endpoints(1, "10.0.0.7"), service(0)), "a change that changes nothing")
	tr.expect()

	require.Equal(t, wire.Applied{Generation: mesh.Generation{Epoch: 1, Counter: 3}}, tr.set(service(5)), "a change that nobody can see")
	tr.expect("converged 1.3")
}

func TestBackPressureMerges(t *testing.T) {
	t.Parallel()
	tr, _, w1 := twoSidecars(t)
	tr.set(endpoints(1, "10.0.0.1"))
	tr.expect("w1 endpoints +s1:8001")
	for i := range 20 {
		tr.set(endpoints(1, "10.0.1."+string(rune('a'+i))))
	}
	tr.expect()
	tr.ack(w1, "")
	tr.expect("w1 endpoints +s1:8001", "w1 acked 1.2", "converged 1.2")
	tr.ack(w1, "")
	tr.expect("w1 acked 1.22", "converged 1.22")
}

func TestAStuckSidecarDelaysNobody(t *testing.T) {
	t.Parallel()
	tr, w0, w1 := twoSidecars(t)
	tr.set(inbound(0, 1)) // both reach s1 now
	tr.settle(w0, w1)
	tr.set(endpoints(1, "10.0.0.1"))
	tr.lines = nil
	tr.ack(w1, "") // w0 never answers
	tr.expect("w1 acked 1.3")
	tr.set(routes(1, to(1, "", 1)))
	tr.expect("w1 routes +s1:8001")
	tr.ack(w1, "")
	tr.expect("w1 acked 1.4")
	tr.note(tr.core.disconnect(w0, nil))
	tr.expect("w0 disconnected 1.2", "converged 1.4")
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	tr, _, w1 := twoSidecars(t)
	tr.set(routes(1, to(1, "", 1)))
	tr.expect("w1 routes +s1:8001")
	tr.ack(w1, "I do not like it")
	tr.expect("w1 nacked 1.2")
	require.Contains(t, tr.core.state(), wire.Progress{Generation: mesh.Generation{Epoch: 1, Counter: 2}, Instance: "w1", State: wire.Nacked, Error: "routes: I do not like it"})
	tr.set(endpoints(1, "10.0.0.3"))
	tr.expect("w1 endpoints +s1:8001") // other kinds go on, what was refused is not repeated
	tr.ack(w1, "")
	tr.expect()
	require.EqualValues(t, 1, tr.core.convergence().Generation.Counter)
	tr.set(routes(1, to(1, "", 2)))
	tr.expect("w1 routes +s1:8001")
	tr.ack(w1, "")
	tr.expect("w1 acked 1.4", "converged 1.4")
	require.NotContains(t, tr.core.state(), wire.Nacked)
}

func TestServicesAreBridged(t *testing.T) {
	t.Parallel()
	tr := newTranscript(t)
	w0 := tr.connect(0)
	tr.whole(service(0, "v1", "v2"), endpoints(0), routes(0, to(0, "v1", 1)), inbound(0, 0))
	tr.settle(w0)
	tr.whole(service(0, "v2", "v3"), endpoints(0), routes(0, to(0, "v3", 1)), inbound(0, 0))
	require.Contains(t, string(tr.sent[w0][0].Resources[0].Body), `"v1"`, "while the route names it")
	tr.expect("w0 service +s0")
	tr.ack(w0, "")
	tr.expect("w0 routes +s0:8000")
	tr.ack(w0, "")
	tr.expect("w0 acked 1.2", "converged 1.2")
	tr.now += time.Second
	tr.note(tr.core.tick(tr.now))
	require.NotContains(t, string(tr.sent[w0][0].Resources[0].Body), `"v1"`)
	tr.expect("w0 service +s0")
}

func TestServicesAreBridgedAfterAReconnect(t *testing.T) {
	t.Parallel()
	tr := newTranscript(t)
	tr.whole(service(0, "v1", "v2"), endpoints(0), routes(0, to(0, "v1", 1)), inbound(0, 0))
	w0 := tr.connect(0, slices.Collect(maps.Values(tr.core.store.resources))...)
	tr.expect("converged 1.1", "w0 connected 1.0", "w0 service") // it has all of it, and is told the generation
	tr.settle(w0)
	tr.whole(service(0, "v2"), endpoints(0), routes(0, to(0, "v2", 1)), inbound(0, 0))
	require.Contains(t, string(tr.sent[w0][0].Resources[0].Body), `"v1"`)
}

// TestAnyAuthority: where every service can be named by a request, a removal is a change like any other.
func TestAnyAuthority(t *testing.T) {
	t.Parallel()
	tr := newTranscript(t)
	w0 := tr.connect(0)
	in := inbound(0)
	in.Proxy = "127.0.0.1:1"
	tr.whole(service(0), service(1), in)
	tr.settle(w0)
	require.Equal(t, []string{"w0"}, tr.apply(wire.Change{Remove: map[mesh.Kind][]string{mesh.KindService: {host(1)}}}).Affected)
	tr.expect()
	tr.now += time.Second
	tr.note(tr.core.tick(tr.now))
	tr.expect("w0 service -s1")
	tr.ack(w0, "")
	tr.expect("w0 acked 1.2", "converged 1.2")
}

func TestANewStreamTakesOver(t *testing.T) {
	t.Parallel()
	tr, w0, _ := twoSidecars(t)
	_, out := tr.core.connect(&pb.Hello{Instance: "w0"})
	require.Equal(t, []closing{{w0, errSuperseded}}, out.closed)
	out, err := tr.core.answer(tr.now, w0, &pb.Ack{Kind: "service", Nonce: 77})
	require.NoError(t, err, "what the old one still says is not heard")
	require.Empty(t, out.progress)
	require.Empty(t, tr.core.disconnect(w0, nil).progress)
	require.Equal(t, 2, tr.core.convergence().Sidecars)
}

func TestWhoIsAbsent(t *testing.T) {
	t.Parallel()
	tr, w0, _ := twoSidecars(t)
	require.Empty(t, tr.core.convergence().Absent)
	tr.note(tr.core.disconnect(w0, nil))
	require.Equal(t, []string{"w0"}, tr.core.convergence().Absent)
	require.Equal(t, 1, tr.core.convergence().Sidecars)
}

func TestProtocolErrors(t *testing.T) {
	t.Parallel()
	tr, w0, _ := twoSidecars(t)
	for _, ack := range []*pb.Ack{{Kind: "service", Nonce: 77}, {Kind: "policy", Nonce: 1}} {
		_, err := tr.core.answer(tr.now, w0, ack)
		require.ErrorContains(t, err, "not open")
	}
	_, err := tr.core.subscribe(tr.now, w0, &pb.Subscribe{Interests: []*pb.Interest{{Kind: "policy"}}})
	require.ErrorContains(t, err, `"policy"`)
	_, err = tr.core.subscribe(tr.now, w0, &pb.Subscribe{Interests: []*pb.Interest{{Kind: "service", Held: []*pb.Held{{Name: "a"}}}}})
	require.ErrorContains(t, err, "not the first")
}

func TestSubscriptionByName(t *testing.T) {
	t.Parallel()
	tr := newTranscript(t)
	tr.whole(service(0), endpoints(0), service(1), endpoints(1), inbound(0, 0, 1))
	id, _ := tr.core.connect(&pb.Hello{Instance: "w0"})
	subscribe := func(i *pb.Interest) {
		out, err := tr.core.subscribe(tr.now, id, &pb.Subscribe{Interests: []*pb.Interest{i}})
		require.NoError(t, err)
		tr.note(out)
	}
	tr.lines = nil
	subscribe(&pb.Interest{Kind: "service", Add: []string{host(0), host(5)}})
	tr.expect("w0 service +s0")
	tr.settle(id)
	subscribe(&pb.Interest{Kind: "service", Add: []string{host(1)}, Remove: []string{host(0)}})
	tr.expect("w0 service +s1")
	tr.settle(id)
	tr.now += time.Second
	tr.note(tr.core.tick(tr.now))
	tr.expect("w0 service -s0")
}

func TestApplyIsSoundOrNothing(t *testing.T) {
	t.Parallel()
	c := newCore(1, 0)
	_, _, err := c.apply(0, wire.Change{Set: snapshot(service(0))})
	require.ErrorIs(t, err, errPartial)
	_, _, err = c.apply(0, wire.Change{Whole: true, Set: snapshot(service(0), routes(0, to(4, "", 1)), routes(1, to(0, "", 1)), inbound(0, 3))})
	var refused *wire.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Len(t, refused.Mistakes, 3, "all of them: %v", refused.Mistakes)
	require.Zero(t, c.store.counter)

	misnamed := mesh.NewSnapshot()
	misnamed.Services["x"], misnamed.Inbound["y"] = service(0), nil
	_, _, err = c.apply(0, wire.Change{Whole: true, Set: misnamed})
	require.ErrorAs(t, err, &refused)
	require.Len(t, refused.Mistakes, 2)

	_, _, err = c.apply(0, wire.Change{Whole: true})
	require.NoError(t, err, "an empty configuration is one")
	require.EqualValues(t, 1, c.store.counter)
	_, _, err = c.apply(0, wire.Change{Remove: map[mesh.Kind][]string{"policy": nil}})
	require.ErrorAs(t, err, &refused)
	_, _, err = c.apply(0, wire.Change{Remove: map[mesh.Kind][]string{mesh.KindService: {"unknown"}}})
	require.NoError(t, err, "removing what is not there")
	require.EqualValues(t, 1, c.store.counter)
}

func TestWhoeverIsCapturedMayKnowEverything(t *testing.T) {
	t.Parallel()
	tr, w0, w1 := twoSidecars(t)
	captured := inbound(0)
	captured.Capture = &mesh.Capture{Inbound: ":15006"}
	tr.set(captured)
	tr.settle(w0, w1)
	require.Empty(t, tr.set(service(5)).Affected, "only what comes in is captured")
	tr.lines = nil

	outward := inbound(0)
	outward.Capture = &mesh.Capture{Inbound: ":15006", Outbound: ":15001"}
	tr.set(outward)
	tr.expect("w0 service +s1 +s5") // of s0 it has not been told yet that it is none of its business
	tr.settle(w0, w1)
	require.Equal(t, []string{"w0"}, tr.set(service(4)).Affected)
	tr.expect("w0 service +s4")
}
