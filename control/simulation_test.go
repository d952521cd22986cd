package control

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// simulation is a control plane, its sidecars and the network between them, in one goroutine.
type simulation struct {
	t        *testing.T
	core     *core
	now      time.Duration
	snapshot *mesh.Snapshot
	sidecars []*simulated
	history  []map[string]map[key]*resource // by counter, then instance: what it should have
	updates  int
	leaving  map[*pb.Update][]string // route tables that an update takes out of a sidecar's scope, although they exist
}

// everybody stands for no instance: all that there is.
const everybody = ""

// simulated is one sidecar as it really is.
type simulated struct {
	instance   string
	fussy      bool // refuses what is bad
	generation *pb.Generation
	held       map[key]*pb.Resource
	names      map[key]bool // the services and endpoints that its routes and listeners name, and all routes and listeners
	everLost   bool

	connected bool
	stream    stream
	inbox     []*pb.Update // on their way, in order
	acks      []*pb.Ack
}

func newSimulation(t *testing.T, seed uint64) (*simulation, *rand.Rand) {
	r := rand.New(rand.NewPCG(seed, 1))
	s := &simulation{t: t, core: newCore(1, 50*time.Millisecond), snapshot: mesh.NewSnapshot(), history: make([]map[string]map[key]*resource, 1), leaving: map[*pb.Update][]string{}}
	for i := range instances {
		s.sidecars = append(s.sidecars, &simulated{instance: instance(i), fussy: r.IntN(3) == 0, held: map[key]*pb.Resource{}})
	}
	for i := range hosts {
		put(s.snapshot, service(i, "v1", "v2"))
		put(s.snapshot, endpoints(i, "10.0.0.1"))
	}
	return s, r
}

// carryOut does what the core says.
func (s *simulation) carryOut(out output) {
	for _, c := range out.closed {
		for _, sc := range s.sidecars {
			if sc.connected && sc.stream == c.whom {
				s.lose(sc)
			}
		}
	}
	for _, d := range out.updates {
		s.updates++
		for _, name := range d.update.Removed {
			k := key{mesh.Kind(d.update.Kind), name}
			at := s.core.sidecars[d.to].entries[k].at
			gone := slices.ContainsFunc(s.history[at:], func(h map[string]map[key]*resource) bool { return h[everybody][k] == nil })
			if k.kind == mesh.KindRouteTable && at > 1 && !gone { // 1 is also what a reconnect says
				s.leaving[d.update] = append(s.leaving[d.update], name)
			}
		}
		for _, sc := range s.sidecars {
			if sc.connected && sc.stream == d.to {
				open := append(slices.Clone(sc.inbox), d.update)
				for _, u := range sc.inbox {
					require.NotEqual(s.t, u.Kind, d.update.Kind, "two unanswered updates of one kind")
				}
				sc.inbox = open
			}
		}
	}
	for _, p := range out.progress {
		if p.State == wire.Converged && p.Generation.Counter == s.core.store.counter && p.Generation.Counter > 0 {
			s.checkConverged(p)
		}
	}
}

func (s *simulation) apply(change wire.Change, next *mesh.Snapshot) {
	before := s.core.store.counter
	applied, out, err := s.core.apply(s.now, change)
	require.NoError(s.t, err)
	s.snapshot = next
	require.Equal(s.t, s.core.store.counter, applied.Generation.Counter)
	if s.core.store.counter != before {
		s.history = append(s.history, s.expected())
	}
	s.carryOut(out)
}

// expected is what every sidecar should have, by a definition of scope that shares nothing with the code under test.
func (s *simulation) expected() map[string]map[key]*resource {
	expected := map[string]map[key]*resource{everybody: s.core.store.resources}
	for _, sc := range s.sidecars {
		want := map[key]*resource{}
		have := func(kind mesh.Kind, name string) {
			if r := s.core.store.resources[key{kind, name}]; r != nil {
				want[key{kind, name}] = r
			}
		}
		reach := func(host string, port int) {
			have(mesh.KindService, host)
			have(mesh.KindEndpoints, mesh.HostPort(host, port))
		}
		if in := s.snapshot.Inbound[sc.instance]; in != nil {
			have(mesh.KindInbound, sc.instance)
			for _, o := range in.Outbound {
				reach(o.Host, o.Port)
				have(mesh.KindRouteTable, mesh.HostPort(o.Host, o.Port))
				if t := s.snapshot.Routes[mesh.HostPort(o.Host, o.Port)]; t != nil {
					for _, d := range t.Routes[0].Split {
						reach(d.Host, d.Port)
					}
				}
			}
			for k := range all(s.snapshot) {
				if (in.Proxy != "" || in.Capture != nil && in.Capture.Outbound != "") && k.kind != mesh.KindInbound {
					have(k.kind, k.name)
				}
			}
		}
		expected[sc.instance] = want
	}
	return expected
}

func (s *simulation) checkConverged(p wire.Progress) {
	expected := s.history[s.core.store.counter]
	for _, sc := range s.sidecars {
		if !sc.connected {
			continue
		}
		for k, r := range expected[sc.instance] {
			require.True(s.t, sc.hasAll(k, r), "%s has not %v, and yet all have converged", sc.instance, k)
		}
		for k := range sc.held {
			if k.kind == mesh.KindRouteTable || k.kind == mesh.KindInbound {
				require.Contains(s.t, expected[sc.instance], k, "%s has %v still, and yet all have converged", sc.instance, k)
			}
		}
	}
	require.Equal(s.t, len(s.core.streams), p.Sidecars)
}

func (s *simulation) connect(sc *simulated) {
	id, out := s.core.connect(&pb.Hello{Instance: sc.instance, Generation: sc.generation})
	s.carryOut(out)
	sc.stream, sc.connected = id, true
	s.lossless(sc)
	sub := &pb.Subscribe{}
	for _, kind := range mesh.Kinds() {
		interest := &pb.Interest{Kind: string(kind), Add: []string{wire.Everything}}
		for k, r := range sc.held {
			if k.kind == kind {
				interest.Held = append(interest.Held, &pb.Held{Name: k.name, Version: r.Version})
			}
		}
		sub.Interests = append(sub.Interests, interest)
	}
	out, err := s.core.subscribe(s.now, id, sub)
	require.NoError(s.t, err)
	s.carryOut(out)
}

// lossless notes whether the sidecar comes with something other than what the control plane would give it.
func (s *simulation) lossless(sc *simulated) {
	for k, r := range sc.held {
		if have := s.core.store.resources[k]; have == nil || have.GetVersion() != r.Version {
			sc.everLost = true
		}
	}
}

// lose breaks the connection: whatever is on its way, in either direction, is lost.
func (s *simulation) lose(sc *simulated) {
	sc.connected, sc.inbox, sc.acks = false, nil, nil
}

// receive lets a sidecar carry out the next update.
func (s *simulation) receive(sc *simulated) {
	u := sc.inbox[0]
	sc.inbox = sc.inbox[1:]
	decoded, err := wire.DecodeUpdate(u)
	require.NoError(s.t, err)
	ack := &pb.Ack{Kind: u.Kind, Nonce: u.Nonce}
	for name, table := range decoded.Set.Routes {
		if sc.fussy && table.Routes[0].Origin == bad {
			ack.Error = "I do not like " + name
		}
	}
	sc.acks = append(sc.acks, ack)
	if ack.Error != "" {
		return
	}
	kind := mesh.Kind(u.Kind)
	for _, r := range u.Resources {
		sc.held[key{kind, r.Name}] = r
	}
	for _, name := range u.Removed {
		require.Contains(s.t, sc.held, key{kind, name}, "a removal of what is not there")
		delete(sc.held, key{kind, name})
	}
	sc.generation = u.Generation
	s.checkSound(sc, u)
}

// checkSound checks that nothing names what is not there, and that the sidecar has what the update's generation promises.
func (s *simulation) checkSound(sc *simulated, u *pb.Update) {
	have := sc.snapshot(s.t)
	sc.names = map[key]bool{}
	for k, r := range all(have) {
		switch k.kind {
		case mesh.KindRouteTable, mesh.KindInbound:
			sc.names[k] = true
			for _, name := range references(r) {
				sc.names[name] = true
			}
		}
	}
	for _, in := range have.Inbound {
		for _, o := range in.Outbound {
			require.NotContains(s.t, s.leaving[u], mesh.HostPort(o.Host, o.Port), "a listener of %s lost its routes", sc.instance)
		}
	}
	if sc.everLost { // what its old routes name is not known, only that they are not let down
		for _, t := range have.Routes {
			for _, d := range t.Routes[0].Split {
				require.Contains(s.t, have.Services, d.Host)
				require.Contains(s.t, have.Endpoints, mesh.HostPort(d.Host, d.Port))
			}
		}
	} else {
		require.Empty(s.t, have.Validate(), "after update %v of %s", u, sc.instance)
	}
	for k := range s.history[u.Generation.Counter][sc.instance] {
		require.True(s.t, slices.ContainsFunc(s.history[u.Generation.Counter:], func(later map[string]map[key]*resource) bool {
			return sc.hasAll(k, later[sc.instance][k])
		}), "%s was promised generation %v, and has another %v", sc.instance, u.Generation, k)
	}
}

// hasAll reports whether the sidecar holds exactly the resource or, of a service, at least all of it. Services and endpoints that it should no longer have may
// be there still, waiting to be forgotten, when nothing names them.
func (sc *simulated) hasAll(k key, want *resource) bool {
	have := sc.held[k]
	switch {
	case want == nil:
		return have == nil || !sc.names[k]
	case have == nil:
		return false
	case k.kind != mesh.KindService:
		return have.Version == want.GetVersion()
	}
	var service mesh.Service
	if wire.Decode(have.Body, &service) != nil {
		return false
	}
	service.Subsets = slices.DeleteFunc(service.Subsets, func(s mesh.Subset) bool {
		return !slices.ContainsFunc(want.service.Subsets, func(w mesh.Subset) bool { return w.Name == s.Name })
	})
	service.Ports = want.service.Ports // every service of this world has one, which never changes
	trimmed, err := wire.NewResource(k.name, &service)
	return err == nil && trimmed.Version == want.GetVersion()
}

func (sc *simulated) snapshot(t *testing.T) *mesh.Snapshot {
	have := mesh.NewSnapshot()
	for k, r := range sc.held {
		u, err := wire.DecodeUpdate(&pb.Update{Kind: string(k.kind), Resources: []*pb.Resource{r}})
		require.NoError(t, err)
		have = have.Apply(u)
	}
	return have
}

func (s *simulation) acknowledge(sc *simulated) {
	ack := sc.acks[0]
	sc.acks = sc.acks[1:]
	out, err := s.core.answer(s.now, sc.stream, ack)
	require.NoError(s.t, err)
	s.carryOut(out)
}

// step lets one random thing happen.
func (s *simulation) step(r *rand.Rand) {
	sc := s.sidecars[r.IntN(len(s.sidecars))]
	switch n := r.IntN(20); {
	case n == 0:
		next := mutate(r, s.snapshot, true)
		if s.core.store.counter == 0 || r.IntN(3) == 0 {
			s.apply(wire.Change{Whole: true, Set: next}, next)
		} else {
			s.apply(partial(r, s.snapshot, next), next)
		}
	case n == 1 && sc.connected && r.IntN(3) == 0:
		stream := sc.stream
		s.lose(sc)
		if r.IntN(2) == 0 { // else the control plane notices only when the sidecar is back
			s.carryOut(s.core.disconnect(stream, nil))
		}
	case n == 2 && !sc.connected:
		s.connect(sc)
	case n == 3:
		s.now += time.Duration(r.IntN(40)) * time.Millisecond
		s.carryOut(s.core.tick(s.now))
	case n == 4 && r.IntN(20) == 0: // the control plane begins anew, knowing nothing
		for _, sc := range s.sidecars {
			s.lose(sc)
		}
		s.core = newCore(s.core.store.epoch+1, s.core.drain)
		s.history = s.history[:1]
	case n%2 == 0 && len(sc.inbox) > 0:
		s.receive(sc)
	case len(sc.acks) > 0:
		s.acknowledge(sc)
	}
}

// settle lets everything that is on its way arrive.
func (s *simulation) settle() {
	for quiet := 0; quiet < 3; {
		quiet++
		for _, sc := range s.sidecars {
			for len(sc.inbox)+len(sc.acks) > 0 {
				quiet = 0
				if len(sc.inbox) > 0 {
					s.receive(sc)
				}
				s.acknowledge(sc)
			}
		}
		s.now += s.core.drain
		before := s.updates
		s.carryOut(s.core.tick(s.now))
		if s.updates != before {
			quiet = 0
		}
	}
}

// TestIncrementalIsFromScratch is the test that matters most: whatever happened on the way, in whichever order, every sidecar ends with exactly what it would be given had it
// just begun.
func TestIncrementalIsFromScratch(t *testing.T) {
	t.Parallel()
	seeds := 1000
	if testing.Short() {
		seeds = 100
	}
	for seed := range uint64(seeds) {
		s, r := newSimulation(t, seed)
		for range 300 {
			s.step(r)
		}
		final := cure(mutate(r, s.snapshot, false))
		s.apply(wire.Change{Whole: true, Set: final}, final)
		for _, sc := range s.sidecars {
			if !sc.connected {
				s.connect(sc)
			}
		}
		s.settle()
		require.Equal(t, s.core.store.counter, s.core.convergence().Generation.Counter, "seed %d", seed)
		for i, sc := range s.sidecars {
			require.Equal(t, fromScratch(t, final, i), versions(sc.held), "seed %d, %s", seed, sc.instance)
			require.Equal(t, s.core.store.epoch, sc.generation.GetEpoch(), "seed %d, %s", seed, sc.instance)
			require.Empty(t, s.core.sidecars[sc.stream].pending)
		}
		if t.Failed() {
			return
		}
	}
}

func fromScratch(t *testing.T, final *mesh.Snapshot, i int) map[key]string {
	s := &simulation{t: t, core: newCore(1, time.Millisecond), history: make([]map[string]map[key]*resource, 1), leaving: map[*pb.Update][]string{}}
	sc := &simulated{instance: instance(i), held: map[key]*pb.Resource{}}
	s.sidecars = []*simulated{sc}
	s.apply(wire.Change{Whole: true, Set: final}, final)
	s.connect(sc)
	s.settle()
	expected := s.expected()[sc.instance]
	require.Len(t, sc.held, len(expected))
	for k, r := range expected {
		require.Equal(t, r.GetVersion(), sc.held[k].GetVersion())
	}
	return versions(sc.held)
}

func versions(held map[key]*pb.Resource) map[key]string {
	versions := map[key]string{}
	for k, r := range held {
		versions[k] = r.GetVersion()
	}
	return versions
}
