package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// DefaultDrain is how long a sidecar keeps services and endpoints after nothing names them any more. Requests finish on the configuration they began with anyway; the drain spares
// their pooled connections while they do.
const DefaultDrain = time.Second

// Options are what a control plane needs to know.
type Options struct {
	Epoch       uint64        // must be larger than that of any earlier control plane of the same sidecars
	Drain       time.Duration // 0: DefaultDrain; negative: none
	OwnerToken  string        // who shows it may change the configuration
	InstanceKey string        // sidecars show wire.InstanceToken of it
	Log         *slog.Logger

	// Authenticate returns nil when the token proves that whoever shows it is the instance. The error is told to the sidecar. Nil: it has to be what InstanceKey says.
	Authenticate func(ctx context.Context, instance, token string) error
	// Apply carries out what the owner asks for, with the errors of Server.Change and ErrReplaced. Nil: Server.Change does. Whoever has more to say about the configuration than the owner puts both together here, and
	// gives the server the whole.
	Apply func(context.Context, wire.Change) (wire.Applied, error)
}

// ErrReplaced says that another control plane has taken over. The owner is told to ask that one.
var ErrReplaced = errors.New("another control plane has taken over")

// Stats are the state of a control plane, and what it has done since it was made.
type Stats struct {
	Generation mesh.Generation // the newest
	Converged  mesh.Generation // up to which every connected sidecar has everything
	Sidecars   int             // connected
	Pushes     uint64          // updates sent
	Refusals   uint64          // updates that sidecars did not accept
}

// Server is the control plane.
type Server struct {
	options Options
	start   time.Time
	signal  chan struct{}  // the time of the next tick has changed
	readers sync.WaitGroup // of streams

	mu       sync.Mutex
	core     *core
	due      time.Duration // of the next tick
	outboxes map[stream]*mailbox[*pb.Update]
	watchers map[*mailbox[wire.Progress]]bool
	pushes   uint64
	refusals uint64
}

// New returns a control plane without configuration; Serve lets it act.
func New(o Options) *Server {
	drain := o.Drain
	switch {
	case drain == 0:
		drain = DefaultDrain
	case drain < 0:
		drain = 0
	}
	if o.Authenticate == nil {
		o.Authenticate = byKey(o.InstanceKey)
	}
	s := &Server{
		options: o, start: time.Now(), signal: make(chan struct{}, 1), core: newCore(o.Epoch, drain), due: never,
		outboxes: map[stream]*mailbox[*pb.Update]{}, watchers: map[*mailbox[wire.Progress]]bool{},
	}
	if s.options.Apply == nil {
		s.options.Apply = func(_ context.Context, change wire.Change) (wire.Applied, error) { return s.Change(change) }
	}
	return s
}

// byKey authenticates instances by tokens that are derived from a key.
func byKey(key string) func(context.Context, string, string) error {
	return func(_ context.Context, instance, token string) error {
		if !wire.SameToken(token, wire.InstanceToken(key, instance)) {
			return fmt.Errorf("the token is not that of %s", instance)
		}
		return nil
	}
}

// Stats returns the state as it is now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	whole := s.core.wholeMesh()
	return Stats{
		Generation: s.core.store.generation(s.core.store.counter), Converged: s.core.store.generation(whole.counter), Sidecars: whole.sidecars,
		Pushes: s.pushes, Refusals: s.refusals,
	}
}

// Serve serves sidecars and the owner on the listener until ctx ends, and returns when all it started is gone. Sidecars keep what they have.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := wire.NewServer(s.allow)
	pb.RegisterDiscoveryServer(server, discovery{Server: s})
	pb.RegisterConfigurationServer(server, configuration{Server: s})
	ctx, cancel := context.WithCancel(ctx)
	var ticking sync.WaitGroup
	ticking.Go(func() { s.tick(ctx) })
	err := wire.Serve(ctx, server, listener)
	cancel()
	ticking.Wait()
	s.readers.Wait()
	if err != nil {
		return fmt.Errorf("serving sidecars: %w", err)
	}
	return nil
}

// allow lets the owner configure. Sidecars say who they are in their Hello, and are asked for their token there.
func (s *Server) allow(ctx context.Context, method string) error {
	if strings.HasPrefix(method, "/"+pb.Discovery_ServiceDesc.ServiceName+"/") || wire.SameToken(wire.Token(ctx), s.options.OwnerToken) {
		return nil
	}
	return errors.New("the token is not the owner's")
}

// Change changes the configuration, all or nothing. Mistakes are a [wire.RefusedError].
func (s *Server) Change(change wire.Change) (applied wire.Applied, err error) {
	err = s.decide(func(now time.Duration) (out output, err error) {
		applied, out, err = s.core.apply(now, change)
		return out, err
	})
	return applied, err
}

// decide lets the core act and carries out what follows, in order.
func (s *Server) decide(act func(now time.Duration) (output, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := act(time.Since(s.start))
	for _, c := range out.closed {
		s.outboxes[c.whom].close(c.why)
	}
	for _, d := range out.updates {
		s.outboxes[d.to].put(d.update)
	}
	s.pushes += uint64(len(out.updates))
	for _, p := range out.progress {
		if p.State == wire.Nacked {
			s.refusals++
		}
		s.log(p)
		for w := range s.watchers {
			if !w.put(p) {
				w.close(errors.New("the watcher does not keep up"))
			}
		}
	}
	if out.due < s.due {
		s.due = out.due
		select {
		case s.signal <- struct{}{}:
		default:
		}
	}
	return err
}

func (s *Server) log(p wire.Progress) {
	if p.State == wire.Nacked {
		s.options.Log.Warn("a sidecar refused an update", "instance", p.Instance, "generation", p.Generation.String(), "error", p.Error)
		return
	}
	s.options.Log.Debug("progress", "state", string(p.State), "instance", p.Instance, "generation", p.Generation.String(), "error", p.Error)
}

// tick calls the core when it asked to be called.
func (s *Server) tick(ctx context.Context) {
	for {
		timer := time.NewTimer(s.wait())
		select {
		case <-ctx.Done():
		case <-s.signal:
		case <-timer.C:
			_ = s.decide(func(now time.Duration) (output, error) {
				s.due = never
				return s.core.tick(now), nil
			})
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *Server) wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due - time.Since(s.start)
}
