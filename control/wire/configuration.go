package wire

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// Configuration is the client of whoever owns the configuration. It is safe for concurrent use.
type Configuration struct {
	dial  Dial
	token string
	conn  *grpc.ClientConn
}

// NewConfiguration prepares a client; the first call connects.
func NewConfiguration(dial Dial, ownerToken string) (*Configuration, error) {
	conn, err := connect(dial, ownerToken)
	if err != nil {
		return nil, fmt.Errorf("preparing a connection to the control plane: %w", err)
	}
	return &Configuration{dial: dial, token: ownerToken, conn: conn}, nil
}

// Close ends every call in progress.
func (c *Configuration) Close() error { return c.conn.Close() }

// Apply changes the configuration, all or nothing, and returns its generation. It waits for the control plane as long as ctx lives, and repeats itself when the connection breaks:
// applying twice is applying once. An unsound change is a [RefusedError] with
// all mistakes. A control plane that has begun anew refuses a change that is not whole.
func (c *Configuration) Apply(ctx context.Context, change Change) (Applied, error) {
	request := &pb.ApplyRequest{Whole: change.Whole}
	if change.Set != nil {
		set, err := Encode(change.Set)
		if err != nil {
			return Applied{}, err
		}
		request.Set = set
	}
	for _, kind := range mesh.Kinds() {
		if names := change.Remove[kind]; len(names) > 0 {
			request.Remove = append(request.Remove, &pb.Names{Kind: string(kind), Names: names})
		}
	}
	var reply *pb.ApplyReply
	err := persist(ctx, func() (err error) {
		reply, err = pb.NewConfigurationClient(c.conn).Apply(ctx, request, grpc.WaitForReady(true))
		return err
	})
	switch {
	case err != nil:
		return Applied{}, fmt.Errorf("applying a configuration: %w", plain(err))
	case len(reply.GetMistakes()) > 0:
		return Applied{}, &RefusedError{Mistakes: reply.GetMistakes()}
	default:
		return Applied{Generation: fromGeneration(reply.GetGeneration()), Affected: reply.GetAffected()}, nil
	}
}

// Watch tells each what sidecars acknowledge until ctx ends, and returns nil then; calls do not overlap. It begins with the state of every connected sidecar and the newest
// generation on which all have converged, and does so again whenever it had to reconnect.
func (c *Configuration) Watch(ctx context.Context, each func(Progress)) error {
	dialogue := func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
		return watch(ctx, conn, func(p Progress) bool { each(p); return true })
	}
	if err := converse(ctx, c.dial, fixed(c.token), func(error) {}, dialogue); err != nil {
		return fmt.Errorf("watching the control plane: %w", plain(err))
	}
	return nil
}

// Await returns when every connected sidecar has everything up to the generation, and each of the given instances is connected. A control plane that has begun anew since does not know
// the generation: that is an [EpochError].
func (c *Configuration) Await(ctx context.Context, g mesh.Generation, instances ...string) (Progress, error) {
	var last Progress
	var unknown error
	more := func(p Progress) bool {
		if p.State != Converged {
			return true
		}
		last = p
		if p.Generation.Epoch != g.Epoch {
			unknown = &EpochError{Asked: g, Current: p.Generation}
			return false
		}
		missing := slices.ContainsFunc(instances, func(i string) bool { return slices.Contains(p.Absent, i) })
		return p.Generation.Counter < g.Counter || missing
	}
	err := persist(ctx, func() error {
		_, err := watch(ctx, c.conn, more)
		return err
	})
	switch {
	case unknown != nil:
		return Progress{}, unknown
	case ctx.Err() != nil:
		return Progress{}, fmt.Errorf("waiting until generation %s is acknowledged (by now: %s, %d sidecars connected, %v absent): %w", g, last.Generation, last.Sidecars, last.Absent, ctx.Err())
	case err != nil:
		return Progress{}, fmt.Errorf("waiting until generation %s is acknowledged: %w", g, plain(err))
	default:
		return last, nil
	}
}

// persist repeats a call while it finds the control plane gone. Each call waits for a connection.
func persist(ctx context.Context, call func() error) error {
	for {
		err := call()
		if ctx.Err() != nil || status.Code(err) != codes.Unavailable {
			return err
		}
	}
}

// watch tells what happens until more returns false.
func watch(ctx context.Context, conn *grpc.ClientConn, more func(Progress) bool) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewConfigurationClient(conn).Watch(ctx, &pb.WatchRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	worked := greeted(stream)
	for {
		p, err := stream.Recv()
		if err != nil {
			return worked, err
		}
		if !more(fromProgress(p)) {
			return true, nil
		}
	}
}

// EncodeProgress puts progress into its envelope.
func EncodeProgress(p Progress) *pb.Progress {
	return &pb.Progress{
		Generation: Generation(p.Generation), Instance: p.Instance, State: string(p.State), Error: p.Error, Sidecars: uint32(p.Sidecars), Absent: p.Absent,
	}
}

func fromProgress(p *pb.Progress) Progress {
	return Progress{
		Generation: fromGeneration(p.GetGeneration()), Instance: p.GetInstance(), State: State(p.GetState()), Error: p.GetError(),
		Sidecars: int(p.GetSidecars()), Absent: p.GetAbsent(),
	}
}

// DecodeChange reads a change strictly.
func DecodeChange(r *pb.ApplyRequest) (Change, error) {
	change := Change{Whole: r.GetWhole(), Set: mesh.NewSnapshot(), Remove: map[mesh.Kind][]string{}}
	if len(r.GetSet()) > 0 {
		if err := Decode(r.GetSet(), change.Set); err != nil {
			return Change{}, err
		}
	}
	for _, names := range r.GetRemove() {
		kind := mesh.Kind(names.GetKind())
		if err := knownKind(kind); err != nil {
			return Change{}, err
		}
		change.Remove[kind] = append(change.Remove[kind], names.GetNames()...)
	}
	return change, nil
}
