package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ownerToken  = "owner"
	instanceKey = "key"
)

// plane is a control plane on a socket, and everybody who talks to it, for real.
type plane struct {
	t      *testing.T
	path   string
	config *wire.Configuration
	server *Server
	change func(*Options) // nil: nothing is out of the ordinary
	stop   func()
}

func startPlane(t *testing.T) *plane { return startPlaneWith(t, nil) }

func startPlaneWith(t *testing.T, change func(*Options)) *plane {
	dir, err := os.MkdirTemp("", "control")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	p := &plane{t: t, path: filepath.Join(dir, "s"), change: change}
	p.config, err = wire.NewConfiguration(wire.Unix(p.path), ownerToken)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.config.Close()) })
	p.start(1)
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *plane) start(epoch uint64) {
	l, err := wire.Listen(p.path)
	require.NoError(p.t, err)
	o := Options{Epoch: epoch, Drain: -1, OwnerToken: ownerToken, InstanceKey: instanceKey, Log: slog.New(slog.DiscardHandler)}
	if p.change != nil {
		p.change(&o)
	}
	s := New(o)
	p.server = s
	p.stop = background(p.t, func(ctx context.Context) error { return s.Serve(ctx, l) })
}

// background runs something until the returned function is called.
func background(t *testing.T, f func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// sidecarSink is a sidecar that keeps what it is told.
type sidecarSink struct {
	mu         sync.Mutex
	snapshot   *mesh.Snapshot
	generation mesh.Generation
	updates    int
	refuse     func(mesh.Update) error
}

func (s *sidecarSink) Apply(u mesh.Update) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updates++
	if s.refuse != nil {
		if err := s.refuse(u); err != nil {
			return err
		}
	}
	s.snapshot, s.generation = s.snapshot.Apply(u), u.Generation
	return nil
}

func (s *sidecarSink) state() (*mesh.Snapshot, mesh.Generation, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot, s.generation, s.updates
}

func (p *plane) sidecar(i int) (*sidecarSink, func()) {
	s := &sidecarSink{snapshot: mesh.NewSnapshot()}
	return s, p.discover(i, s)
}

func (p *plane) discover(i int, s wire.Sink) func() {
	hello := wire.Hello{Instance: instance(i), Token: wire.InstanceToken(instanceKey, instance(i))}
	return background(p.t, func(ctx context.Context) error {
		return wire.Discover(ctx, wire.Unix(p.path), hello, s, slog.New(slog.DiscardHandler))
	})
}

func (p *plane) apply(change wire.Change, instances ...string) wire.Applied {
	applied, err := p.config.Apply(p.t.Context(), change)
	require.NoError(p.t, err)
	_, err = p.config.Await(p.t.Context(), applied.Generation, instances...)
	require.NoError(p.t, err)
	return applied
}

func TestEndToEnd(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	s0, stop0 := p.sidecar(0)
	defer stop0()
	s1, stop1 := p.sidecar(1)
	defer stop1()
	first := snapshot(service(0, "v1"), endpoints(0, "10.0.0.1"), service(1), endpoints(1), routes(0, to(0, "v1", 1)), inbound(0, 0), inbound(1, 1))
	applied := p.apply(wire.Change{Whole: true, Set: first}, "w0", "w1")
	require.Equal(t, mesh.Generation{Epoch: 1, Counter: 1}, applied.Generation)
	got, generation, _ := s0.state()
	require.Equal(t, snapshot(service(0, "v1"), endpoints(0, "10.0.0.1"), routes(0, to(0, "v1", 1)), inbound(0, 0)), got)
	require.Equal(t, applied.Generation, generation)
	got, _, before := s1.state()
	require.Equal(t, snapshot(service(1), endpoints(1), inbound(1, 1)), got)

	applied = p.apply(wire.Change{Set: snapshot(routes(0, to(0, "v1", 7)))})
	require.Equal(t, []string{"w0"}, applied.Affected)
	got, generation, _ = s0.state()
	require.EqualValues(t, 7, got.Routes[mesh.HostPort(host(0), port(0))].Routes[0].Split[0].Weight)
	require.Equal(t, applied.Generation, generation)
	_, _, after := s1.state()
	require.Equal(t, before, after, "it is none of its business")

	p.apply(wire.Change{Remove: map[mesh.Kind][]string{mesh.KindRouteTable: {mesh.HostPort(host(0), port(0))}}})
	got, _, _ = s0.state()
	require.Empty(t, got.Routes)
}

// TestAControlPlaneThatBeginsAnew: sidecars keep what they have, and only what differs is sent.
func TestAControlPlaneThatBeginsAnew(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	s0, stop0 := p.sidecar(0)
	defer stop0()
	config := snapshot(service(0), endpoints(0, "10.0.0.1"), inbound(0, 0))
	old := p.apply(wire.Change{Whole: true, Set: config}, "w0").Generation
	before, _, updates := s0.state()
	p.stop()
	p.start(2)

	_, err := p.config.Apply(t.Context(), wire.Change{Set: snapshot(service(1))})
	require.ErrorContains(t, err, "has to be whole")
	var unknown *wire.EpochError
	_, err = p.config.Await(t.Context(), old)
	require.ErrorAs(t, err, &unknown)

	// watching until the sidecar is back, before there is a configuration: nothing is taken away from it
	p.awaitProgress(func(progress wire.Progress) bool {
		return progress.State == wire.Connected && progress.Instance == "w0"
	})
	kept, generation, now := s0.state()
	require.Equal(t, before, kept)
	require.Equal(t, updates, now)
	require.Equal(t, old, generation)

	applied := p.apply(wire.Change{Whole: true, Set: config}, "w0")
	kept, generation, now = s0.state()
	require.Equal(t, before, kept)
	require.Equal(t, applied.Generation, generation)
	require.Equal(t, updates+1, now, "only the generation is told")
}

// awaitProgress watches until something is told.
func (p *plane) awaitProgress(wanted func(wire.Progress) bool) {
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	seen := false
	require.NoError(p.t, p.config.Watch(ctx, func(progress wire.Progress) {
		if wanted(progress) {
			seen = true
			cancel()
		}
	}))
	require.True(p.t, seen)
}

func TestRefusalsAndMistakes(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	fussy := &sidecarSink{snapshot: mesh.NewSnapshot(), refuse: func(u mesh.Update) error {
		if len(u.Set.Routes) > 0 {
			return errors.New("no regular expression of mine")
		}
		return nil
	}}
	defer p.discover(0, fussy)()
	p.apply(wire.Change{Whole: true, Set: snapshot(service(0), endpoints(0), inbound(0, 0))}, "w0")

	_, err := p.config.Apply(t.Context(), wire.Change{Set: snapshot(routes(0, to(5, "", 1)), routes(1, to(0, "", 0)))})
	var refused *wire.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Len(t, refused.Mistakes, 2)

	applied, err := p.config.Apply(t.Context(), wire.Change{Set: snapshot(routes(0, to(0, "", 1)))})
	require.NoError(t, err)
	p.awaitProgress(func(progress wire.Progress) bool {
		return progress.State == wire.Nacked && progress.Instance == "w0" && progress.Generation == applied.Generation &&
			progress.Error == "routes: no regular expression of mine"
	})
}

// blockingSink never answers.
type blockingSink struct{ release chan struct{} }

func (b blockingSink) Apply(mesh.Update) error {
	<-b.release
	return nil
}

func TestAStuckSidecarOnTheWire(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	stuck := blockingSink{make(chan struct{})}
	stop := p.discover(0, stuck)
	defer stop()
	defer close(stuck.release)
	p.awaitProgress(func(progress wire.Progress) bool {
		return progress.Instance == "w0" && progress.State == wire.Connected
	})
	s1, stop1 := p.sidecar(1)
	defer stop1()
	config := snapshot(service(0), endpoints(0), inbound(0, 0), inbound(1, 0))
	applied, err := p.config.Apply(t.Context(), wire.Change{Whole: true, Set: config})
	require.NoError(t, err)
	for i := range 50 {
		applied, err = p.config.Apply(t.Context(), wire.Change{Set: snapshot(endpoints(0, fmt.Sprint("10.0.0.", i)))})
		require.NoError(t, err)
	}
	p.awaitProgress(func(progress wire.Progress) bool {
		return progress.Instance == "w1" && progress.State == wire.Acked && progress.Generation == applied.Generation
	})
	_, generation, _ := s1.state()
	require.Equal(t, applied.Generation, generation)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.config.Await(ctx, applied.Generation)
	require.ErrorIs(t, err, context.Canceled)
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	silent := slog.New(slog.DiscardHandler)
	err := wire.Discover(t.Context(), wire.Unix(p.path), wire.Hello{Instance: "w0", Token: wire.InstanceToken(instanceKey, "w1")}, &sidecarSink{}, silent)
	require.ErrorContains(t, err, "the token is not that of w0")
	err = wire.Discover(t.Context(), wire.Unix(p.path), wire.Hello{Token: wire.InstanceToken(instanceKey, "")}, &sidecarSink{}, silent)
	require.ErrorContains(t, err, "names the instance")
	stranger, err := wire.NewConfiguration(wire.Unix(p.path), "guess")
	require.NoError(t, err)
	defer stranger.Close()
	_, err = stranger.Apply(t.Context(), wire.Change{Whole: true})
	require.ErrorContains(t, err, "the token is not the owner's")
	require.ErrorContains(t, stranger.Watch(t.Context(), nil), "the token is not the owner's")
}

// TestManySidecars: what everybody can reach reaches everybody, at once.
func TestManySidecars(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	const n = 60
	config := snapshot(service(0), endpoints(0))
	var names []string
	for i := range n {
		put(config, inbound(i, 0))
		names = append(names, instance(i))
		s, stop := p.sidecar(i)
		defer stop()
		defer func() {
			_, generation, _ := s.state()
			require.EqualValues(t, 21, generation.Counter)
		}()
	}
	p.apply(wire.Change{Whole: true, Set: config}, names...)
	for i := range 20 {
		applied := p.apply(wire.Change{Set: snapshot(routes(0, to(0, "", uint32(i+1))))})
		require.Len(t, applied.Affected, n)
	}
}

// TestSomebodyElseKnowsInstancesAndComposes: as in a cluster, where others vouch for instances, and the owner's configuration is only a part of the whole.
func TestSomebodyElseKnowsInstancesAndComposes(t *testing.T) {
	t.Parallel()
	var p *plane
	replaced := errors.New("nothing")
	discovered := snapshot(service(1), endpoints(1, "10.0.0.2"), inbound(0, 1))
	p = startPlaneWith(t, func(o *Options) {
		o.Authenticate = func(_ context.Context, instance, token string) error {
			if token != "projected" {
				return fmt.Errorf("nobody vouches for %s", instance)
			}
			return nil
		}
		o.Apply = func(_ context.Context, change wire.Change) (wire.Applied, error) {
			if change.Set.Services[host(9)] != nil {
				return wire.Applied{}, fmt.Errorf("changing the rules: %w", replaced)
			}
			return p.server.Change(wire.Change{Whole: true, Set: discovered.Apply(mesh.Update{Set: change.Set})})
		}
	})
	sink := &sidecarSink{snapshot: mesh.NewSnapshot()}
	tokens := make(chan string, 2)
	tokens <- "stale"
	tokens <- "projected"
	hello := wire.Hello{Instance: instance(0), TokenSource: func() (string, error) { return <-tokens, nil }}
	defer background(t, func(ctx context.Context) error {
		return wire.Discover(ctx, wire.Unix(p.path), hello, sink, slog.New(slog.DiscardHandler))
	})()
	applied := p.apply(wire.Change{Set: snapshot(service(1, "v1"), routes(1, to(1, "v1", 1)))}, "w0")
	got, generation, _ := sink.state()
	require.Equal(t, snapshot(service(1, "v1"), endpoints(1, "10.0.0.2"), routes(1, to(1, "v1", 1)), inbound(0, 1)), got)
	require.Equal(t, applied.Generation, generation)
	require.Equal(t, Stats{Generation: generation, Converged: generation, Sidecars: 1, Pushes: 4}, p.server.Stats())

	_, err := p.config.Apply(t.Context(), wire.Change{Set: snapshot(routes(1, to(7, "", 1)))})
	var refused *wire.RefusedError
	require.ErrorAs(t, err, &refused)
	_, err = p.config.Apply(t.Context(), wire.Change{Set: snapshot(service(9))})
	require.EqualError(t, err, "applying a configuration: changing the rules: nothing")
}

// TestTheOwnerAsksAgainWhoeverHasTakenOver: Apply repeats itself until there is one that leads.
func TestTheOwnerAsksAgainWhoeverHasTakenOver(t *testing.T) {
	t.Parallel()
	var p *plane
	asked := 0
	p = startPlaneWith(t, func(o *Options) {
		o.Apply = func(_ context.Context, change wire.Change) (wire.Applied, error) {
			if asked++; asked < 3 {
				return wire.Applied{}, fmt.Errorf("changing the rules: %w", ErrReplaced)
			}
			return p.server.Change(change)
		}
	})
	p.apply(wire.Change{Whole: true})
	require.Equal(t, 3, asked)
}
